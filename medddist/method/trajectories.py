"""Teachers' trajectories on disk: one safetensors file a teacher, a row a snapshot; and the files
of other results.

What is read is compared with sums (SHA-256, shortened) that the file carries: of each row of a
trajectory, so that reading two rows costs two, of each tensor of a result, and of the words beside
them. Files from before there were sums are read without. Values that are not finite are neither
written nor read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.tensors import KEPT, _opened, _require, _require_finite, _save, _sum, _words


@dataclass(frozen=True)
class Trajectory:
    """A teacher's file: float32 `parameters` (S, P), row t after t epochs (or the mean over epoch
    t), and what it was made with.

    Opening reads the header alone; `rows` reads just the snapshots that are asked for.
    """

    path: Path
    snapshots: int
    parameter_count: int
    about: dict  # settings, and the validation curve by epoch
    sums: tuple[str, ...] | None = None  # of each row; None in files from before there were any

    def rows(self, *epochs: int) -> list[Tensor]:
        """The parameters (P,) after each of these epochs; IndexError beyond the last snapshot."""
        for epoch in epochs:
            if not 0 <= epoch < self.snapshots:
                raise IndexError(
                    f"{self.path}: no snapshot after epoch {epoch}; it has 0 to "
                    f"{self.snapshots - 1}"
                )
        with _opened(self.path) as file:
            parameters = file.get_slice("parameters")
            rows = [parameters[epoch : epoch + 1][0] for epoch in epochs]
        for epoch, row in zip(epochs, rows):
            _require(self.path, self.sums is None or _sum(row) == self.sums[epoch])
        _require_finite(self.path, rows, {}, KEPT)
        return rows


def write_trajectory(path: Path, parameters: Tensor, about: dict) -> None:
    """Parameters (S, P) float32, whole or not at all. Raises InputError where one is not finite."""
    _save(path, {"parameters": parameters.contiguous()}, about, [_sum(row) for row in parameters])


def open_trajectory(path: Path) -> Trajectory:
    """Raises InputError for a file that is missing, damaged or of another kind."""
    path = Path(path)
    with _opened(path) as file:
        if "parameters" not in file.keys():
            raise InputError(
                path,
                "is a safetensors file without a trajectory",
                "delete it and run the teachers step again",
            )
        parameters = file.get_slice("parameters")
        shape, kind = parameters.get_shape(), parameters.get_dtype()
        if len(shape) != 2 or kind != "F32":
            raise InputError(
                path,
                f"parameters are {kind} of shape {shape}, not float32 (snapshots, parameters)",
                "delete it",
            )
        about, sums = _words(file, path)
        _require(path, sums is None or (isinstance(sums, list) and len(sums) == shape[0]))
        return Trajectory(path, *shape, about, sums and tuple(sums))
