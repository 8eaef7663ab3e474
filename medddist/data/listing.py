"""Image files on disk: found in one order on every file system, then decoded together."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medddist.data.collection import Collection, Progress, shown
from medddist.data.images import NeedsPydicom, Prepared, decoded, is_image, prepared
from medddist.data.splits import numbered
from medddist.errors import InputError

LEFT_ALONE = {"masks", "__macosx"}  # folders that never hold images of a class


@dataclass(frozen=True)
class Listing:
    """What is to be decoded, and what is known without decoding; the arrays are those of `Collection`.

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
        """Names the content of the listing: paths, sizes and times of the files, and all that is known of them."""
        total = hashlib.sha256(
            repr((self.class_names, self.origin_names, self.notes)).encode("utf-8", "backslashreplace")
        )
        for file in self.files:
            status = (self.folder / file).stat()
            total.update(os.fsencode(file) + f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0".encode())
        for column in (self.labels, self.groups, self.parts, self.origins):
            total.update(column.astype("<i8").tobytes())
        return total.hexdigest()


def listing(
    folder: Path, entries: list[tuple[Path, str, int]], class_names: Sequence[str] = (), notes: tuple[str, ...] = ()
) -> Listing:
    """A `Listing` of (file below folder, class, part), with each image a group of its own and no origins."""
    names = tuple(class_names or sorted({label for _, label, _ in entries}, key=natural))
    position = {name: k for k, name in enumerate(names)}
    count = len(entries)
    return Listing(
        folder=folder,
        files=tuple(file for file, _, _ in entries),
        labels=np.array([position[label] for _, label, _ in entries], np.int64),
        groups=np.arange(count),
        parts=np.array([part for _, _, part in entries], np.int8),
        origins=np.full(count, -1, np.int64),
        class_names=names,
        notes=notes,
    )


def natural(name) -> tuple:
    """A sorting key: COVID-2 before COVID-10, whatever the file system's order or its way to compose accents."""
    text = str(name)
    pieces = re.split("([0-9]+)", unicodedata.normalize("NFC", text))
    return tuple(int(piece) if k % 2 else piece for k, piece in enumerate(pieces)), text


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside that may be classes, in natural order."""
    found = [path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name)]
    return sorted(found, key=lambda path: natural(path.name))


def images_in(folder: Path) -> list[Path]:
    """Image files directly inside, in natural order."""
    found = [path for path in folder.iterdir() if not _ignored(path.name) and path.is_file() and is_image(path)]
    return sorted(found, key=lambda path: natural(path.name))


def images_below(folder: Path) -> list[Path]:
    """Image files inside, however deep, masks/ left alone, in natural order of their paths."""
    found = []
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if not _ignored(name)]
        found += [Path(parent, name) for name in files if not _ignored(name) and is_image(Path(parent, name))]
    return sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix()))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_ALONE


def read(
    listed: Listing, image_size_px: int, channels: int, skip_unreadable: bool = False, progress: Progress | None = None
) -> Collection:
    """Decode all files; raises `InputError` for the first that cannot be read, or leaves such files out and says so."""
    total = len(listed.files)
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes, sizes = np.zeros((total, 2), np.uint64), np.zeros((total, 2), np.int64)
    readable = np.zeros(total, bool)
    for k, one in enumerate(_decoded_in_order(listed, image_size_px, channels)):
        if isinstance(one, Prepared):
            images[k], hashes[k], sizes[k], readable[k] = one.pixels, one.hashes, one.size_px, True
        elif not skip_unreadable or isinstance(one, NeedsPydicom):
            raise one
        if progress and ((k + 1) % 64 == 0 or k + 1 == total):
            progress(k + 1, total, "reading images")
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
        warnings.simplefilter("ignore")  # PIL and pydicom warn of what is decided here: sizes, odd metadata
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
            f"{shown(folder)}: cannot be opened ({problem.strerror}); check the path and its rights"
        ) from None
    return folder
