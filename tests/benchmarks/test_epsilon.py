"""The lower bound on epsilon stays below what is stated, and finds out too little noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks import epsilon as module
from medddist.method.private.release import SENSITIVITY, noise_scale


def ideal(noise: float) -> float:
    """The largest log(TPR / FPR) of a Gaussian shifted by 1 / noise, at FPR of 0.001 or more."""
    return math.log(norm.sf(norm.isf(0.001) - 1 / noise) / 0.001)


@pytest.mark.parametrize("stated", [1.0, 4.0])
def test_the_bound_is_below_the_epsilon_and_not_far(stated):
    scale = noise_scale(stated, 1e-5)
    found = module.lower_bound(scale, 1e-5, 60_000)
    assert 0.2 * stated < found < stated  # of 60,000: four standard errors below what is usual
    assert found < 1.1 * ideal(scale / SENSITIVITY) + 0.3


def test_a_quarter_of_the_noise_is_found_out():
    assert module.lower_bound(noise_scale(1.0, 1e-5) / 4, 1e-5, 60_000) > 1.2


def test_where_nothing_differs_the_bound_is_at_chance():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 20_000))
    assert module._bound(a, b, 1.0, 1e-5) < 0.1
