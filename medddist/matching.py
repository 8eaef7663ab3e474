"""Matching training trajectories: the loss and its exact gradient.

A teacher trained on the real images was at theta*_t after t epochs (or over epoch t on average) and at theta*_{t+M} after M more. A student starts at
theta_0 = theta*_t and takes N steps on the distilled images,

    theta_{i+1} = theta_i - alpha * d/dtheta CE(theta_i; A_i(images[batch_i]), labels[batch_i]),

and the loss is how far it ends from the teacher, in units of how far the teacher went:

    L = |theta_N - theta*_{t+M}|^2 / |theta*_t - theta*_{t+M}|^2.

Source: Cazenavette et al., CVPR 2022, equation 2; Li et al., arXiv:2209.14603. Notation: N student steps, M expert
epochs, alpha the step size (learned as its logarithm, so that it stays positive), A_i the augmentation of step i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.augment import AugmentSettings, Draws, augment, draw
from medddist.derivatives import directional, directional_by_difference, gradient_and_kept, slopes
from medddist.errors import InputError
from medddist.networks import Network
from medddist.threads import shared_threads

Way = Literal["exact", "difference", "bfloat16", "tesla"]  # to the gradient; see `matching_gradient`


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

    def to(self, dtype: torch.dtype) -> Distilled:
        """With all that is learned in another type."""
        return Distilled(**({"labels": self.labels} | {name: value.to(dtype) for name, value in self.learned().items()}))

    def leaves(self) -> Distilled:
        """The same values, to be differentiated in."""
        learned = {name: value.detach().requires_grad_() for name, value in self.learned().items()}
        return Distilled(**({"labels": self.labels} | learned))

    def learned(self) -> dict[str, Tensor]:
        """The tensors that have a gradient, by name."""
        named = {"images": self.images, "log_step_size": self.log_step_size}
        return named | ({"labels": self.labels} if self.labels.is_floating_point() else {})


@dataclass(frozen=True)
class Segment:
    """A piece of a teacher's trajectory and all that is random in a student's run along it."""

    start: Tensor  # (P,) theta*_t
    target: Tensor  # (P,) theta*_{t+M}
    batches: tuple[Tensor, ...]  # N index tensors into the distilled images, N >= 1
    draws: tuple[Draws, ...]  # N, for the augmentation

    def require_fit(self, network: Network) -> None:
        """Raise InputError unless it has steps, draws for each, and a start and a target of the network's parameters."""
        if not self.batches:
            raise InputError("batches: the segment has no student step; give one batch or more")
        if len(self.draws) != len(self.batches):
            raise InputError(
                f"draws: the segment has {len(self.draws)} for {len(self.batches)} batches;"
                " give one for each student step"
            )
        for name, theta in (("start", self.start), ("target", self.target)):
            if theta.shape != (network.parameter_count,):
                raise InputError(
                    f"{name}: the segment's has shape {tuple(theta.shape)} and the network"
                    f" ({network.parameter_count},); give parameters of this network"
                )
        for batch, draws in zip(self.batches, self.draws):
            if len(draws.uniform) != len(batch):
                raise InputError(
                    f"draws: there are {len(draws.uniform)} for a batch of {len(batch)} images;"
                    " give one for each image"
                )


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
    return Segment(start.to(like), target.to(like), tuple(batch.to(like.device) for batch in batches), draws)


def matching_loss(network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings) -> Tensor:
    """L of the module's text, a scalar that is differentiable in all of `distilled`, by unrolling the student's steps.

    This is the reference: it reads like the equations, and its memory grows with the student's steps.
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
    """`matching_loss` and its gradient by the name of each learned tensor, through one graph of all student steps."""
    leaves = distilled.leaves()
    loss = matching_loss(network, leaves, run, augmentation)
    return loss.item(), dict(zip(leaves.learned(), torch.autograd.grad(loss, list(leaves.learned().values()))))


@shared_threads()
def matching_gradient(
    network: Network,
    distilled: Distilled,
    run: Segment,
    augmentation: AugmentSettings,
    *,
    way: Way = "exact",
    kept_steps: int = 0,
) -> tuple[float, dict[str, Tensor]]:
    """The same by a sweep back over the student's steps, in memory that hardly grows with their number.

    Only theta_0 ... theta_N are kept. With lambda_N = dL/dtheta_N and g_i the gradient of step i's cross-entropy,

        dL/dalpha -= <g_i, lambda_{i+1}>,   dL/dx_i = -alpha d<g_i, lambda_{i+1}>/dx_i,   lambda_i = lambda_{i+1} - alpha H_i lambda_{i+1},

    for i = N-1 ... 0, where x_i is the augmented batch (and likewise for its labels). The ways to these three:

        exact       `derivatives.directional`: the derivatives of the slope <g_i, lambda_{i+1}>, written out
        difference  `derivatives.directional_by_difference`: of two first derivatives with the same ReLUs open; faster, half the digits
        bfloat16    exact but for convolutions, which are in that type
        tesla       exact but that lambda stays lambda_N: what later steps owe to earlier ones is left out (Cui et al., ICML 2023)

    Of the last `kept_steps` steps the activations are kept too, where `derivatives` can: time for memory, the same result to rounding. A
    difference keeps its steps' first derivatives and a bit for each ReLU, and no activations. Raises ValueError for another way, and
    InputError for a segment that has no steps or does not fit the network.
    """
    if way not in get_args(Way):
        raise ValueError(f"way: {way!r} is not known; use one of {', '.join(get_args(Way))}")
    run.require_fit(network)
    leaves, bfloat16 = distilled.leaves(), way == "bfloat16"
    alpha = distilled.step_size.detach()
    steps, kept = len(run.batches), []
    # One piece for all of them: small ones between a step's large tensors would keep the holes of these from being filled again.
    thetas = run.start.new_empty(steps + 1, run.start.numel())  # (N + 1, P)
    thetas[0] = run.start
    for number, (batch, draws) in enumerate(zip(run.batches, run.draws)):
        x = augment(distilled.images[batch], draws, augmentation).detach()
        if way == "difference":
            found = slopes(network, thetas[number], x, distilled.targets[batch])
            g = found.by_theta
        else:
            _, g, found = gradient_and_kept(network, thetas[number], x, distilled.targets[batch], bfloat16=bfloat16)
            found = found if number >= steps - kept_steps else None
        torch.sub(thetas[number], alpha * g, out=thetas[number + 1])
        kept.append(found)
        del found  # or it would lie there beside the next step's
    missed, distance = thetas[steps] - run.target, (run.start - run.target).square().sum()
    slope, towards = torch.zeros_like(alpha), 2 * missed / distance
    for number, batch, draws in zip(reversed(range(steps)), reversed(run.batches), reversed(run.draws)):
        x, y = augment(leaves.images[batch], draws, augmentation), leaves.targets[batch]
        at = network, thetas[number], x.detach(), y.detach(), towards
        step = (
            directional_by_difference(*at, kept.pop())
            if way == "difference"
            else directional(*at, kept=kept.pop(), bfloat16=bfloat16)
        )
        slope = slope - step.slope
        outputs = [(x, step.by_images)] + ([(y, step.by_targets)] if step.by_targets is not None else [])
        torch.autograd.backward([tensor for tensor, _ in outputs], [-alpha * by for _, by in outputs])
        if way != "tesla":
            towards = towards - alpha * step.by_theta
    found = {name: leaf.grad for name, leaf in leaves.learned().items()} | {"log_step_size": alpha * slope}
    return (missed.square().sum() / distance).item(), found
