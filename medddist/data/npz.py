"""MedMNIST's layout: one .npz with {train,val,test}_{images,labels}, optionally *_group, *_origin.

Images are (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8, used unchanged; uint16, each image scaled
from its own minimum to its own maximum; or floats within [0, 1]. Without `val_*`, validation images
are taken from the training part. Names of classes and origins come from a .json file of the same
name beside the .npz, with `class_names` and `origins`. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, require, shown
from medddist.base.progress import Progress, silent
from medddist.data.collection import PART_NAMES, PATIENTS, TEST, TRAIN, VALIDATION, Collection
from medddist.data.images import MAX_PIXELS, Prepared, eight_bit, prepared, scaled
from medddist.data.splits import named, numbered

PARTS = {"train": TRAIN, "val": VALIDATION, "test": TEST}
MAX_DECODED_BYTES = 2**36
MAX_LABEL = 9999
SUSPICIOUS_BYTES = 2**30  # a larger array that was packed 100 to 1 is no data set
Blocks = dict[str, np.ndarray]  # images as stored, by their part's prefix


class _Npz:
    """An open .npz; errors name the file and the array."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as problem:
            reason = f"is not a readable .npz file ({problem})"
            raise InputError(shown(path), reason, "save it again") from None
        self.names = {n.removesuffix(".npy") for n in self.zip.namelist() if n.endswith(".npy")}

    def require(self, condition: bool, name: str, reason: str, remedy: str) -> None:
        """Refuse an array unless the condition holds."""
        require(condition, shown(self.path), f"{name} {reason}", remedy)

    def array(self, name: str) -> np.ndarray:
        """Read one array by numpy's reader; the zip's check sum is compared at its end."""
        known = shown(", ".join(sorted(self.names)) or "none")
        self.require(name in self.names, name, "is missing", f"the arrays are: {known}")
        info = self.zip.getinfo(f"{name}.npy")
        size, packed = info.file_size, info.compress_size
        reason = f"would unpack {packed} bytes to {size}"
        plausible = size <= max(SUSPICIOUS_BYTES, 100 * packed)
        self.require(plausible, name, reason, "it is refused as a zip bomb")
        try:
            with self.zip.open(info) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                file.read()
        except Exception as problem:  # numpy and zipfile raise anything for what is damaged
            reason = f"{name} cannot be read ({shown(problem)})"
            remedy = "save it again as plain numbers"
            raise InputError(shown(self.path), reason, remedy) from None
        return array

    def column(self, prefix: str, what: str, count: int) -> np.ndarray:
        """Read (count,) integers or text from an array (count,) or (count, 1)."""
        name, shapes = f"{prefix}_{what}", ((count,), (count, 1))
        column = self.array(name)
        remedy = f"each image needs one: {shapes[0]} or {shapes[1]}"
        self.require(column.shape in shapes, name, f"has the shape {column.shape}", remedy)
        usable = column.dtype.kind in "iuU"
        self.require(usable, name, f"has the type {column.dtype}", "integers are needed")
        return column.reshape(count)

    def images(self, prefix: str) -> np.ndarray:
        """Read one part's images as stored, of a shape and type that can be used."""
        name = f"{prefix}_images"
        images = self.array(name)
        shape, kind = images.shape, images.dtype
        usable = len(shape) in (3, 4) and shape[3:] in ((), (1,), (3,)) and 0 not in shape[1:]
        remedy = "(N, H, W), (N, H, W, 1) or (N, H, W, 3) is needed"
        self.require(usable, name, f"has the shape {shape}", remedy)
        usable = kind.kind == "f" or kind.str[1:] in ("u1", "u2")
        remedy = "uint8, uint16 or floats within [0, 1] are needed"
        self.require(usable, name, f"has the type {kind}", remedy)
        reason = f"has images of {shape[1]} x {shape[2]} pixels"
        usable = shape[1] * shape[2] <= MAX_PIXELS
        self.require(usable, name, reason, f"at most {MAX_PIXELS} pixels are read")
        return images[..., 0] if shape[3:] == (1,) else images


def read(path: Path, image_size_px: int, channels: int, progress: Progress = silent) -> Collection:
    """Read an .npz.

    Args:
        path: the file.
        image_size_px: the side of the square that each image is resized to.
        channels: 1 or 3.
        progress: called with (what, done, total).

    Raises:
        InputError: the file and the array that cannot be used.
    """
    npz = _Npz(path)
    with npz.zip:
        absent = set() if {"val_images", "val_labels"} & npz.names else {"val"}
        blocks = {prefix: npz.images(prefix) for prefix in PARTS if prefix not in absent}
        _require_one_shape(npz, blocks)
        counts = [len(block) for block in blocks.values()]
        total = sum(counts)
        if total * channels * image_size_px**2 > MAX_DECODED_BYTES:
            reason = f"{total} images at {image_size_px} px do not fit"
            raise InputError(shown(path), reason, "lower image_size_px")
        labels, groups, units, origins, *names = _known(npz, blocks)
    images = np.empty((total, channels, image_size_px, image_size_px), np.uint8)
    hashes = np.empty((total, 2), np.uint64)
    for k, image in enumerate(_prepared(npz, blocks, image_size_px, channels)):
        images[k], hashes[k] = image.pixels, image.hashes
        if (k + 1) % 1024 == 0 or k + 1 == total:
            progress("reading images", k + 1, total)
    parts = np.repeat(np.array([PARTS[prefix] for prefix in blocks], np.int8), counts)
    height, width = blocks["train"].shape[1:3]
    enlarged = f"images of {height} x {width} px were enlarged to {image_size_px} px"
    notes = (enlarged,) if min(height, width) < image_size_px else ()
    gives = tuple(PART_NAMES[PARTS[prefix]] for prefix in blocks)
    gives += () if units is None else (PATIENTS,)
    units = hashes[:, 0] if units is None else units
    return Collection(images, labels, groups, units, hashes, parts, origins, *names, notes, gives)


