"""Stochastic gradient descent: the one recipe for teachers, evaluation and every comparison.

    v <- mu v + d/dtheta CE(theta; A(x), y) + lambda theta,    theta <- theta - eta r v

Notation: mu momentum, lambda weight decay, eta the learning rate, r its schedule's factor, A the
augmentation, CE the mean cross-entropy of a batch x with labels y.
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
    """Settings of stochastic gradient descent.

    schedule: of the learning rate; `halfway` divides it by ten after half of the steps, as MTT's
        evaluation does.
    sampling: an epoch is one pass over the images (`natural`), or an equal number of draws with
        each class equally often (`balanced`).
    """

    epochs: int = Field(50, ge=1)  # passes over the images
    batch_size: int = Field(256, ge=1)  # images per step
    learning_rate: float = Field(0.01, ge=0)  # at the start; see `schedule`
    momentum: float = Field(0.0, ge=0, lt=1)  # 0 for none
    weight_decay: float = Field(0.0, ge=0)  # of all parameters, as L2 regularisation
    schedule: Literal["constant", "halfway", "cosine"] = "constant"
    sampling: Literal["natural", "balanced"] = "natural"
    augmentation: AugmentSettings = AugmentSettings()


class Diverged(InputError):
    """Loss, parameters or probabilities are no longer finite: the learning rate is too large."""


@dataclass(frozen=True)
class TrainingState:
    """All that the next epoch depends on: training resumed from it equals training in one go."""

    epoch: int  # epochs done
    theta: Tensor  # (P,)
    velocity: Tensor  # (P,)
    mean: Tensor | None = None  # (P,) of theta over the steps of the last epoch; for the record


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
    """Train a network from given parameters.

    Args:
        network: called with theta.
        theta: (P,) to start from.
        images: (N, C, H, W), standardised.
        labels: (N,) classes, or (N, K) probabilities.
        recipe: settings of the descent.
        seed: of the order and augmentation of every epoch.
        resume: a state to continue from, instead of theta.
        after_epoch: called with the state after each epoch.
        stop_after: epochs after which to stop; the schedule is still that of the whole recipe.

    Returns:
        The parameters reached (P,).

    Raises:
        Diverged: when the loss or the parameters are no longer finite.
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
    """Train for one epoch, in an order that the seed and the epoch's number alone decide."""
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
    require_finite(loss, theta, state.epoch, recipe)  # the loss is that before the last step
    return TrainingState(state.epoch + 1, theta, velocity, mean)


def require_finite(loss: Tensor | None, theta: Tensor, epoch: int, recipe: Recipe) -> None:
    """Check that training did not diverge in this epoch.

    Args:
        loss: of the last step, (); None where nobody may look at it.
        theta: (P,).
        epoch: epochs done before this one.
        recipe: of the training.

    Raises:
        Diverged: where loss or theta is not finite.
    """
    if not (theta.isfinite().all() and (loss is None or loss.isfinite())):
        reason = f"training diverged in epoch {epoch + 1} at {recipe.learning_rate:g}"
        raise Diverged("learning_rate", reason, "lower the learning rate")


def rate_factor(schedule: str, progress: float) -> float:
    """Return r, the factor of the learning rate when `progress` (0 to 1) of the steps are done."""
    if schedule == "halfway":
        return 1.0 if progress < 0.5 else 0.1
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


def sampled_order(labels: Tensor, sampling: str, random: torch.Generator) -> Tensor:
    """Draw the order of one epoch: indices (N,), on the CPU.

    Args:
        labels: (N,) classes, or (N, K) probabilities, which count as their most probable class.
        sampling: `natural` or `balanced`; see `Recipe`.
        random: a generator on the CPU.
    """
    count = len(labels)
    if sampling == "natural":
        return torch.randperm(count, generator=random)
    classes = (labels if labels.ndim == 1 else labels.argmax(1)).cpu()
    present = classes.unique().tolist()
    share = -(-count // len(present))
    members = [(classes == k).nonzero().flatten() for k in present]
    drawn = torch.cat([_repeated(indices, share, random) for indices in members])
    return drawn[torch.randperm(len(drawn), generator=random)][:count]


def _repeated(indices: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw `count` of the indices in shuffled passes, the last one cut off: all equally often."""
    passes = range(-(-count // len(indices)))
    drawn = [indices[torch.randperm(len(indices), generator=random)] for _ in passes]
    return torch.cat(drawn)[:count]


@torch.no_grad()
@shared_threads()
def predict(network: Network, theta: Tensor, images: Tensor, batch_size: int = 512) -> Tensor:
    """Compute class probabilities.

    Args:
        network: called with theta.
        theta: (P,).
        images: (N, C, H, W), standardised.
        batch_size: images at a time.

    Returns:
        (N, K).

    Raises:
        Diverged: where a probability is not finite; finite parameters may still be too large.
    """
    batches = images.split(batch_size)
    answers = torch.cat([logits(network, theta, batch).softmax(1) for batch in batches])
    require_finite_answers(answers)
    return answers


def require_finite_answers(answers: Tensor) -> None:
    """Check what networks answered, logits or probabilities of any shape.

    Raises:
        Diverged: where a value is not finite.
    """
    if not answers.isfinite().all():
        reason = "training diverged, the network's answers are not finite"
        raise Diverged("learning_rate", reason, "lower the learning rate")


# images (N, C, H, W) standardised, and labels (N,), on the same device
Labelled = tuple[Tensor, Tensor]


def validation_scores(network: Network, theta: Tensor, labelled: Labelled) -> dict[str, float]:
    """Compute accuracy and balanced accuracy on validation images, for curves and for selection.

    Test scores, with intervals, come from `measure.metrics`.
    """
    predicted, truth = predict(network, theta, labelled[0]).argmax(1).cpu(), labelled[1].cpu()
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
    }
