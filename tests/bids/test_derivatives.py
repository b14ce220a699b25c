"""File names against niworkflows' patterns, and the side files."""

import json
from importlib.resources import files

import pytest

from deepprep.bids.derivatives import (
    anatomical_entities,
    bids_uri,
    derivative_path,
    write_dataset_description,
    write_sidecar,
)
from deepprep.bids.inputs import entities_of
from deepprep.bids.records import Image

T1W = entities_of("/d/sub-01/anat/sub-01_acq-mprage_run-1_T1w.nii.gz")
BOLD = entities_of("/d/sub-01/ses-a/func/sub-01_ses-a_task-rest_dir-AP_run-02_bold.nii.gz")
LONG = {"sub": "subject", "ses": "session", "acq": "acquisition", "ce": "ceagent"} | {
    "rec": "reconstruction",
    "dir": "direction",
    "res": "resolution",
    "den": "density",
}
MNI = {"space": "MNI152NLin2009cAsym", "res": "2"}

CASES = [
    (T1W, {"suffix": "T1w", "desc": "preproc"}, "desc-preproc_T1w.nii.gz"),
    (
        T1W,
        {"suffix": "T1w", "desc": "preproc", **MNI},
        "space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w.nii.gz",
    ),
    (T1W, {"suffix": "mask", "desc": "brain"}, "desc-brain_mask.nii.gz"),
    (T1W, {"suffix": "dseg", **MNI}, "space-MNI152NLin2009cAsym_res-2_dseg.nii.gz"),
    (
        T1W,
        {"suffix": "probseg", "label": "GM", **MNI},
        "space-MNI152NLin2009cAsym_res-2_label-GM_probseg.nii.gz",
    ),
    (
        T1W,
        {
            "suffix": "xfm",
            "from_": "T1w",
            "to": "MNI152NLin2009cAsym",
            "mode": "image",
            "extension": ".h5",
        },
        "from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5",
    ),
    (
        T1W,
        {"suffix": "T1w", "desc": "preproc", "space": "MNIPediatricAsym", "cohort": "1"},
        "space-MNIPediatricAsym_cohort-1_desc-preproc_T1w.nii.gz",
    ),
    (BOLD, {"suffix": "boldref", "desc": "hmc"}, "desc-hmc_boldref.nii.gz"),
    (
        BOLD,
        {"suffix": "bold", "desc": "preproc", **MNI},
        "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz",
    ),
    (
        BOLD,
        {"suffix": "bold", "desc": "preproc", "space": "MNI152NLin2009cAsym", "res": "native"},
        "space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
    ),
    (BOLD, {"suffix": "mask", "desc": "brain", "space": "T1w"}, "space-T1w_desc-brain_mask.nii.gz"),
    (
        BOLD,
        {
            "suffix": "xfm",
            "from_": "boldref",
            "to": "T1w",
            "mode": "image",
            "desc": "coreg",
            "extension": ".txt",
        },
        "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
    ),
    (
        BOLD,
        {
            "suffix": "xfm",
            "from_": "orig",
            "to": "boldref",
            "mode": "image",
            "desc": "hmc",
            "extension": ".txt",
        },
        "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
    ),
    (
        BOLD,
        {"suffix": "timeseries", "desc": "confounds", "extension": ".tsv"},
        "desc-confounds_timeseries.tsv",
    ),
    (
        BOLD,
        {"suffix": "fieldmap", "desc": "preproc", "fmapid": "auto00000", "datatype": "fmap"},
        None,
    ),
]


