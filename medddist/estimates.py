"""Estimate time, memory and disk of a study's steps before they start.

`study.work` and `comparison.work` count each step's work in units, such as images in a training
step. Each unit is timed for a moment on this machine, on noise of the data's shape. Results that
are cached count nothing. Estimates are meant to be within a factor of two.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from medddist.base import machine
from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.baselines.condensing import condense
from medddist.baselines.pretraining import pretrain
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED
from medddist.comparison.shared import Entry, network_named
from medddist.comparison.tables import OF_THE_STUDY, missing
from medddist.comparison.work import row_work
from medddist.leaks.audit import is_audited
from medddist.method.distill import candidate_iterations
from medddist.method.distilled import Distilled
from medddist.method.fast.derivatives import last_block
from medddist.method.matching import matching_gradient, segment
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, Recipe, predict, train
from medddist.study import labels
from medddist.study import work as counted
from medddist.study.private import public_to_train
from medddist.study.profile import Profile
from medddist.study.scores import methods_of
from medddist.study.study import Study
from medddist.study.work import Shape, Unit, Work, shape_of

STEPS = ("teachers", "networks", "distill", "evaluate", "compare")  # of a study
ANNOUNCED = (*STEPS, "audit")

# Peak memory in units of the first block's output, the largest array: 1.8 to 2.3 (training), 5.1
# to 7.0 (sweep) and 1.0 (prediction) were measured for widths 32 to 128 at 32 to 112 px.
TRAINING, SWEEP, PREDICTION = 2.2, 6.5, 1.1
NOTED = 1 / 12  # more per student step by finite differences: a byte per pooling window
CLEARLY = 1.5  # memory is clearly short where the estimate is this many times what is free
MEASURED_NUMBERS = 2**25  # in the first block's output; a larger batch is measured in part
LEAST_SECONDS = 0.2  # of one measurement
AT_ONCE_SECONDS = 1.0  # shorter work is not announced
RANGE = 2.0  # from an estimate to its ends; 0.9 to 1.5 was measured on a busy machine

SMALLER = (  # settings to lower where memory is short
    "distill.batch_size",
    "teachers.recipe.batch_size",
    "references.good_recipe.batch_size",
    "compare.pretrain.batch_size",
    "data.images",
    "data.image_size_px",
)


class Estimate(NamedTuple):
    """What is left of a step: seconds, bytes of memory at its peak, and bytes on disk."""

    step: str
    seconds: float
    memory_bytes: int
    disk_bytes: int


def work(profile: Profile, shape: Shape, step: str, missing: Sequence) -> Work:
    """Count a step's work on its missing results: teachers, seeds, methods or rows."""
    if step == "teachers":
        parts = [counted.teacher_work(profile, shape)] * len(missing)
    elif step == "networks":
        parts = [counted.label_work(profile, shape)] * len(missing)
    elif step == "distill":
        parts = [counted.distillation_work(profile, shape)] * len(missing)
    elif step == "audit":
        parts = [counted.audit_work(profile, shape)] * len(missing)
    else:
        count = counted.method_work if step == "evaluate" else row_work
        parts = [count(profile, shape, each) for each in missing]
    return sum(parts, Work())


# ---- time ------------------------------------------------------------------------------------


def seconds(units: Work, speed: Callable[[Unit], float]) -> float:
    """Add up the seconds of some work; `speed` gives those of one of a unit, see `speeds`."""
    return sum((amount * speed(unit) for unit, amount in units.items()), 0.0)


def speeds(profile: Profile, shape: Shape, device: torch.device) -> Callable[[Unit], float]:
    """Make the function that measures the seconds of one of a unit, each once."""

    @functools.cache
    def speed(unit: Unit) -> float:
        fits = MEASURED_NUMBERS // (profile.network.width * shape.image_size_px**2)
        count = min(unit.batch, max(fits, shape.classes))
        size = count, shape.channels, shape.image_size_px, shape.image_size_px
        images = torch.randn(size, generator=generator("estimates")).to(device)
        labels = torch.arange(count, device=device) % shape.classes
        network = network_named(unit.network, profile, shape[3:], device)
        call, done = _call(unit, network, images, labels, profile)
        return _seconds_per_call(call, device) / done * unit.batch / count

    return speed


