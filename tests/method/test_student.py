"""A student's training and the sweep back over it: against one graph, torch's optimiser, finite
differences, and mistakes that have to be noticed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from students import (
    DESCENT,
    EVERYTHING,
    MISTAKES,
    QUESTIONS,
    Case,
    errors,
    most_kept_at_once,
    require_finite_differences,
    swept_with,
    tiny_student,
    trained_by_torch,
)

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method.augment import Draws, draw
from medddist.method.matching import Segment, matching_gradient, unrolled_gradient
from medddist.method.student import Student, student, swept_gradient, trained_student
from medddist.method.training import Recipe, sampled_order, train

WINDOWS = [None, 1, 3, 6, 9]  # of 6 steps
DESCENTS = [
    {"momentum": momentum, "weight_decay": decay}
    for momentum in (0.0, 0.9)
    for decay in (0.0, 0.01)
]
both_ways = pytest.mark.parametrize("way", [Case.swept, Case.unrolled], ids=["sweep", "graph"])


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("descent", DESCENTS, ids=str)
def test_a_student_ends_where_torchs_optimiser_does(descent, labels):
    """Whatever the window is: it changes what is differentiated, and not the training."""
    ends = [
        trained_student(case.network, case.distilled, case.run, EVERYTHING).detach()
        for case in (tiny_student(labels=labels, **descent, window=window) for window in WINDOWS)
    ]
    expected = trained_by_torch(tiny_student(labels=labels, **descent))
    gone = (expected - tiny_student().run.start).norm()
    assert all((end - expected).norm() < 1e-12 * gone for end in ends)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_a_student_trains_as_the_evaluation_does(labels):
    """`training.train` with the same batches and the same augmentation ends at the same place."""
    case = tiny_student(labels=labels)
    distilled, alpha = case.distilled, case.distilled.step_size.item()
    recipe = Recipe(epochs=3, batch_size=4, learning_rate=alpha, augmentation=EVERYTHING, **DESCENT)
    batches, draws = [], []
    for epoch in range(3):
        random = generator("as evaluated", "epoch", epoch)
        for batch in sampled_order(distilled.targets, "natural", random).split(4):
            batches.append(batch)
            draws.append(draw(len(batch), random, distilled.images))
    run = Student(case.run.start, tuple(batches), tuple(draws), **DESCENT, window=2)
    end = trained_student(case.network, distilled, run, EVERYTHING)
    given = case.network, run.start, distilled.images, distilled.targets
    expected = train(*given, recipe, ("as evaluated",))
    assert len(run.batches) == 6 and {len(batch) for batch in batches} == {2, 4}
    assert (end - expected).norm() < 1e-12 * (expected - run.start).norm()


def test_a_student_is_drawn_from_its_generator_on_the_images_terms():
    start, like = torch.zeros(3), torch.zeros(6, 1, 8, 8, dtype=torch.float64)
    a, again, b = (student(start, like, 4, 5, generator(k), **DESCENT, window=2) for k in (1, 1, 2))
    assert (a.momentum, a.weight_decay, a.window, a.before_window) == (0.9, 0.01, 2, 3)
    assert a.start.dtype == a.draws[0].uniform.dtype == torch.float64
    assert (
        [len(one.uniform) for one in a.draws] == [len(one) for one in a.batches] == [4, 2, 4, 2, 4]
    )
    assert all(torch.equal(x, y) for x, y in zip(a.batches, again.batches))
    assert all(torch.equal(x.uniform, y.uniform) for x, y in zip(a.draws, again.draws))
    assert not torch.equal(a.draws[0].uniform, b.draws[0].uniform)


@pytest.mark.parametrize("window, expected", [(None, 0), (1, 5), (6, 0), (9, 0)])
def test_the_steps_before_the_window(window, expected):
    assert tiny_student(window=window).run.before_window == expected


# ---- the gradient ------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_sweep_equals_one_graph(question, labels, window):
    """1e-9 relative, in the loss and in every learned tensor."""
    for k, descent in enumerate(DESCENTS):
        case = tiny_student(question, labels, **descent, window=window, channels=(1, 3)[k % 2])
        (loss, found), (expected_loss, expected) = case.swept(), case.unrolled()
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        assert expected.keys() == case.distilled.learned().keys()
        assert max(errors(found, expected).values()) <= 1e-9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("window", [None, 8])
def test_the_sweep_equals_one_graph_after_many_steps(window, channels):
    case = tiny_student("classes", "soft", 20, channels=channels, **DESCENT, window=window)
    (loss, found), (expected_loss, expected) = case.swept(), case.unrolled()
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert max(errors(found, expected).values()) <= 1e-9


@pytest.mark.parametrize("window", [None, 1, 3, 9])
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("question", ["distance", "classes"])
def test_sweep_and_graph_against_finite_differences(question, labels, window):
    """Of an independent training, whose steps before the window stay as they are."""
    case = tiny_student(question, labels, 5, **DESCENT, window=window)
    require_finite_differences(case, [way()[1] for way in (case.swept, case.unrolled)])


def test_a_window_shorter_than_the_training_leaves_something_out():
    case = tiny_student(**DESCENT, window=3)
    found, whole = case.swept()[1], case.training_with(window=None).swept()[1]
    assert min(errors(found, whole).values()) > 0.01


def test_an_image_that_only_comes_before_the_window_has_no_gradient():
    case = tiny_student(**DESCENT, steps=6, window=1)
    used = torch.zeros(6, dtype=torch.bool)
    used[case.run.batches[-1]] = True
    assert 0 < used.sum() < 6
    for way in (case.swept, case.unrolled):
        assert torch.equal(way()[1]["images"].flatten(1).abs().amax(1) > 0, used)


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("window", [None, 6])
def test_without_momentum_decay_and_window_it_is_trajectory_matching(window, labels):
    case = tiny_student("distance", labels, window=window)
    segment = Segment(case.run.start, case.target, case.run.batches, case.run.draws)
    loss, found = case.swept()
    for of in (matching_gradient, unrolled_gradient):
        expected_loss, expected = of(case.network, case.distilled, segment, EVERYTHING)
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        assert max(errors(found, expected).values()) <= 1e-12


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("window", [None, 8])
def test_differences_give_the_gradient_to_half_of_the_digits(window, labels, question):
    """20 steps: in float64 1e-6 relative, in float32 a cosine above 0.9999."""
    case = tiny_student(question, labels, 20, **DESCENT, step_size=0.02, window=window)
    loss, exact = case.unrolled()
    found_loss, found = case.swept("difference")
    assert found_loss == pytest.approx(loss, rel=1e-12)
    assert max(errors(found, exact).values()) <= 1e-6
    single = case.single().swept("difference")[1]
    for name, value in exact.items():
        assert F.cosine_similarity(single[name].double().flatten(), value.flatten(), 0) > 0.9999
        assert single[name].norm().item() == pytest.approx(value.norm().item(), rel=1e-2)


@pytest.mark.parametrize("question", ["distance", "classes"])
def test_the_sweep_is_as_exact_in_single_precision_as_one_graph(question):
    """The median over cases of its error against float64 is at most twice that of the graph."""
    swept, unrolled = [], []
    for seed in range(9):
        case = tiny_student(question, steps=20, seed=seed, **DESCENT, step_size=0.02, window=12)
        exact = case.unrolled()[1]
        swept.append(errors(case.single().swept()[1], exact)["images"])
        unrolled.append(errors(case.single().unrolled()[1], exact)["images"])
    assert np.median(swept) <= 2 * np.median(unrolled) < 1e-3


@pytest.mark.parametrize("question", ["distance", "classes"])
def test_what_is_kept_for_backward_passes_does_not_grow_with_the_window(question):
    """Of one graph it grows in proportion; there, that shows that what is kept is counted."""
    most = {
        (way, window): most_kept_at_once(lambda: getattr(case, way)())
        for window in (2, 16)
        for case in [tiny_student(question, steps=16, **DESCENT, window=window)]
        for way in ("swept", "unrolled")
    }
    assert most["swept", 16] == most["swept", 2] < most["unrolled", 2] / 2
    assert most["unrolled", 16] > 6 * most["unrolled", 2]


def test_nothing_that_is_handed_in_is_changed():
    case = tiny_student("classes", "soft", **DESCENT, window=3)
    given = *case.distilled.learned().values(), case.run.start, *case.real
    before = [tensor.clone() for tensor in given]
    case.swept()
    assert all(torch.equal(a, b) for a, b in zip(before, given))
    assert not any(b.requires_grad or b.grad is not None for b in given)


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_mistake_in_the_sweep_would_be_noticed(question):
    """Each makes the images' gradient or the step size's wrong by 1e-3 or more: a million times
    what the comparison with one graph lets pass.
    """
    case = tiny_student(question, "soft", **DESCENT, window=4)
    expected = case.unrolled()[1]
    assert max(errors(swept_with(case)[1], expected).values()) <= 1e-9
    wrong = {
        mistake: max(errors(swept_with(case, mistake)[1], expected).values())
        for mistake in MISTAKES
    }
    assert min(wrong.values()) > 1e-3, wrong


@both_ways
@pytest.mark.parametrize(
    "changes, said",
    [
        (
            lambda run: {"draws": (), "batches": ()},
            "batches: the student has no step; give one batch or more",
        ),
        (
            lambda run: {"draws": ()},
            "draws: the student has 0 for 6 batches; give one for each student step",
        ),
        (
            lambda run: {"batches": (*run.batches, run.batches[0])},
            "draws: the student has 6 for 7 batches; give one for each student step",
        ),
        (
            lambda run: {"draws": (Draws(run.draws[0].uniform[:1]), *run.draws[1:])},
            "draws: there are 1 for a batch of 4 images; give one for each image",
        ),
        (
            lambda run: {"start": run.start[:-1]},
            "start: has shape (254,) and the network (255,); give parameters of this network",
        ),
        (
            lambda run: {"window": 0},
            "window: 0 steps cannot be differentiated through; give one or more, or None for all",
        ),
    ],
    ids=["no steps", "no draws", "a batch too many", "an image too few", "start", "window"],
)
def test_a_student_that_does_not_fit_is_refused_in_one_line(way, changes, said):
    case = tiny_student(**DESCENT)
    wrong = replace(case, run=replace(case.run, **changes(case.run)))
    with pytest.raises(InputError) as refused:
        way(wrong)
    assert str(refused.value) == said


def test_another_way_is_refused():
    with pytest.raises(
        ValueError, match="^way: 'exakt' is not known; use one of exact, difference$"
    ):
        tiny_student().swept("exakt")


def test_a_question_is_asked_once_and_at_the_students_end():
    case, places = tiny_student(**DESCENT, window=2), []

    def question(theta):
        places.append(theta.clone())
        return case.asked()(theta)

    swept_gradient(case.network, case.distilled, case.run, EVERYTHING, question)
    (place,) = places
    assert torch.allclose(place, trained_by_torch(case), rtol=0, atol=1e-13)
