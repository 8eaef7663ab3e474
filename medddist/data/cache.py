"""Decoded images on disk: memory-mapped, checked by SHA-256 when opened, rebuilt when damaged.

An entry is a folder named by what its content depends on: the source's own content, the settings
that decide pixels, and the code and libraries that compute them. An .npz enters by the hash of its
bytes, labels.csv by what it says. Image files enter by relative path, size, and the two times that
the file system keeps: hashing every byte of 21,165 files takes longer than opening the cache,
minutes on a network drive, and no edit leaves the inode's change time as it was.

Only its owner can open the folder (0700) and each entry in it: decoded images are as private as the
files they come from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from medddist.base.errors import NotWritable
from medddist.base.files import digest, private_folder, read_json, write_json
from medddist.data.collection import Collection

ARRAYS = ("images", "labels", "groups", "units", "hashes", "parts", "origins")
NAMES = ("class_names", "origin_names", "notes", "gives")


def cached(folder: Path, key: dict, build: Callable[[], Collection]) -> Collection:
    """Return the collection cached under `key`, with its images memory-mapped.

    It is built and cached if it is absent or damaged.
    """
    entry = Path(folder) / digest(key | {"code": code_digest()})
    if collection := opened(entry):
        return collection
    built = build()
    _keep(entry, built)
    return opened(entry) or built  # while another process replaces the same entry


def opened(entry: Path) -> Collection | None:
    """Open the collection in a folder; None if it is absent, incomplete or damaged."""
    try:
        content = read_json(entry / "collection.json")
        arrays = {name: _checked(entry / f"{name}.npy", content["sha256"][name]) for name in ARRAYS}
        return Collection(**arrays, **{name: tuple(content[name]) for name in NAMES})
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _checked(path: Path, expected: str) -> np.ndarray:
    if file_digest(path) != expected:
        raise ValueError("damaged")
    return np.load(path, mmap_mode="r" if path.stem == "images" else None, allow_pickle=False)


def _keep(entry: Path, collection: Collection) -> None:
    """Write to a folder beside, then rename it: a reader sees a whole entry or none."""
    try:
        private_folder(entry.parent)
        beside = {"prefix": f".{entry.name}.", "dir": entry.parent}
        with tempfile.TemporaryDirectory(**beside, ignore_cleanup_errors=True) as temporary:
            _write(Path(temporary), collection)
            if not opened(entry):  # else another process was faster
                shutil.rmtree(entry, ignore_errors=True)
                os.rename(temporary, entry)
    except OSError as problem:
        if not opened(entry):
            raise NotWritable(entry.parent, problem) from None


def _write(folder: Path, collection: Collection) -> None:
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(collection, name), allow_pickle=False)
    digests = {name: file_digest(folder / f"{name}.npy") for name in ARRAYS}
    names = {name: getattr(collection, name) for name in NAMES}
    write_json(folder / "collection.json", names | {"sha256": digests})


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; "" if there is no such file."""
    if not Path(path).exists():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digest() -> str:
    """Name what computes the pixels, this package's files and the libraries under them.

    An edit empties the cache.
    """
    here = Path(__file__).parent
    files = {path.relative_to(here).as_posix(): file_digest(path) for path in here.rglob("*.py")}
    return digest(files | {name: version(name) for name in ("numpy", "pillow", "scipy")})
