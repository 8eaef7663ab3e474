"""Matching training trajectories: the loss and its exact gradient.

    theta_0 = theta*_t
    theta_{i+1} = theta_i - alpha * d/dtheta CE(theta_i; A_i(images[batch_i]), labels[batch_i])
    L = |theta_N - theta*_{t+M}|^2 / |theta*_t - theta*_{t+M}|^2

A student starts where a teacher, trained on the real images, was after t epochs, and takes N steps
on the distilled images. L is how far it ends from where the teacher was M epochs later, in units of
how far the teacher went.

Notation: theta*_t the teacher's parameters after epoch t, or their mean over epoch t; theta_i the
student's after i of N steps; M expert epochs; alpha the step size, learned as its logarithm so that
it stays positive; A_i the augmentation of step i; CE the mean cross-entropy of a batch.
Source: Cazenavette et al., CVPR 2022, equation 2; Li et al., arXiv:2209.14603.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, Draws, augment, draw
from medddist.method.fast.derivatives import (
    directional,
    directional_by_difference,
    gradient,
    slopes,
)
from medddist.method.networks import Network

Way = Literal["exact", "difference"]  # of computing the gradient; see `matching_gradient`


@dataclass(frozen=True)
class Distilled:
    """A distilled set: all that is learned."""

    images: Tensor  # (N, C, H, W), standardised
    labels: Tensor  # (N,) classes, or (N, K) logits of soft labels, which are learned too
    log_step_size: Tensor  # ()

    @property
    def step_size(self) -> Tensor:
        """Alpha, ()."""
        return self.log_step_size.exp()

    @property
    def targets(self) -> Tensor:
        """Classes (N,) or probabilities (N, K), as the cross-entropy takes them."""
        return self.labels.softmax(1) if self.labels.is_floating_point() else self.labels

    @property
    def classes(self) -> Tensor:
        """The class of each image (N,); the most probable one of a soft label."""
        return self.labels.argmax(1) if self.labels.is_floating_point() else self.labels

    def to(self, dtype: torch.dtype) -> Distilled:
        """Convert what is learned to another number type."""
        learned = {name: value.to(dtype) for name, value in self.learned().items()}
        return Distilled(**({"labels": self.labels} | learned))

    def leaves(self) -> Distilled:
        """Copy the set so that autograd differentiates with respect to what is learned."""
        learned = {name: value.detach().requires_grad_() for name, value in self.learned().items()}
        return Distilled(**({"labels": self.labels} | learned))

    def learned(self) -> dict[str, Tensor]:
        """Return the tensors that are learned, by name."""
        named = {"images": self.images, "log_step_size": self.log_step_size}
        return named | ({"labels": self.labels} if self.labels.is_floating_point() else {})


@dataclass(frozen=True)
class Segment:
    """A piece of a teacher's trajectory, and the random numbers of a student's run along it."""

    start: Tensor  # (P,) theta*_t
    target: Tensor  # (P,) theta*_{t+M}
    batches: tuple[Tensor, ...]  # N index tensors into the distilled images, N >= 1
    draws: tuple[Draws, ...]  # N, for the augmentation

    def require_fit(self, network: Network) -> None:
        """Check that it has steps, draws for each image of each, and this network's parameters.

        Raises:
            InputError: otherwise.
        """
        if not self.batches:
            reason = "the segment has no student step"
            raise InputError("batches", reason, "give one batch or more")
        steps, draws = len(self.batches), len(self.draws)
        if draws != steps:
            reason = f"the segment has {draws} for {steps} batches"
            raise InputError("draws", reason, "give one for each student step")
        for name, theta in (("start", self.start), ("target", self.target)):
            if theta.shape != (network.parameter_count,):
                own = f"the network ({network.parameter_count},)"
                reason = f"the segment's has shape {tuple(theta.shape)} and {own}"
                raise InputError(name, reason, "give parameters of this network")
        for batch, drawn in zip(self.batches, self.draws):
            if len(drawn.uniform) != len(batch):
                reason = f"there are {len(drawn.uniform)} for a batch of {len(batch)} images"
                raise InputError("draws", reason, "give one for each image")


def student_batches(
    images: int, batch_size: int, student_steps: int, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Draw the batches of a student: shuffled passes over the images, without replacement in each.

    Args:
        images: how many distilled images there are.
        batch_size: images per step; the last batch of a pass may be smaller.
        student_steps: N.
        random: a generator on the CPU.

    Returns:
        N index tensors.
    """
    batches: list[Tensor] = []
    while len(batches) < student_steps:
        batches += torch.randperm(images, generator=random).split(batch_size)
    return tuple(batches[:student_steps])


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
    batches = student_batches(len(like), batch_size, student_steps, random)
    draws = tuple(draw(len(batch), random, like) for batch in batches)
    batches = tuple(batch.to(like.device) for batch in batches)
    return Segment(start.to(like), target.to(like), batches, draws)


