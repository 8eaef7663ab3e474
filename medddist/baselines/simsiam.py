"""SimSiam (Chen & He, CVPR 2021): predict the other view's projection, which passes no gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.baselines.pretraining import (
    Method,
    PretrainSettings,
    embedded,
    mlp_head,
    seeded,
)


class SimSiam(Method):
    """Encoder, projector, which ends in batch norm without affine, and a predictor.

    The predictor has a bottleneck of a quarter of the projection's width.
    """

    def __init__(self, encoder: nn.Module, settings: PretrainSettings, seed: tuple[int | str, ...]):
        super().__init__()
        self.encoder, width = encoder, settings.output_width
        inputs, hidden = encoder.linear.in_features, settings.hidden_width
        projector = mlp_head(inputs, hidden, width, batch_norm_last=True)
        self.projector = seeded(projector, *seed, "projector")
        self.predictor = seeded(mlp_head(width, max(1, width // 4), width), *seed, "predictor")

    def outputs(self, images: Tensor) -> Tensor:
        """Project images (N, C, H, W): (N, D)."""
        return self.projector(embedded(self.encoder, images))

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        """Average the losses of both directions."""
        a, b = self.outputs(first), self.outputs(second)
        losses = negative_cosine(self.predictor(a), b), negative_cosine(self.predictor(b), a)
        return losses[0] / 2 + losses[1] / 2


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Compute -cos(p, stopgrad(z)) of (N, D), mean over N (SimSiam, eq. 1 with 3)."""
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()
