"""Scores of networks on a test part, with one kind of 95 % interval everywhere.

Point values are scikit-learn's, their mean and standard deviation are taken over networks. An
interval is that mean plus or minus a margin. The margin has two parts, added as squares: one for
the networks, Student's t times the standard error that their spread gives, and one for the test
groups (patients, near-duplicates), t times their standard error by bootstrap. What the test groups
explain of the networks' spread counts once. Networks that were trained on several sets (seeds'
distilled images, draws of real ones) are not independent: then the sets' means stand in the
networks' place. So an interval speaks about other patients, other initial weights, and other seeds
or draws where there are several; with one network, about other patients alone. With two networks or
sets t is 12.7: where these vary, the interval is so wide that it says little, as two do. An
interval has no width where every network is always right, and is a little too narrow where a class
has fewer than about 20 test groups. `python tests/coverage_of_intervals.py` simulates how often the
truth is held; results/interval-coverage.json has what it found.

What a class that is missing does, in the test part or in one resample: its sensitivity and AUROC are undefined there;
balanced accuracy and macro AUROC average the classes for which they are defined; macro F1 averages the classes that
occur among labels or predictions (a class only ever predicted by mistake counts 0). Resamples in which a figure is
undefined are left out of its interval; a figure undefined throughout is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import stdtrit
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from medddist.errors import InputError
from medddist.seeds import numpy_generator

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
CLASS_METRICS = ("sensitivity", "specificity", "auroc")  # of one class against the others
LEVEL = 0.95
INTERVAL = "networks by Student's t, test groups by bootstrap"  # records that name no kind: FORMER
FORMER = "percentile bootstrap of test groups crossed with networks"  # narrow where networks vary
SMALLEST_P = 1e-100
ROUNDING = 1e-12  # a difference below it is none
CHUNK_BYTES = 2_000_000  # of one array of resampled weights: fits a processor's cache, and bounds the memory


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
    """Every metric of R networks on one test part, ready for JSON.

    probabilities: (R, N, K) of R networks for N images; the predicted class is the largest, the first of equals
    labels: (N,) positions in class_names; groups: (N,) images of one group are drawn together
    sets: (R,) numbers of the sets that the networks were trained on; where there are several, the
    sets' means stand in the networks' place
    Returns accuracy, balanced_accuracy, macro_f1, auroc (one against the rest, mean over classes), each
    {mean, std, low, high}, std with R - 1 in the denominator and 0 for one network; per_class {name: {count,
    sensitivity, specificity, auroc}}; confusion (K, K), rows are true classes, mean over networks; interval, how low
    and high were found.
    Raises InputError for shapes that do not fit, non-finite probabilities, unknown labels, fewer than two groups.
    """
    test = _checked(probabilities, labels, groups, len(class_names), resamples, sets=sets)
    points, draws = _points(test), _replicates(test, resamples, seed)
    summaries = {name: _summary(test, points[name], draws[name]) for name in METRICS}
    per_class = {
        str(name): {"count": int(np.sum(test.labels == k))}
        | {
            m: _summary(test, points[f"class_{m}"][:, k], draws[f"class_{m}"][:, :, k])
            for m in CLASS_METRICS
        }
        for k, name in enumerate(class_names)
    }
    interval = {"level": LEVEL, "method": INTERVAL, "resamples": resamples, "seed": seed}
    interval |= {"networks": test.networks, "independent": test.units}
    interval |= {"images": len(test.labels), "groups": test.group_count}
    return summaries | {"per_class": per_class, "confusion": points["confusion"].mean(0).tolist(), "interval": interval}


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
    """How much better the networks `a` (R1, N, K) are than `b` (R2, N, K): {difference, low, high, p_two_sided}.

    Both are scored on the same drawn groups, so what makes an image easy for both cancels; their
    networks are independent.
    sets: of each, as `score` takes them. p is the level at which the interval would end at zero: below
    0.05 exactly where the interval excludes zero.
    Raises InputError as `score` does, and for a metric not in METRICS.
    """
    given = a, [b], labels, groups, (metric,), resamples, seed, (sets[0], [sets[1]])
    return paired_differences(*given)[0][metric]


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
    """`paired_difference` of `a` to each of `others`, by metric: the same figures, for which `a` is resampled once."""
    unknown = [metric for metric in wanted if metric not in METRICS]
    if unknown:
        raise InputError(f"metric: {unknown[0]!r} is not known; take one of {', '.join(METRICS)}")
    first = _checked(a, labels, groups, None, resamples, "a", sets[0])
    ours, found = _estimates(first, wanted, resamples, seed), []
    for b, sets_of_b in zip(others, sets[1] or [None] * len(others), strict=True):
        second = _checked(b, labels, groups, first.classes, resamples, "b", sets_of_b)
        theirs = _estimates(second, wanted, resamples, seed)
        found.append({m: _difference(ours[m], theirs[m], first.group_count) for m in wanted})
    return found


def _difference(a: _Estimate, b: _Estimate, groups: int) -> dict:
    value, error = a.mean - b.mean, _error([a, b], groups)
    low, high = _interval(value, error, (-1, 1))
    p = _two_sided(value, error)
    return {"difference": _plain(value), "low": low, "high": high, "p_two_sided": p}


def excludes_zero(difference: dict) -> bool:
    """Whether the interval of a `paired_difference` excludes zero: its p is then below 0.05."""
    return difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being so many (Holm, Scandinavian Journal of Statistics 1979), in their order; None stays None.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is smaller than the one before, or above 1.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected, floor = [None] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        corrected[place] = floor = max(floor, min(1.0, p * (len(known) - rank)))
    return corrected


def resample_groups(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(B, N) int64: how often each image counts in each resample; images of a group drawn k times count k.

    Each resample draws G of the G groups with replacement. The draw is tied to the sorted group numbers, not to the
    order of the images. Memory is 8 B N bytes; `score` uses the same draws without holding them all.
    """
    names, positions = np.unique(np.asarray(groups), return_inverse=True)
    return np.concatenate(list(_group_counts(len(names), resamples, seed, resamples)))[:, positions]


