"""A reconstructed hemisphere between two tasks: one uncompressed ``.npz``."""

from __future__ import annotations

import json
import os

import numpy as np
from fileformats.generic import File

from deepprep.interfaces.files import keep_arrays
from deepprep.surface.mesh import Mesh
from deepprep.surface.reconstruct import Hemisphere

HEMISPHERES = {"L": "lh", "R": "rh"}
SIDES = {"L": "left", "R": "right"}
"""Entity ``hemi`` -> FreeSurfer's prefix, word."""

MESHES = ("white", "pial", "smoothwm", "inflated", "midthickness")


def keep_hemisphere(hemisphere: Hemisphere, name: str) -> File:
    """Write a hemisphere as ``name`` in the task's folder."""
    arrays = {kind: getattr(hemisphere, kind).vertices for kind in MESHES}
    if hemisphere.orig is not None:
        arrays["orig"] = hemisphere.orig.vertices
    arrays |= {f"overlay_{k}": np.asarray(v) for k, v in hemisphere.overlays.items()}
    return keep_arrays(
        name,
        side=np.array(hemisphere.side),
        faces=hemisphere.white.faces,
        cortex=hemisphere.cortex,
        qc=np.array(json.dumps(hemisphere.qc, default=float)),
        **arrays,
    )


def load_hemisphere(path: str | os.PathLike) -> Hemisphere:
    """Read what :func:`keep_hemisphere` wrote."""
    with np.load(path, allow_pickle=False) as file:
        faces = file["faces"]
        overlays = {
            key.removeprefix("overlay_"): file[key] for key in file if key.startswith("overlay_")
        }
        meshes = {kind: Mesh(file[kind], faces) for kind in MESHES}
        return Hemisphere(
            side=str(file["side"]),
            cortex=file["cortex"],
            overlays=overlays,
            qc=json.loads(str(file["qc"])),
            orig=Mesh(file["orig"], faces) if "orig" in file else None,
            **meshes,
        )
