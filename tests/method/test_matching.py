"""The matching loss and its gradient: by hand, by complex steps in numpy, by finite differences,
and against other code.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import CLASSES, SIZE_PX, labelled, softmax_network, tiny_network, walk
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method.augment import NO_AUGMENTATION, AugmentSettings, Draws
from medddist.method.distilled import Distilled
from medddist.method.matching import (
    Segment,
    matching_gradient,
    matching_loss,
    segment,
    unrolled_gradient,
)
from medddist.method.networks import initial_parameters
from medddist.method.student import student_batches

EVERYTHING = AugmentSettings(
    shift=0.1, scale=0.2, rotation_degrees=15, brightness=0.4, contrast=0.3, cutout=0.3, flip=True
)


def tiny_case(labels="hard", steps=4, batch_size=4, images=6, seed=0, channels=1):
    """(network, distilled, segment) in float64 on the tiny ConvNet, far enough along to have
    curvature.
    """
    network = tiny_network(channels)
    theta = walk(network, 3, seed, torch.float64)
    x, hard = labelled(images, seed, channels, torch.float64)
    logits = torch.randn(images, CLASSES, generator=generator("logits", seed), dtype=torch.float64)
    distilled = Distilled(
        x, hard if labels == "hard" else logits, torch.tensor(math.log(0.3), dtype=torch.float64)
    )
    return (
        network,
        distilled,
        segment(theta[0], theta[2], x, batch_size, steps, generator("segment", seed)),
    )


def moved(distilled: Distilled, direction: dict[str, Tensor], by: float) -> Distilled:
    fields = {
        "images": distilled.images,
        "labels": distilled.labels,
        "log_step_size": distilled.log_step_size,
    }
    return Distilled(
        **(fields | {name: fields[name] + by * towards for name, towards in direction.items()})
    )


def in_single_precision(distilled: Distilled, run: Segment) -> tuple[Distilled, Segment]:
    draws = tuple(Draws(one.uniform.float()) for one in run.draws)
    return distilled.to(torch.float32), Segment(
        run.start.float(), run.target.float(), run.batches, draws
    )


both_ways = pytest.mark.parametrize(
    "way", [matching_gradient, unrolled_gradient], ids=["sweep", "graph"]
)


@both_ways
@pytest.mark.parametrize("augmentation", [NO_AUGMENTATION, EVERYTHING], ids=["plain", "augmented"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_gradient_against_finite_differences(labels, augmentation, way):
    """Along five random directions of each learned tensor, and along all at once."""
    network, distilled, run = tiny_case(labels)
    _, gradient = way(network, distilled, run, augmentation)
    assert (
        gradient.keys()
        == distilled.learned().keys()
        == {"images", "log_step_size"} | ({"labels"} if labels == "soft" else set())
    )
    random = generator("directions")
    for names in [*([name] for name in gradient), list(gradient)]:
        for _ in range(5):
            direction = {
                k: torch.randn(gradient[k].shape, generator=random, dtype=torch.float64)
                for k in names
            }
            ahead, behind = (
                matching_loss(network, moved(distilled, direction, by), run, augmentation)
                for by in (1e-6, -1e-6)
            )
            expected = ((ahead - behind) / 2e-6).item()
            found = sum((gradient[k] * direction[k]).sum().item() for k in names)
            assert found == pytest.approx(expected, rel=2e-6, abs=1e-9)
            assert abs(expected) > 1e-6, "a direction in which nothing happens shows nothing"


def test_every_pixel_against_finite_differences():
    network, distilled, run = tiny_case(steps=3, batch_size=3, images=3)
    _, gradient = matching_gradient(network, distilled, run, EVERYTHING)
    for k in range(0, distilled.images.numel(), 7):
        direction = torch.zeros_like(distilled.images)
        direction.view(-1)[k] = 1
        ahead, behind = (
            matching_loss(
                network, moved(distilled, {"images": direction}, by), run, EVERYTHING
            ).item()
            for by in (1e-6, -1e-6)
        )
        assert gradient["images"].view(-1)[k].item() == pytest.approx(
            (ahead - behind) / 2e-6, rel=1e-5, abs=1e-8
        )


@both_ways
def test_one_step_by_hand(way):
    """One student step of logistic regression, derived by hand.

    The student has weights W (K, d) and biases b (K,). Of image x_i with label distribution y_i,
    p_i = softmax(W x_i + b), and e_i = p_i - y_i is the derivative of the cross-entropy in the
    logits. Over a batch of n images

        g_W = 1/n sum_i e_i x_i^T,    g_b = 1/n sum_i e_i,    theta_1 = theta_0 - alpha g.

    With r = theta_1 - target, split into R_W and r_b, and D = |start - target|^2:  L = |r|^2 / D,
    dL = 2/D <r, d theta_1>.

    Step size: d theta_1 = -g d alpha and d alpha = alpha d log alpha, so

        dL / d log alpha = -2 alpha / D <r, g>.

    Images: with r held still, <r, g> = 1/n sum_i e_i . u_i, where u_i = R_W x_i + r_b. Image i
        enters e_i through d e_i = J_i W d x_i with J_i = diag(p_i) - p_i p_i^T (symmetric), and u_i
        through d u_i = R_W d x_i. So

        dL / dx_i = -2 alpha / (D n) (W^T J_i u_i + R_W^T e_i).

    Label logits l_i, y_i = softmax(l_i): d e_i = -d y_i = -(diag(y_i) - y_i y_i^T) d l_i, so

        dL / dl_i = 2 alpha / (D n) (diag(y_i) - y_i y_i^T) u_i.
    """
    n, pixels, classes, alpha = 4, 6, 3, 0.7
    draw = np.random.default_rng(0)
    x, logits = draw.normal(size=(n, pixels)), draw.normal(size=(n, classes))
    w, b = draw.normal(size=(classes, pixels)), draw.normal(size=classes)
    w_target, b_target = draw.normal(size=(classes, pixels)), draw.normal(size=classes)

    softmax = lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p, y = softmax(x @ w.T + b), softmax(logits)
    e = p - y
    g_w, g_b = e.T @ x / n, e.mean(0)
    r_w, r_b = w - alpha * g_w - w_target, b - alpha * g_b - b_target
    distance = ((w - w_target) ** 2).sum() + ((b - b_target) ** 2).sum()
    u = x @ r_w.T + r_b
    jacobian = lambda q: np.diag(q) - np.outer(q, q)
    expected = {
        "log_step_size": -2 * alpha / distance * ((r_w * g_w).sum() + (r_b * g_b).sum()),
        "images": np.stack(
            [
                -2 * alpha / (distance * n) * (w.T @ jacobian(p[i]) @ u[i] + r_w.T @ e[i])
                for i in range(n)
            ]
        ),
        "labels": np.stack([2 * alpha / (distance * n) * jacobian(y[i]) @ u[i] for i in range(n)]),
    }
    expected_loss = ((r_w**2).sum() + (r_b**2).sum()) / distance

    flat = lambda weights, biases: torch.from_numpy(np.concatenate([weights.ravel(), biases]))
    images = torch.from_numpy(x).reshape(n, 1, 2, 3)
    distilled = Distilled(
        images, torch.from_numpy(logits), torch.tensor(math.log(alpha), dtype=torch.float64)
    )
    run = segment(flat(w, b), flat(w_target, b_target), images, n, 1, generator(0))
    loss, gradient = way(softmax_network(pixels, classes), distilled, run, NO_AUGMENTATION)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    for name, value in expected.items():
        np.testing.assert_allclose(
            gradient[name].numpy().reshape(np.shape(value)), value, rtol=1e-10, atol=1e-12
        )


def complex_loss(x, logits, log_alpha, start, target, batches):
    """The whole loss of a student of logistic regression in numpy, without conjugates, so that
    complex steps go through.
    """
    pixels, classes = x.shape[1], logits.shape[1]
    theta = start.astype(complex)
    softmax = lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    for batch in batches:
        w, b = theta[: classes * pixels].reshape(classes, pixels), theta[classes * pixels :]
        e = softmax(x[batch] @ w.T + b) - softmax(logits[batch])
        theta = theta - np.exp(log_alpha) * np.concatenate(
            [(e.T @ x[batch] / len(batch)).ravel(), e.mean(0)]
        )
    return ((theta - target) ** 2).sum() / ((start - target) ** 2).sum()


def test_many_steps_against_complex_steps_in_numpy():
    """f(x + ih) = f(x) + ih f'(x) + O(h^2): with h = 1e-30 the imaginary part is the derivative to
    the last digits.
    """
    n, pixels, classes, steps = 5, 4, 3, 7
    draw = np.random.default_rng(1)
    values = {
        "images": draw.normal(size=(n, pixels)),
        "labels": draw.normal(size=(n, classes)),
        "log_step_size": np.array(-0.5),
    }
    start, target = draw.normal(size=(2, classes * (pixels + 1)))
    images = torch.from_numpy(values["images"]).reshape(n, 1, 2, 2)
    run = segment(torch.from_numpy(start), torch.from_numpy(target), images, 2, steps, generator(3))
    batches = [batch.numpy() for batch in run.batches]
    distilled = Distilled(
        images, torch.from_numpy(values["labels"]), torch.tensor(-0.5, dtype=torch.float64)
    )
    loss, gradient = matching_gradient(
        softmax_network(pixels, classes), distilled, run, NO_AUGMENTATION
    )
    evaluated = lambda v: complex_loss(
        v["images"], v["labels"], v["log_step_size"], start, target, batches
    )
    assert loss == pytest.approx(evaluated(values).real, rel=1e-12)
    for name, value in values.items():
        for k in range(value.size):
            step = np.zeros(value.size, complex)
            step[k] = 1e-30j
            slope = evaluated(values | {name: value + step.reshape(value.shape)}).imag / 1e-30
            assert gradient[name].view(-1)[k].item() == pytest.approx(slope, rel=1e-9, abs=1e-13)


def test_against_the_shared_reference(root):
    """Code that knows nothing of this package: its own ConvNet, its own loop."""
    path = root.parent / "shared" / "bench" / "unrolled.py"
    if not path.is_file():
        pytest.skip(
            "no ../shared/bench/unrolled.py here: the independent reference is not part of "
            "the repository"
        )
    spec = importlib.util.spec_from_file_location("unrolled", path)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    network, distilled, run = tiny_case(steps=6)
    # Its order of parameters is by block (weight, bias, scale, shift); ours is by kind of layer.
    blocks = [
        [
            f"convolutions.{k}.weight",
            f"convolutions.{k}.bias",
            f"norms.{k}.weight",
            f"norms.{k}.bias",
        ]
        for k in range(2)
    ]
    names = [*sum(blocks, []), "linear.weight", "linear.bias"]
    theirs = lambda theta: torch.cat([network.named(theta)[name].flatten() for name in names])
    loss, images, step_size = other.unrolled(
        theirs(run.start),
        theirs(run.target),
        distilled.images,
        distilled.labels,
        distilled.step_size,
        run.batches,
        other.shapes(4, 2, SIZE_PX, CLASSES),
    )
    found, gradient = matching_gradient(network, distilled, run, NO_AUGMENTATION)
    assert found == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(gradient["images"], images, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(
        gradient["log_step_size"], step_size * distilled.step_size, rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_a_student_that_stays_has_a_loss_of_exactly_one(labels, dtype):
    network, distilled, run = tiny_case(labels)
    distilled = Distilled(
        distilled.images.to(dtype),
        distilled.labels.to(dtype) if labels == "soft" else distilled.labels,
        torch.tensor(-math.inf, dtype=dtype),
    )
    run = segment(run.start.to(dtype), run.target.to(dtype), distilled.images, 4, 5, generator(0))
    loss, gradient = matching_gradient(network, distilled, run, EVERYTHING)
    assert loss == 1.0
    assert not gradient["images"].any() and gradient["log_step_size"] == 0


def test_a_student_that_arrives_has_a_loss_of_zero():
    """The target is what the student's own steps lead to: loss and gradient vanish."""
    network, distilled, run = tiny_case(steps=2)
    theta = run.start
    for batch in run.batches:
        leaf = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(
            F.cross_entropy(network(leaf, distilled.images[batch]), distilled.labels[batch]), leaf
        )
        theta = theta - distilled.step_size * slope
    arrived = type(run)(run.start, theta, run.batches, run.draws)
    loss, gradient = matching_gradient(network, distilled, arrived, NO_AUGMENTATION)
    assert loss < 1e-25 and gradient["images"].abs().max() < 1e-10