def weighted_auroc(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, K) area under the ROC curve of each class against the others, for B sets of image weights; NaN if undefined.

    probabilities: (N, K); labels: (N,); weights: (B, N), not negative. Equal scores count half, as in scikit-learn.
    """
    images = np.arange(len(labels))
    columns = np.ascontiguousarray(np.asarray(weights, float).T)
    rankings = [_Ranking.of(probabilities[:, k], labels == k, images) for k in range(probabilities.shape[1])]
    return np.stack([ranking.auroc(columns) for ranking in rankings], axis=1)


def majority_class(labels_train: np.ndarray, labels_test: np.ndarray, classes: int) -> np.ndarray:
    """(1, N, K) the predictor that gives every test image the most frequent training class (the first of equals).

    Of labels_test (N,) only the length is used.
    """
    if len(labels_train) == 0:
        raise InputError("labels_train: empty, so it has no majority class; give the training part's labels")
    probabilities = np.zeros((1, len(labels_test), classes))
    probabilities[:, :, np.bincount(labels_train, minlength=classes).argmax()] = 1
    return probabilities


@dataclass(frozen=True)
class _Test:
    """Networks' probabilities for a test part; groups are numbered 0 to group_count - 1."""

    probabilities: np.ndarray  # (R, N, K)
    labels: np.ndarray  # (N,)
    groups: np.ndarray  # (N,)
    group_count: int
    shares: np.ndarray  # (R, U): a network's share of the mean of the independent unit it is of

    @property
    def units(self) -> int:
        return self.shares.shape[1]

    @property
    def networks(self) -> int:
        return self.probabilities.shape[0]

    @property
    def classes(self) -> int:
        return self.probabilities.shape[2]


