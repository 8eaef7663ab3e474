"""Linear probes as rows of the comparison."""

from __future__ import annotations

import json

import pytest
from test_compare import TINY, tiny

from medddist.baselines.byol import BYOL
from medddist.comparison import contenders, probes
from medddist.comparison.contenders import SELF_SUPERVISED, prepare
from medddist.comparison.probes import probe_rows
from medddist.comparison.shared import Entry, network_of


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    probe_rows(tiny(folder))
    return folder


def test_every_method_is_held_against_random_features_of_its_network(out):
    rows = probe_rows(tiny(out))
    json.dumps(rows, allow_nan=False)
    found = {(row["method"], row["network"]): row for row in rows}
    assert len(found) == len(rows) == 3 + 10
    for (method, network), row in found.items():
        assert row["table"] == "probe" and 0 <= row["balanced_accuracy"]["mean"] <= 1
        if method == "random":
            assert "lead_over_random" not in row and len(row["chosen"]) == TINY.evaluation_seeds
            continue
        lead = row["lead_over_random"]["balanced_accuracy"]
        expected = (
            row["balanced_accuracy"]["mean"] - found["random", network]["balanced_accuracy"]["mean"]
        )
        assert (
            lead["difference"] == pytest.approx(expected) and lead["p_holm"] >= lead["p_two_sided"]
        )
        tried = {one["factor"]: one["on_validation"] for one in row["tried_on_validation"]}
        assert tried.keys() == set(TINY.grid) and row["chosen"]["on_validation"] == max(
            tried.values()
        )


def test_probes_are_read_when_asked_again_and_share_the_pretraining(out, monkeypatch):
    def refuse(*given):
        raise AssertionError("computed anew")

    monkeypatch.setattr(probes, "linear_probe", refuse)
    monkeypatch.setattr(contenders, "pretrain", refuse)
    assert len(probe_rows(tiny(out))) == 13
    study = tiny(out)
    network = network_of(study, "convnet")
    for method, kind in SELF_SUPERVISED.items():
        if issubclass(kind, BYOL):
            prepare(study, Entry("inside", method)).ready(network, 1.0, 0)
