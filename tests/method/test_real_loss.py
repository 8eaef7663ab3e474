"""The loss of a student's end on real images, and its gradient: by hand, against one graph and
against finite differences.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small import CLASSES, softmax_network
from students import (
    DESCENT,
    EVERYTHING,
    errors,
    require_finite_differences,
    tiny_student,
    trained_by_torch,
)

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method import real_loss as real_losses
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.distilled import Distilled
from medddist.method.real_loss import (
    cross_entropy,
    real_loss,
    real_loss_gradient,
    unrolled_real_loss_gradient,
)
from medddist.method.student import student

both_ways = pytest.mark.parametrize(
    "way", [real_loss_gradient, unrolled_real_loss_gradient], ids=["sweep", "graph"]
)
at_once = pytest.mark.parametrize("at_once", [1, 3, 7, 256])  # of 7 real images
WAYS = "difference", "exact"
targets = pytest.mark.parametrize("targets", ["classes", "probabilities"])


def arguments(case):
    return case.network, case.distilled, case.run, EVERYTHING, case.real


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("window", [None, 1, 3, 9])
@targets
@at_once
def test_the_sweep_equals_one_graph(at_once, targets, window, labels, monkeypatch):
    """However many real images are passed at once, and though the last may be fewer."""
    monkeypatch.setattr(real_losses, "AT_ONCE", at_once)
    case = tiny_student(targets, labels, **DESCENT, window=window)
    (loss, found), (expected_loss, expected) = (
        of(*arguments(case)) for of in (real_loss_gradient, unrolled_real_loss_gradient)
    )
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert max(errors(found, expected).values()) <= 1e-9


@targets
@at_once
def test_the_question_is_the_cross_entropy_and_its_slope(at_once, targets, monkeypatch):
    monkeypatch.setattr(real_losses, "AT_ONCE", at_once)
    case = tiny_student(targets)
    loss, slope = cross_entropy(case.network, case.real)(case.target)
    theta = case.target.clone().requires_grad_()
    expected = F.cross_entropy(case.network(theta, case.real[0]), case.real[1])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, theta)[0])
    assert not slope.requires_grad and not loss.requires_grad


@targets
@pytest.mark.parametrize("window", [None, 2])
def test_sweep_and_graph_against_finite_differences(window, targets, monkeypatch):
    monkeypatch.setattr(real_losses, "AT_ONCE", 3)
    case = tiny_student(targets, "soft", 5, channels=3, **DESCENT, window=window)
    found = [of(*arguments(case))[1] for of in (real_loss_gradient, unrolled_real_loss_gradient)]
    require_finite_differences(case, found)


@targets
def test_the_loss_is_that_of_a_student_trained_by_torch(targets):
    case = tiny_student(targets, **DESCENT, window=2)
    expected = F.cross_entropy(case.network(trained_by_torch(case), case.real[0]), case.real[1])
    assert real_loss(*arguments(case)).item() == pytest.approx(expected.item(), rel=1e-12)


@both_ways
def test_one_step_by_hand(way):
    """One step of logistic regression with weight decay w, from weights W without biases.

    With e_i = softmax(W x_i) - y_i of the n distilled images, and likewise of m real images z_j,

        W_1 = W - alpha (1/n sum_i e_i x_i^T + w W),    R = dL/dW_1 = 1/m sum_j e_j z_j^T,
        r = dL/db_1 = 1/m sum_j e_j,
        dL/dlog alpha = -alpha (<R, 1/n sum_i e_i x_i^T + w W> + <r, 1/n sum_i e_i>),
        dL/dx_i = -alpha/n (W^T J_i u_i + R^T e_i),    u_i = R x_i + r,
        J_i = diag(p_i) - p_i p_i^T.

    The biases b are 0 at the start, and b_1 = -alpha/n sum_i e_i.
    """
    n, m, pixels, alpha, decay = 4, 5, 6, 0.7, 0.1
    random = generator("by hand")
    normal = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    x, z, w = normal(n, pixels), normal(m, pixels), normal(CLASSES, pixels)
    y, y_real = (torch.arange(count) % CLASSES for count in (n, m))
    p = (x @ w.T).softmax(1)
    e = p - F.one_hot(y, CLASSES)
    step, step_b = e.T @ x / n + decay * w, e.mean(0)
    w_end, b_end = w - alpha * step, -alpha * step_b
    scores = z @ w_end.T + b_end
    e_real = scores.softmax(1) - F.one_hot(y_real, CLASSES)
    r_w, r_b = e_real.T @ z / m, e_real.mean(0)
    u = x @ r_w.T + r_b
    j_u = p * u - p * (p * u).sum(1, keepdim=True)
    expected = -alpha / n * (j_u @ w + e @ r_w)

    as_images = lambda flat: flat.reshape(-1, 1, 2, 3)
    start = torch.cat([w.flatten(), torch.zeros(CLASSES, dtype=torch.float64)])
    log_step_size = torch.tensor(math.log(alpha), dtype=torch.float64)
    run = student(start, as_images(x), n, 1, random, momentum=0.9, weight_decay=decay)
    distilled, real = Distilled(as_images(x), y, log_step_size), (as_images(z), y_real)
    loss, found = way(softmax_network(pixels, CLASSES), distilled, run, NO_AUGMENTATION, real)
    assert loss == pytest.approx(F.cross_entropy(scores, y_real).item(), rel=1e-12)
    torch.testing.assert_close(found["images"], as_images(expected), rtol=1e-10, atol=1e-13)
    by_step_size = -alpha * ((r_w * step).sum() + (r_b * step_b).sum())
    assert found["log_step_size"].item() == pytest.approx(by_step_size.item(), rel=1e-10)


def test_one_hot_probabilities_give_what_classes_give():
    case = tiny_student("classes", **DESCENT, window=3)
    images, classes = case.real
    soft = replace(case, real=(images, F.one_hot(classes, CLASSES).double()))
    (loss, found), (loss_soft, found_soft) = (
        real_loss_gradient(*arguments(one)) for one in (case, soft)
    )
    assert loss == pytest.approx(loss_soft, rel=1e-12)
    assert max(errors(found, found_soft).values()) <= 1e-12


@targets
def test_differences_give_the_gradient_to_half_of_the_digits(targets):
    case = tiny_student(targets, "soft", 12, **DESCENT, step_size=0.02, window=8)
    found, exact = (real_loss_gradient(*arguments(case), way=way)[1] for way in WAYS)
    assert 0 < max(errors(found, exact).values()) <= 1e-6


def test_descending_lowers_the_loss():
    """A hundredth of the way that the slope promises to bring the loss to zero."""
    case = tiny_student("classes", "soft", **DESCENT, window=None)
    loss, slope = real_loss_gradient(*arguments(case))
    steep = sum(part.square().sum() for part in slope.values())
    by = 0.01 * loss / steep
    learned = case.distilled.learned()
    lower = replace(case, distilled=Distilled(**{k: learned[k] - by * slope[k] for k in learned}))
    assert real_loss_gradient(*arguments(lower))[0] == pytest.approx(0.99 * loss, rel=2e-3)


@both_ways
@pytest.mark.parametrize("images, labels", [(7, 6), (7, 1), (6, 7), (0, 0)])
def test_real_images_without_a_label_each_are_refused_in_one_line(way, images, labels):
    case = tiny_student(**DESCENT)
    wrong = replace(case, real=(case.real[0][:images], case.real[1][:labels]))
    with pytest.raises(InputError) as refused:
        way(*arguments(wrong))
    assert str(refused.value) == (
        f"real: there are {labels} labels for {images} images; "
        "give one image or more, and a label for each"
    )


@both_ways
def test_a_student_without_steps_is_refused_in_one_line(way):
    case = tiny_student().training_with(batches=(), draws=())
    with pytest.raises(InputError) as refused:
        way(*arguments(case))
    assert str(refused.value) == "batches: the student has no step; give one batch or more"
