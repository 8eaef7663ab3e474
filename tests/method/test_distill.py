"""The outer loop: what it starts from, each iteration, selection on validation alone, divergence,
and kills.
"""

from __future__ import annotations

import inspect
import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import (
    CLASSES,
    asked,
    killed_and_resumed,
    labelled,
    some_logits,
    tiny_distill,
    tiny_evaluation,
    tiny_network,
    walks,
)

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.base.tensors import load_tensors
from medddist.baselines.initial import chosen_by, initial_set
from medddist.leaks.leakage import points
from medddist.method import distill as module
from medddist.method import evaluate, iterations
from medddist.method.distill import Distillation, DistillSettings, distill
from medddist.method.distilled import Distilled
from medddist.method.matching import matching_gradient, segment
from medddist.method.training import Diverged
from medddist.method.trajectories import open_trajectory, write_trajectory
from medddist.study.profile import load_profile

TENSORS = ("images", "labels", "log_step_size")


def run(
    folder: Path, trajectories=None, training=None, validation=None, network=None, **changes
) -> Distillation:
    """A tiny distillation in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    network, saving = (
        network or tiny_network(),
        {k: changes.pop(k) for k in ("progress", "save_every_seconds") if k in changes},
    )
    settings = tiny_distill(**changes)
    training = training or labelled(20)
    initial = initial_set(training, CLASSES, settings, soft_labels=some_logits)
    validation = validation or labelled(9, seed=1)
    ask = asked(network, trajectories or walks(folder, network), settings, training)
    evaluation, checkpoint = tiny_evaluation(), folder / "unfinished.safetensors"
    return distill(
        network,
        *initial,
        validation,
        ask,
        settings,
        evaluation,
        checkpoint,
        **saving,
    )


def same(a: Distillation, b: Distillation) -> bool:
    """Equal in every bit of every tensor and every figure."""
    sets = all(
        torch.equal(getattr(getattr(a, s), t), getattr(getattr(b, s), t))
        for s in ("distilled", "initial")
        for t in TENSORS
    )
    rest = all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("initial_indices", "losses", "step_sizes")
    )
    pictures = list(a.pictures) == list(b.pictures) and all(
        torch.equal(a.pictures[k], b.pictures[k]) for k in a.pictures
    )
    return (
        sets
        and rest
        and pictures
        and a.candidates == b.candidates
        and a.selected_iteration == b.selected_iteration
    )


# ---- where it starts -----------------------------------------------------------------------------


def test_it_starts_from_real_images_of_each_class():
    images, labels = labelled(20)
    initial, indices = initial_set((images, labels), CLASSES, tiny_distill(images_per_class=3))
    assert initial.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and labels[indices].equal(
        initial.labels
    )
    assert torch.equal(initial.images, images[indices]) and len(indices.unique()) == 9
    assert initial.step_size.item() == pytest.approx(0.02)
    other = initial_set((images, labels), CLASSES, tiny_distill(images_per_class=3, seed=1))[1]
    assert not torch.equal(indices, other)


def test_it_starts_from_noise():
    initial, indices = initial_set(
        labelled(300), CLASSES, tiny_distill(images_per_class=100, initial_images="noise")
    )
    assert (
        len(indices) == 0 and initial.images.shape == (300, 1, 8, 8) and len(initial.labels) == 300
    )
    assert abs(initial.images.mean()) < 0.02 and abs(initial.images.std() - 1) < 0.02
    real = initial_set(labelled(300), CLASSES, tiny_distill(images_per_class=100))[0]
    distances = torch.cdist(initial.images.flatten(1), real.images.flatten(1))
    assert distances.min() > 5, (
        "as far from every real image as chance puts it: the square root of 2 times 64 pixels"
    )


def test_noise_knows_no_training_image():
    images, labels = labelled(20)
    noise, other = (
        initial_set((x, labels), CLASSES, tiny_distill(initial_images="noise"))[0]
        for x in (images, images + 1)
    )
    assert torch.equal(noise.images, other.images)


def test_it_starts_from_averages_of_images_of_one_class():
    images, labels = labelled(60)
    settings = tiny_distill(images_per_class=3, initial_images="average", averaged_images=5)
    initial, indices = initial_set((images, labels), CLASSES, settings)
    assert indices.shape == (9, 5) and initial.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for image, label, row in zip(initial.images, initial.labels, indices):
        assert (labels[row] == label).all() and len(row.unique()) == 5
        torch.testing.assert_close(image, images[row].mean(0))
    again = initial_set((images, labels), CLASSES, settings)[1]
    assert torch.equal(indices, again) and len({tuple(row) for row in indices.tolist()}) == 9


def test_more_averaged_images_than_a_class_has_are_refused():
    with pytest.raises(InputError, match="^averaged_images: 10 are more than"):
        initial_set(labelled(24), CLASSES, tiny_distill(initial_images="average"))


def test_the_last_is_released_and_validation_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "tried_on_validation", lambda *a: pytest.fail("validation was looked at")
    )
    result = run(tmp_path / "a", selection="last")
    assert result.selected_iteration == 7 == result.candidates[-1]["iteration"]
    assert set(result.candidates[0]) == {"iteration", "step_size"} and torch.equal(
        result.distilled.images, result.pictures[7]
    )


@pytest.mark.parametrize("labels", ["teachers", "learned"])
def test_soft_labels_are_what_is_answered_for_the_initial_images(labels):
    for start in ("real", "average", "noise"):
        settings = tiny_distill(labels=labels, initial_images=start, averaged_images=3)
        initial, _ = initial_set(labelled(20), CLASSES, settings, soft_labels=some_logits)
        assert torch.equal(initial.labels, some_logits(initial.images))


@pytest.mark.parametrize("start", ["herding", "kmeans"])
def test_it_starts_from_images_chosen_by_features(start):
    images, labels = labelled(20)
    features = images.flatten(1).numpy().astype(float)
    settings = tiny_distill(initial_images=start, images_per_class=3)
    initial, indices = initial_set((images, labels), CLASSES, settings, lambda: features)
    chosen = chosen_by(start, settings.seed)(features, labels.numpy(), 3, CLASSES)
    assert torch.equal(initial.images, images[chosen]) and indices.tolist() == chosen.tolist()
    assert torch.equal(labels[indices], initial.labels)


def test_changing_what_is_learned_leaves_the_training_images_alone(tmp_path):
    images, labels = labelled(20)
    before = images.clone()
    run(tmp_path, training=(images, labels), learning_rate_images=100.0)
    assert torch.equal(images, before)


def test_a_class_with_too_few_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="^images_per_class: 7 .* 6"):
        run(tmp_path, training=labelled(18), images_per_class=7)


# ---- iterations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_iterations_by_the_definition(tmp_path, labels):
    """The same numbers drawn, and torch's own SGD with momentum on the matching loss, in double
    precision.
    """
    network = tiny_network()
    trajectories = walks(tmp_path, network, count=3)
    settings = tiny_distill(
        labels=labels, learning_rate_labels=0.7, momentum=0.6, learning_rate_log_step_size=0.3
    )
    training = labelled(20, dtype=torch.float64)
    validation = labelled(9, seed=1, dtype=torch.float64)
    result = run(
        tmp_path,
        trajectories,
        training,
        validation,
        network,
        labels=labels,
        learning_rate_labels=0.7,
        momentum=0.6,
        learning_rate_log_step_size=0.3,
    )

    initial, _ = initial_set(training, CLASSES, settings, soft_labels=some_logits)
    leaves = {name: value.clone().requires_grad_() for name, value in initial.learned().items()}
    rates = {"images": 1.0, "log_step_size": 0.3, "labels": 0.7}
    optimiser = torch.optim.SGD(
        [{"params": [leaf], "lr": rates[name]} for name, leaf in leaves.items()],
        lr=1.0,
        momentum=0.6,
    )
    losses = []
    for iteration in range(settings.iterations):
        draws = generator(settings.seed, "iteration", iteration)
        teacher = trajectories[torch.randint(3, (), generator=draws).item()]
        epoch = torch.randint(settings.max_start_epoch, (), generator=draws).item()
        ends = [row.double() for row in teacher.rows(epoch, epoch + 1)]
        student = segment(*ends, leaves["images"].detach(), 4, 3, draws)
        now = Distilled(
            **({"labels": initial.labels} | {name: leaf.detach() for name, leaf in leaves.items()})
        )
        loss, slopes = matching_gradient(network, now, student, settings.augmentation)
        for name, leaf in leaves.items():
            leaf.grad = slopes[name]
        optimiser.step()
        losses.append(loss)
    torch.testing.assert_close(result.losses, torch.tensor(losses), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        result.pictures[7], leaves["images"].detach(), rtol=1e-10, atol=1e-12
    )
    assert result.candidates[-1]["step_size"] == pytest.approx(
        leaves["log_step_size"].exp().item(), rel=1e-10
    )


def test_the_loss_on_real_images_by_the_definition(tmp_path):
    """Students and batches as `on_real_images` draws them, torch's own Adam and a falling rate."""
    network = tiny_network()
    given = {name: value for name, value in REAL_LOSS.items() if name != "labels"}
    training = labelled(20, dtype=torch.float64)
    validation = labelled(9, seed=1, dtype=torch.float64)
    settings = tiny_distill(**given, labels="teachers")
    result = run(tmp_path, None, training, validation, network, **given, labels="teachers")
    initial, _ = initial_set(training, CLASSES, settings, soft_labels=some_logits)
    ask = asked(network, None, settings, training)
    images, log_step_size = initial.images.clone(), initial.log_step_size.clone()
    rates, moments = {"images": 0.02, "log_step_size": 0.01}, {}
    learned, losses = {"images": images, "log_step_size": log_step_size}, []
    for k in range(settings.iterations):
        now = Distilled(labels=initial.labels, **learned)
        loss, slopes = ask(now, generator(settings.seed, "iteration", k))
        losses.append(loss)
        factor = 0.5 * (1 + math.cos(math.pi * k / settings.iterations))
        for name, value in learned.items():  # Kingma & Ba, algorithm 1
            first, second = moments.get(name, (0.0, 0.0))
            first = 0.9 * first + 0.1 * slopes[name]
            second = 0.999 * second + 0.001 * slopes[name].square()
            moments[name] = first, second
            towards = first / (1 - 0.9 ** (k + 1))
            spread = (second / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8
            learned[name] = value - factor * rates[name] * towards / spread
    torch.testing.assert_close(result.losses, torch.tensor(losses), rtol=1e-6, atol=0)
    torch.testing.assert_close(result.pictures[7], learned["images"], rtol=1e-9, atol=1e-11)


def test_segments_of_one_iteration_are_averaged(tmp_path, monkeypatch):
    """The first is the one that a single segment has; loss and step are of the mean."""
    network, seen = tiny_network(), []

    def watched(*arguments, **how):
        seen.append(matching_gradient(*arguments, **how))
        return seen[-1]

    monkeypatch.setattr(iterations, "matching_gradient", watched)
    trajectories = walks(tmp_path, network)
    one, three = (
        run(tmp_path / str(k), trajectories, network=network, iterations=1, segments_per_step=k)
        for k in (1, 3)
    )
    alone, *together = seen
    assert len(together) == 3 and together[0][0] == alone[0] and together[1][0] != alone[0]
    assert one.losses[0] == pytest.approx(alone[0]) and three.losses[0] == pytest.approx(
        np.mean([s[0] for s in together])
    )
    mean = sum(slopes["images"] for _, slopes in together) / 3
    torch.testing.assert_close(three.pictures[1], three.initial.images - mean)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, {"way": "exact"}),
        ({"gradient": "difference"}, {"way": "difference"}),
    ],
)
def test_the_gradient_is_the_one_that_was_named(tmp_path, monkeypatch, changes, expected):
    asked = []
    watched = lambda *rest, **how: asked.append(how) or matching_gradient(*rest, **how)
    monkeypatch.setattr(iterations, "matching_gradient", watched)
    run(tmp_path, iterations=2, **changes)
    assert asked == [expected, expected]


