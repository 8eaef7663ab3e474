"""Image files on disk: found in one order on every file system, then decoded together."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.data.collection import TEST, TRAIN, VALIDATION, Collection
from medddist.data.images import NeedsPydicom, Prepared, decoded, is_image, prepared
from medddist.data.splits import numbered

LEFT_ALONE = {"masks", "__macosx"}  # folders that never hold images of a class
PART_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
}
PART_FOLDERS |= {"test": TEST, "testing": TEST}
ALIKE = 0.8  # difflib's ratio of two names from which one may be the other misspelt
VERY_FEW = (
    20  # images of a class, where others have as many times as many: a folder that may be none
)


@dataclass(frozen=True)
class Listing:
    """What is to be decoded, and what is known without decoding; the arrays are those of
    `Collection`.

    files: (N,) paths below `folder`
    """

    folder: Path
    files: tuple[Path, ...]
    labels: np.ndarray
    groups: np.ndarray
    parts: np.ndarray
    origins: np.ndarray
    class_names: tuple[str, ...]
    origin_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Names the content of the listing: paths, sizes and times of the files, and all that is
        known of them.
        """
        total = hashlib.sha256(
            repr((self.class_names, self.origin_names, self.notes)).encode(
                "utf-8", "backslashreplace"
            )
        )
        for file in self.files:
            status = (self.folder / file).stat()
            total.update(
                os.fsencode(file)
                + f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0".encode()
            )
        for column in (self.labels, self.groups, self.parts, self.origins):
            total.update(column.astype("<i8").tobytes())
        return total.hexdigest()


def listing(
    folder: Path,
    entries: list[tuple[Path, str, int]],
    class_names: Sequence[str] = (),
    notes: tuple[str, ...] = (),
) -> Listing:
    """A `Listing` of (file below folder, class, part), with each image a group of its own and no
    origins.
    """
    names = tuple(class_names or sorted({label for _, label, _ in entries}, key=natural))
    position = {name: k for k, name in enumerate(names)}
    count = len(entries)
    counts = Counter(label for _, label, _ in entries)
    return Listing(
        folder=folder,
        files=tuple(file for file, _, _ in entries),
        labels=np.array([position[label] for _, label, _ in entries], np.int64),
        groups=np.arange(count),
        parts=np.array([part for _, _, part in entries], np.int8),
        origins=np.full(count, -1, np.int64),
        class_names=names,
        notes=(*notes, *class_notes({name: counts[name] for name in names})),
    )


def class_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Names of classes that may be one class misspelt, and classes that may be none, from {class:
    images}.
    """
    notes = []
    for one, other in itertools.combinations(counts, 2):
        if counts[one] and counts[other] and _spelt_alike(one, other):
            notes.append(
                f"the classes {shown(one)!r} ({counts[one]} images) and {shown(other)!r} "
                f"({counts[other]}) are spelt alike;"
                " if they are one class, give them one name"
            )
    for name, count in counts.items():
        others = sorted(counts[other] for other in counts if other != name)
        if others and 0 < count < VERY_FEW and VERY_FEW * count < others[len(others) // 2]:
            notes.append(
                f"the class {shown(name)!r} has only {count} images, and others have "
                f"{others[len(others) // 2]}; if it is not"
                " a class, remove it"
            )
    return tuple(notes)


def _spelt_alike(one: str, other: str) -> bool:
    """Whether one may be the other misspelt; not where they differ by a number, a single letter or
    a prefix (normal, abnormal).
    """
    words = [
        re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", name).casefold())
        for name in (one, other)
    ]
    first, second = ("".join(found) for found in words)
    if first == second:
        return bool(first)
    if (
        re.findall(r"\d+", first) != re.findall(r"\d+", second)
        or first.endswith(second)
        or second.endswith(first)
    ):
        return False
    if len(words[0]) == len(words[1]):
        pairs = [pair for pair in zip(*words) if pair[0] != pair[1]]
        if len(pairs) > 1 or min(map(len, pairs[0])) == 1:  # stage A, stage B
            return False
        first, second = pairs[0]  # of Viral Pneumonia and Bacterial Pneumonia the first words
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= ALIKE


def given_parts(
    files: Sequence[Path], where: str, remedy: str
) -> tuple[list[int], tuple[str, ...]]:
    """The part of each file by the train, val and test folders on its way, all TRAIN where there
    are none; and a note on it.

    files: below the source's folder. Raises InputError where some files are in such folders and
        others are not.
    """
    on_the_way = [
        [name for name in file.parts[:-1] if name.lower() in PART_FOLDERS] for file in files
    ]
    names = sorted({name for found in on_the_way for name in found}, key=natural)
    if not names:
        return [TRAIN] * len(files), ()
    for file, found in zip(files, on_the_way):
        if not found:
            folders = " or ".join(map(shown, names))
            told = (
                f"some images are in {folders} and others, such as {shown(file.as_posix())}, "
                "in none of them"
            )
            raise InputError(where, told, remedy)
        if len({PART_FOLDERS[name.lower()] for name in found}) > 1:
            raise InputError(
                where,
                f"{shown(file.as_posix())} is in {' and in '.join(map(shown, found))}",
                remedy,
            )
    parts = [PART_FOLDERS[found[0].lower()] for found in on_the_way]
    if TRAIN not in parts:
        raise InputError(where, f"has {', '.join(map(shown, names))} and no train folder", remedy)
    return parts, (f"the split is the one given by the folders {', '.join(map(shown, names))}",)


def has_part_folders(folder: Path) -> bool:
    """Whether a folder, one in it, or the images/ folder in that, is divided into train, val and
    test.
    """
    classes = subfolders(folder)
    return any(
        _is_divided(path) for around in classes for path in (folder, around, around / "images")
    )


def _is_divided(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:  # of thousands of images none is looked at more closely
        return any(entry.name.lower() in PART_FOLDERS and entry.is_dir() for entry in entries)


def natural(name) -> tuple:
    """A sorting key: COVID-2 before COVID-10, whatever the file system's order or its way to
    compose accents.
    """
    text = str(name)
    pieces = re.split("([0-9]+)", unicodedata.normalize("NFC", text))
    return tuple(int(piece) if k % 2 else piece for k, piece in enumerate(pieces)), text


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside that may be classes, in natural order."""
    found = [path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name)]
    return sorted(found, key=lambda path: natural(path.name))


