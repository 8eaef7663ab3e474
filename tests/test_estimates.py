"""Estimates: counted memory and disk against what is measured, time by counting steps, and a
refusal that names what fits.
"""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.measuring import peak
from benchmarks.problems import Problem
from medddist import estimates
from medddist.base import machine
from medddist.base.errors import InputError
from medddist.estimates import (
    Shape,
    Speeds,
    disk_bytes,
    distill_seconds,
    evaluate_seconds,
    memory_bytes,
    teacher_seconds,
    told_before,
)
from medddist.method.fast.derivatives import slopes
from medddist.method.matching import matching_gradient
from medddist.method.networks import NetworkSettings, convnet, initial_parameters
from medddist.method.training import Recipe
from medddist.study.profile import load_profile
from medddist.study.scores import METHODS
from medddist.study.study import Study

SHAPE = Shape(train=400, validation=50, test=100, classes=4, channels=1, image_size_px=32)
TINY = {
    "data.images": 120,
    "network.width": 4,
    "network.depth": 2,
    "teachers.teachers": 1,
    "teachers.recipe.epochs": 2,
    "teachers.kept_epochs": 2,
    "distill.iterations": 2,
    "distill.max_start_epoch": 2,
    "distill.images_per_class": 2,
    "evaluate.recipe.epochs": 1,
    "references.good_recipe.epochs": 1,
    "references.draws": 1,
    "references.tuning_networks": 1,
    "data.image_size_px": 16,
}


class OneEach(Speeds):
    """A second a step, nothing for predictions: seconds are steps."""

    def __init__(self):
        pass

    def training_step(self, batch, name="convnet"):
        return 1.0

    def student_step(self):
        return 1.0

    def prediction(self):
        return 0.0


def test_steps_are_counted():
    profile = load_profile("smoke")
    assert OneEach().training(100, Recipe(epochs=3, batch_size=25)) == 12
    assert OneEach().training(16, Recipe(epochs=3, batch_size=256)) == 3
    assert teacher_seconds(OneEach(), profile, SHAPE) == 3 * 400 / 64
    candidates, epochs = (
        3,
        20,
    )  # 8 iterations, one every 4 and one at the start; each trains a network
    assert distill_seconds(OneEach(), profile, SHAPE) == 8 * 4 + candidates * epochs
    full = 2 * 4 * 400 / 64
    released, random = 2 * 20, (2 + 2) * 20
    assert (
        evaluate_seconds(OneEach(), profile, SHAPE, METHODS) == 2 * released + 2 * random + 2 * full
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(load_profile("smoke", TINY), "phantom", tmp_path_factory.mktemp("study"), "cpu")


def test_what_is_kept_costs_nothing_and_the_disk_it_takes_is_as_counted(study, monkeypatch):
    monkeypatch.setattr(estimates, "AT_ONCE_SECONDS", 0)
    line = told_before(study, "distill")
    assert "teachers" in line and "distill" in line and "\n" not in line
    study.teachers()
    counted = disk_bytes(study.profile, Shape.of(study.data), "teachers")
    taken = sum(
        path.stat().st_size
        for path in study.out.rglob("*")
        if path.suffix in (".safetensors", ".npy")
    )
    assert counted / 2 < taken < 2 * counted + 20_000  # the file's own header
    assert told_before(study, "teachers") == ""
    assert "teachers" not in told_before(study, "distill")


def test_a_step_that_was_stopped_is_still_to_be_done(study, monkeypatch):
    def interrupted(*arguments, **named):
        time.sleep(0.02)  # so that there are seconds to note
        raise KeyboardInterrupt

    monkeypatch.setattr("medddist.study.study.trained_networks", interrupted)
    monkeypatch.setattr(
        estimates, "evaluate_seconds", lambda speeds, profile, shape, missing: float(len(missing))
    )
    for method in ("full_teacher", "full_good"):
        with pytest.raises(KeyboardInterrupt):
            study.scored(method)
    (left,) = estimates.estimates(study, ("evaluate",))
    assert left.seconds == len(METHODS) - 1, "all but the majority class, which costs nothing"


def test_nothing_is_said_of_what_is_done_at_once():
    said = lambda seconds: estimates.warning_line(
        [estimates.Estimate("distill", seconds, 2**20, 0)]
    )
    assert said(0.4) == "" and "distill" in said(40)


def test_short_memory_is_refused_with_a_setting_that_would_fit(study, monkeypatch):
    monkeypatch.setattr(machine, "resident_bytes", lambda: 0)
    needed = {
        step: memory_bytes(study.profile, Shape.of(study.data), step, 0)
        for step in ("teachers", "distill")
    }
    monkeypatch.setattr(machine, "free_memory_bytes", lambda device: max(needed.values()))
    told_before(study, "distill")
    monkeypatch.setattr(machine, "free_memory_bytes", lambda device: needed["distill"] // 2)
    with pytest.raises(InputError, match=r"needs about .* are free; --set [a-z._]+=\d+ would fit$"):
        told_before(study, "distill")


def test_short_disk_is_refused(study, monkeypatch):
    monkeypatch.setattr(machine, "free_disk_bytes", lambda folder: 10)
    with pytest.raises(InputError, match="of disk free and about .* give another --out, or "):
        told_before(study, "distill")


def test_frozen_relu_masks_are_as_large_as_counted():
    settings = NetworkSettings(width=5, depth=3)
    network, images = convnet(settings, 1, 4, 21), torch.zeros(3, 1, 21, 21)
    first = slopes(network, initial_parameters(network, 0), images, torch.tensor([0, 1, 2]))
    bytes_of_masks = sum(mask.numel() * mask.element_size() for mask in first.open)
    assert bytes_of_masks == estimates.mask_bytes(settings, 21, 3)


def test_more_images_than_there_are_is_said_before_teachers_are_trained(tmp_path):
    study = Study(
        load_profile("smoke", TINY | {"distill.images_per_class": 100}), "phantom", tmp_path, "cpu"
    )
    with pytest.raises(
        InputError,
        match="distill.images_per_class: 100 is more than the .* of the class 'Viral Pneumonia'",
    ):
        told_before(study, "distill")
    assert not list(tmp_path.rglob("teacher_*"))


@pytest.mark.slow
@pytest.mark.skipif(not machine.MEMORY_INFO.exists(), reason="only Linux tells a process's peak")
def test_the_sweeps_memory_is_within_a_factor_of_two():
    problem = Problem(width=32, depth=3, image_size_px=32, images=160, student_steps=8)
    measured = peak(matching_gradient, problem).above_rest_mib * 2**20
    counted = estimates.SWEEP * 4 * 32 * 32**2 * 160
    assert measured / 2 < counted < 2 * measured


def test_the_machine_is_told_in_words(tmp_path):
    assert [machine.told_time(s) for s in (5, 400, 9000, 300_000)] == [
        "5 s",
        "7 min",
        "2.5 h",
        "3 days",
    ]
    assert [machine.told_bytes(b) for b in (2e6, 1.44e9)] == ["2 MB", "1.4 GB"]
    assert machine.free_memory_bytes(torch.device("cpu")) > 0 and machine.resident_bytes() > 1e6
    assert machine.free_disk_bytes(tmp_path / "not" / "there") > 0
