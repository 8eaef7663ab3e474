"""Sentences on leaks, hospitals and guarantees: they follow from the results."""

from __future__ import annotations

import pytest

from medddist import figures
from medddist.figures import findings

METRIC = "balanced_accuracy"


def hits(count: int, of: int = 80, high: int = 3) -> dict:
    share = {"count": count, "of": of, "share": count / of, "low": 0.0, "high": 0.5}
    area = {"auc": 0.6, "low": 0.55, "high": 0.65}
    return {"true_positives": share, "by_chance": [0, high], "auc": area}


@pytest.fixture
def attacks() -> dict:
    released = {"starting": hits(8), "others": hits(3, 400, 12), "unseen": hits(1)}
    return {"loss": {"positive_control": {"control": hits(17)}, "released": released}}


def distances(**more) -> dict:
    nearer = {"count": 41, "of": 80}
    return {
        "to_start": None,
        "to_training": 0.5,
        "to_unseen": 0.49,
        "training_is_nearer": nearer,
    } | more


def test_the_first_finding_says_how_many_are_nearest_to_their_start():
    told = findings.nearest_sentence(distances(start_is_nearest={"count": 47, "of": 60}))
    assert told.startswith("47 of 60 distilled images")
    told = findings.nearest_sentence(distances())
    assert "did not start from real images" in told and "41 of 80" in told


def test_a_set_without_initial_images_has_no_distance_to_them():
    (row,) = findings.nearest_rows({"pixels": distances()})
    assert "to its initial image" not in row
    (row,) = findings.nearest_rows({"pixels": distances(to_start=0.2)})
    assert row["to its initial image"] == 0.2 and row["training image nearer"] == "41 of 80"


def test_what_is_found_is_compared_with_chance(attacks):
    told = " ".join(findings.audit_sentences(attacks, [], 0.01))
    assert "At 1 % false positives the loss attack finds 8 of 80 initial images: more than" in told
    assert "3 of 400 other training images: no more than by chance (0 to 12)" in told
    assert "curve of 0.600 [0.550, 0.650] is above chance" in told


def test_a_weak_attack_shows_nothing(attacks):
    told = findings.audit_sentences(attacks, ["it is too weak"], 0.01)
    assert told == ["The attack shows nothing here: it is too weak."]


def test_the_attacks_figure_and_table_have_a_line_per_group(attacks):
    figure = figures.membership(attacks, 0.01)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(findings.audit_rows(attacks)) == 4
    assert labels[0].startswith("trained on") and len(figure.axes[0].patches) == 4
    both = findings.audit_rows(attacks | {"lira": attacks["loss"]})
    assert {row["attack"] for row in both} == {"loss", "lira"}
    figures.plt.close(figure)


def way(name: str, mean: float, half: float | None, sent: int = 0, rounds: int = 1) -> dict:
    ends = {"low": None, "high": None}
    ends = ends if half is None else {"low": mean - half, "high": mean + half}
    score = {METRIC: {"mean": mean} | ends}
    row = {"way": name, "sent_bytes": sent, "rounds": rounds}
    return row | {"all": score, "hospitals": {"A": score}}


@pytest.fixture
def ways() -> list[dict]:
    return [
        way("A alone", 0.6, 0.01),
        way("B alone", 0.7, 0.1),
        way("the package of A alone", 0.65, None, 400_000),
        way("all packages", 0.75, 0.02, 800_000),
        way("federated averaging, 5 rounds", 0.72, 0.3, 2_500_000, 5),
        way("pooled real data", 0.9, 0.01, 4_000_000),
    ]


def test_packages_are_compared_with_the_best_of_the_others(ways):
    told = " ".join(findings.sharing_sentences(ways, METRIC))
    assert "0.750 [0.730, 0.770] for 800 kB" in told
    assert "the best hospital by itself, 0.700 [" in told and "0.590" not in told
    assert "federated averaging, 5 rounds, 0.720" in told and "for 2,500 kB" in told
    assert "Clearly higher, with an interval that does not overlap: pooled real data." in told
    assert "Clearly lower" not in told and "The other intervals overlap" in told
    wide = [
        one if one["way"] != "pooled real data" else way("pooled real data", 0.9, 0.3, 9)
        for one in ways
    ]
    assert "All these intervals overlap" in " ".join(findings.sharing_sentences(wide, METRIC))


def test_labels_of_ways_say_what_is_sent(ways):
    labels = [findings.way_label(row) for row in ways]
    assert labels[0] == "A alone\n(nothing)"
    assert labels[4] == "federated averaging\n(2,500 kB, 5 rounds)"
    axes = figures.sharing(ways, METRIC).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == labels
    assert findings.way_rows(ways, METRIC)[0] == {"way": "A alone", "A": 0.6, "all hospitals": 0.6}
    figures.plt.close(axes.figure)


def test_a_guarantees_price_is_said_for_each_epsilon():
    difference = lambda low, high: {"difference": (low + high) / 2, "low": low, "high": high}
    against = {
        4.0: {"initial images": difference(0.1, 0.2), "random real images": difference(-0.3, -0.1)},
        0.5: {
            "initial images": difference(-0.1, 0.2),
            "random real images": difference(-0.4, -0.2),
        },
    }
    told = findings.guarantee_sentences(against)
    assert [sentence.split(" the set")[0] for sentence in told[1:]] == [
        "At epsilon 0.5",
        "At epsilon 4",
    ]
    assert "not significantly different from initial images" in told[1]
    assert "better than initial images (+0.150 [+0.100, +0.200])" in told[2]
    assert "worse than random real images" in told[2]
