"""Gradient and distribution matching: their losses against numpy and finite differences, and steps
that lower them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import CLASSES, SIZE_PX, labelled, softmax_network, tiny_network

from medddist.base.seeds import generator
from medddist.baselines.condensing import CondenseSettings, condense, siamese
from medddist.baselines.distribution_matching import distribution_matching_loss, features
from medddist.baselines.gradient_matching import gradient_distance, gradient_matching_loss
from medddist.method.augment import NO_AUGMENTATION, AugmentSettings
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Diverged

LOSSES = {"gradient": gradient_matching_loss, "distribution": distribution_matching_loss}
PLAIN = CondenseSettings(real_images_per_class=6, augmentation=NO_AUGMENTATION)
every = pytest.mark.parametrize("loss_of", LOSSES.values(), ids=LOSSES)


def problem(dtype=torch.float64):
    network = tiny_network()
    network.module.to(dtype)
    real, labels = labelled(30, 0, dtype=dtype)
    synthetic, _ = labelled(9, 1, dtype=dtype)
    return (
        network,
        initial_parameters(network, 0).to(dtype),
        synthetic[labels[:9] == 1],
        real[labels == 1],
    )


def test_the_distance_of_gradients_against_numpy():
    random = generator(0)
    a, b = (
        [
            torch.randn(*s, generator=random, dtype=torch.float64)
            for s in ((4, 1, 3, 3), (4,), (3, 16))
        ]
        for _ in range(2)
    )
    expected = 0.0
    for x, y in ((a[0], b[0]), (a[2], b[2])):
        for row, other in zip(x.flatten(1).numpy(), y.flatten(1).numpy()):
            expected += 1 - row @ other / (np.linalg.norm(row) * np.linalg.norm(other) + 1e-6)
    assert gradient_distance(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert gradient_distance(a, a).item() == pytest.approx(0, abs=1e-4)
    assert gradient_distance(a, [-x for x in a]).item() == pytest.approx(2 * (4 + 3), abs=1e-4)


def test_gradient_matching_of_a_softmax_regression_by_hand():
    """g_W = mean (p - y) x^T: the loss compares its rows."""
    network = softmax_network(4, 3)
    theta = torch.randn(15, generator=generator(0), dtype=torch.float64)
    weights, offset = theta[:12].view(3, 4).numpy(), theta[12:].numpy()
    sets = [torch.randn(n, 1, 2, 2, generator=generator(n), dtype=torch.float64) for n in (2, 5)]
    rows = []
    for images in sets:
        x = images.flatten(1).numpy()
        scores = x @ weights.T + offset
        p = np.exp(scores - scores.max(1, keepdims=True))
        error = p / p.sum(1, keepdims=True) - np.eye(3)[1]
        rows.append(error.T @ x / len(x))
    expected = sum(
        1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6) for a, b in zip(*rows)
    )
    assert gradient_matching_loss(network, theta, *sets, 1).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_distribution_matching_against_numpy():
    network, theta, synthetic, real = problem()
    means = [features(network, theta, x).detach().numpy().mean(0) for x in (synthetic, real)]
    assert distribution_matching_loss(network, theta, synthetic, real, 1).item() == pytest.approx(
        ((means[0] - means[1]) ** 2).sum(), rel=1e-9
    )


def test_features_are_the_loaded_networks():
    network, theta, synthetic, _ = problem()
    torch.testing.assert_close(
        features(network, theta, synthetic), network.loaded(theta).features(synthetic).flatten(1)
    )


@every
def test_the_gradient_to_the_images_against_finite_differences(loss_of):
    network, theta, synthetic, real = problem()
    learned = synthetic.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(network, theta, learned, real, 1), learned)
    direction = torch.randn(synthetic.shape, generator=generator(3), dtype=torch.float64)
    ends = [
        loss_of(network, theta, synthetic + h * direction, real, 1).item() for h in (1e-5, -1e-5)
    ]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((slope * direction).sum().item(), rel=1e-4)


@pytest.mark.parametrize("wrapped", [False, True], ids=["kernels", "autograd"])
def test_gradient_matchings_gradient_is_that_of_a_graph_differentiated_twice(wrapped):
    network, theta, synthetic, real = problem()
    network = (
        Network(torch.nn.Sequential(network.module)) if wrapped else network
    )  # which the kernels do not know
    learned = [synthetic.clone().requires_grad_() for _ in range(2)]

    def gradients(images: torch.Tensor) -> list[torch.Tensor]:
        at = theta.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            network(at, images), torch.ones(len(images), dtype=torch.int64)
        )
        return list(network.named(torch.autograd.grad(loss, at, create_graph=True)[0]).values())

    plain, found = (
        gradient_distance(gradients(learned[0]), gradients(real)),
        gradient_matching_loss(network, theta, learned[1], real, 1),
    )
    assert found.item() == pytest.approx(plain.item(), rel=1e-12)
    slopes = [torch.autograd.grad(loss, of)[0] for loss, of in zip((plain, found), learned)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-9, atol=1e-12)


@every
def test_a_step_against_the_gradient_lowers_the_loss(loss_of):
    network, theta, synthetic, real = problem()
    learned = synthetic.clone().requires_grad_()
    before = loss_of(network, theta, learned, real, 1)
    (slope,) = torch.autograd.grad(before, learned)
    step = 1e-2 * synthetic.norm() / slope.norm()
    assert loss_of(network, theta, synthetic - step * slope, real, 1) < before


@every
def test_images_equal_to_the_real_ones_have_no_loss(loss_of):
    network, theta, _, real = problem()
    assert loss_of(network, theta, real, real, 1).item() == pytest.approx(
        0, abs=1e-3
    )  # but for DC's 1e-6 in the denominator


@pytest.mark.parametrize(
    "name, every_iterations, rate", [("gradient", 5, 0.1), ("distribution", 1, 1.0)]
)
def test_condensing_keeps_labels_moves_images_and_depends_on_the_seed_alone(
    name, every_iterations, rate
):
    network, training, initial = tiny_network(), labelled(30), labelled(6, 1)
    run = lambda seed: condense(
        LOSSES[name],
        network,
        training,
        initial,
        CondenseSettings(),
        6,
        rate,
        every_iterations,
        (seed,),
    )
    first = run(0)
    assert (
        first.shape == (6, 1, SIZE_PX, SIZE_PX)
        and first.isfinite().all()
        and not torch.equal(first, initial[0])
    )
    torch.manual_seed(99)
    torch.testing.assert_close(
        run(0), first, rtol=0, atol=1e-4
    )  # second derivatives of convolutions round differently now and then
    assert (run(1) - first).abs().max() > 1e-2
    assert torch.equal(
        condense(LOSSES[name], network, training, initial, PLAIN, 0, rate, every_iterations, (0,)),
        initial[0],
    )


def test_distribution_matching_brings_the_means_together():
    """In random networks that it never saw."""
    network, training = tiny_network(), labelled(60)
    initial = (
        torch.randn(6, 1, SIZE_PX, SIZE_PX, generator=generator("noise")),
        torch.arange(6) % CLASSES,
    )
    found = condense(
        distribution_matching_loss, network, training, initial, PLAIN, 60, 1.0, 1, (0,)
    )

    def gap(images):
        thetas = [initial_parameters(network, "unseen", k) for k in range(3)]
        members = [(training[0][training[1] == k], images[initial[1] == k]) for k in range(CLASSES)]
        return sum(
            distribution_matching_loss(network, theta, s, r, 0).item()
            for theta in thetas
            for r, s in members
        )

    assert gap(found) < 0.7 * gap(initial[0])


def test_real_and_synthetic_images_are_changed_alike():
    one = labelled(1)[0]
    a, b = siamese([one, one.expand(3, -1, -1, -1)], AugmentSettings(), generator(0))
    assert not torch.equal(a, one) and all(torch.allclose(a[0], image) for image in b)


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(Diverged, match="condensing diverged in iteration"):
        condense(
            distribution_matching_loss,
            tiny_network(),
            labelled(30),
            labelled(6, 1),
            PLAIN,
            20,
            1e30,
            1,
            (0,),
        )
