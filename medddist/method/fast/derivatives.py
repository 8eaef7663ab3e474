"""The cross-entropy of a network on one batch and its derivatives, for training and matching.

    gradient      CE(theta; x, y),   g = dCE/dtheta
    directional   <g, v>,   d<g, v>/dtheta = H v,   d<g, v>/dx,   d<g, v>/dy

`directional` is what matching needs to go back over a student's steps. For a ConvNet on the CPU
both are written out (`convnet`); for every other network autograd computes them.
`directional_by_difference` approximates the second from the first derivatives (`slopes`) at two
places: it is faster, and half the digits are right.

Notation: CE the mean cross-entropy of images x with targets y, theta (P,) the parameters, v (P,) a
direction, H the Hessian.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.threads import shared_threads
from medddist.method.fast import convnet
from medddist.method.networks import ConvNet, Network


class Directional(NamedTuple):
    """The slope <g, v> of the loss along v, and its derivatives."""

    slope: Tensor  # ()
    by_theta: Tensor  # (P,) H v
    by_images: Tensor  # (N, C, H, W)
    by_targets: Tensor | None  # (N, K); None for classes


class Slopes(NamedTuple):
    """First derivatives of the loss, and which ReLUs were open."""

    by_theta: Tensor  # (P,)
    by_images: Tensor  # (N, C, H, W)
    by_targets: Tensor | None  # (N, K); None for classes
    open: tuple[Tensor, ...]  # by block, bytes as in `kernels`, or booleans (N, width, h, w)


@shared_threads()
def gradient(network: Network, theta: Tensor, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean cross-entropy () of a batch and its gradient (P,).

    Args:
        network: called with theta.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
    """
    if written_out(network, theta, x):
        loss, (by_theta, *_) = convnet.first_order(network, theta, x, targets)
        return loss, by_theta
    theta = theta.detach().requires_grad_()
    loss = F.cross_entropy(network(theta, x), targets)
    return loss.detach(), torch.autograd.grad(loss, theta)[0]


@shared_threads()
def directional(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor
) -> Directional:
    """Compute the slope of the loss along v, and its derivatives.

    Args:
        network: called with theta.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
        v: direction (P,).
    """
    if written_out(network, theta, x):
        return Directional(*convnet.directional(network, theta, x, targets, v))
    return directional_by_autograd(network, theta, x, targets, v)


@shared_threads()
def slopes(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    held: tuple[Tensor, ...] | None = None,
) -> Slopes:
    """Compute the first derivatives of a ConvNet's loss in theta, x and targets.

    Args:
        network: a ConvNet.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
        held: which ReLUs are open, whatever the sign of their inputs; None for those that are.
    """
    if written_out(network, theta, x):
        return Slopes(*convnet.first_order(network, theta, x, targets, held is None, held)[1])
    return slopes_by_autograd(network, theta, x, targets, held)


def slopes_by_autograd(
    network: Network,
    theta: Tensor,
    x: Tensor,
    targets: Tensor,
    held: tuple[Tensor, ...] | None = None,
) -> Slopes:
    """Compute `slopes` by autograd, on any device; the reference for what is written out.

    Args: as in `slopes`.

    Raises:
        TypeError: for another network than a ConvNet.
    """
    if not isinstance(network.module, ConvNet):
        kind = type(network.module).__name__
        raise TypeError(f"the ReLUs of a ConvNet can be held, not those of {kind}")
    leaves = _leaves(theta, x, targets)
    p, a, open = convnet.Parameters(network, leaves[0]), leaves[1], []
    for k, (w, scale, shift) in enumerate([p.first, *p.later]):
        y = F.group_norm(F.conv2d(a, w, padding=1), len(w), scale, shift)
        open.append(y.detach() > 0 if held is None else held[k])
        a = F.avg_pool2d(y * open[-1], 2)
    scores = F.linear(a.flatten(1), p.linear, p.offset)
    loss = F.cross_entropy(scores, leaves[2] if leaves[2:] else targets)
    return Slopes(*_three(torch.autograd.grad(loss, leaves)), tuple(open))


