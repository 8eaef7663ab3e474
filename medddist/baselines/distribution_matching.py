"""DM, distribution matching (Zhao & Bilen, WACV 2023): the synthetic images' mean features are the
real ones'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medddist.baselines.pretraining import embedded
from medddist.method.networks import Network


def distribution_matching_loss(
    network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int
) -> Tensor:
    """DM, eq.

    5, of one class: squared distance of the mean features (D,) in a random network; `label` has no
    part in it.
    """
    with torch.no_grad():
        wanted = features(network, theta, real).mean(0)
    return (features(network, theta, synthetic).mean(0) - wanted).square().sum()


def features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """(N, D) of images (N, C, H, W) at theta (P,), with gradients to the images."""
    named = {f"of.{name}": value for name, value in network.named(theta).items()}
    return torch.func.functional_call(_Features(network.module), named, (images,))


class _Features(nn.Module):
    """A network's features as a module of its own, for `functional_call`."""

    def __init__(self, of: nn.Module):
        super().__init__()
        self.of = of

    def forward(self, images: Tensor) -> Tensor:
        return embedded(self.of, images)
