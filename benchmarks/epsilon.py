"""How private is the release really? A lower bound on epsilon, from many releases.

A worst-case image, whose features are as long as clipping allows, is added to no data or not, and
the sums are released many times through the library's own code. Whoever sees a release guesses
whether the image was there, by how far the release lies in the image's direction. With true and
false positives at a threshold,

    epsilon >= log((TPR - delta) / FPR),

so the lower end of TPR's and the upper end of FPR's interval (Clopper-Pearson) bound epsilon from
below. The threshold is chosen on one half of the releases and judged on the other.
Source: Jagielski, Ullman & Oprea, NeurIPS 2020.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import beta

from medddist.method.private.release import clipped_sums, noise_scale, noisy

CLIP, LEVEL = 1.0, 0.95
FACTORS = (1.0, 0.25)  # of the noise: as it should be, and a build with a quarter of it


def measure(releases: int, report=None, delta: float = 1e-5) -> list[dict]:
    """Bound epsilon from below, for two guarantees, with the noise and with a quarter of it.

    Args:
        releases: of each kind, with and without the image.
        report: called after each bound.
        delta: of the guarantees.

    Returns:
        A row each: {epsilon, noise_factor, lower_bound, releases}.
    """
    rows = []
    for epsilon in (1.0, 4.0):
        for factor in FACTORS:
            scale = factor * noise_scale(epsilon, delta)
            bound = lower_bound(scale, delta, releases)
            rows.append(
                {
                    "epsilon": epsilon,
                    "delta": delta,
                    "noise_factor": factor,
                    "lower_bound": bound,
                    "releases": releases,
                }
            )
            if report:
                report("releases", len(rows), 2 * len(FACTORS))
    return rows


def lower_bound(scale: float, delta: float, releases: int) -> float:
    """Bound epsilon from below with 95 % confidence, at noise of this standard deviation.

    Args:
        scale: standard deviation of the noise, in integer units.
        delta: of the guarantee.
        releases: with the image, and as many without it.
    """
    image = clipped_sums(np.full((1, 1), 1e9), np.zeros(1, int), np.zeros(1, int), 1, CLIP)
    direction = image.ravel() / np.linalg.norm(image)
    seen = lambda sums: noisy(np.repeat(sums, releases, 0), scale) @ direction
    absent, present = seen(np.zeros_like(image)), seen(image)
    half = releases // 2
    candidates = np.quantile(absent[:half], 1 - np.geomspace(0.5, 100 / half, 60))
    threshold = max(candidates, key=lambda t: _bound(present[:half], absent[:half], t, delta))
    return _bound(present[half:], absent[half:], threshold, delta)


def _bound(present: np.ndarray, absent: np.ndarray, threshold: float, delta: float) -> float:
    """The lower bound at a threshold; each end of an interval has half of what may fail."""
    count, miss = len(present), (1 - LEVEL) / 2
    found, wrong = int((present > threshold).sum()), int((absent > threshold).sum())
    low = beta.ppf(miss, found, count - found + 1) if found else 0.0
    high = beta.ppf(1 - miss, wrong + 1, count - wrong) if wrong < count else 1.0
    return math.log((low - delta) / high) if low > delta else 0.0
