"""Where image files are: their order, the folders of classes, and train, val and test folders."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from medddist.base.errors import require, shown
from medddist.data.collection import TEST, TRAIN, VALIDATION
from medddist.data.images import is_image

Notes = tuple[str, ...]
LEFT_ALONE = {"masks", "__macosx"}  # folders that never hold images of a class
PART_FOLDERS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def part_of(folder_name: str) -> int | None:
    """Return the part that a folder's name gives to the images in it; None if it gives none."""
    return PART_FOLDERS.get(folder_name.lower())


def natural(name: object) -> tuple:
    """Make a sorting key: COVID-2 before COVID-10, however the file system composes accents."""
    text = str(name)
    pieces = re.split("([0-9]+)", unicodedata.normalize("NFC", text))
    return tuple(int(piece) if k % 2 else piece for k, piece in enumerate(pieces)), text


def given_parts(files: Sequence[Path], where: str, remedy: str) -> tuple[list[int], Notes]:
    """Return the part of each file by the train, val and test folders in its path, and a note.

    Without such folders all are TRAIN.

    Args:
        files: paths below the source's folder.
        where: the subject of an error.
        remedy: what to do where the split is not clear.

    Raises:
        InputError: some files are in such folders and others are not, or in two of them.
    """
    names = [[n for n in file.parts[:-1] if part_of(n) is not None] for file in files]
    folders = sorted(set(itertools.chain(*names)), key=natural)
    if not folders:
        return [TRAIN] * len(files), ()
    parts = [set(map(part_of, around)) for around in names]
    known, stated = (separator.join(map(shown, folders)) for separator in (" or ", ", "))
    for file, around, given in zip(files, names, parts):
        path = shown(file.as_posix())
        reason = f"some images are in {known} and others, such as {path}, in none of them"
        require(given, where, reason, remedy)
        reason = f"{path} is in {' and in '.join(map(shown, around))}"
        require(len(given) == 1, where, reason, remedy)
    require({TRAIN} in parts, where, f"has {stated} and no train folder", remedy)
    return [part for (part,) in parts], (f"the split is the one given by the folders {stated}",)


def class_folder(file: Path) -> str:
    """Return the first folder in a file's path that is no train, val or test; "" without one."""
    return next((name for name in file.parts[:-1] if part_of(name) is None), "")


def has_part_folders(folder: Path) -> bool:
    """Find a train, val or test folder at any depth."""
    folders = (name for _, names, _ in os.walk(folder) for name in names if not _ignored(name))
    return any(part_of(name) is not None for name in folders)


def subfolders(folder: Path) -> list[Path]:
    """List the folders directly inside that may be classes, in natural order."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name)]
    return sorted(inside, key=lambda path: natural(path.name))


def images_in(folder: Path) -> list[Path]:
    """List the image files directly inside, in natural order."""
    return _images(folder, (path for path in folder.iterdir() if path.is_file()))


def images_below(folder: Path) -> list[Path]:
    """List the image files at any depth, except below masks/, in natural order of their paths."""
    paths = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _ignored(name)]
        paths += [Path(parent, name) for name in names]
    return _images(folder, paths)


def _images(folder: Path, paths: Iterable[Path]) -> list[Path]:
    images = [path for path in paths if not _ignored(path.name) and is_image(path)]
    return sorted(images, key=lambda path: natural(path.relative_to(folder).as_posix()))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_ALONE
