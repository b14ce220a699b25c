"""The main job on a small real subject, beside a broken one, with name resolution blocked."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.shared]

SPACES = ["MNI152NLin2009cAsym:res-2", "T1w", "fsnative", "fsaverage5"]
NO_NETWORK = """
import os, socket

def refuse(host, *args, **kwargs):
    with open(os.environ["NAMES_ASKED"], "a") as f:
        f.write(f"{host}\\n")
    raise socket.gaierror(-2, "name resolution is blocked in this test")

socket.getaddrinfo = socket.gethostbyname = refuse
"""


def deepprep(
    bids: Path, out: Path, work: Path, base: Path, *more: str
) -> subprocess.CompletedProcess:
    """Run the command with a module on the path that blocks name resolution everywhere."""
    (base / "site").mkdir(exist_ok=True)
    (base / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {
        **os.environ,
        # the package under test, even where another checkout is installed
        "PYTHONPATH": os.pathsep.join([str(base / "site"), str(Path(__file__).parents[2])]),
        "NAMES_ASKED": str(base / "names.txt"),
        "HOME": str(base),
    }
    command = [sys.executable, "-m", "deepprep.cli.main", str(bids), str(out), "participant",
               "-w", str(work), "--output-spaces", *SPACES, *more]  # fmt: skip
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, shared_data):
    """Output folder and result of a run of one good and one broken subject."""
    base = tmp_path_factory.mktemp("e2e")
    bids = base / "bids"
    shutil.copytree(shared_data / "bids-ci", bids)
    for path in [bids, *bids.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in sorted((bids / "sub-001").rglob("*")):
        if path.is_file() and path.parent.name != "fmap":
            copy = bids / "sub-bad" / path.parent.name / path.name.replace("sub-001", "sub-bad")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    broken = bids / "sub-bad" / "anat" / "sub-bad_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200_000])
    result = deepprep(bids, base / "out", base / "work", base)
    return base, result


def bytes_of(out: Path) -> dict[str, str]:
    """Hash of every derivative; pages and logs hold dates."""
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and "logs" not in p.relative_to(out).parts and p.suffix != ".html"
    }


def test_the_good_subject_is_done_and_the_broken_one_is_named(ran):
    base, result = ran
    text = result.stdout + result.stderr
    assert result.returncode == 1, text
    assert "sub-bad_T1w.nii.gz" in text
    assert (base / "out" / "sub-001.html").is_file()
    assert not (base / "out" / "sub-bad" / "anat").exists()


def test_no_name_was_looked_up(ran):
    base, _ = ran
    asked = base / "names.txt"
    assert not asked.exists(), asked.read_text()


def test_derivatives_have_fmripreps_names(ran):
    out = ran[0] / "out"
    std = "space-MNI152NLin2009cAsym_res-2"
    run = "func/sub-001_task-rest"
    expected = [
        "anat/sub-001_desc-preproc_T1w.nii.gz",
        "anat/sub-001_desc-brain_mask.nii.gz",
        "anat/sub-001_dseg.nii.gz",
        "anat/sub-001_desc-aseg_dseg.nii.gz",
        "anat/sub-001_desc-aseg_uncertainty.nii.gz",
        "anat/sub-001_desc-aseg_morph.tsv",
        "anat/sub-001_desc-ribbon_mask.nii.gz",
        *(
            f"anat/sub-001_hemi-{side}_{name}"
            for side in "LR"
            for name in (
                *(f"{k}.surf.gii" for k in ("white", "pial", "midthickness", "inflated")),
                *(f"{k}.shape.gii" for k in ("thickness", "curv", "sulc")),
                "desc-cortex_mask.label.gii",
            )
        ),
        "figures/sub-001_desc-reconall_T1w.svg",
        "figures/sub-001_desc-parcels_T1w.svg",
        *(
            f"anat/sub-001_hemi-{side}_{name}"
            for side in "LR"
            for name in (
                "sphere.surf.gii",
                "desc-reg_sphere.surf.gii",
                "space-fsLR_desc-reg_sphere.surf.gii",
                "space-fsLR_den-32k_midthickness.surf.gii",
                "seg-aparc_dseg.label.gii",
            )
        ),
        "anat/sub-001_seg-aparc_morph.tsv",
        "anat/sub-001_desc-aparcaseg_dseg.nii.gz",
        "anat/sub-001_label-GM_probseg.nii.gz",
        "anat/sub-001_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5",
        "anat/sub-001_from-MNI152NLin2009cAsym_to-T1w_mode-image_xfm.h5",
        f"anat/sub-001_{std}_desc-preproc_T1w.nii.gz",
        f"anat/sub-001_{std}_desc-brain_mask.nii.gz",
        f"anat/sub-001_{std}_dseg.nii.gz",
        f"anat/sub-001_{std}_label-WM_probseg.nii.gz",
        f"anat/sub-001_{std}_jacobian.nii.gz",
        f"{run}_desc-hmc_boldref.nii.gz",
        f"{run}_desc-coreg_boldref.nii.gz",
        f"{run}_desc-brain_mask.nii.gz",
        f"{run}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        f"{run}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        f"{run}_{std}_desc-preproc_bold.nii.gz",
        f"{run}_{std}_desc-preproc_bold.json",
        f"{run}_{std}_boldref.nii.gz",
        f"{run}_{std}_desc-brain_mask.nii.gz",
        f"{run}_space-T1w_desc-preproc_bold.nii.gz",
        f"{run}_space-T1w_desc-brain_mask.nii.gz",
        f"{run}_desc-confounds_timeseries.tsv",
        f"{run}_desc-confounds_timeseries.json",
    ]
    missing = [name for name in expected if not (out / "sub-001" / name).is_file()]
    assert not missing
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_the_series_keep_their_frames_and_timing(ran, shared_data):
    func = ran[0] / "out" / "sub-001" / "func"
    source = nib.load(shared_data / "bids-ci/sub-001/func/sub-001_task-rest_bold.nii.gz")
    # The brain of the template is larger than that of the subject.
    for space, mm3 in (("space-MNI152NLin2009cAsym_res-2", 1.8e6), ("space-T1w", 1.45e6)):
        image = nib.load(func / f"sub-001_task-rest_{space}_desc-preproc_bold.nii.gz")
        assert image.shape[3] == source.shape[3]
        assert image.header.get_zooms()[3] == pytest.approx(2.52)
        inside = (
            nib.load(func / f"sub-001_task-rest_{space}_desc-brain_mask.nii.gz").get_fdata() > 0
        )
        assert inside.sum() * np.prod(image.header.get_zooms()[:3]) == pytest.approx(mm3, rel=0.1)
        assert image.get_fdata()[inside].mean() > 0
    sidecar = json.loads((func / "sub-001_task-rest_space-T1w_desc-preproc_bold.json").read_text())
    assert sidecar["SliceTimingCorrected"] is True
    assert sidecar["StartTime"] == pytest.approx(1.216, abs=0.01)


def test_the_jacobian_map_is_positive_and_about_one(ran):
    anat = ran[0] / "out/sub-001/anat"
    stem = "sub-001_space-MNI152NLin2009cAsym_res-2"
    image = nib.load(anat / f"{stem}_jacobian.nii.gz")
    inside = nib.load(anat / f"{stem}_desc-brain_mask.nii.gz").get_fdata() > 0
    values = image.get_fdata()[inside]
    assert values.min() > 0.1 and values.max() < 10
    assert 0.8 < np.median(values) < 1.2 and values.std() > 0.05
    assert "affine" in json.loads((anat / f"{stem}_jacobian.json").read_text())["Description"]


def test_masks_of_t1w_and_bold_coincide(ran):
    out = ran[0] / "out" / "sub-001"
    bold = nib.load(out / "func/sub-001_task-rest_space-T1w_desc-brain_mask.nii.gz")
    anat = nib.load(out / "anat/sub-001_desc-brain_mask.nii.gz")
    from nibabel.processing import resample_from_to

    moved = resample_from_to(anat, bold, order=0).get_fdata() > 0
    inside = bold.get_fdata() > 0
    assert 2 * (moved & inside).sum() / (moved.sum() + inside.sum()) > 0.85


def test_structures_are_on_their_side_and_of_plausible_size(ran):
    anat = ran[0] / "out" / "sub-001" / "anat"
    image = nib.load(anat / "sub-001_desc-aseg_dseg.nii.gz")
    labels = np.asarray(image.dataobj).astype(int)
    mm3 = float(np.prod(image.header.get_zooms()))
    for left, right, low, high in (
        (17, 53, 2500, 6000),
        (10, 49, 4500, 10500),
        (2, 41, 150e3, 320e3),
    ):
        x = []
        for label in (left, right):
            voxels = np.argwhere(labels == label)
            assert low < len(voxels) * mm3 < high, label
            x.append(nib.affines.apply_affine(image.affine, voxels)[:, 0].mean())
        assert x[0] < x[1] - 15, "left of right in world coordinates"
    table = pd.read_csv(anat / "sub-001_desc-aseg_morph.tsv", sep="\t").set_index("index")
    assert table.loc[17].iloc[0] == "Left-Hippocampus"


def test_freesurfer_files_lie_where_the_t1w_is(ran):
    out = ran[0] / "out"
    folder = out / "sourcedata/freesurfer/sub-001"
    aseg = nib.load(folder / "mri/aseg.mgz")
    assert aseg.shape == (256, 256, 256)
    own = nib.load(out / "sub-001/anat/sub-001_desc-aseg_dseg.nii.gz")
    labels, native = np.asarray(aseg.dataobj), np.asarray(own.dataobj)
    for label in (17, 49, 16):
        there = nib.affines.apply_affine(aseg.affine, np.argwhere(labels == label).mean(0))
        here = nib.affines.apply_affine(own.affine, np.argwhere(native == label).mean(0))
        np.testing.assert_allclose(there, here, atol=0.6)
    norm = np.asarray(nib.load(folder / "mri/norm.mgz").dataobj).astype(float)
    assert abs(np.median(norm[np.isin(labels, (2, 41))]) - 110) < 5
    assert "EstimatedTotalIntraCranialVol" in (folder / "stats/aseg.stats").read_text()
    # cortex of the segmentation itself, and that of the surfaces
    before = np.asarray(nib.load(folder / "mri/aseg.presurf.mgz").dataobj)
    np.testing.assert_array_equal(before, nib.load(folder / "mri/aseg.auto.mgz").dataobj)
    ribbon = np.asarray(nib.load(folder / "mri/ribbon.mgz").dataobj)
    cortex = np.isin(labels, (3, 42))
    assert 0 < (cortex != np.isin(before, (3, 42))).sum() < 0.5 * cortex.sum()
    assert np.isin(ribbon[cortex], (3, 42)).all()
    np.testing.assert_array_equal(labels == 17, before == 17)
    parcels = np.asarray(nib.load(folder / "mri/aparc+aseg.mgz").dataobj)
    np.testing.assert_array_equal(cortex, (parcels > 1000) | np.isin(parcels, (3, 42)))


def test_surfaces_lie_on_the_cortex_of_their_side(ran):
    out = ran[0] / "out"
    anat = out / "sub-001/anat"
    labels = nib.load(anat / "sub-001_desc-aseg_dseg.nii.gz")
    numbers = np.asarray(labels.dataobj)
    for side, hemi, white_label, cortex_label in (("L", "lh", 2, 3), ("R", "rh", 41, 42)):
        white = nib.load(anat / f"sub-001_hemi-{side}_white.surf.gii").agg_data()
        pial = nib.load(anat / f"sub-001_hemi-{side}_pial.surf.gii").agg_data()
        cortex = nib.load(anat / f"sub-001_hemi-{side}_desc-cortex_mask.label.gii").agg_data()
        thickness = nib.load(anat / f"sub-001_hemi-{side}_thickness.shape.gii").agg_data()
        np.testing.assert_array_equal(white[1], pial[1])
        outward = (pial[0] - white[0])[cortex == 1]
        length = np.linalg.norm(outward, axis=1, keepdims=True)
        for points, label in (
            (white[0][cortex == 1] - outward / np.maximum(length, 0.1) * 1.5, white_label),
            ((white[0] + pial[0])[cortex == 1] / 2, cortex_label),
        ):
            voxels = nib.affines.apply_affine(np.linalg.inv(labels.affine), points).round()
            found = numbers[tuple(voxels.astype(int).T)]
            assert (found == label).mean() > 0.6, (side, label)
        assert 1.8 < thickness[cortex == 1].mean() < 3.2
        folder = out / "sourcedata/freesurfer/sub-001"
        same, faces, info = nib.freesurfer.read_geometry(
            folder / f"surf/{hemi}.white", read_metadata=True
        )
        np.testing.assert_allclose(same + info["cras"], white[0], atol=1e-3)
        np.testing.assert_array_equal(faces, white[1])
        kept = nib.freesurfer.read_label(folder / f"label/{hemi}.cortex.label")
        np.testing.assert_array_equal(kept, np.flatnonzero(cortex))
    ribbon = np.asarray(nib.load(folder / "mri/ribbon.mgz").dataobj)
    assert set(np.unique(ribbon)) == {0, 2, 3, 41, 42}


def test_parcels_and_group_maps_belong_to_their_hemisphere(ran):
    import pandas as pd

    from deepprep.surface.surface_stats import parse_aparc_stats

    out = ran[0] / "out"
    anat, folder = out / "sub-001/anat", out / "sourcedata/freesurfer/sub-001"
    table = pd.read_csv(anat / "sub-001_seg-aparc_morph.tsv", sep="\t")
    assert table.groupby("hemisphere").size().tolist() == [34, 34]
    whole = {}
    for side, hemi in (("L", "lh"), ("R", "rh")):
        white, faces = nib.load(anat / f"sub-001_hemi-{side}_white.surf.gii").agg_data()
        labels, _, names = nib.freesurfer.read_annot(folder / f"label/{hemi}.aparc.annot")
        assert len(labels) == len(white)
        # the measures come from this side's surface, not from the other's
        rows = parse_aparc_stats((folder / f"stats/{hemi}.aparc.stats").read_text())[1]
        at = names.index(b"precentral")
        row = next(r for r in rows if r.name == "precentral")
        assert row.n_vertices == (labels == at).sum() > 1000
        triangles = white[faces]
        areas = np.linalg.norm(
            np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1
        )
        vertex = np.bincount(faces.ravel(), np.repeat(areas / 6, 3), len(white))
        assert abs(row.area_mm2 - vertex[labels == at].sum()) < 1
        # precentral lies in front of postcentral and above the superior temporal gyrus
        centre = {n: white[labels == names.index(n)].mean(axis=0) for n in names if n in USED}
        assert centre[b"precentral"][1] > centre[b"postcentral"][1] + 5
        assert centre[b"postcentral"][2] > centre[b"superiortemporal"][2] + 20
        assert centre[b"cuneus"][1] < centre[b"superiorfrontal"][1] - 60
        group = nib.load(anat / f"sub-001_hemi-{side}_space-fsLR_den-32k_white.surf.gii")
        assert len(group.agg_data()[0]) == 32492
        assert np.sign(group.agg_data()[0][:, 0].mean()) == {"L": -1, "R": 1}[side]
        whole[hemi] = nib.load(anat / f"sub-001_hemi-{side}_thickness.shape.gii").agg_data()
    cifti = nib.load(anat / "sub-001_space-fsLR_den-91k_thickness.dscalar.nii")
    values = np.asarray(cifti.dataobj)[0]
    assert values.shape == (59412,)
    n_left = int((cifti.header.get_axis(1).name == "CIFTI_STRUCTURE_CORTEX_LEFT").sum())
    for part, hemi in ((values[:n_left], "lh"), (values[n_left:], "rh")):
        assert abs(part[part > 0].mean() - whole[hemi][whole[hemi] > 0].mean()) < 0.15
    parcels = nib.load(anat / "sub-001_desc-aparcaseg_dseg.nii.gz")
    numbers = np.asarray(parcels.dataobj)
    names = pd.read_csv(out / "desc-aparcaseg_dseg.tsv", sep="\t").set_index("index")["name"]
    assert set(np.unique(numbers)) <= set(names.index)
    assert names[1024] == "ctx-lh-precentral" and names[2024] == "ctx-rh-precentral"
    x = {
        n: nib.affines.apply_affine(parcels.affine, np.argwhere(numbers == n))[:, 0]
        for n in (1024, 2024)
    }
    assert np.median(x[1024]) < np.median(x[2024]) - 30
    for name in ("aparc+aseg", "wmparc"):
        assert (np.asarray(nib.load(folder / f"mri/{name}.mgz").dataobj) == 1024).sum() > 500


USED = (b"precentral", b"postcentral", b"superiortemporal", b"cuneus", b"superiorfrontal")


def test_bold_on_the_surface_is_that_of_the_volume(ran):
    out = ran[0] / "out/sub-001"
    volume = nib.load(out / "func/sub-001_task-rest_space-T1w_desc-preproc_bold.nii.gz")
    frames = np.asarray(volume.dataobj, dtype=float)
    for side in "LR":
        white = nib.load(out / f"anat/sub-001_hemi-{side}_white.surf.gii").agg_data()[0]
        pial = nib.load(out / f"anat/sub-001_hemi-{side}_pial.surf.gii").agg_data()[0]
        image = nib.load(out / f"func/sub-001_task-rest_hemi-{side}_space-fsnative_bold.func.gii")
        series = image.agg_data()
        assert series.shape == (len(white), frames.shape[3])
        voxels = nib.affines.apply_affine(np.linalg.inv(volume.affine), (white + pial) / 2)
        near = frames[tuple(voxels.round().astype(int).T)].mean(axis=1)
        mean = series.mean(axis=1)
        inside = (near > 0) & (mean > 0)
        assert inside.mean() > 0.8
        assert np.corrcoef(near[inside], mean[inside])[0, 1] > 0.8
        group = nib.load(out / f"func/sub-001_task-rest_hemi-{side}_space-fsaverage5_bold.func.gii")
        assert group.agg_data().shape == (10242, frames.shape[3])
        shape = nib.load(out / f"anat/sub-001_hemi-{side}_space-fsaverage5_sulc.shape.gii")
        assert shape.agg_data().shape == (10242,)


def test_pybids_and_nilearn_read_the_derivatives(ran):
    from bids import BIDSLayout
    from nilearn.interfaces.fmriprep import load_confounds

    out = ran[0] / "out"
    layout = BIDSLayout(out, validate=False, is_derivative=True)
    found = layout.get(subject="001", space="MNI152NLin2009cAsym", desc="preproc", suffix="bold",
                       extension=".nii.gz")  # fmt: skip
    assert len(found) == 1
    assert found[0].get_metadata()["RepetitionTime"] == 2.52
    table, _ = load_confounds(found[0].path, strategy=("motion", "high_pass", "wm_csf"))
    assert len(table) == 20
    assert {"trans_x", "rot_z_derivative1_power2", "csf", "white_matter"} <= set(table.columns)


def test_confounds_have_known_relations(ran):
    table = pd.read_csv(
        ran[0] / "out/sub-001/func/sub-001_task-rest_desc-confounds_timeseries.tsv", sep="\t"
    )
    step = table[[f"{k}_{a}" for k in ("trans", "rot") for a in "xyz"]].diff().abs()
    fd = step.iloc[:, :3].sum(axis=1) + 50 * step.iloc[:, 3:].sum(axis=1)
    np.testing.assert_allclose(table["framewise_displacement"][1:], fd[1:], atol=1e-5)
    assert np.isnan(table["framewise_displacement"][0])


def test_the_summary_says_that_surfaces_were_made(ran):
    figures = ran[0] / "out" / "sub-001/figures"
    summary = (figures / "sub-001_desc-summary_T1w.html").read_text()
    assert "white and pial, both hemispheres" in summary
    assert "not available yet" not in summary


def test_the_report_needs_nothing_from_outside(ran):
    import re

    page = (ran[0] / "out" / "sub-001.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']https?://[^"']+\.(?:js|css)""", page)
    for word in ("Slice timing", "not applied", "Methods", "Errors"):
        assert word in page


