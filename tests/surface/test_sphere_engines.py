"""Choice of the engine of spherical registration."""

import pytest

from deepprep.errors import InputError, MissingResourceError
from deepprep.surface.sphere_engines import HEMISPHERES, choose_sphere_engine, weight_names


def test_auto_fits_each_participant():
    assert choose_sphere_engine().name == "refine"
    assert "refine" in choose_sphere_engine("refine").reason


def test_sugar_needs_all_ten_files(tmp_path):
    names = [name for hemi in HEMISPHERES for name in weight_names(hemi).values()]
    assert len(set(names)) == 10
    for name in names[:-1]:
        path = tmp_path / name.split("_")[-1].removesuffix(".model") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(MissingResourceError, match=names[-1]):
        choose_sphere_engine("sugar", tmp_path)
    (tmp_path / names[-1]).write_bytes(b"")
    choice = choose_sphere_engine("sugar", tmp_path)
    assert choice.name == "sugar"
    assert choice.files["lh"]["3"].endswith("fsaverage3/lh_NoRigid_904_fsaverage3.model")
    assert choice.files["rh"]["6"] == str(tmp_path / names[-1])


def test_unknown_engine_is_refused():
    with pytest.raises(InputError, match="auto, sugar, refine"):
        choose_sphere_engine("msm")
