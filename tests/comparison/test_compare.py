"""The comparison on a study so small that a test can afford it: its rows, its rules, its cache, and
its paired test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import CLASSES
from test_study import changed, made_up, profile

from medddist.base.errors import InputError, NotApplicable
from medddist.baselines.architectures import ARCHITECTURES, ArchitectureSettings
from medddist.baselines.condensing import CondenseSettings
from medddist.baselines.pretraining import PretrainSettings
from medddist.comparison import contenders, probes, tables
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED, prepare
from medddist.comparison.shared import LABELS, Entry, drawn, fresh, network_of
from medddist.comparison.tables import (
    TABLES,
    VERDICTS,
    comparison_rows,
    measured,
    verdict,
    verdict_lines,
)
from medddist.data.parts import Part
from medddist.measure import metrics
from medddist.method.training import Diverged
from medddist.study.scores import Scored
from medddist.study.settings import CompareSettings
from medddist.study.study import Study

TINY = CompareSettings(
    evaluation_seeds=2,
    epochs=2,
    learning_rates=(0.02, 0.05),
    grid=(0.5, 1.0),
    unseen_networks=("mlp", "convnet_wide"),
    architectures=ArchitectureSettings(
        width=4, vit_width=8, vit_depth=1, vit_heads=2, vit_patches_per_side=2, mlp_width=8
    ),
    pretrain=PretrainSettings(
        inside_steps=3,
        released_steps=2,
        batch_size=8,
        hidden_width=8,
        output_width=8,
        decoder_width=8,
    ),
    condense=CondenseSettings(real_images_per_class=4),
    resamples=100,
)


def tiny(out, data=None, **changes) -> Study:
    compared = changed(profile().model_copy(update={"compare": TINY}), changes)
    study = Study(compared, "made up", out, "cpu")
    study.data = data or made_up()
    return study


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    comparison_rows(tiny(folder))
    return folder


@pytest.fixture(scope="module")
def rows(out) -> list[dict]:
    return comparison_rows(tiny(out))


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def refuse(*given, **named):
        raise AssertionError("computed anew")

    for module, names in (
        (tables, ("train", "probabilities")),
        (contenders, ("train", "pretrain", "condense")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)


# ---- rows ----------------------------------------------------------------------------------------


def test_every_method_of_the_issue_has_a_row(rows):
    # rows of the evaluation and of probes
    elsewhere = {"initial", "random_balanced", "random_teachers", "herding_teachers", "random"}
    assert {row["method"] for row in rows} == LABELS.keys() - elsewhere
    assert {row["table"] for row in rows} == TABLES.keys()
    found = {(row["table"], row["method"], row["network"]) for row in rows}
    assert len(found) == len(rows)
    for table in ("released", "inside"):
        for method in ("byol", "simsiam", "skd"):
            assert {(table, method, network) for network in ("convnet", "resnet18", "vit")} <= found
        assert (table, "mae", "vit") in found
    assert all(
        row["status"] in ("measured", "unavailable")
        and bool(row["reason"]) == (row["status"] == "unavailable")
        for row in rows
    )


def test_what_cannot_be_measured_says_why_and_has_no_figure(rows):
    missing = {row["method"]: row for row in rows if row["status"] == "unavailable"}
    assert missing.keys() >= {"transfer_site", "transfer_phantom"}
    assert (
        "which site" in missing["transfer_site"]["reason"]
        and "accuracy" not in missing["transfer_site"]
    )


def test_every_measured_row_has_scores_cost_and_what_leaves(rows):
    json.dumps(rows, allow_nan=False)
    for row in (row for row in rows if row["status"] == "measured"):
        assert {
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "auroc",
            "per_class",
            "confusion",
        } <= row.keys()
        assert row["bytes_released"] >= 1 and isinstance(row["real_images_leave"], bool)
        assert row["seconds"] is None or row["seconds"] >= 0
        assert row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"]
    by = {(row["table"], row["method"], row["network"]): row for row in rows}
    made, taken = by["released", "distilled", "convnet"], by["released", "herding", "convnet"]
    assert made["bytes_released"] == 6 * 64 + 6 and not made["real_images_leave"]
    assert taken["bytes_released"] == 6 * 64 + 6 and taken["real_images_leave"]
    assert (
        not by["inside", "byol", "convnet"]["real_images_leave"]
        and by["released", "byol", "convnet"]["real_images_leave"]
    )


def test_transfer_learns_elsewhere_and_starts_from_there(tmp_path):
    """From the phantom, to data of 16 px; from a site, where the data names several."""
    small = made_up()
    larger = lambda part, origins: Part(
        part.images.repeat(2, 2).repeat(2, 3), part.labels, part.groups, origins
    )
    parts = {name: larger(part, np.arange(len(part)) % 2) for name, part in small.parts().items()}
    data = replace(small, **parts, origin_names=("a", "b"), fingerprint="larger")
    study = tiny(tmp_path, data, **{"compare.phantom_images": 100})
    network = network_of(study, "convnet")
    for method, images in (
        ("transfer_phantom", "images of the phantom"),
        ("transfer_site", "20 labelled training images of a"),
    ):
        entry = Entry("released", method)
        scored = measured(study, entry)
        assert images in scored.about["source"] and scored.probabilities.shape == (2, 18, CLASSES)
        ready = prepare(study, entry).ready(network, 1.0, 0)
        assert not torch.equal(ready.start, fresh(study, network, 0))
        assert torch.equal(ready.images, drawn(study, 0)[0])


def test_transfer_from_the_phantom_is_for_whatever_is_not_the_phantom_by_any_name(tmp_path):
    for is_phantom, reason in (
        (True, "the data is the phantom itself"),
        (False, "the phantom has 16 to 512 px, not 8"),
    ):
        study = tiny(tmp_path, replace(made_up(), source="phantom", is_phantom=is_phantom))
        with pytest.raises(NotApplicable, match=reason):
            measured(study, Entry("released", "transfer_phantom"))


def test_self_supervision_is_watched_for_collapse(rows):
    learned = [row for row in rows if row["method"] in SELF_SUPERVISED]
    assert len(learned) == 20 and all(
        0 <= row["spread_of_outputs"]["end"] and row["collapsed"] in (True, False)
        for row in learned
    )


def test_the_budget_is_equal_and_told(rows):
    budgets = {
        row["images_processed_a_preparation"]
        for row in rows
        if row["table"] == "inside" and row["method"] in SELF_SUPERVISED
    }
    assert budgets == {2 * 3 * 8}
    condensed = [row for row in rows if row["method"] in CONDENSED]
    assert all(0.5 <= row["images_processed_a_preparation"] / 48 <= 1 for row in condensed)


def test_everybody_is_tuned_over_the_same_points(rows):
    points = {}
    for row in (row for row in rows if "tried_on_validation" in row):
        points.setdefault(
            row["method"],
            {(one["factor"], one["learning_rate"]) for one in row["tried_on_validation"]},
        )
        best = max(row["tried_on_validation"], key=lambda one: one["score"])
        assert row["chosen"] == {"learning_rate": best["learning_rate"], "factor": best["factor"]}
    plain, with_own = (
        {(None, 0.02), (None, 0.05)},
        {(f, r) for f in (0.5, 1.0) for r in (0.02, 0.05)},
    )
    own = {*SELF_SUPERVISED, *CONDENSED, "transfer_phantom"} & points.keys()
    for method, found in points.items():
        assert (
            found >= plain
            if method == "distilled"
            else found == (with_own if method in own else plain)
        )
    assert len(points["distilled"]) == 3, "the step size that it learned is one more"


# ---- what each method is given -------------------------------------------------------------------


def test_seeds_share_draws_and_initial_weights(out):
    study = tiny(out)
    network = network_of(study, "convnet")
    for k in (0, 1):
        (images, labels), start = drawn(study, k), fresh(study, network, k)
        ready = prepare(study, Entry("released", "random_real")).ready(network, None, k)
        assert torch.equal(ready.images, images) and torch.equal(ready.start, start)
        ready = prepare(study, Entry("released", "byol")).ready(network, 1.0, k)
        assert torch.equal(ready.labels, labels) and not torch.equal(ready.start, start)
        own, plain = network.named(ready.start), network.named(start)
        assert torch.equal(own["linear.weight"], plain["linear.weight"])
    assert not torch.equal(drawn(study, 0)[0], drawn(study, 1)[0])
    assert torch.bincount(drawn(study, 0)[1]).tolist() == [2, 2, 2]


def test_on_released_images_self_supervision_sees_those_alone(tmp_path, monkeypatch):
    study, seen = tiny(tmp_path), []
    pretrain = contenders.pretrain
    monkeypatch.setattr(
        contenders, "pretrain", lambda *given: (seen.append(given[2]), pretrain(*given))[1]
    )
    measured(study, Entry("released", "simsiam"))
    allowed = [drawn(study, k)[0] for k in (0, 1)]
    assert len(seen) == 3 and all(any(torch.equal(x, images) for images in allowed) for x in seen)
    seen.clear()
    measured(study, Entry("inside", "simsiam"))
    everything = study.tensors("train")[0]
    assert len(seen) == 2 and all(torch.equal(images, everything) for images in seen)


def test_labels_of_the_test_part_have_no_say(out, tmp_path):
    plain, shuffled = tiny(out), tiny(tmp_path, made_up(shuffle_test=True))
    for entry in (
        Entry("inside", "byol"),
        Entry("released", "gradient_matching"),
        Entry("released", "herding"),
    ):
        a, b = measured(plain, entry), measured(shuffled, entry)
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-3)
        assert a.about["chosen"] == b.about["chosen"]


def test_a_preparation_that_diverges_loses_and_where_all_do_it_is_said(tmp_path, monkeypatch):
    condense, entry = contenders.condense, Entry("released", "distribution_matching")

    def fragile(*given, **named):
        if given[6] > 0.6:
            raise Diverged("learning_rate: too large")
        return condense(*given, **named)

    monkeypatch.setattr(contenders, "condense", fragile)
    assert measured(tiny(tmp_path), entry).about["chosen"]["factor"] == 0.5
    monkeypatch.setattr(contenders, "condense", lambda *given, **named: fragile(*given[:6], 9.0))
    with pytest.raises(InputError, match="^compare.grid: "):
        measured(tiny(tmp_path / "other"), entry)


# ---- kept, and gone on with ----------------------------------------------------------------------


def test_asked_again_it_is_read(out, rows, nothing_is_computed):
    assert json.dumps(comparison_rows(tiny(out))) == json.dumps(rows)


def test_what_a_worker_measures_is_read_by_whoever_asked(tmp_path, monkeypatch):
    compared, probe = Entry("released", "random_real"), Entry("probe", "random")
    measured(tiny(tmp_path), compared)
    probes.probed(tiny(tmp_path), probe)
    for computing in ((tables, "_measure"), (probes, "_probe")):
        monkeypatch.setattr(*computing, lambda *given: pytest.fail("computed anew"))
    assert measured(tiny(tmp_path), compared).probabilities.shape == (2, 18, CLASSES)
    assert probes.probed(tiny(tmp_path), probe)[0].shape == (2, 18, CLASSES)


def test_a_comparison_that_is_killed_between_methods_goes_on(tmp_path, monkeypatch):
    measure, done, limit = tables._measure, [], 4

    def killed(study, entry, prepared):
        if len(done) == limit:
            raise KeyboardInterrupt
        done.append(entry)
        return measure(study, entry, prepared)

    monkeypatch.setattr(tables, "_measure", killed)
    with pytest.raises(KeyboardInterrupt):
        comparison_rows(tiny(tmp_path), ("released",))
    cached = list((tmp_path / "compare").rglob("result.safetensors"))
    assert len(cached) == limit
    before, limit = {path: path.stat().st_mtime_ns for path in cached}, None
    comparison_rows(tiny(tmp_path), ("released",))
    assert {path: path.stat().st_mtime_ns for path in cached} == before
    assert len({(entry.method, entry.network) for entry in done}) == len(done), "each once"


CHANGES = [
    ({"resamples": 200}, set()),
    ({"compare.unseen_networks": ["mlp"]}, set()),
    ({"compare.epochs": 3}, {"random_real", "byol", "gradient_matching", "distilled"}),
    ({"compare.grid": [1.0]}, {"byol", "gradient_matching"}),
    ({"compare.pretrain.learning_rate": 1e-3}, {"byol"}),
    ({"compare.condense.momentum": 0.1}, {"gradient_matching"}),
    ({"compare.condense.learning_rate_gradient_matching": 0.2}, {"gradient_matching"}),
    ({"distill.iterations": 3}, {"distilled"}),
    ({"compare.architectures.vit_width": 16}, set()),
    ({"evaluate.seed": 1}, {"random_real", "byol", "gradient_matching", "distilled"}),
]


@pytest.mark.parametrize(
    "changes, anew",
    CHANGES,
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_computes_what_depends_on_it(out, monkeypatch, changes, anew):
    class Recomputed(Exception):
        pass

    def refuse(*given):
        raise Recomputed

    monkeypatch.setattr(tables, "_measure", refuse)
    found = set()
    for method in ("random_real", "byol", "gradient_matching", "distilled"):
        table = "inside" if method == "byol" else "released"
        try:
            measured(tiny(out, **changes), Entry(table, method))
        except Recomputed:
            found.add(method)
    assert found == anew


# ---- the paired test -----------------------------------------------------------------------------


def made_up_leads(shares: dict[str, float], seeds: int = 5) -> dict[str, dict]:
    """Leads over networks that are right about a known share of 300 test images."""
    rng, labels = np.random.default_rng(0), np.arange(300) % CLASSES

    def scored(method: str, share: float) -> Scored:
        right = rng.random((seeds, 300)) < share
        answers = np.eye(CLASSES)[np.where(right, labels, (labels + 1) % CLASSES)]
        return Scored(method, answers, {}, {})

    results = {Entry("released", m): scored(m, share) for m, share in shares.items()}
    test = SimpleNamespace(labels=labels, groups=np.arange(300))
    compare = CompareSettings(resamples=1000)
    study = SimpleNamespace(
        data=SimpleNamespace(test=test), profile=SimpleNamespace(compare=compare)
    )
    rows = {entry: {} for entry in results}
    tables._add_leads(study, rows, results)
    return {e.method: row["distilled_lead"] for e, row in rows.items() if "distilled_lead" in row}


def test_leads_on_made_up_data_have_their_known_sign_and_size():
    leads = made_up_leads({"distilled": 0.7, "random_real": 0.5, "byol": 0.7, "full_good": 0.9})
    assert {m: lead["balanced_accuracy"]["verdict"] for m, lead in leads.items()} == {
        "random_real": "better",
        "byol": "not significantly different",
        "full_good": "worse",
    }
    for method, truth in (("random_real", 0.2), ("byol", 0.0), ("full_good", -0.2)):
        for metric in ("accuracy", "balanced_accuracy"):
            lead = leads[method][metric]
            assert lead["low"] <= truth <= lead["high"]
            assert lead["difference"] == pytest.approx(truth, abs=0.05)


def test_evaluation_seeds_that_share_a_distillation_are_not_independent(tmp_path):
    study = tiny(tmp_path, **{"seeds": [0, 1], "compare.evaluation_seeds": 3})
    distilled, random = (
        measured(study, Entry("released", method)) for method in ("distilled", "random_real")
    )
    interval = distilled.scores["interval"]
    assert (interval["networks"], interval["independent"]) == (3, 2)
    assert distilled.sets.tolist() == [0, 1, 0] and random.scores["interval"]["independent"] == 3


def test_leads_are_corrected_for_their_number():
    leads = made_up_leads({"distilled": 0.7, "random_real": 0.5, "byol": 0.66, "skd": 0.68})
    plain = [lead["accuracy"]["p_two_sided"] for lead in leads.values()]
    corrected = [lead["accuracy"]["p_holm"] for lead in leads.values()]
    assert corrected == metrics.holm(plain) and all(c >= p for c, p in zip(corrected, plain))


@pytest.mark.parametrize(
    "difference, p, said",
    [
        (0.1, 0.01, "better"),
        (-0.1, 0.01, "worse"),
        (0.1, 0.05, "not significantly different"),
        (0.1, None, "not significantly different"),
    ],
)
def test_a_verdict_needs_a_small_corrected_p(difference, p, said):
    assert verdict(difference, p) == said


def test_it_is_said_where_the_distilled_images_do_not_win(rows):
    lines = verdict_lines(rows)
    assert len(lines) == len(VERDICTS) * len(TABLES)
    assert sum("are worse than" in line for line in lines) == len(TABLES)
    text = " ".join(lines)
    leads = [row for row in rows if "distilled_lead" in row]
    assert all(row["label"] in text for row in leads)
    assert all(ARCHITECTURES.get(row["network"], "") in text for row in leads)


@pytest.mark.parametrize(
    "former, text",
    [
        ("ahead", "better than a (ConvNet)"),
        ("behind", "worse than a (ConvNet)"),
        ("not told apart", "not significantly different from a (ConvNet)"),
    ],
)
def test_verdicts_of_former_records_are_read(former, text):
    lead = {"distilled_lead": {"balanced_accuracy": {"verdict": former}}}
    lines = verdict_lines([{"table": "released", "label": "a", "network": "convnet", **lead}])
    assert [line for line in lines if line.endswith(text)] and sum("none" in x for x in lines) == 2
