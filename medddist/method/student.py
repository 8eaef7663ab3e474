"""A student trains on the distilled images; what is asked of its end is differentiated in them.

    v_{t+1} = mu v_t + g_t + w theta_t,    g_t = d/dtheta CE(theta_t; A_t(images[batch_t]), labels)
    theta_{t+1} = theta_t - alpha v_{t+1}
    L = question(theta_T)

Trajectory matching asks how far theta_T is from a teacher (`matching`); random truncated
back-propagation asks for the cross-entropy of theta_T on real images. The answer is the same sweep
back over the student's last W steps, in memory that hardly grows with W.

Notation: theta_t the student's parameters after t of T steps, v_t its velocity (v_0 = 0), mu
momentum, w weight decay, alpha the step size, learned as its logarithm so that it stays positive;
A_t the augmentation of step t; CE the mean cross-entropy of a batch.
Source: Cazenavette et al., CVPR 2022 (mu = w = 0, W = T); Feng et al., ICLR 2024 (W < T).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.errors import require
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, Draws, augment, draw
from medddist.method.distilled import Distilled
from medddist.method.fast.derivatives import (
    directional,
    directional_by_difference,
    gradient,
    slopes,
)
from medddist.method.networks import Network

Way = Literal["exact", "difference"]  # of computing the gradient; see `swept_gradient`
Question = Callable[[Tensor], tuple[Tensor, Tensor]]  # theta_T (P,) -> L () and dL/dtheta_T (P,)
Answer = tuple[float, dict[str, Tensor]]  # L, and its gradient by the name of each learned tensor


@dataclass(frozen=True)
class Student:
    """A student's training: where it starts, its T batches, and the random numbers of each."""

    start: Tensor  # (P,) theta_0
    batches: tuple[Tensor, ...]  # T index tensors into the distilled images, T >= 1
    draws: tuple[Draws, ...]  # T, for the augmentation
    momentum: float = 0.0  # mu
    weight_decay: float = 0.0  # w
    window: int | None = None  # W, the last steps, which the derivative goes back through; None: T

    @property
    def before_window(self) -> int:
        """The steps that only bring the student to where its window begins, T - W or none."""
        return 0 if self.window is None else max(0, len(self.batches) - self.window)

    def require_fit(self, network: Network) -> None:
        """Check that it has steps, draws for each image of each, and this network's parameters.

        Raises:
            InputError: otherwise.
        """
        steps, draws = len(self.batches), len(self.draws)
        require(steps > 0, "batches", "the student has no step", "give one batch or more")
        none = f"{self.window} steps cannot be differentiated through"
        fits = self.window is None or self.window > 0
        require(fits, "window", none, "give one or more, or None for all")
        short = f"the student has {draws} for {steps} batches"
        require(draws == steps, "draws", short, "give one for each student step")
        require_parameters("start", self.start, network)
        for batch, drawn in zip(self.batches, self.draws):
            short = f"there are {len(drawn.uniform)} for a batch of {len(batch)} images"
            fits = len(drawn.uniform) == len(batch)
            require(fits, "draws", short, "give one for each image")


def require_parameters(name: str, theta: Tensor, network: Network) -> None:
    """Check that theta has the shape of this network's parameters.

    Raises:
        InputError: otherwise.
    """
    expected = network.parameter_count
    reason = f"has shape {tuple(theta.shape)} and the network ({expected},)"
    fits = theta.shape == (expected,)
    require(fits, name, reason, "give parameters of this network")


