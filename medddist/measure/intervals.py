"""95 % intervals of means over networks, and of their differences.

    margin^2 = (t_f s)^2 + (t_g e)^2

An interval covers other patients, other initial weights, and other seeds or draws where there are
several; with one network it covers other patients only. With two networks or sets t is 12.7, and
the interval is of little use. Its coverage is simulated in results/interval-coverage.json.

Notation: s the standard error of the mean from the spread of the networks (or of the sets that they
were trained on), with f degrees of freedom; e its standard error from a bootstrap of the test
groups, with g; t Student's t.
Source: Welch, Biometrika 1947, for f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

LEVEL = 0.95
INTERVAL = "networks by Student's t, test groups by bootstrap"
# How records that name no method were made; too narrow where networks vary most.
FORMER = "percentile bootstrap of test groups crossed with networks"
SMALLEST_P = 1e-100
ROUNDING = 1e-12  # a smaller difference counts as 0


@dataclass(frozen=True)
class Estimate:
    """One metric of U independent units (networks or sets), and in B resamples of the groups."""

    points: np.ndarray  # (U,)
    draws: np.ndarray  # (B, U)
    weights: np.ndarray  # (U,) of a unit in the mean over networks

    @staticmethod
    def of(points: np.ndarray, draws: np.ndarray, shares: np.ndarray) -> Estimate:
        """Average R networks to units: points (R,), draws (B, R), shares (R, U) of a network."""
        weights = (shares > 0).sum(0) / len(shares)
        return Estimate(points @ shares, draws @ shares, weights)

    @property
    def mean(self) -> float:
        """The mean over networks."""
        return float(self.points @ self.weights)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the variance of the units' mean by their spread: (..., U) -> (...)."""
        units = len(self.weights)
        apart = values - (values @ self.weights)[..., None]
        return units / max(units - 1, 1) * np.square(apart * self.weights).sum(-1)


@dataclass(frozen=True)
class Error:
    """The two variances of an estimate, and their degrees of freedom."""

    networks: float
    groups: float
    freedom_networks: float
    freedom_groups: int

    def margin(self, level: float) -> float:
        """Return half the width of the interval that misses the truth with probability `level`."""
        t_networks, t_groups = stdtrit((self.freedom_networks, self.freedom_groups), level / 2)
        return float(np.sqrt(t_networks**2 * self.networks + t_groups**2 * self.groups))


def combined_error(sides: Sequence[Estimate], groups: int) -> Error | None:
    """Return the error of an estimate, or of the difference of two; None where it is undefined.

    In each resample the units differ also because the drawn images suit them unequally. Both
    variances contain that part, so it is subtracted once.
    """
    defined = ~np.any([np.isnan(side.draws).any(1) for side in sides], axis=0)
    if defined.sum() < 2 or any(np.isnan(side.mean) for side in sides):
        return None
    draws = [side.draws[defined] for side in sides]
    means = [d @ side.weights for side, d in zip(sides, draws)]
    spreads = np.array([side.spread(side.points) for side in sides])
    counted_twice = sum(side.spread(d - d.mean(0)).mean() for side, d in zip(sides, draws))
    freedom = np.array([max(len(side.weights) - 1, 1) for side in sides])
    freedom_networks = 1.0
    if spreads.any():  # Welch 1947
        freedom_networks = spreads.sum() ** 2 / np.sum(spreads**2 / freedom)
    networks = max(spreads.sum() - counted_twice, 0.0)
    return Error(networks, np.var(means[0] - sum(means[1:]), ddof=1), freedom_networks, groups - 1)


def interval_around(
    value: float, error: Error | None, bounds: tuple[int, int]
) -> tuple[float | None, float | None]:
    """Return the interval's ends, clipped to `bounds`; None where the error is undefined."""
    if error is None:
        return None, None
    margin = error.margin(1 - LEVEL)
    return tuple(np.clip([value - margin, value + margin], *bounds).tolist())


def p_two_sided(value: float, error: Error | None) -> float | None:
    """Return the level at which the interval ends at zero; never below SMALLEST_P."""
    if error is None:
        return None
    if abs(value) < ROUNDING:
        return 1.0
    beyond = lambda logarithm: error.margin(np.exp(logarithm)) - abs(value)
    lowest = np.log(SMALLEST_P)
    return SMALLEST_P if beyond(lowest) <= 0 else float(np.exp(brentq(beyond, lowest, 0.0)))
