from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medddist.base.errors import InputError
from medddist.base.seeds import numpy_generator
from medddist.data import splits
from medddist.data.collection import TEST, TRAIN, VALIDATION


@st.composite
def labelled_groups(draw, mixed: bool = False):
    """labels, groups: up to 40 groups of 1 to 4 images, each of one class unless mixed."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    of_group = draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.repeat(of_group, sizes)
    if mixed:
        labels = np.array(
            draw(st.lists(st.integers(0, 2), min_size=len(groups), max_size=len(groups)))
        )
    order = np.array(draw(st.permutations(range(len(groups)))))
    return labels[order], groups[order] * 7 - 3


@given(labelled_groups(mixed=True), st.integers(0, 9), st.floats(0.05, 0.6))
def test_no_group_is_in_two_parts_and_nothing_is_lost(data, seed, fraction):
    labels, groups = data
    parts = splits.completed(
        labels, groups, np.zeros(len(labels), np.int8), fraction, fraction, seed
    )
    assert parts.shape == labels.shape and set(parts) <= {TRAIN, VALIDATION, TEST}
    for group in set(groups):
        assert len(set(parts[groups == group])) == 1


@given(labelled_groups(), st.integers(0, 9), st.floats(0.05, 0.6))
def test_counts_are_met_within_a_group_size(data, seed, fraction):
    labels, groups = data
    chosen = splits.dealt(labels, groups, fraction, numpy_generator(seed))
    wanted = splits.counts_wanted(labels, fraction)
    for label in set(labels):
        mine = labels == label
        largest = max(np.sum(mine & (groups == group)) for group in set(groups[mine]))
        assert (
            abs(chosen[mine].sum() - wanted[label]) < largest
            or largest == 1
            and chosen[mine].sum() == wanted[label]
        )


@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=200), st.integers(0, 9), st.floats(0.05, 0.95)
)
def test_single_images_meet_the_counts_exactly(labels, seed, fraction):
    labels = np.array(labels)
    chosen = splits.dealt(labels, np.arange(len(labels)), fraction, numpy_generator(seed))
    assert (
        np.bincount(labels[chosen], minlength=labels.max() + 1)
        == splits.counts_wanted(labels, fraction)
    ).all()


def test_rounding_down_is_decimal():
    assert splits.counts_wanted(np.zeros(100, int), 0.29).tolist() == [
        29
    ]  # 0.29 * 100 < 29 in binary
    assert splits.counts_wanted(np.zeros(9, int), 0.2).tolist() == [1]


def test_the_split_depends_on_the_seed_alone():
    labels, groups, none = np.arange(200) % 4, np.arange(200), np.zeros(200, np.int8)
    first, again, other = (
        splits.completed(labels, groups, none, 0.2, 0.1, seed) for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()


def test_groups_of_several_are_not_all_dealt_to_one_side():
    groups = np.concatenate([np.repeat(np.arange(100), 3), np.arange(100, 800)])
    chosen = splits.dealt(np.zeros(1000, int), groups, 0.2, numpy_generator(0))
    assert (
        chosen.sum() == 200 and 10 <= chosen[:300].sum() / 3 <= 32
    )  # of 100 groups; 20 expected, standard deviation 4


@given(labelled_groups(mixed=True), st.lists(st.integers(0, 5), min_size=160, max_size=160))
@settings(max_examples=50)
def test_united_is_the_transitive_closure(data, hashes):
    _, groups = data
    hashes = np.array(hashes[: len(groups)])
    found, expected = splits.united(groups, hashes), _closure(groups, hashes)
    assert ((found[:, None] == found) == (expected[:, None] == expected)).all()
    assert found.max() + 1 == len(set(found.tolist())) and found[0] == 0


def _closure(groups: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The plain way: give every image the lowest number among those it shares something with, until
    nothing changes.
    """
    found = np.arange(len(groups))
    while True:
        lower = [min(found[(groups == g) | (hashes == h)]) for g, h in zip(groups, hashes)]
        if (found == lower).all():
            return found
        found = np.array(lower)


def test_contradictory_labels_are_found():
    found = splits.contradictory(np.array([0, 1, 0, 0, 2]), np.array([5, 5, 6, 6, 7]))
    assert found.tolist() == [True, True, False, False, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=40))
def test_a_leaking_given_split_keeps_the_later_part(rows):
    parts, groups = np.array(rows).T
    groups = splits.numbered(groups)
    kept = splits.kept_in_one_part(parts, groups)
    assert kept[parts == TEST].all()
    for part, group in zip(parts[~kept], groups[~kept]):
        assert (parts[groups == group] > part).any()
    for group in set(groups):
        assert len(set(parts[kept & (groups == group)])) == 1


def test_given_parts_stay_and_only_what_is_missing_is_dealt():
    labels, groups = np.arange(100) % 2, np.arange(100)
    given_parts = np.where(np.arange(100) < 30, TEST, TRAIN).astype(np.int8)
    parts = splits.completed(labels, groups, given_parts, 0.2, 0.1, 0)
    assert (parts[:30] == TEST).all() and (parts[30:] != TEST).all()
    assert [(parts == p).sum() for p in (TRAIN, VALIDATION, TEST)] == [
        64,
        6,
        30,
    ]  # 3 of each class's 35


@given(st.lists(st.integers(0, 3), min_size=4, max_size=100), st.integers(1, 120))
def test_a_subset_has_all_classes_in_proportion(labels, count):
    labels = np.array(labels)
    rows = splits.stratified_subset(labels, count, seed=3)
    present = len(set(labels.tolist()))
    assert len(rows) == len(set(rows.tolist())) == min(max(count, present), len(labels))
    assert set(labels[rows]) == set(labels)
    assert (rows == np.sort(rows)).all()
    if count >= len(labels) or present == 1:
        return
    exact = np.bincount(labels) * count / len(labels)
    assert (np.bincount(labels[rows], minlength=len(exact)) - exact).max() < 1 + 1e-9


def test_smaller_subsets_are_within_larger_ones():
    labels = np.arange(100) % 4
    small, large = (set(splits.stratified_subset(labels, n, seed=1).tolist()) for n in (20, 40))
    assert small < large


def test_a_class_with_too_few_images_or_groups_is_named():
    with pytest.raises(InputError, match="class 'b' has 1 image, 3 are needed"):
        splits.require_images(np.array([0, 0, 0, 1]), ("a", "b"), 3, "set")
    with pytest.raises(InputError, match="set: has 1 class; two or more"):
        splits.require_images(np.zeros(9, int), ("a",), 3, "set")
    labels, groups = np.array([0] * 9 + [1] * 9), np.array([*range(9)] + [9] * 9)
    parts = splits.completed(labels, groups, np.zeros(18, np.int8), 0.2, 0.1, 0)
    with pytest.raises(InputError, match="class 'b' has 9 images in 1 groups and none"):
        splits.require_every_part(labels, groups, parts, ("a", "b"), "set")


def test_three_large_groups_of_a_class_go_to_three_parts():
    labels, groups = (
        np.array([0] * 12 + [1] * 30),
        np.concatenate([np.repeat([0, 1, 2], 4), np.arange(3, 33)]),
    )
    for seed in range(5):
        parts = splits.completed(labels, groups, np.zeros(42, np.int8), 0.2, 0.1, seed)
        assert set(parts[:12]) == {TRAIN, VALIDATION, TEST}
