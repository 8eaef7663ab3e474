"""A network's cross-entropy and its derivatives on one batch: what training and matching ask for.

`gradient` is first order. `directional` is what the reverse sweep over a student's steps needs: the
slope <g, v> of the loss along a direction v in the parameters, and its own derivatives, H v in the
parameters, and those in images and targets. It is one forward-over-reverse pass. For a ConvNet both
are written out over the kernels of `kernels`; for every other network autograd does it.
`directional_by_difference` takes the same from the first derivatives, `slopes`, at two places:
faster, and to half of the digits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.threads import shared_threads
from medddist.method.fast import kernels
from medddist.method.networks import ConvNet, Network


class Directional(NamedTuple):
    """Of the slope <g, v>, g the gradient of the mean cross-entropy in theta."""

    slope: Tensor  # ()
    by_theta: Tensor  # (P,) the Hessian times v
    by_images: Tensor  # (N, C, H, W)
    by_targets: Tensor | None  # (N, K); None for classes


class Slopes(NamedTuple):
    """First derivatives of the mean cross-entropy, and which ReLUs were open for them."""

    by_theta: Tensor  # (P,)
    by_images: Tensor  # (N, C, H, W)
    by_targets: Tensor | None  # (N, K); None for classes
    open: tuple[
        Tensor, ...
        # by block, whether the ReLU lets pass; as `kernels` notes it, or (N, width, h, w) of
        # booleans
    ]


@shared_threads()
def gradient(network: Network, theta: Tensor, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy () of a batch and its gradient (P,); x (N, C, H, W), targets (N,) classes
    or (N, K) probabilities.
    """
    if written_out(network, theta, x):
        loss, found = _first_order(network, theta, x, targets)
        return loss, found.by_theta
    theta = theta.detach().requires_grad_()
    loss = F.cross_entropy(network(theta, x), targets)
    return loss.detach(), torch.autograd.grad(loss, theta)[0]


@shared_threads()
def directional(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor
) -> Directional:
    """The slope of the mean cross-entropy along v (P,) at theta (P,), and its derivatives."""
    if written_out(network, theta, x):
        return _directional(network, theta, x, targets, v)
    return directional_by_autograd(network, theta, x, targets, v)


@shared_threads()
def slopes(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    held: tuple[Tensor, ...] | None = None,
) -> Slopes:
    """First derivatives of a ConvNet's mean cross-entropy in theta (P,), x and targets; with
    `held`, its ReLUs let pass what that says.
    """
    if written_out(network, theta, x):
        return _first_order(network, theta, x, targets, held is None, held)[1]
    return slopes_by_autograd(network, theta, x, targets, held)


def slopes_by_autograd(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    held: tuple[Tensor, ...] | None = None,
) -> Slopes:
    """`slopes` on any device, and the reference for what is written out."""
    if not isinstance(network.module, ConvNet):
        raise TypeError(
            f"the ReLUs of a ConvNet can be held, not those of {type(network.module).__name__}"
        )
    soft = targets.is_floating_point()
    leaves = [
        tensor.detach().requires_grad_() for tensor in ([theta, x, targets] if soft else [theta, x])
    ]
    p, a, open = _Parameters(network, leaves[0]), leaves[1], []
    for k, (w, scale, shift) in enumerate([p.first, *p.later]):
        y = F.group_norm(F.conv2d(a, w, padding=1), len(w), scale, shift)
        open.append(y.detach() > 0 if held is None else held[k])
        a = F.avg_pool2d(y * open[-1], 2)
    scores = F.linear(a.flatten(1), p.linear, p.offset)
    found = torch.autograd.grad(F.cross_entropy(scores, leaves[2] if soft else targets), leaves)
    return Slopes(*found, *([] if soft else [None]), tuple(open))


def directional_by_difference(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor, at: Slopes
) -> Directional:
    """`directional` at theta, where `slopes` are `at`, as their difference to those a little way
    along v, with the same ReLUs open.

    A ReLU that opens or closes on the way would add a jump, which is no part of the derivative and
    is larger than it; with those of theta held there is none. What is left is the rounding of the
    two and the curvature between them: with a way of the square root of the type's precision,
    relative to theta, each about that. It is three passes' worth of work, where `directional` has
    eight.
    """
    little = torch.finfo(theta.dtype)
    way = little.eps**0.5 * theta.norm() / v.norm().clamp_min(little.tiny)
    moved = slopes(network, theta + way * v, x, targets, at.open)
    by = [None if end is None else (end - start) / way for end, start in zip(moved[:3], at[:3])]
    return Directional(at.by_theta @ v, *by)