def _checked(
    probabilities, labels, groups, classes: int | None, resamples, where="probabilities", sets=None
) -> _Test:
    p, labels, groups = np.asarray(probabilities), np.asarray(labels), np.asarray(groups)
    if p.ndim != 3 or 0 in p.shape:
        raise InputError(f"{where}: shape {p.shape}, should be (networks, images, classes), each at least 1")
    classes = p.shape[2] if classes is None else classes
    if p.shape[2] != classes or classes < 2:
        raise InputError(f"{where}: {p.shape[2]} columns for {classes} classes; give one for each of 2 or more classes")
    if not np.issubdtype(p.dtype, np.floating) or not np.isfinite(p).all():
        raise InputError(f"{where}: has NaN, infinite or non-float values; look for a training run that diverged")
    for name, values in (("labels", labels), ("groups", groups)):
        if values.shape != p.shape[1:2]:
            raise InputError(f"{name}: shape {values.shape}, should be ({p.shape[1]},); give one for each image")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels: should be integers from 0 to {classes - 1}; give positions in the class names")
    names, positions = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise InputError("groups: all test images are in one group, which gives no interval; number independent images")
    if not isinstance(resamples, int) or resamples < 2:
        raise InputError(f"resamples: should be an integer of 2 or more, got {resamples!r}")
    return _Test(p, labels, positions, len(names), _shares(sets, len(p)))


def _shares(sets: np.ndarray | None, networks: int) -> np.ndarray:
    """(R, U) of `_Test`: units are the sets where there are several, else the networks."""
    units = np.zeros(networks) if sets is None else np.asarray(sets)
    if units.shape != (networks,):
        raise InputError(
            f"sets: shape {units.shape}, should be ({networks},); give the training set of each network"
        )
    member = np.unique(units, return_inverse=True)[1]
    belongs = np.eye(networks) if member.max() == 0 else np.eye(member.max() + 1)[member]
    return belongs / belongs.sum(0)


def _points(test: _Test) -> dict[str, np.ndarray]:
    """Each metric by scikit-learn: (R,), class_ metrics (R, K), confusion (R, K, K)."""
    each = [_points_of_network(p, test.labels) for p in test.probabilities]
    return {name: np.stack([values[name] for values in each]) for name in each[0]}


