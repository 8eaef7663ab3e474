"""Coresets: choose few real images, by their features, that stand for many."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans


def herding(
    features: np.ndarray, labels: np.ndarray, images_per_class: int, classes: int
) -> np.ndarray:
    """Choose each next image so that the mean of the chosen comes nearest to the class's mean.

    Welling, ICML 2009, in features as iCaRL (Rebuffi et al., CVPR 2017) does it.

    Args:
        features: (N, D).
        labels: (N,).
        images_per_class: to choose; the first of equals.
        classes: K.

    Returns:
        Indices, class by class.
    """
    chosen = []
    for members in _members(labels, classes):
        own, left = features[members], np.ones(len(members), bool)
        mean, total = own.mean(0), np.zeros(features.shape[1])
        for number in range(1, images_per_class + 1):
            distance = np.linalg.norm(mean - (total + own) / number, axis=1)
            best = np.where(left, distance, np.inf).argmin()
            left[best], total = False, total + own[best]
            chosen.append(members[best])
    return np.array(chosen)


def k_means(
    features: np.ndarray, labels: np.ndarray, images_per_class: int, classes: int, seed: int
) -> np.ndarray:
    """Choose the image nearest to the centre of each cluster of a class.

    Args:
        features: (N, D).
        labels: (N,).
        images_per_class: clusters of each class; an image stands for one of them.
        classes: K.
        seed: of the clusters' first centres.

    Returns:
        Indices, class by class.
    """
    chosen = []
    for members in _members(labels, classes):
        clusters = KMeans(images_per_class, n_init=3, random_state=seed % 2**32)
        distance = clusters.fit_transform(features[members])  # (n, clusters)
        for cluster in range(images_per_class):
            nearest = distance[:, cluster].argmin()
            distance[nearest] = np.inf
            chosen.append(members[nearest])
    return np.array(chosen)


def _members(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    return [np.flatnonzero(labels == k) for k in range(classes)]
