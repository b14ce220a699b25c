"""CIFTI files of the cortex."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.data.surface_atlases import fslr_cortex
from deepprep.interfaces.cifti import write_dscalar

CORTEX = {hemi: fslr_cortex(hemi) for hemi in ("lh", "rh")}


def test_values_come_back_at_their_vertices(tmp_path):
    whole = {"lh": np.arange(32492.0), "rh": -np.arange(32492.0)}
    kept = {hemi: whole[hemi][CORTEX[hemi]] for hemi in whole}
    path = write_dscalar(tmp_path / "a.dscalar.nii", kept, CORTEX, "thickness")
    image = nib.load(path)
    assert image.nifti_header.get_intent()[0] == "ConnDenseScalar"
    maps, brain = (image.header.get_axis(i) for i in range(2))
    assert list(maps.name) == ["thickness"]
    assert len(brain) == 59412
    found = {name: (part, axis) for name, part, axis in brain.iter_structures()}
    assert list(found) == ["CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"]
    data = np.asarray(image.dataobj)[0]
    for hemi, (part, axis) in zip(("lh", "rh"), found.values()):
        assert next(iter(axis.nvertices.values())) == 32492
        assert np.array_equal(data[part], whole[hemi][axis.vertex])
    assert not list(tmp_path.glob(".*"))


def test_values_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="values for"):
        write_dscalar(tmp_path / "a.dscalar.nii", {"lh": [1.0], "rh": [1.0]}, CORTEX, "x")
