"""MedMNIST's layout in one .npz: {train,val,test}_{images,labels}, and optionally *_group and *_origin.

Images are (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8, taken as they are; uint16, each scaled from its own lowest to
its own highest value; or floats within [0, 1], of which 1 becomes 255. `val_*` may be absent: validation then comes out
of the training part. Names of classes and origins come from a .json file of the same name beside it, with `class_names`
and `origins`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.data.collection import TEST, TRAIN, VALIDATION, Collection, Progress
from medddist.data.images import MAX_PIXELS, Prepared, eight_bit, prepared, scaled
from medddist.data.npz_file import Field, NpzFile
from medddist.data.splits import numbered

PREFIXES = {TRAIN: "train", VALIDATION: "val", TEST: "test"}
MAX_DECODED_BYTES = 2**36


def read(
    path: Path, image_size_px: int, channels: int, progress: Progress | None = None
) -> Collection:
    """Read an .npz into a `Collection`; raises `InputError` naming the file and the field."""
    npz = NpzFile(path)
    with npz.zip:
        parts = [
            part
            for part in PREFIXES
            if part != VALIDATION or {"val_images", "val_labels"} & npz.names
        ]
        fields = [_image_field(npz, f"{PREFIXES[part]}_images") for part in parts]
        _require_one_shape(npz, fields)
        counts = [field.shape[0] for field in fields]
        if sum(counts) * channels * image_size_px**2 > MAX_DECODED_BYTES:
            raise InputError(
                f"{shown(path)}: {sum(counts)} images at {image_size_px} px do not fit; lower image_size_px"
            )
        known = _known(npz, parts, counts)
        images, hashes = _images(npz, fields, image_size_px, channels, progress)
    notes = _size_notes(fields[0].shape[1:3], image_size_px)
    return Collection(images=images, hashes=hashes, notes=notes, **known)


def _known(npz: NpzFile, parts: list[int], counts: list[int]) -> dict:
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


def _image_field(npz: NpzFile, name: str) -> Field:
    field = npz.field(name)
    if (
        len(field.shape) not in (3, 4)
        or field.shape[3:] not in ((), (1,), (3,))
        or 0 in field.shape[1:]
    ):
        raise npz.refuse(
            name, f"has the shape {field.shape}; (N, H, W), (N, H, W, 1) or (N, H, W, 3) is needed"
        )
    if field.dtype.kind != "f" and field.dtype.str[1:] not in ("u1", "u2"):
        raise npz.refuse(
            name, f"has the type {field.dtype}; uint8, uint16 or floats within [0, 1] are needed"
        )
    if field.shape[1] * field.shape[2] > MAX_PIXELS:
        raise npz.refuse(
            name,
            f"has images of {field.shape[1]} x {field.shape[2]} pixels, {MAX_PIXELS} are the most",
        )
    return field


def _require_one_shape(npz: NpzFile, fields: list[Field]) -> None:
    for field in fields[1:]:
        if field.shape[1:] != fields[0].shape[1:] or field.dtype != fields[0].dtype:
            raise npz.refuse(
                field.name,
                f"has images of {field.shape[1:]} {field.dtype} and {fields[0].name} of "
                f"{fields[0].shape[1:]} {fields[0].dtype}; all parts need one shape and type",
            )


def _labels(npz: NpzFile, parts: list[int], counts: list[int]) -> np.ndarray:
    columns = []
    for part, count in zip(parts, counts):
        name = f"{PREFIXES[part]}_labels"
        column = npz.column(name, count)
        if column.dtype.kind == "U":
            raise npz.refuse(
                name,
                "holds text; integers from 0 are needed, with the classes' names in a .json beside the file",
            )
        if count and (int(column.min()) < 0 or int(column.max()) > 9999):
            raise npz.refuse(
                name,
                f"has labels from {column.min()} to {column.max()}; integers from 0 to 9999 are needed",
            )
        columns.append(column.astype(np.int64))
    return np.concatenate(columns)


def _optional(npz: NpzFile, parts: list[int], counts: list[int], what: str) -> np.ndarray | None:
    """The column `what` of all parts, None where no part has it."""
    names = [f"{PREFIXES[part]}_{what}" for part in parts]
    if not any(name in npz.names for name in names):
        return None
    columns = [npz.column(name, count) for name, count in zip(names, counts)]
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        raise npz.refuse(names[0], "is text in some parts and numbers in others; use one type")
    return np.concatenate(columns)


def _origins(
    npz: NpzFile, parts, counts, names: tuple[str, ...] | None
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
            f"{shown(path)}: {what} go from {values.min()} to {values.max()}, "
            f"{shown(path.with_suffix('.json').name)} names {len(names)} ({shown(', '.join(names))}); correct "
            "one of them"
        )


def _names(path: Path, classes: int) -> dict[str, tuple[str, ...]]:
    """Class and origin names from the .json beside the file; without one, classes are named by their numbers."""
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
            f"{shown(beside)}: cannot be read ({shown(problem)}); it needs class_names (a list of unequal names) and "
            "may have origins (number to name)"
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


def _images(
    npz: NpzFile, fields: list[Field], image_size_px: int, channels: int, progress: Progress | None
):
    """All parts' images (N, C, S, S) uint8 and their hashes (N, 2), read and resized a few at a time."""
    total, done = sum(field.shape[0] for field in fields), 0
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes = np.empty((total, 2), np.uint64)
    for field in fields:
        for block in npz.rows(field, max(1, 2**22 // math.prod(field.shape[1:]))):
            for one in _prepared(npz, field, block, image_size_px, channels):
                images[done], hashes[done] = one.pixels, one.hashes
                done += 1
            if progress:
                progress(done, total, "reading images")
    return images, hashes


def _prepared(
    npz: NpzFile, field: Field, block: np.ndarray, image_size_px: int, channels: int
) -> Iterator[Prepared]:
    if field.dtype.kind == "f" and not ((block >= 0) & (block <= 1)).all():
        raise npz.refuse(
            field.name, "has NaN or values outside [0, 1]; scale floats to [0, 1] or save uint8"
        )
    block = block[..., 0] if block.shape[3:] == (1,) else block
    value_range = (0, 1) if field.dtype.kind == "f" else None
    for pixels in block:
        if pixels.ndim == 3 and pixels.dtype != np.uint8:
            pixels = eight_bit(scaled(pixels, value_range))  # PIL has no colour of more bits
        yield prepared(pixels, image_size_px, channels, value_range)


def _size_notes(size_px: tuple[int, int], image_size_px: int) -> tuple[str, ...]:
    if min(size_px) < image_size_px:
        return (f"images of {size_px[0]} x {size_px[1]} px were enlarged to {image_size_px} px",)
    return ()
