"""Quality measures with known answers."""

import numpy as np
import pandas as pd
import pytest

from deepprep.image.volume import Volume
from deepprep.quality.metrics import (
    anatomical_metrics,
    bold_metrics,
    dice,
    temporal_snr,
    tissue_overlap,
)
from deepprep.quality.table import BIDSIGNORE_LINE, read_metrics, write_metrics

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])  # 10 mm^3


def labels():
    data = np.zeros((10, 10, 10), np.uint8)
    data[1:4, 1:9, 1:9], data[4:7, 1:9, 1:9], data[7:9, 1:9, 1:9] = 1, 2, 3
    return Volume(data, AFFINE)


def test_volumes_and_contrast():
    dseg = labels()
    rng = np.random.default_rng(0)
    level = np.array([0.0, 60, 100, 20])[dseg.data]
    t1w = dseg.like((level + rng.normal(0, 5, dseg.shape)).astype(np.float32))
    mask = dseg.like((dseg.data > 0).astype(np.uint8))
    got = anatomical_metrics(t1w, mask, dseg, template_overlap={"GM": 0.8})
    assert got["volume_gm_ml"] == pytest.approx(3 * 64 * 10 / 1000)
    assert got["volume_csf_ml"] == pytest.approx(2 * 64 * 10 / 1000)
    assert got["volume_brain_ml"] == pytest.approx(8 * 64 * 10 / 1000)
    assert got["snr_wm"] == pytest.approx(100 / 5, rel=0.15)
    assert got["cnr"] == pytest.approx(40 / np.sqrt(75), rel=0.15)
    assert got["template_dice_gm"] == 0.8


def test_anatomy_without_a_tissue_gives_nan_not_an_error():
    dseg = labels()
    empty = dseg.like(np.zeros_like(dseg.data))
    got = anatomical_metrics(dseg.like(dseg.data.astype(np.float32)), empty, empty)
    assert got["volume_brain_ml"] == 0
    assert np.isnan([got["cnr"], got["snr_gm"], got["snr_wm"]]).all()


def bold_run(n_frames=200):
    dseg = labels()
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, (*dseg.shape, n_frames))
    sd = np.array([1.0, 4.0, 2.0, 10.0])[dseg.data]
    data = 200 + noise * sd[..., None]
    return Volume(data.astype(np.float32), AFFINE), dseg


def test_tsnr_of_each_tissue_is_mean_over_sd():
    bold, dseg = bold_run()
    mask = dseg.like((dseg.data > 0).astype(np.uint8))
    confounds = pd.DataFrame(
        {
            "framewise_displacement": [np.nan, *([0.1] * 149), *([0.7] * 50)],
            "std_dvars": [np.nan, *([1.0] * 189), *([2.0] * 10)],
            "dvars": 30.0,
        }
    )
    got = bold_metrics(bold, mask, dseg, confounds, coregistration_dice=0.95)
    assert got["tsnr_gm"] == pytest.approx(50, rel=0.05)
    assert got["tsnr_wm"] == pytest.approx(100, rel=0.05)
    assert got["fd_mean_mm"] == pytest.approx((149 * 0.1 + 50 * 0.7) / 199)
    assert got["fd_max_mm"] == 0.7
    assert got["fd_percent_above"] == pytest.approx(100 * 50 / 199)
    assert got["outlier_percent"] == pytest.approx(25)  # the DVARS outliers are among them
    assert got["dvars_mean"] == 30 and got["coregistration_dice"] == 0.95
    assert got["n_frames"] == 200


def test_tsnr_ignores_linear_drift_dummy_frames_and_dead_voxels():
    bold, dseg = bold_run(100)
    drift = bold.data + np.linspace(0, 60, 100)
    drift[..., :4] += 800
    drift[0] = 0
    drift[9] = 7
    drift[1, 1, 1] = np.nan
    got = temporal_snr(Volume(drift, AFFINE), n_dummy=4).data
    assert np.median(got[dseg.data == 2]) == pytest.approx(230 / 2, rel=0.06)
    assert not got[0].any() and not got[9].any() and got[1, 1, 1] == 0
    assert np.isfinite(got).all()


def test_tsnr_needs_frames():
    with pytest.raises(ValueError, match="three frames"):
        temporal_snr(Volume(np.ones((2, 2, 2, 4)), AFFINE), n_dummy=2)


def test_missing_confounds_are_nan():
    bold, dseg = bold_run(20)
    mask = dseg.like(np.zeros_like(dseg.data))
    got = bold_metrics(bold, mask, dseg, pd.DataFrame(index=range(20)))
    assert np.isnan([got["fd_mean_mm"], got["dvars_mean"], got["tsnr_brain"]]).all()
    assert got["outlier_percent"] == 0


def test_images_on_different_grids_are_refused():
    bold, dseg = bold_run(5)
    other = Volume(dseg.data, np.eye(4))
    with pytest.raises(ValueError, match="different grids"):
        bold_metrics(bold, other, dseg, pd.DataFrame(index=range(5)))


def test_dice():
    a = np.zeros((4, 4, 4), bool)
    b = a.copy()
    a[:2], b[1:3] = True, True
    assert dice(a, a) == 1 and dice(a, b) == 0.5 and dice(a, ~a) == 0
    assert np.isnan(dice(a & False, a & False))
    with pytest.raises(ValueError, match="cannot be compared"):
        dice(a, a[:2])
    assert tissue_overlap(labels().data, labels().data) == {"GM": 1.0, "WM": 1.0, "CSF": 1.0}


def test_table_is_read_back(tmp_path):
    metrics = {
        "sub-01_T1w": {"cnr": 3.25, "snr_gm": float("nan")},
        "sub-01_task-rest_bold": {"n_frames": 200},
    }
    path = write_metrics(tmp_path, "sub-01", metrics)
    assert path == tmp_path / "sub-01" / "sub-01_desc-qc_metrics.tsv"
    assert path.match(BIDSIGNORE_LINE)
    assert "snr_gm\tn/a" in path.read_text()
    got = read_metrics(path)
    assert got["sub-01_T1w"]["cnr"] == 3.25 and np.isnan(got["sub-01_T1w"]["snr_gm"])
    assert got["sub-01_task-rest_bold"] == {"n_frames": 200}


def test_table_stays_a_table_when_a_name_holds_a_tab(tmp_path):
    path = write_metrics(tmp_path, "01", {"a\tb\nc": {"x": 1.0}})
    assert read_metrics(path) == {"a b c": {"x": 1.0}}
