"""DC, gradient matching (Zhao, Mopuri & Bilen, ICLR 2021): the synthetic images' gradients point
where the real ones' do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medddist.method.fast.derivatives import directional, gradient
from medddist.method.networks import Network


def gradient_matching_loss(
    network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int
) -> Tensor:
    """() of one class's images (N, C, H, W): `gradient_distance` of the two gradients of the cross-
    entropy.
    """
    by_layer = lambda found: list(network.named(found).values())
    targets = lambda images: torch.full((len(images),), label, device=images.device)
    wanted = gradient(network, theta, real, targets(real))[1]
    found = _Gradient.apply(synthetic, network, theta, targets(synthetic))
    return gradient_distance(by_layer(found), by_layer(wanted))


class _Gradient(torch.autograd.Function):
    """The cross-entropy's gradient in theta (P,), which can be differentiated in the images: the
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
    """DC, eq.

    10: 1 - cosine of each output's weights, summed over outputs and layers; biases and norms are
    left out.
    """
    pairs = ((x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True) if x.ndim > 1)
    return sum(
        (1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + 1e-6)).sum() for x, y in pairs
    )
