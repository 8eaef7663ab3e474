"""DC, gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

Synthetic images are moved until a network's gradients on them point where those on real ones do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medddist.method.fast.derivatives import directional, gradient
from medddist.method.networks import Network


def gradient_matching_loss(
    network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int
) -> Tensor:
    """Compute the `gradient_distance` () of the cross-entropy's gradients of one class.

    Args:
        network: a random one, or one that took a few steps.
        theta: (P,) its parameters.
        synthetic: images (N, C, H, W) of the class; gradients reach them.
        real: images (M, C, H, W) of the class.
        label: the class.
    """
    targets = lambda images: torch.full((len(images),), label, device=images.device)
    wanted = gradient(network, theta, real, targets(real))[1]
    ours = _Gradient.apply(synthetic, network, theta, targets(synthetic))
    return gradient_distance(*(list(network.named(slope).values()) for slope in (ours, wanted)))


class _Gradient(torch.autograd.Function):
    """The cross-entropy's gradient in theta (P,), which can be differentiated in the images by the
    pass that trajectory matching makes.
    """

    @staticmethod
    def forward(ctx, images: Tensor, network: Network, theta: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(images, theta, targets)
        ctx.network = network
        with torch.enable_grad():  # for networks that autograd differentiates
            return gradient(network, theta, images.detach(), targets)[1]

    @staticmethod
    def backward(ctx, v: Tensor) -> tuple[Tensor, None, None, None]:
        images, theta, targets = ctx.saved_tensors
        with torch.enable_grad():
            return directional(ctx.network, theta, images, targets, v).by_images, None, None, None


def gradient_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Sum 1 - cosine of each output's weights over outputs and layers (DC, eq. 10).

    Biases and norms, which have one dimension, are left out.
    """
    pairs = ((x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True) if x.ndim > 1)
    return sum(
        (1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + 1e-6)).sum() for x, y in pairs
    )
