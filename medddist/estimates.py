"""Time, memory and disk of a study's steps, before they start.

Time: a few real steps are measured on this machine, on noise of the data's shape, and multiplied by
    how many there will be; what is kept already costs nothing. Memory and disk are counted: arrays
    whose sizes the profile fixes, and for what a step holds while it computes a measured multiple
    of its first block's output (`TRAINING`, `SWEEP`, `PREDICTION`). Meant to be within a factor of
    two on a machine that stays as busy as it is.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import torch

from medddist.base import machine
from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.baselines.condensing import condense
from medddist.baselines.pretraining import pretrain
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED, Contenders
from medddist.comparison.tables import OF_THE_STUDY, Comparison, one_of_its_names
from medddist.data import Data
from medddist.leaks.audit import attacks_left, result_path
from medddist.method.matching import Distilled, matching_gradient, segment
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters
from medddist.method.training import Recipe, predict, train
from medddist.study.profile import Profile
from medddist.study.scores import METHODS
from medddist.study.study import Study

NEEDS = {  # the steps that a command computes
    "teachers": ("teachers",),
    "distill": ("teachers", "distill"),
    "evaluate": ("teachers", "distill", "evaluate"),
    "audit": ("teachers", "distill", "audit"),
    "compare": ("teachers", "distill", "compare"),
}
STEPS = ("teachers", "distill", "evaluate", "audit", "compare")

# Peak memory of a step in units of the first block's output, its largest array: 1.8 to 2.3, 5.1 to
# 7.0 and 1.0 were measured for widths 32 to 128 at 32 to 112 px.
TRAINING, SWEEP, PREDICTION = 2.2, 6.5, 1.1
PREDICTED_AT_ONCE = 512  # images, as `training.predict` does
CLEARLY = 1.5  # memory is clearly short where the estimate is so many times what is free
MEASURED_NUMBERS = (
    2**25
)  # of the first block's output in a measured batch: larger ones are measured in part
AT_ONCE_SECONDS = 1  # of work that needs no word before
LEAST_SECONDS = 0.2  # that a measurement takes, if one call does not take longer

# by step, what to lower where memory is short; what changes no result comes first
SMALLER_MEMORY = {
    "teachers": ("teachers.recipe.batch_size", "data.images", "data.image_size_px"),
    "distill": ("distill.batch_size", "data.images", "data.image_size_px"),
    "evaluate": ("references.good_recipe.batch_size", "data.images", "data.image_size_px"),
    "audit": ("data.images", "data.image_size_px"),
    "compare": ("compare.pretrain.batch_size", "data.images", "data.image_size_px"),
}
SMALLER_DISK = ("teachers.teachers", "data.images", "data.image_size_px")


@dataclass(frozen=True)
class Shape:
    """What estimates need to know of the data."""

    train: int
    validation: int
    test: int
    classes: int
    channels: int
    image_size_px: int

    @classmethod
    def of(cls, data: Data) -> Shape:
        return cls(
            len(data.train),
            len(data.validation),
            len(data.test),
            data.classes,
            data.channels,
            data.image_size_px,
        )

    @property
    def pixel_numbers(self) -> int:
        return (self.train + self.validation + self.test) * self.channels * self.image_size_px**2


@dataclass(frozen=True)
class Estimate:
    """Of one step: seconds that are left of it, bytes of memory of the whole process at its peak,
    and bytes that it keeps on disk.
    """

    step: str
    seconds: float
    memory_bytes: int
    disk_bytes: int


# ---- memory and disk -----------------------------------------------------------------------------


def memory_bytes(profile: Profile, shape: Shape, step: str, at_rest: int) -> int:
    """Peak of the process that computes `step`, of which `at_rest` bytes are there before images
    are.
    """
    parameters = (
        4
        * convnet(
            profile.network, shape.channels, shape.classes, shape.image_size_px
        ).parameter_count
    )
    block = 4 * profile.network.width * shape.image_size_px**2  # bytes of one image's first block
    images = (
        4 * shape.pixel_numbers + 8 * shape.train * shape.channels * shape.image_size_px**2
    )  # two more while they are made
    predicting = PREDICTION * block * min(PREDICTED_AT_ONCE, max(shape.validation, shape.test))
    released = profile.distill.images_per_class * shape.classes
    training = lambda recipe, count: TRAINING * block * min(recipe.batch_size, count)
    working = {
        "teachers": training(profile.teachers.recipe, shape.train)
        + 2 * (profile.teachers.kept_epochs + 1) * parameters,
        "distill": _sweep_bytes(profile, shape, block, parameters)
        + training(profile.evaluate.recipe, released),
        "evaluate": max(
            training(r, shape.train)
            for r in (profile.teachers.recipe, profile.references.good_recipe)
        ),
        "audit": training(profile.audit.recipe, released)
        + 4 * block * (shape.train + shape.test) // 4**profile.network.depth,
        "compare": 2
        * TRAINING
        * block
        * max(2 * profile.compare.pretrain.batch_size, profile.references.good_recipe.batch_size),
    }
    return int(at_rest + images + max(working[step], predicting))


def _sweep_bytes(profile: Profile, shape: Shape, block: int, parameters: int) -> float:
    settings = profile.distill
    batch = min(settings.batch_size, settings.images_per_class * shape.classes)
    steps = settings.student_steps
    if settings.gradient == "difference":
        masks = mask_bytes(profile.network, shape.image_size_px, batch)
        return SWEEP * block * batch + steps * masks + (2 * steps + 3) * parameters
    return SWEEP * block * batch + (steps + 3) * parameters


def mask_bytes(network: NetworkSettings, image_size_px: int, batch_size: int) -> int:
    """Count the bytes of one student step's frozen ReLU masks: one for each window of the pooling."""
    sizes = [image_size_px >> block + 1 for block in range(network.depth)]
    return sum(size * size for size in sizes) * network.width * batch_size


