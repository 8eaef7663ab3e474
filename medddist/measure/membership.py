"""Membership inference: does an attack's score reveal which images were trained on?

    detected: score > threshold,    threshold = the r-th highest score of n unseen images
    detected by chance among m further unseen images ~ BetaBinomial(m, r, n + 1 - r)

The distribution is exact whatever the scores are. It decides whether members are detected, and
whether the negative control of unseen images is at chance.

Notation: r = floor(false_positives (n + 1)), the rank.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from medddist.base.errors import InputError, NotApplicable

LEVEL = 0.95  # of intervals
CONTROL_LEVEL = 0.999  # of the controls' intervals: controls should not fail by chance


def share(count: int, of: int, level: float) -> dict[str, float | int]:
    """Compute a share of counts with its exact binomial (Clopper-Pearson) interval."""
    interval = stats.binomtest(count, of).proportion_ci(level, method="exact")
    return {
        "count": count,
        "of": of,
        "share": count / of,
        "low": float(interval.low),
        "high": float(interval.high),
        "level": level,
    }


class Threshold(NamedTuple):
    """The score above which an image is detected."""

    score: float
    rank: int  # r
    images: int  # n

    def by_chance(self, count: int, level: float) -> tuple[int, int]:
        """Return the fewest and the most of `count` further unseen images detected by chance.

        Args:
            count: m.
            level: probability of a number between the two.
        """
        low, high = stats.betabinom(count, self.rank, self.images + 1 - self.rank).interval(level)
        return int(low), int(high)


def threshold(unseen: np.ndarray, false_positives: float) -> Threshold:
    """Compute the threshold that a further unseen image exceeds with probability `false_positives`.

    Args:
        unseen: scores (n,).
        false_positives: at most; the probability is over the draw of all n + 1.

    Raises:
        NotApplicable: where there are too few unseen images.
    """
    rank = threshold_rank(len(unseen), false_positives)
    return Threshold(float(np.sort(unseen)[-rank]), rank, len(unseen))


def threshold_rank(unseen: int, false_positives: float) -> int:
    """Compute r, the rank of the threshold among so many unseen images.

    Raises:
        NotApplicable: where there are too few unseen images.
    """
    rank = math.floor(false_positives * (unseen + 1) + 1e-9)
    if rank < 1:
        reason = f"{false_positives:g} cannot be seen with {unseen} unseen images"
        lowest = f"{math.ceil(1000 / (unseen + 1)) / 1000:g}"
        remedy = f"raise it to {lowest} or more, or give more test images of every class"
        raise NotApplicable("audit.false_positives", reason, remedy)
    return rank


def auc(members: np.ndarray, others: np.ndarray, level: float) -> dict[str, float]:
    """Compute the area under the ROC curve and its interval (DeLong et al., Biometrics 1988)."""
    above = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    variance = above.mean(1).var(ddof=1) / len(members) + above.mean(0).var(ddof=1) / len(others)
    width = stats.norm.ppf((1 + level) / 2) * math.sqrt(variance)
    return {
        "auc": float(above.mean()),
        "low": float(max(above.mean() - width, 0)),
        "high": float(min(above.mean() + width, 1)),
        "level": level,
    }


def row(scores: np.ndarray, unseen: np.ndarray, at: Threshold, level: float) -> dict[str, Any]:
    """Summarise the scores of one group of images.

    Args:
        scores: (m,) of the group.
        unseen: (n,) of the images that the curve compares it with.
        at: the threshold.
        level: of the intervals.

    Returns:
        true_positives, the share detected; by_chance [low, high]; auc.
    """
    detected = int((scores > at.score).sum())
    return {
        "true_positives": share(detected, len(scores), level),
        "by_chance": list(at.by_chance(len(scores), level)),
        "auc": auc(scores, unseen, level),
    }


def attacked(scores: dict[str, np.ndarray], false_positives: float) -> dict[str, Any]:
    """Summarise what an attack detects.

    Args:
        scores: by group of images: `unseen_a`, which sets the threshold; `unseen_b`, the negative
            control; the members `starting`, `others` and `control` where there are any.
        false_positives: probability of an unseen image to be detected.

    Returns:
        A `row` for each group of members, and one for `unseen`.

    Raises:
        InputError: for scores that are not finite, which could never be detected.
        NotApplicable: where there are too few unseen images.
    """
    for name, values in scores.items():
        if not np.isfinite(values).all():
            reason = f"the attack's scores of the group {name} are not finite, "
            reason += "so that nothing can be found"
            remedy = "raise audit.shadows or audit.shadow_networks, "
            remedy += "or lower audit.recipe.learning_rate"
            raise InputError("audit", reason, remedy)
    a, b = scores["unseen_a"], scores["unseen_b"]
    at, both = threshold(a, false_positives), np.concatenate([a, b])
    rows = {
        name: row(values, both, at, LEVEL)
        for name, values in scores.items()
        if name in ("starting", "others") and len(values)
    }
    rows["unseen"] = row(b, a, at, CONTROL_LEVEL)
    if "control" in scores:
        rows["control"] = row(scores["control"], both, at, CONTROL_LEVEL)
    return rows


def is_found(group: dict[str, Any]) -> bool:
    """Return whether more is detected than by chance, at the threshold and over the whole curve."""
    return group["true_positives"]["count"] > group["by_chance"][1] and group["auc"]["low"] > 0.5


def is_at_chance(group: dict[str, Any]) -> bool:
    """Return whether chance explains what is detected, at the threshold and over the curve."""
    (low, high), area = group["by_chance"], group["auc"]
    return low <= group["true_positives"]["count"] <= high and area["low"] <= 0.5 <= area["high"]


def moderated_deviations(variances: np.ndarray, freedom: int) -> np.ndarray:
    """Shrink estimated variances towards a common value, and return standard deviations (N,).

    The less the variances differ beyond what so few degrees of freedom explain, the more they are
    shrunk. Source: Smyth, Stat. Appl. Genet. Mol. Biol. 2004, section 6.2.

    Args:
        variances: (N,), one for each quantity.
        freedom: degrees of freedom of each variance.
    """
    half, logs = freedom / 2, np.log(np.maximum(variances, np.finfo(float).tiny))
    excess = float(logs.var(ddof=1) - special.polygamma(1, half))
    if excess <= 1e-6:  # they differ by chance alone
        return np.full(len(variances), math.sqrt(variances.mean()))
    # half of the prior's degrees of freedom
    prior = optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-6, 1e7)
    centre = logs.mean() - special.digamma(half) + math.log(half)
    common = math.exp(centre + special.digamma(prior) - math.log(prior))
    return np.sqrt((prior * common + half * variances) / (prior + half))
