"""Surfaces on disk: FreeSurfer's formats and GIFTI.

FreeSurfer's files hold "surface RAS" (tkregister) coordinates of ``orig.mgz``; GIFTI files hold
scanner RAS, the world of the NIfTI affine, so that both overlay on the T1w.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.gifti import (
    GiftiCoordSystem,
    GiftiDataArray,
    GiftiImage,
    GiftiLabel,
    GiftiLabelTable,
    GiftiMetaData,
)

from deepprep.image.freesurfer_space import centre_ras, ras_to_tkr
from deepprep.image.volume import Grid
from deepprep.surface.mesh import Mesh

STRUCTURES = {"left": "CortexLeft", "right": "CortexRight"}
"""GIFTI's names of the hemispheres."""

GIFTI_KINDS = {
    "white": ("Anatomical", "GrayWhite"),
    "smoothwm": ("Anatomical", "GrayWhite"),
    "pial": ("Anatomical", "Pial"),
    "midthickness": ("Anatomical", "MidThickness"),
    "inflated": ("Inflated", ""),
    "sphere": ("Spherical", ""),
}
"""GeometricType and AnatomicalStructureSecondary of each surface."""


def write_freesurfer_surface(path: Path, mesh: Mesh, conformed: Grid) -> None:
    """Write a surface as FreeSurfer geometry.

    Parameters
    ----------
    path : Path
        Such as ``surf/lh.white``.
    mesh : Mesh
        Scanner RAS mm.
    conformed : Grid
        Lattice of ``orig.mgz`` (:func:`deepprep.image.freesurfer_space.conformed_grid`).
    """
    to_tkr = ras_to_tkr(conformed)
    vertices = mesh.vertices @ to_tkr[:3, :3].T + to_tkr[:3, 3]
    nib.freesurfer.write_geometry(
        path, vertices, mesh.faces, create_stamp="created by DeepPrep",
        volume_info=volume_info(conformed),
    )  # fmt: skip


def read_freesurfer_surface(path: Path, conformed: Grid) -> Mesh:
    """Read FreeSurfer geometry into scanner RAS mm.

    Raises
    ------
    ValueError
        If the file says that it belongs to another volume than ``conformed``.
    """
    vertices, faces, info = nib.freesurfer.read_geometry(path, read_metadata=True)
    if info.get("valid", "").startswith("1") and not np.allclose(
        info["cras"], centre_ras(conformed), atol=0.01
    ):
        raise ValueError(
            f"{path} lies about {np.round(info['cras'], 2).tolist()} mm, its volume about "
            f"{np.round(centre_ras(conformed), 2).tolist()} mm: they are not of the same subject"
        )
    from_tkr = np.linalg.inv(ras_to_tkr(conformed))
    return Mesh(vertices @ from_tkr[:3, :3].T + from_tkr[:3, 3], faces)


def volume_info(conformed: Grid) -> dict[str, object]:
    """The volume geometry at the end of a FreeSurfer surface file."""
    directions = conformed.affine[:3, :3] / conformed.zooms_mm
    return {
        "head": np.array([2, 0, 20], dtype=np.int32),
        "valid": "1  # volume info valid",
        "filename": "orig.mgz",
        "volume": np.array(conformed.shape),
        "voxelsize": conformed.zooms_mm,
        "xras": directions[:, 0],
        "yras": directions[:, 1],
        "zras": directions[:, 2],
        "cras": centre_ras(conformed),
    }


def write_freesurfer_overlay(path: Path, values: np.ndarray, n_faces: int) -> None:
    """Write one value a vertex (``lh.thickness``, ``lh.curv`` ...), float32."""
    nib.freesurfer.write_morph_data(path, np.asarray(values, dtype=np.float32), fnum=n_faces)


def write_freesurfer_label(
    path: Path, inside: np.ndarray, white: Mesh, conformed: Grid, subject: str = ""
) -> None:
    """Write vertices as a FreeSurfer label (``label/lh.cortex.label``).

    Parameters
    ----------
    path : Path
    inside : (V,) bool array
    white : Mesh
        Scanner RAS mm; labels hold white's surface RAS.
    conformed : Grid
        Lattice of ``orig.mgz``.
    subject : str
        Name in the first line.
    """
    to_tkr = ras_to_tkr(conformed)
    which = np.flatnonzero(inside)
    points = white.vertices[which] @ to_tkr[:3, :3].T + to_tkr[:3, 3]
    lines = [f"#!ascii label  , from subject {subject} vox2ras=TkReg", str(len(which))]
    lines += [f"{v}  {x:.3f}  {y:.3f}  {z:.3f} 0.0000000000" for v, (x, y, z) in zip(which, points)]
    Path(path).write_text("\n".join(lines) + "\n")


