"""Train, validation and test: by group, by class, from a seed, on labels and groups alone.

`hashed` is the other way, in which no image has a say in another's part.
"""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medddist.base.errors import require
from medddist.base.seeds import numpy_generator, seed_of
from medddist.data.collection import PART_NAMES, TEST, TRAIN, VALIDATION

Array = np.ndarray


def united(*columns: Array) -> Array:
    """Give one number to images that share a value in any column, directly or through others.

    columns: (N,) each, of any integers, such as patients and pixel hashes
    Returns (N,) int64, numbered from 0 by first appearance.
    """
    count = len(columns[0])
    images = np.tile(np.arange(count), len(columns))
    owners = [(k + 1) * count + numbered(column) for k, column in enumerate(columns)]
    size = (len(columns) + 1) * count
    places = (images, np.concatenate(owners))
    edges = coo_array((np.ones(len(images), bool), places), shape=(size, size))
    return numbered(connected_components(edges, directed=False)[1][:count])


def numbered(values: Array) -> Array:
    """Number (N,) values of any type from 0 by first appearance: (N,) int64."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def named(values: Array) -> Array:
    """Turn each of (N,) names or numbers into 64 bits of its own: (N,) uint64.

    They do not depend on the other values, as those of `numbered` do.
    """
    return np.array([_bits(f"{v}".encode("utf-8", "surrogatepass")) for v in values], np.uint64)


def _bits(content: bytes, key: bytes = b"") -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little")


def contradictory(labels: Array, hashes: Array) -> Array:
    """Find images whose pixels are there with another label: (N,) bool."""
    same = numbered(hashes)
    pairs = np.unique(np.stack([same, labels], 1), axis=0)
    return (np.bincount(pairs[:, 0]) > 1)[same]


def kept_in_one_part(parts: Array, groups: Array) -> Array:
    """Find the images to keep where a given split has a group in two parts: (N,) bool.

    Test is kept as it was given; what shares a group with it leaves validation and training, and
    what shares a group with validation leaves training.
    """
    last = np.full(groups.max(initial=-1) + 1, -1)
    np.maximum.at(last, groups, parts)
    return parts == last[groups]


def completed(
    labels: Array, groups: Array, parts: Array, test: float, validation: float, seed: int
) -> Array:
    """Take test and validation from training where the given parts have none: (N,) int8.

    Args:
        labels: (N,) integers from 0.
        groups: (N,) integers; no group is divided.
        parts: (N,) as given.
        test: the fraction of each class that is taken, rounded down.
        validation: the same, of what remains.
        seed: equal seeds and labels give equal parts.
    """
    parts = parts.astype(np.int8, copy=True)
    for part, fraction in ((TEST, test), (VALIDATION, validation)):
        if not (parts == part).any():
            training = np.flatnonzero(parts == TRAIN)
            rng = numpy_generator(seed, "split", PART_NAMES[part])
            parts[training[dealt(labels[training], groups[training], fraction, rng)]] = part
    return parts


def hashed(units: Array, parts: Array, test: float, validation: float, seed: int) -> Array:
    """Let each training image decide alone whether it is one for test or validation: (N,) int8.

    Args:
        units: (N,) uint64; images of one unit decide alike.
        parts: (N,) as given.
        test: the probability of the test part; 0 where the source gives it.
        validation: the same, of what remains.
        seed: the key of the hash that decides.
    """
    key = seed_of("split", "hashed", seed).to_bytes(8, "little")
    bits = [_bits(unit.to_bytes(8, "little"), key) for unit in units.tolist()]
    at = np.array(bits, np.uint64) / 2.0**64
    decided = np.select([at < test, at < test + (1 - test) * validation], [TEST, VALIDATION], TRAIN)
    return np.where(parts == TRAIN, decided, parts).astype(np.int8)


def counts_wanted(labels: Array, fraction: float) -> Array:
    """Return `fraction` of each class rounded down, at least one of each that has images: (K,)."""
    totals = np.bincount(labels)
    # The product is rounded first: 0.29 * 100 is 28.999999999999996 in binary.
    return np.array([max(math.floor(round(fraction * n, 9)), min(n, 1)) for n in totals.tolist()])


def dealt(labels: Array, groups: Array, fraction: float, rng: np.random.Generator) -> Array:
    """Choose about `fraction` of each class at random without dividing a group: (N,) bool.

    Groups of several images come first, each with probability `fraction`; single images then fill
    up to `counts_wanted` exactly. Where they do not suffice, groups are added while that brings the
    counts nearer.

    Args:
        labels: (N,) integers from 0.
        groups: (N,) integers.
        fraction: of each class, rounded down.
        rng: the source of randomness.
    """
    groups = numbered(groups)
    left = counts_wanted(labels, fraction)
    table = np.zeros((groups.max(initial=-1) + 1, len(left)), np.int64)  # (groups, classes) images
    np.add.at(table, (groups, labels), 1)
    order = rng.permutation(len(table))
    several, single = order[table[order].sum(1) > 1], order[table[order].sum(1) == 1]
    chosen = np.zeros(len(table), bool)
    fits = lambda images: (images <= left).all()
    nearer = lambda images: np.abs(left - images).sum() < np.abs(left).sum()
    some = several[rng.random(len(several)) < fraction]
    for candidates, accepts in ((some, fits), (single, fits), (several, fits), (several, nearer)):
        for group in candidates:
            if not chosen[group] and accepts(table[group]):
                chosen[group] = True
                left -= table[group]
    _at_least_one(chosen, table, several)
    return chosen[groups]


def _at_least_one(chosen: Array, table: Array, several: Array) -> None:
    """Choose a group of each class that has none yet: its smallest, if another one remains."""
    for label in np.flatnonzero(table.any(0) & ~table[chosen].any(0)):
        candidates = [group for group in several if table[group, label]]
        if len(candidates) > 1:
            chosen[min(candidates, key=lambda group: table[group].sum())] = True


def stratified_subset(labels: Array, count: int, seed: int) -> Array:
    """Choose `count` images, or all, in the classes' proportions and at least one of each.

    Smaller subsets of the same seed are contained in larger ones, up to the rounding of the
    proportions. Returns sorted positions.
    """
    totals = np.bincount(labels)
    if count >= len(labels):
        return np.arange(len(labels))
    exact = totals * count / len(labels)
    shares = np.maximum(np.floor(exact), totals > 0).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: max(count - shares.sum(), 0)]] += 1
    while shares.sum() > count and shares.max() > 1:
        shares[shares.argmax()] -= 1
    chosen = []
    for label, share in enumerate(shares.tolist()):
        rng = numpy_generator(seed, "subset", label)
        chosen.append(rng.permutation(np.flatnonzero(labels == label))[:share])
    return np.sort(np.concatenate(chosen))


def require_images(labels: Array, names: tuple[str, ...], minimum: int, where: str) -> None:
    """Refuse fewer than two classes, or a class with fewer than `minimum` images.

    Args:
        labels: (N,) integers from 0.
        names: of the classes.
        minimum: images per class.
        where: the subject of an error.

    Raises:
        InputError: there are too few.
    """
    require(len(names) > 1, where, f"has {len(names)} class", "two or more are needed")
    for name, count in zip(names, np.bincount(labels, minlength=len(names)).tolist()):
        images = f"{count} {'image' if count == 1 else 'images'}"
        reason = f"class {name!r} has {images}, {minimum} are needed"
        require(count >= minimum, where, reason, "add images or leave the class out")


def require_every_part(
    labels: Array, groups: Array, parts: Array, names, where: str, enough: str = "three"
) -> None:
    """Refuse a class that is missing in a part.

    Args:
        labels: (N,) integers from 0.
        groups: (N,) integers.
        parts: (N,) TRAIN, VALIDATION or TEST.
        names: of the classes.
        where: the subject of an error.
        enough: how many groups of a class bring it into all parts.

    Raises:
        InputError: a class is missing.
    """
    remedy = f"each class needs images of {enough} groups, or of every part of a given split"
    for (label, name), part in itertools.product(enumerate(names), range(len(PART_NAMES))):
        mine = labels == label
        count = f"{mine.sum()} images in {len(np.unique(groups[mine]))} groups"
        missing = f"none of them is in the {PART_NAMES[part]} part"
        present = (parts[mine] == part).any()
        require(present, where, f"class {name!r} has {count} and {missing}", remedy)
