"""Teachers' trajectories on disk: one file per teacher, float32 (S, P), a row per epoch.

    row 0 = theta*_0,    row t = theta*_t after t epochs, or the mean of theta over epoch t.

Each row has a check sum of its own, so that reading two rows costs two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.tensors import (
    AGAIN,
    open_checked,
    require_finite,
    require_whole,
    save_checked,
    sum_of,
    values_of,
)


@dataclass(frozen=True)
class Trajectory:
    """A teacher's file. Opening it reads the header alone; `rows` reads single snapshots."""

    path: Path
    snapshots: int  # S
    parameter_count: int  # P
    about: dict  # settings, and the validation curve by epoch
    sums: tuple[str, ...]  # of each row

    def rows(self, *epochs: int) -> list[Tensor]:
        """Read the parameters (P,) of these epochs.

        Raises:
            IndexError: beyond the last snapshot.
            InputError: for a damaged row.
        """
        for epoch in epochs:
            if not 0 <= epoch < self.snapshots:
                last = self.snapshots - 1
                raise IndexError(f"{self.path}: no snapshot of epoch {epoch}; the last is {last}")
        with open_checked(self.path) as file:
            parameters = file.get_slice("parameters")
            rows = [parameters[epoch : epoch + 1][0] for epoch in epochs]
        for epoch, row in zip(epochs, rows):
            require_whole(self.path, sum_of(row) == self.sums[epoch])
        require_finite(self.path, rows, {})
        return rows


def write_trajectory(path: Path, parameters: Tensor, about: dict) -> None:
    """Write parameters (S, P) float32 and JSON values, atomically.

    Raises:
        InputError: where a parameter is not finite.
    """
    sums = [sum_of(row) for row in parameters]
    save_checked(path, {"parameters": parameters.contiguous()}, about, sums)


def open_trajectory(path: Path) -> Trajectory:
    """Open a teacher's file.

    Raises:
        InputError: for a file that is missing, damaged or of another kind.
    """
    path = Path(path)
    with open_checked(path) as file:
        if "parameters" not in file.keys():
            raise InputError(path, "has no trajectory in it", AGAIN)
        parameters = file.get_slice("parameters")
        shape, kind = parameters.get_shape(), parameters.get_dtype()
        if len(shape) != 2 or kind != "F32":
            reason = f"parameters are {kind} of shape {shape}, not float32 (snapshots, parameters)"
            raise InputError(path, reason, AGAIN)
        about, sums = values_of(file, path)
        require_whole(path, isinstance(sums, list) and len(sums) == shape[0])
        return Trajectory(path, *shape, about, tuple(sums))
