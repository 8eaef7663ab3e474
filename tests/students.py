"""Students' training on tiny problems, and what it is compared with: torch's own optimiser, finite
differences, and a sweep back from which terms can be left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from small import CLASSES, labelled, tiny_network, walk
from torch import Tensor

from medddist.base.seeds import generator
from medddist.method.augment import AugmentSettings, Draws, augment
from medddist.method.distilled import Distilled
from medddist.method.matching import Segment, distance
from medddist.method.networks import Network
from medddist.method.real_loss import cross_entropy
from medddist.method.student import (
    Question,
    Student,
    student,
    swept_gradient,
    through_one_graph,
    trained_student,
)

EVERYTHING = AugmentSettings(
    shift=0.1, scale=0.2, rotation_degrees=15, brightness=0.4, contrast=0.3, cutout=0.3, flip=True
)
QUESTIONS = ["distance", "classes", "probabilities"]
DESCENT = {"momentum": 0.9, "weight_decay": 0.01}  # what trajectory matching does not have


@dataclass(frozen=True)
class Case:
    """A student, and what is asked of its end: how far it is from a target, or its loss."""

    network: Network
    distilled: Distilled
    run: Student
    target: Tensor  # (P,)
    real: tuple[Tensor, Tensor]  # images, and classes or probabilities
    question: str  # one of QUESTIONS

    def asked(self) -> Question:
        """What the sweep is asked."""
        if self.question == "distance":
            run = Segment(self.run.start, self.target, self.run.batches, self.run.draws)
            return distance(self.network, run)
        return cross_entropy(self.network, self.real)

    def loss(self, theta: Tensor) -> Tensor:
        """The same, as autograd can differentiate it."""
        if self.question == "distance":
            missed, gone = theta - self.target, self.run.start - self.target
            return missed.square().sum() / gone.square().sum()
        return F.cross_entropy(self.network(theta, self.real[0]), self.real[1])

    def swept(self, way: str = "exact"):
        given = self.network, self.distilled, self.run, EVERYTHING
        return swept_gradient(*given, self.asked(), way=way)

    def unrolled(self):
        end = lambda leaves: trained_student(self.network, leaves, self.run, EVERYTHING)
        return through_one_graph(lambda leaves: self.loss(end(leaves)), self.distilled)

    def training_with(self, **changes) -> Case:
        return replace(self, run=replace(self.run, **changes))

    def single(self) -> Case:
        """The same with every number in float32."""
        draws = tuple(Draws(one.uniform.float()) for one in self.run.draws)
        images, labels = self.real
        return replace(
            self.training_with(start=self.run.start.float(), draws=draws),
            distilled=self.distilled.to(torch.float32),
            target=self.target.float(),
            real=(images.float(), labels.float() if labels.is_floating_point() else labels),
        )


def tiny_student(
    question: str = "classes",
    labels: str = "hard",
    steps: int = 6,
    *,
    channels: int = 1,
    seed: int = 0,
    step_size: float = 0.1,
    **training,
) -> Case:
    """A student of the tiny ConvNet in float64: 4 of 6 distilled images a step, 7 real images."""
    network, dtype = tiny_network(channels), torch.float64
    theta = walk(network, 3, seed, dtype)
    x, hard = labelled(6, seed, channels, dtype)
    random = generator("students", seed)
    logits = torch.randn(6, CLASSES, generator=random, dtype=dtype)
    real, classes = labelled(7, seed + 100, channels, dtype)
    answers = torch.randn(7, CLASSES, generator=random, dtype=dtype).softmax(1)
    distilled = Distilled(
        x, hard if labels == "hard" else logits, torch.tensor(math.log(step_size), dtype=dtype)
    )
    run = student(theta[0], x, 4, steps, random, **training)
    real_targets = answers if question == "probabilities" else classes
    return Case(network, distilled, run, theta[2], (real, real_targets), question)


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The relative error of each learned tensor's gradient."""
    assert found.keys() == expected.keys()
    return {
        name: ((found[name].double() - value).norm() / value.norm()).item()
        for name, value in expected.items()
    }


def moved(distilled: Distilled, direction: dict[str, Tensor], by: float) -> Distilled:
    fields = {"labels": distilled.labels} | distilled.learned()
    return Distilled(**(fields | {name: fields[name] + by * v for name, v in direction.items()}))


