"""Which images an audit asks about, and which of them are controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.data import Data
from medddist.study.settings import AuditSettings

GROUPS = ("starting", "control", "others", "unseen_a", "unseen_b")


@dataclass(frozen=True)
class Candidates:
    """Training indices, and test indices of unseen images, in equal numbers per class.

    A network's confidence depends on the class, so members and others have the same classes.
    """

    starting: Tensor  # initial images of the distillation
    control: Tensor  # real images that networks are trained on: the positive control
    others: Tensor  # further training images
    unseen_a: Tensor  # test images that set the threshold
    unseen_b: Tensor  # test images of the negative control
    left: Tensor  # training images that are none of these, for reference networks

    @property
    def training(self) -> Tensor:
        """All candidates that are training images."""
        return torch.cat([self.starting, self.control, self.others])

    @property
    def unseen(self) -> Tensor:
        """All candidates that are test images."""
        return torch.cat([self.unseen_a, self.unseen_b])

    def split(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Split scores of `training` and then `unseen` by group."""
        ends = np.cumsum([len(getattr(self, name)) for name in GROUPS])[:-1]
        return dict(zip(GROUPS, np.split(scores, ends)))


def candidates(
    data: Data, initial_indices: Tensor, images_per_class: int, settings: AuditSettings
) -> Candidates:
    """Draw an audit's candidates.

    Args:
        data: whose training and test images are asked about.
        initial_indices: (N,) training images that the set started from, (N, A) averaged ones.
        images_per_class: of the released set.
        settings: `seed` and `others` decide.

    Raises:
        InputError: where a class has too few training or test images.
    """
    train, test, classes = data.train, data.test, data.classes
    random = generator(settings.seed, "audit")
    free = np.ones(len(train), bool)
    free[initial_indices.flatten().numpy()] = False
    control = drawn(train.labels, train.groups, free, images_per_class, classes, random)
    free[control] = False
    fewest = int(np.bincount(train.labels[free], minlength=classes).min())
    count = min(settings.others // classes, fewest // 2)
    others = drawn(train.labels, train.groups, free, count, classes, random)
    free[others] = False
    fewest = int(test.class_counts(classes).min())
    everything = np.ones(len(test), bool)
    unseen = drawn(test.labels, test.groups, everything, fewest, classes, random)
    first = np.arange(len(unseen)) % fewest < fewest // 2  # half of each class
    if min(len(control), len(others), first.sum()) < classes:
        reason = "the smallest class has too few images"
        raise InputError("audit", reason, "give more, or lower distill.images_per_class")
    starting = _starting(data, initial_indices, settings)
    indices = (control, others, unseen[first], unseen[~first], np.flatnonzero(free))
    return Candidates(starting, *(torch.from_numpy(each) for each in indices))


def _starting(data: Data, initial_indices: Tensor, settings: AuditSettings) -> Tensor:
    """All initial images; of averaged ones, equally many per class."""
    if initial_indices.ndim == 1:
        return initial_indices
    labels, averaged = data.train.labels, np.zeros(len(data.train), bool)
    averaged[initial_indices.flatten().numpy()] = True
    fewest = int(np.bincount(labels[averaged], minlength=data.classes).min())
    random = generator(settings.seed, "audit", "averaged")
    given = labels, data.train.groups, averaged, fewest, data.classes, random
    return torch.from_numpy(drawn(*given))


def drawn(
    labels: np.ndarray,
    groups: np.ndarray,
    free: np.ndarray,
    per_class: int,
    classes: int,
    random: torch.Generator,
) -> np.ndarray:
    """Draw up to `per_class` indices of each class, images of one group together.

    Args:
        labels: (N,).
        groups: (N,).
        free: (N,) bool, which images may be drawn.
        per_class: at most so many.
        classes: K.
        random: decides the order of groups.

    Returns:
        (M,) int64 indices, class by class.
    """
    chosen = []
    for k in range(classes):
        members = np.flatnonzero((labels == k) & free)
        names = np.unique(groups[members])
        place = dict(zip(names.tolist(), torch.randperm(len(names), generator=random).tolist()))
        chosen.append(sorted(members.tolist(), key=lambda i: place[int(groups[i])])[:per_class])
    return np.concatenate(chosen).astype(np.int64)


def random_set(
    labels: Tensor, images_per_class: int, classes: int, seed: int, *name: int | str
) -> Tensor:
    """Draw indices of a random real set as large as the released one, or as there are images.

    Args:
        labels: (N,) to draw from.
        images_per_class: of the released set.
        classes: K.
        seed: of the audit.
        name: of this draw.
    """
    plain, count = labels.cpu().numpy(), len(labels)
    random = generator(seed, "audit", *name)
    everything = np.arange(count), np.ones(count, bool)
    return torch.from_numpy(drawn(plain, *everything, images_per_class, classes, random))
