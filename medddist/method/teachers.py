"""Teachers: networks trained on the real images; each leaves its trajectory in a file.

    theta*_0 drawn at random,    theta*_{t+1} = theta*_t after one more epoch of `training.train`

Source: the expert trajectories of Cazenavette et al., CVPR 2022.
"""

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
    """Settings of the teachers and of the snapshots that matching reads.

    kept_epochs: matching reads snapshots of epochs 0 to `kept_epochs`; training stops there.
    snapshots: the parameters at an epoch's end (`last`, as in MTT), or their mean over the epoch's
        steps (`mean`), without the noise of the last mini-batches.
    privacy: train by DP-SGD, for a distilled set with a guarantee; see `private.dp_sgd`. Such a
        teacher cannot be reproduced bit by bit.
    """

    teachers: int = Field(100, ge=1)  # networks, for each seed
    recipe: Recipe = Recipe(epochs=50, batch_size=256, learning_rate=0.01)  # MTT's
    kept_epochs: int = Field(50, ge=1)
    snapshots: Literal["last", "mean"] = "last"
    privacy: PrivacySettings | None = Field(None)
    seed: int = 0  # of initial parameters and of mini-batches

    @model_validator(mode="after")
    def _trained_as_long_as_kept(self):
        if self.kept_epochs > self.recipe.epochs:
            epochs = f"the {self.recipe.epochs} epochs of the recipe"
            raise ValueError(f"kept_epochs {self.kept_epochs} is more than {epochs}; lower it")
        return self


def teacher_path(folder: Path, index: int) -> Path:
    """Return the file of a teacher."""
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
    """Train one teacher, or read its file if it exists; resume if training was interrupted.

    The teacher depends on settings, data and index alone. On one CPU with the same number of
    threads it ends with the same bits however often it was interrupted. With `privacy` it does not,
    since its noise is not reproducible; the file then states the guarantee for all
    `settings.teachers` together.

    Args:
        network: of the teacher.
        training: images and labels.
        validation: images and labels of the validation curve.
        settings: of all teachers.
        index: of this teacher, from 0.
        folder: for its file.
        progress: called after each epoch.
        save_every_seconds: between two checkpoints.

    Raises:
        InputError: for a damaged file.
        Diverged: when the loss or the parameters are no longer finite.
    """
    path = teacher_path(folder, index)
    if path.exists():
        return open_trajectory(path)
    what = f"teacher {index + 1} of {settings.teachers}"
    report = lambda epoch: progress(what, epoch, settings.kept_epochs)
    unfinished = path.with_suffix(".unfinished")
    record = _Record(network, validation, settings, unfinished, save_every_seconds, report)
    seed = (settings.seed, "teacher", index)
    start = initial_parameters(network, *seed).to(training[0].device)
    resume = record.restored(start)
    if resume is None:
        record.keep(TrainingState(0, start, torch.zeros_like(start)))
    control = {"resume": resume, "after_epoch": record.keep, "stop_after": settings.kept_epochs}
    about = {"settings": settings.model_dump(mode="json"), "index": index}
    if settings.privacy:
        about["privacy"] = guarantee(settings.privacy, settings.teachers, settings.kept_epochs)
        train_by_dp_sgd(network, start, *training, settings.recipe, settings.privacy, **control)
    else:
        train(network, start, *training, settings.recipe, seed, **control)
    about["validation"] = record.curve
    write_trajectory(path, torch.stack(record.snapshots), about)
    unfinished.unlink(missing_ok=True)
    return open_trajectory(path)


class _Record:
    """The snapshots and the validation curve of a teacher in training, saved at intervals."""

    def __init__(self, network, validation, settings, file, save_every_seconds, report):
        self.network, self.validation, self.settings = network, validation, settings
        self.file, self.save_every_seconds, self.report = file, save_every_seconds, report
        self.snapshots: list[Tensor] = []
        self.curve: list[dict] = []  # accuracy and balanced accuracy by epoch, from epoch 0
        self.saved_at = time.monotonic()

    def restored(self, like: Tensor) -> TrainingState | None:
        if not self.file.exists():
            return None
        tensors, about = load_tensors(self.file)
        self.snapshots, self.curve = list(tensors["parameters"]), about["validation"]
        theta, velocity = (tensors[name].to(like.device) for name in ("theta", "velocity"))
        return TrainingState(about["epoch"], theta, velocity)

    def keep(self, state: TrainingState) -> None:
        snapshot = state.mean if self.settings.snapshots == "mean" and state.epoch else state.theta
        self.snapshots.append(snapshot.cpu())
        self.curve.append(validation_scores(self.network, snapshot, self.validation))
        if time.monotonic() - self.saved_at >= self.save_every_seconds:
            self._save(state)
        self.report(state.epoch)

    def _save(self, state: TrainingState) -> None:
        tensors = {"theta": state.theta, "velocity": state.velocity}
        tensors |= {"parameters": torch.stack(self.snapshots)}
        save_tensors(self.file, tensors, {"epoch": state.epoch, "validation": self.curve})
        self.saved_at = time.monotonic()
