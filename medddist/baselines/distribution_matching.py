"""DM, distribution matching (Zhao & Bilen, WACV 2023).

Synthetic images are moved until their mean features in random networks are those of real ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medddist.baselines.pretraining import embedded
from medddist.method.networks import Network


def distribution_matching_loss(
    network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int
) -> Tensor:
    """Compute the squared distance () of the mean features (D,) of one class (DM, eq. 5).

    Args:
        network: a random one.
        theta: (P,) its parameters.
        synthetic: images (N, C, H, W) of the class; gradients reach them.
        real: images (M, C, H, W) of the class.
        label: the class, which has no part in this loss.
    """
    with torch.no_grad():
        wanted = features(network, theta, real).mean(0)
    return (features(network, theta, synthetic).mean(0) - wanted).square().sum()


def features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """Compute (N, D) of images (N, C, H, W) at theta (P,), with gradients to the images."""
    named = {f"module.{name}": value for name, value in network.named(theta).items()}
    return torch.func.functional_call(_Features(network.module), named, (images,))


@torch.no_grad()
def all_features(network: Network, theta: Tensor, images: Tensor) -> np.ndarray:
    """Compute (N, D) of many images (N, C, H, W) at theta (P,), batch by batch."""
    return torch.cat([features(network, theta, x) for x in images.split(512)]).cpu().numpy()


class _Features(nn.Module):
    """A network's features as a module of its own, for `functional_call`."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return embedded(self.module, images)
