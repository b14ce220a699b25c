"""Affine registration of two heads."""

from __future__ import annotations

from typing import Literal

from deepprep.image.volume import Volume
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.linear import Metric, fit_linear
from deepprep.registration.transforms import Affine

SPACINGS_MM = (4.0, 2.0)
"""Voxel sizes of the levels after the multi-start search."""


def register_affine(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    init: Literal["centre"] | Affine = "centre",
    metric: Metric = "nmi",
    dof: int = 12,
    labels: LabelPair | None = None,
    lesion: Volume | None = None,
    device: str = "cpu",
) -> Affine:
    """Find the affine map that takes fixed points to moving points.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z) images; best with both brains masked or stripped.
    fixed_mask, moving_mask : Volume, optional
        Brain masks (above 0.5 is inside) on any lattice; the image is zeroed outside.
    init : 'centre' or Affine
        ``'centre'`` aligns the centres of mass and searches 125 rotations with a free scale; an
        ``Affine`` (fixed to moving points) is refined locally.
    metric : {'nmi', 'ncc'}
        Normalised mutual information, or correlation for the same contrast.
    dof : {6, 7, 9, 12}
        Rigid; with one scale; with three scales; with shears too.
    labels : LabelPair, optional
        Segmentations of both heads: their centroids are one more start, good for any pose.
    lesion : Volume, optional
        Mask (above 0.5 is inside) in the moving space; what lies there does not count.
    device : str
        Unused: compiled CPU code takes a second or two. Kept so that all engines are called alike.

    Returns
    -------
    Affine
        Fixed RAS mm -> moving RAS mm: ``resample(moving, fixed.grid, result)`` aligns.

    Raises
    ------
    InputError
        An image or a mask is empty or constant.
    """
    return fit_linear(
        fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, init=init, metric=metric,
        dof=dof, spacings_mm=SPACINGS_MM, labels=labels, lesion=lesion,
    ).affine  # fmt: skip
