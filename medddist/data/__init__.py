"""Data for a study: one loader for four kinds of source.

Rules declared here, where the paper gives none: images that share a patient or the same pixels,
before or after resizing, are one group, and no group is in two parts. Where a source gives its own
split and a group is in two of its parts, the test part is kept whole and the group's images leave
validation and training. Labels that contradict each other are kept and noted.

A guarantee of differential privacy needs another split, in which no image has a say in another's
part. By the rules above an added image displaces others, since they count classes and look for
copies. Where `DataSettings.split` is "hashed", a keyed hash of the patient's name, or of the pixels
of an image without one, decides alone. The split that a source gives is kept row by row, and has
all three parts (an .npz may leave validation to the hash); copies have no say, and no image is left
out. In return classes are not balanced over the parts, and a patient whom a given split divides
stays divided. The scaling, the fingerprint, the notes and errors still depend on all images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medddist.base.errors import InputError, require, shown
from medddist.base.names import closest, closest_beside, did_you_mean
from medddist.base.progress import Progress, silent
from medddist.base.settings import Settings, parsed
from medddist.data import cache, folder, listing, npz, splits
from medddist.data.collection import PART_NAMES, PATIENTS, TRAIN, Collection
from medddist.data.images import pixel_hash
from medddist.data.parts import Data, Part, fingerprint
from medddist.data.phantom.generate import CLASS_NAMES, SITE_NAMES, PhantomSettings, make_phantom
from medddist.data.scaling import Scaling

__all__ = ["Data", "DataSettings", "Part", "Scaling", "fingerprint", "is_phantom", "load_data"]

PHANTOM = "phantom"
# A source's name, what its decoded images depend on, and a function that decodes them.
Reader = tuple[str, dict[str, Any], Callable[[], Collection]]


class DataSettings(Settings):
    """How a source is read and split into parts."""

    image_size_px: int = Field(32, ge=8, le=1024)  # each image is resized to a square of this side
    channels: Literal[1, 3] = 1  # 1 is grey
    # how many; of the phantom, or of another source's training part; null: all
    images: int | None = Field(None, ge=1)
    test_fraction: float = Field(0.2, gt=0, lt=1)  # per class, rounded down, if none is given
    validation_fraction: float = Field(0.1, gt=0, lt=1)  # of the training part, if none is given
    minimum_images_per_class: int = Field(3, ge=3)  # fewer are refused; 3 is one for each part
    skip_unreadable: bool = False  # leave image files out that cannot be read, and say how many
    sites: Literal["balanced", "confounded"] = "balanced"  # over the classes; phantom alone
    split: Literal["drawn", "hashed"] = "drawn"  # hashed: each image or patient decides alone
    seed: int = Field(0, ge=0)  # of the split, of the subset and of the phantom


DEFAULTS = DataSettings()


def is_phantom(source: str | Path) -> bool:
    """Tell whether a source, as `load_data` takes it, is the built-in phantom.

    Only the text `phantom` is. A folder of that name is another source: ./phantom, its absolute
    path, or Path("phantom").
    """
    return isinstance(source, str) and source == PHANTOM


def phantom_notice(source: str | Path) -> str | None:
    """Return a line where a file or folder here has the name of the built-in phantom."""
    remedy = "to read the file or folder of that name here, give ./phantom"
    notice = f"data: phantom is the built-in phantom; {remedy}"
    return notice if is_phantom(source) and Path(PHANTOM).exists() else None


def load_data(
    source: str | Path,
    settings: DataSettings | int = DEFAULTS,
    cache_folder: Path | None = None,
    progress: Progress = silent,
    **changes,
) -> Data:
    """Read a source and split it into train, validation and test parts.

    Args:
        source: "phantom" (see `is_phantom`), an .npz in MedMNIST's layout, the folder of the
            COVID-19 Radiography Database, or a folder with one folder per class, also below
            train/, val/ and test/, and with or without labels.csv.
        settings: all of them, or image_size_px alone.
        cache_folder: where decoded images are cached; None caches nothing.
        progress: called with (what, done, total) while images are read or made.
        changes: settings by name: load_data(source, 64, channels=3).

    Raises:
        InputError: the source cannot be used.
    """
    whole = isinstance(settings, DataSettings)
    given = settings.model_dump() if whole else {"image_size_px": settings}
    settings = parsed(DataSettings, given | changes, "data")
    name, key, build = _reader(source, settings, progress)
    collection = build() if cache_folder is None else cache.cached(cache_folder, key, build)
    return _split(name, collection, settings, is_phantom(source))


# ---- sources -------------------------------------------------------------------------------------


def _reader(source: str | Path, settings: DataSettings, progress: Progress) -> Reader:
    if is_phantom(source):
        return _phantom_reader(settings)
    path, decoding = Path(source), settings.model_dump(include={"image_size_px", "channels"})
    reason = f"{settings.sites!r} is for the phantom alone"
    require(settings.sites == "balanced", "sites", reason, f"{shown(path)} has the sites it has")
    reason = "with data.split hashed, images are not chosen: a choice looks at all of them"
    remedy = "leave data.images out, or set data.split=drawn"
    require(not settings.images or settings.split == "drawn", "data.images", reason, remedy)
    if path.is_dir():
        listed, minimum = folder.listed(path), settings.minimum_images_per_class
        splits.require_images(listed.labels, listed.class_names, minimum, shown(path))
        decoding["skip_unreadable"] = settings.skip_unreadable
        key = {"files": listed.digest(), **decoding}
        return path.resolve().name, key, lambda: listing.read(listed, **decoding, progress=progress)
    if path.is_file() and path.suffix.lower() == ".npz":
        names = cache.file_digest(path.with_suffix(".json"))
        key = {"npz": cache.file_digest(path), "names": names, **decoding}
        return path.name, key, lambda: npz.read(path, **decoding, progress=progress)
    raise InputError(shown(path), "no such folder or .npz file", _source_meant(path))


def _source_meant(path: Path) -> str:
    """What to do where no source is: the phantom, or what is beside it, may be meant."""
    meant = "" if path.exists() else closest_beside(path, ("", ".npz"))
    meant = meant or closest(str(path), [PHANTOM])
    return did_you_mean(meant, "give 'phantom', a folder of images or an .npz")


def _phantom_reader(settings: DataSettings) -> Reader:
    names = {"images", "image_size_px", "sites", "seed"}
    given = settings.model_dump(include=names, exclude_none=True)
    wanted = parsed(PhantomSettings, given, "phantom")

    def build() -> Collection:
        made = make_phantom(wanted)
        images = np.repeat(made.images, settings.channels, axis=1)
        hashes = np.array([[pixel_hash(image)] * 2 for image in made.images], np.uint64)
        parts = np.full(len(images), TRAIN, np.int8)
        units = splits.named(made.patients)
        known = made.labels, made.patients, units, hashes, parts, made.sites
        return Collection(images, *known, CLASS_NAMES, SITE_NAMES, gives=(PATIENTS,))

    key = {"phantom": wanted.model_dump(mode="json"), "channels": settings.channels}
    return PHANTOM, key, build


# ---- parts ---------------------------------------------------------------------------------------


def _split(name: str, collection: Collection, settings: DataSettings, simulated: bool) -> Data:
    """Group, split and check the images of a source."""
    names, labels = collection.class_names, collection.labels
    splits.require_images(labels, names, settings.minimum_images_per_class, name)
    alone = settings.split == "hashed"
    united = splits.united(collection.groups, *collection.hashes.T)
    groups = collection.groups if alone else united
    fractions = {"test": settings.test_fraction, "validation": settings.validation_fraction}
    if alone:
        chances = [0 if part in collection.gives else fractions[part] for part in fractions]
        dealt = splits.hashed(collection.units, collection.parts, *chances, settings.seed)
        kept, single = np.arange(len(labels)), splits.kept_in_one_part(dealt, united)
    else:
        kept = np.flatnonzero(single := splits.kept_in_one_part(collection.parts, united))
        given = labels[kept], groups[kept], collection.parts[kept]
        dealt = splits.completed(*given, *fractions.values(), settings.seed)
    enough = "many" if alone else "three"
    splits.require_every_part(labels[kept], groups[kept], dealt, names, name, enough)
    rows = [kept[dealt == part] for part in range(len(PART_NAMES))]
    notes = [*collection.notes, *_grouping_notes(collection, int((~single).sum()), alone)]
    if settings.images and not simulated:  # the phantom was made with that many images
        training = rows[TRAIN]
        chosen = splits.stratified_subset(labels[training], settings.images, settings.seed)
        rows[TRAIN] = training[chosen]
        if len(chosen) < len(training):
            used = f"{len(chosen)} of {len(training)} training images are used"
            asked = settings.images != len(chosen)
            notes.append(f"{used}; {settings.images} were asked for" if asked else used)
    parts = {part: _part(collection, groups, at) for part, at in zip(PART_NAMES, rows)}
    scaling = Scaling.measured(parts["train"].images)
    reason = "all pixels of the training images are equal"
    require(min(scaling.std) > 0, name, reason, "give images that show something")
    origins, notes = collection.origin_names, tuple(notes)
    known = names, fingerprint(parts, names), name, origins, notes, scaling, simulated
    more = {"patients": PATIENTS in collection.gives, "split": settings.split}
    return Data(*parts.values(), *known, **more)


def _grouping_notes(collection: Collection, divided: int, alone: bool) -> list[str]:
    """Note copies, contradictions and groups in several parts."""
    count, pixels = len(collection.labels), collection.hashes[:, 0]
    copies = count - len(np.unique(pixels))
    contradictory = int(splits.contradictory(collection.labels, pixels).sum())
    one_part = "" if alone else "; copies stay in one part"
    left_out = "were left out of training or validation: the given split has their group or copy in"
    kept = "of training or validation are kept, with their patient or a copy in"
    notes = {
        f"{copies} of {count} images are exact copies of another{one_part}": copies,
        f"{contradictory} images have the same pixels as an image of another class; they are kept "
        "as labelled": contradictory,
        f"{divided} images {kept if alone else left_out} a later part": divided,
    }
    return [note for note, number in notes.items() if number]


def _part(collection: Collection, groups: np.ndarray, rows: np.ndarray) -> Part:
    contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    # A slice of a memory map stays on disk; a choice of rows is a copy.
    images = collection.images[slice(rows[0], rows[-1] + 1) if contiguous else rows]
    images.flags.writeable = False
    origins = collection.origins[rows] if collection.origin_names else None
    return Part(images, collection.labels[rows], groups[rows], origins)
