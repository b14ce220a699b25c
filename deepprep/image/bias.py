"""Intensity non-uniformity: N4 on a coarse lattice, applied at full resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.volume import Volume

WORKING_ZOOM_MM = 4.0
"""The bias field is smooth: N4 runs on voxels of about this size."""

ITERATIONS = (40, 30, 30, 20)
"""N4 iterations per fitting level."""

CONTROL_POINTS = 4
"""Control points per axis at the coarsest level (one cubic span); every level doubles the spans."""

LOG_BIAS_MARGIN = 0.1
"""How far outside the mask the log field may leave its range inside the mask."""


@dataclass(frozen=True)
class BiasCorrection:
    """Result of :func:`correct_bias`.

    Parameters
    ----------
    corrected : Volume
        float32 image, median inside the mask as in the input.
    log_bias : (X, Y, Z) float32 array
        Natural logarithm of the estimated multiplicative field, zero median in the mask.
    """

    corrected: Volume
    log_bias: np.ndarray


def correct_bias(volume: Volume, mask: np.ndarray) -> BiasCorrection:
    """Correct a smooth multiplicative intensity field with N4 (Tustison et al. 2010).

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) non-negative image.
    mask : (X, Y, Z) bool array
        Voxels the field is estimated from (the brain).

    Returns
    -------
    BiasCorrection

    Raises
    ------
    ValueError
        If the mask holds no positive voxel.

    References
    ----------
    Tustison NJ et al. N4ITK: improved N3 bias correction. IEEE TMI 29:1310-1320, 2010.
    """
    import SimpleITK as sitk

    data = np.nan_to_num(volume.data.astype(np.float32))
    use = mask.astype(bool) & (data > 0)
    if not use.any():
        raise ValueError("the mask holds no positive voxel, the bias field cannot be estimated")
    floor = 1e-3 * float(np.median(data[use]))
    image = sitk.GetImageFromArray(np.maximum(data, floor).transpose(2, 1, 0))
    image.SetSpacing([float(z) for z in volume.zooms_mm])
    where = sitk.GetImageFromArray(use.astype(np.uint8).transpose(2, 1, 0))
    where.CopyInformation(image)
    shrink = [max(1, round(WORKING_ZOOM_MM / z)) for z in volume.zooms_mm]
    # Bin averaging keeps the noise low; a mask voxel counts when most of it is inside.
    small = sitk.BinShrink(image, shrink)
    small_mask = sitk.BinShrink(sitk.Cast(where, sitk.sitkFloat32), shrink) > 0.5
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    n4.SetNumberOfControlPoints([CONTROL_POINTS] * 3)
    n4.SetConvergenceThreshold(1e-6)
    # One thread keeps the result equal whatever the machine offers; the lattice is small.
    n4.SetNumberOfThreads(1)
    n4.Execute(small, small_mask)
    coarse = n4.GetLogBiasFieldAsImage(small)
    # The field is smooth on the working lattice: interpolating it costs no accuracy and is
    # a hundred times faster than evaluating the splines at every voxel.
    fine = sitk.Resample(
        coarse, image, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True
    )
    log_bias = sitk.GetArrayFromImage(fine).transpose(2, 1, 0)
    log_bias -= np.float32(np.median(log_bias[use]))
    low, high = np.percentile(log_bias[use], [0.1, 99.9])
    log_bias = np.clip(log_bias, low - LOG_BIAS_MARGIN, high + LOG_BIAS_MARGIN)
    corrected = (data * np.exp(-log_bias)).astype(np.float32)
    return BiasCorrection(volume.like(corrected), np.ascontiguousarray(log_bias))
