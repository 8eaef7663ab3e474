"""The numbers of a package, as safetensors: images, labels and step size, checked before and after
they are loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from medddist.base.errors import InputError
from medddist.sharing.manifest import DATA, Manifest, shortened, strict_json

MAX_HEADER_BYTES = 4096  # of three tensors it takes 250
MAX_DEVIATIONS = 1e4  # of a pixel, in standard deviations; nothing that was learned comes near
BYTES = {"F32": 4, "I64": 8}


@dataclass(frozen=True)
class Contents:
    """images (N, C, S, S) float32, standardised; targets (N,) int64 classes or (N, K) float32
    probabilities; step_size ().
    """

    images: Tensor
    targets: Tensor
    step_size: Tensor


def packed(contents: Contents) -> bytes:
    tensors = {
        "images": contents.images,
        "targets": contents.targets,
        "step_size": contents.step_size,
    }
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpacked(content: bytes, manifest: Manifest) -> Contents:
    """The tensors in these bytes.

    Raises InputError unless they are just those that the manifest announces, and usable.
    """
    _require_layout(content, _expected(manifest))
    try:
        contents = Contents(**load(content))
    except safetensors.SafetensorError as problem:
        raise InputError(shortened(f"{DATA}: cannot be read ({problem})")) from None
    _require_values(contents, manifest)
    return contents


def _expected(manifest: Manifest) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each tensor."""
    count, classes = sum(manifest.images), len(manifest.class_names)
    targets = ("I64", [count]) if manifest.labels == "hard" else ("F32", [count, classes])
    return {"images": ("F32", list(manifest.shape)), "targets": targets, "step_size": ("F32", [])}


def _require_layout(content: bytes, expected: dict[str, tuple[str, list[int]]]) -> None:
    """Read the header by hand: so nothing is allocated that the bytes at hand do not already take."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise InputError(
            DATA, f"is not a safetensors file with a header of 2 to {MAX_HEADER_BYTES} bytes"
        )
    header = strict_json(content[8 : 8 + length], f"{DATA}: its header")
    if not isinstance(header, dict) or header.keys() != expected.keys():
        raise InputError(DATA, f"does not hold just {', '.join(expected)}")
    ends = [0]
    for name, entry in sorted(header.items(), key=lambda item: _begin(*item)):
        ends.append(_end(name, entry, expected[name], begin=ends[-1]))
    if ends[-1] != len(content) - 8 - length:
        raise InputError(
            DATA, f"its tensors take {ends[-1]} bytes and {len(content) - 8 - length} are there"
        )


def _begin(name: str, entry: Any) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise InputError(DATA, f"{name} has no place in the file")
    return offsets[0]


def _end(name: str, entry: dict[str, Any], expected: tuple[str, list[int]], begin: int) -> int:
    """Where a tensor ends that begins where the one before it ended."""
    kind, shape = expected
    if (
        entry.keys() != {"dtype", "shape", "data_offsets"}
        or (entry["dtype"], entry["shape"]) != expected
    ):
        told = f"{entry.get('dtype')} of shape {entry.get('shape')}"
        raise InputError(
            shortened(
                f"{DATA}: {name} is {told}, and the manifest announces {kind} of shape {shape}"
            )
        )
    end = begin + BYTES[kind] * math.prod(shape)
    if entry["data_offsets"] != [begin, end]:
        raise InputError(DATA, f"{name} does not lie where its shape says")
    return end


def _require_values(contents: Contents, manifest: Manifest) -> None:
    images, targets, classes = contents.images, contents.targets, len(manifest.class_names)
    if not images.isfinite().all():
        raise InputError(DATA, "images have pixels that are NaN or infinite")
    if images.abs().max() > MAX_DEVIATIONS:
        raise InputError(DATA, f"images have pixels beyond {MAX_DEVIATIONS:g} standard deviations")
    if manifest.labels == "soft":
        if not (
            targets.isfinite().all()
            and (targets >= 0).all()
            and (targets.sum(1) - 1).abs().max() <= 1e-3
        ):
            raise InputError(DATA, "targets are not probabilities that sum to 1")
        targets = targets.argmax(1)
    elif not ((targets >= 0) & (targets < classes)).all():
        raise InputError(DATA, f"targets are not classes from 0 to {classes - 1}")
    if torch.bincount(targets, minlength=classes).tolist() != list(manifest.images):
        raise InputError(DATA, "targets do not have the manifest's number of images of each class")
    if contents.step_size.item() != manifest.step_size:
        raise InputError(DATA, f"step_size is not the manifest's {manifest.step_size:g}")
