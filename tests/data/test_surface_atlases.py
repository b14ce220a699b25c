"""The bundled spheres and parcellations are those of their page, with licences beside."""

import hashlib
from pathlib import Path

import pytest

import deepprep.data

FOLDER = Path(deepprep.data.__file__).parent / "atlases"


@pytest.mark.parametrize("name", ["spheres.npz", "parcellations.npz", "structures.npz"])
def test_file_is_the_one_of_the_page(name):
    listed = (FOLDER / "README.md").read_text()
    assert f"`{name}` {hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()}" in listed


@pytest.mark.parametrize("wheel", ["t1prep", "smriprep", "synthseg"])
def test_licence_lies_beside(wheel):
    assert "Apache License" in (FOLDER / f"LICENSE.{wheel}").read_text()
