"""Teachers: their files, the snapshots kept, and the same bits however often they were killed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from small import killed_and_resumed, labelled, tiny_network, tiny_recipe, tiny_teachers

from medddist.base.errors import InputError
from medddist.base.settings import parsed
from medddist.base.tensors import save_tensors
from medddist.method import teachers, training
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import initial_parameters
from medddist.method.teachers import TeacherSettings, teacher_path, train_teacher
from medddist.method.training import TrainingState, predict, train, validation_scores
from medddist.method.trajectories import open_trajectory


def trained(folder: Path, index=0, settings=None, **saving):
    return train_teacher(
        tiny_network(),
        labelled(20),
        labelled(9, seed=1),
        settings or tiny_teachers(),
        index,
        folder,
        **saving,
    )


def test_snapshots_are_what_training_reaches_after_each_epoch(tmp_path):
    settings, network, states = tiny_teachers(kept_epochs=3), tiny_network(), []
    trajectory = trained(tmp_path, 1, settings)
    assert trajectory.path == teacher_path(tmp_path, 1) and list(tmp_path.iterdir()) == [
        trajectory.path
    ]
    assert (trajectory.snapshots, trajectory.parameter_count) == (4, network.parameter_count)
    seed = (settings.seed, "teacher", 1)
    train(
        network,
        initial_parameters(network, *seed),
        *labelled(20),
        settings.recipe,
        seed,
        after_epoch=states.append,
    )
    expected = [initial_parameters(network, *seed), *(state.theta for state in states[:3])]
    assert all(
        torch.equal(a, b) for a, b in zip(trajectory.rows(0, 1, 2, 3), expected, strict=True)
    )


def test_a_teacher_stops_where_matching_does_and_its_schedule_is_the_whole_recipes(tmp_path):
    """A cosine over five epochs is left at the third, not run through in three."""
    settings = tiny_teachers(
        recipe=tiny_recipe(epochs=5, momentum=0.9, schedule="cosine"), kept_epochs=3
    )
    short, long = (
        trained(tmp_path / str(k), 0, settings.model_copy(update={"kept_epochs": k}))
        for k in (3, 5)
    )
    assert (short.snapshots, long.snapshots) == (4, 6)
    assert torch.equal(short.rows(3)[0], long.rows(3)[0])


def test_the_file_says_how_it_was_made(tmp_path):
    settings = tiny_teachers()
    about = trained(tmp_path, 1, settings).about
    assert parsed(TeacherSettings, about["settings"], "x") == settings and about["index"] == 1
    assert len(about["validation"]) == settings.kept_epochs + 1 < settings.recipe.epochs + 1, (
        "it stops where matching does"
    )
    start = open_trajectory(teacher_path(tmp_path, 1)).rows(0)[0]
    assert about["validation"][0] == validation_scores(tiny_network(), start, labelled(9, seed=1))


def test_validation_scores_against_their_definition():
    network, (images, labels) = tiny_network(), labelled(10, seed=2)
    theta = initial_parameters(network, 4)
    predicted = predict(network, theta, images).argmax(1)
    scores = validation_scores(network, theta, (images, labels))
    assert scores["accuracy"] == pytest.approx((predicted == labels).float().mean().item())
    recalls = [(predicted[labels == k] == k).float().mean().item() for k in range(3)]
    assert scores["balanced_accuracy"] == pytest.approx(sum(recalls) / 3)
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_teachers_differ_by_index_and_by_seed_and_by_nothing_else(tmp_path):
    rows = [
        trained(tmp_path / name, index, tiny_teachers(seed=seed, teachers=count)).rows(0, 4)
        for name, index, seed, count in [
            ("a", 0, 0, 2),
            ("b", 1, 0, 2),
            ("c", 0, 1, 2),
            ("d", 0, 0, 50),
        ]
    ]
    for other in rows[1:3]:
        assert not torch.equal(rows[0][0], other[0]) and not torch.equal(rows[0][1], other[1])
    assert torch.equal(rows[0][1], rows[3][1]), "how many teachers there are changes none of them"


def test_a_finished_teacher_is_read(tmp_path, monkeypatch):
    first = trained(tmp_path)
    monkeypatch.setattr(teachers, "train", lambda *a, **k: pytest.fail("trained again"))
    assert trained(tmp_path).about == first.about


def test_a_rest_of_a_kill_is_no_teacher(tmp_path):
    """Temporary files, whole or half, are not looked at."""
    (tmp_path / ".teacher_000.safetensors.abc.part").write_bytes(b"half")
    (tmp_path / ".teacher_000.unfinished.abc.part").write_bytes(b"half")
    found = trained(tmp_path / "clean"), trained(tmp_path)
    assert found[0].path.read_bytes() == found[1].path.read_bytes()


@pytest.mark.parametrize("name", ["teacher_000.safetensors", "teacher_000.unfinished"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"damage")
    with pytest.raises(InputError, match=f"{name}: .*delete it"):
        trained(tmp_path)


def test_progress_and_saving_by_time(tmp_path, monkeypatch):
    told, clock, saved = [], [0.0], []
    monkeypatch.setattr(teachers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        teachers, "save_tensors", lambda path, tensors, about: saved.append(about["epoch"])
    )

    def tick(what, epoch, epochs):
        told.append((epoch, epochs))
        clock[0] += 4.0

    trained(tmp_path, progress=tick, save_every_seconds=8.0)
    assert told == [(epoch, 4) for epoch in range(5)]
    assert saved == [2, 4]


def test_a_partial_file_holds_what_the_next_epoch_needs(tmp_path):
    """Gone on with from a made-up state: nothing but the file decides what comes."""
    settings, network = tiny_teachers(recipe=tiny_recipe(epochs=5, momentum=0.9)), tiny_network()
    states: list[TrainingState] = []
    seed = (settings.seed, "teacher", 0)
    start = initial_parameters(network, *seed)
    train(network, start, *labelled(20), settings.recipe, seed, after_epoch=states.append)
    rows = torch.stack([start, *(state.theta for state in states[:3])])
    tensors = {"parameters": rows, "theta": states[2].theta, "velocity": states[2].velocity}
    save_tensors(
        tmp_path / "teacher_000.unfinished",
        tensors,
        {"epoch": 3, "validation": [{"accuracy": 0.5}] * 4},
    )
    resumed = trained(tmp_path, 0, settings)
    assert torch.equal(resumed.rows(4)[0], states[3].theta)
    assert not (tmp_path / "teacher_000.unfinished").exists()


def test_mean_snapshots_are_the_mean_of_an_epochs_parameters(tmp_path, monkeypatch):
    """Row t is the mean of theta after each of epoch t's steps; the training itself does not
    notice.
    """
    before: list[torch.Tensor] = []
    watched = lambda network, theta, *rest: (
        before.append(theta.clone()) or gradient(network, theta, *rest)
    )
    monkeypatch.setattr(training, "gradient", watched)
    mean, last = (
        trained(tmp_path / kind, 0, tiny_teachers(snapshots=kind)) for kind in ("mean", "last")
    )
    steps = len(before) // 2 // 4
    assert steps > 1 and all(
        torch.equal(a, b) for a, b in zip(before[: 4 * steps], before[4 * steps :])
    )
    assert torch.equal(mean.rows(0)[0], last.rows(0)[0])
    for epoch in (1, 2, 3):
        after = torch.stack(before[(epoch - 1) * steps + 1 : epoch * steps + 1])
        torch.testing.assert_close(mean.rows(epoch)[0], after.mean(0))
        assert torch.equal(last.rows(epoch)[0], after[-1])


def test_more_snapshots_than_epochs_are_refused():
    with pytest.raises(InputError, match="kept_epochs 6 is more than the 5 epochs"):
        parsed(TeacherSettings, {"recipe": {"epochs": 5}, "kept_epochs": 6}, "x")


def test_divergence_leaves_no_teacher(tmp_path):
    with pytest.raises(InputError, match="^learning_rate: "):
        trained(
            tmp_path,
            0,
            tiny_teachers(recipe=tiny_recipe(epochs=5, learning_rate=1e30)),
            save_every_seconds=0,
        )
    assert not teacher_path(tmp_path, 0).exists()


# Epochs are told 0 to 5, so there are six calls of progress, and with saving after every one six
# renames of the unfinished file before the seventh that makes the teacher's.
MOMENTS = {
    "at the start": [["progress", 1]],
    "after epoch 3": [["progress", 4]],
    "after the last epoch": [["progress", 6]],
    "after every epoch": [["progress", 1]] * 6,
    "twice at the same place": [["progress", 3], ["epoch", 1], ["epoch", 1]],
    "before a checkpoint is flushed": [["flush", 3]],
    "before a checkpoint has its name": [["rename", 4]],
    "once a checkpoint has its name": [["renamed", 4]],
    "before the teacher has its name": [["rename", 7]],
    "once the teacher has its name": [["renamed", 7]],
    "while scoring": [["epoch", 4]],
    "all in a row": [
        ["epoch", 1],
        ["rename", 1],
        ["renamed", 2],
        ["flush", 2],
        ["progress", 2],
        ["rename", 2],
    ],
}


def scenario(folder: Path, moments: list, *, save_every_seconds=0.0) -> dict:
    recipe = tiny_recipe(epochs=6, momentum=0.9, schedule="cosine", sampling="balanced").model_dump(
        mode="json"
    )
    return {
        "run": "teacher",
        "folder": str(folder),
        "settings": {"recipe": recipe, "kept_epochs": 5},
        "moments": moments,
        "save_every_seconds": save_every_seconds,
    }


@pytest.mark.parametrize(
    "names",
    [("after epoch 3", "all in a row"), pytest.param(tuple(MOMENTS), marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_killed_equals_uninterrupted_to_the_bit(tmp_path, names):
    cases = [scenario(tmp_path / name, MOMENTS[name]) for name in names]
    cases.append(scenario(tmp_path / "nothing saved", [["progress", 4]], save_every_seconds=1000.0))
    killed_and_resumed([scenario(tmp_path / "uninterrupted", []), *cases])
    whole = teacher_path(tmp_path / "uninterrupted", 1).read_bytes()
    for case in cases:
        assert teacher_path(case["folder"], 1).read_bytes() == whole, case["moments"]


def test_an_interrupted_teacher_goes_on_and_does_not_start_again(tmp_path):
    def stopped(what, epoch, epochs):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a", progress=stopped, save_every_seconds=0.0)
    told = []
    resumed = trained(tmp_path / "a", progress=lambda what, epoch, epochs: told.append(epoch))
    assert told == [4]
    assert resumed.path.read_bytes() == trained(tmp_path / "b").path.read_bytes()


@pytest.mark.slow
def test_killed_at_any_time_equals_uninterrupted(tmp_path):
    draw = random.Random(0)
    cases = [
        scenario(tmp_path / str(k), [["seconds", draw.uniform(0, 0.3)] for _ in range(4)])
        for k in range(8)
    ]
    for case in cases:
        recipe = case["settings"]["recipe"] | {"epochs": 60}
        case["settings"] = {"recipe": recipe, "kept_epochs": 60}
    whole = [cases[0] | {"folder": f"{cases[0]['folder']}-whole", "moments": []}]
    killed_and_resumed(whole + cases)
    for case in cases:
        assert (
            teacher_path(case["folder"], 1).read_bytes()
            == teacher_path(whole[0]["folder"], 1).read_bytes()
        )
