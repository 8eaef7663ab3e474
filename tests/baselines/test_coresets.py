"""Herding and k-means against brute force on sets small enough for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medddist.baselines.coresets import herding, k_means


def clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(12, 2) features and labels (12,): two classes of two far clusters of three each."""
    rng = np.random.default_rng(seed)
    centres = np.repeat([[0, 0], [10, 0], [0, 10], [10, 10]], 3, axis=0)
    order = rng.permutation(12)
    return (centres + 0.1 * rng.standard_normal((12, 2)))[order], np.repeat([0, 1], 6)[order]


def test_each_herded_image_is_the_best_next_one():
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((15, 3)), np.arange(15) % 3
    chosen = herding(features, labels, 3, 3).reshape(3, 3)
    for k, found in enumerate(chosen):
        members = np.flatnonzero(labels == k)
        mean, taken = features[members].mean(0), []
        for _ in range(3):
            gaps = {
                m: np.linalg.norm(mean - features[[*taken, m]].mean(0))
                for m in members
                if m not in taken
            }
            taken.append(min(gaps, key=gaps.get))
        assert found.tolist() == taken


def test_herding_all_images_of_a_class_takes_each_once():
    features, labels = clusters()
    assert sorted(herding(features, labels, 6, 2).tolist()) == list(range(12))


def test_k_means_takes_the_image_nearest_to_the_best_centres():
    """The best of all ways to part a class in two, by its sum of squares; then the image nearest to
    each mean.
    """
    features, labels = clusters()
    chosen = k_means(features, labels, 2, 2, seed=0)
    for k, found in enumerate(chosen.reshape(2, 2)):
        members = np.flatnonzero(labels == k)
        cost = lambda part: ((features[part] - features[part].mean(0)) ** 2).sum()
        halves = [
            list(half) for size in range(1, 6) for half in itertools.combinations(members, size)
        ]
        best = min(halves, key=lambda half: cost(half) + cost(np.setdiff1d(members, half)))
        expected = set()
        for part in (np.array(best), np.setdiff1d(members, best)):
            expected.add(
                part[np.linalg.norm(features[part] - features[part].mean(0), axis=1).argmin()]
            )
        assert set(found.tolist()) == expected


@pytest.mark.parametrize("choose", [herding, lambda *given: k_means(*given, seed=0)])
def test_a_coreset_is_balanced_without_repetition_in_the_order_of_classes(choose):
    features, labels = clusters()
    chosen = choose(features, labels, 3, 2)
    assert labels[chosen].tolist() == [0, 0, 0, 1, 1, 1] and len(set(chosen.tolist())) == 6


def test_equal_images_are_chosen_once():
    chosen = k_means(np.zeros((4, 2)) + np.arange(4)[:, None] // 2, np.zeros(4, int), 2, 1, seed=0)
    assert len(set(chosen.tolist())) == 2