def test_every_teacher_and_every_start_epoch_up_to_the_last_is_used(tmp_path, monkeypatch):
    seen, network = set(), tiny_network()
    trajectories = walks(tmp_path, network, count=3)
    rows = {
        tuple(row.tolist()[:3]): (k, t)
        for k, one in enumerate(trajectories)
        for t, row in enumerate(one.rows(*range(5)))
    }

    def watched(network, distilled, student, augmentation, **how):
        start, target = (rows[tuple(end.tolist()[:3])] for end in (student.start, student.target))
        assert start[0] == target[0] and target[1] == start[1] + 2
        seen.add(start)
        return 1.0, {name: torch.zeros_like(value) for name, value in distilled.learned().items()}

    monkeypatch.setattr(iterations, "matching_gradient", watched)
    run(
        tmp_path,
        trajectories,
        network=network,
        iterations=200,
        expert_epochs=2,
        max_start_epoch=3,
        select_every=1000,
    )
    assert seen == {(k, t) for k in range(3) for t in range(3)}


def start_epochs(settings: DistillSettings, draws: int = 50) -> list[tuple[int, int]]:
    """(teacher, start epoch) of the first iterations' segments."""
    drawn, network = [], tiny_network()

    class Teacher:
        parameter_count, snapshots = network.parameter_count, 1000

        def __init__(self, number: int):
            self.number = number

        def rows(self, start: int, end: int):
            drawn.append((self.number, start))
            raise StopIteration

    ask = iterations.along_teachers(network, [Teacher(k) for k in range(4)], settings)
    for iteration in range(draws):
        name = settings.seed, "iteration", iteration, *([1] if iteration % 2 else [])
        with pytest.raises(StopIteration):
            ask(SimpleNamespace(images=torch.zeros(1)), generator(*name))
    return drawn


