"""Networks beside the study's own: shapes, sizes and finite gradients; nothing outside theta, and
the same for the same seed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.baselines.architectures import (
    ARCHITECTURES,
    ArchitectureSettings,
    architecture,
    resnet18,
    sine_positions,
)
from medddist.baselines.vision import import_torchvision
from medddist.method.fast.derivatives import directional_by_autograd, gradient
from medddist.method.networks import NetworkSettings, initial_parameters

SMALL = ArchitectureSettings(width=8, vit_width=8, vit_depth=2, vit_heads=2, mlp_width=12)
OWN = NetworkSettings(width=4, depth=2)
every = pytest.mark.parametrize("name", ARCHITECTURES)


def made(name: str, channels: int = 1, image_size_px: int = 32):
    return architecture(name, OWN, SMALL, (channels, 3, image_size_px))


def images(count: int, channels: int = 1, image_size_px: int = 32) -> torch.Tensor:
    return torch.randn(count, channels, image_size_px, image_size_px, generator=generator("images"))


@every
@pytest.mark.parametrize("channels, image_size_px", [(1, 32), (3, 16), (1, 64)])
def test_logits_are_the_linear_layer_of_the_features(name, channels, image_size_px):
    network, x = made(name, channels, image_size_px), images(2, channels, image_size_px)
    theta = initial_parameters(network, 0)
    logits, module = network(theta, x), network.loaded(theta)
    features = module.features(x).flatten(1)
    assert logits.shape == (2, 3) and features.shape == (2, module.linear.in_features)
    torch.testing.assert_close(logits, module.linear(features))


@every
def test_gradients_are_finite_and_reach_every_parameter(name):
    network, x = made(name), images(6)
    loss, slope = gradient(network, initial_parameters(network, 0), x, torch.arange(6) % 3)
    assert loss.isfinite() and slope.isfinite().all() and slope.shape == (network.parameter_count,)
    reached = [bool(part.any()) for part in network.named(slope).values()]
    before_a_norm = [
        name.endswith("bias") for name in network.names
    ]  # a bias before a norm over its own channel changes nothing
    assert all(reach or bias for reach, bias in zip(reached, before_a_norm))


@every
def test_an_image_is_judged_alone_and_leaves_nothing_behind(name):
    """No batch statistics: the others in a batch do not count, and a second look finds the same."""
    network, x = made(name), images(5)
    theta = initial_parameters(network, 1)
    together = network(theta, x)
    torch.testing.assert_close(network(theta, x[:1]), together[:1], rtol=1e-4, atol=1e-5)
    assert torch.equal(network(theta, x), together)
    kept = {key for key, _ in network.module.named_buffers()}
    assert kept <= {"positions"}


@every
def test_a_seed_decides_every_parameter(name):
    first, again, other = made(name), made(name), made(name)
    a, b, c = (
        initial_parameters(first, 7),
        initial_parameters(again, 7),
        initial_parameters(other, 8),
    )
    assert torch.equal(a, b)
    for part, unlike in zip(first.named(a).values(), other.named(c).values()):
        constant = part.unique().numel() == 1  # norms' scales and shifts, which start at 1 and 0
        assert constant or not torch.equal(part, unlike)


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_they_can_be_differentiated_twice(name):
    network = made(name)
    theta = initial_parameters(network, 0)
    found = directional_by_autograd(
        network, theta, images(2), torch.tensor([0, 1]), torch.ones_like(theta)
    )
    assert found.by_theta.isfinite().all() and found.by_images.isfinite().all()


def test_resnet18_is_torchvisions_with_other_norms_and_stem():
    theirs = import_torchvision().models.resnet18(
        weights=None, num_classes=4, norm_layer=lambda c: nn.GroupNorm(8, c)
    )
    theirs.conv1 = nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)
    ours = resnet18(64, (1, 4, 32))
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), theirs.parameters()):
            mine.copy_(its)
        for module in [*ours.modules(), *theirs.modules()]:
            if isinstance(module, nn.GroupNorm):
                module.num_groups = 8
        x = images(2)
        torch.testing.assert_close(ours(x), theirs(x))


def test_sine_positions_against_numpy():
    found = sine_positions(3, 8).numpy()
    for place in range(9):
        row, column = divmod(place, 3)
        expected = []
        for where in (row, column):
            phases = [where / 10000 ** (k / 2) for k in range(2)]
            expected += [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
        np.testing.assert_allclose(found[place], expected, atol=1e-6)


@pytest.mark.parametrize("name, size_px", [("convnet_deep", 4), ("vit", 30)])
def test_images_that_do_not_fit_are_refused_in_one_line(name, size_px):
    with pytest.raises(InputError) as refused:
        made(name, image_size_px=size_px)
    assert "\n" not in str(refused.value)


def test_an_unknown_network_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="^network: 'nonsense' .*resnet18, "):
        made("nonsense")
