"""The FreeSurfer folder of a head: headers, values, bytes, and what is left alone."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fileformats.generic import File

from deepprep.bids.records import Image, SubjectInputs
from deepprep.image.conform import to_ras
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.image.white_matter_scaling import white_matter_core
from deepprep.interfaces.freesurfer import PublishFreeSurfer, WriteFreeSurferVolumes
from deepprep.interfaces.mgz import save_mgz
from deepprep.interfaces.nifti import load_volume, save_volume
from deepprep.registration.talairach import parse_xfm
from deepprep.segmentation.stats_file import parse_stats

TEMPLATE = Path(__file__).parents[2] / "deepprep/data/templates/tpl-MNI152NLin6Asym"
OUTPUTS = (
    *("raw", "orig", "nu", "t1", "brain", "aseg", "stats", "talairach", "table", "sidecar"),
    "info",
)
GRID = Grid(
    (63, 76, 64),
    np.array([[-3, 0, 0, 90.0], [0, 3, 0, -125.5], [0, 0, 2.5, -71.0], [0, 0, 0, 1]]),
)
"""An odd LAS lattice over the MNI head: 63 x 76 x 64 voxels of 3 x 3 x 2.5 mm."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The MNI head as a subject: its tissues, parted at the mid-line, as aseg labels."""
    folder = tmp_path_factory.mktemp("head")

    def template(end):
        return load_volume(TEMPLATE / f"tpl-MNI152NLin6Asym_res-02_{end}.nii.gz")

    head = resample(template("T1w"), GRID, None, "linear")
    mask = resample(template("desc-brain_mask"), GRID, None, "linear").data > 0.5
    tissue = resample(template("dseg"), GRID, None, "nearest").data * mask
    left = GRID.points_ras()[..., 0] < 0
    labels = np.zeros(GRID.shape, np.uint8)
    for value, names in ((1, (3, 42)), (2, (2, 41)), (3, (24, 24))):
        labels[tissue == value] = np.where(left, *names)[tissue == value]
    original = head.like((head.data * 7).astype(np.int16))
    ras = to_ras(head)
    return {
        "original": File(save_volume(original, folder / "sub-01_T1w.nii.gz")),
        "t1w": File(save_volume(ras, folder / "t1w.nii")),
        "mask": File(save_volume(to_ras(head.like(mask.astype(np.uint8))), folder / "mask.nii")),
        "labels": File(save_volume(to_ras(head.like(labels)), folder / "labels.nii")),
    }


def write(inputs, folder, **options):
    settings = {"segmentation_info": None, "uncertainty": None, "affine": None, **options}
    task = WriteFreeSurferVolumes(**inputs, **settings, engine="test", label="sub-01")
    result = task(cache_root=folder)
    return {name: Path(str(getattr(result, name))) for name in OUTPUTS}


@pytest.fixture(scope="module")
def written(inputs, tmp_path_factory):
    return write(inputs, tmp_path_factory.mktemp("cache"))


def test_headers_are_those_of_freesurfer(written):
    for name in ("orig", "nu", "t1", "brain", "aseg"):
        image = nib.load(written[name])
        header = image.header
        assert image.shape == (256, 256, 256)
        np.testing.assert_array_equal(header["delta"], 1)
        np.testing.assert_array_equal(header["Mdc"], [[-1, 0, 0], [0, 0, -1], [0, 1, 0]])
        centre = GRID.affine @ [31.5, 38, 32, 1]
        np.testing.assert_allclose(header["Pxyz_c"], centre[:3], atol=1e-4)
        assert (int(header["goodRASFlag"]), int(header["dof"])) == (1, 0)
        assert float(header["fov"]) == 256
        expected = np.int32 if name == "aseg" else np.uint8
        assert image.get_data_dtype().newbyteorder("=") == expected