def _call(
    unit: Unit, network: Network, images: torch.Tensor, labels: torch.Tensor, profile: Profile
) -> tuple[Callable[[], object], int]:
    """Make a call that does some of a unit's work, and say how many it does of a whole batch."""
    seed, settings, compare = ("estimates",), profile.distill, profile.compare
    theta = initial_parameters(network, *seed).to(images)
    if unit.what == "train":
        given = theta, images, labels, Recipe(epochs=1, batch_size=len(images)), seed
        return lambda: train(network, *given), unit.batch
    if unit.what == "predict":
        return lambda: predict(network, theta, images), unit.batch
    if unit.what == "student":
        run = segment(theta, theta + 0.01, images, len(images), 2, generator(*seed))
        log_step_size = torch.tensor(math.log(settings.step_size)).to(images)
        given = Distilled(images, labels, log_step_size), run, settings.augmentation
        return lambda: matching_gradient(network, *given, way=settings.gradient), 2
    if unit.what == "features":
        return lambda: last_block(network, theta, images), unit.batch
    if unit.what == "move":
        moving = images.requires_grad_()
        return lambda: last_block(network, theta, moving).square().sum().backward(), 1
    if unit.what in SELF_SUPERVISED:
        given = SELF_SUPERVISED[unit.what], images, compare.pretrain, 3, seed
        return lambda: pretrain(network, *given), 3
    small = settings.images_per_class * int(labels.max() + 1)
    every = compare.condense.network_every if unit.what == "gradient_matching" else 1
    given = (images, labels), (images[:small], labels[:small]), compare.condense, 2, 0.01, every
    return lambda: condense(CONDENSED[unit.what], network, *given, seed), 2


def _seconds_per_call(call: Callable[[], object], device: torch.device) -> float:
    """Measure calls for a moment, after a first one that compiles."""
    ready = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    ready()
    began, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - began < LEAST_SECONDS:
        call()
        ready()
        calls += 1
    return (time.perf_counter() - began) / calls


# ---- memory and disk -------------------------------------------------------------------------


def memory_bytes(profile: Profile, shape: Shape, units: Work) -> int:
    """Estimate the peak memory of a process that does this work; 0 for no work."""
    if not units:
        return 0
    pixels = shape.channels * shape.image_size_px**2
    images = 4 * (shape.train + shape.validation + shape.test) + 8 * shape.train  # while made
    working = max(_working_bytes(unit, profile, shape) for unit in units)
    return int(machine.resident_bytes() + images * pixels + working)


def _working_bytes(unit: Unit, profile: Profile, shape: Shape) -> float:
    settings, steps = profile.distill, profile.distill.student_steps
    noted = NOTED * steps if settings.gradient == "difference" else 0
    alone = unit.what == "train" and unit.network == "convnet"  # not two views, nor wider
    factors = {"predict": PREDICTION, "student": SWEEP + noted}
    factor = factors.get(unit.what, TRAINING if alone else 2 * TRAINING)
    images = min(unit.batch, max(shape[:3]))
    return factor * 4 * profile.network.width * shape.image_size_px**2 * images


def disk_bytes(profile: Profile, shape: Shape, step: str, missing: Sequence) -> int:
    """Estimate what a step writes: trajectories, distilled images, or class probabilities."""
    if step == "teachers":
        network = network_named("convnet", profile, shape[3:], torch.device("cpu"))
        numbers = len(missing) * (profile.teachers.kept_epochs + 1) * network.parameter_count
    elif step == "networks":
        numbers = len(missing) * shape.train * shape.classes
    elif step == "distill":
        sets = len(missing) * (3 + len(candidate_iterations(profile.distill)))
        pixels = shape.channels * shape.image_size_px**2
        numbers = sets * profile.distill.images_per_class * shape.classes * pixels
    else:
        units = work(profile, shape, step, missing)
        numbers = shape.classes * sum(n for unit, n in units.items() if unit.what == "predict")
    return 4 * numbers


# ---- of a study ------------------------------------------------------------------------------


def missing_results(study: Study, step: str, with_full_data: bool = False) -> Sequence:
    """List the teachers, seeds, methods or rows of a step that have no result yet.

    Rows of full data are the evaluation's methods, and listed where `with_full_data` says so.
    """
    seeds = study.profile.seeds
    if step == "teachers":
        return [path for seed in seeds for path in study.teacher_paths(seed) if not path.exists()]
    if step == "networks":
        return [path for path in labels.paths(study)[:1] if not path.exists()]
    if step == "distill":
        return [seed for seed in seeds if not study.distillation_path(seed).exists()]
    if step == "audit":
        return seeds[:0] if is_audited(study) else seeds[:1]
    unscored = [each for each in methods_of(study.profile) if not study.is_scored(each)]
    if step == "evaluate":
        return unscored
    full = [Entry("inside", method) for method in OF_THE_STUDY if method in unscored]
    return missing(study) + (full if with_full_data else [])


def estimates(study: Study, steps: Sequence[str] = STEPS) -> list[Estimate]:
    """Estimate what is left of these steps, each after those before it; reads the data."""
    profile, shape = study.profile, shape_of(study.data)
    speed, found = speeds(profile, shape, study.device), []
    for step in steps:
        missing = missing_results(study, step, with_full_data="evaluate" not in steps)
        units = work(profile, shape, step, missing)
        if step == "distill" and missing and profile.distill.method == "private":
            units += counted.release_work(profile, shape, public_to_train(study))
        room = memory_bytes(profile, shape, units), disk_bytes(profile, shape, step, missing)
        found.append(Estimate(step, seconds(units, speed), *room))
    return found


