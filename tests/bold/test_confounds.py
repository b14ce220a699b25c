"""The confounds table: columns, order, metadata, and nilearn as its reader."""

import json

import numpy as np
import pytest

from deepprep.bold.confounds import confounds, motion_outliers
from deepprep.bold.head_motion import HeadMotion
from deepprep.image.volume import Volume

SHAPE = (10, 10, 8)
N = 120


@pytest.fixture
def run():
    random = np.random.default_rng(0)
    data = random.normal(1000, 10, size=(*SHAPE, N)).astype(np.float32)
    wave = np.sin(np.arange(N) * 0.9)
    data[:3] += 40 * wave
    data[..., :2] *= 1.3
    data[..., 60] += 100
    brain = np.ones(SHAPE, bool)
    brain[:, 0] = False
    masks = {name: np.zeros(SHAPE, bool) for name in ("CSF", "WM", "combined")}
    masks["CSF"][:2, 2:6] = True
    masks["WM"][6:9, 2:6] = True
    masks["combined"] = masks["CSF"] | masks["WM"]
    affines = np.tile(np.eye(4), (N, 1, 1))
    affines[:, 0, 3] = np.linspace(0, 1, N)
    affines[80:, 1, 3] = 2.0
    parameters = np.hstack([affines[:, :3, 3], np.zeros((N, 3))])
    motion = HeadMotion(affines, parameters, np.ones(N), np.ones(N, int))
    wrap = Volume(data, np.diag([3.0, 3, 3, 1]))
    return wrap, wrap.like(brain), motion, {k: wrap.like(v) for k, v in masks.items()}


@pytest.fixture
def table(run):
    bold, brain, motion, masks = run
    return confounds(bold, brain, motion, 2.0, acompcor_masks=masks, n_dummy=2)


def test_columns_stand_in_fmriprep_order(table):
    expanded = ["", "_derivative1", "_power2", "_derivative1_power2"]
    columns = list(table.frame.columns)
    signals = [s + e for s in ("global_signal", "csf", "white_matter") for e in expanded]
    head = [*signals, "csf_wm", "tcompcor", "std_dvars", "dvars", "framewise_displacement", "rmsd"]
    assert columns[: len(head)] == head
    motion = [f"{k}_{axis}{e}" for k in ("trans", "rot") for axis in "xyz" for e in expanded]
    start = columns.index("trans_x")
    assert columns[start : start + 24] == motion
    families = []
    for name in columns[len(head) : start]:
        family = name.rstrip("0123456789")
        if family not in families:
            families.append(family)
    assert families == ["t_comp_cor_", "c_comp_cor_", "w_comp_cor_", "a_comp_cor_", "cosine",
                        "non_steady_state_outlier"]  # fmt: skip
    assert all(name.startswith("motion_outlier") for name in columns[start + 24 :])