def _require_one_shape(npz: _Npz, blocks: Blocks) -> None:
    formats = {prefix: f"{block.shape[1:]} {block.dtype}" for prefix, block in blocks.items()}
    expected = formats["train"]
    for prefix, given in formats.items():
        reason = f"has images of {given} and train_images of {expected}"
        remedy = "all parts need one shape and type"
        npz.require(given == expected, f"{prefix}_images", reason, remedy)


def _known(npz: _Npz, blocks: Blocks) -> tuple:
    """Labels, groups, units, origins, names of classes and origins: small, thus checked first."""
    columns = [_labels(npz, prefix, len(block)) for prefix, block in blocks.items()]
    labels, groups, path = np.concatenate(columns), _optional(npz, blocks, "group"), npz.path
    names = _names(path)
    numbers = tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    class_names = names.get("class_names", numbers)
    _require_known(path, "labels", labels, class_names)
    origins, origin_names = _optional(npz, blocks, "origin"), names.get("origins")
    if origins is None:
        origins, origin_names = np.full(len(labels), -1), ()
    elif origin_names is None or origins.dtype.kind == "U":
        values, origins = np.unique(origins, return_inverse=True)
        origin_names = tuple(str(value) for value in values)
    else:
        _require_known(path, "origins", origins, origin_names)
    units = None if groups is None else named(groups)
    groups = np.arange(len(labels)) if groups is None else numbered(groups)
    return labels, groups, units, origins.astype(np.int64), class_names, origin_names


def _labels(npz: _Npz, prefix: str, count: int) -> np.ndarray:
    name, column = f"{prefix}_labels", npz.column(prefix, "labels", count)
    remedy = "integers from 0 are needed, with the classes' names in a .json beside it"
    npz.require(column.dtype.kind != "U", name, "holds text", remedy)
    low, high = (int(column.min()), int(column.max())) if count else (0, 0)
    remedy = f"integers from 0 to {MAX_LABEL} are needed"
    npz.require(0 <= low <= high <= MAX_LABEL, name, f"has labels from {low} to {high}", remedy)
    return column.astype(np.int64)


def _optional(npz: _Npz, blocks: Blocks, what: str) -> np.ndarray | None:
    """The column `what` of all parts; None where no part has it."""
    if not {f"{prefix}_{what}" for prefix in blocks} & npz.names:
        return None
    columns = [npz.column(prefix, what, len(block)) for prefix, block in blocks.items()]
    one_type = len({column.dtype.kind == "U" for column in columns}) == 1
    reason = "is text in some parts and numbers in others"
    npz.require(one_type, f"train_{what}", reason, "use one type")
    return np.concatenate(columns)


def _require_known(path: Path, what: str, values: np.ndarray, names: tuple[str, ...]) -> None:
    if len(values) and (values.min() < 0 or values.max() >= len(names)):
        beside = shown(path.with_suffix(".json").name)
        known = f"{beside} names {len(names)} ({shown(', '.join(names))})"
        reason = f"{what} go from {values.min()} to {values.max()}, {known}"
        raise InputError(shown(path), reason, "correct one of them")


def _names(path: Path) -> dict[str, tuple[str, ...]]:
    """Class and origin names from the .json beside the file, if there is one."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        known = {"class_names", "origins"} & content.keys()
        return {key: _name_list(content[key]) for key in known}
    except (ValueError, AttributeError, TypeError, KeyError, OSError) as problem:
        reason = f"cannot be read ({shown(problem)})"
        remedy = "it needs class_names (a list of unequal names) and may have origins"
        raise InputError(shown(beside), reason, f"{remedy} (number to name)") from None


def _name_list(value) -> tuple[str, ...]:
    """A list of names, or an object {"0": name, "1": name, ...}, as a tuple of unequal names."""
    names = [value[str(k)] for k in range(len(value))] if isinstance(value, dict) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError("names are not a list of text")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return tuple(names)


def _prepared(npz: _Npz, blocks: Blocks, image_size_px: int, channels: int) -> Iterator[Prepared]:
    for prefix, block in blocks.items():
        value_range = (0, 1) if block.dtype.kind == "f" else None
        for pixels in block:
            usable = not value_range or ((pixels >= 0) & (pixels <= 1)).all()
            reason = "has NaN or values outside [0, 1]"
            remedy = "scale floats to [0, 1] or save uint8"
            npz.require(usable, f"{prefix}_images", reason, remedy)
            if pixels.ndim == 3 and pixels.dtype != np.uint8:
                pixels = eight_bit(scaled(pixels, value_range))  # PIL has 8 bits per colour
            yield prepared(pixels, image_size_px, channels, value_range)