def test_one_hot_soft_labels_give_what_classes_give():
    network, hard, run = tiny_case("hard")
    soft = Distilled(
        hard.images, 1000.0 * F.one_hot(hard.labels, CLASSES).double(), hard.log_step_size
    )
    (loss, slope), (loss_soft, slope_soft) = (
        matching_gradient(network, d, run, EVERYTHING) for d in (hard, soft)
    )
    assert loss == pytest.approx(loss_soft, rel=1e-12)
    torch.testing.assert_close(slope["images"], slope_soft["images"])
    assert hard.targets is hard.labels and torch.equal(soft.targets.argmax(1), hard.labels)


def test_an_image_in_no_batch_has_no_gradient():
    network, distilled, run = tiny_case(steps=1, batch_size=4)
    _, gradient = matching_gradient(network, distilled, run, EVERYTHING)
    used = torch.zeros(6, dtype=torch.bool)
    used[run.batches[0]] = True
    assert used.sum() == 4
    assert torch.equal(gradient["images"].flatten(1).abs().amax(1) > 0, used)


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_sweep_equals_the_unrolled_graph(labels, channels):
    """20 steps, augmented, in float64: 1e-9 relative, in every learned tensor and in the loss."""
    network, distilled, run = tiny_case(labels, steps=20, channels=channels)
    (loss, found), (expected_loss, expected) = (
        of(network, distilled, run, EVERYTHING) for of in (matching_gradient, unrolled_gradient)
    )
    assert loss == pytest.approx(expected_loss, rel=1e-12) and found.keys() == expected.keys()
    for name in expected:
        assert (found[name] - expected[name]).norm() <= 1e-9 * expected[name].norm()


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("channels", [1, 3])
def test_differences_give_the_gradient_to_half_of_the_digits(labels, channels):
    """20 steps, augmented: in float64 1e-6 relative, in float32 a cosine far above the 0.998 that a
    fast way is asked for.
    """
    network, distilled, run = tiny_case(labels, steps=20, channels=channels)
    loss, exact = unrolled_gradient(network, distilled, run, EVERYTHING)
    found_loss, found = matching_gradient(network, distilled, run, EVERYTHING, way="difference")
    assert found_loss == pytest.approx(loss, rel=1e-12) and found.keys() == exact.keys()
    for name in exact:
        assert (found[name] - exact[name]).norm() <= 1e-6 * exact[name].norm()
    _, single = matching_gradient(
        network, *in_single_precision(distilled, run), EVERYTHING, way="difference"
    )
    for name in exact:
        assert (
            F.cosine_similarity(single[name].double().flatten(), exact[name].flatten(), dim=0)
            > 0.9999
        )
        assert single[name].norm().item() == pytest.approx(exact[name].norm().item(), rel=1e-2)


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
            "draws: the student has 0 for 4 batches; give one for each student step",
        ),
        (
            lambda run: {"batches": (*run.batches, run.batches[0])},
            "draws: the student has 4 for 5 batches; give one for each student step",
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
            lambda run: {"target": run.target[None]},
            "target: has shape (1, 255) and the network (255,); give parameters of this network",
        ),
    ],
    ids=["no steps", "no draws", "a batch too many", "an image too few", "start", "target"],
)
def test_a_segment_that_has_no_steps_or_does_not_fit_is_refused_in_one_line(way, changes, said):
    network, distilled, run = tiny_case()
    with pytest.raises(InputError) as refused:
        way(network, distilled, replace(run, **changes(run)), EVERYTHING)
    assert str(refused.value) == said