@pytest.mark.parametrize("last", [1, 2, 8, 13, 14, 15, 18])
def test_the_start_epoch_is_below_max_start_epoch_as_in_mtt(last):
    """So the profiles have one more than when it was included, and draw the start epochs of the
    figures of record.
    """
    as_it_was = []
    for iteration in range(50):
        random = generator(0, "iteration", iteration, *([1] if iteration % 2 else []))
        teacher = int(torch.randint(4, (), generator=random))
        as_it_was.append(
            (teacher, int(torch.randint(last + 1, (), generator=random)))
        )  # the last one included
    drawn = start_epochs(tiny_distill(max_start_epoch=last + 1))
    assert drawn == as_it_was and {epoch for _, epoch in drawn} <= set(range(last + 1))


def test_the_profiles_draw_the_start_epochs_of_the_figures_of_record():
    """`max_start_epoch` was included when they were measured: the number here is that of
    results/*.json, plus one.
    """
    last = {
        name: [
            load_profile(name, changes).distill.max_start_epoch - 1
            for changes in load_profile(name).variants.values()
        ]
        or [load_profile(name).distill.max_start_epoch - 1]
        for name in ("demo", "full", "real", "lira", "smoke")
    }
    assert last == {"demo": [15], "full": [15], "real": [14, 13], "lira": [8], "smoke": [2]}
    small = {point.profile.distill.max_start_epoch - 1 for point in points(load_profile("full"))}
    assert small == {8, 18}, "without and with DP-SGD"
    assert load_profile("paper").distill.max_start_epoch == 10, "below 10, as the profile says"


