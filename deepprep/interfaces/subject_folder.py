"""Read the surfaces of a finished FreeSurfer, FastSurfer or DeepPrep subject."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from deepprep.bids.subjects_dir import FLAG, surface_file
from deepprep.errors import StageError
from deepprep.image.freesurfer_space import ras_to_tkr
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.freesurfer import VERSION_FILE
from deepprep.registration.transforms import Affine
from deepprep.surface.inflate import inflate, midthickness, smoothwm
from deepprep.surface.measures import white_pial_crossings
from deepprep.surface.mesh import Mesh
from deepprep.surface.reconstruct import Hemisphere, measured
from deepprep.surface.self_intersection import count_self_intersections

HEMIS = {"left": "lh", "right": "rh"}

OVERLAYS = (*("thickness", "curv", "curv.pial", "sulc", "area", "area.mid", "area.pial", "volume"),)
"""Files of ``surf`` with one value per vertex that are taken as they are."""

ELSEWHERE_MM = 0.01
"""Surfaces whose volume info differs from orig.mgz by more lie in another volume."""


def read_hemisphere(
    folder: Path, side: str, orig: Grid, orig_to_t1w: Affine, t1w: Volume
) -> Hemisphere:
    """A hemisphere of a finished subject, in the space of the T1w.

    What the subject lacks (inflated surface, measures) is computed from its white and pial
    surface.

    Parameters
    ----------
    folder : Path
        Subject, with ``surf`` and ``label``.
    side : {'left', 'right'}
    orig : Grid
        Lattice of its ``mri/orig.mgz``.
    orig_to_t1w : Affine
        RAS mm of orig.mgz to RAS mm of the T1w.
    t1w : Volume
        Bias-corrected T1w.

    Raises
    ------
    StageError
        When files do not fit to each other.
    """
    hemi = HEMIS[side]
    to_t1w = orig_to_t1w.matrix @ np.linalg.inv(ras_to_tkr(orig))
    white = _surface(folder, hemi, "white", orig)
    pial = _surface(folder, hemi, "pial", orig)
    assert white is not None and pial is not None  # checked before the run
    if not np.array_equal(white.faces, pial.faces):
        raise StageError(
            f"{folder.name}/surf: {hemi}.white and {hemi}.pial do not have the same triangles; "
            f"reconstruct the subject again, or leave out {FLAG}."
        )
    for name, mesh in (("white", white), ("pial", pial)):
        if not mesh.is_closed or mesh.euler_number != 2:
            raise StageError(
                f"{folder.name}/surf/{hemi}.{name} is not one closed surface without handles "
                f"(Euler number {mesh.euler_number}); reconstruct the subject again, or leave out "
                f"{FLAG}."
            )
    white, pial = _placed(white, to_t1w), _placed(pial, to_t1w)
    if white.enclosed_volume_mm3 < 0:
        raise StageError(
            f"{folder.name}/surf/{hemi}.white is inside out: its normals point inwards; "
            f"reconstruct the subject again, or leave out {FLAG}."
        )
    known = {name: _values(folder, hemi, name, white) for name in OVERLAYS}
    overlays = {name: values for name, values in known.items() if values is not None}
    cortex = _cortex(folder, hemi, white, overlays.get("thickness"))
    smooth = _same_vertices(_surface(folder, hemi, "smoothwm", orig), white)
    smooth = smoothwm(white) if smooth is None else _placed(smooth, to_t1w)
    inflated = _same_vertices(_surface(folder, hemi, "inflated", None), white)
    if inflated is None or "sulc" not in overlays:
        computed, sulc = inflate(smooth)
        inflated = computed if inflated is None else inflated
        overlays.setdefault("sulc", sulc)
    middle = midthickness(white, pial)
    qc: dict[str, float] = {
        "euler_white": white.euler_number,
        "euler_pial": pial.euler_number,
        "self_intersections_white": count_self_intersections(white),
        "self_intersections_pial": count_self_intersections(pial),
        "crossings_white_pial": white_pial_crossings(white, pial),
        "n_vertices": white.n_vertices,
    }
    overlays = measured(t1w, white, pial, cortex, overlays)
    first = _same_vertices(_surface(folder, hemi, "orig", orig), white)
    before = None if first is None else _placed(first, to_t1w)
    return Hemisphere(side, white, pial, smooth, inflated, middle, cortex, overlays, qc, before)


def made_by(folder: Path) -> str:
    """Program that made a subject, from what it left in ``scripts``."""
    for name in (VERSION_FILE, "scripts/build-stamp.txt"):
        path = folder / name
        if path.is_file():
            words = path.read_text(encoding="utf-8", errors="replace").split(",")[0].split()
            return " ".join(words[:2])
    return "a program that left no version"


def _surface(folder: Path, hemi: str, name: str, orig: Grid | None) -> Mesh | None:
    """Surface in its own coordinates, checked to lie in orig.mgz when that is given."""
    path = surface_file(folder, hemi, name)
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files without volume info are fine
            points, faces, info = nib.freesurfer.read_geometry(str(path), read_metadata=True)
        mesh = Mesh(points, faces)
    except (ValueError, OSError, IndexError) as err:
        raise StageError(
            f"{folder.name}/surf/{path.name} cannot be read ({err}); reconstruct the subject "
            f"again, or leave out {FLAG}."
        ) from err
    if orig is not None and not _lies_in(info, orig):
        raise StageError(
            f"{folder.name}/surf/{path.name} was made for another volume than mri/orig.mgz (its "
            "volume info differs): the folder is mixed from two runs; reconstruct the subject "
            f"again, or leave out {FLAG}."
        )
    return mesh


def _lies_in(info: dict[str, Any], orig: Grid) -> bool:
    if not info or "cras" not in info or not str(info.get("valid", "")).startswith("1"):
        return True
    axes = np.stack([info[key] for key in ("xras", "yras", "zras")], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(info["voxelsize"])
    affine[:3, 3] = info["cras"] - affine[:3, :3] @ (np.asarray(info["volume"]) / 2.0)
    named = Grid(tuple(int(n) for n in info["volume"]), affine)  # type: ignore[arg-type]
    return named.same_as(orig, atol_mm=ELSEWHERE_MM)


def _placed(mesh: Mesh, matrix: np.ndarray) -> Mesh:
    return mesh.moved(mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3])


def _same_vertices(mesh: Mesh | None, white: Mesh) -> Mesh | None:
    """Older surfaces of a remeshed subject have other vertices: of no use."""
    fits = mesh is not None and np.array_equal(mesh.faces, white.faces)
    return mesh if fits else None


def _values(folder: Path, hemi: str, name: str, white: Mesh) -> np.ndarray | None:
    path = surface_file(folder, hemi, name)
    if path is None:
        return None
    values = nib.freesurfer.read_morph_data(str(path))
    if len(values) != white.n_vertices:
        raise StageError(
            f"{folder.name}/surf/{path.name} has {len(values)} values, {hemi}.white has "
            f"{white.n_vertices} vertices: the folder is mixed from two runs; reconstruct the "
            f"subject again, or leave out {FLAG}."
        )
    return np.nan_to_num(values)


def _cortex(folder: Path, hemi: str, white: Mesh, thickness: np.ndarray | None) -> np.ndarray:
    path = folder / "label" / f"{hemi}.cortex.label"
    if path.is_file():
        inside = np.zeros(white.n_vertices, dtype=bool)
        vertices = nib.freesurfer.read_label(str(path))
        if len(vertices) and vertices.max() >= white.n_vertices:
            raise StageError(
                f"{folder.name}/label/{path.name} names vertices that {hemi}.white does not have: "
                "the folder is mixed from two runs; reconstruct the subject again, or leave out "
                f"{FLAG}."
            )
        inside[vertices] = True
        return inside
    if thickness is not None:
        return thickness > 0
    raise StageError(
        f"{folder.name} has neither label/{hemi}.cortex.label nor surf/{hemi}.thickness, so that "
        f"its medial wall is not known; reconstruct the subject again, or leave out {FLAG}."
    )
