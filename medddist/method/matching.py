"""Matching training trajectories: the loss and its exact gradient.

    theta_0 = theta*_t
    theta_{i+1} = theta_i - alpha * d/dtheta CE(theta_i; A_i(images[batch_i]), labels[batch_i])
    L = |theta_N - theta*_{t+M}|^2 / |theta*_t - theta*_{t+M}|^2

A student starts where a teacher, trained on the real images, was after t epochs, and takes N steps
on the distilled images. L is how far it ends from where the teacher was M epochs later, in units of
how far the teacher went.

Notation: theta*_t the teacher's parameters after epoch t, or their mean over epoch t; theta_i the
student's after i of N steps; M expert epochs; the rest as in `student`.
Source: Cazenavette et al., CVPR 2022, equation 2; Li et al., arXiv:2209.14603.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medddist.method.augment import AugmentSettings, Draws
from medddist.method.distilled import Distilled
from medddist.method.networks import Network
from medddist.method.student import (
    Answer,
    Question,
    Student,
    Way,
    require_parameters,
    student,
    swept_gradient,
    through_one_graph,
    trained_student,
)


@dataclass(frozen=True)
class Segment:
    """A piece of a teacher's trajectory, and the random numbers of a student's run along it."""

    start: Tensor  # (P,) theta*_t
    target: Tensor  # (P,) theta*_{t+M}
    batches: tuple[Tensor, ...]  # N index tensors into the distilled images, N >= 1
    draws: tuple[Draws, ...]  # N, for the augmentation

    @property
    def student(self) -> Student:
        """The student that runs along it, by plain gradient descent."""
        return Student(self.start, self.batches, self.draws)


def segment(
    start: Tensor,
    target: Tensor,
    like: Tensor,
    batch_size: int,
    student_steps: int,
    random: torch.Generator,
) -> Segment:
    """Draw the batches and the augmentation of a student's run.

    Args:
        start: theta*_t (P,).
        target: theta*_{t+M} (P,).
        like: the distilled images; device and number type follow them.
        batch_size: images per step.
        student_steps: N.
        random: a generator on the CPU.
    """
    run = student(start, like, batch_size, student_steps, random)
    return Segment(run.start, target.to(like), run.batches, run.draws)


def matching_loss(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> Tensor:
    """Compute L, differentiable in all that is learned, by unrolling the student's steps.

    Args:
        network: of teacher and student.
        distilled: the set that the student trains on.
        run: the segment, with the student's batches and draws.
        augmentation: A.

    Returns:
        L, ().
    """
    require_parameters("target", run.target, network)
    theta = trained_student(network, distilled, run.student, augmentation)
    return (theta - run.target).square().sum() / (run.start - run.target).square().sum()


def unrolled_gradient(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> Answer:
    """Differentiate `matching_loss` through one graph of all student steps.

    Args: as in `matching_loss`.
    """
    return through_one_graph(lambda d: matching_loss(network, d, run, augmentation), distilled)


def distance(network: Network, run: Segment) -> Question:
    """Return the question of trajectory matching: L, and its derivative in theta_N.

    Raises:
        InputError: for a start or target of another network.
    """
    require_parameters("start", run.start, network)
    require_parameters("target", run.target, network)
    gone = (run.start - run.target).square().sum()

    def question(theta: Tensor) -> tuple[Tensor, Tensor]:
        missed = theta - run.target
        return missed.square().sum() / gone, 2 * missed / gone

    return question


def matching_gradient(
    network: Network,
    distilled: Distilled,
    run: Segment,
    augmentation: AugmentSettings,
    *,
    way: Way = "exact",
) -> Answer:
    """Compute the matching loss and its gradient by the sweep back over the student's N steps.

    Args:
        network: as in `matching_loss`, like the three that follow.
        distilled: the set.
        run: the segment.
        augmentation: A.
        way: `exact` or `difference`; see `student.swept_gradient`.

    Returns:
        L, and its gradient by the name of each learned tensor.

    Raises:
        ValueError: for another way.
        InputError: for a segment without steps, or of another network.
    """
    given = network, distilled, run.student, augmentation
    return swept_gradient(*given, distance(network, run), way=way)
