"""The ConvNet's derivatives that are written out equal autograd's, whatever the shape, type and
memory layout.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import softmax_network
from torch import Tensor

from medddist.base.seeds import generator
from medddist.method.fast import convnet as written_convnet
from medddist.method.fast import kernels, planes
from medddist.method.fast.derivatives import (
    directional,
    directional_by_autograd,
    directional_by_difference,
    gradient,
    last_block,
    last_block_by_autograd,
    last_block_of_each,
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


# ---- single precision ----------------------------------------------------------------------------
# One case says nothing. A slope is a sum that can cancel to a thousandth of its terms; then one
# rounding decides its error, and that differs between processors. So many cases are judged: errors
# against float64 (a slope's relative to |g| |v|), their medians and quantiles, compared with those
# of autograd. A ReLU that single precision opens or closes is a jump, not an error of rounding;
# such cases are left out, and there may be only few.

QUANTITIES = ("slope", "by_theta", "by_images", "by_targets", "loss", "gradient")
SCALARS = ("slope", "loss")  # their errors spread most: a single number can be right by chance


def in_single(arguments: list) -> list:
    return [
        one.float() if torch.is_tensor(one) and one.is_floating_point() else one
        for one in arguments
    ]


def both_orders(second, first, network, theta, x, y, v) -> list[Tensor]:
    return [
        one.double() for one in (*second(network, theta, x, y, v), *first(network, theta, x, y))
    ]


class Exact(NamedTuple):
    """One case with its values in float64, and how far autograd is from them in float32."""

    shape: tuple[int, ...]
    arguments: list
    truth: list[Tensor]
    scale: float  # |g| |v|
    by_autograd: list[float]

    def errors(self, found: list[Tensor]) -> list[float]:
        slope = abs((found[0] - self.truth[0]).item()) / self.scale
        return [slope, *distances(found[1:], self.truth[1:])]


@pytest.fixture(scope="module")
def exact_cases() -> list[Exact]:
    cases, jumped = [], 0
    for shape in SHAPES:
        for seed in range(12):
            arguments = list(case(shape, "soft", seed=seed))
            single, v = in_single(arguments), arguments[4]
            same = [
                torch.equal(a, b)
                for a, b in zip(slopes(*arguments[:4]).open, slopes(*single[:4]).open)
            ]
            same += [
                torch.equal(a, b)
                for a, b in zip(
                    slopes_by_autograd(*arguments[:4]).open, slopes_by_autograd(*single[:4]).open
                )
            ]
            if not all(same):
                jumped += 1
                continue
            truth = both_orders(directional_by_autograd, plain_gradient, *arguments)
            exact = Exact(shape, arguments, truth, (truth[-1].norm() * v.norm()).item(), [])
            plain = exact.errors(both_orders(directional_by_autograd, plain_gradient, *single))
            cases.append(exact._replace(by_autograd=plain))
    assert jumped < 0.1 * (jumped + len(cases)), "too few cases are left"
    return cases


def where_less_precise(cases: list[Exact]) -> list[str]:
    """List what is less precise than autograd; bounds are at least twice what chance gives."""
    ours = np.array(
        [one.errors(both_orders(directional, gradient, *in_single(one.arguments))) for one in cases]
    )
    plain, found = np.array([one.by_autograd for one in cases]), []
    for k, name in enumerate(QUANTITIES):
        scalar = name in SCALARS
        for share, bound in ((0.5, 3.0 if scalar else 1.5), (0.9, 3.0 if scalar else 2.0)):
            ratio = np.quantile(ours[:, k], share) / np.quantile(plain[:, k], share)
            if not ratio < bound:
                found.append(f"{name}: {ratio:.2f} times autograd's error at the quantile {share}")
        for shape in () if scalar else SHAPES:
            of_shape = [number for number, one in enumerate(cases) if one.shape == shape]
            ratio = np.median(ours[of_shape, k]) / np.median(plain[of_shape, k])
            if not ratio < 3:
                found.append(
                    f"{name}: {ratio:.2f} times autograd's median error in the shape {shape}"
                )
    return found


def test_as_close_in_single_precision_as_autograd_is(exact_cases):
    assert where_less_precise(exact_cases) == []


def bits_fewer(z: Tensor, bits: int) -> Tensor:
    """Rounded to so many bits fewer than its type has (Veltkamp)."""
    moved = z * (2.0**bits + 1)
    return moved - (moved - z)


def of_convolution(change):
    """A convolution with its single-precision result changed."""
    whole = written_convnet._convolved
    changed = lambda a, w: change(z) if (z := whole(a, w)).dtype == torch.float32 else z
    return written_convnet, "_convolved", changed


def of_images(change):
    whole = written_convnet._padded
    changed = lambda x: whole(change(x) if x.dtype == torch.float32 else x)
    return written_convnet, "_padded", changed


def without_the_tangents_weights():
    whole = kernels.value_tangent
    return (
        kernels,
        "value_tangent",
        lambda z, zt, more, *rest: whole(z, zt, np.zeros_like(more), *rest),
    )


FAULTS = {
    "float16": lambda: of_convolution(lambda z: z.half().float()),
    "bfloat16": lambda: of_convolution(lambda z: z.bfloat16().float()),
    "four bits fewer": lambda: of_convolution(lambda z: bits_fewer(z, 4)),
    "six bits fewer in one shape": lambda: of_convolution(
        lambda z: bits_fewer(z, 6) if z.shape[-1] == 3 else z
    ),
    "images in float16": lambda: of_images(lambda x: x.half().float()),
    "a dropped term": without_the_tangents_weights,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_whatever_is_really_less_precise_is_noticed(fault, exact_cases, monkeypatch):
    monkeypatch.setattr(*fault())
    assert where_less_precise(exact_cases)


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


@pytest.mark.parametrize("shape", SHAPES)
def test_the_last_block_and_its_derivative_in_the_images_equal_autograds(shape):
    network, theta, x, _, _ = case(shape)
    values, derivatives = [], []
    for way in (last_block, last_block_by_autograd):
        images = x.clone().requires_grad_()
        block = way(network, theta, images)
        (block * torch.cos(block.detach() * 3)).sum().backward()
        values.append(block.detach())
        derivatives.append(images.grad)
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*derivatives, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 3, 1, 32), (8, 2, 3, 17), (5, 1, 1, 12)])
def test_no_digit_of_an_image_depends_on_the_others_however_odd_they_are(shape):
    network, theta, images, _, _ = case(shape, dtype=torch.float32, images=70)
    images[::7] = 1e30
    images[3], images[5], images[6] = float("nan"), float("inf"), 0
    whole = last_block_of_each(network, theta, images).numpy()
    torch.testing.assert_close(
        last_block(network, theta, images[8:13]), torch.from_numpy(whole[8:13])
    )
    for rows in ([4], [1, 2], range(11, 70), [69, 0, 13], range(64)):
        part = last_block_of_each(network, theta, images[list(rows)]).numpy()
        assert part.tobytes() == whole[list(rows)].tobytes()


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


def test_a_change_of_the_planes_reaches_numbas_cache():
    """Numba reads a kernel from its cache until the kernel's own file changes."""
    digest = hashlib.sha256(Path(planes.__file__).read_bytes()).hexdigest()[:16]
    assert digest == kernels.PLANES, "planes.py changed: write its digest to kernels.PLANES"
