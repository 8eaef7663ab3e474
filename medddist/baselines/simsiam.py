"""SimSiam (Chen & He, CVPR 2021): predict the other view's projection; what is predicted passes no
gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.baselines.pretraining import (
    Method,
    PretrainSettings,
    embedded,
    feature_width,
    mlp_head,
    seeded,
)


class SimSiam(Method):
    """Encoder, projector (batch norm at its end, without affine) and a predictor with a bottleneck
    of a quarter.
    """

    def __init__(self, encoder: nn.Module, settings: PretrainSettings, seed: tuple[int | str, ...]):
        super().__init__()
        width = settings.output_width
        self.encoder = encoder
        projector = mlp_head(
            feature_width(encoder), settings.hidden_width, width, batch_norm_last=True
        )
        self.projector = seeded(projector, *seed, "projector")
        self.predictor = seeded(mlp_head(width, max(1, width // 4), width), *seed, "predictor")

    def outputs(self, images: Tensor) -> Tensor:
        return self.projector(embedded(self.encoder, images))

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        z1, z2 = self.outputs(first), self.outputs(second)
        return (
            negative_cosine(self.predictor(z1), z2) / 2
            + negative_cosine(self.predictor(z2), z1) / 2
        )


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """SimSiam, eq. 1 with 3: -cos(p, stopgrad(z)) of (N, D), mean over N."""
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()
