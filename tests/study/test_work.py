"""Work that is counted from settings against the work that the steps really do."""

from __future__ import annotations

from collections import Counter

import pytest
from test_study import tiny_study

from medddist.method import iterations, training
from medddist.study import labels
from medddist.study.scores import METHODS
from medddist.study.study import Study
from medddist.study.work import (
    Work,
    distillation_work,
    label_work,
    method_work,
    shape_of,
    teacher_work,
)


class Done:
    """Counts what is called from now on: {(what, network's class): amount} and largest batches."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.work, self.largest = monkeypatch, Counter(), Counter()
        self.count(training, "gradient", lambda network, theta, x, *_: ("train", network, len(x)))
        self.count(training, "logits", lambda network, theta, x: ("predict", network, len(x)))
        steps = lambda network, distilled, run, *_: ("student", network, run)
        self.count(iterations, "matching_gradient", steps)

    def count(self, module, name, describe):
        original = getattr(module, name)

        def counting(*given, **named):
            what, network, amount = describe(*given)
            key = what, type(network.module).__name__
            batch = amount
            if what == "student":
                batch, amount = len(amount.batches[0]), len(amount.batches)
            self.work[key] += amount
            self.largest[key] = max(batch, self.largest[key])
            return original(*given, **named)

        self.monkeypatch.setattr(module, name, counting)

    def take(self) -> Counter:
        """What was counted since the last time."""
        work, self.work = self.work, Counter()
        return work


@pytest.fixture
def done(monkeypatch) -> Done:
    return Done(monkeypatch)


def of_convnet(work: Work) -> Counter:
    """The counts of work that the ConvNet alone does, as `Done` has them."""
    total = Counter()
    for unit, amount in work.items():
        assert unit.network == "convnet"
        total[unit.what, "ConvNet"] += amount
    return total


def all_steps(study: Study, done: Done) -> None:
    profile, shape = study.profile, shape_of(study.data)
    done.take()
    labels.label_temperature(study)
    assert done.take() == of_convnet(label_work(profile, shape))
    for seed in profile.seeds:
        done.take()
        study.train_teachers(seed)
        teachers = [teacher_work(profile, shape)] * profile.teachers.teachers
        assert done.take() == of_convnet(sum(teachers, Work()))
        study.distillation(seed)
        assert done.take() == of_convnet(distillation_work(profile, shape))
    for method in METHODS:
        study.scored(method)
        assert done.take() == of_convnet(method_work(profile, shape, method))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distill.iterations": 0, "teachers.kept_epochs": 5},
        {"distill.iterations": 3, "distill.select_every": 3, "distill.selection_networks": 2},
        {"distill.selection": "last", "distill.segments_per_step": 2, "seeds": [0, 1]},
        {"references.draws": 3, "references.networks_per_draw": 2, "references.full_networks": 2},
        {"references.tuning_networks": 2, "evaluate.networks": 3, "distill.images_per_class": 3},
        {"distill.labels": "teachers", "references.label_temperatures": [2]},
    ],
    ids=lambda changes: ",".join(name.split(".")[-1] for name in changes) or "none",
)
def test_the_steps_do_the_work_that_is_counted(tmp_path, done, changes):
    all_steps(tiny_study(tmp_path, **changes), done)


def test_batches_are_as_large_as_counted(tmp_path, done):
    study = tiny_study(tmp_path, **{"references.good_recipe.batch_size": 32})
    all_steps(study, done)
    shape, profile = shape_of(study.data), study.profile
    units = [*distillation_work(profile, shape), *label_work(profile, shape)]
    batches = Counter()
    for unit in units:
        batches[unit.what] = max(batches[unit.what], unit.batch)
    assert done.largest["train", "ConvNet"] == batches["train"] == 32
    assert done.largest["student", "ConvNet"] == batches["student"] == 4
