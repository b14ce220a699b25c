"""Triangles that meet: known pairs, and exact agreement with a search over all pairs."""

import numpy as np
import pytest

from deepprep.surface.mesh import Mesh
from deepprep.surface.self_intersection import (
    count_self_intersections,
    find_crossings,
    find_self_intersections,
)


def two_triangles(*corners: tuple[float, float, float]) -> Mesh:
    return Mesh(np.array(corners), np.arange(6).reshape(2, 3))


FLAT = ((0.0, 0, 0), (2, 0, 0), (0, 2, 0))


@pytest.mark.parametrize(
    ("second", "meet"),
    [
        (((0.3, 0.3, -1.0), (0.3, 0.3, 1.0), (5.0, 5.0, 0.5)), True),  # an edge through the inside
        (((0.3, 0.3, 0.1), (0.3, 0.3, 1.0), (5.0, 5.0, 0.5)), False),  # above
        (((3.0, 3.0, -1.0), (3.0, 3.0, 1.0), (5.0, 5.0, 0.5)), False),  # plane crossed beside it
        (((0.3, 0.3, 0.0), (0.3, 0.3, 1.0), (5.0, 5.0, 0.5)), True),  # a corner rests on it
        (((0.2, 0.2, 0.0), (0.4, 0.2, 0.0), (0.2, 0.4, 0.0)), True),  # flat, wholly inside
        (((-1.0, -1, 0), (9, -1, 0), (-1, 9, 0)), True),  # flat, wholly around
        (((3.0, 3.0, 0.0), (4.0, 3.0, 0.0), (3.0, 4.0, 0.0)), False),  # flat, beside
        (((2.0, 2.0, 0.0), (0.5, 0.5, 0.0), (2.0, 1.9, 0.0)), True),  # flat, a spike into it
    ],
)
def test_two_triangles_meet_where_they_do(second: tuple, meet: bool) -> None:
    assert count_self_intersections(two_triangles(*FLAT, *second)) == (2 if meet else 0)


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_far_away_and_turned_triangles_are_judged_alike(axis_order: tuple[int, ...]) -> None:
    mesh = two_triangles(*FLAT, (0.3, 0.3, -1.0), (0.3, 0.3, 1.0), (5.0, 5.0, 0.5))
    moved = Mesh(mesh.vertices[:, axis_order] * 1e-3 + 150.0, mesh.faces)
    assert find_self_intersections(moved).pairs.tolist() == [[0, 1]]


def test_neighbours_with_a_common_corner_meet_only_beyond_it() -> None:
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [1, 1, 1.0], [-1, 1, 1.0]])
    apart = Mesh(points, [[0, 1, 2], [0, 3, 4]])
    assert count_self_intersections(apart) == 0
    through = apart.moved(points + np.array([[0, 0, 0]] * 4 + [[2, -0.7, -2.0]]))
    assert count_self_intersections(through) == 2


def test_neighbours_across_an_edge_meet_only_when_folded_flat() -> None:
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [1, -1, 0.0]])
    open_book = Mesh(points, [[0, 1, 2], [1, 0, 3]])
    assert count_self_intersections(open_book) == 0
    points[3] = [0.5, 0.5, 0.0]
    assert count_self_intersections(Mesh(points, open_book.faces)) == 2
    points[3] = [0.5, 0.5, 0.1]
    assert count_self_intersections(Mesh(points, open_book.faces)) == 0


def test_search_in_cells_finds_what_a_search_over_all_pairs_finds() -> None:
    random = np.random.default_rng(3)
    centre = random.uniform(0, 10, (300, 1, 3))
    size = random.uniform(0.1, 2.0, (300, 1, 1))
    corners = centre + size * random.normal(size=(300, 3, 3))
    mesh = Mesh(corners.reshape(-1, 3), np.arange(900).reshape(-1, 3))
    expected = [
        [f, g]
        for f in range(300)
        for g in range(f + 1, 300)
        if _meet_by_definition(corners[f], corners[g])
    ]
    assert len(expected) > 100
    assert find_self_intersections(mesh).pairs.tolist() == expected


def _meet_by_definition(one: np.ndarray, two: np.ndarray) -> bool:
    """Solve for the point where each edge meets the other triangle's plane."""
    for a, b in ((one, two), (two, one)):
        for i in range(3):
            start, end = b[i], b[(i + 1) % 3]
            system = np.stack([a[1] - a[0], a[2] - a[0], start - end], axis=1)
            u, v, t = np.linalg.solve(system, start - a[0])
            if u >= 0 and v >= 0 and u + v <= 1 and 0 <= t <= 1:
                return True
    return False


def test_crossings_of_two_meshes_leave_out_what_each_does_to_itself() -> None:
    first = two_triangles(*FLAT, (0.3, 0.3, -1.0), (0.3, 0.3, 1.0), (5.0, 5.0, 0.5))
    assert find_crossings(first, first.moved(first.vertices + 100.0)).shape == (0, 2)
    upright = Mesh([[0.5, 0.2, -1.0], [0.5, 0.2, 1.0], [0.5, -3.0, 0.0]], [[0, 1, 2]])
    assert find_crossings(first, upright).tolist() == [[0, 0]]


def test_no_triangles_no_pairs_and_nan_is_refused() -> None:
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int))
    assert count_self_intersections(empty) == 0
    bad = two_triangles(*FLAT, *FLAT)
    with pytest.raises(ValueError, match="not finite"):
        count_self_intersections(bad.moved(bad.vertices * np.nan))
