"""Where an image comes from: by hand, with a planted mark, and on the phantom, where the truth is
known.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from medddist.comparison import origins
from medddist.comparison.origins import (
    class_from_origin,
    confounding,
    origin_probe,
    sensitivity_by_origin,
)
from medddist.data.parts import Data, Part
from medddist.study.profile import load_profile
from medddist.study.study import Study

NAMES, ORIGINS = ("a", "b"), ("north", "south", "west")


def part(labels, origins, mark: float = 0.0, seed: int = 0) -> Part:
    """Images of noise; those of `north` are brighter by `mark` in the middle."""
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    images = rng.normal(120, 20, (len(labels), 1, 16, 16))
    if origins is not None:
        images[np.asarray(origins) == 0, :, 4:12, 4:12] += mark
    return Part(
        images.clip(0, 255).astype(np.uint8),
        labels,
        np.arange(len(labels)),
        None if origins is None else np.asarray(origins),
    )


def data(train: Part, test: Part) -> Data:
    return Data(train, train, test, NAMES, "f", "made up", ORIGINS)


def test_sensitivity_by_origin_by_hand():
    labels, origins = np.repeat([0, 1], 40), np.tile([0, 1], 40)
    test = part(labels, origins)
    right = (
        (labels == 1) | (origins == 0) | (np.arange(80) < 8)
    )  # of class a, all of north and 4 of 20 of south
    said = np.eye(2)[np.where(right, labels, 1 - labels)][None]
    rows = sensitivity_by_origin(data(test, test), said, resamples=100)
    found = {
        (row["class"], row["origin"]): (row["images"], row["sensitivity"]["mean"]) for row in rows
    }
    assert found == {
        ("a", "north"): (20, 1.0),
        ("a", "south"): (20, 0.2),
        ("b", "north"): (20, 1.0),
        ("b", "south"): (20, 1.0),
    }


def test_a_class_of_one_origin_and_few_images_are_left_out():
    test = part([0] * 20 + [1] * 25, [0] * 20 + [0] * 20 + [1] * 5)
    assert sensitivity_by_origin(data(test, test), np.full((1, 45, 2), 0.5), resamples=100) == []


@pytest.mark.parametrize("mark, told_apart", [(0.0, False), (40.0, True)])
def test_a_planted_mark_tells_origins_apart_and_noise_does_not(mark, told_apart):
    labels, origins = np.arange(200) % 2, np.arange(200) // 2 % 2
    one = data(part(labels, origins, mark), part(labels, origins, mark, seed=1))
    for label, what in ((0, "a"), (None, "all classes")):
        found = origin_probe(one, label, resamples=100)
        assert (found["class"], found["origins"], found["chance"]) == (
            what,
            ["north", "south"],
            0.5,
        )
        assert (found["balanced_accuracy"]["low"] > 0.9) == told_apart
        assert (
            told_apart
            or found["balanced_accuracy"]["low"] < 0.5 < found["balanced_accuracy"]["high"] + 0.1
        )


def test_without_two_origins_there_is_nothing_to_tell():
    labels = np.arange(40) % 2
    for known in (None, np.zeros(40, int), labels):  # unknown, one, one a class
        one = data(part(labels, known), part(labels, known))
        assert origin_probe(one, 0, resamples=100) is None
    assert class_from_origin(data(part(labels, None), part(labels, None))) is None


def test_the_class_from_the_origin_by_hand():
    """All of class a in north; class b nine in ten in south: whoever knows the origin is right in
    (1 + 0.9) / 2.
    """
    train = part([0] * 10 + [1] * 10, [0] * 10 + [1] * 9 + [0])
    assert class_from_origin(data(train, train)) == pytest.approx(0.95)


def test_a_profile_can_leave_out_the_confounded_phantom(monkeypatch):
    """Where it does, nothing is trained on it."""
    asked = []
    for name in ("measured", "sensitivity_by_origin", "origin_probe", "class_from_origin"):
        monkeypatch.setattr(origins, name, lambda *_: SimpleNamespace(probabilities=0, sets=0))
    monkeypatch.setattr(origins, "confounding", lambda *_: asked.append(1) or ["rows"])
    data = SimpleNamespace(is_phantom=True, classes=2)
    for left_out in ((), ("confounded_phantom",)):
        profile = SimpleNamespace(left_out=left_out, resamples=1)
        found = origins.of_origins(SimpleNamespace(data=data, profile=profile))
        assert found["confounding"] == ([] if left_out else ["rows"])
    assert asked == [1]


def test_networks_trained_where_sites_are_confounded_are_tested_on_both(tmp_path):
    profile = load_profile(
        "smoke",
        {
            "data.images": 160,
            "network.width": 4,
            "references.good_recipe.epochs": 1,
            "compare.resamples": 100,
        },
    )
    study = Study(profile, "phantom", tmp_path, "cpu")
    rows = confounding(study)
    json.dumps(rows, allow_nan=False)
    assert [(row["trained_on"], row["tested_on"]) for row in rows] == [
        ("balanced", "balanced"),
        ("balanced", "confounded"),
        ("confounded", "balanced"),
        ("confounded", "confounded"),
    ]
    for row in rows:
        same = row["trained_on"] == row["tested_on"]
        assert ("lost" not in row) == same, (
            "patients, labels and split are those of the other version"
        )
        knows_site = row["class_from_site_alone"]
        assert knows_site > 0.5 if row["tested_on"] == "confounded" else knows_site < 0.5
    assert json.dumps(confounding(study)) == json.dumps(rows)
    at_once = Study(profile, "phantom", tmp_path / "at once", "cpu")
    assert json.dumps(confounding(at_once, workers=2)) == json.dumps(rows)
