"""An atlas of structures has its say where a network is unsure, and no more than that."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.data.templates import template_files
from deepprep.image.volume import Volume
from deepprep.reports.methods import whole_brain_segmentation
from deepprep.segmentation.atlas_prior import (
    FLUID,
    SHARE,
    TEMPLATE,
    ask_atlas,
    structure_atlas,
)
from deepprep.segmentation.compact.engine import ATLAS
from deepprep.segmentation.compact.network import CLASSES

LEFT_PUTAMEN, LEFT_WHITE = CLASSES.index(12), CLASSES.index(2)


@pytest.fixture(scope="module")
def template() -> tuple[Volume, np.ndarray]:
    """The template at 2 mm as a head, and its structures."""
    files = template_files(TEMPLATE, 2)
    brain, aseg = (nib.load(f) for f in (files.brain, files.aseg))
    labels = np.asarray(aseg.dataobj).astype(np.uint8)
    data = np.asarray(brain.dataobj, dtype=np.float32)
    return Volume(np.where(labels > 0, data, 0), brain.affine), labels


def posterior_of(labels: np.ndarray, sure: float = 1.0) -> np.ndarray:
    """``sure`` for the label of a voxel; the rest for white matter of the left."""
    out = np.zeros((len(CLASSES), *labels.shape), np.float16)
    for i, label in enumerate(CLASSES):
        out[i] = sure * (labels == label)
    out[LEFT_WHITE] += 1 - sure
    return out


def named(posterior: np.ndarray) -> np.ndarray:
    return np.array(CLASSES)[posterior.argmax(0)]


def test_shares_are_parts_of_one_and_sides_are_right():
    atlas = structure_atlas(ATLAS)
    assert atlas.classes == CLASSES
    total = atlas.shares.sum(0, dtype=int)
    assert total.max() <= 255 + len(CLASSES) / 2
    for left, right in ((12, 51), (17, 53), (18, 54), (26, 58), (8, 47)):
        middles = []
        for label in (left, right):
            share = atlas.shares[CLASSES.index(label)].astype(float)
            at = np.array([(share * i).sum() for i in np.indices(share.shape)]) / share.sum()
            middles.append(atlas.grid.affine[:3, :3] @ at + atlas.grid.affine[:3, 3])
        assert middles[0][0] < -7 and middles[1][0] > 7
        np.testing.assert_allclose(middles[0][1:], middles[1][1:], atol=4)


def test_volumes_are_those_of_people():
    atlas = structure_atlas(ATLAS)
    ml = atlas.shares.sum((1, 2, 3), dtype=float) / 255 * atlas.grid.voxel_volume_mm3 / 1000
    for label, (least, most) in {12: (4, 8), 17: (3, 7), 10: (5, 12), 16: (15, 35)}.items():
        assert least < ml[CLASSES.index(label)] < most


def test_a_sure_network_is_not_outvoted(template):
    head, labels = template
    posterior = posterior_of(labels)
    assert ask_atlas(structure_atlas(ATLAS), head, labels, posterior, CLASSES)
    np.testing.assert_array_equal(named(posterior), named(posterior_of(labels)))


def test_sums_and_fluid_stay(template):
    head, labels = template
    before = posterior_of(labels, 0.8)
    after = before.copy()
    assert ask_atlas(structure_atlas(ATLAS), head, labels, after, CLASSES)
    fluid = [i for i, c in enumerate(CLASSES) if c in FLUID]
    np.testing.assert_array_equal(after[fluid], before[fluid])
    np.testing.assert_allclose(after.sum(0, dtype=np.float32), before.sum(0, dtype=np.float32),
                               atol=4e-3)  # fmt: skip
    assert (after != before).any()


def test_an_unsure_network_is_told(template):
    # the hind part of a putamen is a little more white matter than putamen to the network
    head, labels = template
    putamen = labels == 12
    behind = (
        putamen & (np.arange(labels.shape[1]) < np.quantile(np.nonzero(putamen)[1], 0.3))[:, None]
    )
    posterior = posterior_of(labels)
    posterior[LEFT_PUTAMEN][behind], posterior[LEFT_WHITE][behind] = 0.45, 0.55
    seen = np.where(behind, 2, labels)
    assert ask_atlas(structure_atlas(ATLAS), head, seen, posterior, CLASSES)
    assert (named(posterior)[behind] == 12).mean() > 0.6
    others = (labels > 0) & ~behind
    np.testing.assert_array_equal(named(posterior)[others], labels[others])


def test_share_of_the_atlas_is_as_said(template):
    head, labels = template
    before = posterior_of(labels, 0.7)
    after = before.copy()
    ask_atlas(structure_atlas(ATLAS), head, labels, after, CLASSES)
    # deep inside the left putamen all maps agree: 0.7 + SHARE * (1 - 0.7)
    most = np.unravel_index(after[LEFT_PUTAMEN].argmax(), labels.shape)
    assert after[LEFT_PUTAMEN][most] == pytest.approx(0.7 + SHARE * 0.3, abs=0.01)


def test_where_a_head_lies_does_not_matter(template):
    head, labels = template
    moved = head.affine.copy()
    moved[:3, 3] += (31, -17, 22)
    both = []
    for affine in (head.affine, moved):
        posterior = posterior_of(labels, 0.6)
        assert ask_atlas(
            structure_atlas(ATLAS), Volume(head.data, affine), labels, posterior, CLASSES
        )
        both.append(posterior)
    np.testing.assert_allclose(*both, atol=0.02)


@pytest.mark.parametrize("case", ["shuffled", "mirrored", "few", "none"])
def test_what_does_not_fit_is_left_alone(template, case):
    head, labels = template
    if case == "shuffled":
        table = np.arange(256, dtype=np.uint8)
        table[list(CLASSES)] = np.random.default_rng(0).permutation(CLASSES)
        labels = table[labels]
    elif case == "mirrored":
        labels = labels[::-1]
    elif case == "few":
        labels = np.where(np.isin(labels, (12, 51)), labels, 0)
    else:
        labels = np.zeros_like(labels)
    before = posterior_of(labels, 0.6)
    after = before.copy()
    assert not ask_atlas(structure_atlas(ATLAS), head, labels, after, CLASSES)
    np.testing.assert_array_equal(after, before)


def test_other_classes_are_an_error(template):
    head, labels = template
    with pytest.raises(ValueError, match="classes"):
        ask_atlas(structure_atlas(ATLAS), head, labels, posterior_of(labels), CLASSES[::-1])


def test_the_methods_section_says_the_share():
    assert f"at most {100 * SHARE:.0f} %" in whole_brain_segmentation("deepprep").text
