"""Whether a shortcut is measured: by hand, with a planted one, and on a tiny phantom."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from test_study import profile

from medddist.data.parts import Data, Part
from medddist.study.study import Study
from workflow import confounding

NAMES, ORIGINS = ("a", "b", "c"), ("north", "south", "west")
CELLS = {(0, 0): 40, (1, 0): 10, (1, 1): 30, (2, 1): 20, (2, 2): 50}  # images of (class, origin)


def made_up() -> Data:
    """Class a is of north, c of south or of west alone, b of both north and south."""
    labels = np.repeat([k for k, _ in CELLS], list(CELLS.values()))
    origins = np.repeat([o for _, o in CELLS], list(CELLS.values()))
    images = np.zeros((len(labels), 1, 8, 8), np.uint8)
    part = Part(images, labels, np.arange(len(labels)), origins)
    return Data(part, part, part, NAMES, "f", "made up", ORIGINS)


def said(data: Data, answer) -> np.ndarray:
    """Probabilities (1, N, K) of a network that answers by class and origin."""
    test = data.test
    named = [answer(k, o) for k, o in zip(test.labels.tolist(), test.origins.tolist())]
    return np.eye(3)[named][None]


def test_cells_are_of_origins_with_two_classes_and_count_alike():
    cells = confounding.cells_of(made_up())
    assert cells == [(0, 0), (1, 0), (1, 1), (2, 1)]  # west has one class
    assert confounding.weights_of(cells).tolist() == [0.25] * 4
    assert confounding.weights_of([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)])[-1] == 0.25


def test_what_is_lost_by_hand():
    """Of class b only the images of south are recognised: 30 of 40, and one of two origins."""
    data = made_up()
    answers = said(data, lambda k, o: 0 if (k, o) == (1, 0) else k)
    lost = confounding.mixed_equally(data, answers, None, 100).summary()
    assert lost["usual"]["mean"] == pytest.approx(0.25 + 0.5 * 0.75 + 0.25)
    assert lost["independent"]["mean"] == pytest.approx(0.75)
    assert lost["lost"]["mean"] == pytest.approx(0.125)
    assert 0 < lost["lost"]["low"] < 0.125 < lost["lost"]["high"] < 0.25


def test_a_perfect_network_loses_nothing_and_the_same_network_no_more_than_itself():
    data = made_up()
    perfect = confounding.mixed_equally(data, said(data, lambda k, o: k), None, 100)
    assert perfect.summary()["lost"] == {"mean": 0, "low": 0, "high": 0}
    shortcut = confounding.mixed_equally(data, said(data, lambda k, o: o), None, 100)
    assert shortcut.minus(shortcut)["difference"] == 0
    assert shortcut.minus(perfect)["difference"] == shortcut.estimates["lost"].mean


def test_networks_are_paired_with_themselves():
    """Two networks of unequal quality that lose equally much: the interval shows no difference."""
    data = made_up()
    answers = np.concatenate([said(data, lambda k, o: k), said(data, lambda k, o: 0)])
    lost = confounding.mixed_equally(data, answers, None, 100).summary()
    assert lost["usual"]["low"] == 0 and lost["usual"]["high"] == 1  # t of one degree of freedom
    assert lost["lost"]["mean"] == lost["lost"]["low"] == lost["lost"]["high"] == 0


def test_knowing_the_origin_alone_has_no_use_within_one():
    data = made_up()
    alone = confounding.by_origin_alone(data)
    lost = confounding.mixed_equally(data, alone, None, 100).summary()
    assert lost["independent"]["mean"] == pytest.approx(0.5)
    assert lost["usual"]["mean"] > 0.5


def test_within_an_origin_its_own_classes_alone_can_be_asked_for():
    data = made_up()
    rows = list(confounding.within(data, said(data, lambda k, o: 2), None, 100))
    assert [row["origin"] for row in rows] == ["north", "south"]
    north, south = rows
    assert north["images"] == {"a": 40, "b": 10} and north["chance"] == 0.5
    assert north["accuracy"]["mean"] == 0 and north["restricted"]["mean"] == 0.5
    assert south["sensitivity"]["c"]["mean"] == 1 and south["accuracy"]["mean"] == 0.4


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Study:
    """A tiny study of the phantom."""
    values = profile().model_dump(mode="json")
    values["data"] |= {"images": 900, "image_size_px": 16}
    out = tmp_path_factory.mktemp("confounding")
    return Study(type(profile())(**values), "phantom", out, "cpu")


def test_the_phantom_is_trained_on_one_version_and_tested_on_both(phantom):
    rows = [row for measured in confounding.of_phantom(phantom) for row in measured]
    assert [row["method"] for row in rows] == list(confounding.METHODS)
    ours = confounding.of_version(phantom, "confounded")
    for row in rows:
        assert row["lost"]["mean"] == pytest.approx(
            row["usual"]["mean"] - row["independent"]["mean"]
        )
        scored = ours.scored(row["method"]).scores["balanced_accuracy"]
        assert row["usual"]["mean"] == pytest.approx(scored["mean"])
    assert [one["against"] for one in rows[-1]["against"]] == list(confounding.METHODS[:-1])


def test_networks_trained_again_are_those_that_were_scored(phantom):
    ours = confounding.of_version(phantom, "confounded")
    for method in ("random_balanced", "distilled"):
        own, again = confounding.answers_on_both(ours, method, ours.data)
        assert np.abs(own - again).max() < 1e-5


def test_the_record_is_written_row_by_row_and_again_in_place(phantom, tmp_path):
    path = tmp_path / "confounding-phantom.json"
    for _ in range(2):
        for rows in confounding.of_origins(phantom):
            confounding.write_rows(phantom, path, rows, confounding.SETTING)
    rows = json.loads(path.read_text())["rows"]
    places = [(row["part"], row["method"], row.get("origin")) for row in rows]
    assert len(set(places)) == len(places)
    assert {row["method"] for row in rows} == {confounding.ORIGIN_ALONE, *confounding.METHODS}


def test_an_unknown_part_is_refused(tmp_path):
    values = ["--data", "phantom", "--part", "nothing", "--save", str(tmp_path)]
    assert CliRunner().invoke(confounding.main, values).exit_code == 2
