"""Teachers' trajectories on disk: one safetensors file a teacher, a row a snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from medddist.errors import InputError
from medddist.files import replaced_atomically


@dataclass(frozen=True)
class Trajectory:
    """A teacher's file: float32 `parameters` (S, P), row t after t epochs (or the mean over epoch t), and what it was made with.

    Opening reads the header alone; `rows` reads just the snapshots that are asked for.
    """

    path: Path
    snapshots: int
    parameter_count: int
    about: dict  # settings, and the validation curve by epoch

    def rows(self, *epochs: int) -> list[Tensor]:
        """The parameters (P,) after each of these epochs; IndexError beyond the last snapshot."""
        for epoch in epochs:
            if not 0 <= epoch < self.snapshots:
                raise IndexError(f"{self.path}: no snapshot after epoch {epoch}; it has 0 to {self.snapshots - 1}")
        with _opened(self.path) as file:
            parameters = file.get_slice("parameters")
            return [parameters[epoch : epoch + 1][0] for epoch in epochs]


def write_trajectory(path: Path, parameters: Tensor, about: dict) -> None:
    """parameters (S, P) float32, whole or not at all."""
    with replaced_atomically(path) as temporary:
        save_file({"parameters": parameters.contiguous()}, temporary, metadata={"about": json.dumps(about)})


def open_trajectory(path: Path) -> Trajectory:
    """Raises InputError for a file that is missing, damaged or of another kind."""
    path = Path(path)
    with _opened(path) as file:
        if "parameters" not in file.keys():
            raise InputError(
                f"{path}: is a safetensors file without a trajectory; delete it and run the teachers step again"
            )
        parameters = file.get_slice("parameters")
        shape, kind = parameters.get_shape(), parameters.get_dtype()
        if len(shape) != 2 or kind != "F32":
            raise InputError(
                f"{path}: parameters are {kind} of shape {shape}, not float32 (snapshots, parameters); delete it"
            )
        return Trajectory(path, *shape, about=_about(file, path))


def _opened(path: Path):
    try:
        return safetensors.safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; run the teachers step again") from None
    except (safetensors.SafetensorError, OSError) as damage:
        raise InputError(
            f"{path}: cannot be read as a trajectory ({damage}); delete it and run the teachers step again"
        ) from None


def _about(file, path: Path) -> dict:
    try:
        return json.loads((file.metadata() or {})["about"])
    except (KeyError, json.JSONDecodeError):
        raise InputError(f"{path}: does not say what it was made with; delete it and run its step again") from None


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Tensors and a JSON value in one file, atomically: a checkpoint can not be half of one and half of the next."""
    with replaced_atomically(path) as temporary:
        save_file(
            {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()},
            temporary,
            metadata={"about": json.dumps(about)},
        )


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote, on the CPU. Raises InputError when missing or damaged."""
    with _opened(Path(path)) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _about(file, path)
