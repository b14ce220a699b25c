"""Names of the parcellations, and where those that are not in the package lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepprep.errors import MissingResourceError

if TYPE_CHECKING:
    import numpy as np

BUNDLED: Mapping[str, str] = {
    "aparc": "aparc",
    "a2009s": "aparc.a2009s",
    "schaefer100": "Schaefer2018_100Parcels_17Networks_order",
    "schaefer200": "Schaefer2018_200Parcels_17Networks_order",
    "schaefer400": "Schaefer2018_400Parcels_17Networks_order",
    "schaefer600": "Schaefer2018_600Parcels_17Networks_order",
    "hcp-mmp": "HCP-MMP1",
}
"""Parcellations in the package -> name of FreeSurfer's files (``lh.NAME.annot``)."""

FROM_FOLDER: Mapping[str, str] = {
    f"schaefer{n}": f"Schaefer2018_{n}Parcels_17Networks_order"
    for n in (300, 500, 700, 800, 900, 1000)
}
"""Parcellations whose annotations of fsaverage must lie in the models folder."""

ANNOTATIONS: Mapping[str, str] = {**BUNDLED, **FROM_FOLDER}
"""Parcellations of ``--surface-parcellation`` -> name of FreeSurfer's files."""

PARCELLATIONS = tuple(ANNOTATIONS)


def label_weights(name: str, labels: Sequence[str]) -> np.ndarray | None:
    """Natural logarithm of what a vote of each label of a parcellation counts.

    Parameters
    ----------
    name : str
        Of :data:`PARCELLATIONS`.
    labels : sequence of str
        Names of its labels.

    Returns
    -------
    (L,) float64 array or None
        None where all count the same. See ``training/atlases/weigh_parcels.py``.
    """
    import numpy as np

    file = Path(__file__).parent / "atlases" / f"{name}_weights.json"
    if name not in BUNDLED or not file.is_file():
        return None
    weights = json.loads(file.read_text())
    return np.array([float(weights.get(label, 0.0)) for label in labels])


def find_annotations(
    names: Sequence[str], models_dir: str | Path | None = None
) -> dict[str, dict[str, str]]:
    """Annotation files by parcellation and hemisphere (``lh``, ``rh``).

    Parameters
    ----------
    names : sequence of str
        Of :data:`PARCELLATIONS`; for those in the package there is nothing to find.
    models_dir : path, optional
        Folder searched; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    MissingResourceError
        When a file is not there.
    """
    from deepprep.nn.models import find_file, find_models_dir

    found: dict[str, dict[str, str]] = {}
    for name in names:
        if name in BUNDLED:
            continue
        folder = find_models_dir(models_dir)
        files = {hemi: f"{hemi}.{ANNOTATIONS[name]}.annot" for hemi in ("lh", "rh")}
        paths = {hemi: find_file(folder, file) for hemi, file in files.items()}
        if None in paths.values():
            raise MissingResourceError(
                f"--surface-parcellation {name} needs {' and '.join(files.values())} of fsaverage, "
                f"which are not both in {folder}: put them there (the Schaefer 2018 release of "
                "CBIG has them), or give another folder with --models-dir."
            )
        found[name] = {hemi: str(path) for hemi, path in paths.items()}
    return found
