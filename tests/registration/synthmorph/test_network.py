"""Parameter counts as published, antisymmetry, integration against float64, loading of .h5 files."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.registration.synthmorph.network import (
    DEFORM_PARAMETERS,
    DETECTOR_PARAMETERS,
    DeformationNet,
    FeatureDetector,
    count_parameters,
    integrate,
)
from deepprep.registration.synthmorph.weights import load_deformation, load_detector
from tests.registration.synthmorph.random_weights import convs_of, keras_file

RNG = np.random.default_rng(1)
SMALL = 4


def test_parameter_counts_are_the_published_ones():
    with torch.device("meta"):
        detector, deform = FeatureDetector(), DeformationNet()
    assert count_parameters(detector) == DETECTOR_PARAMETERS == 12_837_696
    assert count_parameters(deform) == DEFORM_PARAMETERS == 26_579_715
    # the hypernetwork has 33 numbers for each of these, and its own layers
    assert 33 * DEFORM_PARAMETERS + 64 + 3 * 33 * 32 == 877_133_827


def test_shapes_and_antisymmetry():
    torch.manual_seed(0)
    a, b = torch.rand(2, 1, 1, 32, 16, 48)
    net = DeformationNet(SMALL).eval()
    with torch.no_grad():
        velocity = net(a, b)
        np.testing.assert_allclose(velocity, -net(b, a), atol=1e-7)
        features = FeatureDetector(SMALL, 5)(a)
    assert velocity.shape == (1, 3, 32, 16, 48)
    assert velocity.abs().max() > 0
    assert features.shape == (1, 5, 2, 1, 3)
    assert features.min() >= 0


def test_detector_of_equal_images_gives_the_identity():
    torch.manual_seed(2)
    image = torch.rand(1, 1, 48, 48, 48, dtype=torch.float64)
    net = FeatureDetector(8, 32).double()
    with torch.no_grad():
        found = net.affine(image, image, (96, 96, 96))
    np.testing.assert_allclose(found[0], np.eye(3, 4), atol=1e-5)


def test_integration_is_scaling_and_squaring_in_float64():
    velocity = np.stack([ndimage.gaussian_filter(RNG.normal(size=(20, 18, 16)), 3) for _ in "xyz"])
    velocity *= 3 / np.abs(velocity).max()
    ident = np.indices(velocity.shape[1:]).astype(float)
    field = velocity / 2**7
    for _ in range(7):
        at = ident + field
        field = field + np.stack(
            [ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in field]
        )
    found = integrate(torch.from_numpy(velocity.astype(np.float32)))
    np.testing.assert_allclose(found, field, atol=1e-3 * np.abs(field).max())


def test_detector_file_is_read_in_order_and_checked(tmp_path):
    layers = [
        [RNG.normal(size=(3, 3, 3, c.in_channels, c.out_channels)), RNG.normal(size=c.out_channels)]
        for c in convs_of(FeatureDetector(SMALL, 5))
    ]
    keras_file(tmp_path / "affine.h5", layers)
    net = load_detector(tmp_path / "affine.h5", SMALL, 5)
    for conv, (kernel, bias) in zip(convs_of(net), layers):
        np.testing.assert_allclose(conv.weight[2, 0, 0, 1, 2].detach(), kernel[0, 1, 2, 0, 2])
        np.testing.assert_allclose(conv.bias.detach(), bias, rtol=1e-6)
    with pytest.raises(InputError, match="give the official file"):
        load_detector(tmp_path / "affine.h5", SMALL, 6)
    keras_file(tmp_path / "short.h5", layers[:-1])
    with pytest.raises(InputError, match="8 layers with weights where SynthMorph has 9"):
        load_detector(tmp_path / "short.h5", SMALL, 5)
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_detector(tmp_path / "broken.h5")


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_deformation_file_is_collapsed_at_a_strength(tmp_path, strength):
    dense = [[RNG.normal(size=(1, 32)), RNG.normal(size=32)]]
    dense += [[RNG.normal(size=(32, 32)) / 8, RNG.normal(size=32)] for _ in range(3)]
    convs = convs_of(DeformationNet(SMALL))
    made = []
    for c in convs:
        size = 27 * c.in_channels * c.out_channels
        shapes = [(32, size), (size,), (32, c.out_channels), (c.out_channels,)]
        made.append([RNG.normal(size=s) for s in shapes])
    keras_file(tmp_path / "deform.h5", dense + made)
    net = load_deformation(tmp_path / "deform.h5", strength, SMALL)
    code = np.array([strength])
    for kernel, bias in dense:
        code = np.maximum(code @ kernel + bias, 0)
    for conv, (k, kb, b, bb) in zip(convs_of(net), made):
        kernel = (code @ k + kb).reshape(3, 3, 3, conv.in_channels, conv.out_channels)
        expected = np.moveaxis(kernel, (4, 3), (0, 1))
        np.testing.assert_allclose(conv.weight.detach(), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(conv.bias.detach(), code @ b + bb, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="0 to 1"):
        load_deformation(tmp_path / "deform.h5", 1.5, SMALL)
