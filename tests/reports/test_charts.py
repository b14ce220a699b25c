"""Carpet, confound correlations and CompCor variance."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from deepprep.image.volume import Volume
from deepprep.reports import charts

RNG = np.random.default_rng(1)


def series(n_frames=40):
    data = 100 + RNG.standard_normal((8, 8, 8, n_frames)).astype(np.float32)
    labels = np.zeros((8, 8, 8), np.int16)
    labels[1:4], labels[4:6], labels[6:7] = 1, 2, 3
    return Volume(data, np.eye(4)), labels


def table(n_frames=40):
    names = ["global_signal", "csf", "white_matter", "std_dvars", "framewise_displacement"]
    frame = pd.DataFrame(RNG.random((n_frames, len(names))), columns=names)
    frame.loc[0, ["std_dvars", "framewise_displacement"]] = np.nan
    return frame


def texts(path):
    return " ".join(e.text or "" for e in ET.parse(path).iter() if e.tag.endswith("text"))


def test_carpet_names_tissues_and_traces(tmp_path):
    bold, labels = series()
    path = charts.plot_carpet(bold, labels, table(), 2.0, tmp_path / "c.svg", n_dummy=2)
    shown = texts(path)
    for word in ("GM", "WM", "CSF", "GS", "DVARS", "FD (mm)", "78 s"):
        assert word in shown
    assert "Edge" not in shown  # no voxel has that label
    text = path.read_text()
    assert path.stat().st_size < 1_500_000
    assert text.startswith("<svg ") and "viewBox" in text.splitlines()[0]
    assert not re.search(r'href="(?!data:|#)', text)


def test_carpet_without_confounds_or_voxels(tmp_path):
    bold, labels = series(10)
    charts.plot_carpet(bold, labels, pd.DataFrame(index=range(10)), 2.0, tmp_path / "a.svg")
    path = charts.plot_carpet(bold, labels * 0, table(10), 2.0, tmp_path / "b.svg")
    assert "No voxel to show" in texts(path)


def test_carpet_refuses_a_segmentation_on_another_grid(tmp_path):
    bold, labels = series(10)
    with pytest.raises(ValueError, match="segmentation has shape"):
        charts.plot_carpet(bold, labels[:4], table(10), 2.0, tmp_path / "a.svg")


def test_standardise_removes_trend_and_scale_of_the_steady_frames():
    time = np.linspace(-1, 1, 50, dtype=np.float32)
    wave = np.sin(np.arange(50) * 1.7).astype(np.float32)
    rows = np.stack([1000 + 70 * time + 5 * wave, np.full(50, 3.0), np.full(50, np.nan)])
    rows = rows.astype(np.float32)
    rows[0, :3] += 500  # non-steady-state frames must not spoil the rest
    out = charts._standardise(rows, n_dummy=3)
    assert abs(out[0, 3:].mean()) < 1e-3 and abs(out[0, 3:].std() - 1) < 1e-3
    assert np.corrcoef(out[0, 3:], wave[3:])[0, 1] > 0.99
    assert out[0, 0] > 10  # still seen as outlying
    assert not out[1:].any()


def test_carpet_orders_voxels_by_their_tissue_signal():
    n = 60
    wave = np.sin(np.arange(n) / 3)
    data = np.zeros((6, 1, 1, n), np.float32)
    weights = [0.0, 3.0, 1.0, -1.0, 2.0, 0.5]
    noise = np.random.default_rng(0).standard_normal((6, n))
    for voxel, weight in enumerate(weights):
        data[voxel, 0, 0] = 100 + weight * wave + noise[voxel] * 0.3
    ((name, rows),) = charts._carpet_blocks(data, np.ones((6, 1, 1), int), {"GM": 1}, 0)
    assert name == "GM"
    correlation = [np.corrcoef(r, wave)[0, 1] for r in rows]
    assert correlation[0] > 0.9 and correlation[-1] < -0.5
    with_tissue = [np.corrcoef(r, rows.mean(axis=0))[0, 1] for r in rows]
    assert with_tissue == sorted(with_tissue, reverse=True)


def test_bright_first_frames_do_not_wash_out_the_carpet():
    rng = np.random.default_rng(2)
    data = 100 + rng.standard_normal((10, 10, 50, 40)).astype(np.float32)
    data[..., :4] += 50
    ((_, rows),) = charts._carpet_blocks(data, np.ones((10, 10, 50), int), {"GM": 1}, 4)
    assert len(rows) <= charts.CARPET_ROWS
    assert 0.8 < rows[:, 4:].std() < 1.2
    assert rows[:, :4].min() > charts.CLIP_Z


def test_shrink_averages_neighbours():
    assert np.allclose(charts._shrink(np.arange(6.0)[:, None], 3)[:, 0], [0.5, 2.5, 4.5])
    assert len(charts._shrink(np.zeros((4, 2)), 9)) == 4


def test_frames_above_either_threshold_are_flagged():
    confounds = table(6) * 0
    confounds.loc[3, "framewise_displacement"] = 0.6
    confounds.loc[4, "std_dvars"] = 1.6
    confounds.loc[0, "std_dvars"] = 9.0
    assert list(charts._flagged(confounds, 1, 0.5, 1.5)) == [3, 4]
    assert list(charts._flagged(confounds, 1, None, 1.5)) == [4]


def test_long_series_stay_small(tmp_path):
    bold, labels = series(3000)
    path = charts.plot_carpet(bold, labels, table(3000), 0.7, tmp_path / "c.svg")
    assert path.stat().st_size < 1_500_000


def test_charts_have_the_same_bytes_twice(tmp_path):
    bold, labels = series(12)
    confounds = table(12)
    confounds.to_csv(tmp_path / "c.tsv", sep="\t", na_rep="n/a", index=False)
    out = []
    for name in ("1", "2"):
        charts.plot_carpet(bold, labels, confounds, 2.0, tmp_path / f"a{name}.svg")
        charts.plot_confound_correlation(tmp_path / "c.tsv", tmp_path / f"b{name}.svg")
        out.append([(tmp_path / f"{x}{name}.svg").read_bytes() for x in "ab"])
    assert out[0] == out[1]


def test_correlation_shows_the_strongest_and_leaves_out_what_does_not_vary(tmp_path):
    n = 100
    signal = RNG.standard_normal(n)
    frame = pd.DataFrame({"global_signal": signal, "twin": -signal, "flat": 1.0})
    frame["motion_outlier00"] = np.eye(n)[3]
    for i in range(30):
        frame[f"noise{i:02d}"] = RNG.standard_normal(n) + 0.02 * i * signal
    frame.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    path = charts.plot_confound_correlation(tmp_path / "c.tsv", tmp_path / "c.svg")
    shown = texts(path)
    assert "twin" in shown and "noise29" in shown
    assert "flat" not in shown and "outlier" not in shown and "noise00" not in shown


@pytest.mark.parametrize("columns", [["a"], ["a", "b"], []])
def test_correlation_of_few_columns_without_global_signal(tmp_path, columns):
    frame = pd.DataFrame({c: RNG.random(20) for c in columns}, index=range(20))
    frame["x"] = "n/a"
    frame.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    path = charts.plot_confound_correlation(tmp_path / "c.tsv", tmp_path / "c.svg")
    assert ("Fewer than two" in texts(path)) == (len(columns) < 2)


def compcor_entry(mask, cumulative, retained=True):
    return {
        "Method": "aCompCor" if mask else "tCompCor",
        **({"Mask": mask} if mask else {}),
        "CumulativeVarianceExplained": cumulative,
        "VarianceExplained": 0.1,
        "Retained": retained,
    }


def test_compcor_curves_include_dropped_components_in_order(tmp_path):
    metadata = {
        "dropped_0": compcor_entry("CSF", 0.9, False),
        "a_comp_cor_00": compcor_entry("CSF", 0.3),
        "a_comp_cor_01": compcor_entry("CSF", 0.55),
        "w_comp_cor_00": compcor_entry("WM", 0.7),
        "t_comp_cor_00": compcor_entry(None, 0.6),
        "csf": {"Method": "Mean"},
        "global_signal": "not a mapping",
    }
    curves = charts._cumulative_variance(metadata)
    assert list(curves) == ["tCompCor", "aCompCor (CSF)", "aCompCor (WM)"]
    assert curves["aCompCor (CSF)"] == [0.3, 0.55, 0.9]
    (tmp_path / "m.json").write_text(json.dumps(metadata))
    path = charts.plot_compcor_variance(tmp_path / "m.json", tmp_path / "c.svg")
    assert "2 components: 50%" in texts(path)


def test_compcor_without_components_says_so(tmp_path):
    (tmp_path / "m.json").write_text("{}")
    path = charts.plot_compcor_variance([tmp_path / "m.json"], tmp_path / "c.svg")
    assert "No CompCor components" in texts(path)
