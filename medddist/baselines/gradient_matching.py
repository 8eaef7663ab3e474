"""DC, gradient matching (Zhao, Mopuri & Bilen, ICLR 2021): the synthetic images' gradients point where the real ones' do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.networks import Network


def gradient_matching_loss(network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int) -> Tensor:
    """() of one class's images (N, C, H, W): `gradient_distance` of the two gradients of the cross-entropy."""
    wanted = _gradients(network, theta, real, label, create_graph=False)
    return gradient_distance(_gradients(network, theta, synthetic, label, create_graph=True), wanted)


def _gradients(network: Network, theta: Tensor, images: Tensor, label: int, create_graph: bool) -> list[Tensor]:
    """By parameter, in its shape; always by autograd, since it is differentiated again."""
    theta = theta.detach().requires_grad_()
    targets = torch.full((len(images),), label, device=images.device)
    (found,) = torch.autograd.grad(F.cross_entropy(network(theta, images), targets), theta, create_graph=create_graph)
    return list(network.named(found).values())


def gradient_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """DC, eq. 10: 1 - cosine of each output's weights, summed over outputs and layers; biases and norms are left out."""
    pairs = ((x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True) if x.ndim > 1)
    return sum((1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + 1e-6)).sum() for x, y in pairs)
