"""The outer loop: the distilled images follow the gradient of the matching loss.

    v <- mu v + dL/dx,    x <- x - eta v    for the images x, log alpha, and soft labels,

with L the loss of `matching`, along a teacher and a start epoch drawn anew in each iteration.
Candidates are compared on validation, and the best one is released.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.settings import Settings
from medddist.base.tensors import load_tensors, save_tensors
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings
from medddist.method.evaluate import EvaluateSettings, tried_on_validation
from medddist.method.matching import Distilled, Way, matching_gradient, segment
from medddist.method.networks import Network
from medddist.method.training import Labelled
from medddist.method.trajectories import Trajectory


class DistillSettings(Settings):
    """Settings of a distillation, under the names of matching training trajectories (MTT).

    initial_images: real images, averages of them, or noise with the training pixels' mean and
        spread; see `baselines.initial`.
    labels: `hard` classes, or `soft` labels that are learned with the images.
    selection: the best candidate on `validation`, or the `last` one without a look at validation.
    """

    images_per_class: int = Field(20, ge=1)
    iterations: int = Field(5000, ge=0)
    student_steps: int = Field(20, ge=1)  # N
    expert_epochs: int = Field(2, ge=1)  # M
    max_start_epoch: int = Field(10, ge=1)  # T+: a student starts after fewer epochs, 0 or more
    batch_size: int = Field(40, ge=1)  # distilled images per student step
    step_size: float = Field(0.01, gt=0)  # alpha at the start; its logarithm is learned
    learning_rate_images: float = Field(1000.0, ge=0)
    learning_rate_log_step_size: float = Field(0.01, ge=0)
    learning_rate_labels: float = Field(1.0, ge=0)  # of the label logits; 0 keeps them fixed
    momentum: float = Field(0.5, ge=0, lt=1)
    segments_per_step: int = Field(1, ge=1)  # whose gradients are averaged in one iteration
    gradient: Way = "exact"  # difference: faster, half the digits
    initial_images: Literal["real", "average", "noise"] = "real"
    averaged_images: int = Field(10, ge=2)  # of one class behind each image of an average start
    labels: Literal["hard", "soft"] = "hard"
    label_confidence: float = Field(0.9, gt=0, lt=1)  # in the own class, where soft labels start
    augmentation: AugmentSettings = AugmentSettings()
    select_every: int = Field(100, ge=1)  # iterations between candidates
    selection_networks: int = Field(2, ge=1)
    selection_metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy"
    selection: Literal["validation", "last"] = "validation"
    seed: int = 0

    @property
    def last_epoch_read(self) -> int:
        """The teachers' epoch at the end of a segment from the last start epoch."""
        return self.max_start_epoch - 1 + self.expert_epochs


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
    trajectories: list[Trajectory],
    settings: DistillSettings,
    evaluation: EvaluateSettings,
    checkpoint: Path,
    *,
    progress: Progress = silent,
    save_every_seconds: float = 30.0,
) -> Distillation:
    """Learn a distilled set from teachers' trajectories; resume from `checkpoint` if it exists.

    Every `select_every` iterations a candidate trains `selection_networks` networks by the final
    evaluation's recipe; the best on validation is released. Test data are not an argument here.
    Under torchrun each process takes its share of an iteration's segments, and the first keeps the
    checkpoint.

    Args:
        network: of teachers and students.
        initial: the set to start from.
        initial_indices: the training images that `initial` was made of, for the record.
        validation: images (N, C, H, W) and labels (N,); not looked at with `selection: last`.
        trajectories: one per teacher.
        settings: of the distillation.
        evaluation: the recipe that candidates are trained by.
        checkpoint: a file, replaced every `save_every_seconds`.
        progress: called after each iteration.
        save_every_seconds: between two checkpoints.

    Raises:
        InputError: for settings that the trajectories do not allow, and when the loss or what is
            learned is no longer finite.
    """
    check_trajectories(trajectories, network, settings)
    check_processes(settings)
    run, checkpoint = _Run(initial), Path(checkpoint)
    saved = processes.from_the_first(lambda: load_tensors(checkpoint) if checkpoint.exists() else 0)
    if saved:
        run.restore(*saved)
    saved_at = time.monotonic()
    while True:
        if run.iteration in candidate_iterations(settings):
            _add_candidate(run, network, validation, settings, evaluation)
        if run.iteration == settings.iterations:
            return _released(run, initial, initial_indices, settings)
        _iterate(run, network, trajectories, settings)
        what = f"distilling, loss {run.losses[-1]:.3f}"
        progress(what, run.iteration, settings.iterations)
        if processes.rank() == 0 and time.monotonic() - saved_at >= save_every_seconds:
            run.save(checkpoint)
            saved_at = time.monotonic()


def candidate_iterations(settings: DistillSettings) -> set[int]:
    """Return the numbers of iterations after which the set is a candidate."""
    return {*range(0, settings.iterations, settings.select_every), settings.iterations}


