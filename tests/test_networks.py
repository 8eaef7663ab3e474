"""The ConvNet as a function of its flat parameters, against a model put together from torch's layers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from medddist.derivatives import logits
from medddist.errors import InputError
from medddist.networks import NetworkSettings, convnet, initial_parameters
from small import CLASSES, SIZE_PX, tiny_network


def reference(width: int, depth: int, channels: int, classes: int, image_size_px: int) -> nn.Sequential:
    """MTT's ConvNet from torch's layers: convolution, GroupNorm of a group a channel, ReLU, average pool; linear."""
    layers: list[nn.Module] = []
    for block in range(depth):
        layers += [
            nn.Conv2d(channels if block == 0 else width, width, kernel_size=3, padding=1),
            nn.GroupNorm(width, width, affine=True),
            nn.ReLU(),
            nn.AvgPool2d(kernel_size=2, stride=2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (image_size_px // 2**depth) ** 2, classes))


def loaded_reference(network, theta, *sizes) -> nn.Sequential:
    """The reference with theta's values, by layer: convolutions, norms and linear each in their own order."""
    model, parts = reference(*sizes).to(theta.dtype), network.named(theta)
    kinds = {"convolutions": nn.Conv2d, "norms": nn.GroupNorm, "linear": nn.Linear}
    for name, kind in kinds.items():
        for number, layer in enumerate(layer for layer in model if isinstance(layer, kind)):
            prefix = f"{name}.{number}" if name != "linear" else name
            layer.load_state_dict({"weight": parts[f"{prefix}.weight"], "bias": parts[f"{prefix}.bias"]})
    return model


def test_the_papers_network_has_597_508_parameters():
    network = convnet(NetworkSettings(width=128, depth=5), channels=1, classes=4, image_size_px=112)
    assert network.parameter_count == 597_508
    assert sum(p.numel() for p in reference(128, 5, 1, 4, 112).parameters()) == 597_508


@pytest.mark.parametrize("width, depth, channels, size", [(4, 2, 1, 8), (6, 3, 3, 17), (5, 1, 1, 9), (3, 4, 3, 20)])
def test_equals_a_model_of_torchs_layers(width, depth, channels, size):
    network = convnet(NetworkSettings(width=width, depth=depth), channels, 3, size)
    theta = initial_parameters(network, "test").double()
    theta += 0.3 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = loaded_reference(network, theta, width, depth, channels, 3, size)
    torch.testing.assert_close(network(theta, x), model(x), rtol=1e-10, atol=1e-12)


def test_gradient_reaches_every_parameter_but_a_bias_before_a_normalisation():
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = tiny_network()
    theta = initial_parameters(network, 0).double().requires_grad_()
    (slope,) = torch.autograd.grad(network(theta, x).square().sum(), theta)
    without = {name for name, part in network.named(slope).items() if part.abs().max() < 1e-9}
    assert without == {"convolutions.0.bias", "convolutions.1.bias"}


def test_parameters_are_views_in_a_fixed_order():
    network = tiny_network()
    theta = torch.arange(float(network.parameter_count))
    assert torch.equal(torch.cat([part.flatten() for part in network.named(theta).values()]), theta)
    assert all(
        part.untyped_storage().data_ptr() == theta.untyped_storage().data_ptr()
        for part in network.named(theta).values()
    )


def test_calling_does_not_touch_the_modules_own_parameters():
    network = tiny_network()
    before = [parameter.clone() for parameter in network.module.parameters()]
    network(torch.zeros(network.parameter_count), torch.zeros(2, 1, 8, 8))
    initial_parameters(network, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, network.module.parameters()))


def test_loaded_gives_the_module_with_these_values():
    network, x = tiny_network(), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    theta = initial_parameters(network, 3)
    torch.testing.assert_close(network.loaded(theta)(x), network(theta, x), rtol=0, atol=0)


def test_initial_parameters_come_from_the_named_seed_alone():
    theta, other = initial_parameters(tiny_network(), 0, "a"), tiny_network()
    torch.rand(7)
    state = torch.random.get_rng_state()
    assert torch.equal(theta, initial_parameters(other, 0, "a"))
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator is left as it was"
    assert not torch.equal(theta, initial_parameters(tiny_network(), 0, "b"))


def test_initial_parameters_are_torchs_defaults():
    """Norms start at one and zero; weights of a layer are uniform within 1 / sqrt(inputs)."""
    network = convnet(NetworkSettings(width=16, depth=2), 1, CLASSES, 16)
    parts = network.named(initial_parameters(network, 0))
    assert parts["norms.1.weight"].eq(1).all() and parts["norms.1.bias"].eq(0).all()
    for name, inputs in (("convolutions.1.weight", 16 * 9), ("linear.weight", 16 * 16)):
        bound = inputs**-0.5
        assert 0.95 * bound < parts[name].abs().max() <= bound
        assert abs(parts[name].std() * 3**0.5 / bound - 1) < 0.1


@pytest.mark.parametrize("size, depth, possible", [(8, 4, 3), (31, 5, 4), (1, 1, 0)])
def test_too_deep_for_the_image(size, depth, possible):
    with pytest.raises(InputError, match=f"^depth: .* {size} px .* {possible} "):
        convnet(NetworkSettings(width=4, depth=depth), 1, 2, size)
    if possible:
        convnet(NetworkSettings(width=4, depth=possible), 1, 2, size)


def test_features_are_the_last_blocks_output():
    assert tiny_network().module.features(torch.zeros(2, 1, 8, 8)).shape == (2, 4, 2, 2)


@pytest.mark.parametrize("shape", [(0,), (254,), (256,), (1, 255), ()])
@pytest.mark.parametrize("of", [tiny_network().__call__, partial(logits, tiny_network())], ids=["network", "logits"])
def test_parameters_of_another_number_are_refused_in_one_line(of, shape):
    said = f"theta: has shape {shape} and the network (255,); give parameters of this network"
    with pytest.raises(InputError) as refused:
        of(torch.zeros(shape), torch.zeros(1, 1, SIZE_PX, SIZE_PX))
    assert str(refused.value) == said
