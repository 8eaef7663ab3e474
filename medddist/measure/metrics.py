"""Scores of networks on a test part, all with the same kind of 95 % interval.

    mean = sum over networks of metric_r / R,    interval = mean +- margin (`intervals`)

Point values are scikit-learn's. An interval has no width where every network is always right, and
is too narrow for shares near 0 or 1 of fewer than about 50 images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medddist.base.errors import InputError
from medddist.measure.intervals import (
    INTERVAL,
    LEVEL,
    Estimate,
    combined_error,
    interval_around,
    p_two_sided,
)
from medddist.measure.resampling import (
    Answers,
    all_points,
    checked_answers,
    replicates,
    wanted_points,
)

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
CLASS_METRICS = ("sensitivity", "specificity", "auroc")  # of one class against the others


def score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    sets: np.ndarray | None = None,
) -> dict:
    """Score R networks on one test part by every metric.

    Args:
        probabilities: (R, N, K) of R networks for N images; the predicted class is the largest,
            the first of equals.
        labels: (N,) positions in `class_names`.
        groups: (N,) images of one group are resampled together.
        class_names: K names.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        sets: (R,) the training set of each network; with two or more of them, sets are what varies.

    Returns:
        accuracy, balanced_accuracy, macro_f1 and auroc (one against the rest, mean over classes),
        each {mean, std, low, high}; per_class {name: {count, sensitivity, specificity, auroc}};
        confusion (K, K), rows are true classes, mean over networks; interval, how it was made.

    Raises:
        InputError: for shapes that do not fit, non-finite probabilities, unknown labels, or fewer
            than two groups.
    """
    answers = checked_answers(probabilities, labels, groups, len(class_names), resamples, sets=sets)
    points, draws = all_points(answers), replicates(answers, resamples, seed)
    summaries = {name: _summary(answers, points[name], draws[name]) for name in METRICS}
    per_class = {}
    for k, name in enumerate(class_names):
        class_scores = {"count": int(np.sum(answers.labels == k))}
        for metric in CLASS_METRICS:
            ours, drawn = points[f"class_{metric}"][:, k], draws[f"class_{metric}"][:, :, k]
            class_scores[metric] = _summary(answers, ours, drawn)
        per_class[str(name)] = class_scores
    interval = {"level": LEVEL, "method": INTERVAL, "resamples": resamples, "seed": seed}
    interval |= {"networks": answers.networks, "independent": answers.units}
    interval |= {"images": len(answers.labels), "groups": answers.group_count}
    confusion = points["confusion"].mean(0).tolist()
    return summaries | {"per_class": per_class, "confusion": confusion, "interval": interval}


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    metric: str = "balanced_accuracy",
    resamples: int = 2000,
    seed: int = 0,
    sets: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> dict:
    """Compare two groups of networks on the same resampled test groups.

    Args:
        a: probabilities (R1, N, K).
        b: probabilities (R2, N, K) of other, independent networks.
        labels: (N,) positions in the class names.
        groups: (N,) images of one group are resampled together.
        metric: one of METRICS.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        sets: the training sets of the networks of a and of b, as `score` takes them.

    Returns:
        {difference, low, high, p_two_sided} of a minus b. p is below 0.05 exactly where the
        interval excludes zero.

    Raises:
        InputError: as `score` does, and for an unknown metric.
    """
    given = a, [b], labels, groups, (metric,), resamples, seed
    return paired_differences(*given, (sets[0], [sets[1]]))[0][metric]


def paired_differences(
    a: np.ndarray,
    others: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    wanted: Sequence[str] = ("balanced_accuracy",),
    resamples: int = 2000,
    seed: int = 0,
    sets: tuple[np.ndarray | None, Sequence[np.ndarray | None] | None] = (None, None),
) -> list[dict[str, dict]]:
    """Compare `a` with each of `others` as `paired_difference` does; `a` is resampled once.

    Args:
        a: probabilities (R, N, K).
        others: a list of such.
        labels: (N,) positions in the class names.
        groups: (N,) images of one group are resampled together.
        wanted: some of METRICS.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        sets: the training sets of the networks of `a`, and of each of `others`.

    Returns:
        By other and by metric, a `paired_difference`.

    Raises:
        InputError: as `paired_difference` does.
    """
    unknown = [metric for metric in wanted if metric not in METRICS]
    if unknown:
        known = ", ".join(METRICS)
        raise InputError("metric", f"{unknown[0]!r} is not known", f"use one of {known}")
    first = checked_answers(a, labels, groups, None, resamples, "a", sets[0])
    ours, differences = _estimates(first, wanted, resamples, seed), []
    for b, sets_of_b in zip(others, sets[1] or [None] * len(others), strict=True):
        second = checked_answers(b, labels, groups, first.classes, resamples, "b", sets_of_b)
        theirs = _estimates(second, wanted, resamples, seed)
        count = first.group_count
        differences.append({m: _difference(ours[m], theirs[m], count) for m in wanted})
    return differences


def _difference(a: Estimate, b: Estimate, groups: int) -> dict:
    value, error = a.mean - b.mean, combined_error([a, b], groups)
    low, high = interval_around(value, error, (-1, 1))
    p = p_two_sided(value, error)
    return {"difference": _plain(value), "low": low, "high": high, "p_two_sided": p}


def excludes_zero(difference: dict) -> bool:
    """Return whether the interval of a `paired_difference` excludes zero: then p is below 0.05."""
    return difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for multiple comparisons (Holm, Scandinavian Journal of Statistics 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is smaller than the one
    before, or above 1. The order is kept; None stays None.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected, floor = [None] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        corrected[place] = floor = max(floor, min(1.0, p * (len(known) - rank)))
    return corrected


def majority_class(labels_train: np.ndarray, labels_test: np.ndarray, classes: int) -> np.ndarray:
    """Return (1, N, K): a classifier that always predicts the most frequent training class.

    Of `labels_test` (N,) only the length is used.

    Raises:
        InputError: without training labels.
    """
    if len(labels_train) == 0:
        raise InputError("labels_train", "is empty", "give the training part's labels")
    probabilities = np.zeros((1, len(labels_test), classes))
    probabilities[:, :, np.bincount(labels_train, minlength=classes).argmax()] = 1
    return probabilities


def _estimates(
    answers: Answers, wanted: Sequence[str], resamples: int, seed: int
) -> dict[str, Estimate]:
    points = wanted_points(answers, wanted)
    draws = replicates(answers, resamples, seed, list(wanted))
    return {name: Estimate.of(points[name], draws[name], answers.shares) for name in wanted}


def _summary(answers: Answers, points: np.ndarray, draws: np.ndarray) -> dict:
    """(R,) point values and (B, R) resampled ones -> {mean, std, low, high}."""
    estimate = Estimate.of(points, draws, answers.shares)
    error = combined_error([estimate], answers.group_count)
    low, high = interval_around(points.mean(), error, (0, 1))
    std = points.std(ddof=1) if len(points) > 1 else points[0] * 0.0
    return {"mean": _plain(points.mean()), "std": _plain(std), "low": low, "high": high}


def _plain(value: float) -> float | None:
    """A float that JSON can hold: NaN becomes None."""
    return None if np.isnan(value) else float(value)
