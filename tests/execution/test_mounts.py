"""What Pydra and fileformats are told of mounts."""

import subprocess

from fileformats.core.fs_mount_identifier import FsMountIdentifier
from pydra.utils.mount_identifier import MountIndentifier

from deepprep.execution.mounts import below_cifs, tell_pydra_the_mounts


def test_only_what_lies_on_a_share_is_listed_longest_first():
    mounts = [("/", "ext4"), ("/data", "cifs"), ("/data/scratch", "tmpfs"), ("/home", "nfs4")]
    assert below_cifs(mounts) == [("/data/scratch", "tmpfs"), ("/data", "cifs")]
    assert below_cifs([("/", "overlay")]) == []


def test_nobody_starts_a_shell(monkeypatch, tmp_path):
    monkeypatch.setattr(MountIndentifier, "_mount_table", None)
    monkeypatch.setattr(FsMountIdentifier, "_mount_table", None)
    monkeypatch.setattr(subprocess, "getstatusoutput", None)  # calling it would raise
    tell_pydra_the_mounts()
    assert MountIndentifier.on_cifs(tmp_path) is False
    assert FsMountIdentifier.symlinks_supported(tmp_path) is True
    assert FsMountIdentifier.on_same_mount(tmp_path, tmp_path / "x")


def test_a_kernel_that_lists_no_root_still_has_one(monkeypatch, tmp_path):
    import psutil

    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    monkeypatch.setattr(FsMountIdentifier, "_mount_table", None)
    monkeypatch.setattr(MountIndentifier, "_mount_table", None)
    tell_pydra_the_mounts()
    assert FsMountIdentifier.symlinks_supported(tmp_path) is True