def test_values_of_the_simple_columns(run, table):
    bold, brain, _, masks = run
    frame = table.frame
    np.testing.assert_allclose(
        frame["global_signal"], bold.data[brain.data].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        frame["csf_wm"], bold.data[masks["combined"].data].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(frame["trans_x"], np.linspace(0, 1, N))
    np.testing.assert_allclose(frame["trans_x_derivative1"][1:], 1 / (N - 1))
    assert np.isnan(frame["trans_x_derivative1"][0])
    np.testing.assert_allclose(frame["csf_power2"], frame["csf"] ** 2)
    assert frame["framewise_displacement"][80] == pytest.approx(2 + 1 / (N - 1))


def test_expansion_equals_niworkflows(table):
    from niworkflows.interfaces.confounds import exponential_terms, temporal_derivatives

    names, values = temporal_derivatives([0, 1], ["csf"], table.frame[["csf"]])
    names, values = exponential_terms([1, 2], names, values)
    for name in names:
        np.testing.assert_allclose(table.frame[name], values[name])


def test_spikes_equal_niworkflows(table):
    from niworkflows.interfaces.confounds import spike_regressors

    peer = spike_regressors(table.frame, header_prefix="motion_outlier", concatenate=False)
    own = table.frame.filter(regex="^motion_outlier")
    assert list(own.columns) == list(peer.columns)
    np.testing.assert_array_equal(own.to_numpy(), peer.to_numpy())
    assert own.to_numpy()[80].sum() == 1 and own.to_numpy()[60].sum() == 1


def test_threshold_must_be_exceeded_and_missing_exceeds_nothing():
    fd = np.array([np.nan, 0.5, 0.51, 0.1])
    dvars = np.array([np.nan, 1.0, 1.0, 1.6])
    assert motion_outliers(fd, dvars).tolist() == [2, 3]
    assert motion_outliers(fd, dvars, fd_spike_mm=9, dvars_spike=9).tolist() == []


def test_dummies_have_indicators_and_no_part_in_components(table):
    frame = table.frame
    assert frame["non_steady_state_outlier01"].to_numpy().nonzero()[0].tolist() == [1]
    assert "non_steady_state_outlier02" not in frame
    for name in ("a_comp_cor_00", "t_comp_cor_00", "cosine00"):
        assert (frame[name][:2] == 0).all() and frame[name][2:].std() > 0


def test_csf_component_is_the_wave_put_there(table):
    wave = np.sin(np.arange(N) * 0.9)
    # Frame 60 carries the spike, which leaks into the first component there.
    plain = np.setdiff1d(np.arange(2, N), [60])
    found = table.frame["c_comp_cor_00"].to_numpy()
    assert abs(np.corrcoef(found[plain], wave[plain])[0, 1]) > 0.95


def test_metadata_describes_every_component(table):
    metadata = json.loads(table.to_json())
    components = table.frame.filter(regex="_comp_cor_").columns
    for name in components:
        entry = metadata[name]
        assert entry["Retained"] is True
        assert {
            "Method",
            "SingularValue",
            "VarianceExplained",
            "CumulativeVarianceExplained",
        } <= set(entry)
        assert ("Mask" in entry) == (entry["Method"] == "aCompCor")
    assert metadata["a_comp_cor_00"]["Mask"] == "combined"
    assert metadata["w_comp_cor_00"]["Mask"] == "WM"
    assert metadata["csf"] == {"Method": "Mean"}
    dropped = [v for k, v in metadata.items() if k.startswith("dropped_")]
    assert {v["Method"] for v in dropped} == {"aCompCor", "tCompCor"}
    assert not any(v["Retained"] for v in dropped)
    last = max(k for k in components if k.startswith("a_comp_cor"))
    assert metadata[last]["CumulativeVarianceExplained"] >= 0.5


def test_all_components_can_be_kept(run):
    bold, brain, motion, masks = run
    some = confounds(bold, brain, motion, 2.0, acompcor_masks=masks)
    every = confounds(bold, brain, motion, 2.0, acompcor_masks=masks, all_components=True)
    count = [t.frame.filter(regex="^w_comp_cor").shape[1] for t in (some, every)]
    assert count[1] > count[0] > 0


@pytest.mark.parametrize("strategy", ["simple", "scrubbing", "compcor"])
def test_nilearn_loads_strategies(table, tmp_path, strategy):
    import nibabel as nib
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    stem = tmp_path / "sub-01" / "func" / "sub-01_task-rest"
    stem.parent.mkdir(parents=True)
    image = nib.Nifti1Image(np.zeros((2, 2, 2, N), np.float32), np.eye(4))
    path = f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    image.to_filename(path)
    stem.with_name(stem.name + "_desc-confounds_timeseries.tsv").write_text(table.to_tsv())
    stem.with_name(stem.name + "_desc-confounds_timeseries.json").write_text(table.to_json())
    loaded, sample_mask = load_confounds_strategy(path, denoise_strategy=strategy)
    assert len(loaded) == N
    assert {"trans_x", "rot_z_derivative1", "cosine00"} <= set(loaded.columns)
    assert ("a_comp_cor_00" in loaded.columns) == (strategy == "compcor")
    assert ("csf" in loaded.columns) == (strategy != "compcor")
    # Dummies 0 and 1 go always, frames 60, 61 and 80 when scrubbing.
    expected = {0, 1} | ({60, 61, 80} if strategy == "scrubbing" else set())
    assert expected <= set(range(N)) - set(sample_mask.tolist())
    assert np.isfinite(loaded.to_numpy()[sample_mask]).all()


def test_missing_values_are_written_as_na(table):
    lines = table.to_tsv().splitlines()
    assert len(lines) == N + 1
    first = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert first["framewise_displacement"] == "n/a" and first["dvars"] == "n/a"


def test_without_anatomy_the_rest_is_there(run):
    bold, brain, motion, _ = run
    columns = confounds(bold, brain, motion, 2.0).frame.columns
    assert "global_signal" in columns and "t_comp_cor_00" in columns
    assert not any(name.startswith(("csf", "white_matter", "a_comp")) for name in columns)


def test_an_empty_tissue_mask_gives_missing_values(run):
    bold, brain, motion, masks = run
    masks["CSF"] = bold.like(np.zeros(SHAPE, bool))
    table = confounds(bold, brain, motion, 2.0, acompcor_masks=masks)
    assert table.frame["csf"].isna().all()
    assert not any(name.startswith("c_comp_cor") for name in table.frame)
    assert "w_comp_cor_00" in table.frame


def test_misfits_are_refused(run):
    bold, brain, motion, _ = run
    with pytest.raises(ValueError, match="mask is empty"):
        confounds(bold, bold.like(np.zeros(SHAPE, bool)), motion, 2.0)
    with pytest.raises(ValueError, match="does not fit"):
        confounds(bold, bold.like(np.ones((3, 3, 3), bool)), motion, 2.0)
    short = HeadMotion(motion.affines[:5], motion.parameters[:5], np.ones(5), np.ones(5, int))
    with pytest.raises(ValueError, match="5 motion affines"):
        confounds(bold, brain, short, 2.0)
