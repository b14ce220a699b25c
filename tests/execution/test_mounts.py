"""What Pydra is told of network mounts."""

import subprocess

from pydra.utils.mount_identifier import MountIndentifier

from deepprep.execution.mounts import below_cifs, tell_pydra_the_mounts


def test_only_what_lies_on_a_share_is_listed_longest_first():
    mounts = [("/", "ext4"), ("/data", "cifs"), ("/data/scratch", "tmpfs"), ("/home", "nfs4")]
    assert below_cifs(mounts) == [("/data/scratch", "tmpfs"), ("/data", "cifs")]
    assert below_cifs([("/", "overlay")]) == []


def test_pydra_starts_no_shell(monkeypatch, tmp_path):
    monkeypatch.setattr(MountIndentifier, "_mount_table", None)
    monkeypatch.setattr(subprocess, "getstatusoutput", None)  # calling it would raise
    tell_pydra_the_mounts()
    assert MountIndentifier.on_cifs(tmp_path) is False