def matching_loss(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> Tensor:
    """Compute L, differentiable in all that is learned, by unrolling the student's steps.

    This is the reference: it reads like the equations, and its memory grows with N.

    Args:
        network: of teacher and student.
        distilled: the set that the student trains on.
        run: the segment, with the student's batches and draws.
        augmentation: A.

    Returns:
        L, ().
    """
    run.require_fit(network)
    theta = run.start.detach().requires_grad_()
    for batch, draws in zip(run.batches, run.draws):
        x = augment(distilled.images[batch], draws, augmentation)
        loss = F.cross_entropy(network(theta, x), distilled.targets[batch])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - distilled.step_size * gradient
    return (theta - run.target).square().sum() / (run.start - run.target).square().sum()


def unrolled_gradient(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> tuple[float, dict[str, Tensor]]:
    """Differentiate `matching_loss` through one graph of all student steps.

    Args:
        network: as in `matching_loss`, like all that follow.
        distilled: the set.
        run: the segment.
        augmentation: A.

    Returns:
        L, and its gradient by the name of each learned tensor.
    """
    leaves = distilled.leaves()
    loss, learned = matching_loss(network, leaves, run, augmentation), leaves.learned()
    return loss.item(), dict(zip(learned, torch.autograd.grad(loss, list(learned.values()))))


@shared_threads()
def matching_gradient(
    network: Network,
    distilled: Distilled,
    run: Segment,
    augmentation: AugmentSettings,
    *,
    way: Way = "exact",
) -> tuple[float, dict[str, Tensor]]:
    """Compute what `unrolled_gradient` does, in memory that hardly grows with N.

    Only theta_0 ... theta_N are kept. A sweep back over the student's steps starts with
    lambda_N = dL/dtheta_N. With g_i the gradient of step i's cross-entropy, H_i its Hessian and x_i
    the augmented batch, it does for i = N-1 ... 0 (and for the labels as for the images)

        dL/dalpha -= <g_i, lambda_{i+1}>
        dL/dx_i    = -alpha d<g_i, lambda_{i+1}>/dx_i
        lambda_i   = lambda_{i+1} - alpha H_i lambda_{i+1}.

    Args:
        network: as in `matching_loss`, like the three that follow.
        distilled: the set.
        run: the segment.
        augmentation: A.
        way: how the three are computed. `exact` takes the derivatives of <g_i, lambda_{i+1}>
            (`derivatives.directional`). `difference` takes differences of first derivatives with
            the same ReLUs open (`derivatives.directional_by_difference`): faster, half the digits,
            and it keeps the first derivatives of each step and one bit per ReLU.

    Returns:
        L, and its gradient by the name of each learned tensor.

    Raises:
        ValueError: for another way.
        InputError: for a segment without steps, or of another network.
    """
    if way not in get_args(Way):
        raise ValueError(f"way: {way!r} is not known; use one of {', '.join(get_args(Way))}")
    run.require_fit(network)
    leaves, alpha = distilled.leaves(), distilled.step_size.detach()
    steps, first_derivatives = len(run.batches), []
    # One tensor holds all thetas: small ones, allocated between a step's large tensors, would
    # fragment the memory.
    thetas = run.start.new_empty(steps + 1, run.start.numel())  # (N + 1, P)
    thetas[0] = run.start
    for i, (batch, draws) in enumerate(zip(run.batches, run.draws)):
        x = augment(distilled.images[batch], draws, augmentation).detach()
        place = network, thetas[i], x, distilled.targets[batch]
        if way == "difference":
            first_derivatives.append(slopes(*place))
            g = first_derivatives[-1].by_theta
        else:
            g = gradient(*place)[1]
        torch.sub(thetas[i], alpha * g, out=thetas[i + 1])
    missed, distance = thetas[steps] - run.target, (run.start - run.target).square().sum()
    by_alpha, towards = torch.zeros_like(alpha), 2 * missed / distance  # towards is lambda
    for i in reversed(range(steps)):
        x = augment(leaves.images[run.batches[i]], run.draws[i], augmentation)
        y = leaves.targets[run.batches[i]]
        place = network, thetas[i], x.detach(), y.detach(), towards
        if way == "difference":
            step = directional_by_difference(*place, first_derivatives.pop())
        else:
            step = directional(*place)
        by_alpha = by_alpha - step.slope
        inputs, slopes_of_inputs = [x], [-alpha * step.by_images]
        if step.by_targets is not None:
            inputs.append(y)
            slopes_of_inputs.append(-alpha * step.by_targets)
        torch.autograd.backward(inputs, slopes_of_inputs)
        towards = towards - alpha * step.by_theta
    by_name = {name: leaf.grad for name, leaf in leaves.learned().items()}
    loss = missed.square().sum() / distance
    return loss.item(), by_name | {"log_step_size": alpha * by_alpha}
