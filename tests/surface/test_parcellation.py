"""Parcels on surfaces and in volumes, and their files."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.data.parcellations import BUNDLED, label_weights
from deepprep.data.surface_atlases import atlas_sphere, parcellation
from deepprep.image.volume import Volume
from deepprep.interfaces.annotation_files import read_annotation, write_annotation
from deepprep.surface.cortical_labels import (
    HemisphereParcels,
    label_ribbon,
    label_white_matter,
    with_ribbon,
)
from deepprep.surface.parcellation import transfer_labels, without_islands
from tests.surface.shapes import ball


def _atlas() -> tuple:
    sphere = ball(5)
    labels = np.where(sphere.vertices[:, 0] > 0, 1, 2)
    labels[sphere.vertices[:, 2] > 90] = 0
    folding = 1.5 * np.sin(sphere.vertices[:, 0] / 5.0)[:, None]
    return sphere, labels, folding


def test_labels_of_the_atlas_come_back_on_the_atlas():
    sphere, labels, folding = _atlas()
    out = transfer_labels(sphere, folding, sphere, labels, folding)
    assert (out == labels).mean() > 0.99


def test_borders_follow_the_folds():
    sphere, labels, folding = _atlas()
    # the subject's folds lie 3 mm further right than the registration says
    shifted = 1.5 * np.sin((sphere.vertices[:, 0] - 3.0) / 5.0)[:, None]
    truth = np.where(sphere.vertices[:, 0] > 3.0, 1, 2)
    away = sphere.vertices[:, 2] < 60
    with_folds = transfer_labels(sphere, shifted, sphere, labels, folding)
    without = transfer_labels(sphere, 0 * shifted, sphere, labels, 0 * folding)
    wrong = (with_folds != truth)[away].sum()
    assert wrong < 0.7 * (without != truth)[away].sum()


def test_cortex_is_where_the_subject_has_it():
    sphere, labels, folding = _atlas()
    cortex = sphere.vertices[:, 2] > -80
    out = transfer_labels(sphere, folding, sphere, labels, folding, cortex)
    assert (out[~cortex] == 0).all() and (out[cortex] > 0).all()


def test_islands_go_to_what_surrounds_them():
    sphere, labels, _ = _atlas()
    spotted = labels.copy()
    island = np.linalg.norm(sphere.vertices - [70.0, 0, -71.0], axis=1) < 8
    spotted[island] = 2
    assert np.array_equal(without_islands(spotted, sphere), labels)


def test_a_label_whose_votes_count_more_is_larger():
    sphere, labels, folding = _atlas()
    plain = transfer_labels(sphere, folding, sphere, labels, folding)
    heavy = transfer_labels(sphere, folding, sphere, labels, folding, weights=np.array([0, 2.0, 0]))
    assert (heavy == 1).sum() > 1.02 * (plain == 1).sum()
    # at its border alone: a vote that no atlas vertex nearby casts cannot count
    grown = (heavy == 1) & (plain != 1) & (sphere.vertices[:, 2] < 60)
    assert np.abs(sphere.vertices[grown, 0]).max() < 8
    none = transfer_labels(sphere, folding, sphere, labels, folding, weights=np.zeros(3))
    assert np.array_equal(none, plain)


def test_weights_need_one_for_each_label():
    sphere, labels, folding = _atlas()
    with pytest.raises(ValueError, match="2 weights for 3 labels"):
        transfer_labels(sphere, folding, sphere, labels, folding, weights=np.zeros(2))


def test_weights_of_aparc_are_those_of_its_names():
    names = parcellation("aparc", "lh").names
    weights = label_weights("aparc", names)
    assert weights is not None and len(weights) == len(names)
    # frontal poles of the atlas are half as large as FreeSurfer's
    assert weights[names.index("frontalpole")] == weights.max() > 0.5
    assert weights[names.index("unknown")] == 0
    assert label_weights("schaefer100", parcellation("schaefer100", "lh").names) is None


def test_folding_that_does_not_fit_is_refused():
    sphere, labels, folding = _atlas()
    with pytest.raises(ValueError, match="fit"):
        transfer_labels(sphere, folding[:9], sphere, labels, folding)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_bundled_parcellations_can_be_written_and_read(name, hemi, tmp_path):
    atlas = parcellation(name, hemi)
    assert len(atlas.labels) == atlas_sphere(hemi).n_vertices == 32492
    path = tmp_path / f"{hemi}.{name}.annot"
    write_annotation(path, atlas.labels, atlas.names, atlas.colours)
    labels, names, colours = read_annotation(path)
    assert np.array_equal(labels, atlas.labels)
    assert names == atlas.names
    assert np.array_equal(colours[:, :3], atlas.colours[:, :3])
    assert len(nib.freesurfer.read_annot(path)[2]) == len(atlas.names)


def test_dk_has_freesurfers_names_in_its_order():
    names = parcellation("aparc", "lh").names
    assert names[0] == "unknown" and names[1] == "bankssts" and names[4] == "corpuscallosum"
    assert names[35] == "insula" and names[24] == "precentral" and len(names) == 36


def test_precentral_lies_in_front_of_postcentral():
    for hemi in ("lh", "rh"):
        atlas, sphere = parcellation("aparc", hemi), atlas_sphere(hemi)
        mean_y = {
            name: sphere.vertices[atlas.labels == atlas.names.index(name), 1].mean()
            for name in ("precentral", "postcentral", "lateraloccipital")
        }
        assert mean_y["precentral"] > mean_y["postcentral"] > mean_y["lateraloccipital"]


def test_unknown_parcellation_is_refused():
    with pytest.raises(ValueError, match="schaefer100"):
        parcellation("brodmann", "lh")


def test_two_parcels_of_one_colour_are_refused(tmp_path):
    with pytest.raises(ValueError, match="colour"):
        write_annotation(tmp_path / "x.annot", np.array([0, 1]), ["a", "b"], np.zeros((2, 3)))


def _ribbon() -> tuple[Volume, dict[str, HemisphereParcels]]:
    """Two balls of white matter with a shell of cortex, left and right, in an LAS volume."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [40.0, -20.0, -20.0]
    shape = (81, 41, 41)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    labels = np.zeros(shape, dtype=np.int32)
    surfaces = {}
    for hemi, x, white, cortex in (("lh", -20.0, 2, 3), ("rh", 20.0, 41, 42)):
        distance = np.linalg.norm(world - [x, 0, 0], axis=-1)
        labels[distance <= 15] = cortex
        labels[distance <= 12] = white
        unit = ball(4).vertices / 100
        names = np.where(unit[:, 1] > 0, 24, 22)
        names[unit[:, 2] < -0.9] = 0
        centre = np.array([x, 0, 0])
        surfaces[hemi] = HemisphereParcels(
            ball(4).moved(12 * unit + centre), ball(4).moved(15 * unit + centre), names
        )
    return Volume(labels, affine), surfaces


