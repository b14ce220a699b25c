"""Series of linear transforms in one ITK text file, as fMRIPrep writes head motion."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deepprep.errors import InputError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS mm to LPS mm and back."""


def write_affine_series(path: str | os.PathLike, matrices: np.ndarray) -> Path:
    """Write one ITK text file (``.txt``) with a transform per frame.

    Parameters
    ----------
    path : path-like
        Where to.
    matrices : (T, 4, 4) array
        RAS mm maps of output-space points to input-space points, in the order of the frames.
    """
    lines = ["#Insight Transform File V1.0"]
    for number, matrix in enumerate(np.asarray(matrices, dtype=float)):
        lps = LPS @ matrix @ LPS
        numbers = " ".join(repr(float(x)) for x in [*lps[:3, :3].ravel(), *lps[:3, 3]])
        lines += [
            f"#Transform {number}",
            "Transform: MatrixOffsetTransformBase_double_3_3",
            f"Parameters: {numbers}",
            "FixedParameters: 0 0 0",
            "",
        ]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        part.write_text("\n".join(lines))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_affine_series(path: str | os.PathLike) -> np.ndarray:
    """Read what :func:`write_affine_series` wrote (or ITK, with centres at the origin).

    Returns
    -------
    (T, 4, 4) array
        RAS mm maps.

    Raises
    ------
    InputError
        When the file holds no linear transform of 12 numbers, or a centre off the origin.
    """
    matrices = []
    for line in Path(path).read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == "Parameters":
            numbers = np.array(value.split(), dtype=float)
            if numbers.size != 12:
                break
            lps = np.eye(4)
            lps[:3, :3], lps[:3, 3] = numbers[:9].reshape(3, 3), numbers[9:]
            matrices.append(LPS @ lps @ LPS)
        elif key == "FixedParameters" and any(float(x) != 0 for x in value.split()):
            matrices = []
            break
    if not matrices:
        raise InputError(f"{path} is not a series of ITK affine transforms: write it again.")
    return np.stack(matrices)
