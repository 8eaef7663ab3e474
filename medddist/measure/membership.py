"""Whether images were trained on: the scores of an attack, the threshold that unseen images set,
and what chance would give.

An image is found when it scores higher than all but a share of unseen images. The threshold is one
of their scores, so the number of further unseen images that exceed it is beta-binomial exactly,
whatever their distribution: by that, and not by the share alone, is judged whether members are
found and whether unseen ones are at chance.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from medddist.base.errors import InputError, NotApplicable

LEVEL, CONTROL_LEVEL = (
    0.95,
    0.999,
)  # of intervals; a control is judged by the second, so that it does not fail by luck
BATCH = 512


def share(count: int, of: int, level: float) -> dict[str, float | int]:
    """A share with its exact binomial (Clopper-Pearson) interval."""
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
    """What an image has to score to be found: the `rank`-th highest score of `images` unseen ones."""

    score: float
    rank: int
    images: int

    def by_chance(self, count: int, level: float) -> tuple[int, int]:
        """Fewest and most of `count` further unseen images that are found, with this probability:
        beta-binomial, exactly.
        """
        low, high = stats.betabinom(count, self.rank, self.images + 1 - self.rank).interval(level)
        return int(low), int(high)


def threshold(unseen: np.ndarray, false_positives: float) -> Threshold:
    """The score that a further unseen image exceeds with chance `false_positives` at most, over the
    draw of both.

    Raises NotApplicable where that takes more unseen images than there are.
    """
    rank = threshold_rank(len(unseen), false_positives)
    return Threshold(float(np.sort(unseen)[-rank]), rank, len(unseen))


def threshold_rank(unseen: int, false_positives: float) -> int:
    """Which highest score of so many unseen images is the threshold.

    Raises NotApplicable where even the highest is too low.
    """
    rank = math.floor(false_positives * (unseen + 1) + 1e-9)
    if rank < 1:
        raise NotApplicable(
            "audit.false_positives",
            f"{false_positives:g} cannot be seen with {unseen} unseen images",
            f"raise it to {math.ceil(1000 / (unseen + 1)) / 1000:g} or more, or give more "
            "test images of every class",
        )
    return rank


def auc(members: np.ndarray, others: np.ndarray, level: float) -> dict[str, float]:
    """Area under the ROC curve and its interval by DeLong et al. (Biometrics 1988)."""
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
    """Of these images: how many are found, how many would be by chance, and the area under the
    curve against unseen ones.
    """
    found = int((scores > at.score).sum())
    low, high = at.by_chance(len(scores), level)
    return {
        "true_positives": share(found, len(scores), level),
        "by_chance": [low, high],
        "auc": auc(scores, unseen, level),
    }


def attacked(scores: dict[str, np.ndarray], false_positives: float) -> dict[str, Any]:
    """What an attack finds, from its scores by group: `unseen_a` sets the threshold, `unseen_b` is
    the negative control.

    Raises InputError for scores that are not finite: none of them would ever be found.
    """
    for name, of in scores.items():
        if not np.isfinite(of).all():
            raise InputError(
                "audit",
                f"the attack's scores of the group {name} are not finite, so that nothing can "
                "be found",
                "raise audit.shadows or audit.shadow_networks, or lower audit.recipe.learning_rate",
            )
    a, b = scores["unseen_a"], scores["unseen_b"]
    at, both = threshold(a, false_positives), np.concatenate([a, b])
    groups = {
        name: row(of, both, at, LEVEL)
        for name, of in scores.items()
        if name in ("starting", "others") and len(of)
    }
    return (
        groups
        | {"unseen": row(b, a, at, CONTROL_LEVEL)}
        | (
            {"control": row(scores["control"], both, at, CONTROL_LEVEL)}
            if "control" in scores
            else {}
        )
    )


def is_found(one: dict[str, Any]) -> bool:
    """More than chance gives, by number at the threshold and over the whole curve."""
    return one["true_positives"]["count"] > one["by_chance"][1] and one["auc"]["low"] > 0.5


def is_at_chance(one: dict[str, Any]) -> bool:
    low, high = one["by_chance"]
    return (
        low <= one["true_positives"]["count"] <= high
        and one["auc"]["low"] <= 0.5 <= one["auc"]["high"]
    )


def moderated_deviations(variances: np.ndarray, freedom: int) -> np.ndarray:
    """(N,) standard deviations of N quantities whose variances (N,) were each estimated with so
    many degrees of freedom.

    Each variance is drawn towards what all have in common, the more the less they differ beyond
    what so few values would make them differ anyway (Smyth, Stat. Appl. Genet. Mol. Biol. 2004,
    section 6.2): between one variance for all and one for each.
    """
    half, logs = freedom / 2, np.log(np.maximum(variances, np.finfo(float).tiny))
    excess = float(logs.var(ddof=1) - special.polygamma(1, half))
    if excess <= 1e-6:  # they differ by chance alone
        return np.full(len(variances), math.sqrt(variances.mean()))
    prior = optimize.brentq(
        lambda x: special.polygamma(1, x) - excess, 1e-6, 1e7
    )  # half of the prior's degrees of freedom
    common = math.exp(
        logs.mean()
        - special.digamma(half)
        + math.log(half)
        + special.digamma(prior)
        - math.log(prior)
    )
    return np.sqrt((prior * common + half * variances) / (prior + half))
