"""What trained networks make of images: features of the last block, and how sure they are of a
class.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medddist.method.fast.derivatives import logits
from medddist.method.networks import Network
from medddist.method.training import require_finite_answers


def log_odds(network: Network, trained: list[Tensor], images: Tensor, labels: Tensor) -> np.ndarray:
    """(N,) log of p / (1 - p), p the probability of the own class; the mean over networks.

    Raises Diverged where it is not finite.
    """
    found = []
    for theta in trained:
        z = torch.cat([logits(network, theta, batch) for batch in images.split(BATCH)]).double()
        own = z.gather(1, labels[:, None])
        rest = z.scatter(1, labels[:, None], -math.inf)
        found.append(own[:, 0] - rest.logsumexp(1))
    odds = torch.stack(found).mean(0)
    require_finite_answers(odds)
    return odds.cpu().numpy()


BATCH = 512


@torch.no_grad()
def features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """(N, F) of the network's last block, each feature in standard deviations over these images."""
    module = network.loaded(theta)
    found = torch.cat([module.features(batch).flatten(1) for batch in images.split(BATCH)])
    return found / found.std(0).clamp_min(1e-6)
