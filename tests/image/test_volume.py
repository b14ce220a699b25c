"""Volumes and lattices."""

import nibabel as nib
import numpy as np

from deepprep.image.volume import Volume


def test_a_part_keeps_its_place_and_is_cut_at_the_border():
    affine = nib.affines.from_matvec(
        [[0.0, -2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]], [10.0, 20.0, 30.0]
    )
    volume = Volume(np.arange(4 * 5 * 6).reshape(4, 5, 6), affine)
    part = volume.part((slice(1, 3), slice(2, 99), slice(0, 6)))
    assert part.shape == part.grid.shape == (2, 3, 6)
    np.testing.assert_array_equal(part.data, volume.data[1:3, 2:, :])
    np.testing.assert_array_equal(part.grid.points_ras(), volume.grid.points_ras()[1:3, 2:, :])
