"""The ConvNet's derivatives that are written out equal autograd's, whatever the shape, type and
memory layout.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small import softmax_network
from torch import Tensor

from medddist.base.seeds import generator
from medddist.method.fast.derivatives import (
    directional,
    directional_by_autograd,
    directional_by_difference,
    gradient,
    logits,
    slopes,
    slopes_by_autograd,
    written_out,
)
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters

CLASSES = 3
# width, depth, channels, size: even and odd planes, one pixel at the end, several channels
SHAPES = [
    (4, 2, 1, 8),
    (5, 3, 1, 17),
    (3, 1, 3, 6),
    (4, 2, 2, 7),
    (2, 4, 1, 16),
    (6, 1, 1, 3),
]
CHEST = (4, 2, 1, 12)


def case(shape, targets="hard", dtype=torch.float64, images=4, seed=0):
    """(network, theta, x, targets, v), scales of both signs, far enough from the start to have
    curvature.
    """
    width, depth, channels, size = shape
    network = convnet(NetworkSettings(width=width, depth=depth), channels, CLASSES, size)
    random = generator("derivatives", seed)
    normal = lambda *of: torch.randn(*of, generator=random, dtype=torch.float64)
    theta = initial_parameters(network, seed).double()
    theta = theta + 0.4 * normal(len(theta))
    x, v, y = (
        normal(images, channels, size, size),
        normal(len(theta)),
        torch.arange(images) % CLASSES,
    )
    if targets == "soft":
        y = normal(images, CLASSES).softmax(1).to(dtype)
    return network, theta.to(dtype), x.to(dtype), y, v.to(dtype)


def plain_gradient(network: Network, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    leaf = theta.clone().requires_grad_()
    loss = F.cross_entropy(network(leaf, x), y)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def distances(found, expected) -> list[float]:
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert [a is None for a in found] == [b is None for b in expected]
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return [((a - b).norm() / b.norm()).item() for a, b in pairs]


@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_autograds_in_double_precision(shape, targets):
    network, theta, x, y, v = case(shape, targets)
    assert written_out(network, theta, x)
    assert (
        max(distances(gradient(network, theta, x, y), plain_gradient(network, theta, x, y))) < 1e-12
    )
    found, expected = (
        directional(network, theta, x, y, v),
        directional_by_autograd(network, theta, x, y, v),
    )
    assert max(distances(found, expected)) < 1e-11
    torch.testing.assert_close(logits(network, theta, x), network(theta, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_as_close_in_single_precision_as_autograd_is(shape):
    """Against float64; a factor of four leaves room for the luck of one case."""
    exact = case(shape)
    single = [
        *(
            tensor.float() if torch.is_tensor(tensor) and tensor.is_floating_point() else tensor
            for tensor in exact
        )
    ]
    of_slope = (directional, directional_by_autograd)
    of_loss = (gradient, plain_gradient)
    for (ours, plain), arguments in ((of_slope, 5), (of_loss, 4)):
        truth = plain(*exact[:arguments])
        errors = [
            max(distances([t if t is None else t.double() for t in of(*single[:arguments])], truth))
            for of in (ours, plain)
        ]
        assert errors[0] < 4 * errors[1] + 1e-6


def test_slope_and_its_derivatives_against_finite_differences():
    network, theta, x, y, v = case(CHEST, "soft")
    step, loss = (
        1e-5,
        lambda at, images, targets: F.cross_entropy(network(at, images), targets).item(),
    )
    found = directional(network, theta, x, y, v)
    ahead, behind = (loss(theta + by * v, x, y) for by in (step, -step))
    assert found.slope.item() == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    random = generator("towards")
    for name, place in (("by_theta", 0), ("by_images", 1), ("by_targets", 2)):
        for _ in range(3):
            at = [theta, x, y]
            towards = torch.randn(at[place].shape, generator=random, dtype=torch.float64)
            slopes = []
            for by in (step, -step):
                at = [theta, x, y]
                at[place] = at[place] + by * towards
                slopes.append((plain_gradient(network, *at)[1] @ v).item())
            expected = (slopes[0] - slopes[1]) / (2 * step)
            assert (getattr(found, name) * towards).sum().item() == pytest.approx(
                expected, rel=1e-5, abs=1e-8
            )


def test_a_bias_before_a_normalisation_has_no_derivative():
    network, theta, x, y, v = case(CHEST)
    for flat in (gradient(network, theta, x, y)[1], directional(network, theta, x, y, v).by_theta):
        none = {name for name, part in network.named(flat).items() if not part.any()}
        assert none == {"convolutions.0.bias", "convolutions.1.bias"}


def unfolded(noted: Tensor, size: tuple[int, int]) -> Tensor:
    """Which ReLUs are open, (N, C, h, w) of booleans, from the bytes of the pooling's windows."""
    found = torch.zeros(*noted.shape[:2], *size, dtype=torch.bool)
    for bit in range(4):
        row, column = divmod(bit, 2)
        found[:, :, row : 2 * noted.shape[2] : 2, column : 2 * noted.shape[3] : 2] = (
            noted >> bit & 1
        ).bool()
    return found


def all_unfolded(noted, size_px: int) -> tuple[Tensor, ...]:
    return tuple(unfolded(one, (size_px >> k, size_px >> k)) for k, one in enumerate(noted))