def test_a_second_run_keeps_everything_and_gives_the_same_bytes(ran):
    base, _ = ran
    before = bytes_of(base / "out")
    shutil.rmtree(base / "out" / "sub-001" / "func")
    again = deepprep(base / "bids", base / "out", base / "work", base, "--participant-label", "001")
    assert again.returncode == 0, again.stderr
    assert bytes_of(base / "out") == before
    computed = [line for line in again.stderr.splitlines() if "] done " in line]
    assert computed
    assert all(": Write" in line for line in computed), computed


def test_an_option_recomputes_only_what_depends_on_it(ran):
    base, _ = ran
    more = ("--participant-label", "001", "--fd-spike-threshold", "0.2")
    again = deepprep(base / "bids", base / "out", base / "work", base, *more)
    assert again.returncode == 0, again.stderr
    computed = [line for line in again.stderr.splitlines() if "] done " in line]
    assert [line for line in computed if ": Write" not in line and ": Confounds" not in line] == []
    assert any(": Confounds" in line for line in computed)


def test_the_input_was_not_written_to(ran, shared_data):
    bids = ran[0] / "bids"
    files = {p.relative_to(bids).as_posix() for p in bids.rglob("*") if p.is_file()}
    original = shared_data / "bids-ci"
    expected = {p.relative_to(original).as_posix() for p in original.rglob("*") if p.is_file()}
    assert {f for f in files if "sub-bad" not in f} == expected
