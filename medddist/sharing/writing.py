"""Write a package: a released set, with all that a receiver has to know."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.base.settings import parsed
from medddist.base.version import version
from medddist.data import Data
from medddist.measure.neighbours import nearness
from medddist.method.distill import Distillation
from medddist.method.distilled import Distilled
from medddist.sharing import archive
from medddist.sharing import manifest as form
from medddist.sharing.card import card
from medddist.sharing.guarantees import Guarantee, Released
from medddist.sharing.manifest import Copies, File, Made, Manifest, Source
from medddist.sharing.signature import signed
from medddist.sharing.tensors import tensors_of, unpacked

STATED = {
    "description": "A distilled data set",
    "creator": "not stated",
    "licence": "not stated; ask the creator before using it",
    "intended_use": "training of image classifiers in research",
}
MAX_PREVIEWS, PREVIEW_COLUMNS = 50, 10
MADE_WITH = ("medddist", "torch", "numpy", "safetensors", "pillow")


@dataclass(frozen=True)
class Contents:
    """What a package is made of.

    Args:
        distillation: the released set, and how it was made.
        data: the real images that it was distilled from.
        seed: of the distillation.
        settings: that it was made with, and is to be trained with.
        guarantee: what differential privacy holds for the set; None where nothing is guaranteed.
    """

    distillation: Distillation
    data: Data
    seed: int
    settings: Made
    guarantee: Guarantee | Released | None = None

    @functools.cached_property
    def copies(self) -> Copies | str:
        """Compare the images with the training images, by pixels.

        With a guarantee nothing is compared: a number would be an exact figure of the real images,
        and so would be whether a package is written. The guarantee itself makes it unlikely that an
        image from noise is near to a real one.
        """
        if self.guarantee:
            return form.NOT_COMPARED
        data, released = self.data, tensors_of(self.distillation.distilled, self.data.scaling)
        pixels = released["images"] / 255
        start, random = self.distillation.initial_indices, generator("package", "nearness")
        classes = _classes(released["targets"])
        near = nearness(pixels, classes, data.train, data.test, start, random)
        levels = (near.to_training * 255).round(decimals=3)  # where single precision adds a little
        copies = int((levels <= form.COPY_LEVELS).sum())
        nearer, compared = int(near.nearer.sum()), int(near.compared.sum())
        return Copies(images=copies, nearer_to_training=nearer, compared=compared)


def require_no_exact_figures(guarantee: object, *figures: object) -> None:
    """Check that no exact figures of the real images go beside a guarantee.

    Raises InputError where there is a guarantee, or will be, and any of the figures is there.
    """
    if guarantee and any(figures):
        reason = "scores and the audit are exact figures of the real images"
        reason = f"{reason}, which the guarantee does not cover"
        raise InputError("package", reason, "say --no-measure, and not --audit")


def require_no_copies(contents: Contents) -> None:
    """Check that no image is a patient's, unchanged or nearly so. Raises InputError otherwise.

    Images of the phantom are of no patient, and may be copied.
    """
    copies = contents.copies
    if copies == form.NOT_COMPARED or not copies.images or contents.data.is_phantom:
        return
    count = len(contents.distillation.distilled.images)
    limit = f"within {form.COPY_LEVELS}/255 of a training image"
    reason = f"{copies.images} of {count} images are real ones, unchanged or nearly so ({limit})"
    remedy = "distil longer (distill.iterations, distill.learning_rate_images)"
    if contents.distillation.selected_iteration == 0:
        reason += "; validation chose the initial images, before any iteration"
        remedy = f"take the last iteration's (distill.selection=last), {remedy}"
    raise InputError("package", reason, f"{remedy}, or say --allow-copies if they may be sent")


def write_package(
    path: str | Path,
    contents: Contents,
    *,
    stated: Mapping[str, str] | None = None,
    sign_with: str | Path | None = None,
    measured: Sequence[Mapping[str, Any]] | None = None,
    audit: Mapping[str, Any] | None = None,
    allow_copies: bool = False,
) -> str:
    """Write a package, and return its ID. Equal contents give equal bytes.

    With a guarantee, the exact figures of the real images that it does not cover are withheld.

    Args:
        path: of the .zip file; one that exists is replaced.
        contents: what it is made of.
        stated: any of STATED, in the creator's words.
        sign_with: a private key's file.
        measured: rows {label, metrics} of what the set is worth on the test part.
        audit: what the set gives away, and `broken`, why the measurement shows nothing.
        allow_copies: whether images of patients may be sent unchanged.

    Raises:
        InputError: for a text that cannot be stated, a file that is not a private key, a place that
            cannot be written to, exact figures beside a guarantee, and images of patients.
    """
    require_no_exact_figures(contents.guarantee, measured, audit)
    if not allow_copies:
        require_no_copies(contents)
    values = {
        **STATED,
        **(stated or {}),
        "seed": contents.seed,
        "settings": contents.settings,
        "selected_iteration": contents.distillation.selected_iteration,
        "copies": contents.copies,
        "simulated": contents.data.is_phantom,
        "measured": form.NOT_MEASURED if measured is None else measured,
        "audit": form.NOT_MEASURED if audit is None else audit,
    }
    if contents.guarantee:
        source = Source(fingerprint=form.WITHHELD, images={})
        values |= {"privacy": contents.guarantee, "source": source}
    files = packed(contents.distillation.distilled, contents.data, values, sign_with)
    archive.write(Path(path), files)
    return hashlib.sha256(files[form.MANIFEST]).hexdigest()


def packed(
    distilled: Distilled, data: Data, values: Mapping[str, Any], sign_with: str | Path | None = None
) -> dict[str, bytes]:
    """Return the package's files by name, the manifest first.

    Args:
        distilled: the released set.
        data: the real images that it was distilled from; a guarantee's `values` withhold their
            counts and fingerprint.
        values: of the manifest, those that neither the set nor the data decide.
        sign_with: a private key's file.

    Raises:
        InputError: for what no receiver would accept.
    """
    released, scaling = tensors_of(distilled, data.scaling), data.scaling
    classes = _classes(released["targets"])
    counts = {name: part.class_counts(data.classes) for name, part in data.parts().items()}
    images = {name: count.tolist() for name, count in counts.items()}
    size = {"image_size_px": data.image_size_px, "channels": data.channels}
    versions = {name: version(name) for name in MADE_WITH}
    files = {form.DATA: save(released)}
    values = {
        "format": form.FORMAT,
        "version": form.VERSION,
        "class_names": data.class_names,
        "images": np.bincount(classes, minlength=data.classes).tolist(),
        "storage": form.STORAGE[form.VERSION],
        "labels": "hard" if released["targets"].ndim == 1 else "soft",
        "step_size": released["step_size"].item(),
        "pixels": {**size, "mean": scaling.mean, "std": scaling.std},
        "source": {"fingerprint": data.fingerprint, "images": images},
        "made_with": {"python": platform.python_version(), **versions},
        **values,
    }
    listed = lambda: {"files": _listed({form.CARD: b""} | files)}
    made = lambda: parsed(Manifest, values | listed(), "package")
    unpacked(files[form.DATA], made())  # what no receiver would accept is not sent
    files |= previews(released["images"].numpy(), classes.numpy())
    files[form.CARD] = card(made()).encode()
    manifest = made().to_bytes()
    signature = {form.SIGNATURE: signed(manifest, Path(sign_with))} if sign_with is not None else {}
    return {form.MANIFEST: manifest} | signature | dict(sorted(files.items()))


def _classes(targets: torch.Tensor) -> torch.Tensor:
    """(N,) of classes or probabilities."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def _listed(files: Mapping[str, bytes]) -> dict[str, File]:
    digest = lambda content: hashlib.sha256(content).hexdigest()
    listed = lambda content: File(bytes=len(content), sha256=digest(content))
    return {name: listed(content) for name, content in sorted(files.items())}


def previews(pixels: np.ndarray, classes: np.ndarray) -> dict[str, bytes]:
    """Draw a PNG for each of the first classes: its images (C, S, S) uint8 in rows of ten."""
    # without the channel where it is one, otherwise behind height and width
    pixels = pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)
    drawn = np.unique(classes)[:MAX_PREVIEWS].tolist()
    return {f"preview_{k:02d}.png": _png(pixels[classes == k]) for k in drawn}


def _png(pixels: np.ndarray) -> bytes:
    size_px, columns = pixels.shape[1], min(PREVIEW_COLUMNS, len(pixels))
    pictures = [Image.fromarray(image) for image in pixels]
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new(pictures[0].mode, (columns * size_px, rows * size_px))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * size_px, number // columns * size_px))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
