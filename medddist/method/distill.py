"""The outer loop of distillation: from initial images to the set that is released."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.settings import LATER, Settings
from medddist.base.tensors import load_tensors, save_tensors
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings
from medddist.method.evaluate import EvaluateSettings, random_real, tried_on_validation
from medddist.method.matching import Distilled, Way, matching_gradient, segment
from medddist.method.networks import Network
from medddist.method.training import Labelled
from medddist.method.trajectories import Trajectory


class DistillSettings(Settings):
    """MTT's settings by the paper's names; rates are for plain SGD with momentum on the matching
    loss's gradient.
    """

    images_per_class: int = Field(20, ge=1)
    iterations: int = Field(5000, ge=0)
    student_steps: int = Field(20, ge=1)  # N
    expert_epochs: int = Field(2, ge=1)  # M
    max_start_epoch: int = Field(
        10, ge=1
    )  # a student starts after fewer epochs of its teacher, 0 or more, as in MTT
    batch_size: int = Field(40, ge=1)  # distilled images a student step
    step_size: float = Field(0.01, gt=0)  # alpha at the start; its logarithm is learned
    learning_rate_images: float = Field(1000.0, ge=0)
    learning_rate_log_step_size: float = Field(0.01, ge=0)
    learning_rate_labels: float = Field(
        1.0, ge=0
    )  # of the label logits; soft labels only, 0 keeps them as they start
    momentum: float = Field(0.5, ge=0, lt=1)
    segments_per_step: int = Field(
        1, ge=1
    )  # segments whose gradients are averaged in one iteration
    gradient: Way = "exact"  # difference: faster, half the digits
    initial_images: Literal["real", "average", "noise"] = (
        "real"  # noise has the training pixels' mean and spread
    )
    averaged_images: int = Field(
        10, ge=2, json_schema_extra=LATER
    )  # of one class behind each image of an `average` start
    labels: Literal["hard", "soft"] = "hard"
    label_confidence: float = Field(0.9, gt=0, lt=1)  # of the own class, where soft labels start
    augmentation: AugmentSettings = AugmentSettings()
    select_every: int = Field(
        100, ge=1
    )  # iterations between candidates; the best on validation is released
    selection_networks: int = Field(2, ge=1)
    selection_metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy"
    # last: what the last iteration ends with is released, and no image of validation is looked at
    selection: Literal["validation", "last"] = Field("validation", json_schema_extra=LATER)
    seed: int = 0

    @property
    def last_epoch_read(self) -> int:
        """The teachers' epoch that a segment from the last start epoch ends at."""
        return self.max_start_epoch - 1 + self.expert_epochs


@dataclass(frozen=True)
class Distillation:
    """The released set, and how it came about."""

    distilled: Distilled  # the selected candidate
    selected_iteration: int
    initial: Distilled
    # (N,) training images that the set started from, (N, A) of averages; empty for noise
    initial_indices: Tensor
    candidates: tuple[
        dict, ...
    ]  # {iteration, step_size, accuracy, balanced_accuracy} on validation; the first two of `last`
    losses: Tensor  # (iterations,)
    step_sizes: Tensor  # (iterations,) alpha that each iteration used
    pictures: dict[int, Tensor]  # images (N, C, H, W) by iteration


def initial_set(
    training: Labelled, classes: int, settings: DistillSettings
) -> tuple[Distilled, Tensor]:
    """What distillation starts from: so many images a class, and the training indices they are
    copies or averages of.
    """
    images, labels = training
    random = generator(settings.seed, "initial")
    indices = random_real(labels, settings.images_per_class, classes, "balanced", random)
    hard = torch.arange(classes).repeat_interleave(settings.images_per_class).to(labels)
    start = images[indices.to(images.device)].clone()
    if settings.initial_images == "noise":
        start, indices = torch.randn(start.shape, generator=random).to(start), indices[:0]
    elif settings.initial_images == "average":
        indices = _averaged(labels, classes, settings, random)
        start = torch.stack([images[row.to(images.device)].mean(0) for row in indices])
    log_step_size = torch.tensor(
        math.log(settings.step_size), dtype=images.dtype, device=images.device
    )
    return Distilled(
        start, _label_tensor(hard, classes, settings, images.dtype), log_step_size
    ), indices


def _averaged(
    labels: Tensor, classes: int, settings: DistillSettings, random: torch.Generator
) -> Tensor:
    """(N, A) different images of one class a row; rows are drawn without regard to one another, and
    may share images.
    """
    if settings.averaged_images > int(torch.bincount(labels.cpu(), minlength=classes).min()):
        raise InputError(
            "averaged_images",
            f"{settings.averaged_images} are more than the training images of the smallest class",
            "lower it",
        )
    draws = [
        random_real(labels, settings.averaged_images, classes, "balanced", random)
        for _ in range(settings.images_per_class)
    ]
    by_class = torch.stack(draws).view(settings.images_per_class, classes, settings.averaged_images)
    return by_class.transpose(0, 1).flatten(0, 1)


