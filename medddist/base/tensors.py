"""Tensors and a JSON value in one file, with check sums."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.files import replaced_atomically

# The one entry of a file's metadata: safetensors writes several in any order, and the same result
# is the same bytes.
CHECKED = "checked"


# Of values that are not finite: a network that diverged says nothing, and what is computed from it
# less.
REFUSED = (
    "is not written, since its values are not finite; lower the learning rate that it was "
    "computed with"
)


KEPT = (
    "holds values that are not finite, kept by an earlier version; delete it and run its step again"
)


def _opened(path: Path):
    try:
        return safetensors.safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError(path, "is missing", "run the teachers step again") from None
    except (safetensors.SafetensorError, OSError) as damage:
        raise InputError(
            path,
            f"cannot be read as a trajectory ({damage})",
            "delete it and run the teachers step again",
        ) from None


def _words(file, path: Path) -> tuple[dict, list | dict | None]:
    """What it was made with, and the sums of its tensors, None where it has none."""
    metadata = file.metadata() or {}
    try:
        words = (
            json.loads(metadata[CHECKED])
            if CHECKED in metadata
            else {"about": json.loads(metadata["about"]), "sums": None}
        )
        about, sums = words["about"], words["sums"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            path, "does not say what it was made with", "delete it and run its step again"
        ) from None
    _require(path, len(metadata) == 1 and isinstance(about, dict))
    if CHECKED in metadata:
        _require(
            path,
            isinstance(sums, dict)
            and sums.get("about") == _sum_of_words(about)
            and "tensors" in sums,
        )
        return about, sums["tensors"]
    return about, None


def _require_finite(path: Path, tensors: Iterable[Tensor], about: dict, what: str) -> None:
    """Raises InputError, which says `what`, for a tensor or a word that is not finite."""
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())
    try:
        json.dumps(about, allow_nan=False)
    except ValueError:
        finite = False
    if not finite:
        raise InputError(path, what)


def _require(path: Path, whole: bool) -> None:
    if not whole:
        raise InputError(
            path,
            "is damaged (its check sums do not fit what is in it)",
            "delete it and run its step again",
        )


def _sum(tensor: Tensor) -> str:
    """Sixteen hexadecimal digits of a tensor's type, shape and values."""
    total = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def _sum_of_words(about: dict) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _save(
    path: Path, tensors: dict[str, Tensor], about: dict, sums: list[str] | dict[str, str]
) -> None:
    _require_finite(path, tensors.values(), about, REFUSED)
    about = json.loads(json.dumps(about))  # as a reader will see it
    words = json.dumps({"about": about, "sums": {"about": _sum_of_words(about), "tensors": sums}})
    with replaced_atomically(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={CHECKED: words})
        except (
            safetensors.SafetensorError
        ) as problem:  # its only reason here: the file system refused
            number = re.search(r"os error (\d+)", str(problem))
            raise (
                OSError(int(number[1]), os.strerror(int(number[1])))
                if number
                else OSError(str(problem))
            ) from None


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Tensors and a JSON value in one file, atomically: a checkpoint can not be half of one and
    half of the next.

    Raises InputError where a value is not finite.
    """
    kept = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    _save(path, kept, about, {name: _sum(value) for name, value in kept.items()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote, on the CPU.

    Raises InputError when missing, damaged or not finite.
    """
    with _opened(Path(path)) as file:
        about, sums = _words(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    _require(path, sums is None or sums == {name: _sum(value) for name, value in tensors.items()})
    _require_finite(path, tensors.values(), about, KEPT)
    return tensors, about