def student_batches(
    images: int, batch_size: int, student_steps: int, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Draw the batches of a student: shuffled passes over the images, without replacement in each.

    Args:
        images: how many distilled images there are.
        batch_size: images per step; the last batch of a pass may be smaller.
        student_steps: T.
        random: a generator on the CPU.

    Returns:
        T index tensors.
    """
    batches: list[Tensor] = []
    while len(batches) < student_steps:
        batches += torch.randperm(images, generator=random).split(batch_size)
    return tuple(batches[:student_steps])


def student(
    start: Tensor,
    like: Tensor,
    batch_size: int,
    student_steps: int,
    random: torch.Generator,
    **training: float,
) -> Student:
    """Draw the batches and the augmentation of a student's training.

    Args:
        start: theta_0 (P,).
        like: the distilled images; device and number type follow them.
        batch_size: images per step.
        student_steps: T.
        random: a generator on the CPU.
        training: `momentum`, `weight_decay` and `window` of `Student`.
    """
    batches = student_batches(len(like), batch_size, student_steps, random)
    draws = tuple(draw(len(batch), random, like) for batch in batches)
    batches = tuple(batch.to(like.device) for batch in batches)
    return Student(start.to(like), batches, draws, **training)


def trained_student(
    network: Network, distilled: Distilled, run: Student, augmentation: AugmentSettings
) -> Tensor:
    """Train a student, differentiable in all that is learned through its last W steps.

    This is the reference: it reads like the equations, and its memory grows with W.

    Args:
        network: of the student.
        distilled: the set that it trains on.
        run: its start, batches and draws.
        augmentation: A.

    Returns:
        theta_T (P,).
    """
    run.require_fit(network)
    theta, velocity = run.start.detach(), torch.zeros_like(run.start)
    for t, (batch, draws) in enumerate(zip(run.batches, run.draws)):
        if t <= run.before_window:  # until the window begins, nothing is differentiated
            theta, velocity = theta.detach().requires_grad_(), velocity.detach()
        x = augment(distilled.images[batch], draws, augmentation)
        loss = F.cross_entropy(network(theta, x), distilled.targets[batch])
        (g,) = torch.autograd.grad(loss, theta, create_graph=t >= run.before_window)
        velocity = run.momentum * velocity + g + run.weight_decay * theta
        theta = theta - distilled.step_size * velocity
    return theta


def through_one_graph(loss: Callable[[Distilled], Tensor], distilled: Distilled) -> Answer:
    """Differentiate a loss () of the set by autograd; the reference for `swept_gradient`."""
    leaves = distilled.leaves()
    value, learned = loss(leaves), leaves.learned()
    by_leaf = torch.autograd.grad(value, list(learned.values()))
    return value.item(), dict(zip(learned, by_leaf))


@shared_threads()
def swept_gradient(
    network: Network,
    distilled: Distilled,
    run: Student,
    augmentation: AugmentSettings,
    question: Question,
    *,
    way: Way = "exact",
) -> Answer:
    """Differentiate a question about `trained_student`, in memory that hardly grows with W.

    Only theta of the last W steps is kept. A sweep back over them starts with
    lambda_T = dL/dtheta_T and nu = 0. With H_t the Hessian of step t's cross-entropy and x_t the
    augmented batch, it does for t = T-1 ... T-W (and for the labels as for the images)

        nu             <- mu nu - alpha lambda
        dL/dlog alpha  += <g_t, nu> + w <theta_t, nu>
        dL/dx_t         = d<g_t, nu>/dx_t
        lambda         <- lambda + H_t nu + w nu

    and at last dL/dlog alpha += mu <v_{T-W}, nu>: what sum -alpha <v_{t+1}, lambda_{t+1}> becomes
    when v_{t+1} is written out, so that no v but the window's first is needed.

    Args:
        network: of the student.
        distilled: the set that it trains on.
        run: its start, batches and draws.
        augmentation: A.
        question: L, and its derivative.
        way: how the derivatives of <g_t, nu> are computed. `exact` takes them as they are
            (`derivatives.directional`). `difference` takes differences of first derivatives with
            the same ReLUs open (`derivatives.directional_by_difference`): faster, half the digits,
            and it keeps the first derivatives of each step and one bit per ReLU.

    Returns:
        L, and its gradient by the name of each learned tensor.

    Raises:
        ValueError: for another way.
        InputError: for a student without steps, or of another network.
    """
    if way not in get_args(Way):
        raise ValueError(f"way: {way!r} is not known; use one of {', '.join(get_args(Way))}")
    run.require_fit(network)
    leaves, alpha = distilled.leaves(), distilled.step_size.detach()
    steps, first, first_derivatives = len(run.batches), run.before_window, []
    # One tensor holds all thetas: small ones, allocated between a step's large tensors, would
    # fragment the memory.
    thetas = run.start.new_empty(steps - first + 1, run.start.numel())  # (W + 1, P)
    thetas[0], velocity = run.start, torch.zeros_like(run.start)
    for t, (batch, draws) in enumerate(zip(run.batches, run.draws)):
        if t == first:
            first_velocity = velocity
        here, after = (max(0, place - first) for place in (t, t + 1))
        x = augment(distilled.images[batch], draws, augmentation).detach()
        place = network, thetas[here], x, distilled.targets[batch]
        if way == "difference" and t >= first:
            first_derivatives.append(slopes(*place))
            g = first_derivatives[-1].by_theta
        else:
            g = gradient(*place)[1]
        velocity = run.momentum * velocity + g + run.weight_decay * thetas[here]
        torch.sub(thetas[here], alpha * velocity, out=thetas[after])
    loss, towards = question(thetas[-1])  # towards is lambda
    by_log_alpha, back = torch.zeros_like(alpha), torch.zeros_like(towards)  # back is nu
    for t in reversed(range(first, steps)):
        back = run.momentum * back - alpha * towards
        x = augment(leaves.images[run.batches[t]], run.draws[t], augmentation)
        y = leaves.targets[run.batches[t]]
        place = network, thetas[t - first], x.detach(), y.detach(), back
        if way == "difference":
            step = directional_by_difference(*place, first_derivatives.pop())
        else:
            step = directional(*place)
        inputs, slopes_of_inputs = [x], [step.by_images]
        if step.by_targets is not None:
            inputs.append(y)
            slopes_of_inputs.append(step.by_targets)
        torch.autograd.backward(inputs, slopes_of_inputs)
        decay = run.weight_decay * back
        by_log_alpha = by_log_alpha + step.slope + decay @ thetas[t - first]
        towards = towards + step.by_theta + decay
    by_log_alpha = by_log_alpha + run.momentum * (first_velocity @ back)
    by_name = {name: leaf.grad for name, leaf in leaves.learned().items()}
    return loss.item(), by_name | {"log_step_size": by_log_alpha}
