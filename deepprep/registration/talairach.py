"""``talairach.xfm``: the affine to MNI space as MINC and FreeSurfer write it."""

from __future__ import annotations

import numpy as np

from deepprep.registration.transforms import Affine

_HEAD = (
    "MNI Transform File\n"
    "% T1w (scanner RAS mm) to MNI152NLin6Asym (RAS mm), by DeepPrep\n"
    "\n"
    "Transform_Type = Linear;\n"
    "Linear_Transform =\n"
)


def format_xfm(t1w_to_mni: Affine) -> str:
    """Text of a ``.xfm`` file.

    Parameters
    ----------
    t1w_to_mni : Affine
        Points of the T1w (RAS mm) -> points of MNI space (RAS mm). Unlike ITK files this is the
        direction of points and of RAS axes: FreeSurfer multiplies scanner RAS with it.
    """
    rows = [" ".join(f"{v:.9f}" for v in row) for row in t1w_to_mni.matrix[:3]]
    return _HEAD + "\n".join(rows) + ";\n"


def parse_xfm(text: str) -> Affine:
    """Read a linear ``.xfm``: points of the source -> points of MNI space, RAS mm.

    Raises
    ------
    ValueError
        If there is no linear transform of 12 numbers.
    """
    _, found, numbers = text.partition("Linear_Transform")
    values = numbers.replace("=", " ").split(";")[0].split()
    if not found or len(values) != 12:
        raise ValueError("the xfm file has no linear transform of 12 numbers")
    matrix = np.eye(4)
    matrix[:3] = np.array([float(v) for v in values]).reshape(3, 4)
    return Affine(matrix)
