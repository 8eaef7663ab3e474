"""Teachers: networks trained on the real images, each leaving its trajectory in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.base.settings import Settings
from medddist.base.tensors import load_tensors, save_tensors
from medddist.method.networks import Network, initial_parameters
from medddist.method.private.dp_sgd import PrivacySettings, guarantee, train_by_dp_sgd
from medddist.method.training import Labelled, Recipe, TrainingState, train, validation_scores
from medddist.method.trajectories import Trajectory, open_trajectory, write_trajectory


class TeacherSettings(Settings):
    """How many teachers, how each is trained, and the snapshots that matching may use: after epoch
    0 to `kept_epochs`.

    A teacher stops there: what the recipe would do after it is read by nobody.
    snapshots: `last`, the parameters at an epoch's end, as in MTT; or `mean`, their mean over the
        epoch's steps, which is where a teacher goes without the noise of its last mini-batches.
    privacy: DP-SGD, for a set with a guarantee; see `privacy`. Such teachers are not the same bits
        twice.
    """

    teachers: int = Field(100, ge=1)
    recipe: Recipe = Recipe(epochs=50, batch_size=256, learning_rate=0.01)  # MTT's
    kept_epochs: int = Field(50, ge=1)  # as many as matching reads
    snapshots: Literal["last", "mean"] = "last"
    privacy: PrivacySettings | None = Field(None)
    seed: int = 0

    @model_validator(mode="after")
    def _trained_as_long_as_kept(self):
        if self.kept_epochs > self.recipe.epochs:
            raise ValueError(
                f"kept_epochs {self.kept_epochs} is more than the {self.recipe.epochs} epochs "
                "of the recipe; lower it"
            )
        return self


def teacher_path(folder: Path, index: int) -> Path:
    return Path(folder) / f"teacher_{index:03d}.safetensors"


def train_teacher(
    network: Network,
    training: Labelled,
    validation: Labelled,
    settings: TeacherSettings,
    index: int,
    folder: Path,
    *,
    progress: Progress = silent,
    save_every_seconds: float = 20.0,
) -> Trajectory:
    """Teacher `index` as a file in `folder`; read if it is there, gone on with if it was
    interrupted.

    The teacher depends on settings, data and index alone. On a CPU, with as many threads, it ends
    with the same bits however often it was stopped. Not so with `privacy`: then its noise is new,
    and the file says what is guaranteed for all of settings.teachers together.
    """
    path = teacher_path(folder, index)
    if path.exists():
        return open_trajectory(path)
    record = _Record(
        network,
        validation,
        settings,
        path.with_suffix(".unfinished"),
        save_every_seconds,
        progress,
        f"teacher {index + 1} of {settings.teachers}",
    )
    seed = (settings.seed, "teacher", index)
    start = initial_parameters(network, *seed).to(training[0].device)
    resume = record.restored(start)
    if resume is None:
        record.keep(TrainingState(0, start, torch.zeros_like(start)))
    how = {"resume": resume, "after_epoch": record.keep, "stop_after": settings.kept_epochs}
    about = {"settings": settings.model_dump(mode="json"), "index": index}
    if settings.privacy:
        about["privacy"] = guarantee(settings.privacy, settings.teachers, settings.kept_epochs)
        train_by_dp_sgd(network, start, *training, settings.recipe, settings.privacy, **how)
    else:
        train(network, start, *training, settings.recipe, seed, **how)
    about["validation"] = record.curve
    write_trajectory(path, torch.stack(record.snapshots), about)
    record.partial.unlink(missing_ok=True)
    return open_trajectory(path)


class _Record:
    """The snapshots and the validation curve of one teacher in training, saved now and then."""

    def __init__(self, network, validation, settings, partial, save_every_seconds, progress, what):
        self.network, self.validation, self.settings = network, validation, settings
        self.partial, self.save_every_seconds, self.progress = partial, save_every_seconds, progress
        self.what = what
        self.snapshots: list[Tensor] = []
        self.curve: list[dict] = []  # accuracy and balanced accuracy by epoch, from epoch 0
        self.saved_at = time.monotonic()

    def restored(self, like: Tensor) -> TrainingState | None:
        if not self.partial.exists():
            return None
        tensors, about = load_tensors(self.partial)
        self.snapshots, self.curve = list(tensors["parameters"]), about["validation"]
        return TrainingState(
            about["epoch"], tensors["theta"].to(like.device), tensors["velocity"].to(like.device)
        )

    def keep(self, state: TrainingState) -> None:
        snapshot = state.mean if self.settings.snapshots == "mean" and state.epoch else state.theta
        self.snapshots.append(snapshot.cpu())
        self.curve.append(validation_scores(self.network, snapshot, self.validation))
        if time.monotonic() - self.saved_at >= self.save_every_seconds:
            self._save(state)
        self.progress(self.what, state.epoch, self.settings.kept_epochs)

    def _save(self, state: TrainingState) -> None:
        tensors = {
            "parameters": torch.stack(self.snapshots),
            "theta": state.theta,
            "velocity": state.velocity,
        }
        save_tensors(self.partial, tensors, {"epoch": state.epoch, "validation": self.curve})
        self.saved_at = time.monotonic()
