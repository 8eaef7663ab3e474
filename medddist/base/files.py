"""Files that are whole or absent: atomic writes, canonical JSON, digests."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import secrets
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medddist.base.errors import NotWritable

# by Windows
RESERVED = {*("con", "prn", "aux", "nul"), *(f"{p}{k}" for p in ("com", "lpt") for k in range(10))}
MAX_NAME_BYTES = 100  # before digits are added; file systems take 255 with the ending


@contextmanager
def replaced_atomically(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and takes `path`'s name.

    A reader sees the old file or the new one, whole; after an exception or a kill, the old one. The
    file's mode follows the umask; with `private`, for images of patients, it is 0600.

    Raises:
        NotWritable: where the file system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o600 if private else 0o666)  # less the umask's
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        try:
            yield temporary
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors replaces it: mode 0600
                os.chmod(temporary, mode)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as problem:
        raise NotWritable(path, problem) from problem


class _Tried(Exception):
    """Leaves `require_place` without a file."""


def require_place(path: Path) -> None:
    """Check that a file can be written at `path`, before the work whose result it is to hold.

    Raises:
        NotWritable: where the file system refuses.
    """
    with suppress(_Tried), replaced_atomically(path):
        raise _Tried


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock beside `path`: of several processes, the others wait until it is left.

    Raises:
        NotWritable: where the file system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as problem:
        raise NotWritable(path, problem) from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def private_folder(path: Path) -> None:
    """Make a folder for its owner alone (0700), and those above it as usual; existing ones stay.

    Raises:
        NotWritable: where the file system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise NotWritable(path, problem) from problem


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file atomically; see `replaced_atomically`."""
    with replaced_atomically(path, private) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read a value from JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest(value: Any) -> str:
    """Return sixteen hexadecimal digits of a JSON value, whatever the order of its keys."""
    plain = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    canonical = json.dumps(value, sort_keys=True, **plain)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_names(names: Iterable[str], spaces: bool = False) -> dict[str, str]:
    """Return a safe file name, without ending, for each of some different names; no two are equal.

    Letters and digits of any script, dots, hyphens and underscores stay, and spaces become hyphens
    unless `spaces` may stay.
    Eight digits of the name's hash are added where anything else was replaced, or where two names
    would be one file (also on file systems that ignore case). The order of names does not matter.
    """
    stems = {name: _stem(name, spaces) for name in names}
    while clashes := _clashing(stems):
        stems |= {name: f"{stems[name]}-{_digits(name)}" for name in clashes}
    return stems


def _stem(name: str, spaces: bool) -> str:
    given = unicodedata.normalize("NFC", name)
    given = given if spaces else given.replace(" ", "-")
    is_kept = lambda c: c in "._- " or c.isalnum() or unicodedata.category(c)[0] == "M"
    kept = "".join(c if is_kept(c) else "-" for c in given)
    kept = "".join(itertools.dropwhile(lambda c: not c.isalnum(), kept))
    stem = kept.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ")
    if not stem or stem.partition(".")[0].casefold() in RESERVED:
        stem = f"name-{stem}"
    return stem if stem == given else f"{stem}-{_digits(name)}"


def _clashing(stems: dict[str, str]) -> list[str]:
    same = {name: unicodedata.normalize("NFKC", stem).casefold() for name, stem in stems.items()}
    counts = Counter(same.values())
    return [name for name in stems if counts[same[name]] > 1]


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
