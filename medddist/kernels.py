"""Two operations of the ConvNet in fewer passes over memory, for CPU training; each equals its plain torch formula.

`norm_relu_pool` is instance norm with affine, ReLU and 2x2 average pooling as one operation: a plane of one image and
channel stays in cache, so that forward and backward each read their inputs from memory once. `first_convolution` is a
3x3 convolution from one or a few channels, where the library's own path is slow. Both have a derivative of their own,
of first order. `plain_*` are the same in torch; they serve every other device and type, higher derivatives, and tests.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5  # torch's own for GroupNorm
compiled = numba.njit(parallel=True, fastmath={"contract", "reassoc", "nsz"}, cache=True)


def plain_norm_relu_pool(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """z (N, C, H, W), scale and shift (C,) -> (N, C, H // 2, W // 2); differentiable to any order."""
    return F.avg_pool2d(F.relu(F.group_norm(z, z.shape[1], scale, shift, EPSILON)), 2)


def plain_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (N, I, H, W), weight (C, I, 3, 3), bias (C,) -> (N, C, H, W)."""
    return F.conv2d(x, weight, bias, padding=1)


def supported(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: on the CPU, all float32 or all float64."""
    kinds = {(t.device.type, t.dtype) for t in tensors}
    return len(kinds) == 1 and kinds <= {("cpu", torch.float32), ("cpu", torch.float64)}


@compiled
def _norm_relu_pool_forward(z, scale, shift, out, mean, inverse):
    channels, height, width = z.shape[1], z.shape[2], z.shape[3]
    kind = z.dtype.type
    count = kind(height * width)
    for plane in numba.prange(z.shape[0] * channels):
        n, c = plane // channels, plane % channels
        total = kind(0)
        for i in range(height):
            for j in range(width):
                total += z[n, c, i, j]
        m = total / count
        squares = kind(0)
        for i in range(height):
            for j in range(width):
                squares += (z[n, c, i, j] - m) ** 2
        r = kind(1) / np.sqrt(squares / count + kind(EPSILON))
        mean[n, c], inverse[n, c] = m, r
        a = scale[c] * r
        b = shift[c] - m * a
        for i in range(height // 2):
            for j in range(width // 2):
                top = max(a * z[n, c, 2 * i, 2 * j] + b, kind(0)) + max(a * z[n, c, 2 * i, 2 * j + 1] + b, kind(0))
                low = max(a * z[n, c, 2 * i + 1, 2 * j] + b, kind(0)) + max(
                    a * z[n, c, 2 * i + 1, 2 * j + 1] + b, kind(0)
                )
                out[n, c, i, j] = kind(0.25) * (top + low)


@compiled
def _norm_relu_pool_backward(z, scale, shift, mean, inverse, pooled, gradient, scale_gradient, shift_gradient):
    channels, height, width = z.shape[1], z.shape[2], z.shape[3]
    kind = z.dtype.type
    count = kind(height * width)
    for plane in numba.prange(z.shape[0] * channels):
        n, c = plane // channels, plane % channels
        m, r = mean[n, c], inverse[n, c]
        a = scale[c] * r
        b = shift[c] - m * a
        total, moment = kind(0), kind(0)
        for i in range(2 * (height // 2)):
            for j in range(2 * (width // 2)):
                centred = z[n, c, i, j] - m
                u = kind(0.25) * pooled[n, c, i // 2, j // 2] if a * z[n, c, i, j] + b > kind(0) else kind(0)
                total += u
                moment += u * centred
        scale_gradient[n, c], shift_gradient[n, c] = moment * r, total
        slope, level = moment * r * r / count, total / count
        for i in range(height):
            for j in range(width):
                u = kind(0)
                if i < 2 * (height // 2) and j < 2 * (width // 2) and a * z[n, c, i, j] + b > kind(0):
                    u = kind(0.25) * pooled[n, c, i // 2, j // 2]
                gradient[n, c, i, j] = a * (u - level - (z[n, c, i, j] - m) * slope)


@compiled
def _convolution_forward(padded, weight, bias, out):
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    for plane in numba.prange(out.shape[0] * channels):
        n, c = plane // channels, plane % channels
        for i in range(height):
            for j in range(width):
                out[n, c, i, j] = bias[c]
            for k in range(padded.shape[1]):
                for a in range(3):
                    left, middle, right = weight[c, k, a, 0], weight[c, k, a, 1], weight[c, k, a, 2]
                    for j in range(width):
                        out[n, c, i, j] += (
                            left * padded[n, k, i + a, j]
                            + middle * padded[n, k, i + a, j + 1]
                            + right * padded[n, k, i + a, j + 2]
                        )


@compiled
def _convolution_weight_gradient(padded, gradient, weight_gradient):
    channels, height, width = gradient.shape[1], gradient.shape[2], gradient.shape[3]
    kind = padded.dtype.type
    for plane in numba.prange(gradient.shape[0] * channels):
        n, c = plane // channels, plane % channels
        for k in range(padded.shape[1]):
            for a in range(3):
                left, middle, right = kind(0), kind(0), kind(0)
                for i in range(height):
                    for j in range(width):
                        g = gradient[n, c, i, j]
                        left += g * padded[n, k, i + a, j]
                        middle += g * padded[n, k, i + a, j + 1]
                        right += g * padded[n, k, i + a, j + 2]
                weight_gradient[n, c, k, a, 0], weight_gradient[n, c, k, a, 1], weight_gradient[n, c, k, a, 2] = (
                    left,
                    middle,
                    right,
                )


def _arrays(*tensors: Tensor):
    return (tensor.detach().contiguous().numpy() for tensor in tensors)


def _once(backward):
    """Refuse a derivative of the derivative where it is asked for: torch's `once_differentiable` can leave a term out."""

    @functools.wraps(backward)
    def refusing(ctx, *gradients):
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("the fast kernels are differentiable once; set differentiable_once = False on the network")
        return backward(ctx, *gradients)

    return refusing


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, scale, shift):
        z = z.contiguous()
        n, c, height, width = z.shape
        out, mean, inverse = z.new_empty(n, c, height // 2, width // 2), z.new_empty(n, c), z.new_empty(n, c)
        _norm_relu_pool_forward(*_arrays(z, scale, shift, out, mean, inverse))
        ctx.save_for_backward(z, scale, shift, mean, inverse)
        return out

    @staticmethod
    @_once
    def backward(ctx, pooled):
        z, scale, shift, mean, inverse = ctx.saved_tensors
        gradient, scale_gradient, shift_gradient = torch.empty_like(z), torch.empty_like(mean), torch.empty_like(mean)
        _norm_relu_pool_backward(
            *_arrays(z, scale, shift, mean, inverse, pooled, gradient, scale_gradient, shift_gradient)
        )
        return gradient, scale_gradient.sum(0), shift_gradient.sum(0)


class _FirstConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        padded = F.pad(x, (1, 1, 1, 1))
        out = x.new_empty(len(x), len(weight), *x.shape[2:])
        _convolution_forward(*_arrays(padded, weight, bias, out))
        ctx.save_for_backward(padded, weight)
        return out

    @staticmethod
    @_once
    def backward(ctx, gradient):
        padded, weight = ctx.saved_tensors
        by_image = weight.new_empty(len(padded), *weight.shape)
        _convolution_weight_gradient(*_arrays(padded, gradient, by_image))
        towards_images = F.conv_transpose2d(gradient, weight, padding=1) if ctx.needs_input_grad[0] else None
        return towards_images, by_image.sum(0), gradient.sum((0, 2, 3))


def norm_relu_pool(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As `plain_norm_relu_pool`, in one pass where the kernel applies; differentiable once."""
    apply = _NormReluPool.apply if supported(z, scale, shift) else plain_norm_relu_pool
    return apply(z, scale, shift)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `plain_convolution`, by the kernel for few input channels where it applies; differentiable once."""
    few = x.shape[1] <= 3 and supported(x, weight, bias)
    return (_FirstConvolution.apply if few else plain_convolution)(x, weight, bias)
