"""Volumes that follow from the surfaces: FreeSurfer's ribbon, filled and wm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepprep.image.volume import Grid
from deepprep.surface.mesh import Mesh
from deepprep.surface.scan_conversion import fill_mesh

WHITE = {"left": 2, "right": 41}
CORTEX = {"left": 3, "right": 42}
"""Labels of the ribbon."""

FILLED = {"left": 255, "right": 127}
"""Values of ``filled.mgz``."""

WHITE_MATTER, EDITED_FILL = 110, 250
"""Values of ``wm.mgz``: white matter, and what was filled (ventricles, deep grey)."""

FILLED_STRUCTURES = (4, 5, 10, 11, 12, 13, 26, 28, 31, 43, 44, 49, 50, 51, 52, 58, 60, 63)
"""Structures inside the white surface that are not white matter."""


class Surfaces(Protocol):
    """What is needed of a hemisphere."""

    @property
    def side(self) -> str:
        """``left`` or ``right``."""

    @property
    def white(self) -> Mesh:
        """White surface."""

    @property
    def pial(self) -> Mesh:
        """Pial surface."""


@dataclass(frozen=True)
class RibbonVolumes:
    """Hemispheres on a lattice.

    Attributes
    ----------
    ribbon : (X, Y, Z) uint8 array
        2 and 41 inside the white surface, 3 and 42 between white and pial, 0 elsewhere.
    filled : (X, Y, Z) uint8 array
        255 and 127 inside the left and the right white surface.
    """

    ribbon: np.ndarray
    filled: np.ndarray

    def wm(self, aseg: np.ndarray) -> np.ndarray:
        """``wm.mgz``: 110 in white matter, 250 in the structures filled into it.

        Parameters
        ----------
        aseg : (X, Y, Z) int array
            FreeSurfer numbers on the same lattice.
        """
        inside = self.filled > 0
        out = np.where(inside, WHITE_MATTER, 0).astype(np.uint8)
        out[inside & np.isin(aseg, FILLED_STRUCTURES)] = EDITED_FILL
        return out


def ribbon_volumes(left: Surfaces, right: Surfaces, grid: Grid) -> RibbonVolumes:
    """Scan-convert both hemispheres: a voxel belongs to where its centre lies.

    Parameters
    ----------
    left, right : Hemisphere
        With closed white and pial surfaces, RAS mm.
    grid : Grid
        Lattice of the result, any orientation.

    Raises
    ------
    ValueError
        If the sides are swapped, or a vertex is not finite.
    """
    if (left.side, right.side) != ("left", "right"):
        raise ValueError(f"expected the left and the right side, got {left.side}, {right.side}")
    ribbon = np.zeros(grid.shape, dtype=np.uint8)
    filled = np.zeros(grid.shape, dtype=np.uint8)
    whites = {h.side: fill_mesh(h.white, grid) for h in (left, right)}
    for hemisphere in (left, right):
        side = hemisphere.side
        ribbon[fill_mesh(hemisphere.pial, grid) & (ribbon == 0)] = CORTEX[side]
    # White matter of either side wins over cortex of the other where surfaces touch at the mid-line.
    for side, inside in whites.items():
        inside = inside & (filled == 0)
        ribbon[inside] = WHITE[side]
        filled[inside] = FILLED[side]
    return RibbonVolumes(ribbon, filled)