def images_in(folder: Path) -> list[Path]:
    """Image files directly inside, in natural order."""
    found = [
        path
        for path in folder.iterdir()
        if not _ignored(path.name) and path.is_file() and is_image(path)
    ]
    return sorted(found, key=lambda path: natural(path.name))


def images_below(folder: Path) -> list[Path]:
    """Image files inside, however deep, masks/ left alone, in natural order of their paths."""
    found = []
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if not _ignored(name)]
        found += [
            Path(parent, name)
            for name in files
            if not _ignored(name) and is_image(Path(parent, name))
        ]
    return sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix()))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_ALONE


def read(
    listed: Listing,
    image_size_px: int,
    channels: int,
    skip_unreadable: bool = False,
    progress: Progress = silent,
) -> Collection:
    """Decode all files; raises `InputError` for the first that cannot be read, or leaves such files
    out and says so.
    """
    total = len(listed.files)
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes, sizes = np.zeros((total, 2), np.uint64), np.zeros((total, 2), np.int64)
    readable = np.zeros(total, bool)
    for k, one in enumerate(_decoded_in_order(listed, image_size_px, channels)):
        if isinstance(one, Prepared):
            images[k], hashes[k], sizes[k], readable[k] = one.pixels, one.hashes, one.size_px, True
        elif not skip_unreadable or isinstance(one, NeedsPydicom):
            raise one
        if (k + 1) % 64 == 0 or k + 1 == total:
            progress("reading images", k + 1, total)
    return Collection(
        images=images if readable.all() else images[readable],
        labels=listed.labels[readable],
        groups=numbered(listed.groups[readable]),
        hashes=hashes[readable],
        parts=listed.parts[readable],
        origins=listed.origins[readable],
        class_names=listed.class_names,
        origin_names=listed.origin_names,
        notes=listed.notes + _notes(sizes[readable], total, image_size_px),
    )


def _decoded_in_order(listed: Listing, image_size_px: int, channels: int):
    """A `Prepared` or the `InputError` of each file; PIL decodes and resizes outside Python's lock."""

    def one(file: Path) -> Prepared | InputError:
        try:
            return prepared(decoded(listed.folder / file), image_size_px, channels)
        except InputError as refused:
            return refused

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter(
            "ignore"
        )  # PIL and pydicom warn of what is decided here: sizes, odd metadata
        yield from pool.map(one, listed.files)


def _notes(sizes: np.ndarray, total: int, image_size_px: int) -> tuple[str, ...]:
    """What decoding found that a reader should know; sizes (N, 2) of the files that could be read."""
    unreadable, oblong = total - len(sizes), int((sizes[:, 0] != sizes[:, 1]).sum())
    small = int((sizes.min(1, initial=2**31) < image_size_px).sum())
    found = (
        (unreadable, f"{unreadable} of {total} images could not be read and were left out"),
        (oblong, f"{oblong} images are not square and were stretched"),
        (small, f"{small} images are smaller than {image_size_px} px and were enlarged"),
    )
    return tuple(note for count, note in found if count)


def readable_folder(folder: Path) -> Path:
    """The folder itself; raises `InputError` where it cannot be listed."""
    try:
        next(folder.iterdir(), None)
    except OSError as problem:
        raise InputError(
            shown(folder), f"cannot be opened ({problem.strerror})", "check the path and its rights"
        ) from None
    return folder
