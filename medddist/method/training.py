"""One way to train a network on labelled images; teachers, students of any released set and
references all go through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.base.settings import Settings
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, augment, draw
from medddist.method.fast.derivatives import gradient, logits
from medddist.method.networks import Network


class Recipe(Settings):
    """Stochastic gradient descent on the cross-entropy.

    sampling: `natural` passes once over the images an epoch; `balanced` draws as many, each class
        equally often.
    schedule: of the learning rate; `halfway` divides it by ten after half of the steps (MTT's
        evaluation).
    """

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.01, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "halfway", "cosine"] = "constant"
    sampling: Literal["natural", "balanced"] = "natural"
    augmentation: AugmentSettings = AugmentSettings()


class Diverged(InputError):
    """A loss, parameters or answers are no longer finite: the learning rate is too large for these
    images.
    """


@dataclass(frozen=True)
class TrainingState:
    """All that the next epoch depends on: with it, going on equals never having stopped."""

    epoch: int  # epochs done
    theta: Tensor  # (P,)
    velocity: Tensor  # (P,)
    mean: Tensor | None = (
        None  # (P,) of the parameters after each step of the epoch just done; nothing depends on it
    )


@shared_threads()
def train(
    network: Network,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: tuple[int | str, ...],
    *,
    resume: TrainingState | None = None,
    after_epoch: Callable[[TrainingState], None] | None = None,
    stop_after: int | None = None,
) -> Tensor:
    """Train from theta (P,) and return the parameters reached (P,).

    images (N, C, H, W), standardised; labels (N,) classes, or (N, K) probabilities. `stop_after` so
    many epochs the recipe, its schedule included, is left where it is. Raises Diverged, an
    InputError, when the loss or the parameters are no longer finite.
    """
    state = resume or TrainingState(0, theta.detach(), torch.zeros_like(theta))
    while state.epoch < (recipe.epochs if stop_after is None else stop_after):
        state = _epoch(network, state, images, labels, recipe, seed)
        if after_epoch:
            after_epoch(state)
    return state.theta


def _epoch(
    network: Network, state: TrainingState, images, labels, recipe: Recipe, seed
) -> TrainingState:
    """One epoch; its order and augmentation come from the seed and the epoch's number alone."""
    random = generator(*seed, "epoch", state.epoch)
    order = sampled_order(labels, recipe.sampling, random).to(images.device)
    theta, velocity, mean = state.theta, state.velocity, torch.zeros_like(state.theta)
    batches = order.split(recipe.batch_size)
    for number, batch in enumerate(batches):
        progress = (state.epoch + number / len(batches)) / recipe.epochs
        x = augment(images[batch], draw(len(batch), random, images), recipe.augmentation)
        loss, slope = gradient(network, theta, x, labels[batch])
        velocity = recipe.momentum * velocity + slope + recipe.weight_decay * theta
        theta = theta - recipe.learning_rate * rate_factor(recipe.schedule, progress) * velocity
        mean += theta / len(batches)
    if not (loss.isfinite() and theta.isfinite().all()):  # the loss is that before the last step
        raise Diverged(
            "learning_rate",
            f"training diverged in epoch {state.epoch + 1} at {recipe.learning_rate:g}",
            "lower the learning rate",
        )
    return TrainingState(state.epoch + 1, theta, velocity, mean)


def rate_factor(schedule: str, progress: float) -> float:
    """What the learning rate is multiplied by when `progress` (0 to 1) of the steps are done."""
    if schedule == "halfway":
        return 1.0 if progress < 0.5 else 0.1
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


def sampled_order(labels: Tensor, sampling: str, random: torch.Generator) -> Tensor:
    """(N,) indices of one epoch's images in order, on the CPU; soft labels count as their likeliest
    class.
    """
    count = len(labels)
    if sampling == "natural":
        return torch.randperm(count, generator=random)
    classes = (labels if labels.ndim == 1 else labels.argmax(1)).cpu()
    present = classes.unique().tolist()
    share = -(-count // len(present))
    drawn = torch.cat(
        [_repeated((classes == k).nonzero().flatten(), share, random) for k in present]
    )
    return drawn[torch.randperm(len(drawn), generator=random)][:count]


def _repeated(indices: Tensor, count: int, random: torch.Generator) -> Tensor:
    """`count` of the indices: whole shuffled passes, then a part of one, so that none comes up
    twice more than another.
    """
    passes = -(-count // len(indices))
    return torch.cat(
        [indices[torch.randperm(len(indices), generator=random)] for _ in range(passes)]
    )[:count]


@torch.no_grad()
@shared_threads()
def predict(network: Network, theta: Tensor, images: Tensor, batch_size: int = 512) -> Tensor:
    """Class probabilities (N, K) of images (N, C, H, W).

    Raises Diverged where they are not finite: parameters that are finite may still be too large.
    """
    said = torch.cat(
        [logits(network, theta, batch).softmax(1) for batch in images.split(batch_size)]
    )
    require_finite_answers(said)
    return said


def require_finite_answers(said: Tensor) -> None:
    """Raises Diverged unless all that networks answered is finite."""
    if not said.isfinite().all():
        raise Diverged(
            "learning_rate",
            "training diverged, the network's answers are not finite",
            "lower the learning rate",
        )


Labelled = tuple[
    Tensor, Tensor
]  # images (N, C, H, W) standardised, labels (N,); both on the device


def validation_scores(network: Network, theta: Tensor, labelled: Labelled) -> dict[str, float]:
    """Accuracy and balanced accuracy, for curves and for choices; test scores with intervals are
    `metrics`' matter.
    """
    predicted, truth = predict(network, theta, labelled[0]).argmax(1).cpu(), labelled[1].cpu()
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
    }
