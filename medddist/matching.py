"""Matching training trajectories: the loss and its exact gradient.

A teacher trained on the real images was at theta*_t after t epochs and at theta*_{t+M} after M more. A student starts at
theta_0 = theta*_t and takes N steps on the distilled images,

    theta_{i+1} = theta_i - alpha * d/dtheta CE(theta_i; A_i(images[batch_i]), labels[batch_i]),

and the loss is how far it ends from the teacher, in units of how far the teacher went:

    L = |theta_N - theta*_{t+M}|^2 / |theta*_t - theta*_{t+M}|^2.

Source: Cazenavette et al., CVPR 2022, equation 2; Li et al., arXiv:2209.14603. Notation: N student steps, M expert
epochs, alpha the step size (learned as its logarithm, so that it stays positive), A_i the augmentation of step i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.augment import AugmentSettings, Draws, augment, draw
from medddist.networks import Network


@dataclass(frozen=True)
class Distilled:
    """What is learned. `labels` are classes (N,), or logits (N, K) of soft labels that are learned too."""

    images: Tensor  # (N, C, H, W), standardised
    labels: Tensor
    log_step_size: Tensor  # ()

    @property
    def step_size(self) -> Tensor:
        return self.log_step_size.exp()

    @property
    def targets(self) -> Tensor:
        """(N,) classes or (N, K) probabilities, as the cross-entropy takes them."""
        return self.labels.softmax(1) if self.labels.is_floating_point() else self.labels

    def learned(self) -> dict[str, Tensor]:
        """The tensors that have a gradient, by name."""
        named = {"images": self.images, "log_step_size": self.log_step_size}
        return named | ({"labels": self.labels} if self.labels.is_floating_point() else {})


@dataclass(frozen=True)
class Segment:
    """A piece of a teacher's trajectory and all that is random in a student's run along it."""

    start: Tensor  # (P,) theta*_t
    target: Tensor  # (P,) theta*_{t+M}
    batches: tuple[Tensor, ...]  # N index tensors into the distilled images
    draws: tuple[Draws, ...]  # N, for the augmentation


def student_batches(images: int, batch_size: int, student_steps: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Index tensors of the student's steps: shuffled passes over the images, without replacement within a pass."""
    batches: list[Tensor] = []
    while len(batches) < student_steps:
        batches += torch.randperm(images, generator=random).split(batch_size)
    return tuple(batches[:student_steps])


def segment(
    start: Tensor, target: Tensor, like: Tensor, batch_size: int, student_steps: int, random: torch.Generator
) -> Segment:
    """A segment with batches and augmentation of `like` (the distilled images) drawn from `random`."""
    batches = student_batches(len(like), batch_size, student_steps, random)
    draws = tuple(draw(len(batch), random, like) for batch in batches)
    return Segment(start, target, tuple(batch.to(like.device) for batch in batches), draws)


def matching_loss(network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings) -> Tensor:
    """L of the module's text, a scalar that is differentiable in all of `distilled`, by unrolling the student's steps."""
    theta = run.start.detach().requires_grad_()
    for batch, draws in zip(run.batches, run.draws):
        x = augment(distilled.images[batch], draws, augmentation)
        loss = F.cross_entropy(network(theta, x), distilled.targets[batch])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - distilled.step_size * gradient
    return (theta - run.target).square().sum() / (run.start - run.target).square().sum()


def matching_gradient(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> tuple[float, dict[str, Tensor]]:
    """The matching loss and its gradient by the name of each learned tensor."""
    leaves = {name: value.detach().requires_grad_() for name, value in distilled.learned().items()}
    loss = matching_loss(network, Distilled(**({"labels": distilled.labels} | leaves)), run, augmentation)
    return loss.item(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
