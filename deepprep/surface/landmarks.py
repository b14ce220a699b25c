"""What tells gyri of the medial temporal lobe apart where folds do not: how near structures are.

The rhinal and collateral sulci are interrupted or doubled in many people, so that a registration by
folds alone ends a gyrus aside there. Next to the hippocampus and the amygdala lie the parahippocampal
and the entorhinal cortex, in everybody.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from deepprep.image.volume import Volume
from deepprep.segmentation.labels import mirrored

STRUCTURES = (17, 18)
"""FreeSurfer numbers of the left side: hippocampus, amygdala."""

REACH_MM = 8.0
"""Distance at which nearness has fallen to 1/e."""


def nearness(points_ras: np.ndarray, labels: Volume, side: str) -> np.ndarray:
    """How near points are to the structures of their side: 1 in them, 1/e at REACH_MM.

    Parameters
    ----------
    points_ras : (V, 3) array
        RAS mm.
    labels : Volume
        (X, Y, Z) FreeSurfer numbers (aseg).
    side : {'left', 'right'}

    Returns
    -------
    (V, K) float64 array
        One column for each of STRUCTURES; NaN where the labels do not have one (resected, outside
        of the image).
    """
    columns = []
    for structure in STRUCTURES:
        number = structure if side == "left" else mirrored(structure)
        voxels = np.argwhere(labels.data == number)
        if not len(voxels):
            columns.append(np.full(len(points_ras), np.nan))
            continue
        places = voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3]
        columns.append(np.exp(-cKDTree(places).query(points_ras)[0] / REACH_MM))
    return np.stack(columns, axis=1)