@pytest.mark.parametrize(("source", "entities", "ending"), CASES)
def test_name_is_what_niworkflows_patterns_give(source, entities, ending):
    from bids.layout.writing import build_path

    path = derivative_path("/out", source, **entities)
    if ending is not None:
        assert path.name.endswith(f"_{ending}")
    patterns = json.loads((files("niworkflows") / "data/nipreps.json").read_text())
    values = {**source, "extension": ".nii.gz", **entities}
    values["from"] = values.pop("from_", None)
    if values.get("res") == "native":
        del values["res"]
    if values["datatype"] == "fmap":
        del values["task"]
        source = {k: v for k, v in source.items() if k != "task"}
        path = derivative_path("/out", source, **entities)
    wanted = {LONG.get(k, k): v for k, v in values.items() if v is not None}
    assert build_path(wanted, patterns["default_path_patterns"]) == str(path.relative_to("/out"))


def test_figures_have_no_session_folder():
    path = derivative_path(
        "/out", BOLD, suffix="bold", desc="carpetplot", datatype="figures", extension=".svg"
    )
    assert str(path) == (
        "/out/sub-01/figures/sub-01_ses-a_task-rest_dir-AP_run-02_desc-carpetplot_bold.svg"
    )


def test_dismissed_entities_fall_away():
    path = derivative_path("/out", BOLD, suffix="bold", desc="preproc", dismiss=("dir", "run"))
    assert path.name == "sub-01_ses-a_task-rest_desc-preproc_bold.nii.gz"


def test_a_value_that_bids_does_not_allow_is_an_error():
    with pytest.raises(ValueError, match="desc-a_b is not allowed"):
        derivative_path("/out", BOLD, suffix="bold", desc="a_b")
    with pytest.raises(ValueError, match="no 'sub'"):
        derivative_path("/out", {}, suffix="bold")


def test_anatomical_entities_of_one_and_of_several_t1w():
    one = Image("/d/x", entities=entities_of("/d/sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz"))
    two = Image("/d/y", entities=entities_of("/d/sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz"))
    assert anatomical_entities([one]) == {
        "sub": "01",
        "ses": "1",
        "run": "1",
        "datatype": "anat",
    }
    assert anatomical_entities([one, two]) == {"sub": "01", "datatype": "anat"}
    assert anatomical_entities([one, two], "1") == {"sub": "01", "ses": "1", "datatype": "anat"}


def test_sidecar_lies_beside_its_file(tmp_path):
    import numpy as np

    for name in ("x_bold.nii.gz", "x_bold.tsv", "x_bold.dtseries.nii", "x_bold.func.gii"):
        path = write_sidecar(tmp_path / name, {"TR": np.float32(2), "A": np.arange(2)})
        assert path.name == "x_bold.json"
        assert json.loads(path.read_text()) == {"TR": 2.0, "A": [0, 1]}
    assert [p.name for p in tmp_path.iterdir()] == ["x_bold.json"]


def test_dataset_description_and_bidsignore(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    (raw / "dataset_description.json").write_text(
        json.dumps({"Name": "n", "BIDSVersion": "1", "License": "CC0", "DatasetDOI": "doi:10/x"})
    )
    description = json.loads(write_dataset_description(out, raw).read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "DeepPrep"
    assert description["DatasetLinks"] == {"raw": raw.as_uri()}
    assert description["License"] == "CC0"
    assert description["SourceDatasets"] == [{"DOI": "doi:10/x"}]
    assert "*_boldref.nii.gz" in (out / ".bidsignore").read_text().splitlines()


def test_bids_uri():
    assert bids_uri("/d/sub-01/anat/x.nii.gz", "/d") == "bids:raw:sub-01/anat/x.nii.gz"


def test_pybids_reads_the_names_back(tmp_path):
    from bids import BIDSLayout

    write_dataset_description(tmp_path, tmp_path)
    path = derivative_path(tmp_path, BOLD, suffix="bold", desc="preproc", **MNI)
    path.parent.mkdir(parents=True)
    path.touch()
    layout = BIDSLayout(tmp_path, validate=False, config=["bids", "derivatives"])
    (found,) = layout.get(space="MNI152NLin2009cAsym", desc="preproc", suffix="bold", run=2)
    assert found.path == str(path)
