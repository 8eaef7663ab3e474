"""Metrics of networks on a test part, and in bootstrap resamples of its groups.

    confusion_b = sum over groups g of c_bg confusion_g
    AUROC_b     = (sum over own i, others j of c_bi c_bj ([s_i > s_j] + [s_i = s_j] / 2)) / (W V)

Where a class is missing, in the test part or in one resample, its sensitivity and AUROC are
undefined. Balanced accuracy and macro AUROC average the classes for which they are defined. Macro
F1 averages the classes among labels or predictions (one that is only predicted counts 0).

Notation: c_bg how often resample b draws group g, c_bi that of image i's group, s scores of a
class, W and V the sums of c_b over its own and over other images. R networks, N images, K classes,
G groups, B resamples, U independent units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from medddist.base.errors import InputError
from medddist.base.seeds import numpy_generator

CHUNK_BYTES = 2_000_000  # of one array of resampled weights, which fits a processor's cache


@dataclass(frozen=True)
class Answers:
    """Probabilities of R networks on a test part; groups are numbered 0 to group_count - 1.

    U units are independent: the networks, or the sets that several of them were trained on.
    """

    probabilities: np.ndarray  # (R, N, K)
    labels: np.ndarray  # (N,)
    groups: np.ndarray  # (N,)
    group_count: int
    shares: np.ndarray  # (R, U) a network's share in its unit, 0 in the others

    @property
    def units(self) -> int:
        """U."""
        return self.shares.shape[1]

    @property
    def networks(self) -> int:
        """R."""
        return self.probabilities.shape[0]

    @property
    def classes(self) -> int:
        """K."""
        return self.probabilities.shape[2]


def checked_answers(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: int | None,
    resamples: int,
    where: str = "probabilities",
    sets: np.ndarray | None = None,
) -> Answers:
    """Check the arguments of `metrics.score`, and number groups and sets.

    Args:
        probabilities: (R, N, K).
        labels: (N,).
        groups: (N,).
        classes: K, or None for any.
        resamples: of the bootstrap.
        where: what errors call the probabilities.
        sets: (R,) or None.

    Raises:
        InputError: for whatever does not fit.
    """
    p, labels, groups = np.asarray(probabilities), np.asarray(labels), np.asarray(groups)
    if p.ndim != 3 or 0 in p.shape:
        wanted = "(networks, images, classes), each at least 1"
        raise InputError(where, f"has shape {p.shape}, should be {wanted}", "correct it")
    classes = p.shape[2] if classes is None else classes
    if p.shape[2] != classes or classes < 2:
        reason = f"has {p.shape[2]} columns for {classes} classes"
        raise InputError(where, reason, "give one for each of 2 or more classes")
    if not np.issubdtype(p.dtype, np.floating) or not np.isfinite(p).all():
        reason = "has NaN, infinite or non-float values"
        raise InputError(where, reason, "look for a training run that diverged")
    for name, values in (("labels", labels), ("groups", groups)):
        if values.shape != p.shape[1:2]:
            reason = f"has shape {values.shape}, should be ({p.shape[1]},)"
            raise InputError(name, reason, "give one for each image")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        reason = f"should be integers from 0 to {classes - 1}"
        raise InputError("labels", reason, "give positions in the class names")
    names, positions = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        reason = "all test images are in one group, which gives no interval"
        raise InputError("groups", reason, "number independent images")
    if not isinstance(resamples, int) or resamples < 2:
        raise InputError("resamples", f"is {resamples!r}", "give an integer of 2 or more")
    return Answers(p, labels, positions, len(names), _shares(sets, len(p)))


def _shares(sets: np.ndarray | None, networks: int) -> np.ndarray:
    """(R, U) of `Answers`: units are the sets where there are several, else the networks."""
    units = np.zeros(networks) if sets is None else np.asarray(sets)
    if units.shape != (networks,):
        reason = f"has shape {units.shape}, should be ({networks},)"
        raise InputError("sets", reason, "give the training set of each network")
    member = np.unique(units, return_inverse=True)[1]
    belongs = np.eye(networks) if member.max() == 0 else np.eye(member.max() + 1)[member]
    return belongs / belongs.sum(0)


def all_points(test: Answers) -> dict[str, np.ndarray]:
    """Compute each metric by scikit-learn: (R,), class_ metrics (R, K), confusion (R, K, K)."""
    each = [_points_of_network(p, test.labels) for p in test.probabilities]
    return {name: np.stack([values[name] for values in each]) for name in each[0]}


def wanted_points(test: Answers, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute the wanted metrics (R,); without an AUROC, which is slow, from confusions alone."""
    if "auroc" in wanted:
        return all_points(test)
    confusions = _confusion_cells(test).sum(1).reshape(test.networks, test.classes, test.classes)
    return _from_confusions(confusions)