def test_distilling_brings_students_closer_to_the_teachers(tmp_path):
    """The made-up teachers walk at random; their first steps are the same each time, so they can be
    learned.
    """
    result = run(
        tmp_path,
        walks(tmp_path, tiny_network(), count=1),
        iterations=60,
        max_start_epoch=1,
        select_every=60,
        learning_rate_images=20.0,
    )
    assert result.losses[-10:].mean() < result.losses[:10].mean()


def test_everything_is_kept_for_the_book(tmp_path):
    told = []
    result = run(tmp_path, progress=lambda *now: told.append(now))
    assert [now[1:] for now in told] == [(k, 7) for k in range(1, 8)]
    assert [now[0] for now in told] == [f"distilling, loss {loss:.3f}" for loss in result.losses]
    assert len(result.losses) == len(result.step_sizes) == 7 and result.step_sizes[
        0
    ].item() == pytest.approx(0.02)
    assert (
        list(result.pictures)
        == [0, 3, 6, 7]
        == [candidate["iteration"] for candidate in result.candidates]
    )
    assert result.step_sizes[3].item() == pytest.approx(result.candidates[1]["step_size"])
    assert torch.equal(result.pictures[0], result.initial.images) and not torch.equal(
        result.pictures[7], result.pictures[6]
    )


def test_no_iterations_release_the_initial_set(tmp_path):
    result = run(tmp_path, iterations=0)
    assert (
        result.selected_iteration == 0 and len(result.candidates) == 1 and len(result.losses) == 0
    )
    assert torch.equal(result.distilled.images, result.initial.images)


def test_same_seed_same_bits_another_seed_another_set(tmp_path):
    a, again, b = (run(tmp_path / str(k), seed=seed) for k, seed in enumerate((0, 0, 1)))
    assert same(a, again) and not same(a, b)


