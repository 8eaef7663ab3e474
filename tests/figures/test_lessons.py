"""What a lesson concludes follows from its numbers, whichever way they turn out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medddist.figures import lessons
from medddist.method.distill import DistillSettings


def row(method: str, lead: tuple[float, float] | None, sensitivities=(0.9, 0.4)) -> dict:
    score = lambda value: {"mean": value, "low": value - 0.05, "high": value + 0.05}
    classes = {f"class_{k}": {"sensitivity": score(v)} for k, v in enumerate(sensitivities)}
    made = {"method": method, "label": method, "balanced_accuracy": score(0.7)}
    if lead:
        low, high = lead
        difference = {"difference": (low + high) / 2, "low": low, "high": high}
        made["distilled_lead"] = {"balanced_accuracy": difference}
    return made | {"per_class": classes}


@pytest.mark.parametrize(
    "lead, expected",
    [
        ((0.01, 0.09), "better than: random_balanced."),
        ((-0.01, 0.09), "not significantly different from: random_balanced."),
        ((-0.09, -0.01), "worse than: random_balanced."),
    ],
)
def test_the_interval_decides_what_is_concluded_of_scores(lead, expected):
    said = lessons.of_scores([row("distilled", None), row("random_balanced", lead)]).text
    low, high = lead
    assert f"random_balanced: {(low + high) / 2:+.3f} [{low:+.3f}, {high:+.3f}]." in said
    assert f"They are {expected}" in said and "recognise least is class 1" in said
    others = {"better than", "worse than", "not significantly"}
    assert sum(f"They are {how}" in said for how in others) == 1


def test_a_class_that_all_images_recognise_is_set_against_it():
    rows = [row("distilled", None), row("full_good", (-0.2, -0.1), sensitivities=(0.5, 0.8))]
    assert "sensitivity of 0.400 [0.350, 0.450]; with all images it is 0.800" in (
        lessons.of_scores(rows).text
    )


@pytest.mark.parametrize("score, expected", [(0.62, "a shortcut"), (0.55, "no clear shortcut")])
def test_a_rule_is_a_shortcut_where_it_is_clearly_above_chance(score, expected):
    rules = [{"rule": "the source", "balanced_accuracy": score}]
    said = lessons.of_data({"normal": 60, "COVID": 40}, rules).text
    assert f"reaches {score:.2f}: {expected}" in said
    assert "normal is right for 60% of the test images, at a balanced accuracy of 0.50" in said


@pytest.mark.parametrize("last, expected", [(0.8, "rises by 0.30 to 0.80"), (0.4, "does not rise")])
def test_teachers_rise_or_do_not(last, expected):
    curve = [{"balanced_accuracy": score} for score in (0.5, 0.6, last)]
    said = lessons.of_teachers([curve, curve], np.array([[2.0, 1.0]]), 5).text
    assert expected in said and "Over the 2 epochs" in said and "early has more" in said


def distillation(losses: list[float], scores: dict[int, float], selected: int) -> SimpleNamespace:
    candidates = [{"iteration": k, "balanced_accuracy": score} for k, score in scores.items()]
    return SimpleNamespace(
        losses=torch.tensor(losses), candidates=candidates, selected_iteration=selected
    )


def test_the_course_is_that_of_the_methods_own_loss_and_says_where_it_does_not_fall():
    result = distillation([1.0, 0.9, 0.8], {0: 0.5, 3: 0.6}, 3)
    said = lessons.of_course(result, DistillSettings()).text
    assert "The matching loss falls from 1.00" in said and "+0.100 against the initial" in said
    result = distillation([0.8, 0.9, 1.0], {0: 0.7, 3: 0.6}, 0)
    said = lessons.of_course(result, DistillSettings(method="real_loss")).text
    assert "The loss on real images does not fall" in said and "no candidate beats" in said
    said = lessons.of_course(distillation([], {}, 3), DistillSettings()).text
    assert "loss falls" not in said and "is released" not in said


def test_the_method_and_its_labels_are_named():
    said = lessons.of_method(DistillSettings(method="real_loss", labels="learned")).text
    assert "loss on real images" in said and "are learned" in said
    assert "trajectories" in lessons.of_method(DistillSettings()).text


def test_confidence_above_and_below_accuracy_are_told_apart():
    sure = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    unsure = np.array([[[0.6, 0.4], [0.4, 0.6]]])
    said = lessons.of_confidence({"a": sure, "b": unsure}, np.array([0, 1])).text
    assert "a: 0.50 more confident than right; b: 0.40 less confident than right" in said


@pytest.mark.parametrize("own, expected", [(9, "still"), (2, "no longer")])
def test_images_resemble_their_start_or_do_not(own, expected):
    said = lessons.of_images(own, 0.3, {"initial": 0.7, "distilled": 1.0}, 10).text
    assert f"{own} of 10" in said and f"most images {expected} resemble" in said
    assert "70% of the initial images and 100% of the distilled images" in said
