"""Head motion against positions known by construction."""

import numpy as np
import pytest

from deepprep.bold.head_motion import estimate_head_motion
from deepprep.image.volume import Volume
from tests.bold import simulated


def _wandering(n: int, mm: float, degrees: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([
        simulated.rigid(random.uniform(-mm, mm, 3), np.deg2rad(random.uniform(-degrees, degrees, 3)))
        for _ in range(n)
    ])  # fmt: skip


@pytest.mark.parametrize(
    "lattice",
    [
        simulated.grid(),
        simulated.grid(flip_x=True),
        simulated.grid(zooms=(3.5, 3.5, 7.0), shape=(50, 58, 22), oblique_rad=(0.2, -0.1, 0.15)),
    ],
    ids=["RAS", "LAS", "oblique thick slices"],
)
def test_several_mm_and_degrees_are_found(lattice):
    truth = _wandering(5, mm=6.0, degrees=5.0)
    frames = simulated.series(lattice, truth)
    noise = np.random.default_rng(1).normal(scale=20.0, size=frames.shape)
    frames = frames.like((frames.data + noise).astype(np.float32))
    reference = Volume(simulated.frame(lattice), lattice.affine)
    mask = reference.like(reference.data > 300)

    found = estimate_head_motion(frames, reference, mask)

    mm, degrees = simulated.errors(found.affines, truth)
    assert np.sqrt((mm**2).mean()) < 0.1
    assert np.sqrt((degrees**2).mean()) < 0.1
    assert (found.correlation > 0.98).all()


def test_direction_is_reference_points_to_frame_points():
    lattice = simulated.grid()
    moved = simulated.rigid(np.array([3.0, 0, 0]), np.zeros(3))
    found = estimate_head_motion(
        simulated.series(lattice, moved[np.newaxis]),
        Volume(simulated.frame(lattice), lattice.affine),
    )
    point = np.append(simulated.CENTRE, 1.0)
    # The head went 3 mm to the right, so its reference points are met 3 mm further right.
    assert (found.affines[0] @ point)[:3] - simulated.CENTRE == pytest.approx([3, 0, 0], abs=0.02)


def test_gain_and_offset_do_not_move_the_head():
    lattice = simulated.grid()
    reference = Volume(simulated.frame(lattice), lattice.affine)
    frames = np.stack([reference.data * 1.4 + 120, reference.data * 0.6 - 30], axis=-1)
    found = estimate_head_motion(reference.like(frames), reference, reference.data > 300)
    mm, degrees = simulated.errors(found.affines, np.tile(np.eye(4), (2, 1, 1)))
    assert mm.max() < 0.005 and degrees.max() < 0.005


def test_same_input_gives_same_bits():
    lattice = simulated.grid()
    frames = simulated.series(lattice, _wandering(3, 2.0, 2.0))
    reference = Volume(simulated.frame(lattice), lattice.affine)
    first = estimate_head_motion(frames, reference, n_threads=1)
    second = estimate_head_motion(frames, reference, n_threads=2)
    assert np.array_equal(first.affines, second.affines)


def test_nan_voxels_and_a_blank_frame_do_not_break_the_others():
    lattice = simulated.grid()
    truth = _wandering(3, 2.0, 2.0)
    data = simulated.series(lattice, truth).data
    data[0, :, :, 0] = np.nan
    data[..., 1] = 0
    reference = Volume(simulated.frame(lattice), lattice.affine)
    found = estimate_head_motion(reference.like(data), reference)
    mm, _ = simulated.errors(found.affines, truth)
    assert np.isfinite(found.affines).all()
    assert mm[[0, 2]].max() < 0.1
    assert found.correlation[1] < 0.8


def test_empty_mask_and_flat_reference_are_refused():
    lattice = simulated.grid()
    reference = Volume(simulated.frame(lattice), lattice.affine)
    frames = reference.like(reference.data[..., np.newaxis])
    with pytest.raises(ValueError, match="non-empty mask"):
        estimate_head_motion(frames, reference, np.zeros(reference.shape, bool))
    flat = reference.like(np.full(reference.shape, 5.0, np.float32))
    with pytest.raises(ValueError, match="flat"):
        estimate_head_motion(frames, flat, np.ones(reference.shape, bool))