def test_the_original_is_kept_as_it_is(inputs, written):
    raw, original = nib.load(written["raw"]), nib.load(str(inputs["original"]))
    np.testing.assert_array_equal(np.asarray(raw.dataobj), np.asarray(original.dataobj))
    np.testing.assert_allclose(raw.affine, original.affine, atol=1e-4)
    assert raw.get_data_dtype().newbyteorder("=") == np.int16


def test_left_stays_left_and_nothing_moves(inputs, written):
    aseg, given = load_volume(written["aseg"], None), load_volume(str(inputs["labels"]), None)
    for label in (2, 41, 3, 42):
        here, there = (
            nib.affines.apply_affine(v.affine, np.argwhere(v.data == label)).mean(0)
            for v in (aseg, given)
        )
        np.testing.assert_allclose(here, there, atol=0.5)  # half a conformed voxel
        assert (here[0] < 0) == (label in (2, 3))


def test_intensities_are_on_freesurfers_scale(written):
    aseg, t1, nu, brain, orig = (
        np.asarray(nib.load(written[k]).dataobj) for k in ("aseg", "t1", "nu", "brain", "orig")
    )
    white = white_matter_core(np.isin(aseg, (2, 41)))
    assert np.median(t1[white]) == pytest.approx(110, abs=1)
    assert np.median(nu[white]) == pytest.approx(110, abs=1)
    assert orig.max() == 255
    np.testing.assert_array_equal(brain[brain > 1], t1[brain > 1])
    assert (brain[aseg > 0] > 0).all()
    assert (t1 > 0).sum() > 1.5 * (brain > 0).sum()  # T1 keeps the whole head


def test_stats_and_table_agree(written):
    stats = parse_stats(written["stats"].read_text())
    measures = {m.field: m.value for m in stats.measures}
    aseg = np.asarray(nib.load(written["aseg"]).dataobj)
    assert measures["BrainSegVol"] == (aseg > 0).sum()
    lines = [x.split("\t") for x in written["table"].read_text().splitlines()[1:]]
    volumes = {int(x[0]): float(x[3]) for x in lines}
    assert measures["lhCortexVol"] == pytest.approx(volumes[3], abs=0.1)
    assert {r.label: r.volume_mm3 for r in stats.rows}[24] == volumes[24]
    # The MNI head itself: nothing to scale.
    info = json.loads(written["info"].read_text())
    assert measures["eTIV"] == pytest.approx(info["etiv_mm3"], abs=0.1)
    assert measures["eTIV"] == pytest.approx(1.914e6, rel=0.02)


def test_talairach_leads_to_mni(written):
    matrix = parse_xfm(written["talairach"].read_text()).matrix
    points = np.array([[40, -60, 30, 1], [-50, 20, 10, 1], [0, 0, 0, 1.0]])
    assert np.abs(points @ matrix.T - points)[:, :3].max() < 3


def test_bytes_are_equal_from_run_to_run(inputs, written, tmp_path):
    again = write(inputs, tmp_path)
    for name in OUTPUTS:
        one, two = (hashlib.sha256(w[name].read_bytes()).hexdigest() for w in (written, again))
        assert one == two, name


def test_posteriors_uncertainty_and_a_given_affine_are_used(inputs, tmp_path):
    from deepprep.registration.itk import write_affine
    from deepprep.registration.transforms import Affine

    info = tmp_path / "seg.json"
    info.write_text(json.dumps({"volumes_mm3": {"3": 123456.7}}))
    given = load_volume(str(inputs["labels"]))
    unsure = save_volume(given.like(np.full(given.shape, 0.25, np.float32)), tmp_path / "u.nii")
    affine = write_affine(tmp_path / "to_mni.txt", Affine(np.diag([0.9, 1, 1, 1.0])))
    found = write(
        inputs, tmp_path / "cache", segmentation_info=File(info), uncertainty=File(unsure),
        affine=File(affine),
    )  # fmt: skip
    table = {x.split("\t")[0]: x.split("\t") for x in found["table"].read_text().splitlines()}
    assert table["3"][3] == "123456.7" and table["3"][5] == "0.2500"
    measures = {m.field: m.value for m in parse_stats(found["stats"].read_text()).measures}
    assert measures["lhCortexVol"] == 123456.7
    assert measures["eTIV"] == pytest.approx(0.9 * 1.914e6)
    np.testing.assert_allclose(
        parse_xfm(found["talairach"].read_text()).matrix, np.diag([1 / 0.9, 1, 1, 1]), atol=1e-6
    )


