"""A package's .zip file: checked and bounded before anything in it is read, written whole or not
at all.

Nothing is ever extracted: files are read into memory by their names.
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from medddist.base.errors import InputError, shown
from medddist.base.files import write_bytes
from medddist.sharing.manifest import MAX_BYTES, MAX_FILES

WHOLE = ""  # subject of a refusal of the whole package; `open_package` puts the path in front
MAX_RATIO = 100  # of a file's size to its compressed size; float images reach 2
MAX_LIST_BYTES = 2**16  # of the list of entries at the end of a .zip
END = struct.Struct("<10xHL6x")  # the record that ends a .zip: entries, bytes of their list


class Archive:
    """A package's .zip: the `sizes` of its files by name, and `read`.

    Raises InputError for anything else, and for more than a package may hold.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            reason = "is not a file" if path.exists() else "does not exist"
            raise InputError(WHOLE, reason, "give a package's .zip file")
        with damage_refused(WHOLE):
            size = path.stat().st_size
            if size > MAX_BYTES + MAX_LIST_BYTES:
                raise InputError(WHOLE, f"has {size} bytes; at most {MAX_BYTES} are read")
            content = path.read_bytes()
            _require_short_list(content)
            self._zip, self.sizes = zipfile.ZipFile(io.BytesIO(content)), {}
            for entry in self._zip.infolist():
                _require_plain(entry, entry.filename in self.sizes)
                self.sizes[entry.filename] = entry.file_size
            if len(self.sizes) > MAX_FILES or sum(self.sizes.values()) > MAX_BYTES:
                raise InputError(WHOLE, f"holds more than {MAX_FILES} files or {MAX_BYTES} bytes")

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a file's content. Raises InputError where it is missing, too long or damaged."""
        if name not in self.sizes:
            raise InputError(name, "is missing")
        size = self.sizes[name]
        if size > max_bytes:
            raise InputError(name, f"has {size} bytes; at most {max_bytes} are expected")
        with damage_refused(name), self._zip.open(name) as file:
            content = file.read(size + 1)  # one byte more, so that the check sum is compared
        if len(content) != size:
            raise InputError(name, f"does not have the {size} bytes that the .zip lists")
        return content


def _require_short_list(content: bytes) -> None:
    """Bound the number of entries before Python's reader makes an object of each."""
    before, end = content[-END.size - 20 : -END.size], content[-END.size :]
    if len(end) < END.size or not end.startswith(b"PK\5\6") or end[-2:] != b"\0\0":
        reason = "is not a .zip file that ends with its list of entries, without a comment"
        raise InputError(WHOLE, reason, "give a whole package as `medddist package` writes it")
    entries, length = END.unpack(end)
    has_64_bit_numbers = before.startswith(b"PK\6\7")  # in a record that Python would read instead
    if entries > MAX_FILES or length > MAX_LIST_BYTES or has_64_bit_numbers:
        reason = f"lists {entries} entries in {length} bytes; at most {MAX_FILES} files are read"
        raise InputError(WHOLE, reason)


def _require_plain(entry: zipfile.ZipInfo, is_twice: bool) -> None:
    packed, unpacked, method = entry.compress_size, entry.file_size, entry.compress_type
    is_file = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG) and not entry.is_dir()
    is_known = method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    faults = {
        "is not a plain file but a link or a folder": not is_file,
        "is encrypted": entry.flag_bits & 0x1,
        f"is compressed by method {method}, which is not supported": not is_known,
        f"unpacks {packed} bytes to {unpacked}, as a zip bomb does": unpacked > MAX_RATIO * packed,
        "is in the .zip twice": is_twice,
    }
    for fault in filter(faults.get, faults):
        raise InputError(shown(entry.orig_filename)[:100], fault)


@contextlib.contextmanager
def damage_refused(name: str) -> Iterator[None]:
    """Refuse a damaged file.

    Raises InputError in place of whatever a library's reader raises within.
    """
    try:
        yield
    except InputError:
        raise
    # BadZipFile, zlib.error, struct.error, NotImplementedError, SafetensorError, KeyError ...
    except Exception as problem:
        cause = problem or type(problem).__name__
        raise InputError(name, f"cannot be read ({cause})") from None


# ---- writing -------------------------------------------------------------------------------------


def require_zip_name(path: str | Path) -> None:
    """Check the name of a package to be written. Raises InputError unless it ends in .zip."""
    if Path(path).suffix.lower() != ".zip":
        raise InputError(shown(path), "is not the name of a .zip file", "let it end in .zip")


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write a package, whole or not at all, with the permissions that the umask gives.

    A file of that name is replaced. Raises InputError unless the name ends in .zip, and
    NotWritable.
    """
    require_zip_name(path)
    write_bytes(path, zipped(files))


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a .zip: in this order, without times, and not compressed, where libraries differ.

    Equal files give equal bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
