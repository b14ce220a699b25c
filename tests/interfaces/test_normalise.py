"""The normalisation task with each engine, SynthMorph's networks with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from fileformats.generic import File

from deepprep.interfaces.anatomy import Normalise
from deepprep.interfaces.nifti import load_volume, save_volume
from deepprep.registration.engines import COMPACT_FILE
from deepprep.registration.itk import read_composite
from tests.registration.heads import T1W, grid, motion, paint, tissue
from tests.registration.synthmorph.random_weights import (
    deformation_layers,
    detector_layers,
    keras_file,
)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["official", "own"])
@pytest.mark.parametrize("engine", ["synthmorph", "synthmorph+refine"])
def test_networks_are_run_and_then_refined_unless_skipped(engine, network, tmp_path):
    rng = np.random.default_rng(4)
    if network == "official":
        keras_file(tmp_path / "affine.h5", detector_layers(4, 24, rng))
        keras_file(tmp_path / "deform.h5", deformation_layers(3, rng, gain=2.0))
        weights = [str(tmp_path / "affine.h5"), str(tmp_path / "deform.h5")]
    else:
        weights = [str(COMPACT_FILE)]
    files = {}
    for name, pose in (("fixed", None), ("moving", motion((0, 0, 4), (3, 0, 2)))):
        head, classes = paint(grid(3.0), T1W, pose), tissue(grid(3.0), pose)
        labels = head.like(np.array([0, 24, 3, 2], np.uint8)[classes.data])
        for kind, volume in (("t1w", head), ("aseg", labels)):
            files[f"{name}_{kind}"] = File(save_volume(volume, tmp_path / f"{name}_{kind}.nii"))
        # the middle of the head is enough, and a small lattice
        middle = np.linalg.norm(head.grid.points_ras(), axis=-1) < 33
        inside = head.like((middle & (labels.data > 0)).astype(np.uint8))
        files[f"{name}_mask"] = File(save_volume(inside, tmp_path / f"{name}_mask.nii"))
    mask = files["moving_mask"]
    found = Normalise(
        t1w=files["moving_t1w"], mask=mask, gm=mask, wm=mask, csf=mask,
        labels=files["moving_aseg"], template="egg",
        template_files={k: files[f"fixed_{f}"] for k, f in
                        (("brain", "t1w"), ("mask", "mask"), ("aseg", "aseg"))},
        lesion=None, engine=engine,
        files=weights, weights=["1"] * len(weights),
        device="cpu", seed=0, label="sub-01",
    )(cache_root=tmp_path / "cache")  # fmt: skip
    info = json.loads(Path(str(found.info)).read_text())
    assert (info["engine"], info["network"]) == (engine, network)
    assert info["smallest_jacobian"] > 0
    there, back = (read_composite(str(f)) for f in (found.to_template, found.to_t1w))
    fixed_mask = load_volume(str(files["fixed_mask"]))
    points = np.argwhere(fixed_mask.data > 0)[::11] * 3.0 + fixed_mask.affine[:3, 3]
    error = np.linalg.norm(back.map_points(there.map_points(points)) - points, axis=1)
    assert error.mean() < 0.1
    if engine == "synthmorph":
        assert info["driven_by"] == "networks"
        assert info["levels"] == []
    else:
        assert info["driven_by"] == "image and brain structures"
        assert [level["spacing_mm"] for level in info["levels"]] == [2.0, 1.5, 1.0]
        level = info["levels"][-1]
        assert level["agreement_end"] >= level["agreement_start"]
