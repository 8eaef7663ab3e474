"""What one iteration asks: which student, along which teacher or on which real images."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from small import CLASSES, labelled, tiny_distill, tiny_network, tiny_recipe, walk, walks

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method import iterations
from medddist.method.distilled import Distilled
from medddist.method.iterations import along_teachers, on_real_images
from medddist.method.networks import initial_parameters
from medddist.method.trajectories import open_trajectory, write_trajectory

RECIPE = tiny_recipe(momentum=0.9, weight_decay=5e-4)


def distilled_set():
    images, labels = labelled(6)
    return Distilled(images, labels, torch.tensor(0.05).log())


def real_settings(**changes):
    small = {"method": "real_loss", "window_steps": 3, "horizon_steps": 6, "real_batch_size": 10}
    return tiny_distill(**(small | changes))


def unequal():
    """30 images, of which 24, 4 and 2 have the classes."""
    images, _ = labelled(30)
    return images, torch.tensor([0] * 24 + [1] * 4 + [2] * 2)[
        torch.randperm(30, generator=generator(0))
    ]


@pytest.fixture
def asked(monkeypatch):
    """What the gradients are called with, and by name; they answer at once."""
    calls = []

    def answer(*given, way):
        calls.append((*given, way))
        return 0.5, {}

    monkeypatch.setattr(iterations, "matching_gradient", answer)
    monkeypatch.setattr(iterations, "real_loss_gradient", answer)
    return calls


def many(ask, count: int = 200) -> None:
    random, distilled = generator("many"), distilled_set()
    for _ in range(count):
        assert ask(distilled, random) == (0.5, {})


# ---- along teachers ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exact", "difference"])
def test_every_teacher_and_every_epoch_below_the_limit_is_drawn(tmp_path, asked, way):
    network = tiny_network()
    teachers = walks(tmp_path, network, count=2, snapshots=5)
    settings = tiny_distill(max_start_epoch=3, expert_epochs=2, gradient=way)
    many(along_teachers(network, teachers, settings))
    rows = [walk(network, 5, k) for k in range(2)]
    drawn = Counter()
    for _, distilled, run, augmentation, way_asked in asked:
        (place,) = [
            (teacher, epoch)
            for teacher in range(2)
            for epoch in range(5)
            if torch.equal(rows[teacher][epoch], run.start)
        ]
        assert torch.equal(run.target, rows[place[0]][place[1] + 2])
        assert [len(batch) for batch in run.batches] == [4, 2, 4]
        assert augmentation == settings.augmentation and way_asked == way
        drawn[place] += 1
    assert set(drawn) == {(teacher, epoch) for teacher in range(2) for epoch in range(3)}
    assert min(drawn.values()) > 15  # of 33 expected


def test_trajectories_that_do_not_serve_are_refused(tmp_path):
    network = tiny_network()
    teachers = walks(tmp_path, network, count=1, snapshots=4)
    with pytest.raises(InputError, match="^teachers: there are no trajectories to match"):
        along_teachers(network, [], tiny_distill())
    with pytest.raises(InputError, match="parameters per snapshot, and the network has"):
        along_teachers(tiny_network(3), teachers, tiny_distill())
    along_teachers(network, teachers, tiny_distill(max_start_epoch=3))
    with pytest.raises(InputError, match="^max_start_epoch: 4 and expert_epochs 1 need snapshots"):
        along_teachers(network, teachers, tiny_distill(max_start_epoch=4))


def test_a_teacher_that_stands_still_is_refused(tmp_path):
    network, path = tiny_network(), tmp_path / "still.safetensors"
    write_trajectory(path, walk(network, 1).expand(4, -1), {"index": 0})
    ask = along_teachers(network, [open_trajectory(path)], tiny_distill())
    with pytest.raises(InputError, match="does not move after epoch"):
        ask(distilled_set(), generator(0))


# ---- on real images ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exact", "difference"])
def test_students_have_any_length_from_the_window_to_the_horizon(asked, way):
    settings = real_settings(window_steps=3, horizon_steps=6, gradient=way)
    images, labels = labelled(12)
    many(on_real_images([tiny_network()], (images, labels), labels, settings, RECIPE))
    lengths = Counter(len(run.batches) for _, _, run, *_ in asked)
    assert set(lengths) == {3, 4, 5, 6} and min(lengths.values()) > 25  # of 50 expected
    for _, _, run, augmentation, _, way_asked in asked:
        assert (run.window, run.momentum, run.weight_decay) == (3, 0.9, 5e-4)
        assert [len(batch) for batch in run.batches[:3]] == [4, 2, 4]
        assert augmentation == settings.augmentation and way_asked == way


def test_a_horizon_as_long_as_the_window_is_one_length(asked):
    settings, (images, labels) = real_settings(horizon_steps=3), labelled(12)
    many(on_real_images([tiny_network()], (images, labels), labels, settings, RECIPE), 20)
    assert {len(run.batches) for _, _, run, *_ in asked} == {3}


@pytest.mark.parametrize("targets", ["classes", "probabilities"])
@pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy"])
def test_a_batch_has_each_class_equally_often_where_that_selects(asked, metric, targets):
    """Else as often as it is there; and what an image is to be answered with goes with it."""
    images, labels = unequal()
    answers = labels
    if targets == "probabilities":
        answers = torch.rand(30, CLASSES, generator=generator("answers")).softmax(1)
    settings = real_settings(selection_metric=metric, real_batch_size=12)
    many(on_real_images([tiny_network()], (images, labels), answers, settings, RECIPE))
    counts, used = torch.zeros(CLASSES), set()
    for *_, (x, y), _ in asked:
        assert x.shape == (12, 1, 8, 8)
        places = [int((images == one).flatten(1).all(1).nonzero()) for one in x]
        assert torch.equal(y, answers[places])
        counts += labels[places].bincount(minlength=CLASSES)
        used.update(places)
        if metric == "accuracy":
            assert len(set(places)) == 12
    expected = {"balanced_accuracy": [4.0, 4.0, 4.0], "accuracy": [9.6, 1.6, 0.8]}[metric]
    torch.testing.assert_close(counts / 200, torch.tensor(expected), rtol=0, atol=0.4)
    assert used == set(range(30))


@pytest.mark.parametrize("size, expected", [(1, 1), (12, 12), (30, 30), (1000, 30)])
def test_a_batch_is_as_large_as_set_and_no_larger_than_the_data(asked, size, expected):
    images, labels = unequal()
    settings = real_settings(real_batch_size=size)
    many(on_real_images([tiny_network()], (images, labels), labels, settings, RECIPE), 3)
    assert {tuple(map(len, real)) for *_, real, _ in asked} == {(expected, expected)}


def test_students_start_fresh(asked):
    """As networks start anywhere in the library, and another one each time."""
    network, (images, labels) = tiny_network(), labelled(12)
    many(on_real_images([network], (images, labels), labels, real_settings(), RECIPE), 20)
    starts = torch.stack([run.start for _, _, run, *_ in asked])
    usual = torch.stack([initial_parameters(network, k) for k in range(20)])
    assert len(starts.unique(dim=0)) == 20
    mean = usual.norm(dim=1).mean().item()
    assert starts.norm(dim=1).mean().item() == pytest.approx(mean, rel=0.05)
    constant = usual.std(0) == 0  # biases and scales
    assert constant.any() and torch.equal(starts[:, constant], usual[:, constant])


def test_students_start_at_a_teachers_snapshot_below_the_limit(tmp_path, asked):
    network, (images, labels) = tiny_network(), labelled(12)
    teachers = walks(tmp_path, network, count=2, snapshots=5)
    settings = real_settings(max_start_epoch=3)
    many(on_real_images([network], (images, labels), labels, settings, RECIPE, teachers))
    drawn = Counter(
        (teacher, epoch)
        for _, _, run, *_ in asked
        for teacher in range(2)
        for epoch, row in enumerate(walk(network, 5, teacher))
        if torch.equal(row, run.start)
    )
    assert set(drawn) == {(teacher, epoch) for teacher in range(2) for epoch in range(3)}
    assert drawn.total() == 200 and min(drawn.values()) > 15  # of 33 expected


def test_students_are_of_every_network_that_was_named(asked):
    networks, (images, labels) = [tiny_network(), tiny_network(width=6)], labelled(12)
    many(on_real_images(networks, (images, labels), labels, real_settings(), RECIPE), 20)
    drawn = Counter(networks.index(network) for network, *_ in asked)
    assert set(drawn) == {0, 1}
    for network, _, run, *_ in asked:
        assert len(run.start) == network.parameter_count


def test_teachers_that_do_not_serve_are_refused_before_anything_starts(tmp_path):
    network, (images, labels) = tiny_network(), labelled(12)
    given = [network], (images, labels), labels, real_settings(max_start_epoch=6), RECIPE
    with pytest.raises(InputError, match="^max_start_epoch: "):
        on_real_images(*given, walks(tmp_path, network, snapshots=5))
    with pytest.raises(InputError, match="^teachers: there are no trajectories"):
        on_real_images(*given, [])


# ---- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exact", "difference"])
@pytest.mark.parametrize("method", ["trajectory", "real_loss", "real_loss from teachers"])
def test_the_same_generator_gives_the_same_answer_to_the_bit(tmp_path, method, way):
    network, (images, labels) = tiny_network(), unequal()
    teachers = walks(tmp_path, network)
    if method == "trajectory":
        ask = along_teachers(network, teachers, tiny_distill(gradient=way))
    else:
        settings = real_settings(gradient=way)
        given = [network], (images, labels), labels, settings, RECIPE
        ask = on_real_images(*given, teachers if "teachers" in method else None)
    (loss, found), (again, same), (other, _) = (
        ask(distilled_set(), generator("draws", k)) for k in (1, 1, 2)
    )
    assert loss == again != other and set(found) == {"images", "log_step_size"}
    assert all(torch.equal(found[name], same[name]) for name in found)
    assert found["images"].any() and found["log_step_size"] != 0
