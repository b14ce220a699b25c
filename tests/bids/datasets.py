"""Tiny BIDS data sets made on the spot, whole or broken in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from deepprep.config import Settings

T1W_SHAPE = (9, 10, 11)
BOLD_SHAPE = (6, 7, 4, 8)
BOLD_METADATA: dict[str, Any] = {
    "TaskName": "rest",
    "RepetitionTime": 2.0,
    "EchoTime": 0.03,
    "SliceTiming": [0.0, 1.0, 0.5, 1.5],
    "PhaseEncodingDirection": "j-",
    "TotalReadoutTime": 0.02,
}


def write_image(
    path: Path, shape: tuple[int, ...], *, affine: np.ndarray | None = None, data: Any = None
) -> Path:
    """A NIfTI of random positive integers, RAS 3 mm unless ``affine`` says otherwise."""
    if data is None:
        data = np.random.default_rng(0).integers(1, 1000, shape).astype(np.int16)
    if affine is None:
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(None if np.isnan(affine).any() else image.affine, 1, strip_shears=True)
    image.set_sform(affine, 1)
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
    nib.save(image, path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_subject(root: Path, label: str, bold_metadata: dict[str, Any] | None = None) -> None:
    """One T1w and one resting run."""
    folder = root / f"sub-{label}"
    write_image(folder / f"anat/sub-{label}_T1w.nii.gz", T1W_SHAPE)
    stem = folder / f"func/sub-{label}_task-rest_bold"
    write_image(stem.with_name(stem.name + ".nii.gz"), BOLD_SHAPE)
    metadata = BOLD_METADATA if bold_metadata is None else bold_metadata
    write_json(stem.with_name(stem.name + ".json"), metadata)


def write_dataset(root: Path, labels: tuple[str, ...] = ("01",)) -> Path:
    write_json(root / "dataset_description.json", {"Name": "tiny", "BIDSVersion": "1.9.0"})
    for label in labels:
        write_subject(root, label)
    return root


def write_phasediff(root: Path, label: str = "01", **metadata: Any) -> Path:
    """Phase difference and magnitudes, meant for the resting run unless told otherwise."""
    stem = root / f"sub-{label}/fmap/sub-{label}"
    for suffix in ("phasediff", "magnitude1", "magnitude2"):
        write_image(Path(f"{stem}_{suffix}.nii.gz"), T1W_SHAPE)
    content = {
        "EchoTime1": 0.00492,
        "EchoTime2": 0.00738,
        "IntendedFor": f"func/sub-{label}_task-rest_bold.nii.gz",
        **metadata,
    }
    write_json(Path(f"{stem}_phasediff.json"), {k: v for k, v in content.items() if v is not None})
    return Path(f"{stem}_phasediff.json")


def write_epi_pair(root: Path, label: str = "01", intended: Any = None, **first: Any) -> None:
    """Two spin-echo EPI with opposite phase encoding."""
    for name, direction in (("AP", "j-"), ("PA", "j")):
        stem = root / f"sub-{label}/fmap/sub-{label}_dir-{name}_epi"
        write_image(Path(f"{stem}.nii.gz"), T1W_SHAPE)
        metadata = {"PhaseEncodingDirection": direction, "TotalReadoutTime": 0.02}
        if intended is not None:
            metadata["IntendedFor"] = intended
        if name == "AP":
            metadata |= first
        write_json(Path(f"{stem}.json"), metadata)


def settings_for(root: Path, **options: Any) -> Settings:
    """Settings with output and work folders beside the data set."""
    return Settings(
        bids_dir=root,
        out_dir=root.parent / "out",
        work_dir=root.parent / "work",
        **options,
    )