def _leaves(theta: Tensor, x: Tensor, targets: Tensor) -> list[Tensor]:
    """Copies to differentiate in; targets are one of them where they are probabilities."""
    inputs = [theta, x, targets] if targets.is_floating_point() else [theta, x]
    return [tensor.detach().requires_grad_() for tensor in inputs]


def _three(derivatives: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Derivatives in theta, x and targets, the last None for classes."""
    return (*derivatives, None)[:3]


def directional_by_difference(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor, at: Slopes
) -> Directional:
    """Approximate `directional` by a difference of first derivatives with the same ReLUs open.

        d<g, v> = (slopes(theta + h v) - slopes(theta)) / h,    h = sqrt(eps) |theta| / |v|

    A ReLU that opens or closes between the two places would add a jump that is larger than the
    derivative, so those of theta are held. Rounding and curvature then each cause a relative error
    of about sqrt(eps), with eps the precision of the number type. The work is that of three passes;
    `directional` takes eight.

    Args:
        network: a ConvNet.
        theta: (P,).
        x: images (N, C, H, W).
        targets: classes (N,) or probabilities (N, K).
        v: direction (P,).
        at: `slopes` at theta.
    """
    kind = torch.finfo(theta.dtype)
    h = kind.eps**0.5 * theta.norm() / v.norm().clamp_min(kind.tiny)
    moved = slopes(network, theta + h * v, x, targets, at.open)
    by = [None if end is None else (end - start) / h for end, start in zip(moved[:3], at[:3])]
    return Directional(at.by_theta @ v, *by)


def directional_by_autograd(
    network: Network, theta: Tensor, x: Tensor, targets: Tensor, v: Tensor
) -> Directional:
    """Compute `directional` by differentiating twice, for any network; the reference.

    Args: as in `directional`.
    """
    leaves = _leaves(theta, x, targets)
    loss = F.cross_entropy(network(*leaves[:2]), leaves[2] if leaves[2:] else targets)
    (g,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
    slope = g @ v
    return Directional(slope.detach(), *_three(torch.autograd.grad(slope, leaves)))


@shared_threads()
def logits(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute logits (N, K) of images x (N, C, H, W), without derivatives."""
    if written_out(network, theta, x):
        return convnet.logits(network, theta, x)
    with torch.no_grad():
        return network(theta, x)


@shared_threads()
def last_block(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute a ConvNet's last block (N, D), differentiable in the images alone.

    Args:
        network: a ConvNet.
        theta: (P,).
        x: images (N, C, H, W).
    """
    if written_out(network, theta, x):
        return convnet.LastBlock.apply(x, network, theta)
    return last_block_by_autograd(network, theta, x)


@torch.no_grad()
@shared_threads()
def last_block_of_each(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute `last_block` of each image by itself, so that no digit depends on the others."""
    if written_out(network, theta, x):
        return convnet.last_block_of_each(network, theta, x)
    alone = [last_block_by_autograd(network, theta, image.clone()) for image in x.split(1)]
    return torch.cat(alone)


def last_block_by_autograd(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """Compute `last_block` on any device, differentiable in theta, too; the reference."""
    p = convnet.Parameters(network, theta)
    for w, scale, shift in [p.first, *p.later]:
        y = F.group_norm(F.conv2d(x, w, padding=1), len(w), scale, shift)
        x = F.avg_pool2d(F.relu(y), 2)
    return x.flatten(1)


def written_out(network: Network, *tensors: Tensor) -> bool:
    """Return whether `convnet` computes it: a ConvNet on the CPU, all float32 or all float64."""
    kinds = {(tensor.device.type, tensor.dtype) for tensor in tensors}
    possible = {("cpu", torch.float32)}, {("cpu", torch.float64)}
    return isinstance(network.module, ConvNet) and kinds in possible
