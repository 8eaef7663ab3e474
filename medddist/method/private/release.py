"""One noisy release of clipped sums: all that a private distillation learns from real images.

    r_i = trunc(s u_i),    |r_i| <= Delta        of each image, or of each patient, in integers
    release = sum over i of r_i + discrete Gaussian noise (sigma Delta)

u_i is what one image, or all images of one patient together, add: for each class the sum of their
features and their number times C/4, scaled down where it is longer than C sqrt(1 + 1/16). One image
or patient more or less moves the sum by Delta at most, exactly, since it is a sum of integers: no
order of summation and no rounding can add to it. Mechanism and account are OpenDP's.

Notation: C the features' largest norm, Delta the sensitivity in integer units, s the scale to them,
sigma the noise per unit of sensitivity.
Source: Dwork & Roth, 2014; Canonne, Kamath & Steinke, NeurIPS 2020 (discrete Gaussian).
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from medddist.base.errors import InputError

SENSITIVITY = 2**20  # Delta, in integer units
MECHANISM = "discrete Gaussian noise on clipped sums, released once"
MOST_DELTA = 1e-3  # a larger one would allow to give single images away
COUNT_SHARE = 0.25  # of C, that an image adds to its class's count


@dataclass(frozen=True)
class Release:
    """What was released: class means of features, and numbers of images, as far as noise lets see.

    means: (K, D) of features whose norm was clipped to `clip`
    counts: (K,) of images, or fewer where a patient has several; at least 1
    """

    means: np.ndarray
    counts: np.ndarray


def clipped_sums(
    features: np.ndarray, labels: np.ndarray, units: np.ndarray, classes: int, clip: float
) -> np.ndarray:
    """Add up what every unit contributes, in integers.

    Args:
        features: (N, D); what is not finite counts as 0.
        labels: (N,) positions of classes.
        units: (N,) equal for images of one patient, different otherwise.
        classes: K.
        clip: C.

    Returns:
        (K, D + 1) int64: sums of features, and counts in the last column. Without a unit the sums
        differ by a vector of at most SENSITIVITY.
    """
    if not 0 < clip < math.inf:  # of a public network that sees nothing, or not finite
        raise ValueError(f"clip: {clip} is no length")
    total = np.zeros((classes, features.shape[1] + 1), np.int64)
    if not len(features):
        return total
    rows = np.nan_to_num(features.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    rows *= np.minimum(1, clip / np.maximum(_norms(rows), 1e-300))[:, None]
    rows = np.column_stack([rows, np.full(len(rows), COUNT_SHARE * clip)])
    pairs, place = np.unique(np.stack([units, labels], 1), axis=0, return_inverse=True)
    added = np.zeros((len(pairs), rows.shape[1]))
    np.add.at(added, place.ravel(), rows)
    unit = np.unique(pairs[:, 0], return_inverse=True)[1].ravel()
    longest = clip * math.hypot(1, COUNT_SHARE)
    norms = np.sqrt(np.bincount(unit, _norms(added) ** 2))
    scale = SENSITIVITY * (1 - 1e-9) / np.maximum(norms, longest)
    whole = np.trunc(added * scale[unit][:, None]).astype(np.int64)
    squares = np.zeros(len(norms), np.int64)
    np.add.at(squares, unit, (whole * whole).sum(1))
    whole[squares[unit] > SENSITIVITY**2] = 0  # never so, and no promise hangs on "never"
    np.add.at(total, pairs[:, 1], whole)
    return total


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt((rows * rows).sum(1))


def released(sums: np.ndarray, clip: float, epsilon: float, delta: float) -> Release:
    """Add noise to clipped sums once, and take class means of what comes out.

    The noise comes from the system's entropy and cannot be drawn again; the sums are not kept.

    Args:
        sums: (K, D + 1) int64, of `clipped_sums`.
        clip: C.
        epsilon: of the guarantee.
        delta: of the guarantee.

    Raises:
        InputError: without OpenDP.
    """
    return means_of(noisy(sums, noise_scale(epsilon, delta)), clip)


def noisy(sums: np.ndarray, scale: float) -> np.ndarray:
    """Add discrete Gaussian noise of this standard deviation to integers of any shape.

    Raises:
        InputError: without OpenDP.
    """
    return np.array(_mechanism(scale)(sums.ravel().tolist()), np.int64).reshape(sums.shape)


def means_of(sums: np.ndarray, clip: float) -> Release:
    """Turn sums (K, D + 1), noisy or not, into class means and counts."""
    values = sums * (clip * math.hypot(1, COUNT_SHARE) / SENSITIVITY)
    counts = np.maximum(values[:, -1] / (COUNT_SHARE * clip), 1.0)
    return Release(values[:, :-1] / counts[:, None], counts)


def noise_scale(epsilon: float, delta: float) -> float:
    """Find the least standard deviation of the noise, in integer units, for a guarantee.

    Raises:
        InputError: without OpenDP.
    """
    low, high = 1e-3, 1.0  # per unit of sensitivity
    while epsilon_of(high * SENSITIVITY, delta) > epsilon:
        high *= 2
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        if epsilon_of(middle * SENSITIVITY, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high * SENSITIVITY


def epsilon_of(scale: float, delta: float) -> float:
    """Bound epsilon of one release with noise of this standard deviation, by OpenDP's account.

    Raises:
        InputError: without OpenDP.
    """
    dp = _opendp()
    accounted = dp.c.make_zCDP_to_approxDP(_mechanism(scale))
    return float(accounted.map(float(SENSITIVITY)).epsilon(delta))


def epsilon_by_formula(noise: float, delta: float) -> float:
    """Bound epsilon as `epsilon_of` does, without OpenDP: for a receiver who checks.

    Args:
        noise: standard deviation per unit of sensitivity.
        delta: of the guarantee.
    """
    rho = 0.5 / noise**2

    def at(logarithm: float) -> float:  # Canonne, Kamath & Steinke 2020, corollary 13
        above = math.exp(logarithm)  # alpha - 1
        alpha = 1 + above
        conversion = alpha * math.log(above / alpha) - math.log(above * delta)
        return alpha * rho + conversion / above

    return float(minimize_scalar(at, bounds=(-7, 12), method="bounded").fun)


def certainty(noise: float, delta: float) -> float:
    """Bound how sure one can become of a unit that was at even odds, but for a chance of delta.

    Of Gaussian noise, the logarithm of the odds is itself Gaussian, with mean 1 / (2 noise^2) and
    standard deviation 1 / noise.

    Args:
        noise: standard deviation per unit of sensitivity.
        delta: the chance, taken once over releases with the unit in them.
    """
    odds = 0.5 / noise**2 + norm.isf(delta) / noise
    return 1 / (1 + math.exp(-odds))


def guarantee(epsilon: float, delta: float, unit: str, numbers: int) -> dict[str, Any]:
    """State the guarantee of one release, as a package's manifest holds it.

    Args:
        epsilon: asked for.
        delta: asked for.
        unit: `image` or `patient`, one of which may be added or removed.
        numbers: that were released.

    Raises:
        InputError: without OpenDP.
    """
    scale = noise_scale(epsilon, delta)
    return {
        "epsilon": epsilon,
        "delta": delta,
        "unit": unit,
        "neighbours": "one more or one less",
        "mechanism": MECHANISM,
        "noise_scale": scale,
        "sensitivity": SENSITIVITY,
        "numbers": numbers,
        "accountant": f"zCDP, OpenDP {metadata.version('opendp')}",
    }


def _mechanism(scale: float):
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    return dp.m.make_gaussian(*space, scale=scale)


def _opendp():
    try:
        dp = importlib.import_module("opendp.prelude")
    except ImportError:
        remedy = "install it: pip install 'opendp>=0.14,<1'"
        raise InputError("distill.method", "private needs OpenDP", remedy) from None
    dp.enable_features("contrib")
    return dp