def test_another_way_is_refused():
    network, distilled, run = tiny_case()
    with pytest.raises(
        ValueError,
        match="^way: 'exakt' is not known; use one of exact, difference$",
    ):
        matching_gradient(network, distilled, run, EVERYTHING, way="exakt")


def test_the_sweep_is_as_exact_in_single_precision_as_the_unrolled_graph():
    """The median over cases of its error against float64 is at most twice that of the unrolled
    graph.
    """
    errors = {matching_gradient: [], unrolled_gradient: []}
    for seed in range(9):
        network, distilled, run = tiny_case(steps=20, seed=seed)
        _, exact = unrolled_gradient(network, distilled, run, EVERYTHING)
        for of in errors:
            found = of(network, *in_single_precision(distilled, run), EVERYTHING)[1][
                "images"
            ].double()
            errors[of].append(((found - exact["images"]).norm() / exact["images"].norm()).item())
    swept, unrolled = (np.median(errors[of]) for of in (matching_gradient, unrolled_gradient))
    assert swept <= 2 * unrolled


def test_nothing_that_is_handed_in_is_changed():
    network, distilled, run = tiny_case("soft")
    before = [tensor.clone() for tensor in (*distilled.learned().values(), run.start, run.target)]
    matching_gradient(network, distilled, run, EVERYTHING)
    after = (*distilled.learned().values(), run.start, run.target)
    assert all(
        torch.equal(a, b) and not b.requires_grad and b.grad is None for a, b in zip(before, after)
    )


