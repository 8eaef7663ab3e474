"""Steps kept under the hash of what they depend on: read when asked for again, computed anew when
something counts.

`PYTHONPATH=tests python tests/study/test_study.py` records the source of every step's modules in
step_sources.json.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import (
    CLASSES,
    SIZE_PX,
    labelled,
    tiny_distill,
    tiny_evaluation,
    tiny_recipe,
    tiny_teachers,
)

import medddist
from medddist.base.compute import where_computed
from medddist.base.errors import InputError
from medddist.base.files import digest, read_json, write_json
from medddist.base.progress import silent
from medddist.base.seeds import generator
from medddist.comparison.contenders import SELF_SUPERVISED
from medddist.comparison.tables import entries
from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.method import evaluate, teachers
from medddist.method.distill import Distillation
from medddist.method.evaluate import random_real, trained_networks
from medddist.method.networks import NetworkSettings
from medddist.method.training import predict
from medddist.study import labels, scores, store, study
from medddist.study.profile import Profile, load_profile
from medddist.study.scores import METHODS, methods_of
from medddist.study.settings import ReferenceSettings
from medddist.study.store import VERSIONS
from medddist.study.study import Study

SOURCES = Path(__file__).with_name("step_sources.json")
REMINDER = (
    "raise VERSIONS[{step!r}] in medddist/study/store.py if results change, then run: "
    "PYTHONPATH=tests python tests/study/test_study.py"
)


# ---- a study small enough to run here ------------------------------------------------------------


def made_up(shuffle_test: bool = False, fingerprint: str = "made up") -> Data:
    """Three parts of 8 px images; optionally with the test part's labels in another order."""

    def part(count: int, seed: int) -> Part:
        images, labels = labelled(count, seed)
        pixels = (images * 40 + 100).clamp(0, 255).to(torch.uint8).numpy()
        return Part(pixels, labels.numpy(), np.arange(count))

    test = part(18, 2)
    if shuffle_test:
        test = Part(test.images, np.random.default_rng(0).permutation(test.labels), test.groups)
    return Data(
        part(40, 0),
        part(12, 1),
        test,
        ("a", "b", "c"),
        fingerprint,
        "made up",
        scaling=Scaling((0.4,), (0.16,)),
    )


def profile(**changes) -> Profile:
    references = ReferenceSettings(
        draws=2,
        learning_rates=(0.01, 0.05),
        tuning_networks=1,
        full_networks=1,
        good_recipe=tiny_recipe(epochs=2),
    )
    settings = {
        "name": "tiny",
        "network": NetworkSettings(width=4, depth=2),
        "teachers": tiny_teachers(),
        "distill": tiny_distill(iterations=4),
        "evaluate": tiny_evaluation(),
        "references": references,
        "resamples": 100,
    }
    return changed(Profile(**settings), changes)


def changed(one: Profile, changes: dict) -> Profile:
    """The profile with changes such as {"distill.iterations": 5}."""
    values = one.model_dump(mode="json")
    for name, value in changes.items():
        *parents, last = name.split(".")
        inner = values
        for parent in parents:
            inner = inner[parent]
        assert last in inner
        inner[last] = value
    return Profile(**values)