def directional_by_autograd(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor
) -> Directional:
    """`directional` by differentiating twice: for any network, and the reference for what is
    written out.
    """
    soft = targets.is_floating_point()
    leaves = [
        tensor.detach().requires_grad_() for tensor in ([theta, x, targets] if soft else [theta, x])
    ]
    loss = F.cross_entropy(network(*leaves[:2]), leaves[2] if soft else targets)
    (g,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
    slope = g @ v
    found = torch.autograd.grad(slope, leaves)
    return Directional(slope.detach(), *found, *([] if soft else [None]))


@shared_threads()
def logits(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """(N, K), without derivatives."""
    with torch.no_grad():
        if not written_out(network, theta, x):
            return network(theta, x)
        p = _Parameters(network, theta)
        a = _forward(p, _padded(x))[-1].output.flatten(1)
        return torch.addmm(p.offset, a, p.linear.T)


def written_out(network: Network, *tensors: Tensor) -> bool:
    """Whether the kernels take these: a ConvNet on the CPU, all float32 or all float64."""
    kinds = {(t.device.type, t.dtype) for t in tensors}
    return isinstance(network.module, ConvNet) and kinds in (
        {("cpu", torch.float32)},
        {("cpu", torch.float64)},
    )


# ---- the ConvNet, written out --------------------------------------------------------------------


class _Parameters:
    """Views of a flat theta (or of a gradient or direction of its shape) by their place in the
    ConvNet.
    """

    def __init__(self, network: Network, theta: Tensor):
        named = network.named(theta)
        blocks = [
            tuple(
                named[name]
                for name in (f"convolutions.{k}.weight", f"norms.{k}.weight", f"norms.{k}.bias")
            )
            for k in range(len(network.module.convolutions))
        ]
        self.first, self.later = blocks[0], blocks[1:]
        self.linear, self.offset = named["linear.weight"], named["linear.bias"]


def _arrays(*tensors: Tensor):
    """As numpy arrays, over the same memory where they are contiguous; what a kernel writes to must
    be so.
    """
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _padded(x: Tensor) -> Tensor:
    return F.pad(x.detach(), (1, 1, 1, 1))


def _halved(z: Tensor) -> Tensor:
    return z.new_empty(*z.shape[:-2], z.shape[-2] // 2, z.shape[-1] // 2)


class _Passed(NamedTuple):
    """A block's output and what its derivative needs."""

    output: Tensor  # (N, width, h / 2, w / 2)
    z: Tensor | None  # (N, width, h, w); None of the first block, whose z is convolved anew
    stats: Tensor  # (2, N, width) mean and r
    open: Tensor | None  # as `kernels` notes it; None if nobody asked


def _forward(
    p: _Parameters,
    padded: Tensor,
    noting: bool = False,
    held: tuple[Tensor, ...] | None = None,
) -> list[_Passed]:
    """Every block's value; which ReLUs let pass is noted, or held, or neither."""
    passed, (n, _, height, width) = [], padded.shape
    for k, (w, scale, shift) in enumerate([p.first, *p.later]):
        z = _convolved(passed[-1].output, w) if k else None
        out = _halved(z) if k else padded.new_empty(n, len(w), (height - 2) // 2, (width - 2) // 2)
        stats, open = out.new_empty(2, n, len(w)), held[k] if held else None
        if noting:
            open = torch.empty_like(out, dtype=torch.uint8)
        inputs = _arrays(z, scale, shift) if k else _arrays(padded, w, scale, shift)
        if open is None:
            (kernels.value if k else kernels.first_value)(*inputs, *_arrays(out, *stats))
        else:
            of = kernels.noted_value if k else kernels.first_noted_value
            of(*inputs, *_arrays(open), held is not None, *_arrays(out, *stats))
        passed.append(_Passed(out, z, stats, open))
    return passed


def _convolved(a: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(a, w, padding=1).contiguous()


def _convolution_backward(
    g: Tensor, a: Tensor, w: Tensor, by_weights: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The derivatives in a and in w, given g, that in the output; None for w where not asked for."""
    mask = [True, by_weights, False]
    return torch.ops.aten.convolution_backward(
        g, a, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )[:2]


def _errors(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy (), logarithms of the probabilities (N, K), and its derivative in the
    scores (N, K).
    """
    log_p = scores.log_softmax(1)
    y = targets if targets.is_floating_point() else F.one_hot(targets, scores.shape[1]).to(scores)
    return -(y * log_p).sum() / len(y), log_p, (log_p.exp() * y.sum(1, keepdim=True) - y) / len(y)


@torch.no_grad()
def _first_order(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    noting: bool = False,
    held: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, Slopes]:
    """The loss and its first derivatives; those in x only if which ReLUs are open is noted or held."""
    p, out = _Parameters(network, theta), torch.zeros_like(theta)
    to, padded, n = _Parameters(network, out), _padded(x), len(x)
    passed = _forward(p, padded, noting, held)
    a = passed[-1].output.flatten(1)
    loss, log_p, e = _errors(torch.addmm(p.offset, a, p.linear.T), targets)
    to.linear.copy_(e.T @ a)
    to.offset.copy_(e.sum(0))
    g = (e @ p.linear).view(passed[-1].output.shape)
    for k in range(len(p.later), 0, -1):
        (w, scale, shift), (_, z, stats, open) = p.later[k - 1], passed[k]
        z_bar, sums = torch.empty_like(z), torch.empty_like(stats)
        if open is None:
            kernels.derivative(*_arrays(z, *stats, scale, shift, g, z_bar, *sums))
        else:
            kernels.derivative_held(*_arrays(z, *stats, scale, open, g, z_bar, *sums))
        g, by_weight = _convolution_backward(z_bar, passed[k - 1].output, w)
        _put(to.later[k - 1], by_weight, sums)
    (w, scale, shift), (_, _, stats, open), by_images = p.first, passed[0], None
    sums, by_weight = torch.empty_like(stats), theta.new_empty(n, *w.shape)
    if open is None:
        kernels.first_derivative(*_arrays(padded, w, *stats, scale, shift, g, by_weight, *sums))
    else:
        by_images = x.new_empty(x.shape)
        kernels.first_derivative_held(
            *_arrays(padded, w, _turned(w), *stats, scale, open, g, by_weight, *sums, by_images)
        )
    _put(to.first, by_weight.sum(0), sums)
    by_targets = -log_p / n if targets.is_floating_point() else None
    return loss, Slopes(out, by_images, by_targets, tuple(one.open for one in passed))


def _turned(w: Tensor) -> Tensor:
    """(C, I, 1, 3, 3), turned by 180 degrees: what carries a derivative back through the first
    block's convolution.
    """
    return w.flip(2, 3).unsqueeze(2)


def _put(block, by_weight: Tensor, sums: Tensor) -> None:
    """The derivatives of a block's weights, scale and shift into their places; sums (2, N, C) are
    by image.
    """
    for place, value in zip(block, (by_weight, *sums.sum(1))):
        place.copy_(value)


@torch.no_grad()
def _directional(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    v: Tensor,
) -> Directional:
    p, t, out = _Parameters(network, theta), _Parameters(network, v), torch.zeros_like(theta)
    to, padded, n = _Parameters(network, out), _padded(x), len(x)
    # Forward. A pair (2, N, C, H, W) holds a block's output and its tangent, so that one
    # convolution serves both.
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
    # Backward. A pair holds the tangent of the derivative first and the derivative second.
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
    sums, by_weight, by_images = (
        torch.empty_like(stats[:2]),
        x.new_empty(n, *w.shape),
        x.new_empty(x.shape),
    )
    kernels.first_derivative_tangent(
        *_arrays(
            padded,
            w,
            wt,
            _turned(w),
            _turned(wt),
            stats,
            scale,
            shift,
            scale_t,
            g[1],
            g[0],
            more,
            by_weight,
            *sums,
            by_images,
        )
    )
    _put(to.first, by_weight.sum(0), sums)
    return Directional(slope, out, by_images, by_targets)