def test_single_precision_is_close_to_double():
    network, distilled, run = tiny_case(steps=6)
    single = distilled.to(torch.float32)
    like = segment(
        run.start.float(), run.target.float(), single.images, 4, 6, generator("segment", 0)
    )
    (_, exact), (_, found) = (
        matching_gradient(network, distilled, run, EVERYTHING),
        matching_gradient(network, single, like, EVERYTHING),
    )
    assert (
        F.cosine_similarity(exact["images"].flatten(), found["images"].double().flatten(), dim=0)
        > 0.9999
    )


@given(
    images=st.integers(1, 12),
    batch_size=st.integers(1, 15),
    steps=st.integers(1, 15),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_batches_are_passes_without_replacement(images, batch_size, steps, seed):
    batches = student_batches(images, batch_size, steps, generator(seed))
    a_pass = math.ceil(images / batch_size)
    assert len(batches) == steps and all(
        1 <= len(batch) <= min(batch_size, images) for batch in batches
    )
    for first in range(0, steps - a_pass + 1, a_pass):
        assert sorted(torch.cat(batches[first : first + a_pass]).tolist()) == list(range(images))


def test_a_segments_randomness_comes_from_its_generator():
    like, ends = torch.zeros(6, 1, 8, 8), torch.zeros(2, 3)
    a, again, b = (segment(*ends, like, 4, 3, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a.batches, again.batches))
    assert all(torch.equal(x.uniform, y.uniform) for x, y in zip(a.draws, again.draws))
    assert not torch.equal(a.draws[0].uniform, b.draws[0].uniform) and not torch.equal(
        a.draws[0].uniform, a.draws[2].uniform
    )
    assert [len(d.uniform) for d in a.draws] == [len(batch) for batch in a.batches]


@given(st.floats(-80, 80))
@settings(max_examples=30, deadline=None)
def test_step_size_is_positive_whatever_was_learned(log_step_size):
    distilled = Distilled(torch.zeros(1), torch.zeros(1), torch.tensor(log_step_size))
    assert distilled.step_size > 0


def test_one_step_on_the_convnet_is_the_gradient_times_the_step_size():
    network = tiny_network()
    theta = initial_parameters(network, 0).double()
    x, y = labelled(3, dtype=torch.float64)
    leaf = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(network(leaf, x), y), leaf)
    run = segment(theta, theta + 1, x, 3, 1, generator(0))
    loss = matching_loss(
        network,
        Distilled(x, y, torch.tensor(math.log(0.2), dtype=torch.float64)),
        run,
        NO_AUGMENTATION,
    )
    assert loss.item() == pytest.approx(((1 + 0.2 * slope) ** 2).mean().item(), rel=1e-12)
