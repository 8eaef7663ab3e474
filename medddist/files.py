"""Files that are whole or absent: atomic writes, canonical JSON, digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medddist.errors import InputError

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}  # by Windows
MAX_NAME_BYTES = 100  # of a name before it is told from others; file systems take 255 with the ending


@contextmanager
def replaced_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes `path`'s name.

    A reader sees the old file or the new one, whole; after an exception or a kill, the old one. Raises InputError where
    the file system refuses: a full disk, a folder that is read-only or was removed.
    """
    try:
        with _replaced(Path(path)) as temporary:
            yield temporary
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InputError(f"{path}: cannot be written ({reason}); give a folder with space that can be written to") from problem


@contextmanager
def _replaced(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with replaced_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that name a JSON value: equal values, equal names, whatever the order of keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file's name, without ending, for each of these unequal names: safe in any folder, and no two are one file.

    Letters and digits of any script, dots, hyphens and underscores stay, and spaces become hyphens. Eight digits that are
    the name's own are added where anything else was replaced, or where two would be one file (also where capitals do not
    count). The result does not depend on the order of names.
    """
    stems = {name: _stem(name) for name in names}
    while clashes := _clashing(stems):
        stems |= {name: f"{stems[name]}-{_digits(name)}" for name in clashes}
    return stems


def _stem(name: str) -> str:
    given = unicodedata.normalize("NFC", name).replace(" ", "-")
    kept = "".join(c if c in "._-" or c.isalnum() or unicodedata.category(c)[0] == "M" else "-" for c in given)
    while kept and not kept[0].isalnum():
        kept = kept[1:]
    stem = kept.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(".")
    if not stem or stem.partition(".")[0].casefold() in RESERVED:
        stem = f"name-{stem}"
    return stem if stem == given else f"{stem}-{_digits(name)}"


def _clashing(stems: dict[str, str]) -> list[str]:
    same = {name: unicodedata.normalize("NFKC", stem).casefold() for name, stem in stems.items()}
    counts = Counter(same.values())
    return [name for name in stems if counts[same[name]] > 1]


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
