"""The kernels equal their plain formula, in value and in first derivatives, whatever the shape, type and memory layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medddist import kernels

TOLERANCE = {torch.float32: {"rtol": 2e-5, "atol": 2e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}
SIZES = [(8, 8), (7, 7), (9, 5), (2, 2), (3, 2), (16, 6)]
NORM = (kernels.norm_relu_pool, kernels.plain_norm_relu_pool)
CONVOLUTION = (kernels.convolution, kernels.plain_convolution)


def norm_inputs(size, dtype=torch.float64, images=3, channels=4) -> list[Tensor]:
    """Planes far from zero mean and unit deviation, scales of both signs."""
    random = torch.Generator().manual_seed(1)
    z = 2 + 3 * torch.randn(images, channels, *size, generator=random, dtype=torch.float64)
    scale = torch.tensor([1.3, -0.7, 0.2, 1.0], dtype=torch.float64)[:channels]
    shift = torch.randn(channels, generator=random, dtype=torch.float64)
    return [tensor.to(dtype) for tensor in (z, scale, shift)]


def convolution_inputs(size, dtype=torch.float64, images=3, channels=1, width=4) -> list[Tensor]:
    random = torch.Generator().manual_seed(2)
    shapes = (images, channels, *size), (width, channels, 3, 3), (width,)
    return [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in shapes]


def value_and_derivatives(function, inputs: list[Tensor]) -> list[Tensor]:
    """The value, and the derivatives of its product with fixed random numbers, in every input."""
    leaves = [tensor.clone(memory_format=torch.preserve_format).requires_grad_() for tensor in inputs]
    value = function(*leaves)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(value)
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaves)]


def agree(pair, inputs: list[Tensor], **tolerance) -> None:
    for found, expected in zip(*(value_and_derivatives(function, inputs) for function in pair), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, **(tolerance or TOLERANCE[inputs[0].dtype]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_norm_relu_pool_equals_torch(size, dtype):
    agree(NORM, norm_inputs(size, dtype))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [*SIZES, (1, 1), (1, 4)])
def test_convolution_equals_torch(size, dtype, channels):
    agree(CONVOLUTION, convolution_inputs(size, dtype, channels=channels))


def strided(tensor: Tensor) -> Tensor:
    """The same values, no two of them adjacent in memory."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), float("nan"), dtype=tensor.dtype)
    wide[..., ::2] = tensor
    return wide[..., ::2]


@pytest.mark.parametrize(
    "layout", [strided, lambda t: t.mT.contiguous().mT if t.ndim > 1 else strided(t)], ids=["strided", "transposed"]
)
@pytest.mark.parametrize(
    "pair, inputs", [(NORM, norm_inputs), (CONVOLUTION, convolution_inputs)], ids=["norm", "convolution"]
)
def test_memory_layout_does_not_matter(pair, inputs, layout):
    plain = inputs((7, 7))
    torch.testing.assert_close(pair[0](*map(layout, plain)), pair[1](*plain))
    agree(pair, [layout(tensor) for tensor in plain])


@pytest.mark.parametrize(
    "pair, inputs", [(NORM, norm_inputs), (CONVOLUTION, convolution_inputs)], ids=["norm", "convolution"]
)
def test_an_expanded_gradient_is_read_right(pair, inputs):
    """`value.sum()` hands back a gradient whose strides are all zero."""
    slopes = []
    for function in pair:
        leaves = [tensor.requires_grad_() for tensor in inputs((6, 6))]
        slopes.append(torch.autograd.grad(function(*leaves).sum(), leaves))
    for found, expected in zip(*slopes):
        torch.testing.assert_close(found, expected)


def test_inputs_are_left_as_they_were():
    for (function, _), inputs in ((NORM, norm_inputs((8, 8))), (CONVOLUTION, convolution_inputs((8, 8)))):
        copies = [tensor.clone() for tensor in inputs]
        value_and_derivatives(function, inputs)
        assert all(torch.equal(a, b) for a, b in zip(inputs, copies))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (1, 2), (0, 2)])
@pytest.mark.parametrize(
    "pair, inputs", [(NORM, norm_inputs), (CONVOLUTION, convolution_inputs)], ids=["norm", "convolution"]
)
def test_some_derivatives_alone(pair, inputs, wanted):
    slopes = []
    for function in pair:
        leaves = [tensor.requires_grad_(k in wanted) for k, tensor in enumerate(inputs((7, 5)))]
        slopes.append(torch.autograd.grad(function(*leaves).square().sum(), [leaves[k] for k in wanted]))
    for found, expected in zip(*slopes):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "function, inputs", [(NORM[0], norm_inputs), (CONVOLUTION[0], convolution_inputs)], ids=["norm", "convolution"]
)
def test_first_derivatives_against_finite_differences(function, inputs):
    small = inputs((4, 5), images=1)
    assert torch.autograd.gradcheck(function, [tensor.requires_grad_() for tensor in small])


@pytest.mark.parametrize(
    "function, inputs", [(NORM[0], norm_inputs), (CONVOLUTION[0], convolution_inputs)], ids=["norm", "convolution"]
)
def test_a_second_derivative_is_refused_not_wrong(function, inputs):
    leaves = [tensor.requires_grad_() for tensor in inputs((4, 4))]
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(function(*leaves).square().sum(), leaves[1], create_graph=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(value):
    """A diverged network must not be taken for a finite one: torch's ReLU hands on a NaN, and so does the kernel."""
    z, scale, shift = norm_inputs((4, 4))
    z[0, 1, 2, 2] = value
    found, expected = (function(z, scale, shift).isnan() for function in NORM)
    assert expected[0, 1].all() and torch.equal(found, expected)
    x, weight, bias = convolution_inputs((4, 4))
    x[0, 0, 1, 1] = value
    found, expected = (function(x, weight, bias).isfinite() for function in CONVOLUTION)
    assert not expected.all() and torch.equal(found, expected)


def test_a_flat_plane_has_no_deviation_to_divide_by():
    z, scale, shift = norm_inputs((6, 6), torch.float32)
    z[1] = 7.0
    agree(NORM, [z, scale, shift], rtol=2e-3, atol=2e-3)  # rounding of the mean, times 1 / sqrt(EPSILON)


def test_a_large_mean_does_not_drown_the_deviation():
    """Sum of squares minus square of sums would lose all digits here."""
    z, scale, shift = norm_inputs((16, 16), torch.float32)
    exact = kernels.plain_norm_relu_pool(*(tensor.double() for tensor in (z + 4096, scale, shift)))
    torch.testing.assert_close(kernels.norm_relu_pool(z + 4096, scale, shift).double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types_take_the_plain_way(dtype):
    assert not kernels.supported(torch.zeros(1, dtype=dtype))
    assert not kernels.supported(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    inputs = convolution_inputs((4, 4), dtype)
    torch.testing.assert_close(kernels.convolution(*inputs), kernels.plain_convolution(*inputs))


def test_the_same_bits_each_time():
    for (function, _), inputs in (
        (NORM, norm_inputs((9, 9), torch.float32)),
        (CONVOLUTION, convolution_inputs((9, 9), torch.float32)),
    ):
        first, again = (value_and_derivatives(function, inputs) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again))
