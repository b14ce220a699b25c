"""The thin white matter between hippocampus or amygdala and the cortex beneath them.

The angular bundle under entorhinal and parahippocampal cortex is a millimetre or less thick: a
segmentation at 1 mm gives it to its neighbours, and cortex that has no white matter beneath it
gets no white surface. For the surfaces, a sheet of white matter is laid where the two meet.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.tissue import bounding_box
from deepprep.surface.filled import CORTEX, WHITE
from deepprep.surface.white_level import white_part

ABOVE = {"left": (17, 18), "right": (53, 54)}
"""Hippocampus and amygdala."""

REACH_MM = 2.0
"""The sheet lies within this distance of cortex and of the structures above it."""

SHEET_MM = 1.0
"""Thickness that it has at least, on the side of hippocampus and amygdala."""

WHITE_PART = 0.3
"""Voxels with more white matter than this, by their intensity, belong to the sheet as well."""

FLUID_PART = -0.1
"""Darker voxels are fluid in part, as in the hippocampal fissure, and belong to no sheet."""

MARGIN_MM = 15.0
"""Room around the structures in which the levels of white matter and cortex are measured."""

FEWEST = 200
"""Voxels of white matter and of cortex without which nothing is done."""


def with_white_sheet(labels: Volume, image: Volume, side: str) -> Volume:
    """Labels for the surfaces of one side, with white matter between cortex and what lies above.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers (aseg), any orientation and voxel size.
    image : Volume
        Bias-corrected T1w on the same lattice.
    side : {'left', 'right'}

    Returns
    -------
    Volume
        The labels; voxels of cortex, hippocampus or amygdala of this side that belong to the sheet
        are its white matter. The same object where the structures do not meet.

    Raises
    ------
    ValueError
        If white matter is not brighter than cortex.
    """
    zooms = labels.zooms_mm
    above = np.isin(labels.data, ABOVE[side])
    if not above.any():
        return labels
    pad = np.ceil(MARGIN_MM / zooms).astype(int)
    box = bounding_box(above, 1 + pad)
    data, above = np.asarray(labels.data[box]), above[box]
    cortex = np.isin(data, CORTEX[side])
    if min(cortex.sum(), np.isin(data, WHITE[side]).sum()) < FEWEST:
        return labels
    to_above, to_cortex = (
        ndimage.distance_transform_edt(~mask, sampling=zooms) for mask in (above, cortex)
    )
    meet = (above | cortex) & (to_above <= REACH_MM) & (to_cortex <= REACH_MM)
    part = white_part(np.nan_to_num(np.asarray(image.data[box], np.float32)), data, side, zooms)
    # at least one voxel however large it is
    thick = max(SHEET_MM, float(zooms.max())) * 1.01
    sheet = meet & (part > FLUID_PART) & ((part > WHITE_PART) | (above & (to_cortex <= thick)))
    if not sheet.any():
        return labels
    out = np.array(labels.data)
    out[box][sheet] = WHITE[side][0]
    return labels.like(out)
