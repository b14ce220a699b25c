"""The tasks of a lesion mask, and what the normalisation does with it."""

import json
from pathlib import Path

import numpy as np
import pytest
from fileformats.generic import File

from deepprep.bids.records import Image, SubjectInputs
from deepprep.image.volume import Volume
from deepprep.interfaces.anatomy import Normalise
from deepprep.interfaces.lesion import FillLesion, PlaceLesion, PublishLesion
from deepprep.interfaces.nifti import load_volume, save_volume
from deepprep.registration.itk import read_composite
from tests.registration.heads import T1W, grid, paint, tissue

ZOOM = 3.0


def file_of(volume, path):
    return File(save_volume(volume, path))


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A head with a dark ball of 30 ml on its left, on a lattice of 3 mm, and the mask of it."""
    folder = tmp_path_factory.mktemp("sick")
    head = paint(grid(ZOOM), T1W)
    labels = head.like(np.array([0, 24, 3, 2], np.uint8)[tissue(grid(ZOOM)).data])
    away = np.linalg.norm(head.grid.points_ras() - (-20, 10, 0), axis=-1)
    lesion = head.like((away < 19).astype(np.uint8))
    dark = head.like(np.where(lesion.data > 0, 5, head.data).astype(np.float32))
    files = {
        "healthy": file_of(head, folder / "healthy.nii"),
        "t1w": file_of(dark, folder / "sub-01_T1w.nii.gz"),
        "mask": file_of(head.like((labels.data > 0).astype(np.uint8)), folder / "mask.nii"),
        "labels": file_of(labels, folder / "aseg.nii"),
        "lesion": file_of(lesion, folder / "sub-01_label-lesion_roi.nii.gz"),
    }
    (folder / "conform.json").write_text(
        json.dumps({"t1w_to_orig": {"sub-01_T1w.nii.gz": np.eye(4).tolist()}})
    )
    return {**files, "info": File(folder / "conform.json"), "folder": folder}


def place(sick, masks, cache):
    return PlaceLesion(
        masks=masks, originals=[sick["t1w"]], t1w=sick["t1w"], brain=sick["mask"],
        conform_info=sick["info"], label="sub-01",
    )(cache_root=cache)  # fmt: skip


def test_the_mask_is_measured_shown_and_written(sick, tmp_path):
    placed = place(sick, [sick["lesion"]], tmp_path)
    info = json.loads(Path(str(placed.info)).read_text())
    drawn = load_volume(str(sick["lesion"]))
    np.testing.assert_array_equal(load_volume(str(placed.lesion)).data, drawn.data)
    assert info["ml"] == pytest.approx(drawn.data.sum() * ZOOM**3 / 1000)
    assert info["share_in_brain"] > 0.9
    assert info["warnings"] == []
    assert "lesion mask" in Path(str(placed.figure)).read_text()

    subject = SubjectInputs(
        label="01",
        t1w=(Image(path="/data/sub-01/anat/sub-01_T1w.nii.gz", entities={"sub": "01"}),),
        lesions=(Image(path="/elsewhere/drawn.nii.gz", entities={}),),
    )
    out = tmp_path / "out"
    record = PublishLesion(
        lesion=placed.lesion, info=placed.info, figure=placed.figure, filled=None,
        filled_figure=None, subject=subject.to_json(), out_dir=str(out), run_uuid="r",
        bids_dir="/data", label="sub-01",
    )(cache_root=tmp_path)  # fmt: skip
    written = json.loads(Path(record.record).read_text())
    assert "sub-01/anat/sub-01_label-lesion_mask.nii.gz" in written["files"]
    assert "sub-01/figures/sub-01_desc-lesion_T1w.svg" in written["files"]
    assert "cost-function masking" in written["steps"][0]["text"]
    sidecar = json.loads((out / "sub-01/anat/sub-01_label-lesion_mask.json").read_text())
    assert sidecar["Sources"] == ["drawn.nii.gz"]  # and not where the user keeps it


def test_a_mask_on_another_lattice_or_outside_the_brain_is_warned_about(sick, tmp_path):
    drawn = load_volume(str(sick["lesion"]))
    cut = Volume(drawn.data[1:, 1:, 1:], drawn.affine @ _shift(1))
    moved = file_of(cut, tmp_path / "sub-01_label-lesion_roi.nii.gz")
    info = json.loads(Path(str(place(sick, [moved], tmp_path).info)).read_text())
    assert "another lattice" in info["warnings"][0]
    corner = np.zeros(cut.shape, np.uint8)
    corner[:3, :3, :3] = 1
    outside = file_of(cut.like(corner), tmp_path / "sub-01_desc-lesion_roi.nii.gz")
    info = json.loads(Path(str(place(sick, [outside], tmp_path).info)).read_text())
    assert "No part of the lesion lies in the brain mask" in info["warnings"][1]


def test_a_filled_head_is_written_shown_and_told(sick, tmp_path):
    placed = place(sick, [sick["lesion"]], tmp_path)
    filled = FillLesion(
        t1w=sick["t1w"], mask=sick["mask"], lesion=placed.lesion, placed=placed.info,
        how="white", seed=0, label="sub-01",
    )(cache_root=tmp_path)  # fmt: skip
    info = json.loads(Path(str(filled.info)).read_text())
    assert info["filled"] == "white"
    assert info["ml"] == json.loads(Path(str(placed.info)).read_text())["ml"]
    inside = (load_volume(str(sick["lesion"])).data > 0) & (load_volume(str(sick["mask"])).data > 0)
    assert load_volume(str(filled.t1w)).data[inside].mean() == pytest.approx(T1W[2], rel=0.05)
    np.testing.assert_array_equal(
        load_volume(str(filled.mask)).data, load_volume(str(sick["mask"])).data
    )
    subject = SubjectInputs(
        label="01",
        t1w=(Image(path="/data/sub-01/anat/sub-01_T1w.nii.gz", entities={"sub": "01"}),),
        lesions=(Image(path="/elsewhere/drawn.nii.gz", entities={}),),
    )
    record = PublishLesion(
        lesion=placed.lesion, info=filled.info, figure=placed.figure, filled=filled.t1w,
        filled_figure=filled.figure, subject=subject.to_json(), out_dir=str(tmp_path / "out"),
        run_uuid="r", bids_dir="/data", label="sub-01",
    )(cache_root=tmp_path)  # fmt: skip
    written = json.loads(Path(record.record).read_text())
    assert "sub-01/anat/sub-01_desc-filled_T1w.nii.gz" in written["files"]
    assert "sub-01/figures/sub-01_desc-filled_T1w.svg" in written["files"]
    sidecar = json.loads((tmp_path / "out/sub-01/anat/sub-01_desc-filled_T1w.json").read_text())
    assert sidecar["LesionFilledWith"] == "white"
    assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz", "drawn.nii.gz"]
    assert [step["name"] for step in written["steps"]] == ["lesion", "lesion_filled"]


def _shift(voxels):
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return matrix


@pytest.mark.slow
def test_the_lesion_does_not_pull_the_normalisation(sick, tmp_path):
    """To a template that is the healthy head: nothing should move, with the mask."""
    placed = place(sick, [sick["lesion"]], tmp_path)
    template = {"brain": sick["healthy"], "mask": sick["mask"], "aseg": sick["labels"]}
    errors = {}
    for name, lesion in (("with", placed.lesion), ("without", None)):
        found = Normalise(
            t1w=sick["t1w"], mask=sick["mask"], gm=sick["mask"], wm=sick["mask"],
            csf=sick["mask"], labels=sick["labels"], template="healthy",
            template_files=template, lesion=lesion, engine="refine", files=[],
            weights=[], device="cpu", seed=0, label="sub-01",
        )(cache_root=tmp_path)  # fmt: skip
        mask = load_volume(str(sick["mask"]))
        points = np.argwhere(mask.data > 0)[::7] @ mask.affine[:3, :3].T + mask.affine[:3, 3]
        moved = read_composite(str(found.to_template)).map_points(points)
        errors[name] = float(np.linalg.norm(moved - points, axis=1).mean())
    assert errors["with"] < 0.5
    assert errors["with"] < errors["without"]
