"""The outer loop: the distilled images follow the gradient of what is asked of a student.

    x <- x - eta v,    v from dL/dx by stochastic gradient descent with momentum, or by Adam,

for the images x, log alpha, and labels that are learned. What L is depends on the method
(`iterations`). Candidates are compared on validation, and the best one is released.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.tensors import load_tensors, save_tensors
from medddist.base.threads import shared_threads
from medddist.method.distilled import Distilled
from medddist.method.evaluate import EvaluateSettings, tried_on_validation
from medddist.method.networks import Network
from medddist.method.settings import DistillSettings
from medddist.method.student import Answer
from medddist.method.training import Labelled, rate_factor

# what one iteration asks of the set, with its random numbers; see `iterations`
Ask = Callable[[Distilled, torch.Generator], Answer]


@dataclass(frozen=True)
class Distillation:
    """A released set, and how it was made."""

    distilled: Distilled  # the selected candidate
    selected_iteration: int
    initial: Distilled
    initial_indices: Tensor  # (N,) training images it started from, (N, A) averaged ones, or none
    candidates: tuple[dict, ...]  # {iteration, step_size}, with scores where validation selects
    losses: Tensor  # (iterations,)
    step_sizes: Tensor  # (iterations,) alpha that each iteration used
    pictures: dict[int, Tensor]  # images (N, C, H, W) of each candidate by iteration


@shared_threads()
def distill(
    network: Network,
    initial: Distilled,
    initial_indices: Tensor,
    validation: Labelled,
    ask: Ask,
    settings: DistillSettings,
    evaluation: EvaluateSettings,
    checkpoint: Path,
    *,
    progress: Progress = silent,
    save_every_seconds: float = 10.0,
) -> Distillation:
    """Learn a distilled set from what is asked of students; resume from `checkpoint` if it exists.

    Every `select_every` iterations a candidate trains `selection_networks` networks by the final
    evaluation's recipe; the best on validation is released. Test data are not an argument here.
    Under torchrun each process takes its share of an iteration's students, and the first keeps the
    checkpoint.

    Args:
        network: of the students.
        initial: the set to start from.
        initial_indices: the training images that `initial` was made of, for the record.
        validation: images (N, C, H, W) and labels (N,); not looked at with `selection: last`.
        ask: what an iteration asks, of `iterations`.
        settings: of the distillation.
        evaluation: the recipe that candidates are trained by.
        checkpoint: a file, replaced every `save_every_seconds`.
        progress: called after each iteration.
        save_every_seconds: between two checkpoints.

    Raises:
        InputError: when the loss or what is learned is no longer finite.
    """
    check_processes(settings)
    run, checkpoint = _Run(initial, settings), Path(checkpoint)
    saved = processes.from_the_first(lambda: load_tensors(checkpoint) if checkpoint.exists() else 0)
    if saved:
        run.restore(*saved)
        progress("distilling, resumed", run.iteration, settings.iterations)
    saved_at = time.monotonic()
    while True:
        if run.iteration in candidate_iterations(settings):
            _add_candidate(run, network, validation, settings, evaluation)
        if run.iteration == settings.iterations:
            return _released(run, initial, initial_indices, settings)
        if processes.rank() == 0 and time.monotonic() - saved_at >= save_every_seconds:
            run.save(checkpoint)
            saved_at = time.monotonic()
        _iterate(run, ask, settings)
        what = f"distilling, loss {run.losses[-1]:.3f}"
        progress(what, run.iteration, settings.iterations)


def candidate_iterations(settings: DistillSettings) -> set[int]:
    """Return the numbers of iterations after which the set is a candidate."""
    return {*range(0, settings.iterations, settings.select_every), settings.iterations}


def check_processes(settings: DistillSettings) -> None:
    """Check that there is a student for every process.

    Raises:
        InputError: where there are more processes than students.
    """
    count = processes.count()
    if settings.segments_per_step < count:
        reason = f"{settings.segments_per_step} cannot be dealt to {count} processes"
        remedy = f"set distill.segments_per_step={count} or more, or start fewer processes"
        raise InputError("segments_per_step", reason, remedy)


class _Run:
    """The state of a distillation: what is learned, its optimiser, and its history."""

    def __init__(self, initial: Distilled, settings: DistillSettings):
        self.iteration = 0
        tensors = {name: value.detach().clone() for name, value in initial.learned().items()}
        self.labels = initial.labels
        if settings.labels != "learned":
            tensors.pop("labels", None)
        self.learned = tensors
        self.optimiser = _optimiser(tensors, settings)
        self.losses: list[float] = []
        self.step_sizes: list[float] = []
        self.candidates: list[dict] = []
        self.pictures: dict[int, dict[str, Tensor]] = {}

    @property
    def distilled(self) -> Distilled:
        return Distilled(**({"labels": self.labels} | self.learned))

    def save(self, path: Path) -> None:
        tensors = {f"learned.{name}": value for name, value in self.learned.items()}
        for name, value in self.learned.items():
            kept = {k: v for k, v in self.optimiser.state[value].items() if v is not None}
            tensors |= {f"optimiser.{name}.{key}": kept[key] for key in kept}
        for iteration, picture in self.pictures.items():
            tensors |= {f"picture.{iteration}.{name}": value for name, value in picture.items()}
        about = {"iteration": self.iteration, "losses": self.losses}
        about |= {"step_sizes": self.step_sizes, "candidates": self.candidates}
        save_tensors(path, tensors, about)

    def restore(self, tensors: dict[str, Tensor], about: dict) -> None:
        for name, value in about.items():
            setattr(self, name, value)
        device = self.labels.device
        for key, value in tensors.items():
            kind, *place = key.split(".")
            if kind == "picture":
                self.pictures.setdefault(int(place[0]), {})[place[1]] = value
            elif kind == "learned":
                self.learned[place[0]].copy_(value)
            else:  # Adam keeps its count of steps on the CPU
                on = "cpu" if place[1] == "step" else device
                self.optimiser.state[self.learned[place[0]]][place[1]] = value.to(on)


def _optimiser(learned: dict[str, Tensor], settings: DistillSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": [value], "lr": getattr(settings, f"learning_rate_{name}")}
        for name, value in learned.items()
    ]
    if settings.outer_optimiser == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, momentum=settings.momentum)


def _iterate(run: _Run, ask: Ask, settings: DistillSettings) -> None:
    """Average the gradients of this iteration's students, and take a step along them."""
    own = [torch.zeros((), dtype=torch.float64), *map(torch.zeros_like, run.learned.values())]
    for number in processes.mine(settings.segments_per_step):
        name = "iteration", run.iteration, *([number] if number else [])
        loss, gradient = ask(run.distilled, generator(settings.seed, *name))
        slopes = (gradient[name] for name in run.learned)
        own = [total + value for total, value in zip(own, (loss, *slopes))]
    loss, *slopes = (total / settings.segments_per_step for total in processes.summed(own))
    gradient = dict(zip(run.learned, slopes))
    _require_finite_gradient(loss.item(), gradient, run, settings)
    run.losses.append(loss.item())
    run.step_sizes.append(run.distilled.step_size.item())
    factor = rate_factor(settings.outer_schedule, run.iteration / max(1, settings.iterations))
    for group, (name, slope) in zip(run.optimiser.param_groups, gradient.items()):
        group["lr"] = factor * getattr(settings, f"learning_rate_{name}")
        group["params"][0].grad = slope
    run.optimiser.step()
    run.iteration += 1
    _require_usable(run)


