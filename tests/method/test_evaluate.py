"""Training from scratch on a small set: fresh networks by seed, fair choices on validation, random
real subsets.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import labelled, tiny_network, tiny_recipe

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method import evaluate
from medddist.method.evaluate import (
    mean_validation_scores,
    probabilities,
    random_real,
    trained_networks,
    tried_on_validation,
    tuned_learning_rate,
)
from medddist.method.networks import initial_parameters
from medddist.method.training import predict, train, validation_scores


def test_the_defaults_are_mtts_evaluation():
    recipe = evaluate.EvaluateSettings().recipe
    assert evaluate.EvaluateSettings().networks == 5
    assert (recipe.epochs, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (
        1000,
        256,
        0.9,
        5e-4,
    )
    assert recipe.schedule == "halfway" and recipe.sampling == "natural"


def test_networks_are_fresh_and_named_by_seed_and_number():
    network, told = tiny_network(), []
    trained = trained_networks(
        network,
        *labelled(6),
        tiny_recipe(),
        3,
        ("a", 1),
        lambda what, done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not torch.equal(trained[0], trained[1]) and not torch.equal(trained[1], trained[2])
    fewer = trained_networks(network, *labelled(6), tiny_recipe(), 2, ("a", 1))
    assert torch.equal(fewer[1], trained[1]), "more networks change none of the first"
    assert not torch.equal(
        trained_networks(network, *labelled(6), tiny_recipe(), 1, ("a", 2))[0], trained[0]
    )
    start = initial_parameters(network, "a", 1, "network", 0)
    assert torch.equal(
        train(network, start, *labelled(6), tiny_recipe(), ("a", 1, "network", 0)), trained[0]
    )


def test_probabilities_of_every_network():
    network, images = tiny_network(), labelled(7)[0]
    trained = [initial_parameters(network, k) for k in range(2)]
    said = probabilities(network, trained, images)
    assert said.shape == (2, 7, 3) and said.dtype == np.float32
    np.testing.assert_allclose(said.sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(said[1], predict(network, trained[1], images).numpy())


def test_mean_scores_are_means():
    network, validation = tiny_network(), labelled(10)
    trained = [initial_parameters(network, k) for k in range(3)]
    each = [validation_scores(network, theta, validation) for theta in trained]
    for name, value in mean_validation_scores(network, trained, validation).items():
        assert value == pytest.approx(sum(score[name] for score in each) / 3)


def test_the_best_rate_on_validation_is_taken(monkeypatch):
    """Scores are put in their place: 0.3 is best by balanced accuracy, 0.1 by accuracy; of equals
    the first.
    """
    made_up = {0.1: (0.9, 0.2), 0.2: (0.5, 0.7), 0.3: (0.5, 0.8), 0.4: (0.9, 0.8)}

    def scores(network, images, labels, recipe, networks, validation, seed):
        return dict(zip(("accuracy", "balanced_accuracy"), made_up[recipe.learning_rate]))

    monkeypatch.setattr(evaluate, "tried_on_validation", scores)
    tuned = lambda metric: tuned_learning_rate(
        None, None, None, tiny_recipe(), tuple(made_up), None, metric, 1, ()
    )
    assert tuned("accuracy") == (0.1, {"0.1": 0.9, "0.2": 0.5, "0.3": 0.5, "0.4": 0.9})
    assert tuned("balanced_accuracy") == (0.3, {"0.1": 0.2, "0.2": 0.7, "0.3": 0.8, "0.4": 0.8})


def test_every_candidate_gets_the_same_networks_to_start_from(monkeypatch):
    seeds = []
    monkeypatch.setattr(
        evaluate,
        "trained_networks",
        lambda network, images, labels, recipe, count, seed: seeds.append((seed, count)) or [],
    )
    monkeypatch.setattr(evaluate, "mean_validation_scores", lambda *a: {"accuracy": 0.5})
    tuned_learning_rate(None, None, None, tiny_recipe(), (0.1, 0.2), None, "accuracy", 4, ("s",))
    assert seeds == [(("s", "tuning"), 4)] * 2


def test_a_rate_whose_networks_answer_nothing_finite_loses(monkeypatch):
    """As a divergence in the very last step may leave them; taken for the first class they would
    score above none.
    """
    monkeypatch.setattr(evaluate, "train", lambda network, theta, *rest, **named: 1e37 * theta)
    reached = tried_on_validation(
        tiny_network(), *labelled(6), tiny_recipe(), 1, labelled(6, 1), ("s",)
    )
    assert reached == {"accuracy": 0.0, "balanced_accuracy": 0.0}


def test_a_rate_at_which_training_diverges_loses_and_does_not_stop_the_choice():
    network, validation = tiny_network(), labelled(9, seed=1)
    best, scores = tuned_learning_rate(
        network,
        *labelled(12),
        tiny_recipe(epochs=6),
        (1e30, 0.05),
        validation,
        "accuracy",
        1,
        ("s",),
    )
    assert best == 0.05 and scores["1e+30"] == 0.0 < scores["0.05"]
    one = tried_on_validation(
        network, *labelled(12), tiny_recipe(epochs=6), 1, validation, ("s", "tuning")
    )
    assert one["accuracy"] == scores["0.05"]


@given(
    counts=st.lists(st.integers(3, 9), min_size=2, max_size=4),
    each=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_balanced_random_real_images(counts, each, seed):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator(seed))]
    chosen = random_real(labels, each, len(counts), "balanced", generator(seed))
    assert labels[chosen].tolist() == [k for k in range(len(counts)) for _ in range(each)], (
        "classes in order"
    )
    assert len(set(chosen.tolist())) == len(chosen)


@given(each=st.integers(1, 10), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_natural_random_real_images(each, seed):
    labels = torch.arange(40) % 4
    chosen = random_real(labels, each, 4, "natural", generator(seed))
    assert len(chosen) == 4 * each == len(set(chosen.tolist()))


def test_natural_proportions_are_the_datas_own():
    labels = (torch.arange(1000) >= 900).long()
    share = np.mean(
        [
            labels[random_real(labels, 20, 2, "natural", generator(k))].float().mean()
            for k in range(100)
        ]
    )
    assert 0.08 < share < 0.12


def test_draws_differ_by_seed():
    labels = torch.arange(100) % 2
    for draw in ("balanced", "natural"):
        assert not torch.equal(*(random_real(labels, 5, 2, draw, generator(k)) for k in range(2)))


@pytest.mark.parametrize("draw", ["balanced", "natural"])
@pytest.mark.parametrize("each", [0, -1, 4])
def test_more_images_than_there_are_is_refused(draw, each):
    labels = torch.tensor([0] * 10 + [1] * 3)
    with pytest.raises(InputError, match=f"^images_per_class: {each} .* 3"):
        random_real(labels, each, 2, draw, generator(0))


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="^images_per_class: "):
        random_real(torch.zeros(10, dtype=torch.long), 1, 2, "balanced", generator(0))