@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("shape", SHAPES)
def test_slopes_equal_autograds_with_the_relus_free_and_held(shape, targets):
    """Held: at a place far enough for ReLUs to have opened and closed, with those of the first
    place.
    """
    network, theta, x, y, v = case(shape, targets)
    noted = slopes(network, theta, x, y)
    expected = slopes_by_autograd(network, theta, x, y)
    assert max(distances(noted[:3], expected[:3])) < 1e-12
    assert torch.equal(noted.by_theta, gradient(network, theta, x, y)[1])
    held = all_unfolded(noted.open, shape[-1])
    for ours, its in zip(held, expected.open, strict=True):
        whole = [
            size - size % 2 for size in its.shape[2:]
        ]  # of an odd size the pooling leaves the last out
        assert torch.equal(ours[:, :, : whole[0], : whole[1]], its[:, :, : whole[0], : whole[1]])
    there = theta + v
    of_held, expected = (
        slopes(network, there, x, y, noted.open),
        slopes_by_autograd(network, there, x, y, held),
    )
    assert max(distances(of_held[:3], expected[:3])) < 1e-12
    assert all(torch.equal(a, b) for a, b in zip(of_held.open, noted.open, strict=True))
    assert min(distances(slopes(network, there, x, y)[:2], expected[:2])) > 1e-3, (
        "no ReLU opened or closed"
    )


@pytest.mark.parametrize("way", [slopes, slopes_by_autograd])
@pytest.mark.parametrize("dtype, precision", [(torch.float64, 1e-6), (torch.float32, 2e-2)])
@pytest.mark.parametrize("length", [1e-9, 1.0, 1e9])
def test_a_difference_has_half_of_the_digits_however_long_the_direction(
    dtype, precision, length, way, monkeypatch
):
    for seed, shape in enumerate(SHAPES):
        exact = directional(*case(shape, "soft", seed=seed))
        network, theta, x, y, v = case(shape, "soft", dtype, seed=seed)
        monkeypatch.setattr("medddist.method.fast.derivatives.slopes", way)
        found = directional_by_difference(
            network, theta, x, y, length * v, way(network, theta, x, y)
        )
        assert max(distances([part.double() / length for part in found], exact)) < precision


def test_a_difference_along_nothing_is_nothing():
    network, theta, x, y, v = case(CHEST, dtype=torch.float32)
    found = directional_by_difference(network, theta, x, y, 0 * v, slopes(network, theta, x, y))
    assert not found.slope and max(found.by_theta.abs().max(), found.by_images.abs().max()) < 1e-30


def test_slopes_ask_for_a_convnet():
    with pytest.raises(TypeError, match="ConvNet"):
        slopes(
            softmax_network(6, 3),
            torch.zeros(21),
            torch.zeros(2, 1, 2, 3),
            torch.zeros(2, dtype=torch.int64),
        )


def strided(tensor: Tensor) -> Tensor:
    """The same values, no two of them adjacent in memory."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), float("nan"), dtype=tensor.dtype)
    wide[..., ::2] = tensor
    return wide[..., ::2]


@pytest.mark.parametrize(
    "layout", [strided, lambda x: x.mT.contiguous().mT], ids=["strided", "transposed"]
)
def test_memory_layout_of_the_images_does_not_matter(layout):
    network, theta, x, y, v = case(CHEST)
    assert torch.equal(gradient(network, theta, layout(x), y)[1], gradient(network, theta, x, y)[1])
    found, expected = (directional(network, theta, images, y, v) for images in (layout(x), x))
    assert torch.equal(found.by_images, expected.by_images) and torch.equal(
        found.by_theta, expected.by_theta
    )


def test_nothing_that_is_handed_in_is_changed_and_bits_repeat():
    network, *handed = case(CHEST, "soft", torch.float32)
    copies = [tensor.clone() for tensor in handed]
    first, again = (directional(network, *handed) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert torch.equal(gradient(network, *handed[:3])[1], gradient(network, *handed[:3])[1])
    assert all(torch.equal(a, b) for a, b in zip(handed, copies))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(value):
    """A diverged network must not be taken for a finite one: torch's ReLU hands on a NaN, and so do
    the kernels.
    """
    network, theta, x, y, _ = case(CHEST)
    x[1, 0, 3, 3] = value
    loss, slope = gradient(network, theta, x, y)
    assert not loss.isfinite() and not slope.isfinite().all()
    assert torch.equal(logits(network, theta, x).isfinite(), network(theta, x).isfinite())


def test_a_flat_image_has_no_deviation_to_divide_by():
    network, theta, x, y, v = case(CHEST, dtype=torch.float32)
    x[1] = 7.0
    found, expected = (
        directional(network, theta, x, y, v),
        directional_by_autograd(network, theta, x, y, v),
    )
    assert all(tensor.isfinite().all() for tensor in found if tensor is not None)
    torch.testing.assert_close(found.slope, expected.slope, rtol=1e-2, atol=1e-3)


def test_a_large_mean_does_not_drown_the_deviation():
    """Sum of squares minus square of sums would lose all digits here."""
    network, theta, x, y, _ = case((4, 1, 1, 16))
    exact = logits(network, theta, x + 1000)
    torch.testing.assert_close(
        logits(network, theta.float(), (x + 1000).float()).double(), exact, rtol=1e-2, atol=1e-2
    )


def test_other_networks_and_types_take_autograds_way():
    assert not written_out(softmax_network(4, 3), torch.zeros(1))
    network, theta, x, y, v = case(CHEST)
    assert not written_out(network, theta, x.float()) and not written_out(
        network, theta.half(), x.half()
    )
    plain = softmax_network(x[0].numel(), CLASSES)
    theta = initial_parameters(plain, 0).double()
    direction = torch.randn(len(theta), generator=generator(0), dtype=torch.float64)
    found = directional(plain, theta, x, y, direction)
    _, slope = gradient(plain, theta, x, y)
    assert found.slope.item() == pytest.approx((slope @ direction).item(), rel=1e-12)
    assert found.by_images.shape == x.shape and found.by_targets is None