def test_ribbon_gets_the_parcels_of_its_own_side():
    aseg, surfaces = _ribbon()
    out = label_ribbon(aseg, surfaces)
    world = out.grid.points_ras()
    for _, cortex, first in (("lh", 3, 1000), ("rh", 42, 2000)):
        at = aseg.data == cortex
        assert set(np.unique(out.data[at])) == {first + 22, first + 24}
        front = at & (world[..., 1] > 2) & (world[..., 2] > -10)
        assert (out.data[front] == first + 24).all()
    assert np.array_equal(out.data[aseg.data == 2], aseg.data[aseg.data == 2])


def test_white_matter_is_named_after_the_near_parcel():
    aseg, surfaces = _ribbon()
    out = label_white_matter(label_ribbon(aseg, surfaces), surfaces)
    world = out.grid.points_ras()
    distance = np.linalg.norm(world - [-20.0, 0, 0], axis=-1)
    assert (out.data[distance < 6] == 5001).all()
    near = (distance > 9) & (distance < 11.5) & (world[..., 1] > 2) & (world[..., 2] > 0)
    assert (out.data[near] == 3024).all()
    assert not np.isin(out.data, [2, 41]).any()
    assert (out.data[np.linalg.norm(world - [20.0, 0, 0], axis=-1) < 6] == 5002).all()


def test_atlases_without_volume_numbers_are_refused():
    aseg, surfaces = _ribbon()
    with pytest.raises(ValueError, match="hcp-mmp"):
        label_ribbon(aseg, surfaces, "hcp-mmp")


def test_cortex_of_the_aseg_becomes_that_of_the_surfaces():
    aseg = Volume(np.array([[[3, 3, 3, 2, 0, 17, 24, 41, 10]]], dtype=np.int32), np.eye(4))
    ribbon = np.array([[[3, 0, 2, 3, 3, 3, 42, 41, 2]]])
    found = with_ribbon(aseg, ribbon).data.ravel().tolist()
    assert found == [3, 0, 2, 3, 3, 17, 42, 41, 10]
    with pytest.raises(ValueError, match="shape"):
        with_ribbon(aseg, ribbon[..., :4])