def trained_by_torch(case: Case, *, moved_to: Distilled | None = None) -> Tensor:
    """The student's end by `torch.optim.SGD`; its last W steps are on the set `moved_to`."""
    run, distilled = case.run, case.distilled
    theta = run.start.clone().requires_grad_()
    descent = torch.optim.SGD(
        [theta],
        lr=distilled.step_size.item(),
        momentum=run.momentum,
        weight_decay=run.weight_decay,
    )
    steps = len(run.batches)
    window = steps if run.window is None else run.window
    for t, (batch, draws) in enumerate(zip(run.batches, run.draws)):
        if t + window >= steps:
            distilled = moved_to or distilled
        descent.param_groups[0]["lr"] = distilled.step_size.item()
        x = augment(distilled.images[batch], draws, EVERYTHING)
        descent.zero_grad()
        F.cross_entropy(case.network(theta, x), distilled.targets[batch]).backward()
        descent.step()
    return theta.detach()


def require_finite_differences(case: Case, gradients: list[dict[str, Tensor]]) -> None:
    """Check gradients along three random directions of each learned tensor, and along all at once.

    What the steps before the window owe to the set is left out: they stay on the set as it is.
    """
    random = generator("directions")
    for names in [*([name] for name in gradients[0]), list(gradients[0])]:
        for _ in range(3):
            direction = {
                name: torch.randn(gradients[0][name].shape, generator=random, dtype=torch.float64)
                for name in names
            }
            ahead, behind = (
                case.loss(trained_by_torch(case, moved_to=moved(case.distilled, direction, by)))
                for by in (1e-6, -1e-6)
            )
            expected = ((ahead - behind) / 2e-6).item()
            assert abs(expected) > 1e-6, "a direction in which nothing happens shows nothing"
            for gradient in gradients:
                found = sum((gradient[name] * direction[name]).sum().item() for name in names)
                assert abs(found - expected) <= 5e-6 * abs(expected) + 1e-9


MISTAKES = [
    "no momentum in nu",
    "no decay in lambda",
    "the slope alone for the step size",
    "no decay in the velocity",
    "the window begins at rest",
    "a window one step too long",
    "a window one step too short",
    "the Hessian times lambda",
]


def swept_with(case: Case, mistake: str = "") -> tuple[float, dict[str, Tensor]]:
    """The sweep once more, by autograd and one step after the other; with a mistake, or right."""
    assert mistake in ["", *MISTAKES]
    run, network = case.run, case.network
    mu, w, alpha = run.momentum, run.weight_decay, case.distilled.step_size
    leaves = case.distilled.leaves()
    first = len(run.batches) - (run.window or len(run.batches))
    first += {"a window one step too long": -1, "a window one step too short": 1}.get(mistake, 0)

    def slope(theta: Tensor, t: int, **graph) -> Tensor:
        x = augment(leaves.images[run.batches[t]], run.draws[t], EVERYTHING)
        loss = F.cross_entropy(network(theta, x), leaves.targets[run.batches[t]])
        return torch.autograd.grad(loss, theta, **graph)[0]

    thetas, velocities, slopes = [run.start], [torch.zeros_like(run.start)], []
    for t in range(len(run.batches)):
        theta = thetas[t].requires_grad_()
        slopes.append(slope(theta, t))
        decay = 0 if mistake == "no decay in the velocity" else w * theta.detach()
        at_rest = mistake == "the window begins at rest" and t == first
        velocities.append((0 if at_rest else mu * velocities[t]) + slopes[t] + decay)
        thetas.append(theta.detach() - alpha * velocities[-1])
    end = thetas[-1].requires_grad_()
    loss = case.loss(end)
    (towards,) = torch.autograd.grad(loss, end)
    back, by_alpha = torch.zeros_like(towards), torch.zeros(())
    learned = {k: leaf for k, leaf in leaves.learned().items() if k != "log_step_size"}
    by_name = {k: torch.zeros_like(leaf) for k, leaf in learned.items()}
    for t in reversed(range(first, len(run.batches))):
        alone = mistake == "the slope alone for the step size"
        by_alpha = by_alpha - (slopes[t] if alone else velocities[t + 1]) @ towards
        back = (0 if mistake == "no momentum in nu" else mu * back) - alpha * towards
        theta = thetas[t].detach().requires_grad_()
        along = -alpha * towards if mistake == "the Hessian times lambda" else back
        product = slope(theta, t, create_graph=True) @ along
        by_theta, *rest = torch.autograd.grad(product, [theta, *learned.values()])
        by_name = {k: by_name[k] + part for k, part in zip(learned, rest)}
        towards = towards + by_theta + (0 if mistake == "no decay in lambda" else w * back)
    return loss.item(), by_name | {"log_step_size": (alpha * by_alpha).detach()}


def most_kept_at_once(call: Callable[[], object]) -> int:
    """Bytes that autograd keeps for backward passes, at their most during a call."""
    now, most = 0, 0

    class Kept:
        def __init__(self, tensor: Tensor):
            nonlocal now, most
            self.tensor, self.bytes = tensor, tensor.nbytes
            now += self.bytes
            most = max(most, now)

        def __del__(self):
            nonlocal now
            now -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        call()
    return most
