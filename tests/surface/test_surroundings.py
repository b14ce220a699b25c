"""Which vertices of a white surface have cortex above them."""

import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.surface.surroundings import cortex_vertices
from tests.surface.shapes import ball

RADIUS_MM = 20.0


def _head(cap: int, side: str) -> Volume:
    """A ball of white matter in 3 mm of cortex; under a cap at the top cortex is 1 mm thick.

    Beyond it lies a structure with the number ``cap``.
    """
    grid = np.stack(np.meshgrid(*[np.arange(64.0) - 32] * 3, indexing="ij"))
    radius = np.linalg.norm(grid, axis=0)
    white, cortex = (2, 3) if side == "left" else (41, 42)
    labels = np.zeros(radius.shape, np.uint8)
    labels[radius < RADIUS_MM + 3] = cortex
    top = grid[2] > 0.8 * radius
    labels[top & (radius > RADIUS_MM + 1) & (radius < RADIUS_MM + 8)] = cap
    labels[radius < RADIUS_MM] = white
    affine = np.eye(4)
    affine[:3, 3] = -32
    return Volume(labels, affine)


@pytest.mark.parametrize(
    ("side", "cap", "is_cortex"),
    [
        ("left", 42, True), ("right", 3, True), ("left", 8, True), ("right", 47, True),
        ("left", 17, False), ("right", 54, False), ("left", 10, False), ("left", 43, False),
    ],
)  # fmt: skip
def test_thin_cortex_may_face_the_other_hemisphere_and_the_cerebellum(
    side: str, cap: int, is_cortex: bool
) -> None:
    white = ball(4, RADIUS_MM)
    found = cortex_vertices(white, _head(cap, side), side)
    height = white.vertices[:, 2] / np.linalg.norm(white.vertices, axis=1)
    assert found[height < 0.6].all()
    assert (found[height > 0.9] == is_cortex).all()


def test_without_cortex_there_is_an_error() -> None:
    head = _head(42, "left")
    nothing = head.like(np.where(head.data == 3, 0, head.data).astype(np.uint8))
    with pytest.raises(ValueError, match="no cortex lies on the white surface"):
        cortex_vertices(ball(4, RADIUS_MM), nothing, "left")
