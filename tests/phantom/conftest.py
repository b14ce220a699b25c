"""A small head made of shells, and a phantom simulated from it."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.phantom.dataset import write_dataset
from deepprep.phantom.simulate import PhantomOptions, simulate

OPTIONS = PhantomOptions(
    n_frames=40, shape=(32, 32, 16), zooms_mm=(6.0, 6.0, 8.0), peak_field_hz=40.0, tsnr=120.0
)


def shell_head(zoom_mm: float = 3.0) -> tuple[Volume, np.ndarray]:
    """Ellipsoids: scalp, skull, CSF, folded grey matter, white matter, ventricle, a sinus."""
    shape = (64, 76, 68)
    affine = np.diag([zoom_mm, zoom_mm, zoom_mm, 1.0])
    affine[:3, 3] = [-95.0, -110.0, -90.0]
    points = nib.affines.apply_affine(affine, np.indices(shape).reshape(3, -1).T)

    def ellipsoid(a, b, c, at=(0.0, 0.0, 0.0)):
        return (((points - at) / [a, b, c]) ** 2).sum(axis=1).reshape(shape) <= 1

    x, y, z = points.T
    ripple = (4 * np.sin(x / 9) * np.sin(y / 8) * np.cos(z / 10)).reshape(shape)
    radius = np.sqrt((points / [52, 68, 50]) ** 2 @ np.ones(3)).reshape(shape) * 55 + ripple
    data = np.zeros(shape, np.float32)
    data[ellipsoid(80, 98, 78)] = 170
    data[ellipsoid(75, 93, 73)] = 8
    brain = ellipsoid(66, 82, 64)
    data[brain] = 45
    data[brain & (radius < 66)] = 110
    data[brain & (radius < 50)] = 160
    data[ellipsoid(9, 20, 8, (0, 0, 5))] = 45
    data[ellipsoid(14, 14, 10, (0, 76, -42))] = 1
    return Volume(data, affine), brain


@pytest.fixture(scope="session")
def simulated():
    head, brain = shell_head()
    return simulate(head, OPTIONS, seed=3, brain=brain)


@pytest.fixture(scope="session")
def phantom_dir(simulated, tmp_path_factory):
    return write_dataset(simulated, tmp_path_factory.mktemp("phantom") / "bids", "shells", 3)
