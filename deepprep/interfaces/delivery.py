"""From the cache to the derivatives: atomic copies, and the record of what was written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepprep.bids.derivatives import write_sidecar, write_text

RECORDS = "logs/records"
"""Folder, below the root of the derivatives, of the records of what was done."""


@dataclass
class Delivery:
    """Writes derivatives of one part of a subject and remembers them.

    Parameters
    ----------
    out_dir : Path
        Root of the derivatives.
    subject : str
        ``sub-01``.
    part : str
        ``anat``, ``space-MNI152NLin2009cAsym_res-2``, or the name of a run.
    run_uuid : str
        The run that wrote it.
    """

    out_dir: Path
    subject: str
    part: str
    run_uuid: str
    files: list[str] = field(default_factory=list)

    def put(self, source: Any, path: Path, sidecar: Mapping[str, Any] | None = None) -> Path:
        """Copy ``source`` to ``path`` (compressing ``.nii`` to ``.nii.gz``) and write its JSON."""
        copy_atomically(Path(str(source)), path)
        return self._noted(path, sidecar)

    def text(self, content: str, path: Path) -> Path:
        """Write a text file."""
        write_text(path, content)
        return self._noted(path, None)

    def noted(self, path: Path, sidecar: Mapping[str, Any] | None = None) -> Path:
        """Remember a file that something else wrote, and write its JSON."""
        return self._noted(path, sidecar)

    def close(
        self,
        *,
        steps: Sequence[Any] = (),
        metrics: Mapping[str, Mapping[str, Any]] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> str:
        """Check that all files exist, write the record, and return its path.

        Raises
        ------
        FileNotFoundError
            When a derivative has vanished meanwhile.
        """
        for name in self.files:
            if not (self.out_dir / name).is_file():
                raise FileNotFoundError(f"{self.out_dir / name} was written but is gone")
        record = {
            "subject": self.subject,
            "part": self.part,
            "run_uuid": self.run_uuid,
            "files": sorted(self.files),
            "steps": [s.to_dict() for s in steps],
            "metrics": {k: dict(v) for k, v in (metrics or {}).items()},
            "summary": dict(summary or {}),
        }
        path = self.out_dir / RECORDS / f"{self.subject}_{self.part}.json"
        write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
        return str(path)

    def _noted(self, path: Path, sidecar: Mapping[str, Any] | None) -> Path:
        self.files.append(path.relative_to(self.out_dir).as_posix())
        if sidecar is not None:
            extra = write_sidecar(path, sidecar)
            self.files.append(extra.relative_to(self.out_dir).as_posix())
        return path


def read_records(out_dir: Path, subject: str | None = None) -> list[dict[str, Any]]:
    """Records of a subject (or all), in the order in which they are made, runs by name."""
    found = []
    for path in sorted((Path(out_dir) / RECORDS).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if subject is None or record["subject"] == subject:
            found.append(record)
    rank = {"anat": 0, "lesion": 1, "freesurfer": 3, "surfaces": 4, "cortex": 5}
    found.sort(
        key=lambda r: (
            r["subject"],
            rank.get(r["part"], 2 if r["part"].startswith(("template-", "space-")) else 6),
            r["part"],
        )
    )
    return found


def copy_atomically(source: Path, path: Path) -> None:
    """Copy a file under a temporary name, then rename; ``.nii`` becomes ``.nii.gz`` if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        if path.name.endswith(".gz") and source.suffix != ".gz":
            from isal import igzip

            from deepprep.interfaces.nifti import GZIP_LEVEL

            with (
                open(source, "rb") as raw,
                open(part, "wb") as out,
                igzip.IGzipFile(
                    filename="", mode="wb", fileobj=out, compresslevel=GZIP_LEVEL, mtime=0
                ) as packed,
            ):
                shutil.copyfileobj(raw, packed, 1 << 24)
        else:
            shutil.copyfile(source, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