def write_gifti_surface(path: Path, mesh: Mesh, side: str, kind: str) -> None:
    """Write a surface as GIFTI in scanner RAS.

    Parameters
    ----------
    path : Path
        Such as ``sub-01_hemi-L_white.surf.gii``.
    mesh : Mesh
        Scanner RAS mm.
    side : {'left', 'right'}
    kind : str
        One of ``GIFTI_KINDS``.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in GIFTI_KINDS:
        raise ValueError(f"a surface is one of {', '.join(GIFTI_KINDS)}, not {kind}")
    geometry, secondary = GIFTI_KINDS[kind]
    meta = {"AnatomicalStructurePrimary": STRUCTURES[side], "GeometricType": geometry}
    if secondary:
        meta["AnatomicalStructureSecondary"] = secondary
    space = "NIFTI_XFORM_SCANNER_ANAT" if geometry == "Anatomical" else "NIFTI_XFORM_UNKNOWN"
    points = GiftiDataArray(
        mesh.vertices.astype(np.float32), intent="NIFTI_INTENT_POINTSET",
        datatype="NIFTI_TYPE_FLOAT32", coordsys=GiftiCoordSystem(space, space, np.eye(4)),
        meta=GiftiMetaData(meta),
    )  # fmt: skip
    triangles = GiftiDataArray(
        mesh.faces, intent="NIFTI_INTENT_TRIANGLE", datatype="NIFTI_TYPE_INT32", coordsys=None,
        meta=GiftiMetaData({"TopologicalType": "Closed"}),
    )  # fmt: skip
    image = GiftiImage(darrays=[points, triangles],
                       meta=GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[side]}))  # fmt: skip
    nib.save(image, path)


def read_gifti_surface(path: Path) -> Mesh:
    """Read a GIFTI surface, in the coordinates of the file."""
    image = GiftiImage.from_filename(str(path))
    points, triangles = (image.get_arrays_from_intent(code)[0].data
                         for code in ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE"))  # fmt: skip
    return Mesh(points, triangles)


def write_gifti_overlay(path: Path, values: np.ndarray, side: str, name: str) -> None:
    """Write one value a vertex as ``shape.gii``, float32."""
    array = GiftiDataArray(
        np.asarray(values, dtype=np.float32), intent="NIFTI_INTENT_SHAPE",
        datatype="NIFTI_TYPE_FLOAT32", coordsys=None, meta=GiftiMetaData({"Name": name}),
    )  # fmt: skip
    _save_data(path, array, side, None)


def write_gifti_labels(
    path: Path,
    values: np.ndarray,
    side: str,
    table: Mapping[int, tuple[str, tuple[float, float, float, float]]],
    name: str = "label",
) -> None:
    """Write one label a vertex as ``label.gii``.

    Parameters
    ----------
    path : Path
    values : (V,) int array
    side : {'left', 'right'}
    table : mapping of value to (name, (red, green, blue, alpha))
        Colours from 0 to 1.
    name : str
        Of the map.

    Raises
    ------
    ValueError
        If a value is not in the table.
    """
    missing = set(np.unique(values).tolist()) - set(table)
    if missing:
        raise ValueError(f"no name is given for the labels {sorted(missing)}")
    array = GiftiDataArray(
        np.asarray(values, dtype=np.int32), intent="NIFTI_INTENT_LABEL",
        datatype="NIFTI_TYPE_INT32", coordsys=None, meta=GiftiMetaData({"Name": name}),
    )  # fmt: skip
    labels = GiftiLabelTable()
    for key, (label, colour) in table.items():
        entry = GiftiLabel(key, *colour)
        entry.label = label  # type: ignore[attr-defined]
        labels.labels.append(entry)
    _save_data(path, array, side, labels)


def write_gifti_cortex(path: Path, cortex: np.ndarray, side: str) -> None:
    """Write the cortex mask (``desc-cortex_mask.label.gii``): 1 in cortex."""
    table = {0: ("???", (1.0, 1.0, 1.0, 0.0)), 1: ("cortex", (0.7, 0.7, 0.7, 1.0))}
    write_gifti_labels(path, np.asarray(cortex).astype(np.int32), side, table, "cortex")


def _save_data(
    path: Path, array: GiftiDataArray, side: str, labels: GiftiLabelTable | None
) -> None:
    meta = GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[side]})
    nib.save(GiftiImage(darrays=[array], meta=meta, labeltable=labels), path)
