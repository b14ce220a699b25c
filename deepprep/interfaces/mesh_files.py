"""Surfaces on disk: FreeSurfer's geometry, morphometry and label files, and GIFTI.

FreeSurfer stores surface RAS ("tkRAS"), which depends on the shape and voxel size of ``orig.mgz``
alone; the volume info at the end of the file says where that volume lies. GIFTI derivatives hold
scanner RAS mm, which agree with the affine of the T1w NIfTI, as fMRIPrep's do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from deepprep._version import __version__
from deepprep.image.freesurfer_space import ras_to_tkr
from deepprep.image.volume import Grid
from deepprep.interfaces.files import atomically
from deepprep.surface.mesh import Mesh

STRUCTURES: Mapping[str, str] = {"L": "CortexLeft", "R": "CortexRight"}
"""AnatomicalStructurePrimary of a hemisphere."""

GEOMETRY: Mapping[str, tuple[str, str]] = {
    "white": ("Anatomical", "GrayWhite"),
    "smoothwm": ("Anatomical", "GrayWhite"),
    "pial": ("Anatomical", "Pial"),
    "midthickness": ("Anatomical", "MidThickness"),
    "inflated": ("Inflated", ""),
    "sphere": ("Spherical", ""),
    "reg_sphere": ("Spherical", ""),
}
"""GeometricType and AnatomicalStructureSecondary of each kind of surface."""

NON_CORTEX, CORTEX = 0, 1
"""Keys of the cortex label in GIFTI."""


def write_freesurfer_surface(
    path: str | os.PathLike, mesh: Mesh, orig: Grid | None, *, head: bool = True
) -> Path:
    """Write a FreeSurfer triangle file (``lh.white`` and the like), atomically.

    Parameters
    ----------
    path : path-like
    mesh : Mesh
        Scanner RAS mm.
    orig : Grid or None
        Lattice of ``orig.mgz``: gives surface RAS and the volume info. None (spheres): the
        coordinates are written as they are and no volume is named.
    head : bool
        False for inflated surfaces, whose coordinates are mm about an origin of their own: only
        the volume info of ``orig`` is written.
    """
    points, info = mesh.vertices, None
    if orig is not None:
        info = volume_info(orig)
        if head:
            to_tkr = ras_to_tkr(orig)
            points = points @ to_tkr[:3, :3].T + to_tkr[:3, 3]
    stamp = f"created by DeepPrep {__version__}"

    def write(part: Path) -> None:
        nib.freesurfer.write_geometry(
            str(part), points.astype(np.float32), mesh.faces, create_stamp=stamp, volume_info=info
        )

    return atomically(path, write)


def read_freesurfer_surface(path: str | os.PathLike, orig: Grid | None) -> Mesh:
    """Read what :func:`write_freesurfer_surface` wrote: scanner RAS mm when ``orig`` is given."""
    points, faces = nib.freesurfer.read_geometry(str(path))[:2]
    if orig is not None:
        to_ras = np.linalg.inv(ras_to_tkr(orig))
        points = points @ to_ras[:3, :3].T + to_ras[:3, 3]
    return Mesh(points, faces)


def volume_info(orig: Grid) -> dict[str, Any]:
    """What FreeSurfer keeps of ``orig.mgz`` in a surface file."""
    directions = orig.affine[:3, :3] / orig.zooms_mm
    centre = orig.affine[:3, :3] @ (np.array(orig.shape) / 2.0) + orig.affine[:3, 3]
    return {
        "head": np.array([2, 0, 20], dtype=np.int32),
        "valid": "1  # volume info valid",
        "filename": "../mri/orig.mgz",
        "volume": np.array(orig.shape, dtype=int),
        "voxelsize": orig.zooms_mm.astype(float),
        "xras": directions[:, 0],
        "yras": directions[:, 1],
        "zras": directions[:, 2],
        "cras": centre,
    }


def write_morph(path: str | os.PathLike, values: np.ndarray, n_faces: int) -> Path:
    """Write a FreeSurfer curvature-format file (``lh.thickness`` and the like), atomically.

    Parameters
    ----------
    path : path-like
    values : (V,) array
    n_faces : int
        Number of triangles of the surface.
    """
    values = np.asarray(values, dtype=np.float32)
    return atomically(
        path, lambda part: nib.freesurfer.write_morph_data(str(part), values, fnum=n_faces)
    )


def write_morph_mgh(path: str | os.PathLike, values: np.ndarray) -> Path:
    """Write one value per vertex as MGH (``lh.w-g.pct.mgh``), atomically.

    Parameters
    ----------
    path : path-like
    values : (V,) array
    """
    data = np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)
    image = nib.MGHImage(data, np.eye(4))
    return atomically(path, lambda part: part.write_bytes(image.to_bytes()))


def write_label(
    path: str | os.PathLike, inside: np.ndarray, mesh: Mesh, orig: Grid, subject: str
) -> Path:
    """Write a FreeSurfer label (text): vertices of a region with their surface RAS.

    Parameters
    ----------
    path : path-like
    inside : (V,) bool array
    mesh : Mesh
        White surface, scanner RAS mm.
    orig : Grid
        Lattice of ``orig.mgz``.
    subject : str
        Name for the first line.
    """
    chosen = np.flatnonzero(inside)
    to_tkr = ras_to_tkr(orig)
    points = mesh.vertices[chosen] @ to_tkr[:3, :3].T + to_tkr[:3, 3]
    lines = [f"#!ascii label  , from subject {subject} vox2ras=TkReg", str(len(chosen))]
    lines += [
        f"{v}  {x:.3f}  {y:.3f}  {z:.3f} 0.0000000000"
        for v, (x, y, z) in zip(chosen.tolist(), points.tolist())
    ]
    return atomically(path, lambda part: part.write_text("\n".join(lines) + "\n"))


def write_surf_gii(path: str | os.PathLike, mesh: Mesh, side: str, kind: str) -> Path:
    """Write ``.surf.gii`` (GZipBase64Binary), atomically.

    Parameters
    ----------
    path : path-like
    mesh : Mesh
        Scanner RAS mm (or mm about its own origin for inflated surfaces and spheres).
    side : {'L', 'R'}
    kind : str
        A key of ``GEOMETRY``.
    """
    geometric, secondary = GEOMETRY[kind]
    meta = {"AnatomicalStructurePrimary": STRUCTURES[side], "GeometricType": geometric}
    if secondary:
        meta["AnatomicalStructureSecondary"] = secondary
    scanner = nib.gifti.GiftiCoordSystem(1, 1, np.eye(4))
    points = nib.gifti.GiftiDataArray(
        mesh.vertices.astype(np.float32),
        intent="NIFTI_INTENT_POINTSET",
        datatype="NIFTI_TYPE_FLOAT32",
        encoding="GIFTI_ENCODING_B64GZ",
        coordsys=scanner,
        meta=nib.gifti.GiftiMetaData(meta),
    )
    triangles = nib.gifti.GiftiDataArray(
        mesh.faces.astype(np.int32),
        intent="NIFTI_INTENT_TRIANGLE",
        datatype="NIFTI_TYPE_INT32",
        encoding="GIFTI_ENCODING_B64GZ",
        coordsys=None,
    )
    return _save_gifti(path, [points, triangles], side)


def write_shape_gii(path: str | os.PathLike, values: np.ndarray, side: str, name: str) -> Path:
    """Write one map per vertex as ``.shape.gii`` (or ``.func.gii``), atomically.

    Parameters
    ----------
    path : path-like
    values : (V,) array
    side : {'L', 'R'}
    name : str
        Name of the map, shown by viewers.
    """
    array = nib.gifti.GiftiDataArray(
        np.asarray(values, dtype=np.float32),
        intent="NIFTI_INTENT_SHAPE",
        datatype="NIFTI_TYPE_FLOAT32",
        encoding="GIFTI_ENCODING_B64GZ",
        meta=nib.gifti.GiftiMetaData({"Name": name}),
    )
    return _save_gifti(path, [array], side)


def write_func_gii(path: str | os.PathLike, series: np.ndarray, side: str, tr_s: float) -> Path:
    """Write a series per vertex as ``.func.gii``, one array a frame, atomically.

    Parameters
    ----------
    path : path-like
    series : (V, T) array
    side : {'L', 'R'}
    tr_s : float
        Repetition time, s; kept in ms as FreeSurfer does (``TimeStep``).
    """
    arrays = [
        nib.gifti.GiftiDataArray(
            np.ascontiguousarray(series[:, frame], dtype=np.float32),
            intent="NIFTI_INTENT_TIME_SERIES",
            datatype="NIFTI_TYPE_FLOAT32",
            encoding="GIFTI_ENCODING_B64GZ",
            meta=nib.gifti.GiftiMetaData({"TimeStep": f"{1000 * tr_s:.6f}"}),
        )
        for frame in range(series.shape[1])
    ]
    return _save_gifti(path, arrays, side)


def write_label_gii(
    path: str | os.PathLike,
    keys: np.ndarray,
    side: str,
    name: str,
    table: Mapping[int, tuple[str, tuple[float, float, float, float]]],
) -> Path:
    """Write labels per vertex as ``.label.gii``, atomically.

    Parameters
    ----------
    path : path-like
    keys : (V,) int array
    side : {'L', 'R'}
    name : str
        Name of the map.
    table : mapping of key to (name, (red, green, blue, alpha))
        Colours 0 to 1; every key used must be there.
    """
    unknown = set(np.unique(keys).tolist()) - set(table)
    if unknown:
        raise ValueError(f"label {min(unknown)} of {name} has no entry in its table")
    labels = nib.gifti.GiftiLabelTable()
    for key, (label, colour) in sorted(table.items()):
        entry = nib.gifti.GiftiLabel(key, *colour)
        entry.label = label  # type: ignore[attr-defined]
        labels.labels.append(entry)
    array = nib.gifti.GiftiDataArray(
        np.asarray(keys, dtype=np.int32),
        intent="NIFTI_INTENT_LABEL",
        datatype="NIFTI_TYPE_INT32",
        encoding="GIFTI_ENCODING_B64GZ",
        meta=nib.gifti.GiftiMetaData({"Name": name}),
    )
    return _save_gifti(path, [array], side, labels)


def write_cortex_gii(path: str | os.PathLike, cortex: np.ndarray, side: str) -> Path:
    """Write the cortex mask (medial wall 0) as ``.label.gii``."""
    table = {
        NON_CORTEX: ("???", (1.0, 1.0, 1.0, 0.0)),
        CORTEX: ("cortex", (0.9, 0.4, 0.1, 1.0)),
    }
    return write_label_gii(path, np.asarray(cortex).astype(np.int32), side, "cortex", table)


def _save_gifti(
    path: str | os.PathLike,
    arrays: list[nib.gifti.GiftiDataArray],
    side: str,
    labels: nib.gifti.GiftiLabelTable | None = None,
) -> Path:
    image = nib.gifti.GiftiImage(
        darrays=arrays,
        labeltable=labels,
        meta=nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[side]}),
    )
    return atomically(path, lambda part: part.write_bytes(image.to_bytes()))
