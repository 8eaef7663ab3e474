"""The numbers of a package: images, labels and step size in one safetensors file."""

from __future__ import annotations

import torch
from safetensors.torch import load
from torch import Tensor

from medddist.base.errors import InputError
from medddist.data import Scaling
from medddist.method.distilled import Distilled
from medddist.sharing.archive import damage_refused
from medddist.sharing.manifest import DATA, Manifest

MAX_HEADER_BYTES = 4096  # that of three tensors takes 250
MAX_DEVIATIONS = 1e4  # of a float32 pixel, in standard deviations; no learned one comes near


def tensors_of(distilled: Distilled, scaling: Scaling) -> dict[str, Tensor]:
    """Return a distilled set's tensors as a package holds them, on the CPU.

    Returns:
        `images` (N, C, S, S) uint8; `targets`, classes (N,) int64 or probabilities (N, K) float32;
        `step_size` () float32.

    Raises:
        InputError: for pixels that are NaN or infinite.
    """
    images = distilled.images.detach().cpu()
    targets = distilled.targets.detach().cpu().contiguous()
    _require_finite(images)
    return {
        "images": scaling.levels(images).contiguous(),
        "targets": targets.float() if targets.is_floating_point() else targets.long(),
        "step_size": distilled.step_size.detach().cpu().float(),
    }


def unpacked(content: bytes, manifest: Manifest) -> dict[str, Tensor]:
    """Return the tensors in data.safetensors, named as in `tensors_of`, to be trained on.

    Images become standardised float32, whatever they are stored as. Raises InputError unless all
    are those that the manifest announces, and usable.
    """
    if int.from_bytes(content[:8], "little") > MAX_HEADER_BYTES:  # the reader would take 100 MB
        reason = f"is not a safetensors file with a header of at most {MAX_HEADER_BYTES} bytes"
        raise InputError(DATA, reason)
    with damage_refused(DATA):
        tensors = load(content)
    count, classes = sum(manifest.images), len(manifest.class_names)
    hard, soft = f"int64 of shape [{count}]", f"float32 of shape [{count}, {classes}]"
    announced = {
        "images": f"{manifest.storage} of shape {list(manifest.shape)}",
        "targets": hard if manifest.labels == "hard" else soft,
        "step_size": "float32 of shape []",
    }
    if tensors.keys() != announced.keys():
        raise InputError(DATA, f"does not hold exactly {', '.join(announced)}")
    for name, expected in announced.items():
        dtype, shape = str(tensors[name].dtype).removeprefix("torch."), list(tensors[name].shape)
        kind = f"{dtype} of shape {shape}"
        if kind != expected:
            raise InputError(DATA, f"{name} is {kind}, and the manifest announces {expected}")
    if manifest.storage == "uint8":
        tensors["images"] = manifest.pixels.scaling.apply(tensors["images"])
    _require_values(**tensors, manifest=manifest)
    return tensors


def _require_finite(images: Tensor) -> None:
    if not images.isfinite().all():
        raise InputError(DATA, "images have pixels that are NaN or infinite")


def _require_values(images: Tensor, targets: Tensor, step_size: Tensor, manifest: Manifest) -> None:
    classes = len(manifest.class_names)
    _require_finite(images)
    if manifest.storage == "float32" and images.abs().max() > MAX_DEVIATIONS:
        raise InputError(DATA, f"images have pixels beyond {MAX_DEVIATIONS:g} standard deviations")
    if manifest.labels == "soft":
        sums = targets.sum(1)
        if not ((targets >= 0).all() and ((sums - 1).abs() <= 1e-3).all()):  # NaN is neither
            raise InputError(DATA, "targets are not probabilities that sum to 1")
        targets = targets.argmax(1)
    elif not ((targets >= 0) & (targets < classes)).all():
        raise InputError(DATA, f"targets are not classes from 0 to {classes - 1}")
    if torch.bincount(targets, minlength=classes).tolist() != list(manifest.images):
        raise InputError(DATA, "targets do not have the manifest's number of images per class")
    if step_size.item() != manifest.step_size:
        raise InputError(DATA, f"step_size is not the manifest's {manifest.step_size:g}")
