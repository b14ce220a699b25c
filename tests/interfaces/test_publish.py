"""Sidecars of anatomical derivatives."""

import json

import numpy as np
import pytest
from fileformats.generic import File

from deepprep.bids.inputs import collect
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import save_volume
from deepprep.interfaces.publish import PublishStandardAnatomy
from tests.bids.datasets import settings_for, write_dataset


@pytest.mark.parametrize(("method", "stripped"), [("input", True), ("deepbet", False)])
def test_a_stripped_input_is_stripped_in_template_space_too(tmp_path, method, stripped):
    (subject,) = collect(settings_for(write_dataset(tmp_path / "bids")))
    image = File(save_volume(Volume(np.ones((3, 3, 3), "f4"), np.eye(4)), tmp_path / "i.nii.gz"))
    for name, content in (("info", {"overlap_dice": {}}), ("mask", {"method": method})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "figure.svg").write_text("<svg/>")
    PublishStandardAnatomy(
        **dict.fromkeys(("t1w", "mask", "dseg", "gm", "wm", "csf", "jacobian"), image),
        info=File(tmp_path / "info.json"),
        figure=File(tmp_path / "figure.svg"),
        mask_info=File(tmp_path / "mask.json"),
        entities_of_space={"space": "MNI152NLin2009cAsym", "res": "2"},
        subject=subject.to_json(),
        out_dir=str(tmp_path / "out"),
        run_uuid="1",
        label="sub-01",
    )(cache_root=tmp_path / "cache")
    name = "sub-01_space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w.json"
    sidecar = json.loads((tmp_path / "out/sub-01/anat" / name).read_text())
    assert sidecar["SkullStripped"] is stripped
