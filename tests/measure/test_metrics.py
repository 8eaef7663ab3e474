"""Metrics against a hand-computed example, scikit-learn with the weights spelled out, and simulated
truth.
"""

from __future__ import annotations

import json
from pathlib import Path

import coverage_of_intervals as simulated
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from medddist.base.errors import InputError
from medddist.measure import intervals, metrics, resampling
from medddist.measure.metrics import majority_class, paired_difference, score

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("covid", "opacity", "normal", "viral")


def resample_groups(groups, resamples, seed):
    """(B, N) how often each image counts in each resample that `score` draws."""
    names, positions = np.unique(groups, return_inverse=True)
    counts = resampling.group_counts(len(names), resamples, seed, resamples)
    return np.concatenate(list(counts))[:, positions]


def weighted_auroc(probabilities, labels, weights):
    """(B, K) AUROC of each class under each row of image weights."""
    images, columns = np.arange(len(labels)), np.ascontiguousarray(weights.T, float)
    classes = range(probabilities.shape[1])
    rankings = [resampling.Ranking.of(probabilities[:, k], labels == k, images) for k in classes]
    return np.stack([ranking.auroc(columns) for ranking in rankings], axis=1)


def made_up(networks=3, images=60, classes=4, seed=0, decimals=1, signal=1.0):
    """Rounded probabilities with many ties, labels of every class, groups of about two images."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(classes, size=images - classes)])
    logits = draw.normal(size=(networks, images, classes)) + signal * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probabilities.round(decimals), labels, draw.integers(images // 2, size=images)


def outcomes(right):
    """(R, N) bool -> two-class probabilities of networks that are right or wrong about images of
    class 0.
    """
    return np.stack([right, ~right], axis=-1).astype(float)


def width(summary):
    return summary["high"] - summary["low"]


def replicates(p, labels, groups, resamples, seed=0):
    return resampling.replicates(
        resampling.checked_answers(p, labels, groups, p.shape[2], resamples), resamples, seed
    )


# Values


def test_by_hand():
    # True classes 0 0 0 1 1 2; predicted 0 0 1 1 2 2.
    p = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.5, 0.3, 0.2],
            [0.4, 0.6, 0],
            [0.3, 0.7, 0],
            [0.4, 0.1, 0.5],
            [0, 0.1, 0.9],
        ]
    )
    found = score(
        p[None], np.array([0, 0, 0, 1, 1, 2]), np.arange(6), ["a", "b", "c"], resamples=50
    )
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found["accuracy"]["mean"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"]["mean"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["macro_f1"]["mean"] == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)
    assert [found["per_class"][k]["sensitivity"]["mean"] for k in "abc"] == pytest.approx(
        [2 / 3, 1 / 2, 1]
    )
    assert [found["per_class"][k]["specificity"]["mean"] for k in "abc"] == pytest.approx(
        [1, 3 / 4, 4 / 5]
    )
    # class a: 0.8, 0.5 and 0.4 against 0.3, 0.4 and 0.0 beat 8 of 9 pairs and tie in one; b: 0.7
    # and 0.1 against 0.1, 0.3, 0.6, 0.1 beat 4 of 8 and tie in two; c: 0.9 beats all
    assert [found["per_class"][k]["auroc"]["mean"] for k in "abc"] == pytest.approx(
        [8.5 / 9, 5 / 8, 1]
    )
    assert found["auroc"]["mean"] == pytest.approx((8.5 / 9 + 5 / 8 + 1) / 3)
    assert [found["per_class"][k]["count"] for k in "abc"] == [3, 2, 1]


def test_mean_and_std_are_over_networks():
    p, labels, groups = made_up(networks=4)
    each = [reference.balanced_accuracy_score(labels, one.argmax(1)) for one in p]
    found = score(p, labels, groups, NAMES, resamples=20)["balanced_accuracy"]
    assert (found["mean"], found["std"]) == pytest.approx((np.mean(each), np.std(each, ddof=1)))


def test_auroc_is_scikit_learns_one_versus_rest():
    p, labels, groups = made_up(networks=1, decimals=12)
    expected = reference.roc_auc_score(labels, p[0], multi_class="ovr", average="macro")
    assert score(p, labels, groups, NAMES, resamples=20)["auroc"]["mean"] == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 4),
    st.integers(0, 3),
    st.sampled_from([np.float32, np.float64]),
)
def test_weighted_auroc_is_scikit_learns(seed, classes, decimals, kind):
    p, labels, _ = made_up(1, 30, classes, seed, decimals)
    weights = np.random.default_rng(seed).integers(0, 3, size=(3, 30)) * 0.5
    found = weighted_auroc(p[0].astype(kind), labels, weights)
    for b, k in np.ndindex(found.shape):
        own = weights[b] * (labels == k)
        if 0 < own.sum() < weights[b].sum():
            expected = reference.roc_auc_score(
                labels == k, p[0, :, k].astype(kind), sample_weight=weights[b]
            )
            assert found[b, k] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(found[b, k])


@pytest.mark.parametrize(
    "images", [40, 9]
)  # of 9, most resamples lack a class, among labels and predictions too
def test_replicates_are_scikit_learns_on_the_drawn_images(images):
    p, labels, groups = made_up(networks=2, images=images)
    found, weights = replicates(p, labels, groups, 15, seed=3), resample_groups(groups, 15, seed=3)
    for b, r in np.ndindex(15, 2):
        rows = np.repeat(np.arange(images), weights[b])  # each image as often as it was drawn
        true, guess = labels[rows], p[r].argmax(1)[rows]
        assert found["accuracy"][b, r] == pytest.approx(reference.accuracy_score(true, guess))
        recall = reference.recall_score(true, guess, labels=np.unique(true), average="macro")
        assert found["balanced_accuracy"][b, r] == pytest.approx(recall)
        assert found["macro_f1"][b, r] == pytest.approx(
            reference.f1_score(true, guess, average="macro")
        )
        for k in range(4):
            here = tuple(
                found[f"class_{name}"][b, r, k] for name in ("specificity", "sensitivity", "auroc")
            )
            rest = reference.recall_score(true != k, guess != k, zero_division=np.nan)
            own = reference.recall_score(true == k, guess == k, zero_division=np.nan)
            auroc = (
                reference.roc_auc_score(true == k, p[r, rows, k])
                if 0 < np.sum(true == k) < len(true)
                else np.nan
            )
            assert here == pytest.approx((rest, own, auroc), nan_ok=True)


def test_the_interval_adds_networks_to_test_groups_by_hand():
    """Three networks and one set of resamples, spelled out."""
    p, labels, groups = made_up(networks=3, images=300)
    draws = replicates(p, labels, groups, 200, seed=5)["macro_f1"]
    points = np.array([reference.f1_score(labels, one.argmax(1), average="macro") for one in p])
    of_groups = draws.mean(1).var(ddof=1)
    of_networks = max(points.var(ddof=1) / 3 - (draws - draws.mean(0)).var(1, ddof=1).mean() / 3, 0)
    count = len(set(groups))
    margin = np.hypot(
        stats.t.isf(0.025, 2) * of_networks**0.5, stats.t.isf(0.025, count - 1) * of_groups**0.5
    )
    found = score(p, labels, groups, NAMES, resamples=200, seed=5)["macro_f1"]
    assert [found["low"], found["high"]] == pytest.approx(
        [points.mean() - margin, points.mean() + margin]
    )


# What the interval means


def coverage(make, truth, tests=200, resamples=300):
    """The share of simulated test parts whose accuracy interval holds the truth; `make(draw)` ->
    (right, groups).
    """
    held, draw = 0, np.random.default_rng(7)
    for i in range(tests):
        right, groups = make(draw)
        test = resampling.checked_answers(
            outcomes(right), np.zeros(right.shape[1], int), groups, 2, resamples
        )
        estimate = metrics._estimates(test, ["accuracy"], resamples, i)["accuracy"]
        low, high = intervals.interval_around(
            estimate.mean, intervals.combined_error([estimate], test.group_count), (0, 1)
        )
        held += low <= truth <= high
    return held / tests


# of those in coverage_of_intervals; whether what these intervals replaced fell short there
SHORT = [
    ("one set, networks dominate", 3, True),
    ("difference, networks dominate", 3, True),
    ("3 seeds of 5 networks", 15, True),
    ("one set, networks dominate", 5, False),
    ("one set, both matter", 5, False),
    ("one set, images dominate", 5, False),
]


def scenario(name: str, networks: int) -> simulated.Scenario:
    return next(
        one for one in simulated.scenarios() if one.name == name and one.side.networks == networks
    )


@pytest.mark.parametrize("name, networks, fell_short", SHORT)
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent(name, networks, fell_short):
    """As far as 300 repetitions can tell:

    by the exact interval of the share. The record has all scenarios, and more of each.
    """
    one, (least, most) = simulated.measure(scenario(name, networks), 300, seed=1), simulated.ASKED
    assert one["now"]["low"] <= most and one["now"]["high"] >= least
    assert not fell_short or one["former"]["high"] < least


def test_the_coverage_on_record_is_of_these_intervals_and_as_asked():
    record = json.loads((ROOT / "results" / "interval-coverage.json").read_text(encoding="utf-8"))
    assert record["interval"] == intervals.INTERVAL and record["asked"] == list(simulated.ASKED)
    assert [row["scenario"] for row in record["rows"]] == [
        one.name for one in simulated.scenarios()
    ]
    low, high = simulated.ASKED
    assert all(low <= row["now"]["coverage"] <= high for row in record["rows"])
    assert min(row["former"]["coverage"] for row in record["rows"]) < 0.9


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "one", simulated.scenarios(), ids=lambda one: f"{one.name}-{one.side.networks}-{one.metric}"
)
def test_every_scenarios_coverage_is_as_asked(one):
    now, (least, most) = simulated.measure(one, 1000, seed=2)["now"], simulated.ASKED
    assert now["low"] <= most and now["high"] >= least


def test_covers_the_truth_for_independent_images():
    assert (
        0.90 <= coverage(lambda draw: (draw.random((1, 200)) < 0.7, np.arange(200)), 0.7) <= 0.985
    )


def test_covers_the_truth_for_grouped_images_only_if_the_groups_are_used():
    def grouped(draw):
        return np.repeat(draw.random((1, 80)) < 0.7, 5, axis=1), np.repeat(np.arange(80), 5)

    def ungrouped(draw):
        return grouped(draw)[0], np.arange(400)

    assert 0.90 <= coverage(grouped, 0.7) <= 0.985
    assert coverage(ungrouped, 0.7) < 0.75


def test_covers_the_truth_for_other_networks():
    """Networks of accuracy 0.6 to 0.8 on many images: without drawing networks this would hold in
    about 30 %.
    """

    def varied(draw):
        return draw.random((20, 300)) < draw.uniform(0.6, 0.8, size=(20, 1)), np.arange(300)

    assert 0.90 <= coverage(varied, 0.7, tests=120) <= 1


def test_copies_in_the_same_group_add_nothing_and_copies_apart_would():
    p, labels, _ = made_up(networks=2, images=100)
    alone = score(p, labels, np.arange(100), NAMES)
    copies, copied_labels = np.tile(p, (1, 4, 1)), np.tile(labels, 4)
    together = score(copies, copied_labels, np.tile(np.arange(100), 4), NAMES)
    apart = score(copies, copied_labels, np.arange(400), NAMES)
    for name in metrics.METRICS:
        assert width(together[name]) == pytest.approx(width(alone[name]), rel=1e-9)
    # the width that is due to images halves; one network, so that it is all there is
    one = [
        score(copies[:1], copied_labels, g, NAMES)
        for g in (np.tile(np.arange(100), 4), np.arange(400))
    ]
    assert width(one[1]["accuracy"]) == pytest.approx(width(one[0]["accuracy"]) / 2, rel=0.15)
    assert width(apart["accuracy"]) < 0.8 * width(together["accuracy"])


# Resampling


def test_resampled_groups_are_whole_and_as_many_as_there_are():
    groups = np.array([7, 7, 3, 9, 3, 7])
    weights = resample_groups(groups, 500, seed=1)
    assert weights.shape == (500, 6) and np.issubdtype(weights.dtype, np.integer)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)


def test_resamples_do_not_depend_on_how_they_are_chunked(monkeypatch):
    p, labels, groups = made_up()
    whole = score(p, labels, groups, NAMES, resamples=100)
    monkeypatch.setattr(resampling, "CHUNK_BYTES", 8 * 4 * 60)
    assert score(p, labels, groups, NAMES, resamples=100) == whole


def test_seeds_decide():
    p, labels, groups = made_up()
    first, again, other = (
        score(p, labels, groups, NAMES, resamples=100, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert (
        first["accuracy"]["low"] != other["accuracy"]["low"]
        or first["auroc"]["low"] != other["auroc"]["low"]
    )
    assert paired_difference(p, p[:1], labels, groups, seed=1) == paired_difference(
        p, p[:1], labels, groups, seed=1
    )


def test_the_order_of_images_and_of_networks_does_not_matter():
    p, labels, groups = made_up()
    found = score(p, labels, groups, NAMES, resamples=100)
    order = np.random.default_rng(0).permutation(60)
    assert flat(
        score(p[:, order], labels[order], groups[order], NAMES, resamples=100)
    ) == pytest.approx(flat(found))
    turned = score(p[::-1], labels, groups, NAMES, resamples=100)
    for name in metrics.METRICS:  # the interval differs only by which networks were drawn
        assert [turned[name][v] for v in ("mean", "std")] == pytest.approx(
            [found[name][v] for v in ("mean", "std")]
        )


def flat(found):
    return [
        found[name][value] for name in metrics.METRICS for value in ("mean", "std", "low", "high")
    ]


def test_the_order_of_classes_does_not_matter():
    p, labels, groups = made_up(decimals=12)
    found = score(p, labels, groups, NAMES, resamples=100)
    turned = score(p[:, :, ::-1], 3 - labels, groups, NAMES[::-1], resamples=100)
    assert flat(turned) == pytest.approx(flat(found))
    assert turned["per_class"]["viral"] == found["per_class"]["viral"]


# Edges


def test_one_network():
    p, labels, groups = made_up(networks=1)
    found = score(p, labels, groups, NAMES, resamples=100)
    for name in metrics.METRICS:
        assert (
            found[name]["std"] == 0
            and found[name]["low"] < found[name]["mean"] < found[name]["high"]
        )


def test_two_classes_have_one_auroc():
    p, labels, groups = made_up(classes=2, decimals=12)
    found = score(p, labels, groups, ["healthy", "ill"], resamples=50)["per_class"]
    assert found["healthy"]["auroc"] == pytest.approx(found["ill"]["auroc"])
    assert found["healthy"]["sensitivity"] == pytest.approx(found["ill"]["specificity"])


def test_a_class_absent_from_the_test_part():
    p, labels, groups = made_up()
    labels = np.where(labels == 3, 0, labels)
    found = score(p, labels, groups, NAMES, resamples=50)
    absent = found["per_class"]["viral"]
    assert absent["count"] == 0
    assert (
        absent["sensitivity"]
        == absent["auroc"]
        == {"mean": None, "std": None, "low": None, "high": None}
    )
    assert 0 < absent["specificity"]["mean"] < 1
    expected = [
        reference.recall_score(labels, one.argmax(1), labels=[0, 1, 2], average="macro")
        for one in p
    ]
    assert found["balanced_accuracy"]["mean"] == pytest.approx(np.mean(expected))
    assert found["auroc"]["mean"] == pytest.approx(
        np.mean([found["per_class"][n]["auroc"]["mean"] for n in NAMES[:3]])
    )


def test_only_one_class_in_the_test_part():
    found = score(
        outcomes(np.array([[True, False, True]])),
        np.zeros(3, int),
        np.arange(3),
        ["a", "b"],
        resamples=50,
    )
    assert found["balanced_accuracy"]["mean"] == pytest.approx(2 / 3)
    assert found["auroc"] == {"mean": None, "std": None, "low": None, "high": None}
    p = outcomes(np.array([[True, False, True]]))
    none = paired_difference(p, p, np.zeros(3, int), np.arange(3), "auroc", resamples=50)
    assert none == {"difference": None, "low": None, "high": None, "p_two_sided": None}


def test_a_class_absent_from_a_resample_is_left_out_of_it():
    """Class 1 is one image, always right;

    class 0 always wrong. Without it balanced accuracy is 0, with it 1/2.
    """
    p = np.array([[[0.4, 0.6]] * 4])
    labels, groups = np.array([0, 0, 0, 1]), np.arange(4)
    found, weights = replicates(p, labels, groups, 200), resample_groups(groups, 200, 0)
    with_one, with_zero = weights[:, 3] > 0, weights[:, :3].any(1)
    expected = np.where(with_one & with_zero, 0.5, np.where(with_one, 1.0, 0.0))
    np.testing.assert_allclose(found["balanced_accuracy"][:, 0], expected)
    np.testing.assert_array_equal(np.isnan(found["class_sensitivity"][:, 0, 1]), ~with_one)
    viral = score(p, labels, groups, ["a", "b"], resamples=200)["per_class"]["b"]["sensitivity"]
    assert viral == {"mean": 1, "std": 0, "low": 1, "high": 1}


def test_results_are_json_without_nan():
    p, labels, groups = made_up()
    found = score(
        p.astype(np.float32), np.where(labels == 3, 0, labels), groups, NAMES, resamples=50
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {*metrics.METRICS, "per_class", "confusion", "interval"}
    assert found["interval"] | {"method": ""} == {
        "level": 0.95,
        "method": "",
        "resamples": 50,
        "seed": 0,
        "networks": 3,
        "independent": 3,
        "images": 60,
        "groups": len(set(groups)),
    }


def test_majority_class():
    labels = np.array([0, 1, 2, 3, 3, 0])
    p = majority_class(np.array([2, 1, 2, 0]), labels, 4)
    assert p.shape == (1, 6, 4) and (p.argmax(2) == 2).all() and (p.sum(2) == 1).all()
    found = score(p, labels, np.arange(6), NAMES, resamples=50)
    assert found["balanced_accuracy"]["mean"] == 0.25 and found["auroc"]["mean"] == 0.5
    assert found["accuracy"]["mean"] == pytest.approx(1 / 6)
    with pytest.raises(InputError, match="labels_train"):
        majority_class(np.array([], int), labels, 4)


# Paired differences


def test_a_paired_difference_is_narrower_than_either_interval():
    """b is a with 10 of 300 images spoilt: what is hard for both cancels in the difference."""
    right = np.random.default_rng(0).random((1, 300)) < 0.7
    worse = right.copy()
    worse[0, np.flatnonzero(right[0])[:10]] = False
    labels, groups = np.zeros(300, int), np.arange(300)
    found = paired_difference(outcomes(right), outcomes(worse), labels, groups, "accuracy")
    assert found["difference"] == pytest.approx(10 / 300)
    assert 0 < found["low"] < 10 / 300 < found["high"]
    assert found["p_two_sided"] < 0.01
    assert width(found) < 0.5 * width(
        score(outcomes(right), labels, groups, ["a", "b"])["accuracy"]
    )
    turned = paired_difference(outcomes(worse), outcomes(right), labels, groups, "accuracy")
    assert [-turned["high"], -turned["low"]] == pytest.approx([found["low"], found["high"]])


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_paired_difference_of_every_metric(metric):
    (good, labels, groups), (bad, _, _) = (
        made_up(networks=4, signal=2.5),
        made_up(networks=2, signal=0),
    )
    found = paired_difference(good, bad, labels, groups, metric, resamples=300)
    each = [score(p, labels, groups, NAMES, resamples=2)[metric]["mean"] for p in (good, bad)]
    assert found["difference"] == pytest.approx(each[0] - each[1])
    assert 0 < found["low"] < found["difference"] < found["high"]


def test_nothing_is_found_between_equals():
    p, labels, groups = made_up(networks=5)
    same = paired_difference(p[:1], p[:1], labels, groups)
    assert same == {"difference": 0, "low": 0, "high": 0, "p_two_sided": 1}
    drawn = paired_difference(p, p[::-1][:3], labels, groups)  # networks of a kind
    assert drawn["low"] < 0 < drawn["high"] and drawn["p_two_sided"] > 0.3


def test_p_is_below_its_level_exactly_where_the_interval_excludes_zero():
    """Differences from clear to none: by the interval at 95 % and by the level at which it would
    end at zero.
    """
    (a, labels, groups), told = made_up(networks=3, signal=1.0), set()
    for signal in np.linspace(0.2, 1.8, 25):
        b = made_up(networks=4, signal=signal)[0]
        found = paired_difference(a, b, labels, groups, "accuracy", resamples=100)
        assert (found["p_two_sided"] < 0.05) == metrics.excludes_zero(found)
        told.add(metrics.excludes_zero(found))
    assert told == {True, False}
    error = intervals.Error(networks=0.01, groups=0.02, freedom_networks=2, freedom_groups=50)
    for level in (1e-6, 0.05, 0.5):
        assert intervals.p_two_sided(error.margin(level), error) == pytest.approx(level)


def test_a_difference_that_is_sure_has_a_p_that_json_can_hold():
    right = np.ones((1, 20), bool)
    found = paired_difference(
        outcomes(right), outcomes(~right), np.zeros(20, int), np.arange(20), "accuracy"
    )
    assert found == {"difference": 1, "low": 1, "high": 1, "p_two_sided": intervals.SMALLEST_P}


def test_networks_of_one_set_are_not_independent_of_each_other():
    """Three sets of five equal networks are three units, and fifteen where sets are not given."""
    apart = [made_up(networks=1, images=400, signal=signal) for signal in (0.5, 1.0, 2.0)]
    p, (_, labels, groups) = np.concatenate([one[0] for one in apart]), apart[0]
    copies, sets = np.repeat(p, 5, axis=0), np.repeat([7, 1, 4], 5)
    given = (p, None), (copies, sets), (copies, None)
    three, told, untold = (
        score(said, labels, groups, NAMES, resamples=100, sets=of) for said, of in given
    )
    for name in metrics.METRICS:
        assert [told[name][v] for v in ("mean", "low", "high")] == pytest.approx(
            [three[name][v] for v in ("mean", "low", "high")]
        )
        assert width(untold[name]) < width(told[name])
    assert (
        told["interval"]["independent"],
        told["interval"]["networks"],
        untold["interval"]["independent"],
    ) == (3, 15, 15)
    alone = score(p, labels, groups, NAMES, resamples=100, sets=np.zeros(3))
    assert alone == score(p, labels, groups, NAMES, resamples=100), (
        "of one set, its networks are what varies"
    )
    given = p, made_up(networks=2, images=400, seed=1)[0], labels, groups
    wide = paired_difference(copies, *given[1:], resamples=100, sets=(sets, None))
    assert [wide[v] for v in ("low", "high")] == pytest.approx(
        [paired_difference(*given, resamples=100)[v] for v in ("low", "high")]
    )


def test_p_rarely_falls_below_its_level_between_equals():
    draw, labels, found = np.random.default_rng(2), np.zeros(100, int), []
    for _ in range(80):
        a, b = (outcomes(draw.random((2, 100)) < 0.7) for _ in range(2))
        found.append(
            paired_difference(a, b, labels, np.arange(100), "accuracy", resamples=200)[
                "p_two_sided"
            ]
        )
    assert np.mean(np.array(found) < 0.05) <= 0.1


# Refused


P, LABELS, GROUPS = made_up()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probabilities": P[:0]}, "probabilities: has shape"),
        ({"probabilities": P[0]}, "probabilities: has shape"),
        ({"probabilities": P[:, :, :3]}, "3 columns for 4 classes"),
        ({"probabilities": P[:, :-1]}, "labels: has shape"),
        ({"probabilities": np.where(P == P.max(), np.nan, P)}, "NaN"),
        ({"probabilities": np.where(P == P.max(), np.inf, P)}, "infinite"),
        ({"probabilities": P.argmax(2)[:, :, None].repeat(4, 2)}, "non-float"),
        ({"labels": LABELS[:-1]}, "labels: has shape"),
        ({"labels": LABELS + 1}, "labels: should be integers from 0 to 3"),
        ({"labels": LABELS - 1}, "labels: should be integers from 0 to 3"),
        ({"labels": LABELS * 1.0}, "labels: should be integers"),
        ({"groups": GROUPS[:-1]}, "groups: has shape"),
        ({"groups": GROUPS * 0}, "one group"),
        ({"class_names": NAMES[:1], "probabilities": P[:, :, :1]}, "1 columns for 1 classes"),
        ({"resamples": 1}, "resamples"),
        ({"sets": np.zeros(2)}, "sets: has shape"),
    ],
)
def test_refused(change, message):
    given_ = {
        "probabilities": P,
        "labels": LABELS,
        "groups": GROUPS,
        "class_names": NAMES,
        "resamples": 5,
    } | change
    with pytest.raises(InputError, match=message) as refused:
        score(**given_)
    assert "\n" not in str(refused.value)


def test_paired_differences_refused():
    with pytest.raises(InputError, match="metric: 'kappa' is not known; use one of accuracy"):
        paired_difference(P, P, LABELS, GROUPS, "kappa")
    with pytest.raises(InputError, match="b: has 3 columns for 4 classes"):
        paired_difference(P, P[:, :, :3], LABELS, GROUPS)
    with pytest.raises(InputError, match="a: has shape"):
        paired_difference(P[0], P, LABELS, GROUPS)


@pytest.mark.parametrize(
    "p_values, expected",
    [
        (
            [0.01, 0.04, 0.03],
            [0.03, 0.06, 0.06],
        ),  # 3 * 0.01; 2 * 0.03; 0.04, raised to the one before
        ([0.04, 0.01, 0.03, 0.005], [0.06, 0.03, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
        ([0.02, None, 0.03], [0.04, None, 0.04]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holms_correction_by_hand(p_values, expected):
    assert metrics.holm(p_values) == [None if p is None else pytest.approx(p) for p in expected]


def test_differences_to_several_are_those_to_each():
    (a, labels, groups), (b, *_), (c, *_) = (
        made_up(seed=0, networks=n, signal=signal) for n, signal in ((3, 1.0), (2, 0.5), (4, 2.0))
    )
    found = metrics.paired_differences(
        a, [b, c], labels, groups, ("accuracy", "auroc"), resamples=50
    )
    for one, other in zip(found, (b, c)):
        assert one == {
            m: paired_difference(a, other, labels, groups, m, resamples=50)
            for m in ("accuracy", "auroc")
        }
