"""MedMNIST's layout: one .npz with {train,val,test}_{images,labels}, and optionally *_group,
*_origin.

Images are (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8, used unchanged; uint16, each image scaled
from its own minimum to its own maximum; or floats within [0, 1]. Without `val_*`, validation images
are taken from the training part. Names of classes and origins come from a .json file of the same
name beside the .npz, with `class_names` and `origins`. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.data.collection import TEST, TRAIN, VALIDATION, Collection
from medddist.data.images import MAX_PIXELS, Prepared, eight_bit, prepared, scaled
from medddist.data.splits import numbered

PREFIXES = {TRAIN: "train", VALIDATION: "val", TEST: "test"}
MAX_DECODED_BYTES = 2**36
SUSPICIOUS_BYTES = 2**30  # a larger array that was packed 100 to 1 is no data set
DAMAGE = (  # what numpy and zipfile raise for members that are damaged, pickled or too large
    *(ValueError, OSError, EOFError, MemoryError, OverflowError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


class _Npz:
    """An open .npz; errors name the file and the array."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as problem:
            raise InputError(
                shown(path), f"is not a readable .npz file ({problem})", "save it again"
            ) from None
        self.names = {n.removesuffix(".npy") for n in self.zip.namelist() if n.endswith(".npy")}

    def refuse(self, name: str, what: str) -> InputError:
        return InputError(shown(self.path), f"{name} {what}")

    def array(self, name: str) -> np.ndarray:
        """Read one array by numpy's reader; the zip's check sum is compared at its end."""
        if name not in self.names:
            known = shown(", ".join(sorted(self.names)) or "none")
            raise self.refuse(name, f"is missing; the arrays are: {known}")
        info = self.zip.getinfo(f"{name}.npy")
        if info.file_size > SUSPICIOUS_BYTES and info.file_size > 100 * info.compress_size:
            sizes = f"{info.compress_size} bytes to {info.file_size}"
            raise self.refuse(name, f"would unpack {sizes}; it is refused as a zip bomb")
        try:
            with self.zip.open(info) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                file.read()
        except DAMAGE as problem:
            reason = f"cannot be read ({shown(problem)}); save it again as plain numbers"
            raise self.refuse(name, reason) from None
        return array

    def column(self, name: str, count: int) -> np.ndarray:
        """(count,) integers or text, from an array (count,) or (count, 1)."""
        column = self.array(name)
        if column.shape not in ((count,), (count, 1)):
            wanted = f"({count},) or ({count}, 1)"
            raise self.refuse(name, f"has the shape {column.shape}; each image needs one: {wanted}")
        if column.dtype.kind not in "iuU":
            raise self.refuse(name, f"has the type {column.dtype}; integers are needed")
        return column.reshape(count)


def read(path: Path, image_size_px: int, channels: int, progress: Progress = silent) -> Collection:
    """Read an .npz into a `Collection`; raises `InputError` naming the file and the array."""
    npz = _Npz(path)
    with npz.zip:
        given = {"val_images", "val_labels"} & npz.names
        parts = [part for part in PREFIXES if part != VALIDATION or given]
        blocks = {name: _images(npz, name) for name in (f"{PREFIXES[k]}_images" for k in parts)}
        _require_one_shape(npz, blocks)
        counts = [len(block) for block in blocks.values()]
        if sum(counts) * channels * image_size_px**2 > MAX_DECODED_BYTES:
            raise InputError(
                shown(path),
                f"{sum(counts)} images at {image_size_px} px do not fit",
                "lower image_size_px",
            )
        known = _known(npz, parts, counts)
    images, hashes = _resized(npz, blocks, image_size_px, channels, progress)
    size_px = next(iter(blocks.values())).shape[1:3]
    return Collection(
        images=images, hashes=hashes, notes=_size_notes(size_px, image_size_px), **known
    )


def _known(npz: _Npz, parts: list[int], counts: list[int]) -> dict:
    """All of a `Collection` but its images: read and checked first, since it is small."""
    labels, groups = _labels(npz, parts, counts), _optional(npz, parts, counts, "group")
    names = _names(npz.path, int(labels.max(initial=-1)) + 1)
    _require_known(npz.path, "labels", labels, names["class_names"])
    origins, origin_names = _origins(npz, parts, counts, names.get("origins"))
    return {
        "labels": labels,
        "groups": np.arange(sum(counts)) if groups is None else numbered(groups),
        "parts": np.repeat(np.array(parts, np.int8), counts),
        "origins": origins,
        "class_names": names["class_names"],
        "origin_names": origin_names,
    }


def _images(npz: _Npz, name: str) -> np.ndarray:
    """One part's images as stored, of a shape and type that can be used."""
    images = npz.array(name)
    shape, kind = images.shape, images.dtype
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape[1:]:
        wanted = "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        raise npz.refuse(name, f"has the shape {shape}; {wanted} is needed")
    if kind.kind != "f" and kind.str[1:] not in ("u1", "u2"):
        wanted = "uint8, uint16 or floats within [0, 1]"
        raise npz.refuse(name, f"has the type {kind}; {wanted} are needed")
    if shape[1] * shape[2] > MAX_PIXELS:
        size = f"{shape[1]} x {shape[2]} pixels"
        raise npz.refuse(name, f"has images of {size}; at most {MAX_PIXELS} pixels are read")
    return images[..., 0] if shape[3:] == (1,) else images