def publish(written, out, given=""):
    image = Image(path="/data/sub-01/anat/sub-01_T1w.nii.gz", metadata={}, entities={"sub": "01"})
    subject = SubjectInputs(label="01", t1w=(image,)).to_json()
    files = {name: File(path) for name, path in written.items()}
    task = PublishFreeSurfer(
        **files, given=given, subject=subject, out_dir=str(out), run_uuid="u", label="sub-01"
    )
    return json.loads(Path(task(cache_root=out.parent / "cache").record).read_text())


def test_the_folder_is_a_freesurfer_subject(written, tmp_path):
    out = tmp_path / "out"
    record = publish(written, out)
    folder = out / "sourcedata/freesurfer/sub-01"
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == sorted(
        [
            *(f"mri/{n}.mgz" for n in ("orig", "orig/001", "rawavg", "nu", "T1", "norm")),
            *(f"mri/{n}.mgz" for n in ("brainmask", "aseg.auto", "aseg.presurf", "aseg")),
            *("mri/transforms/talairach.xfm", "stats/aseg.stats", "scripts/deepprep-version.txt"),
        ]
    )
    assert (out / "desc-aseg_dseg.tsv").read_text().startswith("index\tname\tcolor\n")
    table = out / "sub-01/anat/sub-01_desc-aseg_morph.tsv"
    assert table.is_file() and table.with_suffix(".json").is_file()
    assert record["metrics"]["sub-01_volumes"]["etiv_ml"] == pytest.approx(1914, rel=0.02)
    assert len(record["files"]) == len(found) + 3
    publish(written, out)  # a second run writes over its own


def test_a_folder_of_freesurfer_is_left_alone(written, tmp_path):
    out = tmp_path / "out"
    precious = out / "sourcedata/freesurfer/sub-01/mri/aseg.mgz"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"weeks of edits")
    record = publish(written, out)
    assert precious.read_bytes() == b"weeks of edits"
    assert "made by another program" in record["summary"]["note"]
    assert [f for f in record["files"] if f.startswith("sourcedata")] == []
    assert (out / "sub-01/anat/sub-01_desc-aseg_morph.tsv").is_file()


def test_a_folder_that_surfaces_are_read_from_is_left_alone(written, tmp_path):
    out = tmp_path / "out"
    folder = out / "sourcedata/freesurfer/sub-01"
    publish(written, out)
    (folder / "mri/orig.mgz").write_bytes(b"read by this run")
    record = publish(written, out, given=str(folder / ".." / "sub-01"))
    assert (folder / "mri/orig.mgz").read_bytes() == b"read by this run"
    assert "is an input of this run" in record["summary"]["note"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [("bool", "uint8"), ("uint16", "int32"), ("float64", "float32"), ("int16", "int16")],
)
def test_types_that_mgz_lacks_become_larger_ones(tmp_path, given, stored):
    volume = Volume(np.arange(8).reshape(2, 2, 2).astype(given), np.eye(4))
    image = nib.load(save_mgz(volume, tmp_path / "x.mgz"))
    assert image.get_data_dtype().newbyteorder("=").name == stored
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.data)


def test_the_header_of_a_real_t1_is_met(shared_data, inputs, tmp_path):
    path = shared_data / "freesurfer-silver/sub-01/mri/T1.mgz"
    real = nib.load(path)
    ours = nib.load(save_mgz(load_volume(path, None), tmp_path / "T1.mgz"))
    for key in ("version", "dims", "type", "dof", "goodRASFlag", "delta", "Mdc", "Pxyz_c", "fov"):
        np.testing.assert_allclose(ours.header[key], real.header[key], atol=1e-4)
