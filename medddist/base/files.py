"""Files that are whole or absent: atomic writes, canonical JSON, digests."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medddist.base.errors import NotWritable

RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{k}" for port in ("com", "lpt") for k in range(10)),
}  # by Windows
MAX_NAME_BYTES = (
    100  # of a name before it is told from others; file systems take 255 with the ending
)


@contextmanager
def replaced_atomically(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes `path`'s
    name.

    A reader sees the old file or the new one, whole; after an exception or a kill, the old one. The
    file's mode is the one that the umask gives, or with `private`, for images of patients, 0600.
    Raises NotWritable where the file system
    refuses: a full disk, a folder that is read-only or was removed.
    """
    try:
        with _replaced(Path(path), 0o600 if private else 0o666) as temporary:
            yield temporary
    except OSError as problem:
        raise NotWritable(path, problem) from problem


@contextmanager
def _replaced(path: Path, most: int):
    """most: the permissions from which the system takes the umask's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, most)
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if (
            stat.S_IMODE(temporary.stat().st_mode) != mode
        ):  # safetensors puts a file of mode 0600 in its place
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may open (0700), and those above it as usual; one that
    exists is left as it is.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise NotWritable(path, problem) from problem


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file, whole or not at all; raises as `replaced_atomically`."""
    with replaced_atomically(path, private) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(
        path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that name a JSON value: equal values, equal names, whatever the
    order of keys.
    """
    canonical = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file's name, without ending, for each of these unequal names: safe in any folder, and no
    two are one file.

    Letters and digits of any script, dots, hyphens and underscores stay, and spaces become hyphens.
    Eight digits that are the name's own are added where anything else was replaced, or where two
    would be one file (also where capitals do not count). The result does not depend on the order of
    names.
    """
    stems = {name: _stem(name) for name in names}
    while clashes := _clashing(stems):
        stems |= {name: f"{stems[name]}-{_digits(name)}" for name in clashes}
    return stems


def _stem(name: str) -> str:
    given = unicodedata.normalize("NFC", name).replace(" ", "-")
    kept = "".join(
        c if c in "._-" or c.isalnum() or unicodedata.category(c)[0] == "M" else "-" for c in given
    )
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
