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

from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.data.collection import TEST, TRAIN, VALIDATION, Collection
from medddist.data.images import MAX_PIXELS, Prepared, eight_bit, prepared, scaled
from medddist.data.splits import numbered

PREFIXES = {TRAIN: "train", VALIDATION: "val", TEST: "test"}
MAX_DECODED_BYTES = 2**36
MAX_LABEL = 9999
SUSPICIOUS_BYTES = 2**30  # a larger array that was packed 100 to 1 is no data set
Counts = dict[str, int]  # how many images each part has, by prefix


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

    def refusal(self, name: str, reason: str, remedy: str = "") -> InputError:
        """Make an error about one array."""
        return InputError(shown(self.path), f"{name} {reason}", remedy)

    def array(self, name: str) -> np.ndarray:
        """Read one array by numpy's reader; the zip's check sum is compared at its end."""
        if name not in self.names:
            known = shown(", ".join(sorted(self.names)) or "none")
            raise self.refusal(name, "is missing", f"the arrays are: {known}")
        info = self.zip.getinfo(f"{name}.npy")
        if info.file_size > SUSPICIOUS_BYTES and info.file_size > 100 * info.compress_size:
            reason = f"would unpack {info.compress_size} bytes to {info.file_size}"
            raise self.refusal(name, reason, "it is refused as a zip bomb")
        try:
            with self.zip.open(info) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                file.read()
        except (
            Exception
        ) as problem:  # damaged, pickled or too large: numpy and zipfile raise anything
            reason = f"cannot be read ({shown(problem)})"
            raise self.refusal(name, reason, "save it again as plain numbers") from None
        return array

    def column(self, name: str, count: int) -> np.ndarray:
        """Read (count,) integers or text from an array (count,) or (count, 1)."""
        column = self.array(name)
        if column.shape not in ((count,), (count, 1)):
            remedy = f"each image needs one: ({count},) or ({count}, 1)"
            raise self.refusal(name, f"has the shape {column.shape}", remedy)
        if column.dtype.kind not in "iuU":
            raise self.refusal(name, f"has the type {column.dtype}", "integers are needed")
        return column.reshape(count)

    def images(self, name: str) -> np.ndarray:
        """Read one part's images as stored, of a shape and type that can be used."""
        images = self.array(name)
        shape, kind = images.shape, images.dtype
        if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape[1:]:
            remedy = "(N, H, W), (N, H, W, 1) or (N, H, W, 3) is needed"
            raise self.refusal(name, f"has the shape {shape}", remedy)
        if kind.kind != "f" and kind.str[1:] not in ("u1", "u2"):
            remedy = "uint8, uint16 or floats within [0, 1] are needed"
            raise self.refusal(name, f"has the type {kind}", remedy)
        if shape[1] * shape[2] > MAX_PIXELS:
            reason = f"has images of {shape[1]} x {shape[2]} pixels"
            raise self.refusal(name, reason, f"at most {MAX_PIXELS} pixels are read")
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
        has_validation = {"val_images", "val_labels"} & npz.names
        given = {k: prefix for k, prefix in PREFIXES.items() if k != VALIDATION or has_validation}
        blocks = {f"{prefix}_images": npz.images(f"{prefix}_images") for prefix in given.values()}
        _require_one_shape(npz, blocks)
        counts = [len(block) for block in blocks.values()]
        if sum(counts) * channels * image_size_px**2 > MAX_DECODED_BYTES:
            reason = f"{sum(counts)} images at {image_size_px} px do not fit"
            raise InputError(shown(path), reason, "lower image_size_px")
        known = _known(npz, dict(zip(given.values(), counts)))
    images = np.empty((sum(counts), channels, image_size_px, image_size_px), np.uint8)
    hashes = np.empty((len(images), 2), np.uint64)
    for k, image in enumerate(_prepared(npz, blocks, image_size_px, channels)):
        images[k], hashes[k] = image.pixels, image.hashes
        if (k + 1) % 1024 == 0 or k + 1 == len(images):
            progress("reading images", k + 1, len(images))
    height, width = next(iter(blocks.values())).shape[1:3]
    enlarged = f"images of {height} x {width} px were enlarged to {image_size_px} px"
    return Collection(
        images=images,
        hashes=hashes,
        parts=np.repeat(np.array(list(given), np.int8), counts),
        notes=(enlarged,) if min(height, width) < image_size_px else (),
        **known,
    )


