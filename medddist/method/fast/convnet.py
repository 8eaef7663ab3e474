"""The ConvNet's derivatives, written out over the kernels: reverse mode, and forward over reverse.

    first_order   CE(theta; x, y),   g = dCE/dtheta,   dCE/dx,   dCE/dy
    directional   <g, v>,   d<g, v>/dtheta = H v,   d<g, v>/dx,   d<g, v>/dy

Torch does the later blocks' convolutions and the linear layer, `kernels` the rest. Tensors are on
the CPU, all of them float32 or all float64; `derivatives` sees to that.

Notation: z a block's convolution, a its output, e the derivative of the loss in the logits, g that
in an output, z_bar that in z; an added t is the tangent along v.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.method.fast import kernels
from medddist.method.networks import Network


class Parameters:
    """Views of a flat theta, or of a gradient or direction (P,), by their place in the ConvNet.

    A block's are (weight, scale, shift); `first` is the first block's, `later` those of the others.
    """

    def __init__(self, network: Network, theta: Tensor):
        named = network.named(theta)
        parts = "convolutions.{}.weight", "norms.{}.weight", "norms.{}.bias"
        depth = len(network.module.convolutions)
        blocks = [tuple(named[part.format(k)] for part in parts) for k in range(depth)]
        self.first, self.later = blocks[0], blocks[1:]
        self.linear, self.offset = named["linear.weight"], named["linear.bias"]


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """View tensors as arrays; those that are not contiguous are copied: no kernel writes there."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _padded(x: Tensor) -> Tensor:
    return F.pad(x.detach(), (1, 1, 1, 1))


