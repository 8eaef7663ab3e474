"""Train, validation and test: by group, by class, from a seed, on labels and groups alone."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medddist.base.errors import InputError
from medddist.base.seeds import numpy_generator
from medddist.data.collection import PART_NAMES, TEST, TRAIN, VALIDATION


def united(*columns: np.ndarray) -> np.ndarray:
    """Images that share a value in any column (patient, pixel hash), directly or through others,
    get one number.

    columns (N,) each, of any integers -> (N,) int64, numbered from 0 by first appearance.
    """
    count = len(columns[0])
    owners = np.concatenate(
        [(k + 1) * count + numbered(column) for k, column in enumerate(columns)]
    )
    size = (len(columns) + 1) * count
    edges = coo_array(
        (np.ones(len(owners), bool), (np.tile(np.arange(count), len(columns)), owners)),
        shape=(size, size),
    )
    return numbered(connected_components(edges, directed=False)[1][:count])


def numbered(values: np.ndarray) -> np.ndarray:
    """(N,) of anything -> (N,) int64, equal where the values are, numbered from 0 by first
    appearance.
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def contradictory(labels: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """(N,) bool: the same pixels are there with another label."""
    same = numbered(hashes)
    lowest = np.full(same.max(initial=-1) + 1, np.iinfo(np.int64).max)
    highest = np.full_like(lowest, -1)
    np.minimum.at(lowest, same, labels)
    np.maximum.at(highest, same, labels)
    return (lowest != highest)[same]


def kept_in_one_part(parts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N,) bool: False for images to drop, where a given split has a group in two parts.

    Test is kept as it was given; what shares a group with it leaves validation and training, and
    what shares a group with validation leaves training.
    """
    last = np.full(groups.max(initial=-1) + 1, -1)
    np.maximum.at(last, groups, parts)
    return parts == last[groups]


def completed(
    labels: np.ndarray,
    groups: np.ndarray,
    parts: np.ndarray,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> np.ndarray:
    """(N,) int8: the given parts, with test and validation dealt out of training where they are
    empty.

    Test takes `test_fraction` of each class, rounded down, then validation `validation_fraction` of
    what remains.
    """
    parts = parts.astype(np.int8, copy=True)
    for part, fraction in ((TEST, test_fraction), (VALIDATION, validation_fraction)):
        if not (parts == part).any():
            training = np.flatnonzero(parts == TRAIN)
            rng = numpy_generator(seed, "split", PART_NAMES[part])
            parts[training[dealt(labels[training], groups[training], fraction, rng)]] = part
    return parts


def counts_wanted(labels: np.ndarray, fraction: float) -> np.ndarray:
    """(K,) `fraction` of each class rounded down, at least one of a class that is there at all."""
    totals = np.bincount(labels)
    # The product is rounded first: 0.29 * 100 is 28.999999999999996 in binary.
    return np.array([max(math.floor(round(fraction * n, 9)), min(n, 1)) for n in totals.tolist()])


def dealt(
    labels: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """(N,) bool: about `fraction` of each class, no group divided.

    Groups of several images are dealt whole first, each with chance `fraction`; single images then
    fill up to `counts_wanted` exactly. Where they do not suffice, groups go on being added while
    that brings the counts nearer.
    """
    groups = numbered(groups)
    left = counts_wanted(labels, fraction)
    table = np.zeros((groups.max(initial=-1) + 1, len(left)), np.int64)  # (groups, classes) images
    np.add.at(table, (groups, labels), 1)
    order = rng.permutation(len(table))
    several, single = order[table[order].sum(1) > 1], order[table[order].sum(1) == 1]
    chosen = np.zeros(len(table), bool)
    for candidates, accepts in (
        (several[rng.random(len(several)) < fraction], _fits),
        (single, _fits),
        (several, _fits),
        (several, _nearer),
    ):
        _take(chosen, left, table, candidates, accepts)
    _at_least_one(chosen, table, several)
    return chosen[groups]


def _take(chosen, left, table, candidates, accepts) -> None:
    for group in candidates:
        if not chosen[group] and accepts(table[group], left):
            chosen[group] = True
            left -= table[group]


def _fits(images, left) -> bool:
    return (images <= left).all()


def _nearer(images, left) -> bool:
    return np.abs(left - images).sum() < np.abs(left).sum()


def _at_least_one(chosen, table, several) -> None:
    """A class whose groups are all larger than its count gets its smallest group, if another one
    remains.
    """
    for label in np.flatnonzero(table.any(0) & ~table[chosen].any(0)):
        candidates = [group for group in several if table[group, label]]
        if len(candidates) > 1:
            chosen[min(candidates, key=lambda group: table[group].sum())] = True


def stratified_subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(min(count, N),) sorted positions, classes in their natural proportions, at least one of
    each.

    Smaller subsets of the same seed are contained in larger ones, up to the rounding of the
    proportions.
    """
    totals = np.bincount(labels)
    if count >= len(labels):
        return np.arange(len(labels))
    exact = totals * count / len(labels)
    shares = np.maximum(np.floor(exact), totals > 0).astype(int)
    for label in np.argsort(shares - exact, kind="stable")[: max(count - shares.sum(), 0)]:
        shares[label] += 1
    while shares.sum() > count and shares.max() > 1:
        shares[shares.argmax()] -= 1
    return np.sort(
        np.concatenate([_first_of(labels, k, n, seed) for k, n in enumerate(shares.tolist())])
    )


def _first_of(labels: np.ndarray, label: int, count: int, seed: int) -> np.ndarray:
    return numpy_generator(seed, "subset", label).permutation(np.flatnonzero(labels == label))[
        :count
    ]


def require_images(
    labels: np.ndarray, class_names: tuple[str, ...], minimum: int, where: str
) -> None:
    """Raise `InputError` for fewer than two classes, or a class with fewer than `minimum` images."""
    if len(class_names) < 2:
        raise InputError(where, f"has {len(class_names)} class", "two or more are needed")
    for name, count in zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist()):
        if count < minimum:
            raise InputError(
                where,
                f"class {name!r} has {count} {'image' if count == 1 else 'images'}, {minimum} "
                "are needed",
                "add images or leave the class out",
            )


def require_every_part(
    labels: np.ndarray, groups: np.ndarray, parts: np.ndarray, class_names, where: str
) -> None:
    """Raise `InputError` for a class that is missing in a part."""
    for label, name in enumerate(class_names):
        mine = labels == label
        for part in (TRAIN, VALIDATION, TEST):
            if not (mine & (parts == part)).any():
                raise InputError(
                    where,
                    f"class {name!r} has {mine.sum()} images in "
                    f"{len(np.unique(groups[mine]))} groups and none of them is in the "
                    f"{PART_NAMES[part]} part",
                    "each class needs images of three groups, or of every part of a given split",
                )