def _label_tensor(
    hard: Tensor, classes: int, settings: DistillSettings, kind: torch.dtype
) -> Tensor:
    """Classes as they are; or logits whose softmax gives the own class `label_confidence`, the
    others equal shares.
    """
    if settings.labels == "hard":
        return hard
    gap = math.log(settings.label_confidence * (classes - 1) / (1 - settings.label_confidence))
    return gap * F.one_hot(hard, classes).to(kind)


class _Run:
    """A distillation under way:

    what is learned, its momentum, and its history. Saved and restored as one file.
    """

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
        tensors |= {
            f"picture.{k}.{name}": v for k, at in self.pictures.items() for name, v in at.items()
        }
        about = {
            name: getattr(self, name)
            for name in ("iteration", "losses", "step_sizes", "candidates")
        }
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


@shared_threads()
def distill(
    network: Network,
    training: Labelled,
    validation: Labelled,
    classes: int,
    trajectories: list[Trajectory],
    settings: DistillSettings,
    evaluation: EvaluateSettings,
    checkpoint: Path,
    *,
    progress: Progress = silent,
    save_every_seconds: float = 30.0,
) -> Distillation:
    """Learn a distilled set from teachers' trajectories; goes on from `checkpoint` if that file is
    there.

    Under torchrun each process takes its share of an iteration's segments, and the first keeps the
    checkpoint. Candidates every `select_every` iterations (the initial set is the first) train
    `selection_networks` networks by the final evaluation's recipe; the best on validation is
    released. With `selection: last` none is trained, `validation` is not looked at, and the last
    candidate is released. Test data are not an argument here. Raises InputError for settings the
    trajectories cannot serve, and when the loss or what is learned is not finite.
    """
    check_trajectories(trajectories, network, settings)
    check_processes(settings)
    initial, indices = initial_set(training, classes, settings)
    run = _Run(initial)
    kept = processes.from_the_first(
        lambda: load_tensors(checkpoint) if Path(checkpoint).exists() else None
    )
    if kept:
        run.restore(*kept)
    saved_at = time.monotonic()
    while True:
        if run.iteration % settings.select_every == 0 or run.iteration == settings.iterations:
            _add_candidate(run, network, validation, settings, evaluation)
        if run.iteration == settings.iterations:
            break
        _iterate(run, network, trajectories, settings)
        what = f"distilling, loss {run.losses[-1]:.3f}"
        progress(what, run.iteration, settings.iterations)
        if processes.rank() == 0 and time.monotonic() - saved_at >= save_every_seconds:
            run.save(checkpoint)
            saved_at = time.monotonic()
    return _released(run, initial, indices, settings)


def check_trajectories(
    trajectories: list[Trajectory], network: Network, settings: DistillSettings
) -> None:
    """Raises InputError unless every trajectory fits the network and reaches as far as a segment
    may.
    """
    if not trajectories:
        raise InputError(
            "teachers", "there are no trajectories to match", "train one teacher or more"
        )
    needed = settings.last_epoch_read
    for trajectory in trajectories:
        if trajectory.parameter_count != network.parameter_count:
            raise InputError(
                trajectory.path,
                f"holds {trajectory.parameter_count} parameters a snapshot and the network "
                f"has {network.parameter_count}",
                "train teachers with these network settings",
            )
        if trajectory.snapshots <= needed:
            raise InputError(
                "max_start_epoch",
                f"{settings.max_start_epoch} and expert_epochs {settings.expert_epochs} need "
                f"snapshots to epoch {needed}, and {trajectory.path} ends at "
                f"{trajectory.snapshots - 1}",
                "lower it or raise the teachers' kept_epochs",
            )


def check_processes(settings: DistillSettings) -> None:
    """Raises InputError unless there is a segment for every process."""
    if settings.segments_per_step < processes.count():
        raise InputError(
            "segments_per_step",
            f"{settings.segments_per_step} cannot be dealt to {processes.count()} processes",
            f"set distill.segments_per_step={processes.count()} or more, or start fewer processes",
        )


def _iterate(
    run: _Run, network: Network, trajectories: list[Trajectory], settings: DistillSettings
) -> None:
    """One iteration: segments of teachers, a student's steps along each, and a step on what is
    learned.
    """
    numbers = processes.mine(settings.segments_per_step)
    found = [_along_a_segment(run, network, trajectories, settings, k) for k in numbers]
    own = [
        sum(loss for loss, _ in found),
        *(sum(slopes[name] for _, slopes in found) for name in run.learned),
    ]
    loss, *slopes = (total / settings.segments_per_step for total in processes.summed(own))
    loss, gradient = loss.item(), dict(zip(run.learned, slopes))
    _refuse_divergence(loss, gradient, run, settings)
    run.losses.append(loss)
    run.step_sizes.append(run.distilled.step_size.item())
    rates = {
        "images": settings.learning_rate_images,
        "log_step_size": settings.learning_rate_log_step_size,
        "labels": settings.learning_rate_labels,
    }
    for name, slope in gradient.items():
        run.velocity[name] = settings.momentum * run.velocity[name] + slope
        run.learned[name] = run.learned[name] - rates[name] * run.velocity[name]
    run.iteration += 1
    _refuse_step_size(run)
    _refuse_what_is_not_finite(run)


