from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import noise

from medddist.data import Scaling

SCALINGS = {1: Scaling((0.47,), (0.23,)), 3: Scaling((0.1, 0.5, 0.7), (0.2, 0.3, 0.05))}
OTHERS = {1: Scaling((0.3,), (0.11,)), 3: Scaling((0.2, 0.4, 0.6), (0.1, 0.2, 0.3))}
CHANNELS = pytest.mark.parametrize("channels", [1, 3])


def column(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


@CHANNELS
def test_it_is_measured_exactly(channels):
    images = noise(50, channels, 9, 9)
    scaling = Scaling.measured(images)
    assert np.allclose(scaling.mean, (images / 255).mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(scaling.std, (images / 255).std((0, 2, 3)), atol=1e-12)


@CHANNELS
def test_images_are_standardised_in_float32_to_the_same_bits_as_ever(channels):
    scaling, images = SCALINGS[channels], noise(20, channels, 9, 9)
    mean, std = column(scaling.mean) * 255, column(scaling.std) * 255
    standardised = scaling.apply(images)
    assert standardised.dtype == np.float32
    assert (standardised == (images.astype(np.float32) - mean) / std).all()
    shares = images.astype(np.float32) / 255
    assert (scaling.apply(shares) == (shares - column(scaling.mean)) / column(scaling.std)).all()


@CHANNELS
def test_arrays_and_tensors_get_the_same_bits(channels):
    one, other, images = SCALINGS[channels], OTHERS[channels], noise(20, channels, 9, 9)
    standardised = one.apply(images)
    tensor = torch.from_numpy(standardised)
    assert torch.equal(one.apply(torch.from_numpy(images)), tensor)
    assert torch.equal(one.invert(tensor), torch.from_numpy(one.invert(standardised)))
    moved = one.between(other, standardised)
    assert torch.equal(one.between(other, tensor), torch.from_numpy(moved))


@CHANNELS
def test_the_ways_back_and_across(channels):
    one, other, images = SCALINGS[channels], OTHERS[channels], noise(20, channels, 9, 9)
    standardised = one.apply(images)
    assert np.allclose(one.invert(standardised), images / 255, atol=1e-6)
    assert one.invert(standardised * 100).min() == 0 and one.invert(standardised * 100).max() == 1
    assert np.allclose(one.between(other, standardised), other.apply(images), atol=1e-5)
    assert one.between(Scaling(one.mean, one.std), standardised) is standardised
