"""Points of a digital object that can be added or removed without changing its topology.

Object voxels are joined through faces (6), background voxels through faces and edges (18): the
pair for which :mod:`deepprep.surface.marching_cubes` makes a surface. A voxel is simple when the
object around it is one piece that touches it and the background around it is one piece that
touches it (topological numbers T6+ = T18 = 1).

A neighbourhood of 3x3x3 voxels is a number of 27 bits; bit 9 (x + 1) + 3 (y + 1) + (z + 1).

References
----------
Bertrand G. Simple points, topological numbers and geodesic neighborhoods in cubic grids. Pattern
Recognition Letters 15:1003-1011, 1994.
"""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled


def _bits(keep) -> int:
    steps = (-1, 0, 1)
    return sum(
        1 << (9 * (x + 1) + 3 * (y + 1) + (z + 1))
        for x in steps
        for y in steps
        for z in steps
        if keep(x, y, z)
    )


ALL = _bits(lambda x, y, z: True)
AROUND = _bits(lambda x, y, z: (x, y, z) != (0, 0, 0))
FACES = _bits(lambda x, y, z: abs(x) + abs(y) + abs(z) == 1)
FACES_EDGES = _bits(lambda x, y, z: abs(x) + abs(y) + abs(z) in (1, 2))
"""The neighbourhood: whole, without its centre, the 6 neighbours, the 18 neighbours."""

_Y_UP = _bits(lambda x, y, z: y < 1)
_Y_DOWN = _bits(lambda x, y, z: y > -1)
_Z_UP = _bits(lambda x, y, z: z < 1)
_Z_DOWN = _bits(lambda x, y, z: z > -1)
"""What may be shifted along an axis without running into the next row."""


@compiled()
def _spread_x(m: int) -> int:
    return (m | (m << 9) | (m >> 9)) & ALL


@compiled()
def _spread_y(m: int) -> int:
    return m | ((m & _Y_UP) << 3) | ((m & _Y_DOWN) >> 3)


@compiled()
def _spread_z(m: int) -> int:
    return m | ((m & _Z_UP) << 1) | ((m & _Z_DOWN) >> 1)


@compiled()
def _spread6(m: int) -> int:
    return _spread_x(m) | _spread_y(m) | _spread_z(m)


@compiled()
def _spread18(m: int) -> int:
    y = _spread_y(m)
    return _spread_x(y) | _spread_z(y) | _spread_x(_spread_z(m))


@compiled()
def is_simple(neighbourhood: int) -> bool:
    """Whether the centre may change sides.

    Parameters
    ----------
    neighbourhood : int
        Bits of the object voxels; the centre's own bit does not matter.
    """
    inside = neighbourhood & AROUND
    touching = inside & FACES
    if touching == 0:
        return False
    outside = ~neighbourhood & AROUND
    near = outside & FACES_EDGES
    if near == 0:
        return False
    # geodesic neighbourhoods: what is reached from the centre within three (two) steps
    reach = _spread6(touching) & inside
    reach = _spread6(reach) & inside
    piece = touching & -touching
    while True:
        grown = _spread6(piece) & reach
        if grown == piece:
            break
        piece = grown
    if touching & ~piece:
        return False
    reach = _spread18(near) & outside
    piece = near & -near
    while True:
        grown = _spread18(piece) & reach
        if grown == piece:
            break
        piece = grown
    return (near & ~piece) == 0


def neighbour_offsets(shape: tuple[int, int, int]) -> np.ndarray:
    """(27,) int64: steps in a C-ordered array to the voxels of the 27 bits."""
    steps = np.arange(-1, 2)
    x, y, z = np.meshgrid(steps, steps, steps, indexing="ij")
    return ((x * shape[1] + y) * shape[2] + z).ravel().astype(np.int64)
