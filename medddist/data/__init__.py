"""Data for the study: one loader for four kinds of source.

Rules declared here, where the paper gives none: images that share a patient or the same pixels,
    before or after resizing, are one group, and no group is in two parts. Where a source gives its
    own split and a group is in two of its parts, the test part is kept whole and the group's images
    leave validation and training. Labels that contradict each other are kept and reported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.base.settings import Settings, parsed
from medddist.data import cache, folder, listing, npz, splits
from medddist.data.collection import PART_NAMES, TEST, TRAIN, VALIDATION, Collection
from medddist.data.images import pixel_hash
from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling

__all__ = ["Data", "DataSettings", "Part", "Scaling", "is_phantom", "load_data"]


class DataSettings(Settings):
    """How a source is read and dealt into parts."""

    image_size_px: int = Field(
        32, ge=8, le=1024
    )  # side of the square that every image is resized to
    channels: Literal[1, 3] = 1  # 1 is grey
    images: int | None = Field(
        None, ge=1
    )  # phantom: how many to make; otherwise: how many of the training part to use
    test_fraction: float = Field(
        0.2, gt=0, lt=1
    )  # of each class, rounded down, where the source has no test part
    validation_fraction: float = Field(
        0.1, gt=0, lt=1
    )  # of each class of the training part, where there is none
    minimum_images_per_class: int = Field(3, ge=3)  # fewer are refused; 3 is one for each part
    skip_unreadable: bool = False  # leave image files out that cannot be read, and say how many
    sites: Literal["balanced", "confounded"] = "balanced"  # over the classes; phantom alone
    seed: int = Field(0, ge=0)  # of the split, of the subset and of the phantom


PHANTOM = "phantom"


def is_phantom(source: str | Path) -> bool:
    """Whether a source, as `load_data` takes it, is the built-in phantom: the text `phantom`, and
    nothing else.

    A folder of that name is another source: ./phantom, its absolute path, or Path("phantom").
    """
    return isinstance(source, str) and source == PHANTOM


def phantom_notice(source: str | Path) -> str | None:
    """A line where the source is the built-in phantom and a file or folder in the working directory
    has its name too.
    """
    if is_phantom(source) and Path(PHANTOM).exists():
        return (
            "data: phantom is the built-in phantom; to read the file or folder of that name "
            "here, give ./phantom"
        )
    return None


def load_data(
    source: str | Path,
    settings: DataSettings | int = DataSettings(),
    cache_folder: Path | None = None,
    progress: Progress = silent,
    **changes,
) -> Data:
    """Read a source and deal it into train, validation and test parts.

    source: "phantom" (see `is_phantom`), an .npz in MedMNIST's layout, the folder of the COVID-19
        Radiography Database, or a folder with
        one folder a class, also below train/, val/ and test/, and with or without labels.csv
    settings: all of them, or image_size_px alone; `changes` are settings by name: load_data(source,
        64, channels=3)
    cache_folder: where decoded images are kept and found again; None keeps nothing
    progress: called with (what, done, total) while images are read or made
    Raises `InputError`, before anything is trained, for any input that cannot be used.
    """
    values = (
        settings.model_dump() if isinstance(settings, DataSettings) else {"image_size_px": settings}
    )
    settings = parsed(DataSettings, values | changes, "data")
    name, key, build = _reader(source, settings, progress)
    collection = cache.cached(cache_folder, key, build) if cache_folder is not None else build()
    return _data(name, collection, settings, is_phantom(source))


def _reader(source: str | Path, settings: DataSettings, progress: Progress):
    """(name, what the decoded images depend on, a function that decodes them) of a source."""
    size, channels = settings.image_size_px, settings.channels
    if is_phantom(source):
        return PHANTOM, *_phantom_reader(settings)
    path = Path(source)
    if settings.sites != "balanced":
        raise InputError(
            "sites",
            f"{settings.sites!r} is for the phantom alone",
            f"{shown(path)} has the sites it has",
        )
    decoding = {"image_size_px": size, "channels": channels}
    if path.is_file() and path.suffix.lower() == ".npz":
        key = {
            "npz": cache.file_digest(path),
            "names": cache.file_digest(path.with_suffix(".json")),
            **decoding,
        }
        return path.name, key, lambda: npz.read(path, size, channels, progress)
    if path.is_dir():
        return path.resolve().name, *_folder_reader(path, settings, progress)
    raise InputError(
        shown(path), "no such folder or .npz file", "give 'phantom', a folder of images or an .npz"
    )


def _folder_reader(path: Path, settings: DataSettings, progress: Progress):
    listed = folder.listed(path)
    splits.require_images(
        listed.labels, listed.class_names, settings.minimum_images_per_class, shown(path)
    )
    asked = settings.model_dump(include={"image_size_px", "channels", "skip_unreadable"})
    return {"files": listed.digest(), **asked}, lambda: listing.read(
        listed, **asked, progress=progress
    )


def _phantom_reader(settings: DataSettings):
    from medddist.data.phantom.generate import (
        CLASS_NAMES,
        SITE_NAMES,
        PhantomSettings,
        make_phantom,
    )

    asked = {
        "image_size_px": settings.image_size_px,
        "sites": settings.sites,
        "seed": settings.seed,
    }
    wanted = parsed(
        PhantomSettings, asked | ({"images": settings.images} if settings.images else {}), "phantom"
    )

    def build() -> Collection:
        made = make_phantom(wanted)
        hashes = np.array([pixel_hash(image) for image in made.images], np.uint64)
        return Collection(
            images=np.repeat(made.images, settings.channels, axis=1),
            labels=made.labels.astype(np.int64),
            groups=made.patients.astype(np.int64),
            hashes=np.stack([hashes, hashes], 1),
            parts=np.full(len(made.labels), TRAIN, np.int8),
            origins=made.sites.astype(np.int64),
            class_names=tuple(CLASS_NAMES),
            origin_names=tuple(SITE_NAMES),
        )

    return {"phantom": wanted.model_dump(mode="json"), "channels": settings.channels}, build


def _data(name: str, collection: Collection, settings: DataSettings, made_here: bool) -> Data:
    """Group, split, check, and give each image its part."""
    names, labels = collection.class_names, collection.labels
    splits.require_images(labels, names, settings.minimum_images_per_class, name)
    groups = splits.united(collection.groups, *collection.hashes.T)
    kept = np.flatnonzero(splits.kept_in_one_part(collection.parts, groups))
    notes = [*collection.notes, *_grouping_notes(collection, len(kept))]
    parts = splits.completed(
        labels[kept],
        groups[kept],
        collection.parts[kept],
        settings.test_fraction,
        settings.validation_fraction,
        settings.seed,
    )
    splits.require_every_part(labels[kept], groups[kept], parts, names, name)
    rows = {part: kept[parts == part] for part in (TRAIN, VALIDATION, TEST)}
    if settings.images and not made_here:  # the phantom has as many as were asked for
        found = len(rows[TRAIN])
        rows[TRAIN] = rows[TRAIN][
            splits.stratified_subset(labels[rows[TRAIN]], settings.images, settings.seed)
        ]
        notes.append(
            f"{len(rows[TRAIN])} of {found} training images are used; {settings.images} were "
            "asked for"
        )
    made = {PART_NAMES[part]: _part(collection, groups, at) for part, at in rows.items()}
    scaling = Scaling.measured(made["train"].images)
    if min(scaling.std) == 0:
        raise InputError(
            name, "all pixels of the training images are equal", "give images that show something"
        )
    return Data(
        **made,
        class_names=names,
        fingerprint=fingerprint(made, names),
        source=name,
        origin_names=collection.origin_names,
        notes=tuple(notes),
        scaling=scaling,
        is_phantom=made_here,
    )


def _grouping_notes(collection: Collection, kept: int) -> list[str]:
    """What a reader should know of copies, contradictions and leaks between given parts."""
    notes, count = [], len(collection.labels)
    copies = count - len(np.unique(collection.hashes[:, 0]))
    if copies:
        notes.append(
            f"{copies} of {count} images are exact copies of another; copies stay in one part"
        )
    contradictory = int(splits.contradictory(collection.labels, collection.hashes[:, 0]).sum())
    if contradictory:
        notes.append(
            f"{contradictory} images have the same pixels as an image of another class; they "
            "are kept as labelled"
        )
    if kept < count:
        notes.append(
            f"{count - kept} images were left out of training or validation: the given split "
            "has their group or "
            "copy in a later part"
        )
    return notes


def _part(collection: Collection, groups: np.ndarray, rows: np.ndarray) -> Part:
    known = bool(collection.origin_names)
    contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    # A slice of a memory map stays on disk; a choice of rows is a copy.
    images = (
        collection.images[rows[0] : rows[-1] + 1]
        if contiguous
        else np.asarray(collection.images[rows])
    )
    images.flags.writeable = False
    return Part(
        images, collection.labels[rows], groups[rows], collection.origins[rows] if known else None
    )


def fingerprint(parts: dict[str, Part], class_names: tuple[str, ...]) -> str:
    """32 hexadecimal digits of all that a result can depend on: pixels, labels, groups, origins,
    split, class names.
    """
    total = hashlib.sha256(repr(class_names).encode("utf-8", "surrogateescape"))
    for name, part in parts.items():
        total.update(f"{name}{part.images.shape}{part.origins is not None}".encode())
        total.update(np.ascontiguousarray(part.images).data)
        for column in (part.labels, splits.numbered(part.groups), part.origins):
            if column is not None:
                total.update(np.ascontiguousarray(column, "<i8").data)
    return total.hexdigest()[:32]
