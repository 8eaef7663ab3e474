"""One image: from a file to pixels, and from pixels of any size to the study's size.

Declared here, since no source of the paper says it: images are stretched to a square by PIL's
bilinear filter, which averages over the whole area when it reduces. EXIF orientation is ignored.
Transparency is laid on black, the air of a radiograph. More than 8 bits per pixel are scaled from
the image's own lowest to its own highest value, because a file does not say how many of its 16 bits
are used: a 12-bit radiograph scaled by 65,535 would be nearly black.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medddist.base.errors import InputError, require, shown

MAX_PIXELS = 100_000_000  # a chest radiograph has about 20 million at most
Image.init()
# These only name a file's kind, or start another program to read it.
UNSAFE = {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF"}
FORMATS = tuple(sorted(set(Image.OPEN) - UNSAFE))
DICOM_SUFFIXES = {".dcm", ".dicom"}
DICOM_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
SUFFIXES = {end for end, kind in Image.EXTENSION.items() if kind in FORMATS} | DICOM_SUFFIXES
LEAVE_OUT = "set data.skip_unreadable=true"


class NeedsPydicom(InputError):
    """A DICOM file where pydicom is not installed.

    Nothing is wrong with the file, so it is never left out silently.
    """


@dataclass(frozen=True)
class Prepared:
    """One image in the study's size.

    pixels: (C, S, S) uint8
    hashes: of the pixels as decoded and as resized
    size_px: (height, width) as decoded
    """

    pixels: np.ndarray
    hashes: tuple[int, int]
    size_px: tuple[int, int]


def decoded(path: Path) -> np.ndarray:
    """Decode an image file to (H, W) uint8 or float32, or (H, W, 3) uint8.

    Raises:
        InputError: the file cannot be read as one image.
    """
    try:
        pixels = _decoded_dicom(path) if is_dicom(path) else _decoded_by_pil(path)
        finite, remedy = bool(np.isfinite(pixels).all()), f"replace it or {LEAVE_OUT}"
        require(finite, shown(path), "has pixels that are NaN or infinite", remedy)
        return pixels
    except InputError:
        raise
    except UnidentifiedImageError:
        reason = "no image format is recognised in it"
    except MemoryError:
        reason = "too large for this machine's memory"
        raise InputError(shown(path), reason, "make it smaller") from None
    except Exception as problem:  # decoders of damaged files raise anything
        reason = " ".join(f"{problem}".replace(str(path), "it").split()) or type(problem).__name__
    remedy = f"replace it, or {LEAVE_OUT} (--set, or the profile) to leave it out"
    raise InputError(shown(path), f"cannot be read as an image ({shown(reason)})", remedy)


def _decoded_by_pil(path: Path) -> np.ndarray:
    try:
        opened = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        if _has_dicom_mark(path):  # a DICOM file with the name of a picture
            return _decoded_dicom(path)
        raise
    with opened as image:
        _require_one(path, *image.size, getattr(image, "n_frames", 1))
        image.load()
        if image.mode[0] in "IF":  # more than 8 bits per pixel
            return np.asarray(image).astype(np.float32)
        if image.has_transparency_data:
            black, image = Image.new("RGBA", image.size, "black"), image.convert("RGBA")
            image = Image.alpha_composite(black, image).convert("RGB")
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _require_one(path: Path, width: int, height: int, frames: int) -> None:
    """Refuse an image that is too large or has several frames."""
    reason = f"has {width} x {height} pixels, {MAX_PIXELS} are the most"
    require(width * height <= MAX_PIXELS, shown(path), reason, "reduce it")
    remedy = "save the one to use as an image of its own"
    require(frames <= 1, shown(path), f"has {frames} frames", remedy)


def is_image(path: Path) -> bool:
    """Tell by the name, or for a name that is no picture's by DICOM's mark inside."""
    return path.suffix.lower() in SUFFIXES or (path.is_file() and is_dicom(path))


def is_dicom(path: Path) -> bool:
    """Tell by the ending, or for a name such as 1.2.840.1 by the mark at byte 128."""
    suffix = path.suffix.lower()
    return suffix in DICOM_SUFFIXES or (suffix not in SUFFIXES and _has_dicom_mark(path))


def _has_dicom_mark(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _decoded_dicom(path: Path) -> np.ndarray:
    """The image as it is meant to be seen: rescaled, windowed if the file says how, air black."""
    try:  # an optional extra
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        reason = "is a DICOM file, and pydicom, which reads it, is not installed"
        raise NeedsPydicom(shown(path), reason, "pip install 'pydicom>=3'") from None
    reason = "is named as DICOM and is not a DICOM file (no mark DICM)"
    remedy = f"export it again or name it as what it is, or {LEAVE_OUT} to leave it out"
    require(_has_dicom_mark(path), shown(path), reason, remedy)
    dataset = pydicom.dcmread(path)
    has_pixels = any(name in dataset for name in DICOM_PIXELS)
    has_image = has_pixels and "Rows" in dataset and "Columns" in dataset
    reason = "is a DICOM file without an image (a report, an index, or incomplete)"
    require(has_image, shown(path), reason, f"remove it, or {LEAVE_OUT} to leave it out")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    _require_one(path, int(dataset.Columns), int(dataset.Rows), frames)
    kind = dataset.PhotometricInterpretation
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"its photometric interpretation is {kind}, not MONOCHROME1 or 2")
    rescaled = apply_modality_lut(dataset.pixel_array, dataset)
    pixels = apply_voi_lut(rescaled, dataset).astype(np.float32)
    return pixels.max() - pixels if kind == "MONOCHROME1" else pixels


def prepared(pixels: np.ndarray, image_size_px: int, channels: int, value_range=None) -> Prepared:
    """Resize an image and hash it.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or float.
        image_size_px: S, the side of the square.
        channels: 1 or 3.
        value_range: what becomes 0 and 255 if pixels are not uint8; None takes the image's own.
    """
    if channels == 1 and pixels.ndim == 3:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))  # ITU-R 601 luma
    square = resized(pixels, image_size_px, value_range)
    square = np.ascontiguousarray(np.broadcast_to(square, (channels, image_size_px, image_size_px)))
    return Prepared(square, (pixel_hash(pixels), pixel_hash(square)), pixels.shape[:2])


def pixel_hash(pixels: np.ndarray) -> int:
    """Return 64 bits of SHA-256 over type, shape and values.

    Among a million images, two unequal ones share it with probability 3e-8.
    """
    name = f"{pixels.dtype.kind}{pixels.dtype.itemsize}{pixels.shape}".encode()
    return int.from_bytes(hashlib.sha256(name + pixels.tobytes()).digest()[:8], "little")


def resized(pixels: np.ndarray, image_size_px: int, value_range=None) -> np.ndarray:
    """Resize (H, W) to (S, S), or (H, W, 3) uint8 to (3, S, S), as uint8.

    Pixels of the right size and type are returned unchanged.
    """
    if pixels.ndim == 3:
        return _to_size(pixels, image_size_px).transpose(2, 0, 1)
    if pixels.dtype == np.uint8:
        return _to_size(pixels, image_size_px)
    return eight_bit(_to_size(scaled(pixels, value_range), image_size_px))


def scaled(pixels: np.ndarray, value_range=None) -> np.ndarray:
    """Scale numbers to float32 from 0 to 255 over `value_range` or their own range."""
    low, high = (float(v) for v in value_range or (pixels.min(), pixels.max()))
    return ((pixels.astype(np.float64) - low) / ((high - low) or 1.0) * 255).astype(np.float32)


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Round numbers from 0 to 255 to uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _to_size(pixels: np.ndarray, image_size_px: int) -> np.ndarray:
    size = (image_size_px, image_size_px)
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
