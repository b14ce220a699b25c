"""Volumes from surfaces: ribbon, white matter and filled hemispheres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.volume import Grid, Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.scan_conversion import fill_mesh

RIBBON_VALUES = {"left": (2, 3), "right": (41, 42)}
"""White matter and cortex in ribbon.mgz."""

FILLED_VALUES = {"left": 255, "right": 127}
"""Hemispheres in filled.mgz."""

WM_VALUE = 110
"""White matter in wm.mgz."""


@dataclass(frozen=True)
class SurfaceVolumes:
    """Volumes that FreeSurfer keeps beside its surfaces.

    Attributes
    ----------
    ribbon : Volume
        uint8: 2 and 41 inside the white surfaces, 3 and 42 between white and pial.
    left_ribbon, right_ribbon : Volume
        uint8: 1 between white and pial.
    wm, filled : Volume
        uint8: 110 inside the white surfaces; 255 left and 127 right.
    """

    ribbon: Volume
    left_ribbon: Volume
    right_ribbon: Volume
    wm: Volume
    filled: Volume


def surface_volumes(
    surfaces: dict[str, tuple[Mesh, Mesh]], grid: Grid, brain: np.ndarray | None = None
) -> SurfaceVolumes:
    """Scan-convert the surfaces of the hemispheres.

    A voxel belongs to what its centre lies in. Where the two hemispheres claim the same voxel the
    white matter of one wins over the cortex of the other, then the left.

    Parameters
    ----------
    surfaces : dict of side to (white, pial)
        Closed meshes, RAS mm.
    grid : Grid
        Any lattice.
    brain : (X, Y, Z) bool array, optional
        Voxels outside are left out.

    Returns
    -------
    SurfaceVolumes
    """
    ribbon = np.zeros(grid.shape, dtype=np.uint8)
    filled = np.zeros(grid.shape, dtype=np.uint8)
    cortex = {side: np.zeros(grid.shape, dtype=bool) for side in RIBBON_VALUES}
    for side in sorted(surfaces, reverse=True):
        white, pial = surfaces[side]
        inside = fill_mesh(white, grid)
        grey = fill_mesh(pial, grid) & ~inside
        if brain is not None:
            inside, grey = inside & brain, grey & brain
        ribbon[grey & ~np.isin(ribbon, [v[0] for v in RIBBON_VALUES.values()])] = RIBBON_VALUES[
            side
        ][1]
        ribbon[inside] = RIBBON_VALUES[side][0]
        filled[inside] = FILLED_VALUES[side]
    for side, (_, value) in RIBBON_VALUES.items():
        cortex[side] = ribbon == value
    return SurfaceVolumes(
        ribbon=Volume(ribbon, grid.affine),
        left_ribbon=Volume(cortex["left"].astype(np.uint8), grid.affine),
        right_ribbon=Volume(cortex["right"].astype(np.uint8), grid.affine),
        wm=Volume(np.where(filled > 0, WM_VALUE, 0).astype(np.uint8), grid.affine),
        filled=Volume(filled, grid.affine),
    )
