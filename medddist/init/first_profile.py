"""A first profile for somebody's own images: one of the package's, made to fit the images, this
machine and the time that there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from medddist.base import machine
from medddist.base.errors import InputError
from medddist.base.files import write_bytes
from medddist.base.settings import parsed
from medddist.data import is_phantom
from medddist.estimates import memory_bytes, seconds, speeds, work
from medddist.init.survey import Survey
from medddist.study.profile import Profile, load_profile
from medddist.study.scores import METHODS
from medddist.study.work import Shape, Unit, Work

BASE = "demo"
SIZES = (
    (10, 400),
    (8, 300),
    (6, 200),
    (4, 100),
    (3, 60),
    (2, 40),
)  # teachers and iterations, the first that there is time for is taken
FEWEST_ITERATIONS = (
    100  # below which few training images give no gain over the initial ones; see `_no_gain`
)
FEW_TRAINING_IMAGES = 2000  # of all classes
FEWEST_TRAINING_IMAGES = 500  # of all classes, below which no more are left out to save time
TEST, VALIDATION = 0.2, 0.1  # `DataSettings`' fractions


def fitting_profile(
    found: Survey, name: str, device: torch.device, minutes: float
) -> tuple[Profile, dict]:
    """(a profile for a survey's images, {seconds, memory_bytes, chosen}) so that teachers, distill
    and evaluate take up to `minutes`.

    It is `demo` with fewer images a class where the smallest class has few, and as many teachers
    and iterations as there is time for; where even the fewest take longer, training images are left
    out. `chosen` says each of these in a line. Raises InputError where a class is too small for any
    study.
    """
    whole = _shape(found, load_profile(BASE, {"data.images": None})).train
    for images in (whole >> halvings for halvings in range(32)):
        changes, chosen = _to_the_images(found, images / whole)
        changes["data.images"] = images if images < whole else None
        base = load_profile(BASE, changes).model_copy(update={"name": name})
        shape = _shape(found, base)
        speed = speeds(base, shape, device)
        for teachers, iterations in SIZES:
            profile = base.changed(
                {
                    "teachers.teachers": teachers,
                    "distill.iterations": iterations,
                    "distill.select_every": max(iterations // 4, 1),
                }
            )
            needed = sum(seconds(units, speed) for units in _work(profile, shape))
            if needed <= 60 * minutes:
                break
        if (
            needed <= 60 * minutes
            or images // 2 < FEWEST_TRAINING_IMAGES
            or not _distilled_a_class(found, images / whole / 2)
        ):
            break
    told = (
        f"what {minutes:g} min are enough for here"
        if needed <= 60 * minutes
        else f"the least there is, and {minutes:g} min are not enough for it here"
    )
    chosen.append(f"{teachers} teachers and {iterations} iterations: {told}")
    if iterations < FEWEST_ITERATIONS and shape.train < FEW_TRAINING_IMAGES:
        chosen.append(_no_gain(found, profile, speed, minutes))
    if profile.data.images:
        chosen.append(
            f"{profile.data.images} training images of all, to save time: set data.images to "
            "null to use all"
        )
    memory = max(memory_bytes(profile, shape, units) for units in _work(profile, shape))
    return profile, {"seconds": needed, "memory_bytes": memory, "chosen": chosen}


def _no_gain(
    found: Survey, profile: Profile, speed: Callable[[Unit], float], minutes: float
) -> str:
    """What too few iterations mean, and how many minutes would be enough.

    Measured with `demo`'s settings, two teachers and 600 radiographs for training: balanced
    accuracy on 985 validation images was 0.692 at the start, 0.699 after 40 iterations, 0.725 after
    60 and 0.722 after 100. A study with as few images has some 70 for validation, on which such a
    gain is less than one standard error (0.05). With 2000 it was 0.680 at the start and 0.745 after
    40: there 40 are enough.
    """
    teachers, iterations = min(
        (size for size in SIZES if size[1] >= FEWEST_ITERATIONS), key=lambda size: size[1]
    )
    enough = profile.changed(
        {"teachers.teachers": teachers, "distill.iterations": iterations, "data.images": None}
    )
    left = sum(seconds(units, speed) for units in _work(enough, _shape(found, enough)))
    needed = math.ceil(1.25 * left / 60)
    needed = max(needed, math.ceil(minutes) + 1)
    return (
        f"with {minutes:g} min expect no gain over the initial images; --minutes {needed} or "
        "more may be enough"
    )


def _distilled_a_class(found: Survey, share: float = 1.0) -> int:
    """How many images a class are distilled where this share of those for training is used: up to
    20, of four of the smallest class one.
    """
    return min(20, int(share * min(found.counts.values()) * (1 - TEST) * (1 - VALIDATION)) // 4)


def _to_the_images(found: Survey, share: float) -> tuple[dict, list[str]]:
    """Settings that follow from how many images there are, of which this share of those for
    training is used; and why, a line each.
    """
    smallest, per_class = min(found.counts, key=found.counts.get), _distilled_a_class(found, share)
    training = int(share * found.counts[smallest] * (1 - TEST) * (1 - VALIDATION))
    if per_class < 1:
        raise InputError(
            found.source,
            f"class {smallest!r} has {found.counts[smallest]} images, 6 are the least to "
            "start with",
            "add images",
        )
    changes: dict = {"distill.images_per_class": per_class}
    chosen = [
        f"{per_class} distilled images a class: {smallest}, the smallest class, has about "
        f"{training} for training"
    ]
    if 2 * per_class * len(found.class_names) < 40:
        changes["distill.batch_size"] = per_class * len(found.class_names)
    unseen = len(found.counts) * (
        int(found.counts[smallest] * TEST * 0.9) // 2
    )  # that set an audit's threshold; the split may deal out fewer
    if unseen < 99:  # of which the highest score is exceeded by one in a hundred
        changes["audit.false_positives"] = least = min(math.ceil(1000 / (unseen + 1)) / 1000, 0.5)
        chosen.append(
            f"audit.false_positives {least:g}: with so few test images of {smallest} a "
            "smaller share cannot be seen, and an audit may show nothing"
        )
    if found.unreadable:
        changes["data.skip_unreadable"] = True
        chosen.append(left_out(len(found.unreadable)))
    return changes, chosen


def left_out(count: int) -> str:
    """What a profile made here does with files that cannot be read."""
    files = "1 file" if count == 1 else f"{count} files"
    return f"the profile leaves out the {files} that cannot be read (data.skip_unreadable: true)"


def _shape(found: Survey, profile: Profile) -> Shape:
    total = len(found.labels)
    test, validation = int(total * TEST), int(total * (1 - TEST) * VALIDATION)
    train = min(total - test - validation, profile.data.images or total)
    size = profile.data.channels, len(found.class_names), profile.data.image_size_px
    return Shape(train, validation, test, *size)


def _work(profile: Profile, shape: Shape) -> list[Work]:
    """Count the work of teachers, distillation and evaluation."""
    seeds = profile.seeds
    missing = {"teachers": seeds * profile.teachers.teachers, "distill": seeds, "evaluate": METHODS}
    return [work(profile, shape, step, results) for step, results in missing.items()]


def write_profile(profile: Profile, path: Path, source: str, about: dict) -> None:
    """The profile as YAML that says at its top what it is for and, where that is known, what it
    needs and takes. Raises InputError for a file that is there already.
    """
    path = Path(path)
    if path.exists():
        raise InputError(path, "is there already", "remove it, or name another file with --write")
    head = [f"# {profile.name}: made by medddist for {source}."]
    if about:
        head += [
            f"# Needs: {machine.told_bytes(about['memory_bytes'])} of memory. Takes: about "
            f"{machine.told_time(about['seconds'])} where it was made"
            " (teachers, distill, evaluate).",
            "# Chosen here, all else is as in the package's demo:",
            *(f"# - {line}" for line in about["chosen"]),
        ]
    values = profile.model_dump(mode="json", exclude_defaults=True)
    text = (
        "\n".join(" ".join(line.split()) for line in head)
        + "\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    )
    write_bytes(path, text.encode())
    parsed(Profile, yaml.safe_load(text), str(path))  # what was written is what is read


def name_of(source: str | Path) -> str:
    """A profile's name from a data source's: letters, digits and underscores."""
    stem = str(source) if is_phantom(source) else Path(source).resolve().stem
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in stem).strip("_") or "study"
