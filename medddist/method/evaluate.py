"""Evaluation: networks trained from scratch on a labelled set, and scored on other images.

    score = mean over r = 1 ... R of metric(theta_r),    theta_r trained on the set from seed r

Distilled sets, random subsets and all real images go through the same functions.
Source: the evaluation of Cazenavette et al., CVPR 2022.
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
    """Settings of an evaluation; the defaults are those of MTT.

    recipe: its learning rate is replaced by the set's own, learned or tuned on validation.
    """

    networks: int = Field(5, ge=1)  # trained on each set
    recipe: Recipe = Recipe(
        epochs=1000,
        batch_size=256,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="halfway",
        sampling="natural",
    )
    seed: int = 0  # of initial parameters and of mini-batches


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
    """Train networks from scratch on one set.

    Args:
        network: their architecture.
        images: (N, C, H, W), standardised.
        labels: (N,) classes, or (N, K) probabilities.
        recipe: of the training.
        networks: R.
        seed: of initial parameters, order and augmentation.
        progress: called after each network.
        what: text for `progress`.

    Returns:
        R parameter vectors (P,).

    Raises:
        Diverged: when a loss or parameters are no longer finite.
    """
    trained = []
    for number in range(networks):
        start = initial_parameters(network, *seed, "network", number).to(images)
        trained.append(train(network, start, images, labels, recipe, (*seed, "network", number)))
        progress(what, number + 1, networks)
    return trained


def probabilities(network: Network, trained: list[Tensor], images: Tensor) -> np.ndarray:
    """Compute class probabilities (R, N, K) of R networks for images (N, C, H, W)."""
    return np.stack([predict(network, theta, images).cpu().numpy() for theta in trained])


def mean_validation_scores(
    network: Network, trained: list[Tensor], validation: Labelled
) -> dict[str, float]:
    """Average accuracy and balanced accuracy on validation images over networks."""
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
    """Train networks and score them on validation; all scores are 0 where training diverges.

    Args:
        network: their architecture.
        images: (N, C, H, W), standardised.
        labels: (N,) classes, or (N, K) probabilities.
        recipe: of the training.
        networks: R.
        validation: images and labels.
        seed: as in `trained_networks`.

    Returns:
        {accuracy, balanced_accuracy}, averaged over the networks.
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
    """Select the learning rate whose networks score best on validation.

    Args:
        network: their architecture.
        images: (N, C, H, W), standardised.
        labels: (N,) classes, or (N, K) probabilities.
        recipe: of the training, but for its learning rate.
        candidates: learning rates.
        validation: images and labels.
        metric: `accuracy` or `balanced_accuracy`.
        networks: for each candidate.
        seed: the same for each candidate.

    Returns:
        The best rate, and the score of each candidate by its text, such as '0.01'.
    """
    scores, seed = {}, (*seed, "tuning")
    for rate in candidates:
        tried = recipe.model_copy(update={"learning_rate": rate})
        given = network, images, labels, tried, networks, validation, seed
        scores[f"{rate:g}"] = tried_on_validation(*given)[metric]
    best = max(candidates, key=lambda rate: scores[f"{rate:g}"])
    return best, scores


def random_real(
    labels: Tensor, images_per_class: int, classes: int, draw: str, random: torch.Generator
) -> Tensor:
    """Draw a random subset of the real images, as large as the distilled set.

    Args:
        labels: (N,) of all training images.
        images_per_class: of the distilled set.
        classes: K.
        draw: an equal number of each class (`balanced`), or the data's own proportions (`natural`).
        random: a generator on the CPU.

    Returns:
        Indices (K * images_per_class,).

    Raises:
        InputError: where a class has fewer images.
    """
    labels = labels.cpu()
    fewest = int(torch.bincount(labels, minlength=classes).min())
    if not 1 <= images_per_class <= fewest:
        reason = f"{images_per_class} is not between 1 and {fewest}, the images of the smallest"
        raise InputError("images_per_class", f"{reason} class in training", "change it")
    if draw == "natural":
        return torch.randperm(len(labels), generator=random)[: images_per_class * classes]
    members = [(labels == k).nonzero().flatten() for k in range(classes)]
    first = lambda indices: torch.randperm(len(indices), generator=random)[:images_per_class]
    return torch.cat([indices[first(indices)] for indices in members])
