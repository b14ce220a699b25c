"""FreeSurfer's annotation files, with colour table."""

from __future__ import annotations

import os
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from deepprep.interfaces.files import atomically


def write_annotation(
    path: str | os.PathLike, labels: np.ndarray, names: Sequence[str], colours: np.ndarray
) -> None:
    """Write ``?h.NAME.annot``.

    Parameters
    ----------
    path : path
    labels : (V,) int array
        Rows of the table; -1 where there is none.
    names : sequence of str
    colours : (L, 3 or 4) uint8 array
        Red, green, blue and transparency; each colour once, since the file tells labels by colour.

    Raises
    ------
    ValueError
        Where a label has no row, or two rows have one colour.
    """
    labels = np.asarray(labels)
    colours = np.asarray(colours)
    table = np.zeros((len(colours), 4), dtype=np.int64)
    table[:, : colours.shape[1]] = colours
    if len(names) != len(table):
        raise ValueError(f"{len(names)} names for {len(table)} colours")
    if len(labels) and (labels.min() < -1 or labels.max() >= len(names)):
        raise ValueError("a vertex has a label that is not in the table")
    used = np.unique(labels[labels >= 0])
    codes = table[:, 0] + 256 * table[:, 1] + 65536 * table[:, 2]
    if len(np.unique(codes[used])) < len(used):
        raise ValueError(
            "two parcels have one colour: an annotation file could not tell them apart"
        )
    words = [n.encode() for n in names]
    atomically(
        path,
        lambda part: nib.freesurfer.write_annot(
            part, labels.astype(np.int32), table, words, fill_ctab=True
        ),
    )


def read_annotation(path: str | os.PathLike) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Labels (V,), names and colours (L, 4) of an annotation file."""
    labels, table, names = nib.freesurfer.read_annot(path)
    return labels.astype(np.int32), tuple(n.decode() for n in names), table[:, :4].astype(np.uint8)