def _along_a_segment(
    run: _Run,
    network: Network,
    trajectories: list[Trajectory],
    settings: DistillSettings,
    number: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradient along this iteration's segment `number`: a teacher, a start epoch,
    a student's steps.
    """
    random = generator(settings.seed, "iteration", run.iteration, *([number] if number else []))
    teacher = trajectories[int(torch.randint(len(trajectories), (), generator=random))]
    epoch = int(torch.randint(settings.max_start_epoch, (), generator=random))
    like = run.learned["images"]
    start, target = (row.to(like) for row in teacher.rows(epoch, epoch + settings.expert_epochs))
    if torch.equal(start, target):
        raise InputError(
            teacher.path, f"stands still after epoch {epoch}", "raise the teachers' learning_rate"
        )
    student = segment(start, target, like, settings.batch_size, settings.student_steps, random)
    loss, gradient = matching_gradient(
        network, run.distilled, student, settings.augmentation, way=settings.gradient
    )
    return torch.tensor(loss, dtype=torch.float64), gradient


def _refuse_divergence(
    loss: float, gradient: dict[str, Tensor], run: _Run, settings: DistillSettings
) -> None:
    if math.isfinite(loss) and all(bool(slope.isfinite().all()) for slope in gradient.values()):
        return
    step_size = run.distilled.step_size.item()
    if step_size > 3 * settings.step_size:
        name = "learning_rate_log_step_size"
    else:  # nothing was learned yet at iteration 0: then the student itself diverged
        name = "learning_rate_images" if run.iteration else "step_size"
    raise InputError(
        name,
        f"the matching loss is not finite at iteration {run.iteration} (step size "
        f"{step_size:.3g}, started at {settings.step_size:.3g})",
        f"lower {name}",
    )


def _refuse_step_size(run: _Run) -> None:
    """The exponential is positive, but for numbers too small or too large to be held."""
    step_size = run.distilled.step_size.item()
    if not 0 < step_size < math.inf:
        raise InputError(
            "learning_rate_log_step_size",
            f"the step size became {step_size:g} at iteration {run.iteration}",
            "lower learning_rate_log_step_size",
        )


def _refuse_what_is_not_finite(run: _Run) -> None:
    """After a step, so that the last one is looked at too."""
    for name, value in run.learned.items():
        if not value.isfinite().all():
            raise InputError(
                f"learning_rate_{name}",
                f"the {name} are no longer finite after iteration {run.iteration}",
                f"lower learning_rate_{name}",
            )


def _add_candidate(
    run: _Run,
    network: Network,
    validation: Labelled,
    settings: DistillSettings,
    evaluation: EvaluateSettings,
):
    """Score what is there now on validation, unless the last is taken whatever it is worth, and
    keep its tensors.
    """
    if any(candidate["iteration"] == run.iteration for candidate in run.candidates):
        return
    now = run.distilled
    scores = (
        {}
        if settings.selection == "last"
        else _scores_on_validation(run, network, validation, settings, evaluation)
    )
    run.candidates.append({"iteration": run.iteration, "step_size": now.step_size.item(), **scores})
    run.pictures[run.iteration] = {name: value.cpu() for name, value in now.learned().items()}


def _scores_on_validation(
    run: _Run,
    network: Network,
    validation: Labelled,
    settings: DistillSettings,
    evaluation: EvaluateSettings,
) -> dict[str, float]:
    now = run.distilled
    recipe = evaluation.recipe.model_copy(update={"learning_rate": now.step_size.item()})
    seed = (settings.seed, "selection")
    networks = settings.selection_networks
    return processes.from_the_first(
        lambda: tried_on_validation(
            network, now.images, now.targets, recipe, networks, validation, seed
        )
    )


def _released(
    run: _Run, initial: Distilled, indices: Tensor, settings: DistillSettings
) -> Distillation:
    scored = lambda candidate: candidate[
        "iteration" if settings.selection == "last" else settings.selection_metric
    ]
    best = max(run.candidates, key=scored)
    tensors = {
        name: value.to(initial.images.device)
        for name, value in run.pictures[best["iteration"]].items()
    }
    return Distillation(
        distilled=replace(initial, **tensors),
        selected_iteration=best["iteration"],
        initial=initial,
        initial_indices=indices,
        candidates=tuple(run.candidates),
        losses=torch.tensor(run.losses),
        step_sizes=torch.tensor(run.step_sizes),
        pictures={iteration: at["images"] for iteration, at in sorted(run.pictures.items())},
    )
