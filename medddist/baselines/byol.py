"""BYOL (Grill et al., NeurIPS 2020): predict a slowly following network's projection of a view."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.baselines.pretraining import (
    Method,
    PretrainSettings,
    ema_step,
    embedded,
    mlp_head,
    rising_momentum,
    seeded,
)


class BYOL(Method):
    """An online encoder, projector and predictor; target copies of the first two follow slowly."""

    def __init__(self, encoder: nn.Module, settings: PretrainSettings, seed: tuple[int | str, ...]):
        super().__init__()
        hidden, width = settings.hidden_width, settings.output_width
        self.encoder, self.momentum = encoder, settings.momentum
        projector = mlp_head(encoder.linear.in_features, hidden, width)
        self.projector = seeded(projector, *seed, "projector")
        self.predictor = seeded(mlp_head(width, hidden, width), *seed, "predictor")
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        """Add the losses of both directions: each view predicts the target's projection of the
        other.
        """
        return self.one_way(first, second) + self.one_way(second, first)

    def one_way(self, online: Tensor, other: Tensor) -> Tensor:
        """Compute the loss () of predicting from the view `online` what the target makes of
        `other`.
        """
        with torch.no_grad():
            target = self.target_projector(embedded(self.target_encoder, other))
        return regression_loss(self.predictor(self.outputs(online)), target)

    def outputs(self, images: Tensor) -> Tensor:
        """Project images (N, C, H, W) by the online network: (N, D)."""
        return self.projector(embedded(self.encoder, images))

    def after_step(self, progress: float) -> None:
        """Move the target towards the online network."""
        momentum = rising_momentum(self.momentum, progress)
        ema_step(self.target_encoder, self.encoder, momentum)
        ema_step(self.target_projector, self.projector, momentum)


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute 2 - 2 cos(prediction, target) of (N, D), mean over N (BYOL, eq. 2).

    No gradient reaches the target.
    """
    return (2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1)).mean()
