"""Federated averaging: networks go there and back until validation stops rising.

    theta <- sum over hospitals h of n_h / n (theta trained for some epochs on the images of h)

After each round every hospital scores the mean network on its own validation part, and tells the
score alone. The learning rate is the one with the best score, and what counts is the best round;
rounds in which nothing rose any more were communicated too.

Notation: n_h training images of hospital h, n of all.
Source: McMahan et al., AISTATS 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, Recipe, train, validation_scores
from medddist.study.settings import HospitalSettings

METRIC = "balanced_accuracy"
Parts = Mapping[str, tuple[Labelled, Labelled]]  # each hospital's training and validation images


@dataclass(frozen=True)
class Course:
    """One run of federated averaging."""

    theta: Tensor  # (P,) of the best round
    scores: tuple[float, ...]  # on validation, of each round
    learning_rate: float

    @property
    def best(self) -> float:
        """The score of the best round."""
        return max(self.scores)


def federated(
    network: Network,
    parts: Parts,
    recipe: Recipe,
    settings: HospitalSettings,
    progress: Progress = silent,
) -> list[Course]:
    """Run federated averaging for `settings.networks` networks, with the best learning rate.

    Args:
        network: whose parameters travel.
        parts: of each hospital.
        recipe: of a hospital's training between two rounds, `local_epochs` long.
        settings: `rounds` at most, `patience`, `federated_rates`, `networks` and `seed`.
        progress: called after each round.
    """
    rates = [recipe.learning_rate * factor for factor in settings.federated_rates]
    runs = len(rates) + settings.networks - 1

    def run(number: int, rate: float, done: int) -> Course:
        own = recipe.model_copy(update={"learning_rate": rate})
        total = runs * settings.rounds
        tell = lambda rounds: progress(
            "federated averaging", done * settings.rounds + rounds, total
        )
        return _course(network, parts, own, settings, number, tell)

    tried = [run(0, rate, place) for place, rate in enumerate(rates)]
    first = max(tried, key=lambda course: course.best)
    later = range(1, settings.networks)
    others = [run(k, first.learning_rate, len(rates) + k - 1) for k in later]
    progress("federated averaging", runs * settings.rounds, runs * settings.rounds)
    return [first, *others]


def _course(
    network: Network, parts: Parts, recipe: Recipe, settings: HospitalSettings, number: int, tell
) -> Course:
    device = next(iter(parts.values()))[0][0].device
    theta = initial_parameters(network, settings.seed, "federated", number).to(device)
    sizes = {name: len(training[1]) for name, (training, _) in parts.items()}
    best, scores = theta, []
    for place in range(settings.rounds):
        local = []
        for name, (training, _) in parts.items():
            seed = (settings.seed, "federated", number, "round", place, name)
            after = train(network, theta, *training, recipe, seed)
            local.append(after * (sizes[name] / sum(sizes.values())))
        theta = torch.stack(local).sum(0)
        scores.append(_score(network, theta, parts))
        best_place = int(np.argmax(scores))  # the first of equals
        if best_place == place:
            best = theta
        tell(place + 1)
        if place - best_place >= settings.patience:
            break
    return Course(best, tuple(scores), recipe.learning_rate)


def _score(network: Network, theta: Tensor, parts: Parts) -> float:
    """The mean of what hospitals tell, by their numbers of validation images."""
    told = [validation_scores(network, theta, validation) for _, validation in parts.values()]
    counts = [len(validation[1]) for _, validation in parts.values()]
    return float(np.average([score[METRIC] for score in told], weights=counts))
