"""Image files on disk: listed in one order on every file system, then decoded together."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.base.names import counted
from medddist.base.progress import Progress
from medddist.data.collection import TRAIN, Collection
from medddist.data.images import NeedsPydicom, Prepared, decoded, prepared
from medddist.data.paths import natural
from medddist.data.splits import numbered

ALIKE = 0.8  # difflib's ratio from which one name may be the other misspelt
NOT_SQUARE = "image is not square and was", "images are not square and were"
SMALL = "image is smaller than {} px and was", "images are smaller than {} px and were"
VERY_FEW = 20  # a class with fewer images, and 20 times fewer than others, may be no class


@dataclass(frozen=True)
class Listing:
    """Files to decode, and what is known without decoding; the arrays are those of `Collection`.

    files: N paths below `folder`
    units: 0 for an image without a patient's name
    """

    folder: Path
    files: tuple[Path, ...]
    labels: np.ndarray
    groups: np.ndarray
    units: np.ndarray
    parts: np.ndarray
    origins: np.ndarray
    class_names: tuple[str, ...]
    origin_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    def digest(self) -> str:
        """Name the content: the files' paths, sizes and times, and all that is known of them."""
        names = repr((self.class_names, self.origin_names, self.notes, self.gives))
        total = hashlib.sha256(names.encode("utf-8", "backslashreplace"))
        for file in self.files:
            status = (self.folder / file).stat()
            times = f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0"
            total.update(os.fsencode(file) + times.encode())
        for column in (self.labels, self.groups, self.units, self.parts, self.origins):
            total.update(column.astype("<i8").tobytes())
        return total.hexdigest()


def listing(folder: Path, classes: Mapping[Path, str], parts=TRAIN, class_names=()) -> Listing:
    """Make a `Listing` in which each image is a group of its own and origins are unknown.

    Args:
        folder: where the files are.
        classes: the class of each file below the folder.
        parts: of each file, or of all.
        class_names: in the order of labels; by default the classes in natural order.
    """
    counts, total = Counter(classes.values()), len(classes)
    names = tuple(class_names or sorted(counts, key=natural))
    position = {name: k for k, name in enumerate(names)}
    labels = np.array([position[label] for label in classes.values()], np.int64)
    parts = np.broadcast_to(np.array(parts, np.int8), total)
    groups, origins = np.arange(total), np.full(total, -1, np.int64)
    units = np.zeros(total, np.uint64)
    notes = class_notes({name: counts[name] for name in names})
    known = labels, groups, units, parts, origins
    return Listing(folder, tuple(classes), *known, names, notes=notes)


def class_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Note classes that may be one class misspelt, and folders that may be no class.

    counts: images by class
    """
    notes = []
    for first, second in itertools.combinations(counts, 2):
        if counts[first] and counts[second] and _spelt_alike(first, second):
            both = f"{shown(first)!r} ({counts[first]} images) and {shown(second)!r}"
            alike = f"the classes {both} ({counts[second]}) are spelt alike"
            notes.append(f"{alike}; if they are one class, give them one name")
    for name, count in counts.items():
        others = sorted(counts[other] for other in counts if other != name)
        usual = others[len(others) // 2] if others else 0
        if 0 < count < VERY_FEW and VERY_FEW * count < usual:
            images = counted(count, "image", "images")
            few = f"the class {shown(name)!r} has only {images}, and others have {usual}"
            notes.append(f"{few}; if it is not a class, remove it")
    return tuple(notes)


def _spelt_alike(first: str, second: str) -> bool:
    """Whether one name may be the other misspelt.

    Names that differ by a number, a single letter or a prefix (normal, abnormal) are different.
    """
    plain = (unicodedata.normalize("NFKC", name).casefold() for name in (first, second))
    words, others = (re.findall(r"[^\W\d_]+|\d+", name) for name in plain)
    a = "".join(word for word in words if word not in others)
    b = "".join(word for word in others if word not in words)
    if a == b:
        return bool(words)
    if min(len(a), len(b)) < 2 or re.search(r"\d", a + b) or a.endswith(b) or b.endswith(a):
        return False
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= ALIKE


# ---- decoding ------------------------------------------------------------------------------------


def read(
    listed: Listing, image_size_px: int, channels: int, skip_unreadable: bool, progress: Progress
) -> Collection:
    """Decode all files.

    Args:
        listed: the files.
        image_size_px: the side of the square that each image is resized to.
        channels: 1 or 3.
        skip_unreadable: leave files out that cannot be read, and note how many.
        progress: called with (what, done, total).

    Raises:
        InputError: the first file that cannot be read, unless such files are left out.
    """
    total = len(listed.files)
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes, sizes = np.zeros((total, 2), np.uint64), np.zeros((total, 2), np.int64)
    readable = np.zeros(total, bool)
    for k, image in enumerate(_decoded_in_order(listed, image_size_px, channels)):
        if isinstance(image, Prepared):
            images[k], hashes[k], sizes[k] = image.pixels, image.hashes, image.size_px
            readable[k] = True
        elif not skip_unreadable or isinstance(image, NeedsPydicom):
            raise image
        if (k + 1) % 64 == 0 or k + 1 == total:
            progress("reading images", k + 1, total)
    images = images if readable.all() else images[readable]
    units = np.where(listed.units, listed.units, hashes[:, 0])
    columns = (listed.labels, listed.groups, units, hashes, listed.parts, listed.origins)
    labels, groups, *others = (column[readable] for column in columns)
    names = listed.class_names, listed.origin_names
    notes = listed.notes + _notes(sizes[readable], total, image_size_px)
    return Collection(images, labels, numbered(groups), *others, *names, notes, listed.gives)


def _decoded_in_order(listed: Listing, image_size_px: int, channels: int):
    """A `Prepared` or an `InputError` per file; PIL works outside Python's lock."""

    def attempt(file: Path) -> Prepared | InputError:
        try:
            return prepared(decoded(listed.folder / file), image_size_px, channels)
        except InputError as refused:
            return refused

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # of sizes and odd metadata, which are handled here
        yield from pool.map(attempt, listed.files)


def _notes(sizes: np.ndarray, total: int, image_size_px: int) -> tuple[str, ...]:
    """Note what decoding found; sizes (N, 2) of the files that could be read."""
    unreadable, oblong = total - len(sizes), int((sizes[:, 0] != sizes[:, 1]).sum())
    small = int((sizes.min(1, initial=2**31) < image_size_px).sum())
    notes = {
        f"{unreadable} of {total} images could not be read and were left out": unreadable,
        f"{counted(oblong, *NOT_SQUARE)} stretched": oblong,
        f"{counted(small, *SMALL).format(image_size_px)} enlarged": small,
    }
    return tuple(note for note, count in notes.items() if count)
