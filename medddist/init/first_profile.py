"""Make a first profile for your own images: `full`, fitted to the images, this machine and the time
available.
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
from medddist.base.names import closest
from medddist.data import is_phantom
from medddist.estimates import memory_bytes, seconds, speeds, work
from medddist.init.survey import Survey
from medddist.study.profile import Profile, load_profile
from medddist.study.scores import methods_of
from medddist.study.work import Shape, Unit, Work

Speed = Callable[[Unit], float]
BASE = "full"
SIZES = ((10, 400), (8, 300), (6, 200), (4, 100), (3, 60), (2, 40))  # teachers and iterations
FEWEST_ITERATIONS = 100  # fewer give no gain where training images are few; see `_no_gain`
FEW_TRAINING_IMAGES = 2000  # of all classes
FEWEST_TRAINING_IMAGES = 500  # of all classes; no fewer are used to save time
OTHER_METHOD = (  # measured: results/beyond-cxr64.json
    "distill.method trajectory: the quicker one; on real radiographs real_loss scored higher, and "
    "took an hour of one core where trajectory took 10 minutes (see the profile real)"
)
TEST, VALIDATION = 0.2, 0.1  # `DataSettings`' fractions


def fitting_profile(
    survey: Survey, name: str, device: torch.device, minutes: float
) -> tuple[Profile, dict]:
    """Fit `full` to the images and to the time for teachers, distillation and evaluation.

    It distils fewer images per class where the smallest class has few, with the most teachers and
    iterations that there is time for. Where even the fewest take longer, it uses fewer training
    images.

    Args:
        survey: of the images.
        name: of the profile.
        device: where the study will run.
        minutes: available.

    Returns:
        The profile, and `{seconds, memory_bytes, chosen}`; `chosen` explains each choice in a line.

    Raises:
        InputError: a class is too small for any study.
    """
    images = available = _shape(survey, load_profile(BASE, {"data.images": None})).train
    while True:
        changes, chosen = _changes_for(survey, images / available)
        changes["data.images"] = images if images < available else None
        base = load_profile(BASE, changes).model_copy(update={"name": name})
        chosen.insert(0, _size_line(survey, base.data.image_size_px))
        profiles = [_of_size(base, *size) for size in SIZES]
        shape = _shape(survey, base)
        speed = speeds(base, shape, device)
        needed = [total_seconds(speed, profile, shape) for profile in profiles]
        fits = next((k for k, time in enumerate(needed) if time <= 60 * minutes), None)
        images //= 2
        too_few = images < FEWEST_TRAINING_IMAGES or not _per_class(survey, images / available)
        if fits is not None or too_few:
            break
    size = len(SIZES) - 1 if fits is None else fits
    profile, (teachers, iterations) = profiles[size], SIZES[size]
    reason = f"the most that fit into {minutes:g} min here"
    if size == 0:
        reason = f"as many as init proposes; they fit into {minutes:g} min here"
    if fits is None:
        reason = f"the fewest; {minutes:g} min are not enough for them here"
    chosen.append(f"{teachers} teachers and {iterations} iterations: {reason}")
    chosen.append(OTHER_METHOD)
    if iterations < FEWEST_ITERATIONS and shape.train < FEW_TRAINING_IMAGES:
        chosen.append(_no_gain(survey, profile, speed, minutes))
    if profile.data.images:
        saved = f"only {profile.data.images} training images, to save time"
        chosen.append(f"{saved}; set data.images to null to use all")
    memory = max(memory_bytes(profile, shape, units) for units in _work(profile, shape))
    return profile, {"seconds": needed[size], "memory_bytes": memory, "chosen": chosen}


def _of_size(profile: Profile, teachers: int, iterations: int, **changes) -> Profile:
    numbers = {"teachers.teachers": teachers, "distill.iterations": iterations}
    return profile.changed({**numbers, "distill.select_every": max(iterations // 4, 1)} | changes)


def _no_gain(survey: Survey, profile: Profile, speed: Speed, minutes: float) -> str:
    """Warn of too few iterations, and name the minutes that would be enough.

    Measured with `full`'s settings, two teachers and 600 training radiographs: balanced accuracy on
    985 validation images was 0.692 at the start, 0.699 after 40 iterations, 0.725 after 60 and
    0.722 after 100. Such a study has some 70 validation images, on which the gain is less than one
    standard error (0.05). With 2000 training images it was 0.680 at the start and 0.745 after 40.
    """
    size = min(size for size in SIZES if size[1] >= FEWEST_ITERATIONS)
    enough = _of_size(profile, *size, **{"data.images": None})
    needed = math.ceil(1.25 * total_seconds(speed, enough, _shape(survey, enough)) / 60)
    expected = f"with {minutes:g} min expect no gain over the initial images"
    return f"{expected}; --minutes {max(needed, math.ceil(minutes) + 1)} or more may be enough"


def _training_images(count: float) -> int:
    return int(count * (1 - TEST) * (1 - VALIDATION))


def _per_class(survey: Survey, share: float) -> int:
    """Distilled images per class: up to 20, one per four of the smallest class that are used."""
    return min(20, _training_images(share * min(survey.counts.values())) // 4)


def _changes_for(survey: Survey, share: float) -> tuple[dict, list[str]]:
    """Choose settings by the number of images, where `share` of the training images is used.

    Returns:
        The changes to `full`, and a line on each.
    """
    counts, classes = survey.counts, len(survey.class_names)
    smallest, per_class = min(counts, key=counts.get), _per_class(survey, share)
    if per_class < 1:
        reason = f"class {smallest!r} has {counts[smallest]} images, at least 6 are needed"
        meant = closest(smallest, [name for name in counts if name != smallest])
        hint = f", or rename the folder if {meant!r} is meant" if meant else ""
        raise InputError(survey.source, reason, f"add images{hint}")
    changes: dict = {"distill.images_per_class": per_class}
    training = _training_images(share * counts[smallest])
    about_it = f"{smallest}, the smallest class, has about {training} training images"
    chosen = [f"{per_class} distilled images per class: {about_it}"]
    if 2 * per_class * classes < 40:
        changes["distill.batch_size"] = per_class * classes
    # Unseen images set an audit's threshold. One in a hundred of them exceeds the highest score.
    unseen = len(counts) * (int(counts[smallest] * TEST * 0.9) // 2)
    if unseen < 99:
        changes["audit.false_positives"] = rate = min(math.ceil(1000 / (unseen + 1)) / 1000, 0.5)
        reason = f"{smallest} has too few test images for a lower rate"
        chosen.append(f"audit.false_positives {rate:g}: {reason}, and an audit may show nothing")
    if survey.unreadable:
        changes["data.skip_unreadable"] = True
        number = len(survey.unreadable)
        files = "1 unreadable file" if number == 1 else f"{number} unreadable files"
        chosen.append(f"the profile leaves out {files} (data.skip_unreadable: true)")
    return changes, chosen


def _size_line(survey: Survey, size_px: int) -> str:
    """Say the size to which images are resized, beside the usual size of the files."""
    usual = next(iter(survey.sizes), "")
    line = f"data.image_size_px {size_px}: images are resized to {size_px}x{size_px} px"
    line += f", most of them from {usual}" if usual else ""
    return f"{line}; twice the size shows more and takes about four times as long"


def _shape(survey: Survey, profile: Profile) -> Shape:
    total = len(survey.labels)
    test, validation = int(total * TEST), int(total * (1 - TEST) * VALIDATION)
    train = min(total - test - validation, profile.data.images or total)
    size = profile.data.channels, len(survey.class_names), profile.data.image_size_px
    return Shape(train, validation, test, *size)


def _work(profile: Profile, shape: Shape) -> list[Work]:
    """Count the work of teachers, distillation and evaluation."""
    seeds = profile.seeds
    teachers = seeds * profile.teachers.teachers
    missing = {"teachers": teachers, "networks": (0,), "distill": seeds}
    missing |= {"evaluate": methods_of(profile)}
    return [work(profile, shape, step, results) for step, results in missing.items()]


def total_seconds(speed: Speed, profile: Profile, shape: Shape) -> float:
    """Estimate the seconds of teachers, distillation and evaluation together."""
    return sum(seconds(units, speed) for units in _work(profile, shape))


def write_profile(profile: Profile, path: Path, source: str, about: dict) -> None:
    """Write the profile as YAML, headed by what it is for, needs and takes.

    Args:
        profile: to write.
        path: of the new file.
        source: of the images.
        about: what `fitting_profile` returned beside the profile.

    Raises:
        InputError: the file already exists.
    """
    refuse_existing(path)
    memory, time = machine.told_bytes(about["memory_bytes"]), machine.told_time(about["seconds"])
    takes = f"about {time} where it was made (teachers, distill, evaluate)"
    head = [f"{profile.name}: made by medddist for {source}."]
    head += [f"Needs: {memory} of memory. Takes: {takes}."]
    head += [f"Chosen here; all else is as in {BASE}:", *(f"- {why}" for why in about["chosen"])]
    comment = "".join(f"# {' '.join(line.split())}\n" for line in head)
    values = profile.model_dump(mode="json", exclude_defaults=True)
    size = {"image_size_px": profile.data.image_size_px}  # also where it is the default
    values = {"name": profile.name, "data": size | values.get("data", {})} | {
        name: value for name, value in values.items() if name not in ("name", "data")
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    write_bytes(path, (comment + text).encode())


def refuse_existing(path: Path) -> None:
    """Refuse to overwrite a profile.

    Raises:
        InputError: the file already exists.
    """
    if Path(path).exists():
        raise InputError(path, "already exists", "remove it, or name another file with --write")


def name_of(source: str | Path) -> str:
    """Name a profile by its images: letters, digits and underscores."""
    stem = str(source) if is_phantom(source) else Path(source).resolve().stem
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in stem).strip("_") or "study"
