"""What trained networks make of images: features of the last block, and confidence in a class."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medddist.method.fast.derivatives import logits
from medddist.method.networks import Network
from medddist.method.training import require_finite_answers

BATCH = 512


def log_odds(network: Network, trained: list[Tensor], images: Tensor, labels: Tensor) -> np.ndarray:
    """Compute the log-odds of each image's class, averaged over networks.

    Args:
        network: of the parameters.
        trained: parameters (P,) of each network.
        images: (N, C, H, W), standardised.
        labels: (N,) classes.

    Returns:
        (N,) log of p / (1 - p), with p the probability of the image's class.

    Raises:
        Diverged: where a network's answers are not finite.
    """
    scores = []
    for theta in trained:
        batches = (logits(network, theta, batch) for batch in images.split(BATCH))
        z = torch.cat(list(batches)).double()
        own = z.gather(1, labels[:, None])[:, 0]
        scores.append(own - z.scatter(1, labels[:, None], -math.inf).logsumexp(1))
    mean = torch.stack(scores).mean(0)
    require_finite_answers(mean)
    return mean.cpu().numpy()


@torch.no_grad()
def standardised_features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """Return the last block's features (N, F), each in standard deviations over these images."""
    module = network.loaded(theta)
    features = torch.cat([module.features(batch).flatten(1) for batch in images.split(BATCH)])
    return features / features.std(0).clamp_min(1e-6)
