"""Network mounts told to Pydra, which would otherwise start a shell in every process to ask."""

from __future__ import annotations


def tell_pydra_the_mounts() -> None:
    """Fill Pydra's table of CIFS mounts from the kernel's own.

    Pydra runs ``mount`` in a shell the first time it collects an output file. In the main
    process other threads start tasks at that moment, and once that ``exec`` failed with
    "Bad address", which failed a BOLD run for nothing.
    """
    import psutil
    from pydra.utils.mount_identifier import MountIndentifier

    mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    MountIndentifier._mount_table = below_cifs(mounts)


def below_cifs(mounts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Mounts (path, type) on or below a CIFS one, longest path first, as Pydra wants them."""
    shares = [path for path, kind in mounts if kind.lower() == "cifs"]
    found = [m for m in mounts if any(m[0].startswith(share) for share in shares)]
    return sorted(found, key=lambda m: len(m[0]), reverse=True)
