"""A package's files as bytes, in a flat folder or a .zip: bounded before they are read, written
whole or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from medddist.base.errors import InputError, NotWritable, shown
from medddist.base.files import write_bytes
from medddist.sharing.manifest import MAX_BYTES, MAX_FILES, shortened

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MAX_RATIO = 100  # unpacked to packed; float images reach 2
MAX_DIRECTORY_BYTES = 2**16  # of the list of a zip's entries
END = struct.Struct(
    "<4s4H2LH"
)  # PK 5 6, disk, disk, entries here, entries, bytes and offset of their list, comment
REGULAR = stat.S_IFREG | 0o644


class Folder:
    """The files of an open folder: `sizes` by name, and `read`."""

    def __init__(self, path: Path):
        self.handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.sizes: dict[str, int] = {}

    def list(self) -> None:
        with os.scandir(self.handle) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(about.st_mode):
                    raise InputError(
                        shown(entry.name),
                        "is no plain file (a link or a folder), and is not opened",
                    )
                _add(self.sizes, entry.name, about.st_size)

    def read(self, name: str) -> bytes:
        # No link is followed even if one took the file's place since; a pipe would not keep us
        # waiting.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.handle)
        with open(handle, "rb") as file:
            return file.read(self.sizes[name] + 1)

    def close(self) -> None:
        os.close(self.handle)


class Zip:
    """The files of an open .zip: `sizes` by name, and `read`."""

    def __init__(self, path: Path):
        self.file = open(path, "rb")
        self.sizes: dict[str, int] = {}

    def list(self) -> None:
        size = os.fstat(self.file.fileno()).st_size
        if size > MAX_BYTES + MAX_DIRECTORY_BYTES:
            raise InputError(f"has {size} bytes, {MAX_BYTES} are the most")
        _require_short_list(self.file, size)
        self.zip = zipfile.ZipFile(self.file)
        for entry in self.zip.infolist():
            self._require_plain(entry)
            _add(self.sizes, entry.filename, entry.file_size)

    @staticmethod
    def _require_plain(entry: zipfile.ZipInfo) -> None:
        name, kind = shown(entry.orig_filename)[:100], stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or kind not in (0, stat.S_IFREG):
            raise InputError(name, "is no plain file (a link or a folder), and is not opened")
        if entry.flag_bits & 0x1:
            raise InputError(name, "is encrypted", "ask for a package that is not")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                name,
                f"is compressed by method {entry.compress_type}",
                "stored and deflated are read",
            )
        if entry.file_size > MAX_RATIO * entry.compress_size:
            raise InputError(
                name,
                f"unpacks {entry.compress_size} bytes to {entry.file_size}, as a zip bomb does",
            )

    def read(self, name: str) -> bytes:
        with self.zip.open(name) as file:
            return file.read(
                self.sizes[name] + 1
            )  # beyond the end: the check sum is compared there

    def close(self) -> None:
        self.file.close()


def _require_short_list(file: io.BufferedReader, size: int) -> None:
    """Before Python's reader makes an object of every entry: how many there are, from the record
    that ends the file.
    """
    file.seek(max(size - END.size - 20, 0))
    tail = file.read()
    if len(tail) < END.size or not tail[-END.size :].startswith(b"PK\5\6"):
        raise InputError("is not a .zip file that ends with its list of entries, without a comment")
    _, _, _, _, entries, length, _, comment = END.unpack(tail[-END.size :])
    if (
        entries > MAX_FILES or length > MAX_DIRECTORY_BYTES or tail.startswith(b"PK\6\7")
    ):  # the last: 64-bit numbers
        raise InputError(
            f"lists {entries} entries in {length} bytes; {MAX_FILES} files are the most"
        )
    if comment:
        raise InputError("is not a .zip file that ends with its list of entries, without a comment")


def _add(sizes: dict[str, int], name: str, size: int) -> None:
    if not NAME.fullmatch(name):
        raise InputError(
            shown(name)[:100],
            "is no name of a file in a package (letters, digits, - _ . and no folder)",
        )
    if name in sizes:
        raise InputError(name, "is there twice")
    sizes[name] = size
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_BYTES:
        raise InputError(f"holds more than {MAX_FILES} files or {MAX_BYTES} bytes")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Folder | Zip]:
    """A package's files, listed and bounded.

    Raises InputError, without the package's name, for what is not one.
    """
    box = _tried(lambda: _box(path))
    try:
        _tried(box.list)
        yield box
    finally:
        box.close()


def _box(path: Path) -> Folder | Zip:
    if not path.exists():
        raise InputError("is not there; give a package's folder or .zip file")
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Zip(path)
    raise InputError("is neither a folder nor a file; give a package's folder or .zip file")


def read(box: Folder | Zip, name: str, most: int) -> bytes:
    """A file of an open package, if it has at most so many bytes."""
    if name not in box.sizes:
        raise InputError(name, "is missing")
    if box.sizes[name] > most:
        raise InputError(
            name, f"has {box.sizes[name]} bytes, {most} were announced or are the most"
        )
    content = _tried(lambda: box.read(name), name)
    if len(content) != box.sizes[name]:
        raise InputError(name, f"has not the {box.sizes[name]} bytes that are announced")
    return content


def _tried(read, where: str = ""):
    try:
        return read()
    except InputError:
        raise
    # of a damaged zip comes anything: BadZipFile, zlib.error, struct.error, NotImplementedError ...
    except Exception as problem:
        reason = f"cannot be read ({problem or type(problem).__name__})"
        raise InputError(shortened(f"{where}: {reason}" if where else reason)) from None


# ---- writing -------------------------------------------------------------------------------------


def write(path: Path, files: dict[str, bytes]) -> None:
    """A .zip where the name ends so, otherwise a folder; there as a whole or not at all.

    A .zip of that name is replaced, a folder with something in it is not. It is made to be sent:
    its files have the modes that the umask gives. Raises NotWritable where it cannot be written.
    """
    try:
        if path.suffix.lower() == ".zip":
            write_bytes(path, zipped(files))
        else:
            _write_folder(path, files)
    except OSError as problem:
        raise NotWritable(path, problem) from None


def zipped(files: dict[str, bytes]) -> bytes:
    """Equal files, equal bytes: in this order, stored (float images do not shrink), and of no time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, REGULAR << 16
            archive.writestr(entry, content)
    return made.getvalue()


def _write_folder(path: Path, files: dict[str, bytes]) -> None:
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(shown(path), "is there already", "give another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    temporary.mkdir()
    try:
        for name, content in files.items():
            _write_file(temporary / name, content)
        os.rename(temporary, path)  # over nothing, or an empty folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_file(path: Path, content: bytes) -> None:
    """In a folder that has no name yet, so that only its being on disk matters."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