def check_trajectories(
    trajectories: list[Trajectory], network: Network, settings: DistillSettings
) -> None:
    """Check that every trajectory fits the network and is long enough.

    Raises:
        InputError: where one does not, or there is none.
    """
    if not trajectories:
        raise InputError("teachers", "there are no trajectories to match", "train one or more")
    needed = settings.last_epoch_read
    for trajectory in trajectories:
        theirs, ours = trajectory.parameter_count, network.parameter_count
        if theirs != ours:
            reason = f"has {theirs} parameters per snapshot, and the network has {ours}"
            remedy = "train teachers with these network settings"
            raise InputError(trajectory.path, reason, remedy)
        if trajectory.snapshots <= needed:
            epochs = f"{settings.max_start_epoch} and expert_epochs {settings.expert_epochs}"
            reason = f"{epochs} need snapshots to epoch {needed}, and {trajectory.path} ends at"
            reason += f" {trajectory.snapshots - 1}"
            remedy = "lower it or raise the teachers' kept_epochs"
            raise InputError("max_start_epoch", reason, remedy)


def check_processes(settings: DistillSettings) -> None:
    """Check that there is a segment for every process.

    Raises:
        InputError: where there are more processes than segments.
    """
    count = processes.count()
    if settings.segments_per_step < count:
        reason = f"{settings.segments_per_step} cannot be dealt to {count} processes"
        remedy = f"set distill.segments_per_step={count} or more, or start fewer processes"
        raise InputError("segments_per_step", reason, remedy)


class _Run:
    """The state of a distillation: what is learned, its momentum, and its history."""

    def __init__(self, initial: Distilled):
        self.iteration = 0
        self.learned = initial.learned()
        self.velocity = {name: torch.zeros_like(value) for name, value in self.learned.items()}
        self.labels = initial.labels
        self.losses: list[float] = []
        self.step_sizes: list[float] = []
        self.candidates: list[dict] = []
        self.pictures: dict[int, dict[str, Tensor]] = {}

    @property
    def distilled(self) -> Distilled:
        return Distilled(**({"labels": self.labels} | self.learned))

    def save(self, path: Path) -> None:
        tensors = {f"learned.{name}": value for name, value in self.learned.items()}
        tensors |= {f"velocity.{name}": value for name, value in self.velocity.items()}
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
            kind, name = key.split(".", 1)
            if kind == "picture":
                iteration, name = name.split(".", 1)
                self.pictures.setdefault(int(iteration), {})[name] = value
            else:
                getattr(self, kind)[name] = value.to(device)


def _iterate(
    run: _Run, network: Network, trajectories: list[Trajectory], settings: DistillSettings
) -> None:
    """Average the gradients of this iteration's segments, and take a step along them."""
    own = [torch.zeros((), dtype=torch.float64), *map(torch.zeros_like, run.learned.values())]
    for number in processes.mine(settings.segments_per_step):
        loss, gradient = _along_a_segment(run, network, trajectories, settings, number)
        slopes = (gradient[name] for name in run.learned)
        own = [total + value for total, value in zip(own, (loss, *slopes))]
    loss, *slopes = (total / settings.segments_per_step for total in processes.summed(own))
    gradient = dict(zip(run.learned, slopes))
    _require_finite_gradient(loss.item(), gradient, run, settings)
    run.losses.append(loss.item())
    run.step_sizes.append(run.distilled.step_size.item())
    for name, slope in gradient.items():
        rate = getattr(settings, f"learning_rate_{name}")
        run.velocity[name] = settings.momentum * run.velocity[name] + slope
        run.learned[name] = run.learned[name] - rate * run.velocity[name]
    run.iteration += 1
    _require_usable(run)


def _along_a_segment(
    run: _Run,
    network: Network,
    trajectories: list[Trajectory],
    settings: DistillSettings,
    number: int,
) -> tuple[float, dict[str, Tensor]]:
    """The loss and its gradient along one segment: a teacher, a start epoch, a student's steps."""
    random = generator(settings.seed, "iteration", run.iteration, *([number] if number else []))
    teacher = trajectories[int(torch.randint(len(trajectories), (), generator=random))]
    epoch = int(torch.randint(settings.max_start_epoch, (), generator=random))
    like = run.learned["images"]
    start, target = (row.to(like) for row in teacher.rows(epoch, epoch + settings.expert_epochs))
    if torch.equal(start, target):
        reason = f"does not move after epoch {epoch}"
        raise InputError(teacher.path, reason, "raise the teachers' learning_rate")
    student = segment(start, target, like, settings.batch_size, settings.student_steps, random)
    given = network, run.distilled, student, settings.augmentation
    return matching_gradient(*given, way=settings.gradient)


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
    reason = f"the matching loss is not finite at iteration {run.iteration} ({sizes})"
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
    run.pictures[run.iteration] = {name: value.cpu() for name, value in now.learned().items()}


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