def _require_one_shape(npz: _Npz, blocks: dict[str, np.ndarray]) -> None:
    formats = {name: f"{block.shape[1:]} {block.dtype}" for name, block in blocks.items()}
    (first, expected), *others = formats.items()
    for name, given in others:
        if given != expected:
            reason = f"has images of {given} and {first} of {expected}"
            raise npz.refusal(name, reason, "all parts need one shape and type")


def _known(npz: _Npz, counts: Counts) -> dict:
    """Labels, groups and origins with their names: checked first, since they are small."""
    labels, groups, path = _labels(npz, counts), _optional(npz, counts, "group"), npz.path
    names = _names(path)
    numbers = tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    class_names = names.get("class_names", numbers)
    _require_known(path, "labels", labels, class_names)
    origins, origin_names = _optional(npz, counts, "origin"), names.get("origins")
    if origins is None:
        origins, origin_names = np.full(len(labels), -1), ()
    elif origin_names is None or origins.dtype.kind == "U":
        values, origins = np.unique(origins, return_inverse=True)
        origin_names = tuple(str(value) for value in values)
    else:
        _require_known(path, "origins", origins, origin_names)
    return {
        "labels": labels,
        "groups": np.arange(len(labels)) if groups is None else numbered(groups),
        "origins": origins.astype(np.int64),
        "class_names": class_names,
        "origin_names": origin_names,
    }


def _labels(npz: _Npz, counts: Counts) -> np.ndarray:
    columns = []
    for prefix, count in counts.items():
        name = f"{prefix}_labels"
        column = npz.column(name, count)
        if column.dtype.kind == "U":
            remedy = "integers from 0 are needed, with the classes' names in a .json beside it"
            raise npz.refusal(name, "holds text", remedy)
        if count and (int(column.min()) < 0 or int(column.max()) > MAX_LABEL):
            reason = f"has labels from {column.min()} to {column.max()}"
            raise npz.refusal(name, reason, f"integers from 0 to {MAX_LABEL} are needed")
        columns.append(column.astype(np.int64))
    return np.concatenate(columns)


def _optional(npz: _Npz, counts: Counts, what: str) -> np.ndarray | None:
    """The column `what` of all parts; None where no part has it."""
    names = {f"{prefix}_{what}": count for prefix, count in counts.items()}
    if not names.keys() & npz.names:
        return None
    columns = [npz.column(name, count) for name, count in names.items()]
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        reason = "is text in some parts and numbers in others"
        raise npz.refusal(next(iter(names)), reason, "use one type")
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
        return {
            key: _name_list(content[key]) for key in {"class_names", "origins"} & content.keys()
        }
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


def _prepared(
    npz: _Npz, blocks: dict[str, np.ndarray], image_size_px: int, channels: int
) -> Iterator[Prepared]:
    for name, block in blocks.items():
        value_range = (0, 1) if block.dtype.kind == "f" else None
        for pixels in block:
            if value_range and not ((pixels >= 0) & (pixels <= 1)).all():
                reason = "has NaN or values outside [0, 1]"
                raise npz.refusal(name, reason, "scale floats to [0, 1] or save uint8")
            if pixels.ndim == 3 and pixels.dtype != np.uint8:
                pixels = eight_bit(scaled(pixels, value_range))  # PIL has 8 bits per colour
            yield prepared(pixels, image_size_px, channels, value_range)
