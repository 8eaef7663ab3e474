"""Coresets:

real images chosen, not made, so that few stand for many. Both look at features (N, D) and classes
(N,).
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans


def herding(
    features: np.ndarray, labels: np.ndarray, images_per_class: int, classes: int
) -> np.ndarray:
    """Indices, class by class: each next image brings the mean of the chosen nearest to the mean of
    the class.

    Welling, ICML 2009, in features as iCaRL (Rebuffi et al., CVPR 2017) does it; of equals the
    first.
    """
    return np.concatenate(
        [
            members[_herded(features[members], images_per_class)]
            for members in _members(labels, classes)
        ]
    )


def _herded(features: np.ndarray, count: int) -> list[int]:
    mean, total, chosen = features.mean(0), np.zeros(features.shape[1]), []
    for number in range(1, count + 1):
        distance = np.linalg.norm(mean - (total + features) / number, axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total = total + features[chosen[-1]]
    return chosen


def k_means(
    features: np.ndarray, labels: np.ndarray, images_per_class: int, classes: int, seed: int
) -> np.ndarray:
    """Indices, class by class: of each of `images_per_class` clusters of the class, the image
    nearest to its centre.
    """
    chosen = []
    for members in _members(labels, classes):
        found = KMeans(images_per_class, n_init=3, random_state=seed % 2**32).fit(features[members])
        distance = found.transform(features[members])  # (n, clusters)
        for cluster in range(images_per_class):
            nearest = distance[:, cluster].argmin()
            distance[nearest] = np.inf  # an image stands for one cluster
            chosen.append(members[nearest])
    return np.array(chosen)


def _members(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    return [np.flatnonzero(labels == k) for k in range(classes)]