def _halved(z: Tensor) -> Tensor:
    return z.new_empty(*z.shape[:-2], z.shape[-2] // 2, z.shape[-1] // 2)


class _Passed(NamedTuple):
    """A block's output and what its derivative needs."""

    output: Tensor  # (N, width, h / 2, w / 2)
    z: Tensor | None  # (N, width, h, w); None for the first block, whose z is convolved again
    stats: Tensor  # (2, N, width) mean and r
    open: Tensor | None  # as `kernels` records it, or None


def _forward(
    p: Parameters,
    padded: Tensor,
    record: bool = False,
    held: tuple[Tensor, ...] | None = None,
    alone: bool = False,
) -> list[_Passed]:
    """Compute every block; which ReLUs are open is recorded, or held, or neither.

    A batch's convolution may round an image's values differently than with other images; `alone`
    convolves each by itself. The kernels do so anyway.
    """
    passed, (n, _, height, width) = [], padded.shape
    for k, (w, scale, shift) in enumerate([p.first, *p.later]):
        z = (_convolved_alone if alone else _convolved)(passed[-1].output, w) if k else None
        out = _halved(z) if k else padded.new_empty(n, len(w), (height - 2) // 2, (width - 2) // 2)
        stats, open = out.new_empty(2, n, len(w)), held[k] if held else None
        if record:
            open = torch.empty_like(out, dtype=torch.uint8)
        inputs = _arrays(z, scale, shift) if k else _arrays(padded, w, scale, shift)
        if open is None:
            (kernels.value if k else kernels.first_value)(*inputs, *_arrays(out, *stats))
        else:
            kernel = kernels.noted_value if k else kernels.first_noted_value
            kernel(*inputs, *_arrays(open), held is not None, *_arrays(out, *stats))
        passed.append(_Passed(out, z, stats, open))
    return passed


def _convolved(a: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(a, w, padding=1).contiguous()


def _convolved_alone(a: Tensor, w: Tensor) -> Tensor:
    return torch.cat([_convolved(image.clone(), w) for image in a.split(1)])  # aligned alike


def _convolution_backward(
    g: Tensor, a: Tensor, w: Tensor, by_weights: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Compute the derivatives in a and in w (or None) from g, that in the convolution's output."""
    ones, mask = [1, 1], [True, by_weights, False]
    geometry = ones, ones, ones, False, [0, 0], 1  # stride, padding, dilation; groups
    return torch.ops.aten.convolution_backward(g, a, w, None, *geometry, mask)[:2]


def _errors(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean cross-entropy (), log probabilities (N, K), and its derivative in scores."""
    log_p = scores.log_softmax(1)
    y = targets if targets.is_floating_point() else F.one_hot(targets, scores.shape[1]).to(scores)
    return -(y * log_p).sum() / len(y), log_p, (log_p.exp() * y.sum(1, keepdim=True) - y) / len(y)


@torch.no_grad()
def logits(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute logits (N, K) of images x (N, C, H, W)."""
    p = Parameters(network, theta)
    a = _forward(p, _padded(x))[-1].output.flatten(1)
    return torch.addmm(p.offset, a, p.linear.T)


@torch.no_grad()
def first_order(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    record: bool = False,
    held: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, tuple]:
    """Compute the loss and its first derivatives.

    Args:
        network: a ConvNet.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
        record: whether to record which ReLUs are open.
        held: by block, which ReLUs are open, as recorded before.

    Returns:
        The loss (), and the values of `derivatives.Slopes`; those in x are computed only if `open`
        is recorded or held.
    """
    p, out = Parameters(network, theta), torch.zeros_like(theta)
    to, padded, n = Parameters(network, out), _padded(x), len(x)
    passed = _forward(p, padded, record, held)
    a = passed[-1].output.flatten(1)
    loss, log_p, e = _errors(torch.addmm(p.offset, a, p.linear.T), targets)
    to.linear.copy_(e.T @ a)
    to.offset.copy_(e.sum(0))
    by_images = _backward(p, padded, passed, (e @ p.linear).view(passed[-1].output.shape), to)
    by_targets = -log_p / n if targets.is_floating_point() else None
    return loss, (out, by_images, by_targets, tuple(block.open for block in passed))


def _backward(
    p: Parameters, padded: Tensor, passed: list[_Passed], g: Tensor, to: Parameters | None
) -> Tensor | None:
    """Go back through all blocks from g: write the derivatives in the parameters, if wanted, and
    return that in the images where `open` is recorded or held.
    """
    for k in range(len(p.later), 0, -1):
        (w, scale, shift), (_, z, stats, open) = p.later[k - 1], passed[k]
        z_bar, sums = torch.empty_like(z), torch.empty_like(stats)
        if open is None:
            kernels.derivative(*_arrays(z, *stats, scale, shift, g, z_bar, *sums))
        else:
            kernels.derivative_held(*_arrays(z, *stats, scale, open, g, z_bar, *sums))
        g, by_weight = _convolution_backward(z_bar, passed[k - 1].output, w, to is not None)
        if to:
            _put(to.later[k - 1], by_weight, sums)
    (w, scale, shift), (_, _, stats, open), by_images = p.first, passed[0], None
    (n, channels, height, width), sums = padded.shape, torch.empty_like(stats)
    by_weight = padded.new_empty(n, *w.shape)
    if open is None:
        kernels.first_derivative(*_arrays(padded, w, *stats, scale, shift, g, by_weight, *sums))
    else:
        by_images = padded.new_empty(n, channels, height - 2, width - 2)
        kernels.first_derivative_held(
            *_arrays(padded, w, _turned(w), *stats, scale, open, g, by_weight, *sums, by_images)
        )
    if to:
        _put(to.first, by_weight.sum(0), sums)
    return by_images


@torch.no_grad()
def last_block_of_each(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute the last block's output (N, D) of images x (N, C, H, W), each by itself."""
    return _forward(Parameters(network, theta), _padded(x), alone=True)[-1].output.flatten(1)


class LastBlock(torch.autograd.Function):
    """The last block's output (N, D), differentiable in images; called as `LastBlock.apply`."""

    @staticmethod
    def forward(ctx, x: Tensor, network: Network, theta: Tensor) -> Tensor:
        """Compute it for images x (N, C, H, W) and parameters theta (P,), which are held fixed."""
        ctx.p, ctx.padded = Parameters(network, theta), _padded(x)
        ctx.passed = _forward(ctx.p, ctx.padded, record=ctx.needs_input_grad[0])
        return ctx.passed[-1].output.flatten(1)

    @staticmethod
    def backward(ctx, by_output: Tensor) -> tuple[Tensor, None, None]:
        """Compute the derivative in the images from that in the output."""
        g = by_output.view(ctx.passed[-1].output.shape)
        return _backward(ctx.p, ctx.padded, ctx.passed, g, None), None, None


def _turned(w: Tensor) -> Tensor:
    """Turn filters by 180 degrees: (C, I, 1, 3, 3), which convolve a derivative backwards."""
    return w.flip(2, 3).unsqueeze(2)


def _put(block, by_weight: Tensor, sums: Tensor) -> None:
    """Write a block's derivatives; `sums` (2, N, C) are those in scale and shift, by image."""
    for place, value in zip(block, (by_weight, *sums.sum(1))):
        place.copy_(value)


@torch.no_grad()
def directional(network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor) -> tuple:
    """Compute the slope of the loss along v and its derivatives, in one pass forward and back.

    Args:
        network: a ConvNet.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
        v: direction (P,).

    Returns:
        The values of `derivatives.Directional`.
    """
    p, t, out = Parameters(network, theta), Parameters(network, v), torch.zeros_like(theta)
    to, padded, n = Parameters(network, out), _padded(x), len(x)
    # Forward. A pair (2, N, C, H, W) is a block's output and its tangent: one convolution for both.
    (w, scale, shift), (wt, scale_t, shift_t) = p.first, t.first
    pair = x.new_empty(2, n, len(w), x.shape[2] // 2, x.shape[3] // 2)
    stats = x.new_empty(4, n, len(w))
    kernels.first_value_tangent(
        *_arrays(padded, w, wt, scale, shift, scale_t, shift_t, *pair, stats)
    )
    passed = [(pair, None, stats)]
    for (w, scale, shift), (wt, scale_t, shift_t) in zip(p.later, t.later):
        z = _convolved(pair.flatten(0, 1), w).unflatten(0, (2, n))
        more = _convolved(pair[0], wt)
        pair, stats = pair.new_empty(2, *_halved(z[0]).shape), pair.new_empty(4, n, len(w))
        kernels.value_tangent(*_arrays(*z, more, scale, shift, scale_t, shift_t, *pair, stats))
        passed.append((pair, z, stats))
    a, at = pair.flatten(2)
    scores = torch.addmm(p.offset, a, p.linear.T)
    scores_t = at @ p.linear.T + torch.addmm(t.offset, a, t.linear.T)
    _, log_p, e = _errors(scores, targets)
    prob = log_p.exp()
    centred = scores_t - (prob * scores_t).sum(1, keepdim=True)
    by_targets = -centred / n if targets.is_floating_point() else None
    slope, et = (e * scores_t).sum(), prob * centred / n
    # Backward. A pair is the tangent of the derivative, then the derivative.
    to.linear.copy_(et.T @ a + e.T @ at)
    to.offset.copy_(et.sum(0))
    g = torch.stack([et @ p.linear + e @ t.linear, e @ p.linear]).view(pair.shape)
    more = torch.zeros_like(g[0])
    for k in range(len(p.later) - 1, -1, -1):
        (w, scale, shift), (wt, scale_t, _), (_, z, stats) = p.later[k], t.later[k], passed.pop()
        z_bar, sums = z[0].new_empty(2, *z[0].shape), torch.empty_like(stats[:2])
        kernels.derivative_tangent(
            *_arrays(*z, stats, scale, shift, scale_t, g[1], g[0], more, z_bar[1], z_bar[0], *sums)
        )
        before = passed[-1][0]
        g, by_weight = _convolution_backward(z_bar.flatten(0, 1), before.flatten(0, 1), w)
        g = g.unflatten(0, (2, n))
        more, _ = _convolution_backward(z_bar[1], before[0], wt, by_weights=False)
        _put(to.later[k], by_weight, sums)
    (w, scale, shift), (wt, scale_t, _), (_, _, stats) = p.first, t.first, passed.pop()
    sums, by_weight = torch.empty_like(stats[:2]), x.new_empty(n, *w.shape)
    by_images = x.new_empty(x.shape)
    given = padded, w, wt, _turned(w), _turned(wt), stats, scale, shift, scale_t, g[1], g[0], more
    kernels.first_derivative_tangent(*_arrays(*given, by_weight, *sums, by_images))
    _put(to.first, by_weight.sum(0), sums)
    return slope, out, by_images, by_targets
