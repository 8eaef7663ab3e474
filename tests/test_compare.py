"""The comparison on a study so small that a test can afford it: its rows, its rules, its cache, and its paired test."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medddist import compare, contenders, metrics, probes
from medddist.architectures import ArchitectureSettings
from medddist.baselines.condensing import CondenseSettings
from medddist.baselines.pretraining import PretrainSettings
from medddist.baselines.transfer import Unavailable
from medddist.compare import LABELS, TABLES, Comparison, Entry, Measured, verdict, verdict_lines
from medddist.data.parts import Part
from medddist.errors import InputError
from medddist.profile import CompareSettings
from medddist.study import Study
from medddist.training import Diverged
from small import CLASSES
from test_study import changed, made_up, profile

TINY = CompareSettings(
    evaluation_seeds=2, epochs=2, learning_rates=(0.02, 0.05), grid=(0.5, 1.0), unseen_networks=("mlp", "convnet_wide"),
    architectures=ArchitectureSettings(width=4, vit_width=8, vit_depth=1, vit_heads=2, vit_patches_per_side=2, mlp_width=8),
    pretrain=PretrainSettings(inside_steps=3, released_steps=2, batch_size=8, hidden_width=8, output_width=8, decoder_width=8),
    condense=CondenseSettings(real_images_per_class=4), resamples=100,
)  # fmt: skip


def tiny(out, data=None, **changes) -> Comparison:
    study = Study(changed(profile().model_copy(update={"compare": TINY}), changes), "made up", out, "cpu")
    study.data = data or made_up()
    return Comparison(study)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    tiny(folder).rows()
    return folder


@pytest.fixture(scope="module")
def rows(out) -> list[dict]:
    return tiny(out).rows()


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def refuse(*given, **named):
        raise AssertionError("computed anew")

    for module, names in ((compare, ("train", "predict")), (contenders, ("train", "pretrain", "condense"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_every_method_of_the_issue_has_a_row(rows):
    assert {row["method"] for row in rows} == LABELS.keys() and {row["table"] for row in rows} == TABLES.keys()
    found = {(row["table"], row["method"], row["network"]) for row in rows}
    assert len(found) == len(rows)
    for table in ("released", "inside"):
        for method in ("byol", "simsiam", "skd"):
            assert {(table, method, network) for network in ("convnet", "resnet18", "vit")} <= found
        assert (table, "mae", "vit") in found
    assert all(row["status"] in ("measured", "unavailable") and bool(row["reason"]) == (row["status"] == "unavailable") for row in rows)


def test_what_cannot_be_measured_says_why_and_has_no_figure(rows):
    missing = {row["method"]: row for row in rows if row["status"] == "unavailable"}
    assert missing.keys() >= {"transfer_site", "transfer_phantom"}
    assert "which site" in missing["transfer_site"]["reason"] and "accuracy" not in missing["transfer_site"]


def test_every_measured_row_has_scores_cost_and_what_leaves(rows):
    json.dumps(rows, allow_nan=False)
    for row in (row for row in rows if row["status"] == "measured"):
        assert {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "per_class", "confusion"} <= row.keys()
        assert row["bytes_released"] >= 1 and isinstance(row["real_images_leave"], bool)
        assert row["seconds"] is None or row["seconds"] >= 0
        assert row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"]
    by = {(row["table"], row["method"], row["network"]): row for row in rows}
    made, taken = by["released", "distilled", "convnet"], by["released", "herding", "convnet"]
    assert made["bytes_released"] == 6 * 64 * 4 + 6 and not made["real_images_leave"]
    assert taken["bytes_released"] == 6 * 64 + 6 and taken["real_images_leave"]
    assert not by["inside", "byol", "convnet"]["real_images_leave"] and by["released", "byol", "convnet"]["real_images_leave"]


def test_transfer_learns_elsewhere_and_starts_from_there(tmp_path):
    """From the phantom, to data of 16 px; from a site, where the data names several."""
    small = made_up()
    larger = lambda part, origins: Part(part.images.repeat(2, 2).repeat(2, 3), part.labels, part.groups, origins)
    parts = {name: larger(part, np.arange(len(part)) % 2) for name, part in small.parts().items()}
    one = tiny(tmp_path, replace(small, **parts, origin_names=("a", "b"), fingerprint="larger"), **{"compare.phantom_images": 100})
    for method, images in (("transfer_phantom", "images of the phantom"), ("transfer_site", "20 labelled training images of a")):
        found = one.measured(Entry("released", method))
        assert images in found.about["source"] and found.probabilities.shape == (2, 18, CLASSES)
        ready, fresh = one.prepare(Entry("released", method), one.network("convnet")).ready(1.0, 0), one.fresh(one.network("convnet"), 0)
        assert not torch.equal(ready.start, fresh) and torch.equal(ready.images, one.drawn(0)[0])


def test_transfer_from_the_phantom_is_for_whatever_is_not_the_phantom_by_any_name(tmp_path):
    for is_phantom, reason in ((True, "the data is the phantom itself"), (False, "the phantom has 16 to 512 px, not 8")):
        one = tiny(tmp_path, replace(made_up(), source="phantom", is_phantom=is_phantom))
        with pytest.raises(Unavailable, match=reason):
            one.measured(Entry("released", "transfer_phantom"))


def test_self_supervision_is_watched_for_collapse(rows):
    learned = [row for row in rows if row["method"] in compare.SELF_SUPERVISED]
    assert len(learned) == 20 and all(0 <= row["spread_of_outputs"]["end"] and row["collapsed"] in (True, False) for row in learned)


def test_the_budget_is_equal_and_told(rows):
    budgets = {row["images_processed_a_preparation"] for row in rows if row["table"] == "inside" and row["method"] in compare.SELF_SUPERVISED}
    assert budgets == {2 * 3 * 8}
    condensed = [row for row in rows if row["method"] in compare.CONDENSED]
    assert all(0.5 <= row["images_processed_a_preparation"] / 48 <= 1 for row in condensed)


def test_everybody_is_tuned_over_the_same_points(rows):
    points = {}
    for row in (row for row in rows if "tried_on_validation" in row):
        points.setdefault(row["method"], {(one["factor"], one["learning_rate"]) for one in row["tried_on_validation"]})
        best = max(row["tried_on_validation"], key=lambda one: one["score"])
        assert row["chosen"] == {"learning_rate": best["learning_rate"], "factor": best["factor"]}
    plain, with_own = {(None, 0.02), (None, 0.05)}, {(f, r) for f in (0.5, 1.0) for r in (0.02, 0.05)}
    own = {*compare.SELF_SUPERVISED, *compare.CONDENSED, "transfer_phantom"} & points.keys()
    for method, found in points.items():
        assert found >= plain if method == "distilled" else found == (with_own if method in own else plain)
    assert len(points["distilled"]) == 3, "the step size that it learned is one more"


# ---- what each method is given ---------------------------------------------------------------------------------------


def test_seeds_share_draws_and_initial_weights(out):
    one = tiny(out)
    network = one.network("convnet")
    for k in (0, 1):
        drawn, start = one.drawn(k), one.fresh(network, k)
        for method in ("scratch", "random_real"):
            ready = one.prepare(Entry("released", method), network).ready(None, k)
            assert torch.equal(ready.images, drawn[0]) and torch.equal(ready.start, start)
        ready = one.prepare(Entry("released", "byol"), network).ready(1.0, k)
        assert torch.equal(ready.labels, drawn[1]) and not torch.equal(ready.start, start)
        own, plain = network.named(ready.start), network.named(start)
        assert torch.equal(own["linear.weight"], plain["linear.weight"])
    assert not torch.equal(one.drawn(0)[0], one.drawn(1)[0])
    assert torch.bincount(one.drawn(0)[1]).tolist() == [2, 2, 2]


def test_on_released_images_self_supervision_sees_those_alone(tmp_path, monkeypatch):
    one, seen = tiny(tmp_path), []
    pretrain = contenders.pretrain
    monkeypatch.setattr(contenders, "pretrain", lambda *given: (seen.append(given[2]), pretrain(*given))[1])
    one.measured(Entry("released", "simsiam"))
    allowed = [one.drawn(0)[0], one.drawn(1)[0]]
    assert len(seen) == 3 and all(any(torch.equal(images, drawn) for drawn in allowed) for images in seen)
    seen.clear()
    one.measured(Entry("inside", "simsiam"))
    assert len(seen) == 2 and all(torch.equal(images, one.study.tensors("train")[0]) for images in seen)


def test_labels_of_the_test_part_have_no_say(out, tmp_path):
    plain, shuffled = tiny(out), tiny(tmp_path, made_up(shuffle_test=True))
    for entry in (Entry("inside", "byol"), Entry("released", "gradient_matching"), Entry("released", "herding")):
        a, b = plain.measured(entry), shuffled.measured(entry)
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-3)
        assert a.about["chosen"] == b.about["chosen"]


def test_a_preparation_that_diverges_loses_and_where_all_do_it_is_said(tmp_path, monkeypatch):
    one, condense = tiny(tmp_path), contenders.condense

    def fragile(*given, **named):
        if given[6] > 0.6:
            raise Diverged("learning_rate: too large")
        return condense(*given, **named)

    monkeypatch.setattr(contenders, "condense", fragile)
    assert one.measured(Entry("released", "distribution_matching")).about["chosen"]["factor"] == 0.5
    monkeypatch.setattr(contenders, "condense", lambda *given, **named: fragile(*given[:6], 9.0))
    with pytest.raises(InputError, match="^compare.grid: "):
        tiny(tmp_path / "other").measured(Entry("released", "distribution_matching"))


# ---- kept, and gone on with ------------------------------------------------------------------------------------------


def test_asked_again_it_is_read(out, rows, nothing_is_computed):
    assert json.dumps(tiny(out).rows()) == json.dumps(rows)


def test_what_a_worker_measures_is_read_by_whoever_asked(tmp_path, monkeypatch):
    compared, probe = Entry("released", "random_real"), Entry("probe", "random")
    compare._measured_in_a_worker(tiny(tmp_path).study, compared)
    probes._probed_in_a_worker(tiny(tmp_path).study, probe)
    for computing in ((Comparison, "_measure"), (probes, "_probe")):
        monkeypatch.setattr(*computing, lambda *given: pytest.fail("computed anew"))
    assert tiny(tmp_path).measured(compared).probabilities.shape == (2, 18, CLASSES)
    assert probes.probed(tiny(tmp_path), probe)[0].shape == (2, 18, CLASSES)


def test_a_comparison_that_is_killed_between_methods_goes_on(tmp_path, monkeypatch):
    measure, done = Comparison._measure, []

    def killed(self, entry):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(entry)
        return measure(self, entry)

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(Comparison, "_measure", killed)
        tiny(tmp_path).rows(("released",))
    kept = list((tmp_path / "compare").rglob("result.safetensors"))
    assert len(kept) == 4
    before = {path: path.stat().st_mtime_ns for path in kept}
    monkeypatch.setattr(Comparison, "_measure", lambda self, entry: (done.append(entry), measure(self, entry))[1])
    tiny(tmp_path).rows(("released",))
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert len({(entry.method, entry.network) for entry in done}) == len(done), "no method was measured twice"


CHANGES = [
    ({"resamples": 200}, set()),
    ({"compare.unseen_networks": ["mlp"]}, set()),
    ({"compare.epochs": 3}, {"scratch", "byol", "gradient_matching", "distilled"}),
    ({"compare.grid": [1.0]}, {"byol", "gradient_matching"}),
    ({"compare.pretrain.learning_rate": 1e-3}, {"byol"}),
    ({"compare.condense.momentum": 0.1}, {"gradient_matching"}),
    ({"compare.condense.learning_rate_gradient_matching": 0.2}, {"gradient_matching"}),
    ({"distill.iterations": 3}, {"distilled"}),
    ({"compare.architectures.vit_width": 16}, set()),
    ({"evaluate.seed": 1}, {"scratch", "byol", "gradient_matching", "distilled"}),
]


@pytest.mark.parametrize("changes, anew", CHANGES, ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "")
def test_a_changed_setting_computes_what_depends_on_it(out, monkeypatch, changes, anew):
    class Recomputed(Exception):
        pass

    def refuse(self, entry):
        raise Recomputed

    monkeypatch.setattr(Comparison, "_measure", refuse)
    found = set()
    for method in ("scratch", "byol", "gradient_matching", "distilled"):
        try:
            tiny(out, **changes).measured(Entry("inside" if method == "byol" else "released", method))
        except Recomputed:
            found.add(method)
    assert found == anew


# ---- the paired test -------------------------------------------------------------------------------------------------


class MadeUp(Comparison):
    """Networks that are right about a known share of 300 test images."""

    def __init__(self, shares: dict[str, float], seeds: int = 5):
        rng = np.random.default_rng(0)
        labels = np.arange(300) % CLASSES

        def said(share: float) -> Measured:
            right = rng.random((seeds, 300)) < share
            return Measured(np.eye(CLASSES)[np.where(right, labels, (labels + 1) % CLASSES)], {}, {})

        self.measured_by_method = {method: said(share) for method, share in shares.items()}
        test = type("Test", (), {"labels": labels, "groups": np.arange(300)})
        self.study = type("Study", (), {"data": type("Data", (), {"test": test})})
        self.settings = CompareSettings(resamples=1000)

    def leads(self) -> dict[str, dict]:
        measured = {Entry("released", method): found for method, found in self.measured_by_method.items()}
        rows = {entry: {} for entry in measured}
        self._add_leads(rows, measured)
        return {entry.method: row["distilled_lead"] for entry, row in rows.items() if "distilled_lead" in row}


def test_leads_on_made_up_data_have_their_known_sign_and_size():
    leads = MadeUp({"distilled": 0.7, "scratch": 0.5, "byol": 0.7, "full_good": 0.9}).leads()
    assert leads.keys() == {"scratch", "byol", "full_good"}
    assert {m: lead["balanced_accuracy"]["verdict"] for m, lead in leads.items()} == {
        "scratch": "ahead", "byol": "not told apart", "full_good": "behind",
    }  # fmt: skip
    for method, truth in (("scratch", 0.2), ("byol", 0.0), ("full_good", -0.2)):
        for metric in ("accuracy", "balanced_accuracy"):
            lead = leads[method][metric]
            assert lead["low"] <= truth <= lead["high"] and lead["difference"] == pytest.approx(truth, abs=0.05)


def test_evaluation_seeds_that_share_a_distillation_are_not_independent(tmp_path):
    one = tiny(tmp_path, **{"seeds": [0, 1], "compare.evaluation_seeds": 3})
    distilled, scratch = (one.measured(Entry("released", method)) for method in ("distilled", "scratch"))
    assert distilled.scores["interval"]["networks"] == 3 and distilled.scores["interval"]["independent"] == 2
    assert distilled.sets.tolist() == [0, 1, 0] and scratch.scores["interval"]["independent"] == 3


def test_leads_are_corrected_for_their_number():
    leads = MadeUp({"distilled": 0.7, "scratch": 0.5, "byol": 0.66, "skd": 0.68}).leads()
    plain = [lead["accuracy"]["p_two_sided"] for lead in leads.values()]
    assert [lead["accuracy"]["p_holm"] for lead in leads.values()] == metrics.holm(plain)
    assert all(lead["accuracy"]["p_holm"] >= lead["accuracy"]["p_two_sided"] for lead in leads.values())


@pytest.mark.parametrize("difference, p, said", [(0.1, 0.01, "ahead"), (-0.1, 0.01, "behind"), (0.1, 0.05, "not told apart"), (0.1, None, "not told apart")])
def test_a_verdict_needs_a_small_corrected_p(difference, p, said):
    assert verdict(difference, p) == said


def test_it_is_said_where_the_distilled_images_do_not_win(rows):
    lines = verdict_lines(rows)
    assert len(lines) == 3 * len(TABLES) and sum("BEHIND" in line for line in lines) == len(TABLES)
    told = " ".join(lines)
    assert all(f"{row['label']} ({row['network']})" in told for row in rows if "distilled_lead" in row)
