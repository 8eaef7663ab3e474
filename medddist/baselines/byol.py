"""BYOL (Grill et al., NeurIPS 2020): predict what a slowly following network makes of the other
view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.baselines.pretraining import (
    Method,
    PretrainSettings,
    ema_step,
    embedded,
    feature_width,
    frozen_copy,
    mlp_head,
    rising_momentum,
    seeded,
)


class BYOL(Method):
    """Online encoder, projector and predictor; target encoder and projector, their moving average."""

    def __init__(self, encoder: nn.Module, settings: PretrainSettings, seed: tuple[int | str, ...]):
        super().__init__()
        hidden, width = settings.hidden_width, settings.output_width
        self.momentum = settings.momentum
        self.encoder = encoder
        self.projector = seeded(mlp_head(feature_width(encoder), hidden, width), *seed, "projector")
        self.predictor = seeded(mlp_head(width, hidden, width), *seed, "predictor")
        self.target_encoder, self.target_projector = (
            frozen_copy(encoder),
            frozen_copy(self.projector),
        )

    def projected(self, images: Tensor) -> Tensor:
        return self.projector(embedded(self.encoder, images))

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.target_projector(embedded(self.target_encoder, images))

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        p, q = (self.predictor(self.projected(view)) for view in (first, second))
        return regression_loss(p, self.target(second)) + regression_loss(q, self.target(first))

    def outputs(self, images: Tensor) -> Tensor:
        return self.projected(images)

    def after_step(self, progress: float) -> None:
        momentum = rising_momentum(self.momentum, progress)
        ema_step(self.target_encoder, self.encoder, momentum)
        ema_step(self.target_projector, self.projector, momentum)


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL, eq.

    2: 2 - 2 cos(prediction, target) of (N, D), mean over N; no gradient to the target.
    """
    return (2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1)).mean()