def _points_of(test: _Test, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The wanted metrics (R,); without an AUROC, which takes long, from the confusion matrices alone."""
    if "auroc" in wanted:
        return _points(test)
    confusions = _confusion_cells(test).sum(1).reshape(test.networks, test.classes, test.classes)
    return _from_confusions(confusions)


def _points_of_network(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """probabilities (N, K), labels (N,)."""
    predicted, classes = probabilities.argmax(1), range(probabilities.shape[1])
    # zero_division: what is undefined is NaN, left out of the means, and no warning
    fit = precision_recall_fscore_support(labels, predicted, labels=list(classes), zero_division=np.nan)
    rest = [recall_score(labels != k, predicted != k, zero_division=np.nan) for k in classes]
    defined = [0 < np.sum(labels == k) < len(labels) for k in classes]
    auroc = np.array([roc_auc_score(labels == k, probabilities[:, k]) if defined[k] else np.nan for k in classes])
    return {
        "accuracy": np.asarray(accuracy_score(labels, predicted)),
        "balanced_accuracy": _mean_defined(fit[1]),
        "macro_f1": _mean_defined(fit[2]),
        "auroc": _mean_defined(auroc),
        "class_sensitivity": fit[1],
        "class_specificity": np.array(rest),
        "class_auroc": auroc,
        "confusion": confusion_matrix(labels, predicted, labels=list(classes)),
    }


def _replicates(test: _Test, resamples: int, seed: int, wanted=None) -> dict[str, np.ndarray]:
    """Each metric of every network in every resample: (B, R), class_ metrics (B, R, K).

    Exact, and cheap: what a resample changes is how often a group counts, so that a confusion matrix is a product of
    these counts with cells (R K K, G) found once, and an AUROC a sum over scores sorted once.
    """
    cells, chunks = _confusion_cells(test), []
    rankings = _rankings(test) if wanted is None or "auroc" in wanted else []
    rows = max(1, CHUNK_BYTES // (8 * max(test.group_count, cells.shape[0])))
    for counts in _group_counts(test.group_count, resamples, seed, rows):
        columns = np.ascontiguousarray(counts.T, dtype=float)  # (G, b)
        values = _from_confusions((cells @ columns).T.reshape(-1, test.networks, test.classes, test.classes))
        if rankings:
            aurocs = np.stack([r.auroc(columns) for r in rankings], axis=1).reshape(-1, test.networks, test.classes)
            values |= {"class_auroc": aurocs, "auroc": _mean_defined(aurocs)}
        chunks.append(values)
    return {name: np.concatenate([values[name] for values in chunks]) for name in wanted or chunks[0]}


def _group_counts(groups: int, resamples: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    """(at most rows, G) at a time: how often each group is drawn. The counts do not depend on `rows`."""
    draw = numpy_generator(seed, "drawn groups")
    for start in range(0, resamples, rows):
        yield _counted(draw.integers(groups, size=(min(rows, resamples - start), groups)), groups)


def _counted(draws: np.ndarray, size: int) -> np.ndarray:
    """(B, size) how often 0, 1, ..., size - 1 occur in each row of draws."""
    rows = np.arange(len(draws))[:, None] * size
    return np.bincount((draws + rows).ravel(), minlength=len(draws) * size).reshape(len(draws), size)


def _confusion_cells(test: _Test) -> csr_array:
    """(R K K, G) how many images of each group lie in each cell of each network's confusion matrix."""
    network = np.arange(test.networks)[:, None] * test.classes**2
    rows = network + test.labels * test.classes + test.probabilities.argmax(2)  # (R, N)
    columns = np.broadcast_to(test.groups, rows.shape)
    shape = (test.networks * test.classes**2, test.group_count)
    return csr_array((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=shape)


def _from_confusions(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """(..., K, K) -> metrics (...) and class_ metrics (..., K)."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    true, predicted = confusions.sum(-1), confusions.sum(-2)
    total = true.sum(-1, keepdims=True)
    sensitivity = _ratio(right, true)
    return {
        "accuracy": right.sum(-1) / total[..., 0],
        "balanced_accuracy": _mean_defined(sensitivity),
        "macro_f1": _mean_defined(_ratio(2 * right, true + predicted)),
        "class_sensitivity": sensitivity,
        "class_specificity": _ratio(total - true - predicted + right, total - true),
    }


@dataclass(frozen=True)
class _Ranking:
    """One class's scores, sorted once, to find its AUROC under any weights.

    The rows are the different scores of the class's own images, rising. `own` (U, G) adds up the weights of its images
    with that score. `others` (U, G) adds up those of other images between the score before and this one, an image with
    exactly such a score counting half in its row and half in the next: its running sum is what each score beats.
    """

    own: csr_array
    others: csr_array

    @staticmethod
    def of(scores: np.ndarray, is_own: np.ndarray, groups: np.ndarray) -> _Ranking:
        """scores (N,), is_own (N,) bool, groups (N,) numbered from 0."""
        levels, own = np.unique(scores[is_own], return_inverse=True)
        lowest = np.searchsorted(levels, scores[~is_own], side="left")  # the first level that beats it or ties with it
        beaten = np.searchsorted(levels, scores[~is_own], side="right")  # the first level that beats it
        shape = (len(levels) + 1, groups.max() + 1)  # the last row takes those that no level beats
        halves = np.full(2 * len(lowest), 0.5)
        rows, columns = np.concatenate([lowest, beaten]), np.tile(groups[~is_own], 2)
        others = csr_array((halves, (rows, columns)), shape=shape)
        return _Ranking(csr_array((np.ones(len(own)), (own, groups[is_own])), shape=shape), others)

    def auroc(self, columns: np.ndarray) -> np.ndarray:
        """(B,) for weights (G, B), contiguous; NaN where the class or all others weigh nothing."""
        own, others = self.own @ columns, self.others @ columns  # (U + 1, B)
        beats = np.cumsum(others, axis=0)
        return _ratio(np.einsum("ub,ub->b", own, beats), own.sum(0) * others.sum(0))


def _rankings(test: _Test) -> list[_Ranking]:
    """R K rankings, classes fastest."""
    masks = [test.labels == k for k in range(test.classes)]
    return [_Ranking.of(p[:, k], mask, test.groups) for p in test.probabilities for k, mask in enumerate(masks)]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    return _ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


@dataclass(frozen=True)
class _Estimate:
    """One metric of the U independent units, networks or sets, also in B resamples of test groups."""

    points: np.ndarray  # (U,)
    draws: np.ndarray  # (B, U)
    weights: np.ndarray  # (U,) of a unit in the mean over networks

    @staticmethod
    def of(test: _Test, points: np.ndarray, draws: np.ndarray) -> _Estimate:
        """points (R,), draws (B, R)."""
        weights = (test.shares > 0).sum(0) / test.networks
        return _Estimate(points @ test.shares, draws @ test.shares, weights)

    @property
    def mean(self) -> float:
        return float(self.points @ self.weights)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Variance of the units' weighted mean by their spread: values (..., U) -> (...)."""
        units = len(self.weights)
        apart = values - (values @ self.weights)[..., None]
        return units / max(units - 1, 1) * np.square(apart * self.weights).sum(-1)


@dataclass(frozen=True)
class _Error:
    """The two variances of an estimate, and their degrees of freedom."""

    networks: float
    groups: float
    freedom_networks: float
    freedom_groups: int

    def margin(self, level: float) -> float:
        """Half the width of the interval that misses the truth with probability `level`."""
        of_networks, of_groups = stdtrit((self.freedom_networks, self.freedom_groups), level / 2)
        return float(np.sqrt(of_networks**2 * self.networks + of_groups**2 * self.groups))


def _estimates(
    test: _Test, wanted: Sequence[str], resamples: int, seed: int
) -> dict[str, _Estimate]:
    points, draws = _points_of(test, wanted), _replicates(test, resamples, seed, list(wanted))
    return {name: _Estimate.of(test, points[name], draws[name]) for name in wanted}


def _error(sides: Sequence[_Estimate], groups: int) -> _Error | None:
    """Of one estimate, or of the difference of two; None where it is undefined.

    In every resample the units differ also because the drawn images suit them unequally. The bootstrap
    counts that among the test groups and the spread among the networks, so that it is taken off
    once.    """
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
    return _Error(networks, np.var(means[0] - sum(means[1:]), ddof=1), freedom_networks, groups - 1)


def _summary(test: _Test, points: np.ndarray, draws: np.ndarray) -> dict:
    """(R,) point values and (B, R) resampled ones -> {mean, std, low, high}."""
    estimate = _Estimate.of(test, points, draws)
    low, high = _interval(points.mean(), _error([estimate], test.group_count), (0, 1))
    std = points.std(ddof=1) if len(points) > 1 else points[0] * 0.0
    return {"mean": _plain(points.mean()), "std": _plain(std), "low": low, "high": high}


def _interval(
    value: float, error: _Error | None, bounds: tuple[int, int]
) -> tuple[float | None, float | None]:
    if error is None:
        return None, None
    margin = error.margin(1 - LEVEL)
    return tuple(np.clip([value - margin, value + margin], *bounds).tolist())


def _two_sided(value: float, error: _Error | None) -> float | None:
    """The level at which the interval would end at zero; never below SMALLEST_P."""
    if error is None:
        return None
    if abs(value) < ROUNDING:
        return 1.0
    beyond = lambda logarithm: error.margin(np.exp(logarithm)) - abs(value)
    lowest = np.log(SMALLEST_P)
    return SMALLEST_P if beyond(lowest) <= 0 else float(np.exp(brentq(beyond, lowest, 0.0)))


def _plain(value) -> float | None:
    """A float that JSON can hold: NaN becomes None."""
    return None if np.isnan(value) else float(value)
