"""DM, distribution matching (Zhao & Bilen, WACV 2023): the synthetic images' mean features are the real ones'."""

from __future__ import annotations

import torch
from torch import Tensor

from medddist.baselines.pretraining import embedded
from medddist.networks import Network


def distribution_matching_loss(network: Network, theta: Tensor, synthetic: Tensor, real: Tensor, label: int) -> Tensor:
    """DM, eq. 5, of one class: squared distance of the mean features (D,) in a random network; `label` has no part in it."""
    with torch.no_grad():
        wanted = features(network, theta, real).mean(0)
    return (features(network, theta, synthetic).mean(0) - wanted).square().sum()


def features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """(N, D) of images (N, C, H, W), with gradients to the images."""
    return embedded(network.loaded(theta), images)
