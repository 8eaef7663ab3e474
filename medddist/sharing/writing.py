"""From a study to a package: the released set of one seed, with all that a receiver has to know."""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.base.settings import parsed
from medddist.data import Data
from medddist.measure.neighbours import nearness
from medddist.method.distill import Distillation
from medddist.method.matching import Distilled
from medddist.sharing import archive as container
from medddist.sharing import tensors
from medddist.sharing.card import METRICS, card
from medddist.sharing.manifest import (
    CARD,
    COPY_LEVELS,
    DATA,
    MANIFEST,
    NOT_COMPARED,
    NOT_MEASURED,
    SIGNATURE,
    WITHHELD,
    Copies,
    File,
    Manifest,
    shortened,
)

if TYPE_CHECKING:
    from medddist.study.study import Study

STATED = {
    "description": "A distilled data set",
    "creator": "not stated",
    "licence": "not stated; ask the creator before using it",
    "intended_use": "training of image classifiers in research",
}
MEASURED = ("distilled", "random_balanced", "full_good", "majority")
MAX_PREVIEWS, PREVIEW_COLUMNS = 50, 10
PACKAGES = ("medddist", "torch", "numpy", "safetensors", "pillow")


def write_package(
    study: Study,
    path: str | Path,
    stated: Mapping[str, str] | None = None,
    sign_with: str | Path | None = None,
    measure: bool = True,
    audit: bool = False,
    allow_copies: bool = False,
) -> str:
    """The first seed's set of a study as a folder or, by the name's ending, a .zip; the package's
    ID.

    stated: any of STATED, in the creator's words. sign_with: a private key's file. measure, audit:
        whether to say what the set is worth and what it gives away. The same study, the same bytes.
        Of a set with differential privacy the exact figures of the real images are withheld, which
        it does not cover. Raises InputError for what cannot be stated, a key that is none, a place
        that cannot be written to, and, unless `allow_copies`, for images that are a patient's,
        unchanged or nearly so (those of the phantom are of none).
    """
    if study.profile.teachers.privacy and (measure or audit):
        raise InputError(
            "package",
            "scores and the audit are exact figures of the real images, which "
            "teachers.privacy does not cover",
            "say --no-measure, and not --audit",
        )
    result = study.distillation()
    simulated = study.data.is_phantom
    copies = copied(study, result)
    if copies != NOT_COMPARED and copies["images"] and not (simulated or allow_copies):
        raise InputError(
            "package",
            f"{copies['images']} of {len(result.distilled.images)} images are real ones, "
            f"unchanged or nearly so (within {COPY_LEVELS}/255 of a training image)",
            "distil longer (distill.iterations, distill.learning_rate_images), or say "
            "--allow-copies if they may be sent",
        )
    about = settings_of(study) | {
        "selected_iteration": result.selected_iteration,
        "copies": copies,
        "simulated": simulated,
    }
    about |= {
        "measured": measured(study) if measure else NOT_MEASURED,
        "audit": audited(study) if audit else NOT_MEASURED,
    }
    about |= guaranteed(study)
    files = packed(result.distilled, study.data, about | STATED | dict(stated or {}), sign_with)
    container.write(Path(path), files)
    return package_id(files)


def copied(study: Study, result: Distillation) -> dict[str, int] | str:
    """A manifest's `copies`: how near the images are to the training images, by pixels.

    Under `teachers.privacy` nothing is compared: a number would be an exact figure of the real
    images, and so would be whether a package is written. That an image from noise is near to a real
    one, the guarantee itself makes unlikely.
    """
    if study.profile.teachers.privacy:
        return NOT_COMPARED
    data, released = study.data, result.distilled
    pixels = torch.from_numpy(data.pixels(released.images.detach().cpu().numpy()))
    classes = released.targets.detach().cpu()
    classes = classes if classes.ndim == 1 else classes.argmax(1)
    found = nearness(
        pixels,
        classes,
        data.train,
        data.test,
        result.initial_indices,
        generator("package", "nearness"),
    )
    near = {"nearer_to_training": int(found.nearer.sum()), "compared": int(found.compared.sum())}
    return Copies(images=int((found.to_training <= COPY_LEVELS / 255).sum()), **near).model_dump()


def guaranteed(study: Study) -> dict[str, Any]:
    """What the teachers' files say is guaranteed for what is made of them alone, and the source
    without exact figures.
    """
    if not study.profile.teachers.privacy:
        return {}
    told = [
        one.about["privacy"] for one in study.teachers()
    ]  # the same in all, but for another accountant's version
    return {
        "privacy": max(told, key=lambda one: one["epsilon"]),
        "source": {"fingerprint": WITHHELD, "images": {}},
    }


