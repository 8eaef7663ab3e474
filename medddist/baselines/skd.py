"""SKD-style: self-supervision with batch knowledge ensembling between two networks.

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

TEMPERATURE, ENSEMBLING, WEIGHT = 4.0, 0.5, 1.0  # tau, omega, and the weight of the ensembling loss


class SKD(BYOL):
    """BYOL, and the target's knowledge of similar images as soft targets."""

    def one_way(self, online: Tensor, other: Tensor) -> Tensor:
        """Add to BYOL's loss () that of the ensembled soft targets."""
        prediction = self.predictor(self.outputs(online))
        with torch.no_grad():
            features = embedded(self.target_encoder, other)
            target = self.target_projector(features)
            knowledge = ensembled(features, target)
        loss = regression_loss(prediction, target)
        return loss + WEIGHT * distillation_loss(prediction, knowledge)


def ensembled(
    features: Tensor, logits: Tensor, temperature: float = TEMPERATURE, share: float = ENSEMBLING
) -> Tensor:
    """Compute soft targets by batch knowledge ensembling (Ge et al., eq. 5).

    Q = (1 - w) (I - w W)^-1 P, with W the row softmax of cosine similarities without the diagonal,
    and P = softmax(logits / tau).

    Args:
        features: (N, D).
        logits: (N, K).
        temperature: tau.
        share: w.

    Returns:
        Q (N, K), whose rows sum to 1.
    """
    unit = F.normalize(features, dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-torch.inf).softmax(1)
    identity = torch.eye(len(features), dtype=features.dtype, device=features.device)
    own = (1 - share) * (logits / temperature).softmax(1)
    return torch.linalg.solve(identity - share * similar, own)


def distillation_loss(logits: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Compute tau^2 KL(targets || softmax(logits / tau)) of (N, K), mean over N.

    No gradient reaches the targets.
    """
    predicted = (logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(predicted, targets.detach(), reduction="batchmean")
