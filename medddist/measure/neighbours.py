"""Nearest neighbours: are released images nearer to training images than to unseen ones?

    d(x, y) = sqrt(mean over pixels or features of (x - y)^2)
    d(x, nearest of M training images)  against  d(x, nearest of M unseen images)

Both sides have the same number M of images of the class of x, since the larger of two sets has
nearer neighbours by its size alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medddist.data.parts import Part

# of real images compared at a time, and of their distances, in single precision
CHUNK_BYTES = 2**23


class Neighbours(NamedTuple):
    """Distances d of N released images to others of their class, and the indices of the nearest.

    start: to the initial image, or to the nearest of those whose average it was; None for neither.
    start_is_nearest: whether that one is the nearest of all training images of the class.
    """

    start: Tensor | None  # (N,)
    start_is_nearest: Tensor | None  # (N,) bool
    training: Tensor  # (N,) to the nearest of M training images, none of them an initial image
    unseen: Tensor  # (N,) to the nearest of M unseen images
    nearest_training: Tensor  # (N,) index among all training images
    nearest_unseen: Tensor  # (N,) index among all unseen images


def neighbours(
    released: tuple[Tensor, Tensor],
    training: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    start: Tensor,
    random: torch.Generator,
) -> Neighbours:
    """Find the nearest training and unseen images of each released image, within its class.

    Args:
        released: images or features (N, ...), and classes (N,).
        training: the same of the training images.
        unseen: the same of images that nobody trained on.
        start: training indices (N,) or (N, A) that the released images started from, or none (0,).
        random: draws which M images are compared.
    """
    classes, rows = released[1], []
    rest = torch.ones(len(training[1]), dtype=torch.bool)
    rest[start.flatten()] = False
    for k, x in enumerate(released[0]):
        own, other = _of_class(training[1], classes[k]), _of_class(unseen[1], classes[k])
        to_own, to_other = _distances(x, training[0][own]), _distances(x, unseen[0][other])
        candidates = torch.nonzero(rest[own.cpu()]).flatten()
        order = torch.randperm(len(candidates), generator=random)
        drawn = candidates[order[: len(other)]].to(to_own.device)
        as_many = to_other[torch.randperm(len(other), generator=random)[: len(drawn)]]
        row = [to_own[drawn].min(), as_many.min(), own[to_own.argmin()], other[to_other.argmin()]]
        if len(start):
            at = torch.isin(own.cpu(), start[k]).to(to_own.device)
            row += [to_own[at].min(), at[to_own.argmin()]]
        rows.append([value.cpu() for value in row])
    columns = [torch.stack(column) for column in zip(*rows)]
    return Neighbours(*(columns[4:] or (None, None)), *columns[:4])


def _of_class(labels: Tensor, label: Tensor) -> Tensor:
    return (labels == label).nonzero().flatten()


def _distances(x: Tensor, others: Tensor) -> Tensor:
    return (others - x).flatten(1).square().mean(1).sqrt()


class Nearness(NamedTuple):
    """Distances d of N released images over pixels in [0, 1], and how they compare."""

    to_training: Tensor  # (N,) to the nearest of all training images, of any class
    nearer: Tensor  # (N,) bool: to training than to unseen images, M of its class each
    compared: Tensor  # (N,) bool: M is not 0


def nearness(
    released: Tensor,
    classes: Tensor,
    training: Part,
    unseen: Part,
    start: Tensor,
    random: torch.Generator,
) -> Nearness:
    """Compare distances to training and to unseen images, pixel by pixel.

    Where a set reveals nothing of its training images, `nearer` holds for about half of it. Initial
    images are among the M training images first, then random ones.

    Args:
        released: images (N, C, S, S) in [0, 1].
        classes: (N,).
        training: the training part.
        unseen: a part that nobody trained on.
        start: training indices that the released images started from, any shape.
        random: draws which M images are compared.
    """
    everything = np.arange(len(training))
    to_training = nearest_pixels(released, training.images, everything)
    nearer, compared = torch.zeros(2, len(released), dtype=torch.bool)
    first = np.isin(everything, start.flatten().numpy())
    for k in classes.unique().tolist():
        own, others = np.flatnonzero(training.labels == k), np.flatnonzero(unseen.labels == k)
        count = min(len(own), len(others))
        own = own[np.lexsort((_permutation(len(own), random), ~first[own]))][:count]
        others = others[_permutation(len(others), random)][:count]
        at = classes == k
        distances = (
            nearest_pixels(released[at], part.images, rows)
            for part, rows in ((training, own), (unseen, others))
        )
        nearer[at], compared[at] = torch.less(*distances), count > 0
    return Nearness(to_training, nearer, compared)


def _permutation(count: int, random: torch.Generator) -> np.ndarray:
    return torch.randperm(count, generator=random).numpy()


def nearest_pixels(released: Tensor, images: np.ndarray, rows: np.ndarray) -> Tensor:
    """Compute the distance (N,) of each released image to the nearest of other images.

    Images are read in chunks. Which one is nearest is found by |x|^2 + |y|^2 - 2 <x, y> in single
    precision; its distance is then computed exactly.

    Args:
        released: (N, C, S, S) in [0, 1].
        images: (L, C, S, S) uint8.
        rows: which of `images` are compared; without any, distances are infinite.
    """
    # centred at 0, so that the difference of squares loses fewer digits
    x = released.flatten(1).float() - 0.5
    squares, least = x.square().sum(1), torch.full((len(x),), torch.inf)
    nearest = torch.zeros(len(x), dtype=torch.long)
    step = max(1, CHUNK_BYTES // (4 * max(x.shape)))
    for begin in range(0, len(rows), step):
        chunk = _centred(images, rows[begin : begin + step])
        value, place = (squares[:, None] + chunk.square().sum(1) - 2 * x @ chunk.T).min(1)
        nearest = torch.where(value < least, begin + place, nearest)
        least = torch.minimum(value, least)
    if not len(rows):
        return least
    others = (_centred(images, np.array([row]))[0] for row in rows[nearest.numpy()])
    return torch.stack([(a - b).square().mean().sqrt() for a, b in zip(x, others)])


def _centred(images: np.ndarray, rows: np.ndarray) -> Tensor:
    """Flatten uint8 images to (len(rows), D) float32 in [-0.5, 0.5]."""
    return torch.from_numpy(np.asarray(images[rows], np.float32)).flatten(1) / 255 - 0.5