def package_id(files: Mapping[str, bytes]) -> str:
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def settings_of(study: Study) -> dict[str, Any]:
    """What a manifest holds of the study's settings."""
    profile = study.profile
    plain = lambda settings: settings.model_dump(mode="json")
    return {
        "seed": profile.seeds[0],
        "settings": {
            "network": plain(profile.network),
            "evaluation": plain(profile.evaluate),
            "distillation": plain(profile.distill),
            "teachers": plain(profile.teachers),
        },
    }


def measured(study: Study) -> list[dict[str, Any]]:
    """The released set and its references on the study's test part; of several seeds, what the
    first's set is worth.
    """
    alone = study.with_(study.profile.model_copy(update={"seeds": study.profile.seeds[:1]}))
    rows = alone.table(MEASURED)
    return [{"label": row["label"]} | {metric: row[metric] for metric in METRICS} for row in rows]


def audited(study: Study) -> dict[str, Any]:
    """What the set gives away, as far as it was measured, and what is wrong with the measurement if
    something is.
    """
    from medddist.leaks.audit import audit, broken

    told = audit(study)
    return told | {"broken": broken(told)}


def packed(
    released: Distilled, data: Data, about: Mapping[str, Any], sign_with: str | Path | None = None
) -> dict[str, bytes]:
    """The package's files by name, manifest first."""
    step_size = released.step_size.detach().cpu().float()
    contents = tensors.Contents(
        released.images.detach().cpu().float(), _targets(released), step_size
    )
    classes = contents.targets if contents.targets.ndim == 1 else contents.targets.argmax(1)
    files = {DATA: tensors.packed(contents)}
    values = {
        "format": "medddist package",
        "version": 1,
        "class_names": data.class_names,
        "images": np.bincount(classes, minlength=data.classes).tolist(),
        "labels": "hard" if contents.targets.ndim == 1 else "soft",
        "step_size": step_size.item(),
        "pixels": {
            "image_size_px": data.image_size_px,
            "channels": data.channels,
            "mean": data.scaling.mean,
            "std": data.scaling.std,
        },
        "source": {
            "fingerprint": data.fingerprint,
            "images": {
                name: part.class_counts(data.classes).tolist()
                for name, part in data.parts().items()
            },
        },
        "made_with": versions(),
        **about,
    }
    made = lambda: _manifest(values | {"files": _listed({CARD: b""} | files)})
    tensors.unpacked(files[DATA], made())  # what no receiver would accept is not sent
    files |= previews(data, contents.images.numpy(), classes.numpy())
    files[CARD] = card(made()).encode()
    manifest = made().to_bytes()
    signature = {}
    if sign_with is not None:
        from medddist.sharing.signature import signed

        signature = {SIGNATURE: signed(manifest, Path(sign_with))}
    return {MANIFEST: manifest} | signature | dict(sorted(files.items()))


def _targets(released: Distilled):
    targets = released.targets.detach().cpu()
    return targets.float() if targets.is_floating_point() else targets.long()


def _manifest(values: dict[str, Any]) -> Manifest:
    try:
        return parsed(Manifest, values, "package")
    except InputError as mistake:
        raise InputError(shortened(str(mistake))) from None


def _listed(files: Mapping[str, bytes]) -> dict[str, dict]:
    return {
        name: File(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()).model_dump()
        for name, content in sorted(files.items())
    }


def previews(data: Data, images: np.ndarray, classes: np.ndarray) -> dict[str, bytes]:
    """A PNG of each of the first classes: its images (C, S, S) in rows of ten."""
    found = {}
    for k in [k for k in range(data.classes) if (classes == k).any()][:MAX_PREVIEWS]:
        pixels = np.rint(data.pixels(images[classes == k]) * 255).astype(np.uint8)
        found[f"preview_{k:02d}.png"] = _png(_sheet(pixels))
    return found


def _sheet(pixels: np.ndarray) -> np.ndarray:
    """(N, C, S, S) -> (rows S, columns S, C), black where there are no more."""
    columns = min(PREVIEW_COLUMNS, len(pixels))
    padded = np.concatenate([pixels, np.zeros_like(pixels[:1]).repeat(-len(pixels) % columns, 0)])
    count, channels, height, width = padded.shape
    grid = padded.reshape(count // columns, columns, channels, height, width).transpose(
        0, 3, 1, 4, 2
    )
    return grid.reshape(count // columns * height, columns * width, channels)


def _png(picture: np.ndarray) -> bytes:
    drawn = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(
        drawn, format="PNG"
    )
    return drawn.getvalue()


def versions() -> dict[str, str | None]:
    from medddist.base.version import version

    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