def test_labels_of_teachers_stay_as_they_are(tmp_path):
    result = run(tmp_path, labels="teachers")
    assert set(result.distilled.learned()) == {"images", "log_step_size", "labels"}
    assert torch.equal(result.distilled.labels, result.initial.labels)
    assert not torch.equal(result.pictures[0], result.pictures[7])


def test_soft_labels_move_with_their_rate_and_only_then(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_released", lambda under_way, *rest: under_way.learned["labels"])
    still, moved = (
        run(tmp_path / str(rate), labels="learned", learning_rate_labels=rate)
        for rate in (0.0, 5.0)
    )
    initial, _ = initial_set(
        labelled(20), CLASSES, tiny_distill(labels="learned"), soft_labels=some_logits
    )
    assert torch.equal(still, initial.labels) and ((moved - initial.labels).abs() > 1e-6).all()


def test_soft_labels_are_learned_unless_they_are_told_to_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_released", lambda under_way, *rest: under_way.learned["labels"])
    learned = run(tmp_path, labels="learned")
    initial, _ = initial_set(
        labelled(20), CLASSES, tiny_distill(labels="learned"), soft_labels=some_logits
    )
    assert DistillSettings().learning_rate_labels > 0 and not torch.equal(learned, initial.labels)


# ---- selection -----------------------------------------------------------------------------------


def test_there_is_no_way_to_hand_in_test_data():
    assert list(inspect.signature(distill).parameters) == [
        "network",
        "initial",
        "initial_indices",
        "validation",
        "ask",
        "settings",
        "evaluation",
        "checkpoint",
        "progress",
        "save_every_seconds",
    ]


@pytest.mark.parametrize(
    "metric, scores, selected",
    [
        ("balanced_accuracy", [(0.9, 0.1), (0.2, 0.5), (0.3, 0.8), (0.1, 0.2)], 6),
        ("accuracy", [(0.9, 0.1), (0.2, 0.5), (0.3, 0.8), (0.1, 0.2)], 0),
        ("accuracy", [(0.1, 0.9), (0.2, 0.5), (0.3, 0.8), (0.4, 0.2)], 7),
        ("accuracy", [(0.1, 0.9), (0.5, 0.5), (0.5, 0.8), (0.5, 0.2)], 3),
    ],
)
def test_the_best_candidate_on_validation_is_released(
    tmp_path, monkeypatch, metric, scores, selected
):
    left = iter(scores)
    monkeypatch.setattr(
        module,
        "tried_on_validation",
        lambda *a: dict(zip(("accuracy", "balanced_accuracy"), next(left))),
    )
    result = run(tmp_path, selection_metric=metric, labels="learned", learning_rate_labels=3.0)
    assert result.selected_iteration == selected and next(left, None) is None
    chosen = next(
        candidate for candidate in result.candidates if candidate["iteration"] == selected
    )
    assert torch.equal(result.distilled.images, result.pictures[selected])
    assert result.distilled.step_size.item() == pytest.approx(chosen["step_size"], rel=1e-6)
    assert torch.equal(result.distilled.labels, result.initial.labels) == (selected == 0), (
        "learned labels go with their images"
    )


def test_candidates_are_trained_by_the_evaluations_recipe_at_their_step_size(tmp_path, monkeypatch):
    seen = []

    def watched(network, images, labels, recipe, networks, validation, seed):
        seen.append((recipe, networks, seed, labels))
        return {"accuracy": 0.0, "balanced_accuracy": 0.0}

    monkeypatch.setattr(module, "tried_on_validation", watched)
    result = run(tmp_path, selection_networks=3, labels="learned", learning_rate_labels=1.0)
    expected = tiny_evaluation().recipe
    for (recipe, networks, seed, labels), candidate in zip(seen, result.candidates, strict=True):
        assert (
            recipe == expected.model_copy(update={"learning_rate": candidate["step_size"]})
            and networks == 3
        )
        assert seed == seen[0][2], "every candidate meets the same fresh networks"
        torch.testing.assert_close(labels.sum(1), torch.ones(6))


def test_a_candidate_that_cannot_be_trained_on_loses(tmp_path, monkeypatch):
    """A step size at which the evaluation diverges is the candidate's fault, and no reason to lose
    the run.
    """
    train, calls = evaluate.train, []

    def diverging(*arguments, **named):
        calls.append(1)
        if len(calls) in (1, 4):
            raise Diverged("learning_rate: made up")
        return train(*arguments, **named)

    monkeypatch.setattr(evaluate, "train", diverging)
    result = run(tmp_path)
    assert [candidate["accuracy"] > 0 for candidate in result.candidates] == [
        False,
        True,
        True,
        False,
    ]
    assert result.selected_iteration in (3, 6)


# ---- refusals ------------------------------------------------------------------------------------


def test_trajectories_that_do_not_serve_are_refused(tmp_path):
    network = tiny_network()
    trajectories = walks(tmp_path, network, snapshots=5)
    run(
        tmp_path / "fits",
        trajectories,
        network=network,
        max_start_epoch=4,
        expert_epochs=1,
        iterations=1,
    )
    with pytest.raises(
        InputError,
        match=(
            r"^max_start_epoch: 4 and expert_epochs 2 .* 5, .*teacher_000.* ends at 4.*kept_epochs"
        ),
    ):
        run(tmp_path / "short", trajectories, network=network, max_start_epoch=4, expert_epochs=2)
    with pytest.raises(
        InputError, match=f"teacher_000.*: has {network.parameter_count} parameters .*network"
    ):
        run(tmp_path / "other", trajectories, network=tiny_network(width=5))
    with pytest.raises(InputError, match="^teachers: "):
        iterations.along_teachers(network, [], tiny_distill())


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"step_size": 1e30}, "step_size"),
        ({"learning_rate_images": 1e30, "iterations": 30}, "learning_rate_images"),
        ({"learning_rate_log_step_size": 1e5, "iterations": 30}, "learning_rate_log_step_size"),
    ],
)
def test_what_is_not_finite_stops_with_the_setting_to_lower(tmp_path, changes, named):
    with pytest.raises(InputError, match=f"^{named}: .* lower {named}$"):
        run(tmp_path, select_every=100, **changes)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_what_is_no_longer_finite_after_the_very_last_step_is_not_released(
    tmp_path, name, monkeypatch
):
    steep = lambda now: {name: torch.full_like(value, 10.0) for name, value in now.items()}
    pulled = lambda network, distilled, *rest, **how: (1.0, steep(distilled.learned()))
    monkeypatch.setattr(iterations, "matching_gradient", pulled)
    rate = {f"learning_rate_{name}": 1e38}
    with pytest.raises(InputError, match=f"^learning_rate_{name}: .* lower learning_rate_{name}$"):
        run(
            tmp_path,
            iterations=1,
            selection="last",
            labels="learned",
            **({"learning_rate_images": 0, "learning_rate_log_step_size": 0} | rate),
        )


