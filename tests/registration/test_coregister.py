"""BOLD to T1w: white-matter edge, boundary-based registration, fallback."""

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration import coregister
from deepprep.registration.boundary import BoundaryResult, register_boundary, white_matter_edge
from deepprep.registration.coregister import coregister_bold
from deepprep.registration.transforms import Affine
from tests.registration.heads import BOLD, T1W, error_mm, grid, motion, paint, tissue

TRUTH = motion((4, -3, 5), (5, -3, 4))


def scene(bold_grid=None):
    """BOLD reference, its mask, T1w brain, white matter."""
    t1w_grid = grid(2.0)
    bold_grid = bold_grid or grid(3.0, flip=(-1, 1, 1))
    t1w_labels = tissue(t1w_grid)
    bold_labels = tissue(bold_grid, TRUTH.inverse())
    bold = paint(bold_grid, BOLD, TRUTH.inverse(), noise=2.0)
    return (
        bold,
        bold.like((bold_labels.data > 0).astype(np.uint8)),
        paint(t1w_grid, T1W),
        t1w_labels.like((t1w_labels.data == 3).astype(np.float32)),
    )


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_edge_of_a_ball_lies_on_it_and_points_outwards(flip):
    where = grid(2.0, (1, 1, 1.5), flip, turn_deg=15)
    centre = np.array([5.0, -8.0, 3.0])
    radius = np.linalg.norm(where.points_ras() - centre, axis=-1)
    ball = Volume(np.clip(0.5 + (30.0 - radius) / 4, 0, 1), where.affine)
    points, normals = white_matter_edge(ball)
    outward = points - centre
    np.testing.assert_allclose(np.linalg.norm(outward, axis=1), 30.0, atol=0.3)
    cosine = (outward * normals).sum(1) / np.linalg.norm(outward, axis=1)
    assert cosine.min() > 0.9


def test_boundary_improves_a_poor_start():
    bold, mask, _, white = scene()
    start = TRUTH @ motion((2, -2, 1), (2, -1, 2))
    found = register_boundary(bold, white, start, bold_mask=mask)
    assert found.cost_final < found.cost_init
    assert error_mm(start, TRUTH).mean() > 2
    assert error_mm(found.t1w_to_bold, TRUTH).mean() < 0.8


def test_coregistration_finds_the_truth_within_a_millimetre():
    found = coregister_bold(*scene())
    assert found.method == "bbr"
    assert error_mm(found.t1w_to_bold, TRUTH).mean() < 0.8
    assert found.cost_final < found.cost_init


def test_partial_coverage_and_oblique_anisotropic_slab():
    bold, mask, t1w, white = scene(bold_grid=grid(3.0, (1, 1, 1.2), (-1, 1, 1), turn_deg=12))
    slab = np.s_[:, :, 10:32]
    affine = bold.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 10
    found = coregister_bold(
        Volume(bold.data[slab], affine), Volume(mask.data[slab], affine), t1w, white
    )
    assert error_mm(found.t1w_to_bold, TRUTH).mean() < 1.0


@pytest.mark.parametrize(
    ("moved", "costs", "word"),
    [(motion(mm=(0, 15, 0)), (0.8, 0.5), "implausible"),
     (motion((0, 15, 0)), (0.8, 0.5), "implausible"),
     (motion(mm=(0, 1, 0)), (0.5, 0.6), "sharpen")],
)  # fmt: skip
def test_doubtful_boundary_result_is_not_used(monkeypatch, moved, costs, word):
    def boundary(bold, white, init, **_):
        return BoundaryResult(moved @ init, *costs, 1000)

    monkeypatch.setattr(coregister, "register_boundary", boundary)
    found = coregister_bold(*scene())
    assert found.method == "nmi"
    assert word in found.reason
    assert error_mm(found.t1w_to_bold, TRUTH).mean() < 1.0


def test_without_white_matter_the_reason_is_given():
    bold, mask, t1w, white = scene()
    start = TRUTH @ motion(mm=(1, 1, 1))
    found = coregister_bold(bold, mask, t1w, white.like(white.data * 0), init=start)
    assert found.method == "nmi" and "no edge" in found.reason
    assert coregister_bold(bold, mask, t1w, None, init=start).method == "nmi"


def test_edge_outside_the_bold_image_is_refused():
    bold, mask, _, white = scene()
    with pytest.raises(InputError, match="outside the BOLD image"):
        register_boundary(bold, white, Affine(motion(mm=(500, 0, 0)).matrix), bold_mask=mask)
