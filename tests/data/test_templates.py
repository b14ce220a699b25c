"""Bundled templates lie on TemplateFlow's lattices and agree with each other."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from deepprep.data import templates
from deepprep.data.templates import bundled_templates, template_files
from deepprep.errors import MissingResourceError
from deepprep.interfaces.nifti import load_volume

BOTH = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("res", [1, 2])
def test_lattice_is_templateflows(name, res):
    described = templates.describe_template(name)["res"][f"{res:02d}"]
    files = template_files(name, res)
    for path in (files.t1w, files.brain, files.mask, files.dseg, files.gm, files.wm, files.csf):
        image = nib.load(path)
        assert list(image.shape) == described["shape"], path.name
        np.testing.assert_allclose(np.diag(image.affine)[:3], described["zooms"])
        np.testing.assert_allclose(image.affine[:3, 3], described["origin"])
        assert image.header["sform_code"] == image.header["qform_code"] == 4


@pytest.mark.parametrize("name", BOTH)
def test_tissues_are_probabilities_that_fill_the_mask(name):
    files = template_files(name, 2)
    mask = load_volume(files.mask).data > 0
    total = sum(load_volume(p).data for p in (files.gm, files.wm, files.csf))
    inner = ndimage.binary_erosion(mask, iterations=2)
    assert np.abs(total[inner] - 1).max() < 0.02
    assert not total[~mask].any()
    labels = load_volume(files.dseg, dtype=None).data
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert np.array_equal(labels > 0, mask)


@pytest.mark.parametrize("name", BOTH)
def test_white_matter_is_bright_and_csf_dark(name):
    files = template_files(name, 2)
    t1w, labels = load_volume(files.brain).data, load_volume(files.dseg).data
    gm, wm, csf = (np.median(t1w[labels == k]) for k in (1, 2, 3))
    assert wm > 1.1 * gm > 1.1 * csf


def test_resolutions_show_the_same_brain():
    for name in BOTH:
        one, two = (load_volume(template_files(name, r).mask) for r in (1, 2))
        litres = [v.data.sum() * v.grid.voxel_volume_mm3 / 1e6 for v in (one, two)]
        assert litres[0] == pytest.approx(litres[1], rel=0.02)
        centres = [
            nib.affines.apply_affine(v.affine, ndimage.center_of_mass(v.data)) for v in (one, two)
        ]
        np.testing.assert_allclose(*centres, atol=0.1)


def test_both_templates_have_the_same_left_side():
    """The asymmetry of one brain correlates with that of the other, not with its mirror image."""
    from deepprep.image.resample import resample
    from deepprep.image.volume import Grid

    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-80, -110, -60]
    grid = Grid((81, 93, 73), affine)
    asymmetry = []
    for name in BOTH:
        data = resample(load_volume(template_files(name, 2).wm), grid, None, "linear").data
        data = ndimage.gaussian_filter(data, 2.0)
        asymmetry.append((data - data[::-1]).ravel())
    assert np.corrcoef(asymmetry[0], asymmetry[1])[0, 1] > 0.3


def test_2009c_has_the_size_of_the_icbm_2009_space():
    """Against nilearn's 2009a template: half a millimetre, not the 3 mm of T1Prep's brain."""
    nilearn_data = pytest.importorskip("nilearn.datasets").load_mni152_template(resolution=2)
    from scipy.optimize import minimize

    from deepprep.image.resample import resample
    from deepprep.image.volume import Grid, Volume
    from deepprep.registration.transforms import Affine

    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-81, -114, -60]
    grid = Grid((55, 66, 48), affine)
    files = template_files("MNI152NLin2009cAsym", 2)
    mask = resample(load_volume(files.mask), grid, None, "linear").data > 0.9
    ours = resample(load_volume(files.brain), grid, None, "linear").data
    ours = (ours + ours[::-1]) / 2
    theirs = Volume(nilearn_data.get_fdata(dtype=np.float32), nilearn_data.affine)

    def cost(log_scale):
        scale = Affine(np.diag([*np.exp(log_scale / 100), 1.0]))
        found = resample(theirs, grid, scale, "linear").data
        return -np.corrcoef(found[mask], ours[mask])[0, 1]

    percent = minimize(cost, np.zeros(3), method="Powell", options={"maxiter": 2, "xtol": 0.1}).x
    assert np.abs(percent).max() < 1.5, percent


def test_resolution_may_be_written_in_any_way():
    one = template_files("MNI152NLin6Asym", 1)
    assert one == template_files("MNI152NLin6Asym", "01") == template_files("MNI152NLin6Asym", "1")
    assert one.reference == one.t1w
    assert template_files("MNI152NLin6Asym", None).resolution == "01"


def test_missing_template_says_what_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError) as caught:
        template_files("MNIPediatricAsym", 1, cohort=2)
    text = str(caught.value)
    assert "tpl-MNIPediatricAsym_cohort-2_res-01_T1w.nii.gz" in text
    assert str(tmp_path / "tpl-MNIPediatricAsym" / "cohort-2") in text
    assert "MNI152NLin2009cAsym (res 01, 02)" in text


def test_resolution_that_is_not_bundled_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="at resolution 07"):
        template_files("MNI152NLin6Asym", 7)


def test_users_templateflow_is_read_and_its_empty_stubs_are_not(monkeypatch, tmp_path):
    folder = tmp_path / "tpl-Mine"
    folder.mkdir()
    stub = folder / "tpl-Mine_res-1_T1w.nii.gz"
    stub.touch()
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError):
        template_files("Mine", 1)
    stub.write_bytes(b"image")
    found = template_files("Mine", 1)
    assert found.t1w == stub and found.mask is None


def test_bundle_is_small_and_licensed():
    data = templates.BUNDLED.parent
    for folder, limit in (("templates", 22e6), ("demo", 4e6), ("weights", 30e6)):
        files = [f for f in (data / folder).rglob("*") if f.is_file()]
        assert 0 < sum(f.stat().st_size for f in files) < limit, folder
    assert set(bundled_templates()) == set(BOTH)
    for name in BOTH:
        assert "Permission to use" in (templates.BUNDLED / f"tpl-{name}" / "LICENSE").read_text()
    assert (templates.BUNDLED.parent / "demo" / "LICENSE").is_file()
    json.loads((templates.BUNDLED / "tpl-MNI152NLin6Asym/template_description.json").read_text())
