"""Train from scratch on a small labelled set, and score: the one measure that every released set
goes through.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.settings import Settings
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Diverged, Labelled, Recipe, predict, train, validation_scores


class EvaluateSettings(Settings):
    """`networks` fresh networks by one recipe; the learning rate is the set's own, learned or tuned
    on validation.

    The defaults are MTT's evaluation: 1,000 epochs, momentum 0.9, weight decay 5e-4, a tenth of the
    rate after half.
    """

    networks: int = Field(5, ge=1)
    recipe: Recipe = Recipe(
        epochs=1000,
        batch_size=256,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="halfway",
        sampling="natural",
    )
    seed: int = 0


def trained_networks(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    networks: int,
    seed: tuple[int | str, ...],
    progress: Progress = silent,
    what: str = "training networks",
) -> list[Tensor]:
    """Parameters (P,) of networks trained from scratch on images (N, C, H, W) and labels (N,) or
    (N, K).
    """
    trained = []
    for number in range(networks):
        start = initial_parameters(network, *seed, "network", number).to(images)
        trained.append(train(network, start, images, labels, recipe, (*seed, "network", number)))
        progress(what, number + 1, networks)
    return trained


def probabilities(network: Network, trained: list[Tensor], images: Tensor) -> np.ndarray:
    """(R, N, K) class probabilities of R networks for N images."""
    return np.stack([predict(network, theta, images).cpu().numpy() for theta in trained])


def mean_validation_scores(
    network: Network, trained: list[Tensor], validation: Labelled
) -> dict[str, float]:
    """Accuracy and balanced accuracy on the validation part, averaged over the networks."""
    scores = [validation_scores(network, theta, validation) for theta in trained]
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def tried_on_validation(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    networks: int,
    validation: Labelled,
    seed: tuple[int | str, ...],
) -> dict[str, float]:
    """`mean_validation_scores` of fresh networks; zeros where training diverges, so that such a
    choice loses.
    """
    try:
        trained = trained_networks(network, images, labels, recipe, networks, seed)
        return mean_validation_scores(network, trained, validation)
    except Diverged:
        return {"accuracy": 0.0, "balanced_accuracy": 0.0}


def tuned_learning_rate(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    candidates: tuple[float, ...],
    validation: Labelled,
    metric: str,
    networks: int,
    seed: tuple[int | str, ...],
) -> tuple[float, dict[str, float]]:
    """The candidate whose networks score best on validation, and every candidate's score (as
    written: '0.01').
    """
    scores = {}
    for rate in candidates:
        tried = recipe.model_copy(update={"learning_rate": rate})
        reached = tried_on_validation(
            network, images, labels, tried, networks, validation, (*seed, "tuning")
        )
        scores[f"{rate:g}"] = reached[metric]
    best = max(candidates, key=lambda rate: scores[f"{rate:g}"])
    return best, scores


def random_real(
    labels: Tensor, images_per_class: int, classes: int, draw: str, random: torch.Generator
) -> Tensor:
    """Indices of a random real subset as large as the distilled set.

    draw: `balanced`, so many of each class; or `natural`, as many in all, in the data's own
        proportions. Raises InputError when there are not so many images of every class.
    """
    labels = labels.cpu()
    fewest = int(torch.bincount(labels, minlength=classes).min())
    if not 1 <= images_per_class <= fewest:
        raise InputError(
            "images_per_class",
            f"{images_per_class} is not between 1 and {fewest}, the training images of the "
            "smallest class",
            "change it",
        )
    if draw == "natural":
        return torch.randperm(len(labels), generator=random)[: images_per_class * classes]
    chosen = [(labels == k).nonzero().flatten() for k in range(classes)]
    return torch.cat(
        [
            members[torch.randperm(len(members), generator=random)[:images_per_class]]
            for members in chosen
        ]
    )
