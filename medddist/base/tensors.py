"""Tensors and JSON values in one safetensors file, with check sums of both.

What is read is compared with sums (SHA-256, shortened) that the file carries: of each tensor, or of
each row of a trajectory, and of the JSON values. Values that are not finite are neither written nor
read: a network that diverged says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.files import replaced_atomically

# The one entry of a file's metadata: safetensors writes several in any order, and the same result
# has to be the same bytes.
CHECKED = "checked"
AGAIN = "delete it and run its step again"


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Write tensors and JSON values atomically.

    Raises:
        InputError: where a value is not finite, or the file cannot be written.
    """
    copy = lambda value: value.detach().cpu().clone(memory_format=torch.contiguous_format)
    kept = {name: copy(value) for name, value in tensors.items()}
    save_checked(path, kept, about, {name: sum_of(value) for name, value in kept.items()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `save_tensors` wrote, on the CPU.

    Raises:
        InputError: for a file that is missing, damaged or not finite.
    """
    with open_checked(Path(path)) as file:
        about, sums = values_of(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    require_whole(path, sums == {name: sum_of(value) for name, value in tensors.items()})
    require_finite(path, tensors.values(), about)
    return tensors, about


def save_checked(
    path: Path, tensors: dict[str, Tensor], about: dict, sums: list[str] | dict[str, str]
) -> None:
    """Write contiguous CPU tensors with JSON values and the tensors' sums, atomically.

    Args:
        path: of the file.
        tensors: by name.
        about: values for JSON.
        sums: of the tensors, as a reader of this kind of file compares them.

    Raises:
        InputError: where a value is not finite.
    """
    if not _finite(tensors.values(), about):
        remedy = "lower the learning rate that it was computed with"
        raise InputError(path, "is not written, since its values are not finite", remedy)
    about = json.loads(json.dumps(about))  # as a reader will see it
    checked = {"about": about, "sums": {"about": _sum_of_values(about), "tensors": sums}}
    with replaced_atomically(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={CHECKED: json.dumps(checked)})
        except safetensors.SafetensorError as problem:  # its only reason here: the file system
            number = re.search(r"os error (\d+)", str(problem))
            reason = (int(number[1]), os.strerror(int(number[1]))) if number else (str(problem),)
            raise OSError(*reason) from None


def open_checked(path: Path) -> safetensors.safe_open:
    """Open a safetensors file, reading its header alone.

    Raises:
        InputError: for a file that is missing or cannot be read.
    """
    try:
        return safetensors.safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError(path, "is missing", "run its step again") from None
    except (safetensors.SafetensorError, OSError) as damage:
        raise InputError(path, f"cannot be read ({damage})", AGAIN) from None


def values_of(file: Any, path: Path) -> tuple[dict, list | dict]:
    """Return the JSON values of an open file and the sums of its tensors.

    Raises:
        InputError: where they are missing or do not have the sum that is written beside them.
    """
    metadata = file.metadata() or {}
    try:
        checked = json.loads(metadata[CHECKED])
        about, sums = checked["about"], checked["sums"]
        whole = sums["about"] == _sum_of_values(about) and isinstance(about, dict)
        tensors = sums["tensors"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(path, "does not say what it was made with", AGAIN) from None
    require_whole(path, whole and len(metadata) == 1)
    return about, tensors


def require_whole(path: Path, whole: bool) -> None:
    """Raise InputError for a damaged file, unless `whole`."""
    if not whole:
        raise InputError(path, "is damaged (its check sums do not match its content)", AGAIN)


def require_finite(path: Path, tensors: Iterable[Tensor], about: dict) -> None:
    """Raise InputError for a file that an earlier version wrote with values that are not finite."""
    if not _finite(tensors, about):
        raise InputError(path, "has values that are not finite", AGAIN)


def _finite(tensors: Iterable[Tensor], about: dict) -> bool:
    try:
        json.dumps(about, allow_nan=False)
    except ValueError:
        return False
    return all(bool(one.isfinite().all()) for one in tensors if one.is_floating_point())


def sum_of(tensor: Tensor) -> str:
    """Return sixteen hexadecimal digits of a tensor's type, shape and values."""
    total = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def _sum_of_values(about: dict) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
