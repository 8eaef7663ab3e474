"""What weights and sets are worth to a receiver: which images are own, and what rows hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from test_study import made_up, tiny_study

from medddist.study.labels import well_trained
from medddist.study.settings import AuditSettings
from workflow import weights
from workflow.records import merged

QUICK = {"networks": 1, "references": 1, "others": 12, "false_positives": 0.2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    quick = AuditSettings(**QUICK, recipe={"epochs": 2}).model_dump(mode="json")
    changes = {"compare.unseen_networks": ["mlp"], "compare.learning_rates": [0.01]}
    out = tmp_path_factory.mktemp("weights")
    return tiny_study(
        out,
        made_up(fingerprint="0" * 32),
        **changes | {"audit": quick, "compare.tuning_networks": 1},
    )


def test_own_images_are_of_validation_and_tune_nothing(study):
    (images, labels), (rest, left) = weights.own_images(study, 0)
    assert torch.bincount(labels).tolist() == [2, 2, 2]  # half of the four of each class
    assert len(left) == len(study.data.validation) - len(labels)
    together = torch.cat([images, rest]).flatten(1)
    assert len(together.unique(dim=0)) == len(study.data.validation)
    assert not torch.equal(weights.own_images(study, 1)[0][0], images)


def test_weights_at_rate_zero_are_as_they_were_sent(study):
    own = weights.own_images(study, 0)[0]
    theta = weights.training_on(study, weights.WEIGHTS)(0, own, 0.0)
    assert torch.equal(theta, well_trained(study)[0])


def test_uses_are_compared_with_one_another_and_cached(study, tmp_path, monkeypatch):
    path = tmp_path / "weights-x.json"
    for rows in weights.of_uses(study):
        weights.write_rows(study, path, rows, weights.SETTING)
    rows = json.loads(path.read_text())["rows"]
    places = [(row["what"], row["received"], row["status"]) for row in rows]
    assert places == [
        (weights.AS_SENT, "weights", "measured"),
        (weights.AS_SENT, "set", "measured"),
        (weights.WITH_OWN, "nothing", "measured"),
        (weights.WITH_OWN, "weights", "measured"),
        (weights.WITH_OWN, "set", "measured"),
        (weights.OTHER, "weights", "not possible"),
        (weights.OTHER, "set", "measured"),
    ]
    paired = rows[1]["differences"][1]
    assert (paired["against"], paired["metric"]) == ("weights", "balanced_accuracy")
    means = [row["balanced_accuracy"]["mean"] for row in rows[:2]]
    assert paired["difference"] == pytest.approx(means[1] - means[0])
    assert {each["against"] for each in rows[4]["differences"]} == {"nothing", "weights"}
    assert rows[0]["sent_bytes"] == 4 * study.network().parameter_count
    monkeypatch.setattr(weights, "tuned", lambda *given: pytest.fail("computed again"))
    again = [row for each in weights.of_uses(study) for row in each]
    assert merged(rows, json.loads(json.dumps(again)), weights.SETTING) == rows


def test_weights_and_set_are_attacked_alike(study):
    rows = [row for each in weights.of_leaks(study) for row in each]
    assert len(rows) == 8
    for row in rows:
        groups = {"control"} if "real" in row["received"] else {"starting", "others"}
        assert set(row["groups"]) == groups | {"unseen"}


def test_bytes_are_counted(study):
    (rows,) = weights.of_storage(study)
    assert rows[0]["raw"] == 40 * 64 and rows[1]["raw"] == rows[2]["raw"] == 6 * 64
    assert rows[1]["sent"] > rows[1]["raw"]
    assert weights.png_bytes(np.zeros((3, 8, 8), np.uint8)) < 192
