"""Transforms on disk in ITK's formats, as ANTs, fMRIPrep, SimpleITK and nitransforms read them.

ITK works in LPS+ mm, this package in RAS+ mm: both first axes change sign on the way. A file
maps points of the OUTPUT space to the INPUT space, as the maps here do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from deepprep.errors import InputError
from deepprep.image.resample import PointTransform
from deepprep.registration.transforms import Affine, Chain, Displacement

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS mm to LPS mm and back."""

SHEAR_TOLERANCE = 1e-4
"""Largest off-diagonal cosine between the axes of a lattice that ITK can describe."""


def write_affine(path: str | os.PathLike, transform: Affine | np.ndarray) -> Path:
    """Write an ITK text file (``.txt``).

    Parameters
    ----------
    path : path-like
        Where to.
    transform : Affine or (4, 4) array
        RAS mm map of output-space points to input-space points.
    """
    matrix = transform.matrix if isinstance(transform, Affine) else Affine(transform).matrix
    lps = LPS @ matrix @ LPS
    numbers = " ".join(repr(float(x)) for x in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    text = (
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\n"
        "FixedParameters: 0 0 0\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        part.write_text(text)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_affine(path: str | os.PathLike) -> Affine:
    """Read an ITK text file with one linear transform of 12 parameters.

    Raises
    ------
    InputError
        The file holds anything else.
    """
    text = Path(path).read_text(errors="replace")
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kind = fields.get("Transform", "").strip()
    try:
        numbers = np.array(fields["Parameters"].split(), dtype=np.float64)
        centre = np.array(fields.get("FixedParameters", "0 0 0").split(), dtype=np.float64)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is not an ITK text transform: write it again.") from error
    if not kind.startswith(("AffineTransform", "MatrixOffsetTransformBase")) or numbers.size != 12:
        raise InputError(
            f"{path} holds {kind or 'no transform'} with {numbers.size} numbers; "
            "give an affine transform of 12 numbers."
        )
    return _affine_from_itk(numbers, centre)


def write_composite(path: str | os.PathLike, steps: Iterable[PointTransform] | Chain) -> Path:
    """Write an ITK composite transform (``.h5``), gzip-compressed float32 fields.

    Parameters
    ----------
    path : path-like
        Where to; the same maps give the same bytes.
    steps : sequence of Affine, Displacement or Chain
        In the order in which POINTS go through them, as in ``Chain``. ITK keeps them in the
        opposite order (the last of the file acts first); this function turns them round.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        with h5py.File(part, "w") as file:
            for name, value in (("ITKVersion", b"5.4.0"), ("HDFVersion", b"1.12.1")):
                _put(file, name, np.array([value], dtype=object))
            group = file.create_group("TransformGroup")
            head = group.create_group("0")
            _put_text(head, "TransformType", "CompositeTransform_double_3_3")
            for number, step in enumerate(reversed(Chain(steps).steps), start=1):
                _put_step(group.create_group(str(number)), step)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_composite(path: str | os.PathLike) -> Chain:
    """Read an ITK composite transform (``.h5``) of affines and displacement fields.

    Returns
    -------
    Chain
        Points go through the steps in the order of the chain (the file's, turned round).
    """
    try:
        with h5py.File(path, "r") as file:
            group = file["TransformGroup"]
            numbers = sorted((int(name) for name in group if name != "0"), reverse=True)
            return Chain([_read_step(group[str(number)], path) for number in numbers])
    except (OSError, KeyError) as error:
        raise InputError(f"{path} is not an ITK composite transform: write it again.") from error


def _put(group: h5py.Group, name: str, data: np.ndarray, **options: object) -> None:
    if data.dtype == object:
        options["dtype"] = h5py.string_dtype("ascii")
    group.create_dataset(name, data=data, track_times=False, **options)


def _put_text(group: h5py.Group, name: str, text: str) -> None:
    _put(group, name, np.array([text.encode()], dtype=object))


def _put_step(group: h5py.Group, step: PointTransform) -> None:
    if isinstance(step, Affine):
        lps = LPS @ step.matrix @ LPS
        _put_text(group, "TransformType", "AffineTransform_double_3_3")
        _put(group, "TransformFixedParameters", np.zeros(3))
        _put(group, "TransformParameters", np.r_[lps[:3, :3].ravel(), lps[:3, 3]])
    elif isinstance(step, Displacement):
        fixed, values = _field_to_itk(step)
        _put_text(group, "TransformType", "DisplacementFieldTransform_float_3_3")
        _put(group, "TransformFixedParameters", fixed)
        chunk = min(values.size, 1 << 18)
        _put(
            group, "TransformParameters", values,
            compression="gzip", compression_opts=3, shuffle=True, chunks=(chunk,),
        )  # fmt: skip
    else:
        raise TypeError(f"an ITK file holds affines and displacements, not {type(step).__name__}")


def _field_to_itk(step: Displacement) -> tuple[np.ndarray, np.ndarray]:
    affine = LPS @ step.affine
    spacing = step.grid.zooms_mm
    direction = affine[:3, :3] / spacing
    if step.grid.shear > SHEAR_TOLERANCE:
        raise ValueError("ITK cannot describe a displacement field on a sheared lattice")
    fixed = np.r_[step.grid.shape, affine[:3, 3], spacing, direction.ravel()]
    vectors = step.field * np.array([-1, -1, 1], dtype=np.float32)
    # x runs fastest, and the three components of one voxel are neighbours
    return fixed.astype(np.float64), vectors.transpose(2, 1, 0, 3).ravel()


def _read_step(group: h5py.Group, path: str | os.PathLike) -> Affine | Displacement:
    kind = group["TransformType"][0]
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    # Old ITK wrote "Tranform"
    stem = "Transform" if "TransformParameters" in group else "Tranform"
    values = group[f"{stem}Parameters"][:]
    fixed = group[f"{stem}FixedParameters"][:]
    if kind.startswith(("AffineTransform", "MatrixOffsetTransformBase")):
        return _affine_from_itk(values, fixed)
    if kind.startswith("DisplacementFieldTransform"):
        shape = tuple(int(n) for n in fixed[:3])
        affine = np.eye(4)
        affine[:3, :3] = fixed[9:18].reshape(3, 3) * fixed[6:9]
        affine[:3, 3] = fixed[3:6]
        field = values.reshape(*shape[::-1], 3).transpose(2, 1, 0, 3)
        return Displacement(field * np.array([-1, -1, 1], dtype=field.dtype), LPS @ affine)
    raise InputError(f"{path} holds a {kind}; only affines and displacement fields are read.")


def _affine_from_itk(numbers: np.ndarray, centre: np.ndarray) -> Affine:
    lps = np.eye(4)
    lps[:3, :3] = numbers[:9].reshape(3, 3)
    # ITK turns about a centre: y = A (x - c) + c + t
    lps[:3, 3] = numbers[9:12] + centre[:3] - lps[:3, :3] @ centre[:3]
    return Affine(LPS @ lps @ LPS)
