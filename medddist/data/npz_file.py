"""An .npz file whose every array is checked before it is read.

numpy.load would allocate whatever a header asks for; here a header must agree with the sizes in the zip directory
first, and arrays are read front to back, some rows at a time. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown

MAX_COMPRESSION = 1040  # deflate's limit is 1032 to 1
SUSPICIOUS_BYTES = 2**30  # beyond this, what shrinks 100 to 1 is no data set
MAX_SMALL_ARRAY_BYTES = 2**28  # labels, groups, origins: 33 million numbers


@dataclass(frozen=True)
class Field:
    """One array of the file, known by its header alone."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool


class NpzFile:
    """An open .npz whose every array is checked before it is read; errors name the file and the field."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as problem:
            raise InputError(
                f"{shown(path)}: is not a readable .npz file ({problem}); save it again"
            ) from None
        self.names = {
            name.removesuffix(".npy") for name in self.zip.namelist() if name.endswith(".npy")
        }

    def refuse(self, name: str, what: str) -> InputError:
        return InputError(f"{shown(self.path)}: {name} {what}")

    def field(self, name: str) -> Field:
        """Read the header of one array and compare it with the zip directory."""
        if name not in self.names:
            raise self.refuse(
                name, f"is missing; there are: {shown(', '.join(sorted(self.names)) or 'none')}"
            )
        info = self.zip.getinfo(f"{name}.npy")
        with self._open(name) as file:
            field, start = self._header(file, name)
        declared = math.prod(field.shape) * field.dtype.itemsize
        packed = (
            info.compress_size
            * (MAX_COMPRESSION if info.compress_type == zipfile.ZIP_DEFLATED else 1)
            + 64
        )
        if declared != info.file_size - start or info.compress_size > self.path.stat().st_size:
            raise self.refuse(
                name, f"declares {declared} bytes and holds {info.file_size - start}; save it again"
            )
        if (
            info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            and info.file_size > packed
        ):
            raise self.refuse(
                name,
                f"declares {declared} bytes, more than its {info.compress_size} can unpack to; save it again",
            )
        if declared > SUSPICIOUS_BYTES and declared > 100 * info.compress_size:
            raise self.refuse(
                name,
                f"would unpack {info.compress_size} bytes to {declared}; it is refused as a zip bomb",
            )
        return field

    def _open(self, name: str):
        try:
            return self.zip.open(f"{name}.npy")
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as problem:
            raise self.refuse(name, f"cannot be opened ({problem}); save it again") from None

    def _header(self, file, name: str) -> tuple[Field, int]:
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        try:
            reader = readers[np.lib.format.read_magic(file)]
            shape, fortran_order, dtype = reader(file)
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as problem:
            raise self.refuse(
                name, f"has no readable header ({shown(problem)}); save it again"
            ) from None
        if dtype.hasobject or dtype.names:
            raise self.refuse(
                name, "holds Python objects or records, which are never loaded; save plain numbers"
            )
        if any(side < 0 for side in shape):
            raise self.refuse(name, f"has the shape {shape}; save it again")
        return Field(name, shape, dtype, fortran_order), file.tell()

    def rows(self, field: Field, rows_at_once: int) -> Iterator[np.ndarray]:
        """Read an array front to back, some rows at a time."""
        row_bytes = math.prod(field.shape[1:]) * field.dtype.itemsize
        if field.fortran_order and len(field.shape) > 1:
            raise self.refuse(field.name, "is in Fortran order; save numpy.ascontiguousarray of it")
        with self._open(field.name) as file:
            self._header(file, field.name)
            for start in range(0, field.shape[0], rows_at_once):
                count = min(rows_at_once, field.shape[0] - start)
                content = self._read(file, count * row_bytes, field.name)
                yield np.frombuffer(content, field.dtype).reshape(count, *field.shape[1:])
            self._read(file, 0, field.name)

    def _read(self, file, count: int, name: str) -> bytes:
        try:
            content = (
                file.read(count) if count else file.read()
            )  # to the end: the check sum is compared there
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as problem:
            raise self.refuse(name, f"is damaged ({problem}); get the file again") from None
        if len(content) != count:
            raise self.refuse(name, "ends early; get the file again")
        return content

    def column(self, name: str, count: int) -> np.ndarray:
        """(count,) of integers or text, from an array (count,) or (count, 1)."""
        field = self.field(name)
        if field.shape not in ((count,), (count, 1)):
            raise self.refuse(
                name,
                f"has the shape {field.shape}; one value an image is needed: ({count},) or ({count}, 1)",
            )
        if field.dtype.kind not in "iuU":
            raise self.refuse(name, f"has the type {field.dtype}; integers are needed")
        if math.prod(field.shape) * field.dtype.itemsize > MAX_SMALL_ARRAY_BYTES:
            raise self.refuse(
                name, f"is larger than {MAX_SMALL_ARRAY_BYTES} bytes; save it with a smaller type"
            )
        return np.concatenate(
            [*self.rows(field, max(count, 1)), np.empty((0, *field.shape[1:]), field.dtype)]
        ).reshape(-1)
