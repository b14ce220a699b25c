"""Parcellations from annotations of fsaverage in the models folder."""

import numpy as np
import pytest

from deepprep.data import surface_atlases as atlases
from deepprep.data.parcellations import ANNOTATIONS, BUNDLED, find_annotations
from deepprep.errors import InputError, MissingResourceError
from deepprep.interfaces.annotation_files import read_annotation, write_annotation
from deepprep.interfaces.sphere_files import keep_parcels, load_parcels

COLOURS = np.array([[0, 0, 0, 0], [200, 10, 10, 0], [10, 200, 10, 0]], np.uint8)
NAMES = ("Background+FreeSurfer_Defined_Medial_Wall", "front", "back")


@pytest.fixture
def folder(tmp_path):
    """Schaefer 300 as two halves of fsaverage5: in front of the middle and behind it."""
    labels = np.where(atlases.fsaverage_sphere(5).vertices[:, 1] > 0, 1, 2)
    for hemi in ("lh", "rh"):
        file = tmp_path / "atlases" / f"{hemi}.{ANNOTATIONS['schaefer300']}.annot"
        file.parent.mkdir(exist_ok=True)
        write_annotation(file, labels, NAMES, COLOURS)
    return tmp_path


def test_names_of_the_package_need_no_files(tmp_path):
    assert find_annotations(tuple(BUNDLED), tmp_path) == {}


def test_files_are_found_below_the_folder(folder):
    found = find_annotations(("aparc", "schaefer300"), folder)
    assert list(found) == ["schaefer300"]
    assert found["schaefer300"]["rh"].endswith("rh.Schaefer2018_300Parcels_17Networks_order.annot")


def test_a_missing_file_is_one_sentence(folder):
    with pytest.raises(
        MissingResourceError, match=r"schaefer500 needs lh\.Schaefer2018_500Parcels"
    ):
        find_annotations(("schaefer300", "schaefer500"), folder)
    next(folder.rglob("rh.*")).unlink()
    with pytest.raises(MissingResourceError, match="not both in"):
        find_annotations(("schaefer300",), folder)


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_labels_keep_their_place_names_and_colours(folder, hemi):
    path = find_annotations(("schaefer300",), folder)["schaefer300"][hemi]
    found = atlases.parcellation_of(path, *read_annotation(path), hemi)
    front = atlases.atlas_sphere(hemi).vertices[:, 1]
    far = np.abs(front) > 4.0
    np.testing.assert_array_equal(found.labels[far], np.where(front[far] > 0, 1, 2))
    assert found.names == NAMES
    np.testing.assert_array_equal(found.colours[:, :3], COLOURS[:, :3])


def test_an_annotation_of_a_participant_is_refused():
    with pytest.raises(InputError, match=r"labels 1000 vertices.*not of a participant"):
        atlases.parcellation_of("x.annot", np.zeros(1000, int), NAMES, COLOURS, "lh")


def test_parcels_go_between_tasks_with_names_and_colours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    aparc = atlases.parcellation("aparc", "lh")
    given = {"aparc": aparc, "hcp-mmp": atlases.Parcellation(np.array([2, -1, 0]), NAMES, COLOURS)}
    found = load_parcels(str(keep_parcels(given, "parcels.npz")))
    assert list(found) == list(given)
    for name, parcels in given.items():
        np.testing.assert_array_equal(found[name].labels, parcels.labels)
        assert found[name].names == parcels.names
        np.testing.assert_array_equal(found[name].colours, parcels.colours)