def total(found: Sequence[Estimate]) -> Estimate:
    """Add up steps that follow one another: seconds and disk are sums, memory is the highest."""
    _, times, memory, disk = zip(*found)
    return Estimate("total", sum(times), max(memory), sum(disk))


def range_seconds(estimate: Estimate) -> tuple[float, float]:
    """Give the ends of the range in which an estimate's time is expected."""
    return estimate.seconds / RANGE, estimate.seconds * RANGE


def told(estimate: Estimate) -> str:
    """Write an estimate's time with its range: `about 12 min, between 6 and 24 min`."""
    return machine.told_estimate(estimate.seconds, *range_seconds(estimate))


def announcement(study: Study, command: str) -> str:
    """Say in one line what a command is about to compute; "" where nearly nothing is left.

    Raises InputError where a class has too few images, or memory or disk are clearly short.
    """
    study.network()
    needed = STEPS[:1]
    if command != "teachers":
        _require_enough_images(study)
        settings = study.profile.distill
        asked = settings.asks_networks or command in ("evaluate", "compare")
        before = {"teachers": settings.follows_teachers, "networks": asked, "distill": True}
        needed = [step for step in ANNOUNCED if before.get(step) or step == command]
    found = estimates(study, needed)
    _require_room(study, found)
    left = total(found)
    if left.seconds <= AT_ONCE_SECONDS:
        return ""
    steps = ", ".join(f"{e.step} {machine.told_time(e.seconds)}" for e in found if e.seconds)
    memory, disk = machine.told_bytes(left.memory_bytes), machine.told_bytes(left.disk_bytes)
    needs = f"{memory} of memory, {disk} of disk"
    return f"{told(left)} ({steps}); {needs}; estimated from a few measured steps"


def networks_announcement(
    network: Network,
    given: Labelled,
    recipe: Recipe,
    networks: int,
    asked: int,
    device: torch.device,
) -> str:
    """Say in one line how long networks on a small set take; "" for nearly nothing.

    Args:
        network: the architecture.
        given: the set's images and labels.
        recipe: of the training.
        networks: that are trained.
        asked: images that each predicts.
        device: where they are trained.
    """
    network.module.to(device)
    seed, (images, labels) = ("estimates",), (part.to(device) for part in given)
    once = recipe.model_copy(update={"epochs": 1, "learning_rate": 0.0})  # it cannot diverge
    theta = initial_parameters(network, *seed).to(images)
    epoch = _seconds_per_call(lambda: train(network, theta, images, labels, once, seed), device)
    answer = _seconds_per_call(lambda: predict(network, theta, images), device)
    taken = networks * (recipe.epochs * epoch + asked / len(images) * answer)
    return told(Estimate("train", taken, 0, 0)) if taken > AT_ONCE_SECONDS else ""


def _require_enough_images(study: Study) -> None:
    data, wanted = study.data, study.profile.distill.images_per_class
    counts = data.train.class_counts(data.classes)
    if wanted > counts.min():
        name = data.class_names[counts.argmin()]
        reason = f"{wanted} is more than the {counts.min()} training images of the class {name!r}"
        raise InputError("distill.images_per_class", reason, "lower it")


def _require_room(study: Study, found: Sequence[Estimate]) -> None:
    free, disk = machine.free_memory_bytes(study.device), machine.free_disk_bytes(study.out)
    told = machine.told_bytes
    largest, needed = max(found, key=lambda each: each.memory_bytes), total(found).disk_bytes
    if largest.memory_bytes > CLEARLY * (free + machine.resident_bytes()):
        reason = f"needs about {told(largest.memory_bytes)} of memory and {told(free)} are free"
        raise InputError(largest.step, reason, _what_fits(study, largest.step, free))
    if needed > disk:
        reason = f"{study.out} has {told(disk)} of disk free and about {told(needed)} are needed"
        raise InputError("out", reason, "give another --out, or lower teachers.teachers")


def _what_fits(study: Study, step: str, free: float) -> str:
    """Name the first setting that, halved often enough, brings a step's memory below `free`."""
    shape, missing = shape_of(study.data), missing_results(study, step)
    for setting in SMALLER:
        value = functools.reduce(getattr, setting.split("."), study.profile)
        value = shape.train if value is None else value  # data.images, where all are used
        while value:
            value //= 2
            try:
                smaller = study.profile.changed({setting: value})
            except InputError:
                break
            train = min(shape.train, smaller.data.images or shape.train)
            size = {"train": train, "image_size_px": smaller.data.image_size_px}
            changed = smaller, shape._replace(**size)
            if memory_bytes(*changed, work(*changed, step, missing)) <= free:
                return f"--set {setting}={value} would fit"
    return "choose a smaller profile, or a larger machine"