def disk_bytes(profile: Profile, shape: Shape, step: str) -> int:
    """What a step keeps; the decoded images, kept as bytes, are counted with the teachers."""
    parameters = convnet(
        profile.network, shape.channels, shape.classes, shape.image_size_px
    ).parameter_count
    settings, seeds = profile.distill, len(profile.seeds)
    pixels = settings.images_per_class * shape.classes * shape.channels * shape.image_size_px**2
    said = 4 * shape.test * shape.classes  # one network's probabilities
    if step == "teachers":
        return (
            4 * seeds * profile.teachers.teachers * (profile.teachers.kept_epochs + 1) * parameters
            + shape.pixel_numbers
        )
    if step == "distill":
        return 4 * seeds * pixels * (3 + settings.iterations // settings.select_every)
    if step == "evaluate":
        references = profile.references
        return said * (
            2 * seeds * profile.evaluate.networks
            + 2 * references.draws * references.networks_per_draw
            + 2 * references.full_networks
        )
    if step == "audit":
        return 8 * 3 * (shape.train + shape.test) + profile.audit.shadows * (
            disk_bytes(profile, shape, "teachers") // seeds
        )
    return (
        80 * said * profile.compare.evaluation_seeds
    )  # rows of the comparison; networks of its pretraining are small


# ---- time ----------------------------------------------------------------------------------------


class Speeds:
    """Seconds that this machine takes for one of each of a study's steps, each measured once, when
    asked for.
    """

    def __init__(self, profile: Profile, shape: Shape, device: torch.device):
        self.profile, self.shape, self.device = profile, shape, device

    def noise(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, C, S, S) and labels (N,) with every class there."""
        size = (count, self.shape.channels, self.shape.image_size_px, self.shape.image_size_px)
        images = torch.randn(size, generator=generator("estimates")).to(self.device)
        return images, torch.arange(count).to(self.device) % self.shape.classes

    def fits(self, batch: int) -> int:
        """As many of the batch's images as are measured."""
        return min(
            batch,
            max(
                self.shape.classes,
                MEASURED_NUMBERS // (self.profile.network.width * self.shape.image_size_px**2),
            ),
        )

    def network(self, name: str = "convnet") -> Network:
        if name == "convnet":
            found = convnet(
                self.profile.network,
                self.shape.channels,
                self.shape.classes,
                self.shape.image_size_px,
            )
            found.module.to(self.device)
            return found
        return Contenders.network(_NoStudy(self.profile, self.shape, self.device), name)

    @functools.cache
    def training_step(self, batch: int, name: str = "convnet") -> float:
        """Of one step of `training.train` on `batch` images."""
        count, network = self.fits(batch), self.network(name)
        (images, labels), recipe = self.noise(count), Recipe(epochs=1, batch_size=count)
        theta = initial_parameters(network, "estimates").to(self.device)
        return (
            self._seconds(lambda: train(network, theta, images, labels, recipe, ("estimates",)))
            * batch
            / count
        )

    @functools.cache
    def student_step(self) -> float:
        """Of one of a student's steps in the matching gradient, there and back."""
        settings = self.profile.distill
        batch, network = (
            min(settings.batch_size, settings.images_per_class * self.shape.classes),
            self.network(),
        )
        count, steps = self.fits(batch), min(2, settings.student_steps)
        images, labels = self.noise(count)
        start = initial_parameters(network, "estimates").to(self.device)
        run = segment(start, start + 0.01, images, count, steps, generator("estimates"))
        distilled = Distilled(
            images, labels, torch.tensor(math.log(settings.step_size)).to(self.device)
        )
        call = lambda: matching_gradient(
            network, distilled, run, settings.augmentation, way=settings.gradient
        )
        return self._seconds(call) / steps * batch / count

    @functools.cache
    def prediction(self) -> float:
        """Of one image, without derivatives."""
        network, count = self.network(), self.fits(PREDICTED_AT_ONCE)
        theta, images = (
            initial_parameters(network, "estimates").to(self.device),
            self.noise(count)[0],
        )
        return self._seconds(lambda: predict(network, theta, images)) / count

    @functools.cache
    def pretraining_step(self, method: str, name: str) -> float:
        """Of one step of self-supervision."""
        settings, network = self.profile.compare.pretrain, self.network(name)
        images = self.noise(settings.batch_size)[0]
        call = lambda: pretrain(
            network, SELF_SUPERVISED[method], images, settings, 3, ("estimates",)
        )
        return self._seconds(call) / 3

    @functools.cache
    def condensing_iteration(self, method: str) -> float:
        """Of gradient or distribution matching."""
        settings = self.profile.compare.condense
        real = self.noise(settings.real_images_per_class * self.shape.classes)
        small = self.noise(self.profile.distill.images_per_class * self.shape.classes)
        given = (
            settings,
            2,
            0.01,
            settings.network_every if method == "gradient_matching" else 1,
            ("estimates",),
        )
        return (
            self._seconds(lambda: condense(CONDENSED[method], self.network(), real, small, *given))
            / 2
        )

    def _seconds(self, call: Callable[[], object]) -> float:
        """Of one call on average, after one that does not count: it compiles and fills caches."""
        self._done(call)
        began, calls = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < LEAST_SECONDS or not calls:
            self._done(call)
            calls += 1
        return (time.perf_counter() - began if calls == 1 else spent) / calls

    def _done(self, call: Callable[[], object]) -> None:
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # ---- of what steps are made of ----

    def training(
        self, images: int, recipe: Recipe, name: str = "convnet", epochs: int | None = None
    ) -> float:
        """Of one network trained on so many images."""
        batch = min(recipe.batch_size, images)
        return (epochs or recipe.epochs) * images / batch * self.training_step(batch, name)

    def predicting(self, images: int) -> float:
        return images * self.prediction()


class _NoStudy:
    """As much of a study as `Contenders.network` asks for."""

    def __init__(self, profile: Profile, shape: Shape, device: torch.device):
        self.profile, self.settings, self.study = profile, profile.compare, self
        self.data, self.device = shape, device


def teacher_seconds(speeds: Speeds, profile: Profile, shape: Shape) -> float:
    epochs = profile.teachers.kept_epochs
    return speeds.training(shape.train, profile.teachers.recipe, epochs=epochs) + (
        epochs + 1
    ) * speeds.predicting(shape.validation)


def distill_seconds(speeds: Speeds, profile: Profile, shape: Shape) -> float:
    """Of one seed: the iterations, and the networks that candidates are chosen by."""
    settings = profile.distill
    candidates = 1 + math.ceil(settings.iterations / settings.select_every)
    one = speeds.training(
        settings.images_per_class * shape.classes, profile.evaluate.recipe
    ) + speeds.predicting(shape.validation)
    iterations = (
        settings.iterations
        * settings.segments_per_step
        * settings.student_steps
        * speeds.student_step()
    )
    return iterations + candidates * settings.selection_networks * one


def evaluate_seconds(
    speeds: Speeds, profile: Profile, shape: Shape, missing: Iterable[str]
) -> float:
    """Of these of `study.METHODS`."""
    references, seeds = profile.references, len(profile.seeds)
    small = speeds.training(
        profile.distill.images_per_class * shape.classes, profile.evaluate.recipe
    ) + speeds.predicting(shape.test)
    tried = len(references.learning_rates) * references.tuning_networks
    random = (tried + references.draws * references.networks_per_draw) * small
    released = seeds * profile.evaluate.networks * small
    full = lambda recipe: (
        references.full_networks
        * (speeds.training(shape.train, recipe) + speeds.predicting(shape.test))
    )
    of = {
        "distilled": lambda: released,
        "initial": lambda: released,
        "random_balanced": lambda: random,
        "random_natural": lambda: random,
        "full_teacher": lambda: full(profile.teachers.recipe),
        "full_good": lambda: full(references.good_recipe),
    }
    return sum(of[method]() for method in missing if method in of)


def audit_seconds(
    speeds: Speeds, profile: Profile, shape: Shape, loss: bool, shadows: int
) -> float:
    """Of the loss attack, if it is left, and of so many shadows."""
    settings, released = profile.audit, profile.distill.images_per_class * shape.classes
    one = speeds.training(released, settings.recipe) + speeds.predicting(
        min(2 * settings.others, shape.train + shape.test)
    )
    total = (2 * settings.networks + settings.references) * one if loss else 0.0
    if shadows:
        small = profile.changed({"audit.shadow_changes": {}, **settings.shadow_changes})
        half = replace(shape, train=shape.train // 2)
        distilled = small.teachers.teachers * teacher_seconds(
            speeds, small, half
        ) + distill_seconds(speeds, small, half)
        total += shadows * (distilled + 2 * settings.shadow_networks * one)
    return total


def compare_seconds(
    speeds: Speeds, profile: Profile, shape: Shape, comparison: Comparison
) -> float:
    """Of all rows but those of the study, which are `evaluate_seconds`; the linear probes and what
    origins give away included roughly.
    """
    settings, recipe = profile.compare, comparison.recipe
    small = profile.distill.images_per_class * shape.classes
    total = 0.0
    for entry in dict.fromkeys(map(one_of_its_names, comparison.entries())):
        if (
            entry.method in OF_THE_STUDY or entry.method == "transfer_imagenet"
        ):  # the latter where its weights are: not counted
            continue
        if comparison.is_kept(entry):
            continue
        preparations = (
            len(settings.grid)
            if entry.method in (*SELF_SUPERVISED, *CONDENSED, "transfer_site", "transfer_phantom")
            else 1
        )
        rates = len(settings.learning_rates) + (entry.method == "distilled")
        trainings = preparations * rates * settings.tuning_networks + settings.evaluation_seeds
        total += trainings * (
            speeds.training(small, recipe, entry.network) + speeds.predicting(shape.test)
        )
        total += _preparing_seconds(speeds, profile, shape, comparison, entry, preparations)
    return total


def _preparing_seconds(
    speeds: Speeds, profile: Profile, shape: Shape, comparison: Comparison, entry, preparations: int
) -> float:
    settings, budget = profile.compare, comparison.budget("inside")
    if entry.method in SELF_SUPERVISED:
        steps, each = settings.pretrain.inside_steps, preparations
        if entry.table != "inside":
            steps, each = (
                settings.pretrain.released_steps,
                preparations + settings.evaluation_seeds - 1,
            )
        return each * steps * speeds.pretraining_step(entry.method, entry.network)
    if entry.method in CONDENSED:
        iterations = max(1, budget // (settings.condense.real_images_per_class * shape.classes))
        return preparations * iterations * speeds.condensing_iteration(entry.method)
    if entry.method.startswith("transfer"):
        batch = profile.references.good_recipe.batch_size
        return preparations * budget / batch * speeds.training_step(batch)
    return 0.0


# ---- of a study ----------------------------------------------------------------------------------


def estimates(study: Study, steps: Iterable[str] = STEPS) -> list[Estimate]:
    """What is left of each of these steps; the data are read for it, and steps of it measured for
    some seconds.
    """
    profile, shape = study.profile, Shape.of(study.data)
    speeds, at_rest = Speeds(profile, shape, study.device), machine.resident_bytes()
    found = []
    for step in steps:
        seconds = _left(study, step, speeds, shape)
        disk = disk_bytes(profile, shape, step) if seconds else 0
        found.append(Estimate(step, seconds, memory_bytes(profile, shape, step, at_rest), disk))
    return found


def _left(study: Study, step: str, speeds: Speeds, shape: Shape) -> float:
    """Seconds;

    0 where all of it is kept already. An audit's scores that are kept count nothing; whatever else
    was stopped half-way counts whole.
    """
    profile = study.profile
    if step == "teachers":
        missing = sum(
            not path.exists() for seed in profile.seeds for path in study.teacher_paths(seed)
        )
        return missing * teacher_seconds(speeds, profile, shape) if missing else 0.0
    if step == "distill":
        missing = sum(not study.distillation_path(seed).exists() for seed in profile.seeds)
        return missing * distill_seconds(speeds, profile, shape) if missing else 0.0
    if step == "audit":
        kept = result_path(study, profile.seeds[0]).exists()
        return 0.0 if kept else audit_seconds(speeds, profile, shape, *attacks_left(study))
    unscored = [
        method for method in METHODS if method != "majority" and not study.is_scored(method)
    ]
    if step == "evaluate":
        return evaluate_seconds(speeds, profile, shape, unscored)
    full = [method for method in unscored if method in OF_THE_STUDY]
    return compare_seconds(speeds, profile, shape, Comparison(study)) + evaluate_seconds(
        speeds, profile, shape, full
    )


def told_before(study: Study, command: str) -> str:
    """One line on what a command is about to compute; "" where it only reads, or is done at once.

    Raises InputError, naming a setting that would fit, where memory or disk are clearly short; and,
    before teachers are trained, what would be refused after them.
    """
    study.network()
    if "distill" in NEEDS[command]:
        _require_enough_images(study)
    found = estimates(study, NEEDS[command])
    require_room(study, [one for one in found if one.seconds])
    return warning_line(found)


def _require_enough_images(study: Study) -> None:
    data, wanted = study.data, study.profile.distill.images_per_class
    counts = dict(zip(data.class_names, data.train.class_counts(data.classes).tolist()))
    smallest = min(counts, key=counts.get)
    if wanted > counts[smallest]:
        raise InputError(
            "distill.images_per_class",
            f"{wanted} is more than the {counts[smallest]} training images of the class "
            f"{smallest!r}",
            "lower it",
        )


def require_room(study: Study, found: list[Estimate]) -> None:
    """Raises InputError where the estimates are clearly more than this machine has free."""
    for one in found:
        free = machine.free_memory_bytes(study.device)
        if one.memory_bytes > CLEARLY * (free + machine.resident_bytes()):
            needs = lambda profile, shape: memory_bytes(
                profile, shape, one.step, machine.resident_bytes()
            )
            raise InputError(
                one.step,
                f"needs about {machine.told_bytes(one.memory_bytes)} of memory and "
                f"{machine.told_bytes(free)} are free",
                _what_fits(study, SMALLER_MEMORY[one.step], needs, free),
            )
    needed, free = sum(one.disk_bytes for one in found), machine.free_disk_bytes(study.out)
    if needed > free:
        needs = lambda profile, shape: sum(disk_bytes(profile, shape, one.step) for one in found)
        raise InputError(
            "out",
            f"{study.out} has {machine.told_bytes(free)} of disk free and about "
            f"{machine.told_bytes(needed)} are needed",
            f"give another --out, or {_what_fits(study, SMALLER_DISK, needs, free)}",
        )


def _what_fits(
    study: Study, settings: Iterable[str], needs: Callable[[Profile, Shape], float], free: float
) -> str:
    """The first of these settings that, halved until then, brings the need below what is free."""
    for setting in settings:
        value = _value(study.profile, setting) or len(
            study.data.train
        )  # data.images is None where all are used
        while value:
            value //= 2
            try:
                smaller = study.profile.changed({setting: value})
            except InputError:
                break
            shape = replace(Shape.of(study.data), image_size_px=smaller.data.image_size_px)
            if setting == "data.images":
                shape = replace(shape, train=min(shape.train, value))
            if needs(smaller, shape) <= free:
                return f"--set {setting}={value} would fit"
    return "take a smaller profile, or a machine with more"


def _value(profile: Profile, setting: str) -> int | None:
    return functools.reduce(getattr, setting.split("."), profile)


def warning_line(found: list[Estimate]) -> str:
    """One line on what is about to start; "" where next to nothing is left to compute."""
    left = [one for one in found if one.seconds]
    if sum(one.seconds for one in left) <= AT_ONCE_SECONDS:
        return ""
    each = ", ".join(f"{one.step} {machine.told_time(one.seconds)}" for one in left)
    return (
        f"about {machine.told_time(sum(one.seconds for one in left))} ({each}), "
        f"{machine.told_bytes(max(one.memory_bytes for one in left))} of"
        f" memory and {machine.told_bytes(sum(one.disk_bytes for one in left))} of disk, by a "
        "few steps measured here"
    )


def as_rows(study: Study, found: list[Estimate]) -> dict:
    """{steps: [{step, seconds, memory_bytes, disk_bytes}], machine: {threads, free_memory_bytes,
    free_disk_bytes}}, for JSON.
    """
    return {
        "steps": [asdict(one) for one in found],
        "machine": {
            "device": str(study.device),
            "threads": torch.get_num_threads(),
            "free_memory_bytes": machine.free_memory_bytes(study.device),
            "free_disk_bytes": machine.free_disk_bytes(study.out),
        },
    }


def estimate_lines(study: Study, found: list[Estimate]) -> list[str]:
    """A line a step, and what this machine has."""
    time_of = lambda one: machine.told_time(one.seconds) if one.seconds else "kept"
    lines = [f"{'step':10}{'time':>10}{'memory':>10}{'disk':>10}"]
    lines += [
        f"{one.step:10}{time_of(one):>10}{machine.told_bytes(one.memory_bytes):>10}{machine.told_bytes(one.disk_bytes):>10}"
        for one in found
    ]
    return lines + [
        "evaluate, audit and compare need teachers and distill before them; measured on "
        f"{study.device} with {torch.get_num_threads()} threads",
        f"free here: {machine.told_bytes(machine.free_memory_bytes(study.device))} of memory,"
        f" {machine.told_bytes(machine.free_disk_bytes(study.out))} of disk",
    ]