def tiny_study(out: Path, data: Data | None = None, progress=silent, **changes) -> Study:
    found = Study(profile(**changes), "made up", out, "cpu", progress)
    found.data = data or made_up()
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of a study of which every step was computed once."""
    folder = tmp_path_factory.mktemp("artifacts")
    tiny_study(folder).table()
    return folder


class Recomputed(Exception):
    pass


@pytest.fixture
def nothing_is_computed(monkeypatch):
    """From here on, training a teacher, distilling or asking networks for predictions is an error."""

    def refuse(*arguments, **named):
        raise Recomputed

    monkeypatch.setattr(teachers, "train", refuse)
    monkeypatch.setattr(evaluate, "train", refuse)
    monkeypatch.setattr(study, "distill", refuse)
    monkeypatch.setattr(scores, "probabilities", refuse)
    monkeypatch.setattr(scores.metrics, "majority_class", refuse)


def same(a: Distillation, b: Distillation) -> bool:
    tensors = [
        (getattr(getattr(a, s), t), getattr(getattr(b, s), t))
        for s in ("distilled", "initial")
        for t in ("images", "labels", "log_step_size")
    ] + [
        (getattr(a, name), getattr(b, name)) for name in ("initial_indices", "losses", "step_sizes")
    ]
    tensors += [(a.pictures[k], b.pictures[k]) for k in a.pictures]
    assert a.pictures.keys() == b.pictures.keys()
    return (
        all(torch.equal(x, y) and x.dtype == y.dtype for x, y in tensors)
        and a.candidates == b.candidates
    )


# ---- derived studies -----------------------------------------------------------------------------


def test_a_derived_study_is_its_own_in_profile_and_data_and_the_same_in_all_else(tmp_path):
    progress = lambda what, done, total: None
    one, other = tiny_study(tmp_path, progress=progress), made_up(fingerprint="other")
    two, three = one.with_(one.profile.changed({"distill.iterations": 2})), one.with_(data=other)
    for found in (two, three):
        assert (found.source, found.out, found.device, found.progress) == (
            one.source,
            one.out,
            one.device,
            progress,
        )
    assert (
        two.data is one.data
        and two.profile.distill.iterations == 2
        and one.profile.distill.iterations == 4
    )
    assert three.data is other and three.profile is one.profile and one.data is not other
    assert three.with_(one.profile.changed({"data.seed": 1})).data is other, (
        "data that were handed over stay"
    )


def test_loaded_data_are_loaded_anew_only_where_they_are_read_otherwise(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        study, "load_data", lambda source, settings, *_: read.append(settings.seed) or made_up()
    )
    one = Study(profile(), "made up", tmp_path, "cpu")
    assert (
        one.with_().with_(one.profile.changed({"distill.iterations": 2})).data
        and one.data
        and read == [0, 0]
    )
    assert one.with_(
        one.profile.changed({"distill.iterations": 2})
    ).with_().data is one.data and read == [0, 0]
    assert one.with_(one.profile.changed({"data.seed": 5})).data and read == [0, 0, 5]


def test_tensors_are_of_the_data_that_a_study_has_now(tmp_path):
    one = tiny_study(tmp_path)
    assert len(one.tensors("train")[0]) == 40
    one.data = Data(
        made_up().test, made_up().validation, made_up().train, ("a", "b", "c"), "other", "made up"
    )
    assert len(one.tensors("train")[0]) == 18


# ---- asked for again -----------------------------------------------------------------------------


def test_a_second_call_reads(out, nothing_is_computed):
    again = tiny_study(out)
    assert len(again.teachers()) == 2 and isinstance(again.distillation(), Distillation)
    for method in methods_of(again.profile):
        assert again.scored(method).probabilities.shape[1:] == (18, CLASSES)


def test_what_is_read_is_what_was_computed(tmp_path, nothing_is_computed, monkeypatch):
    monkeypatch.undo()
    first = tiny_study(tmp_path)
    table = first.table()
    assert json.loads(json.dumps(table)) == json.loads(json.dumps(tiny_study(tmp_path).table()))


# What is changed, and the steps that must be computed anew for it; all others must not.
TEACHERS, DISTILL = "teachers", "distill"
DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD, MAJORITY = (
    "distilled",
    "random_balanced",
    "full_teacher",
    "full_good",
    "majority",
)
EVERYTHING = {TEACHERS, DISTILL, DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD}
CHANGES = [
    ({"resamples": 200}, set()),
    ({"name": "other"}, set()),
    ({"images_per_class": [1]}, set()),
    ({"distill.iterations": 5}, {DISTILL, DISTILLED}),
    ({"distill.learning_rate_images": 2.0}, {DISTILL, DISTILLED}),
    ({"distill.augmentation.shift": 0.1}, {DISTILL, DISTILLED}),
    ({"distill.student_steps": 7}, {DISTILL, DISTILLED}),
    ({"distill.window_steps": 7, "distill.epsilon": 2.0}, set()),  # of other methods
    ({"teachers.teachers": 3}, {TEACHERS, DISTILL, DISTILLED}),
    ({"teachers.teachers": 1}, {DISTILL, DISTILLED}),
    ({"teachers.kept_epochs": 3}, {TEACHERS, DISTILL, DISTILLED}),
    ({"teachers.recipe.learning_rate": 0.01}, {TEACHERS, DISTILL, DISTILLED, FULL_TEACHER}),
    ({"teachers.recipe.sampling": "balanced"}, {TEACHERS, DISTILL, DISTILLED, FULL_TEACHER}),
    ({"seeds": [1]}, {TEACHERS, DISTILL, DISTILLED}),
    ({"evaluate.recipe.epochs": 5}, {DISTILL, DISTILLED, RANDOM}),
    ({"references.draws": 3}, {RANDOM}),
    ({"references.good_recipe.epochs": 3}, {FULL_GOOD}),
    ({"references.full_networks": 2}, {FULL_TEACHER, FULL_GOOD}),
    ({"network.width": 3}, EVERYTHING | {MAJORITY}),
]


def recomputed(one: Study, step: str) -> bool:
    ask = {TEACHERS: one.teachers, DISTILL: one.distillation}.get(step, lambda: one.scored(step))
    try:
        ask()
    except Recomputed:
        return True
    return False


@pytest.mark.parametrize(
    "changes, anew",
    CHANGES,
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_computes_what_depends_on_it(out, nothing_is_computed, changes, anew):
    steps = [TEACHERS, DISTILL, DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD, MAJORITY]
    found = {step for step in steps if recomputed(tiny_study(out, **changes), step)}
    # `references` names a random subset's result as a whole, which is more than needed and never
    # stale.
    assert found - {RANDOM} == anew - {RANDOM} and (RANDOM in found or RANDOM not in anew)


def test_other_data_compute_everything_anew(out, nothing_is_computed):
    for step in [*EVERYTHING, MAJORITY]:
        assert recomputed(tiny_study(out, made_up(fingerprint="other")), step)


def test_the_evaluations_seed_counts_for_the_references(out, nothing_is_computed):
    assert recomputed(tiny_study(out, **{"evaluate.seed": 1}), FULL_GOOD)


@pytest.mark.parametrize(
    "step, anew",
    [
        ("scores", {DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD, MAJORITY}),
        ("distill", {DISTILL, DISTILLED}),
        ("teacher", {TEACHERS, DISTILL, DISTILLED}),
    ],
)
def test_a_raised_version_computes_the_step_and_what_follows_anew(
    out, nothing_is_computed, monkeypatch, step, anew
):
    monkeypatch.setitem(VERSIONS, step, VERSIONS[step] + 1)
    steps = [TEACHERS, DISTILL, DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD, MAJORITY]
    assert {one for one in steps if recomputed(tiny_study(out), one)} == anew


@pytest.mark.parametrize(
    "elsewhere", [{"torch": "1.0", "device": "cpu"}, {"torch": "2.0", "device": "cuda"}]
)
def test_what_another_torch_or_device_computed_is_computed_again_and_told(
    out, nothing_is_computed, monkeypatch, caplog, elsewhere
):
    monkeypatch.setattr(store, "where_computed", lambda device: elsewhere)
    steps = [TEACHERS, DISTILL, DISTILLED, RANDOM, FULL_TEACHER, FULL_GOOD, MAJORITY]
    one = tiny_study(out)
    assert {step for step in steps if recomputed(one, step)} == set(steps)
    (line,) = [line for line in caplog.messages if line.startswith("teacher: ")]
    here = where_computed(torch.device("cpu"))
    assert (
        f"torch {here['torch']} on {here['device']}" in line
        and f"torch {elsewhere['torch']} on {elsewhere['device']}" in line
    )
    assert "computed again" in line and "\n" not in line


def test_nothing_is_told_where_nothing_was_computed_elsewhere(tmp_path, caplog):
    tiny_study(tmp_path).scored("majority")
    tiny_study(tmp_path).scored("majority")
    assert not caplog.messages


def test_more_teachers_are_added_to_those_there_are(tmp_path):
    first = tiny_study(tmp_path).teachers()
    before = {trajectory.path: trajectory.path.stat().st_mtime_ns for trajectory in first}
    told = []
    more = tiny_study(
        tmp_path, progress=lambda what, done, total: told.append(what), **{"teachers.teachers": 3}
    ).teachers()
    assert len(more) == 3 and [trajectory.path for trajectory in more[:2]] == list(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(told) == {"teacher 3 of 3"}
    fewer = tiny_study(tmp_path, **{"teachers.teachers": 1}).teachers()
    assert [trajectory.path for trajectory in fewer] == list(before)[:1]


def settings_of(depends_on: dict) -> dict:
    return {name: value for name, value in depends_on.items() if name not in ("torch", "device")}


def test_what_a_result_depends_on_is_written_beside_it(out):
    for step in ("teacher", "distill", "scores"):
        for folder in (out / step).iterdir():
            says = read_json(folder / "depends_on.json")
            assert (
                folder.name == f"{digest(settings_of(says))}-{says['device']}-torch-{says['torch']}"
                and says["version"] >= 1
                and says["data"]
                and says["network"]["depth"] == 2
            )


def test_a_finished_distillation_leaves_no_checkpoint(out):
    assert (
        not list(out.rglob("unfinished*"))
        and not list(out.rglob("*.part"))
        and not list(out.rglob("*.unfinished"))
    )


def test_an_interrupted_step_leaves_no_result(tmp_path, monkeypatch):
    one = tiny_study(tmp_path)
    one.teachers()

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(study, "_save_distillation", interrupted)
        one.distillation()
    assert not list(tmp_path.rglob("result.safetensors"))
    assert same(one.distillation(), tiny_study(tmp_path / "undisturbed").distillation())


@pytest.mark.parametrize("step", ["teacher", "distill", "scores"])
def test_a_step_that_was_stopped_is_not_done_and_its_sittings_add_up(tmp_path, monkeypatch, step):
    one = tiny_study(tmp_path)
    ask = {
        "teacher": one.teachers,
        "distill": one.distillation,
        "scores": lambda: one.scored("full_good"),
    }[step]
    name = {"teacher": "train_teacher", "distill": "_save_distillation", "scores": "probabilities"}[
        step
    ]
    if step == "distill":
        one.teachers()
    clock = iter(range(0, 10**6, 100))

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(scores if step == "scores" else study, name, interrupted)
        now.setattr(store.time, "monotonic", lambda: next(clock))
        ask()
    assert not list((tmp_path / step).rglob("*.seconds.json")), (
        "only a finished step has a note of its seconds"
    )
    assert (
        step != "scores"
        or not one.is_scored("full_good")
        and scores.seconds_of_scores(one, "full_good") is None
    )
    ask()
    notes = sorted((tmp_path / step).rglob("*.seconds.json"))
    assert read_json(notes[0]) >= 100 and not list((tmp_path / step).rglob("*unfinished*"))
    assert step != "scores" or one.is_scored("full_good")


def test_seconds_noted_without_a_result_do_not_count(tmp_path):
    """As versions to 0.1 left them behind when they were stopped."""
    one = tiny_study(tmp_path)
    write_json(one.distillation_path(0).with_suffix(".seconds.json"), 1000.0)
    assert one.seconds(0)["distillation"] == 0
    one.distillation()
    assert 0 < one.seconds(0)["distillation"] < 1000


@pytest.mark.parametrize("method", ["distilled", "random_balanced", "full_good"])
def test_answers_that_are_not_finite_are_refused_and_never_kept(tmp_path, monkeypatch, method):
    one = tiny_study(tmp_path)
    one.distillation()
    trained = scores.trained_networks
    huge = lambda *given, **named: [1e37 * theta for theta in trained(*given, **named)]
    monkeypatch.setattr(scores, "trained_networks", huge)
    monkeypatch.setattr(labels, "trained_networks", huge)
    with pytest.raises(InputError, match="diverged|lower"):
        one.scored(method)
    assert not list((tmp_path / "scores").rglob("result.safetensors"))


def test_a_damaged_result_is_named(tmp_path):
    one = tiny_study(tmp_path)
    one.scored("majority")
    (path,) = (tmp_path / "scores").rglob("result.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="result.safetensors: .*delete it"):
        one.scored("majority")


def test_the_time_that_steps_took_is_kept(out, nothing_is_computed):
    took = tiny_study(out).seconds(0)
    assert took["teachers"] > 0 and took["distillation"] > 0


# ---- what the steps compute ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distill.initial_images": "average", "distill.averaged_images": 3},
        {"distill.initial_images": "noise"},
        {"distill.selection": "last"},
        {"distill.initial_images": "herding", "distill.labels": "teachers"},
        {"distill.method": "real_loss", "distill.labels": "learned"},
        {"distill.iterations": 0},
    ],
    ids=["real", "average", "noise", "last", "teachers", "real_loss", "none"],
)
def test_a_distillation_is_read_back_as_it_was(tmp_path, monkeypatch, changes):
    kept = []
    keep = study._save_distillation
    monkeypatch.setattr(
        study, "_save_distillation", lambda path, result: (kept.append(result), keep(path, result))
    )
    one = tiny_study(tmp_path, **changes)
    found = one.distillation()
    assert same(found, kept[0]) and found.selected_iteration == kept[0].selected_iteration
    assert same(found, one.distillation()) and len(kept) == 1


def test_labels_of_the_test_part_have_no_say(tmp_path):
    plain, shuffled = (
        tiny_study(tmp_path / str(k), made_up(shuffle_test=k)) for k in (False, True)
    )
    assert not np.array_equal(plain.data.test.labels, shuffled.data.test.labels)
    assert same(plain.distillation(), shuffled.distillation())
    for method in METHODS:
        ours, theirs = plain.scored(method), shuffled.scored(method)
        assert (
            np.array_equal(ours.probabilities, theirs.probabilities) and ours.about == theirs.about
        )
    assert (
        plain.scored("full_good").scores["accuracy"]
        != shuffled.scored("full_good").scores["accuracy"]
    )


@pytest.mark.parametrize(
    "method, networks",
    {
        "distilled": 2,
        "initial": 2,
        "random_balanced": 2,
        "random_natural": 2,
        "full_teacher": 1,
        "full_good": 1,
        "majority": 1,
    }.items(),
)
def test_every_method_is_scored_on_the_test_part(out, method, networks):
    result = tiny_study(out).scored(method)
    assert result.probabilities.shape == (networks, 18, CLASSES)
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, rtol=1e-5)
    right = result.probabilities.argmax(-1) == made_up().test.labels
    assert result.scores["accuracy"]["mean"] == pytest.approx(right.mean())
    assert (
        0
        <= result.scores["accuracy"]["low"]
        <= right.mean()
        <= result.scores["accuracy"]["high"]
        <= 1
    )
    json.dumps(result.about, allow_nan=False)


def test_full_data_networks_are_trained_by_their_recipe(out):
    one = tiny_study(out)
    (theta,) = trained_networks(
        one.network(),
        *one.tensors("train"),
        one.profile.references.good_recipe,
        1,
        (0, "full_good"),
    )
    said = predict(one.network(), theta, one.tensors("test")[0]).numpy()
    np.testing.assert_array_equal(one.scored("full_good").probabilities[0], said)


def test_random_real_images_use_the_rate_that_validation_chose(out):
    one = tiny_study(out)
    about = one.scored("random_balanced").about
    tried = about["tried_on_validation"]
    assert set(tried) == {"0.01", "0.05"} and tried[f"{about['learning_rates'][0]:g}"] == max(
        tried.values()
    )
    images, labels = one.tensors("train")
    indices = random_real(
        labels, 2, CLASSES, "balanced", generator(0, "random real", "balanced", 1)
    )
    recipe = one.profile.evaluate.recipe.model_copy(
        update={"learning_rate": about["learning_rates"][0]}
    )
    (theta,) = trained_networks(
        one.network(), images[indices], labels[indices], recipe, 1, (0, "balanced", 1)
    )
    said = predict(one.network(), theta, one.tensors("test")[0]).numpy()
    np.testing.assert_array_equal(one.scored("random_balanced").probabilities[1], said)


def test_several_seeds_have_teachers_of_their_own_and_are_pooled(tmp_path):
    one = tiny_study(tmp_path, seeds=[0, 1])
    assert one.teachers(0)[0].path != one.teachers(1)[0].path
    assert not torch.equal(
        one.distillation(0).distilled.images, one.distillation(1).distilled.images
    )
    pooled = one.scored("distilled")
    assert (
        len(pooled.probabilities) == 4
        and pooled.about["seeds"] == [0, 1]
        and len(pooled.about["learning_rates"]) == 2
    )
    alone = tiny_study(tmp_path, seeds=[0]).scored("distilled")
    np.testing.assert_array_equal(pooled.probabilities[:2], alone.probabilities)
    assert one.scores_of_seed(0)["accuracy"] == alone.scores["accuracy"]


def test_another_number_of_images_a_class(out):
    one = tiny_study(out)
    assert len(one.distillation(0, 1).distilled.images) == CLASSES
    assert len(one.distillation(0).distilled.images) == 2 * CLASSES
    assert one.scored("random_natural", 1).probabilities.shape == (2, 18, CLASSES)
    with pytest.raises(InputError, match="^images_per_class: 1000 "):
        one.scored("random_balanced", 1000)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"teachers.recipe.learning_rate": 1e30}, "teachers.recipe.learning_rate: "),
        ({"distill.images_per_class": 30}, "distill.images_per_class: 30 "),
        ({"distill.step_size": 1e30}, "distill.step_size: "),
    ],
)
def test_a_refusal_begins_with_the_settings_full_name(tmp_path, change, named):
    with pytest.raises(InputError) as refused:
        tiny_study(tmp_path, **change).distillation()
    assert str(refused.value).startswith(named), "as --set takes it"


@pytest.mark.parametrize("labels", ["hard", "teachers", "learned"])
def test_chosen_images_in_the_table_have_labels_of_the_distilled_images_kind(labels):
    profile = load_profile("smoke", {"distill.labels": labels})
    soft = {"random_teachers", "herding_teachers"}
    left_out = soft if labels == "hard" else {"herding"}
    assert set(methods_of(profile)) == set(METHODS) - left_out
    assert {"random_balanced", "distilled", "full_good"} <= set(methods_of(profile))


def test_what_a_profile_leaves_out_is_in_no_table():
    left_out = ["random_natural", "full_teacher", "k_means", "gradient_matching"]
    whole, short = load_profile("smoke"), load_profile("smoke", {"left_out": left_out})
    assert set(methods_of(whole)) - set(methods_of(short)) == {"random_natural", "full_teacher"}
    methods = {entry.method for entry in entries(short)}
    assert {entry.method for entry in entries(whole)} - methods == set(left_out)
    with pytest.raises(InputError, match="left_out"):
        load_profile("smoke", {"left_out": ["distilled"]})


def test_self_supervision_on_released_images_is_left_out_alone():
    short = load_profile("smoke", {"left_out": ["self_supervision_on_released"]})
    without = set(entries(load_profile("smoke"))) - set(entries(short))
    assert {entry.table for entry in without} == {"released"}
    assert {entry.method for entry in without} == set(SELF_SUPERVISED)


def test_the_table_compares_with_the_distilled_images(out):
    study = tiny_study(out)
    rows = {row["method"]: row for row in study.table()}
    assert tuple(rows) == methods_of(study.profile) and "distilled_lead" not in rows["distilled"]
    for method in set(rows) - {"distilled"}:
        lead = rows[method]["distilled_lead"]["accuracy"]
        expected = rows["distilled"]["accuracy"]["mean"] - rows[method]["accuracy"]["mean"]
        assert lead["difference"] == pytest.approx(expected) and lead["low"] <= lead["high"]
    json.dumps(list(rows.values()), allow_nan=False)


def test_seeds_and_draws_are_what_varies_and_not_the_networks_trained_on_one(tmp_path):
    rows = {
        row["method"]: row
        for row in tiny_study(tmp_path, seeds=[0, 1], **{"references.networks_per_draw": 2}).table()
    }
    found = {
        method: (row["interval"]["networks"], row["interval"]["independent"])
        for method, row in rows.items()
    }
    assert (
        found["distilled"]
        == found["initial"]
        == found["random_balanced"]
        == found["random_natural"]
        == (4, 2)
    )
    assert found["full_good"] == found["majority"] == (1, 1)


def test_an_unknown_method_is_refused(out):
    with pytest.raises(InputError, match="^method: 'magic' .*distilled, "):
        tiny_study(out).scored("magic")


def test_the_parts_are_tensors_for_the_network(out):
    one = tiny_study(out)
    images, labels = one.tensors("validation")
    assert (
        images.shape == (12, 1, SIZE_PX, SIZE_PX)
        and images.dtype == torch.float32
        and labels.dtype == torch.int64
    )


# ---- the reminder --------------------------------------------------------------------------------

STEPS = {
    "teacher": ["method.teachers"],
    "labels": ["study.labels"],
    "public": ["method.private.extractors"],
    "release": ["study.private"],
    "distill": ["method.distill", "method.iterations", "method.private.distilling"],
    "scores": ["study.scores", "study.study"],
    "pretrain": ["comparison.tables"],
    "compare": ["comparison.tables", "comparison.probes", "comparison.origins"],
    "audit": ["leaks.audit"],
    "hospitals": ["sharing.ways"],
}
# What they hold decides nothing that is computed: messages, names of files, choice of device.
NO_RESULTS = {
    *("base.errors", "base.files", "base.settings", "base.compute", "base.version", "base.tensors"),
    *("base.progress", "base.threads", "study.profile", "study.settings", "study.store"),
    *("base.names", "measure.metrics", "measure.resampling", "measure.intervals"),
}


def tree_of(module: str) -> ast.Module:
    path = Path(medddist.__file__).parent.joinpath(*module.split("."))
    return ast.parse(
        (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(
            encoding="utf-8"
        )
    )


def is_module(name: str) -> bool:
    return Path(medddist.__file__).parent.joinpath(*name.split(".")).with_suffix(".py").is_file()


def imported(module: str) -> set[str]:
    """The package's modules that a module imports, and so on, itself included."""
    found, left = set(), [module]
    while left:
        now = left.pop()
        if now in NO_RESULTS or now.split(".")[0] == "data" or now in found:
            continue
        found.add(now)
        for node in ast.walk(tree_of(now)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medddist":
                inner = node.module.removeprefix("medddist").lstrip(".")
                names = [f"{inner}.{name.name}".lstrip(".") for name in node.names]
                modules = [name for name in names if is_module(name)]
                left += modules or [inner]
    return found


def shape(node) -> object:
    """What a piece of source does: without comments, docstrings, line breaks, and what differs
    between Python's versions.
    """
    if isinstance(node, list):
        return [shape(part) for part in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    documented = (
        isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        and ast.get_docstring(node, clean=False) is not None
    )
    fields = {
        name: value
        for name, value in ast.iter_fields(node)
        if value not in (None, []) and name not in ("type_params", "kind")
    }
    if documented:
        fields["body"] = node.body[1:]
    return [type(node).__name__, {name: shape(value) for name, value in fields.items()}]


@functools.cache
def sources() -> dict[str, dict]:
    """{step: {version, the hash of each of its modules}}."""
    hashed = lambda module: hashlib.sha256(json.dumps(shape(tree_of(module))).encode()).hexdigest()[
        :16
    ]
    return {
        step: {
            "version": VERSIONS[step],
            "modules": {one: hashed(one) for one in sorted(set().union(*map(imported, modules)))},
        }
        for step, modules in STEPS.items()
    }


@pytest.mark.parametrize("step", STEPS)
def test_whoever_changes_a_step_thinks_of_its_version(step):
    now, recorded = sources()[step], read_json(SOURCES)[step]
    both = now["modules"].keys() | recorded["modules"].keys()
    different = sorted(
        one for one in both if now["modules"].get(one) != recorded["modules"].get(one)
    )
    assert now == recorded, f"{', '.join(different) or 'the version'} changed: " + REMINDER.format(
        step=step
    )


def test_the_reminder_knows_every_step_and_its_modules():
    assert STEPS.keys() == VERSIONS.keys()
    found = sources()
    assert found["teacher"]["modules"].keys() == {
        "method.augment",
        "method.fast.convnet",
        "method.fast.derivatives",
        "method.fast.kernels",
        "method.fast.planes",
        "method.networks",
        "method.private.dp_sgd",
        "base.seeds",
        "method.teachers",
        "method.training",
        "method.trajectories",
    }
    shared = found["teacher"]["modules"].keys() - {"method.teachers", "method.private.dp_sgd"}
    names = ("distill", "distilled", "evaluate", "iterations", "matching", "real_loss", "settings")
    own = {"base.processes", "method.student", *(f"method.{name}" for name in names)}
    names = ("distilling", "extractors", "fitting", "release")
    own |= {f"method.private.{name}" for name in names}
    assert found["distill"]["modules"].keys() == own | shared
    names = ("coresets", "distribution_matching", "initial", "pretraining")
    studys = {f"baselines.{name}" for name in names}
    studys |= {f"study.{name}" for name in ("labels", "private", "scores", "study")}
    assert studys | own | found["teacher"]["modules"].keys() == found["scores"]["modules"].keys()
    baselines = {
        f"baselines.{path.stem}"
        for path in (Path(medddist.__file__).parent / "baselines").glob("[!_]*.py")
    }
    assert {"comparison.tables", *baselines, *found["scores"]["modules"]} <= found["pretrain"][
        "modules"
    ].keys()


def test_the_reminder_is_for_what_code_does():
    same_code = [
        '"""A."""\ndef f(x):\n    """Doc."""\n    return (x + 1)  # why\n',
        "def f(\n    x,\n):\n    return x + 1\n",
    ]
    assert shape(ast.parse(same_code[0])) == shape(ast.parse(same_code[1]))
    assert shape(ast.parse(same_code[0])) != shape(ast.parse("def f(x):\n    return x + 2\n"))


if __name__ == "__main__":
    write_json(SOURCES, sources())
    print(f"{SOURCES.name} written", file=sys.stderr)
