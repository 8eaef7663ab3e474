"""One image: from a file to pixels, and from pixels of any size to the study's size.

Declared here, since no source of the paper says it: images are stretched to a square by PIL's
    bilinear filter, which averages over the whole area when it reduces. EXIF orientation is
    ignored. Transparency is laid on black, the air of a radiograph. More than 8 bits a pixel are
    scaled from the image's own lowest to its own highest value, because a file
does not say how many of its 16 bits are used: a 12-bit radiograph scaled by 65,535 would be nearly
    black.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medddist.base.errors import InputError, shown

MAX_PIXELS = 100_000_000  # a chest radiograph has about 20 million at most
# all of PIL's formats, but those that only name a file's kind or start another program to read it
Image.init()
FORMATS = tuple(
    sorted(set(Image.OPEN) - {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF"})
)
DICOM_SUFFIXES = {".dcm", ".dicom"}
SUFFIXES = {end for end, kind in Image.EXTENSION.items() if kind in FORMATS} | DICOM_SUFFIXES
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


class NeedsPydicom(InputError):
    """A DICOM file where pydicom is not installed: nothing is wrong with the file, so it is never
    left out silently.
    """


@dataclass(frozen=True)
class Prepared:
    """pixels: (C, S, S) uint8; hashes: of the pixels as decoded and as resized; size_px: (height,
    width) as decoded.
    """

    pixels: np.ndarray
    hashes: tuple[int, int]
    size_px: tuple[int, int]


def decoded(path: Path) -> np.ndarray:
    """(H, W) uint8 or float32, or (H, W, 3) uint8, of an image file; raises `InputError` that names
    it.
    """
    try:
        pixels = _decoded_dicom(path) if is_dicom(path) else _decoded_by_pil(path)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise _cannot_be_read(path, "no image format is recognised in it") from None
    except MemoryError:
        raise InputError(
            shown(path), "too large for this machine's memory", "make it smaller"
        ) from None
    # decoders of damaged files raise anything: IndexError, struct.error, zlib.error ...
    except Exception as problem:
        reason = " ".join(f"{problem}".replace(str(path), "it").split()) or type(problem).__name__
        raise _cannot_be_read(path, reason) from None
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        raise InputError(
            shown(path),
            "has pixels that are NaN or infinite",
            "replace it or set data.skip_unreadable=true",
        )
    return pixels


def _cannot_be_read(path: Path, reason: str) -> InputError:
    return InputError(
        shown(path),
        f"cannot be read as an image ({shown(reason)})",
        "replace it, or set data.skip_unreadable=true (--set, or the profile) to leave it out",
    )


def _decoded_by_pil(path: Path) -> np.ndarray:
    try:
        opened = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        if _has_dicom_mark(path):  # a DICOM file with the name of a picture
            return _decoded_dicom(path)
        raise
    with opened as image:
        return _pixels(path, image)


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            shown(path),
            f"has {image.width} x {image.height} pixels, {MAX_PIXELS} are the most",
            "reduce it",
        )
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(
            shown(path),
            f"has {image.n_frames} frames",
            "save the one to use as an image of its own",
        )
    image.load()
    if image.mode in WIDE_MODES:
        return np.asarray(image).astype(np.float32)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert(_plain_mode(image)))


def _plain_mode(image: Image.Image) -> str:
    return "L" if image.mode in ("1", "L") else "RGB"


def is_image(path: Path) -> bool:
    """Whether it is one by its name, or for a name that is no picture's by DICOM's mark inside."""
    return path.suffix.lower() in SUFFIXES or (path.is_file() and is_dicom(path))


def is_dicom(path: Path) -> bool:
    """Whether it is one by its ending, or for a name that is no picture's, such as 1.2.840.1, by
    the mark at byte 128.
    """
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
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        raise NeedsPydicom(
            f"{shown(path)}: is a DICOM file, and pydicom, which reads it, is not installed; "
            "pip install 'pydicom>=3'"
        ) from None
    if not _has_dicom_mark(path):
        raise InputError(
            shown(path),
            "is named as DICOM and is not a DICOM file (no mark DICM)",
            "export it again or name it as what it is, or set data.skip_unreadable=true to "
            "leave it out",
        )
    dataset = pydicom.dcmread(path)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1 or rows * columns > MAX_PIXELS:
        raise InputError(
            shown(path), f"has several frames or more than {MAX_PIXELS} pixels", "export one image"
        )
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(
            f"its photometric interpretation is {dataset.PhotometricInterpretation}, not "
            "MONOCHROME1 or 2"
        )
    seen = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(
        np.float32
    )
    return seen.max() - seen if dataset.PhotometricInterpretation == "MONOCHROME1" else seen


def prepared(pixels: np.ndarray, image_size_px: int, channels: int, value_range=None) -> Prepared:
    """(H, W) or (H, W, 3), uint8 or float -> (channels, S, S) uint8 and its hashes.

    value_range: the values that become 0 and 255 where pixels are not uint8; None takes the image's
        own.
    """
    if channels == 1 and pixels.ndim == 3:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))  # ITU-R 601 luma
    square = resized(pixels, image_size_px, value_range)
    square = np.ascontiguousarray(np.broadcast_to(square, (channels, image_size_px, image_size_px)))
    return Prepared(square, (pixel_hash(pixels), pixel_hash(square)), pixels.shape[:2])


def pixel_hash(pixels: np.ndarray) -> int:
    """64 bits of SHA-256 over type, shape and values; two unequal images in a million share it with
    chance 3e-8.
    """
    name = f"{pixels.dtype.kind}{pixels.dtype.itemsize}{pixels.shape}".encode()
    return int.from_bytes(hashlib.sha256(name + pixels.tobytes()).digest()[:8], "little")


def resized(pixels: np.ndarray, image_size_px: int, value_range=None) -> np.ndarray:
    """(H, W) -> (S, S), (H, W, 3) uint8 -> (3, S, S), uint8; the right size and type pass through
    unchanged.
    """
    if pixels.ndim == 3:
        return _to_size(pixels, image_size_px).transpose(2, 0, 1)
    if pixels.dtype == np.uint8:
        return _to_size(pixels, image_size_px)
    return eight_bit(_to_size(scaled(pixels, value_range), image_size_px))


def scaled(pixels: np.ndarray, value_range=None) -> np.ndarray:
    """Any numbers -> float32 of the same shape, 0 to 255 over `value_range` or the values' own
    range.
    """
    low, high = (float(v) for v in value_range or (pixels.min(), pixels.max()))
    return ((pixels.astype(np.float64) - low) / ((high - low) or 1.0) * 255).astype(np.float32)


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _to_size(pixels: np.ndarray, image_size_px: int) -> np.ndarray:
    if pixels.shape[:2] == (image_size_px, image_size_px):
        return pixels
    image = Image.fromarray(pixels).resize(
        (image_size_px, image_size_px), Image.Resampling.BILINEAR
    )
    return np.asarray(image)
