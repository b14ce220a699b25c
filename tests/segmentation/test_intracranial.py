"""Intracranial volume scales with the head."""

import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.interfaces.freesurfer import template_brain
from deepprep.registration.transforms import Affine
from deepprep.segmentation.intracranial import (
    TEMPLATE_ICV_MM3,
    estimate_intracranial_volume,
    intracranial_volume_from,
)


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.1])
def test_the_template_scaled_has_its_scaled_volume(scale):
    template = template_brain()
    affine = np.diag([scale, scale, scale, 1.0]) @ template.head.affine
    # The template's head with other voxel sizes is a smaller or larger head.
    head = Volume(template.head.data, affine)
    found = estimate_intracranial_volume(head, template.mask.data > 0.5, template)
    assert found.volume_mm3 == pytest.approx(TEMPLATE_ICV_MM3 * scale**3, rel=0.01)
    assert found.t1w_to_template_det == pytest.approx(scale**-3, rel=0.01)


def test_a_known_affine_is_used():
    found = intracranial_volume_from(Affine(np.diag([0.9, 0.9, 0.9, 1.0])))
    assert found.volume_mm3 == pytest.approx(TEMPLATE_ICV_MM3 * 0.729)


def test_the_constant_is_larger_than_the_templates_brain_mask():
    template = template_brain()
    mask_mm3 = (template.mask.data > 0.5).sum() * template.mask.grid.voxel_volume_mm3
    assert 1.0 < TEMPLATE_ICV_MM3 / mask_mm3 < 1.1


def test_a_mirror_image_is_refused():
    with pytest.raises(ValueError, match="mirror"):
        intracranial_volume_from(Affine(np.diag([-1.0, 1.0, 1.0, 1.0])))
