"""The training loop against torch's own optimiser, its orders and schedules, and what it does when
it diverges.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import CLASSES, labelled, tiny_network, tiny_recipe
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method.augment import NO_AUGMENTATION, AugmentSettings, augment, draw
from medddist.method.networks import initial_parameters
from medddist.method.training import (
    Diverged,
    Recipe,
    TrainingState,
    predict,
    rate_factor,
    sampled_order,
    train,
)

STRONG = {
    "momentum": 0.9,
    "weight_decay": 0.05,
    "epochs": 4,
    "batch_size": 5,
    "learning_rate": 0.05,
}


def reference(
    network, theta: Tensor, images: Tensor, labels: Tensor, recipe: Recipe, seed
) -> Tensor:
    """torch.optim.SGD on a module of torch's, fed the same batches; the schedule from torch's
    schedulers, by step.
    """
    module = network.loaded(theta).to(theta.dtype).requires_grad_()
    optimiser = torch.optim.SGD(
        module.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    scheduler = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0),
        "halfway": lambda: torch.optim.lr_scheduler.MultiStepLR(
            optimiser, [math.ceil(steps / 2)], gamma=0.1
        ),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps),
    }[recipe.schedule]()
    for epoch in range(recipe.epochs):
        random = generator(*seed, "epoch", epoch)
        for batch in sampled_order(labels, recipe.sampling, random).split(recipe.batch_size):
            x = augment(images[batch], draw(len(batch), random, images), recipe.augmentation)
            optimiser.zero_grad()
            F.cross_entropy(module(x), labels[batch]).backward()
            optimiser.step()
            scheduler.step()
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def start(network, dtype=torch.float64) -> Tensor:
    return initial_parameters(network, "start").to(dtype)


@pytest.mark.parametrize("schedule", ["constant", "halfway", "cosine"])
@pytest.mark.parametrize(
    "augmentation", [NO_AUGMENTATION, AugmentSettings()], ids=["plain", "augmented"]
)
@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_equals_torchs_optimiser(schedule, augmentation, sampling):
    images, labels = labelled(13, dtype=torch.float64)
    recipe = Recipe(**STRONG, schedule=schedule, sampling=sampling, augmentation=augmentation)
    trained = train(tiny_network(), start(tiny_network()), images, labels, recipe, ("s", 1))
    expected = reference(tiny_network(), start(tiny_network()), images, labels, recipe, ("s", 1))
    torch.testing.assert_close(trained, expected, rtol=1e-9, atol=1e-9)


def test_soft_labels_equal_torchs_optimiser_and_one_hot_ones_equal_classes():
    network, (images, labels) = tiny_network(), labelled(13, dtype=torch.float64)
    recipe, hot = tiny_recipe(**STRONG), F.one_hot(labels, CLASSES).double()
    soft = 0.7 * hot + 0.1
    expected = reference(tiny_network(), start(network), images, soft, recipe, ("s",))
    torch.testing.assert_close(
        train(network, start(network), images, soft, recipe, ("s",)), expected, rtol=1e-9, atol=1e-9
    )
    hard = train(network, start(network), images, labels, recipe, ("s",))
    torch.testing.assert_close(
        train(network, start(network), images, hot, recipe, ("s",)), hard, rtol=1e-9, atol=1e-9
    )
    assert (hard - expected).abs().max() > 1e-3


def test_the_start_is_left_as_it_was():
    network, (images, labels) = tiny_network(), labelled(8)
    theta = start(network, torch.float32)
    before = theta.clone()
    train(network, theta, images, labels, tiny_recipe(), ("s",))
    assert torch.equal(theta, before) and not theta.requires_grad


def test_same_seed_same_bits_another_seed_another_result():
    network, (images, labels) = tiny_network(), labelled(12)
    a, again, b = (
        train(network, start(network, torch.float32), images, labels, tiny_recipe(), seed)
        for seed in (("s", 1), ("s", 1), ("s", 2))
    )
    assert torch.equal(a, again) and not torch.equal(a, b)


@pytest.mark.parametrize("stop", range(1, 6))
def test_going_on_from_any_epoch_equals_never_having_stopped(stop):
    network, (images, labels) = tiny_network(), labelled(11)
    recipe, states = tiny_recipe(epochs=5, momentum=0.9, schedule="cosine"), []
    whole = train(
        network,
        start(network, torch.float32),
        images,
        labels,
        recipe,
        ("s",),
        after_epoch=states.append,
    )
    assert [state.epoch for state in states] == [1, 2, 3, 4, 5]
    at = states[stop - 1]
    copy = TrainingState(at.epoch, at.theta.clone(), at.velocity.clone())
    assert torch.equal(
        train(network, torch.zeros(1), images, labels, recipe, ("s",), resume=copy), whole
    )


def test_it_learns():
    network, (images, labels), (unseen, truth) = (
        tiny_network(),
        labelled(60),
        labelled(60, seed=1),
    )
    theta = train(
        network,
        start(network, torch.float32),
        images,
        labels,
        tiny_recipe(epochs=20, momentum=0.9),
        ("s",),
    )
    found = predict(network, theta, unseen, batch_size=7)
    assert (found.argmax(1) == truth).float().mean() > 0.8
    torch.testing.assert_close(found.sum(1), torch.ones(60))
    torch.testing.assert_close(found, predict(network, theta, unseen))


@pytest.mark.parametrize("rate", [1e4, 1e20, 1e38])
@pytest.mark.parametrize("epochs, batch_size", [(1, 4), (30, 4), (2, 12)])
def test_what_diverges_is_never_handed_back(rate, epochs, batch_size):
    """Either the error that names the setting, or finite parameters; also when the last step alone
    was too long.
    """
    network, (images, labels) = tiny_network(), labelled(12)
    recipe = tiny_recipe(epochs=epochs, batch_size=batch_size, learning_rate=rate, momentum=0.9)
    try:
        theta = train(network, start(network, torch.float32), images, labels, recipe, ("s",))
    except InputError as error:
        assert (
            str(error).startswith("learning_rate: ")
            and f"{rate:g}" in str(error)
            and "lower" in str(error)
        )
    else:
        assert theta.isfinite().all()


def test_a_divergence_is_refused_naming_the_epoch():
    network, (images, labels) = tiny_network(), labelled(12)
    images[3] = float("nan")
    with pytest.raises(InputError, match="^learning_rate: .*epoch 1 .*lower"):
        train(network, start(network, torch.float32), images, labels, tiny_recipe(), ("s",))


def test_what_diverges_in_its_very_last_step_is_refused():
    """No loss is looked at after the last update."""
    network, (images, labels) = tiny_network(), labelled(12)
    recipe = tiny_recipe(epochs=1, batch_size=12, learning_rate=1e39)
    with pytest.raises(Diverged, match="^learning_rate: .*epoch 1 .*lower"):
        train(network, start(network, torch.float32), images, labels, recipe, ("s",))


def test_answers_that_are_not_finite_are_refused():
    """Finite parameters may be so large that what they answer is not: argmax would take NaN for the
    first class.
    """
    network, (images, _) = tiny_network(), labelled(6)
    huge = 1e37 * start(network, torch.float32)
    assert huge.isfinite().all()
    with pytest.raises(Diverged, match="^learning_rate: .*lower"):
        predict(network, huge, images)


def test_schedules():
    assert [rate_factor("constant", p) for p in (0, 0.5, 0.99)] == [1, 1, 1]
    assert [rate_factor("halfway", p) for p in (0, 0.4999, 0.5, 0.99)] == [1, 1, 0.1, 0.1]
    assert [rate_factor("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(torch.tensor)


@given(label_lists, st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_natural_order_is_each_image_once(labels, seed):
    order = sampled_order(labels, "natural", generator(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))


@given(label_lists, st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_balanced_order_is_fair(labels, seed):
    """As many draws as images; each class as often as another, but for what does not divide; within
    a class the same.
    """
    order = sampled_order(labels, "balanced", generator(seed))
    present = labels.unique().tolist()
    assert len(order) == len(labels)
    share, counts = (
        math.ceil(len(labels) / len(present)),
        [int((labels[order] == k).sum()) for k in present],
    )
    missing = share * len(present) - len(labels)
    assert max(counts) <= share and min(counts) >= share - missing
    if missing == 0:
        for k in present:
            times = torch.bincount(order[labels[order] == k], minlength=len(labels))[labels == k]
            assert times.max() - times.min() <= 1


@given(label_lists, st.sampled_from(["natural", "balanced"]))
@settings(max_examples=25, deadline=None)
def test_soft_labels_are_sampled_as_their_likeliest_class(labels, sampling):
    soft = F.one_hot(labels, 5) * 0.6 + 0.08
    assert torch.equal(
        sampled_order(soft, sampling, generator(0)), sampled_order(labels, sampling, generator(0))
    )


def test_orders_differ_between_epochs():
    random = generator(0)
    labels = torch.arange(100) % 2
    assert not torch.equal(
        sampled_order(labels, "balanced", random), sampled_order(labels, "balanced", random)
    )
    assert not torch.equal(sampled_order(labels, "natural", random), torch.arange(100))