def _require_finite_gradient(
    loss: float, gradient: dict[str, Tensor], run: _Run, settings: DistillSettings
) -> None:
    if math.isfinite(loss) and all(bool(slope.isfinite().all()) for slope in gradient.values()):
        return
    step_size = run.distilled.step_size.item()
    if step_size > 3 * settings.step_size:
        name = "learning_rate_log_step_size"
    else:  # at iteration 0 nothing was learned yet: then the student itself diverged
        name = "learning_rate_images" if run.iteration else "step_size"
    sizes = f"step size {step_size:.3g}, at the start {settings.step_size:.3g}"
    reason = f"the loss is not finite at iteration {run.iteration} ({sizes})"
    raise InputError(name, reason, f"lower {name}")


def _require_usable(run: _Run) -> None:
    """Checked after each step, so that the last one is covered too."""
    step_size = run.distilled.step_size.item()
    if not 0 < step_size < math.inf:  # an exponential is positive, unless it over- or underflows
        name = "learning_rate_log_step_size"
        reason = f"the step size became {step_size:g} at iteration {run.iteration}"
        raise InputError(name, reason, f"lower {name}")
    for name, value in run.learned.items():
        if not value.isfinite().all():
            rate = f"learning_rate_{name}"
            reason = f"the {name} are no longer finite after iteration {run.iteration}"
            raise InputError(rate, reason, f"lower {rate}")


def _add_candidate(
    run: _Run,
    network: Network,
    validation: Labelled,
    settings: DistillSettings,
    evaluation: EvaluateSettings,
) -> None:
    """Keep the set as it is now, with its validation scores unless the last one is released."""
    if any(candidate["iteration"] == run.iteration for candidate in run.candidates):
        return
    now = run.distilled
    candidate = {"iteration": run.iteration, "step_size": now.step_size.item()}
    if settings.selection == "validation":
        recipe = evaluation.recipe.model_copy(update={"learning_rate": now.step_size.item()})
        given = network, now.images, now.targets, recipe, settings.selection_networks, validation
        seed = (settings.seed, "selection")
        candidate |= processes.from_the_first(lambda: tried_on_validation(*given, seed))
    run.candidates.append(candidate)
    kept = {name: value.detach().cpu().clone() for name, value in run.learned.items()}
    run.pictures[run.iteration] = kept


def _released(
    run: _Run, initial: Distilled, initial_indices: Tensor, settings: DistillSettings
) -> Distillation:
    by = "iteration" if settings.selection == "last" else settings.selection_metric
    best = max(run.candidates, key=lambda candidate: candidate[by])["iteration"]
    device = initial.images.device
    tensors = {name: value.to(device) for name, value in run.pictures[best].items()}
    pictures = {iteration: kept["images"] for iteration, kept in sorted(run.pictures.items())}
    return Distillation(
        distilled=replace(initial, **tensors),
        selected_iteration=best,
        initial=initial,
        initial_indices=initial_indices,
        candidates=tuple(run.candidates),
        losses=torch.tensor(run.losses),
        step_sizes=torch.tensor(run.step_sizes),
        pictures=pictures,
    )
