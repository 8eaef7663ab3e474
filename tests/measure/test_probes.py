"""Linear probes against known answers."""

from __future__ import annotations

import numpy as np
import pytest

from medddist.measure.probes import (
    STRENGTHS,
    cross_validated_probe,
    linear_probe,
    probe_probabilities,
)


def rows_of(count: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 5) of which the first says the class, as clearly as `signal`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.standard_normal((count, 5))
    features[:, 0] += signal * (2 * labels - 1)
    return features, labels


@pytest.mark.parametrize(
    "signal, least, most", [(0.0, 0.4, 0.6), (1.0, 0.8, 0.88), (5.0, 1.0, 1.0)]
)
def test_a_probe_reads_what_is_there(signal, least, most):
    """Two normal classes 2 signal apart: the best rule is right in a share of Phi(signal)."""
    probe, strength, score = linear_probe(rows_of(600, signal), rows_of(600, signal, 1))
    test = rows_of(2000, signal, 2)
    right = (probe_probabilities(probe, test[0], 2).argmax(1) == test[1]).mean()
    assert (
        least <= right <= most and strength in STRENGTHS and score == pytest.approx(right, abs=0.08)
    )


def test_a_class_that_was_never_seen_is_never_said():
    features, labels = rows_of(100, 2.0)
    probe, *_ = linear_probe((features, 2 * labels), (features, 2 * labels))
    said = probe_probabilities(probe, features, 4)
    assert said.shape == (100, 4) and (said[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(said.sum(1), 1)


def test_a_scale_does_not_matter():
    features, labels = rows_of(200, 1.0)
    scaled = features * np.array([1000, 1, 0.001, 1, 1]) + 7
    a, b = (linear_probe((x, labels), (x, labels))[0] for x in (features, scaled))
    np.testing.assert_allclose(
        probe_probabilities(a, features, 2), probe_probabilities(b, scaled, 2), atol=1e-3
    )


def test_the_penalty_is_chosen_on_groups_that_the_probe_did_not_see():
    """Noise in exact copies: whoever chooses on rows that were fitted, or on their copies, believes
    to know the classes.
    """
    features, labels = np.random.default_rng(0).standard_normal((40, 60)), np.arange(40) % 2
    rows, groups = (
        (np.repeat(features, 4, axis=0), np.repeat(labels, 4)),
        np.repeat(np.arange(40), 4),
    )
    assert linear_probe(rows, rows)[2] > 0.9
    probe, strength, score = cross_validated_probe(rows, groups)
    assert strength in STRENGTHS and 0.3 < score < 0.7
    assert (probe.predict(rows[0]) == rows[1]).mean() > 0.9, "it is fitted on all rows in the end"


@pytest.mark.parametrize("each", [1, 2])
def test_few_groups_still_make_a_probe(each):
    rows, groups = (np.arange(4.0)[:, None], np.array([0, 0, 1, 1])), np.arange(4) // (3 - each)
    probe, strength, score = cross_validated_probe(rows, groups)
    assert strength in STRENGTHS and (score is None) == (each == 1) and probe.predict([[9.0]]) == 1
