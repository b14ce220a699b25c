"""Mounts told to Pydra and fileformats, which would otherwise start a shell to ask for them."""

from __future__ import annotations


def tell_pydra_the_mounts() -> None:
    """Fill the tables of mounts of Pydra and of fileformats from the kernel's own.

    Both run ``mount`` in a shell the first time a workflow collects an output file. In a main
    process that has been waiting for long, that ``exec`` failed with "Bad address" and took a
    BOLD run with it; and in a slim container there may be no ``mount`` at all.
    """
    import psutil
    from fileformats.core.fs_mount_identifier import FsMountIdentifier
    from pydra.utils.mount_identifier import MountIndentifier

    mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    if not any(path == "/" for path, _ in mounts):
        mounts.append(("/", "unknown"))
    MountIndentifier._mount_table = below_cifs(mounts)
    FsMountIdentifier._mount_table = longest_first(mounts)


def below_cifs(mounts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Mounts (path, type) on or below a CIFS one, longest path first, as Pydra wants them."""
    shares = [path for path, kind in mounts if kind.lower() == "cifs"]
    return longest_first([m for m in mounts if any(m[0].startswith(share) for share in shares)])


def longest_first(mounts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same mounts, longest path first."""
    return sorted(mounts, key=lambda mount: len(mount[0]), reverse=True)