def _points_of_network(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the metrics of one network from probabilities (N, K) and labels (N,)."""
    predicted, classes = probabilities.argmax(1), range(probabilities.shape[1])
    # zero_division: what is undefined is NaN, without a warning, and left out of the means
    scores = precision_recall_fscore_support(
        labels, predicted, labels=list(classes), zero_division=np.nan
    )
    sensitivity, f1 = scores[1], scores[2]
    rest = [recall_score(labels != k, predicted != k, zero_division=np.nan) for k in classes]
    defined = [0 < np.sum(labels == k) < len(labels) for k in classes]
    auroc = np.array(
        [roc_auc_score(labels == k, probabilities[:, k]) if defined[k] else np.nan for k in classes]
    )
    return {
        "accuracy": np.asarray(accuracy_score(labels, predicted)),
        "balanced_accuracy": _mean_defined(sensitivity),
        "macro_f1": _mean_defined(f1),
        "auroc": _mean_defined(auroc),
        "class_sensitivity": sensitivity,
        "class_specificity": np.array(rest),
        "class_auroc": auroc,
        "confusion": confusion_matrix(labels, predicted, labels=list(classes)),
    }


def replicates(test: Answers, resamples: int, seed: int, wanted=None) -> dict[str, np.ndarray]:
    """Compute each metric of every network in every resample: (B, R), class_ metrics (B, R, K).

    A resample only changes how often a group counts. So confusion matrices are products of these
    counts with cells (R K K, G) counted once, and AUROCs are sums over scores sorted once.

    Args:
        test: the networks' answers.
        resamples: B.
        seed: of the draws; networks that are compared share it.
        wanted: names of metrics; None computes all.
    """
    cells, chunks = _confusion_cells(test), []
    rankings = _rankings(test) if wanted is None or "auroc" in wanted else []
    rows = max(1, CHUNK_BYTES // (8 * max(test.group_count, cells.shape[0])))
    shape = -1, test.networks, test.classes
    for counts in group_counts(test.group_count, resamples, seed, rows):
        columns = np.ascontiguousarray(counts.T, dtype=float)  # (G, b)
        values = _from_confusions((cells @ columns).T.reshape(*shape, test.classes))
        if rankings:
            aurocs = np.stack([r.auroc(columns) for r in rankings], axis=1).reshape(shape)
            values |= {"class_auroc": aurocs, "auroc": _mean_defined(aurocs)}
        chunks.append(values)
    names = wanted or chunks[0]
    return {name: np.concatenate([values[name] for values in chunks]) for name in names}


def group_counts(groups: int, resamples: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    """Yield how often each group is drawn, (at most `rows`, G) at a time.

    The draws do not depend on `rows`.

    Args:
        groups: G.
        resamples: rows in all.
        seed: of the draws.
        rows: at a time.
    """
    draw = numpy_generator(seed, "drawn groups")
    for start in range(0, resamples, rows):
        yield _counted(draw.integers(groups, size=(min(rows, resamples - start), groups)), groups)


def _counted(draws: np.ndarray, size: int) -> np.ndarray:
    """Count how often 0, 1, ..., size - 1 occur in each row of draws: (B, size)."""
    rows = np.arange(len(draws))[:, None] * size
    counts = np.bincount((draws + rows).ravel(), minlength=len(draws) * size)
    return counts.reshape(len(draws), size)


def _confusion_cells(test: Answers) -> csr_array:
    """Count each group's images in the cells of each network's confusion matrix: (R K K, G)."""
    network = np.arange(test.networks)[:, None] * test.classes**2
    rows = network + test.labels * test.classes + test.probabilities.argmax(2)  # (R, N)
    columns = np.broadcast_to(test.groups, rows.shape)
    shape = (test.networks * test.classes**2, test.group_count)
    return csr_array((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=shape)


def _from_confusions(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Compute metrics (...) and class_ metrics (..., K) from matrices (..., K, K)."""
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
class Ranking:
    """The scores of one class, sorted once, so that its AUROC is cheap under any weights.

    Rows are the L different scores of the class's own images, ascending, and one more. `own` sums
    the weights of its images with that score. `others` sums those of other images between the
    previous score and this one; an image with exactly such a score counts half in its row and half
    in the next. The running sum of `others` is the weight that each score exceeds.
    """

    own: csr_array  # (L + 1, G)
    others: csr_array  # (L + 1, G)

    @staticmethod
    def of(scores: np.ndarray, is_own: np.ndarray, groups: np.ndarray) -> Ranking:
        """Sort scores (N,) given is_own (N,) bool and groups (N,) numbered from 0."""
        levels, own = np.unique(scores[is_own], return_inverse=True)
        # for each of the others, the first level that is not below it, and the first above it
        reached = np.searchsorted(levels, scores[~is_own], side="left")
        exceeded = np.searchsorted(levels, scores[~is_own], side="right")
        shape = (len(levels) + 1, groups.max() + 1)  # the last row holds those that none exceeds
        halves = np.full(2 * len(reached), 0.5)
        rows, columns = np.concatenate([reached, exceeded]), np.tile(groups[~is_own], 2)
        others = csr_array((halves, (rows, columns)), shape=shape)
        return Ranking(csr_array((np.ones(len(own)), (own, groups[is_own])), shape=shape), others)

    def auroc(self, columns: np.ndarray) -> np.ndarray:
        """Compute (B,) for contiguous weights (G, B); NaN where one side has no weight."""
        own, others = self.own @ columns, self.others @ columns  # (L + 1, B)
        below = np.cumsum(others, axis=0)
        return _ratio(np.einsum("lb,lb->b", own, below), own.sum(0) * others.sum(0))


def _rankings(test: Answers) -> list[Ranking]:
    """Sort the scores of each network and class: R K rankings, classes fastest."""
    masks, groups = [test.labels == k for k in range(test.classes)], test.groups
    per_network = ((p[:, k], mask) for p in test.probabilities for k, mask in enumerate(masks))
    return [Ranking.of(scores, mask, groups) for scores, mask in per_network]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide; NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Average over the last axis what is not NaN; NaN where nothing is."""
    return _ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))