def _require_one_shape(npz: _Npz, blocks: dict[str, np.ndarray]) -> None:
    (first, one), *others = blocks.items()
    for name, other in others:
        if other.shape[1:] != one.shape[1:] or other.dtype != one.dtype:
            this, that = (f"{block.shape[1:]} {block.dtype}" for block in (other, one))
            what = f"has images of {this} and {first} of {that}"
            raise npz.refuse(name, f"{what}; all parts need one shape and type")


def _labels(npz: _Npz, parts: list[int], counts: list[int]) -> np.ndarray:
    columns = []
    for part, count in zip(parts, counts):
        name = f"{PREFIXES[part]}_labels"
        column = npz.column(name, count)
        if column.dtype.kind == "U":
            raise npz.refuse(
                name,
                "holds text; integers from 0 are needed, with the classes' names in a .json "
                "beside the file",
            )
        if count and (int(column.min()) < 0 or int(column.max()) > 9999):
            raise npz.refuse(
                name,
                f"has labels from {column.min()} to {column.max()}; integers from 0 to 9999 "
                "are needed",
            )
        columns.append(column.astype(np.int64))
    return np.concatenate(columns)


def _optional(npz: _Npz, parts: list[int], counts: list[int], what: str) -> np.ndarray | None:
    """The column `what` of all parts, None where no part has it."""
    names = [f"{PREFIXES[part]}_{what}" for part in parts]
    if not any(name in npz.names for name in names):
        return None
    columns = [npz.column(name, count) for name, count in zip(names, counts)]
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        raise npz.refuse(names[0], "is text in some parts and numbers in others; use one type")
    return np.concatenate(columns)


def _origins(
    npz: _Npz, parts, counts, names: tuple[str, ...] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) positions and the names they point to; -1 and no names where the file has no origins."""
    column = _optional(npz, parts, counts, "origin")
    if column is None:
        return np.full(sum(counts), -1, np.int64), ()
    values, positions = np.unique(column, return_inverse=True)
    if names is None or column.dtype.kind == "U":
        return positions.astype(np.int64), tuple(str(value) for value in values)
    _require_known(npz.path, "origins", column, names)
    return column.astype(np.int64), names


def _require_known(path: Path, what: str, values: np.ndarray, names: tuple[str, ...]) -> None:
    if len(values) and (values.min() < 0 or values.max() >= len(names)):
        raise InputError(
            shown(path),
            f"{what} go from {values.min()} to {values.max()}, "
            f"{shown(path.with_suffix('.json').name)} names {len(names)} "
            f"({shown(', '.join(names))})",
            "correct one of them",
        )


def _names(path: Path, classes: int) -> dict[str, tuple[str, ...]]:
    """Class and origin names from the .json beside the file; without one, classes are named by
    their numbers.
    """
    beside, names = (
        path.with_suffix(".json"),
        {"class_names": tuple(str(k) for k in range(classes))},
    )
    if not beside.exists():
        return names
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        for key in {"class_names", "origins"} & content.keys():
            names[key] = _name_list(content[key])
    except (ValueError, AttributeError, TypeError, KeyError, OSError) as problem:
        raise InputError(
            shown(beside),
            f"cannot be read ({shown(problem)})",
            "it needs class_names (a list of unequal names) and may have origins (number to name)",
        ) from None
    return names


def _name_list(value) -> tuple[str, ...]:
    """A list of names, or an object {"0": name, "1": name, ...}, as a tuple of unequal names."""
    names = [value[str(k)] for k in range(len(value))] if isinstance(value, dict) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError("names are not a list of text")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return tuple(names)


def _resized(
    npz: _Npz,
    blocks: dict[str, np.ndarray],
    image_size_px: int,
    channels: int,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """All parts' images (N, C, S, S) uint8 and their hashes (N, 2)."""
    total, done = sum(map(len, blocks.values())), 0
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes = np.empty((total, 2), np.uint64)
    for name, block in blocks.items():
        for one in _prepared(npz, name, block, image_size_px, channels):
            images[done], hashes[done] = one.pixels, one.hashes
            done += 1
            if done % 1024 == 0 or done == total:
                progress("reading images", done, total)
    return images, hashes


def _prepared(
    npz: _Npz, name: str, block: np.ndarray, image_size_px: int, channels: int
) -> Iterator[Prepared]:
    value_range = (0, 1) if block.dtype.kind == "f" else None
    for pixels in block:
        if value_range and not ((pixels >= 0) & (pixels <= 1)).all():
            what = "has NaN or values outside [0, 1]"
            raise npz.refuse(name, f"{what}; scale floats to [0, 1] or save uint8")
        if pixels.ndim == 3 and pixels.dtype != np.uint8:
            pixels = eight_bit(scaled(pixels, value_range))  # PIL has 8 bits per colour
        yield prepared(pixels, image_size_px, channels, value_range)


def _size_notes(size_px: tuple[int, int], image_size_px: int) -> tuple[str, ...]:
    if min(size_px) < image_size_px:
        return (f"images of {size_px[0]} x {size_px[1]} px were enlarged to {image_size_px} px",)
    return ()
