"""SKD-style: self-supervision with two views, an online and a target network, and batch knowledge
ensembling.

"Self-Knowledge Distillation based Self-Supervised Learning" (Li et al., ICASSP 2022,
arXiv:2206.03009) has no public code and no full recipe. Its successor is said to carry batch
knowledge ensembling (Ge et al., arXiv:2104.13298) inside the self-supervised phase. Chosen here:
BYOL's two networks and loss, plus the ensembling loss between the target's projections of one view,
propagated over the batch by the similarity of its features, and the online network's prediction on
the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.baselines.byol import BYOL, regression_loss
from medddist.baselines.pretraining import embedded

TEMPERATURE, ENSEMBLING, WEIGHT = (
    4.0,
    0.5,
    1.0,
)  # tau, omega and the loss's weight of batch knowledge ensembling


class SKD(BYOL):
    """BYOL, and the target's knowledge of similar images as soft targets."""

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        return self._one_way(first, second) + self._one_way(second, first)

    def _one_way(self, online: Tensor, other: Tensor) -> Tensor:
        prediction = self.predictor(self.projected(online))
        with torch.no_grad():
            features = embedded(self.target_encoder, other)
            target = self.target_projector(features)
            knowledge = ensembled(features, target)
        return regression_loss(prediction, target) + WEIGHT * distillation_loss(
            prediction, knowledge
        )


def ensembled(
    features: Tensor, logits: Tensor, temperature: float = TEMPERATURE, share: float = ENSEMBLING
) -> Tensor:
    """Batch knowledge ensembling, eq. 5: features (N, D), logits (N, K) -> soft targets Q (N, K),
    rows sum to 1.

    Q = (1 - w) (I - w W)^-1 P, W the row softmax of cosine similarities without the diagonal, P =
    softmax(logits / tau).
    """
    unit = F.normalize(features, dim=1)
    alike = (unit @ unit.T).fill_diagonal_(-torch.inf).softmax(1)
    one = torch.eye(len(features), dtype=features.dtype, device=features.device)
    return torch.linalg.solve(one - share * alike, (1 - share) * (logits / temperature).softmax(1))


def distillation_loss(logits: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """tau^2 KL(targets || softmax(logits / tau)) of (N, K), mean over N; no gradient to the
    targets.
    """
    said = (logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(said, targets.detach(), reduction="batchmean")