@pytest.mark.parametrize("rate", [1.0, 1e2, 1e4, 1e6, 1e30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_step_size_stays_positive_at_any_rate(tmp_path, monkeypatch, rate, sign):
    """Either every step size is positive and finite, or the run stops naming the rate."""

    def pulled(network, distilled, student, augmentation, **how):
        slopes = {name: torch.zeros_like(value) for name, value in distilled.learned().items()}
        return 1.0, slopes | {"log_step_size": torch.tensor(sign)}

    monkeypatch.setattr(iterations, "matching_gradient", pulled)
    try:
        result = run(tmp_path, learning_rate_log_step_size=rate)
    except InputError as error:
        assert str(error).startswith("learning_rate_log_step_size: ") and rate > 10
    else:
        assert (result.step_sizes > 0).all() and result.step_sizes.isfinite().all() and rate < 100


def test_a_teacher_that_stands_still_is_named(tmp_path):
    network = tiny_network()
    (trajectory,) = walks(tmp_path, network, count=1)
    write_trajectory(trajectory.path, trajectory.rows(0)[0].repeat(5, 1), {})
    with pytest.raises(InputError, match="teacher_000.*does not move"):
        run(tmp_path, [open_trajectory(trajectory.path)], network=network)


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "unfinished.safetensors").write_bytes(b"damage")
    with pytest.raises(InputError, match="unfinished.*delete it"):
        run(tmp_path)


# ---- kills ---------------------------------------------------------------------------------------

# Candidates are at iterations 0, 3, 6 and 7, each of one network; saving after every iteration is
# one rename a time, and the eighth is the result's.
MOMENTS = {
    "after iteration 1": [["progress", 1]],
    "after iteration 3, before its candidate": [["progress", 4]],
    "after the last iteration": [["progress", 7]],
    "after every iteration": [["progress", 2]] * 6,
    "without getting on": [["progress", 1]] * 3,
    "before a checkpoint has its name": [["rename", 3]],
    "once a checkpoint has its name": [["renamed", 3]],
    "before a checkpoint is flushed": [["flush", 5]],
    "before the result has its name": [["rename", 8]],
    "training the first candidate": [["training", 1]],
    "training the candidate after iteration 3": [["training", 2]],
    "scoring the candidate after iteration 6": [["scoring", 3]],
    "scoring the last candidate": [["scoring", 4]],
    "all in a row": [
        ["scoring", 1],
        ["rename", 1],
        ["renamed", 2],
        ["training", 1],
        ["progress", 3],
        ["scoring", 1],
        ["flush", 2],
    ],
}


def scenario(folder: Path, moments: list, *, save_every_seconds=0.0, **settings) -> dict:
    folder.mkdir(parents=True)
    settings = {"labels": "learned", "learning_rate_labels": 1.0} | settings
    return {
        "run": "distill",
        "folder": str(folder),
        "settings": settings,
        "moments": moments,
        "save_every_seconds": save_every_seconds,
    }


def results(cases: list[dict]) -> list[Distillation]:
    killed_and_resumed(cases)
    return [torch.load(Path(case["folder"]) / "result.pt", weights_only=False) for case in cases]


LONG = {"labels": "learned"}
REAL_LOSS = {
    "method": "real_loss",
    "window_steps": 2,
    "horizon_steps": 5,
    "real_batch_size": 12,
    "outer_optimiser": "adam",
    "outer_schedule": "cosine",
    "learning_rate_images": 0.02,
    "learning_rate_labels": 0.02,
    "labels": "learned",
}


@pytest.mark.parametrize(
    "settings",
    [pytest.param(LONG, marks=pytest.mark.slow), {"labels": "hard"}, REAL_LOSS],
    ids=["learned", "hard", "real_loss"],
)
def test_killed_equals_uninterrupted_to_the_bit(tmp_path, settings):
    walks(tmp_path, tiny_network())
    moments = MOMENTS if settings is LONG else {"all": MOMENTS["all in a row"]}
    rarely = {"save_every_seconds": 1000.0} | settings
    cases = [scenario(tmp_path / "uninterrupted", [], **rarely)]
    cases += [scenario(tmp_path / name, deaths, **settings) for name, deaths in moments.items()]
    cases.append(scenario(tmp_path / "nothing saved", [["progress", 5]], **rarely))
    whole, *others = results(cases)
    assert len(whole.losses) == 7 and not torch.equal(whole.pictures[0], whole.pictures[7])
    for case, other in zip(cases[1:], others, strict=True):
        assert same(whole, other), case["moments"]


def test_a_candidates_scores_are_kept_before_the_next_iteration(tmp_path):
    def stopped(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stopped, save_every_seconds=0.0)
    _, about = load_tensors(tmp_path / "unfinished.safetensors")
    assert about["iteration"] == 0 and [c["iteration"] for c in about["candidates"]] == [0]


def test_an_interrupted_run_goes_on_and_does_not_start_again(tmp_path):
    def stopped(what, done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", progress=stopped, save_every_seconds=0.0)
    told = []
    (tmp_path / "a" / ".unfinished.safetensors.x.part").write_bytes(b"half of another checkpoint")
    resumed = run(
        tmp_path / "a",
        progress=lambda what, done, total: told.append((what, done)),
        save_every_seconds=0.0,
    )
    assert told[0] == ("distilling, resumed", 4), "the last checkpoint: after iteration 4"
    assert [done for _, done in told[1:]] == [5, 6, 7]
    assert same(resumed, run(tmp_path / "b"))


@pytest.mark.slow
def test_killed_at_any_time_equals_uninterrupted(tmp_path):
    walks(tmp_path, tiny_network())
    draw = random.Random(0)
    settings = {"iterations": 40, "select_every": 5}
    cases = [scenario(tmp_path / "whole", [], **settings)]
    cases += [
        scenario(
            tmp_path / str(k), [["seconds", draw.uniform(0, 0.8)] for _ in range(4)], **settings
        )
        for k in range(8)
    ]
    whole, *others = results(cases)
    assert all(same(whole, other) for other in others)


def test_a_loss_is_finite_or_refused_never_stored(tmp_path):
    result = run(tmp_path, iterations=20, select_every=20)
    assert all(math.isfinite(loss) and loss > 0 for loss in result.losses.tolist())
