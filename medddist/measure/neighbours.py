"""How near released images are to the training images, and whether nearer than to images that
nobody trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medddist.data.parts import Part

CHUNK_BYTES = (
    2**23
)  # of real images that are compared at once, and of their distances, in single precision


class Neighbours(NamedTuple):
    """Of N released images, each in its class; distances are root mean squares over pixels or
    features.
    """

    start: (
        Tensor | None
    )  # (N,) distance to the image it started from, or to the nearest of those it is an average of
    start_is_nearest: Tensor | None  # (N,) bool, among all training images of the class
    training: Tensor  # (N,) to the nearest of M training images that none started from
    unseen: Tensor  # (N,) to the nearest of as many, M, unseen ones
    nearest_training: Tensor  # (N,) index among all training images
    nearest_unseen: Tensor  # (N,) index among all unseen images


def neighbours(
    released: tuple[Tensor, Tensor],
    training: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    start: Tensor,
    random: torch.Generator,
) -> Neighbours:
    """Each argument but the last two: images or features (N, ...) and classes (N,); start (N,) or
    (N, A) training indices, or none.

    Of two sets the larger has nearer neighbours by number alone, so the two distances are to as
    many images of each class.
    """
    classes, found = released[1], []
    rest = torch.ones(len(training[1]), dtype=torch.bool)
    rest[start.flatten()] = False
    for k, x in enumerate(released[0]):
        own, other = _of_class(training[1], classes[k]), _of_class(unseen[1], classes[k])
        to_own, to_other = _distances(x, training[0][own]), _distances(x, unseen[0][other])
        candidates = torch.nonzero(rest[own.cpu()]).flatten()
        drawn = candidates[torch.randperm(len(candidates), generator=random)[: len(other)]].to(
            to_own.device
        )
        as_many = to_other[torch.randperm(len(other), generator=random)[: len(drawn)]]
        row = [to_own[drawn].min(), as_many.min(), own[to_own.argmin()], other[to_other.argmin()]]
        if len(start):
            at = torch.isin(own.cpu(), start[k]).to(to_own.device)
            row += [to_own[at].min(), at[to_own.argmin()]]
        found.append([value.cpu() for value in row])
    columns = [torch.stack(column) for column in zip(*found)]
    return Neighbours(*(columns[4:] or (None, None)), *columns[:4])


def _of_class(labels: Tensor, label: Tensor) -> Tensor:
    return (labels == label).nonzero().flatten()


def _distances(x: Tensor, others: Tensor) -> Tensor:
    return (others - x).flatten(1).square().mean(1).sqrt()


class Nearness(NamedTuple):
    """Of N released images; distances are root mean squares over pixels in [0, 1]."""

    to_training: Tensor  # (N,) to the nearest of all training images, of any class
    # (N,) bool: the nearest of M training images of its class is nearer than the nearest of M
    # unseen ones
    nearer: Tensor
    compared: Tensor  # (N,) bool: there are such images


def nearness(
    released: Tensor,
    classes: Tensor,
    training: Part,
    unseen: Part,
    start: Tensor,
    random: torch.Generator,
) -> Nearness:
    """How near released images (N, C, S, S) in [0, 1] of classes (N,) are to the training images,
    beside unseen ones.

    Of a class as many training images as unseen ones are asked, since of two sets the larger has
    nearer images by number
    alone: first those that the set started from (`start`, training indices), then random ones.
        Where nothing is given away, `nearer` holds for about half.
    """
    everything = np.arange(len(training))
    to_training = nearest_pixels(released, training.images, everything)
    nearer, compared = (
        torch.zeros(len(released), dtype=torch.bool),
        torch.zeros(len(released), dtype=torch.bool),
    )
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
    """(N,) distance of each image (N, C, S, S) in [0, 1] to the nearest of these rows of images (M,
    C, S, S) uint8; inf of none.

    Images are read a chunk at a time. Distances are root mean squares over pixels; that to the
    nearest is exact, and which one is the nearest is found in single precision.
    """
    x = (
        released.flatten(1).float() - 0.5
    )  # about 0, so that less is lost in the difference of squares
    squares, least = x.square().sum(1), torch.full((len(x),), torch.inf)
    nearest = torch.zeros(len(x), dtype=torch.long)
    step = max(1, CHUNK_BYTES // (4 * max(x.shape)))
    for begin in range(0, len(rows), step):
        chunk = _centred(images, rows[begin : begin + step])
        found, place = (squares[:, None] + chunk.square().sum(1) - 2 * x @ chunk.T).min(1)
        nearest = torch.where(found < least, begin + place, nearest)
        least = torch.minimum(found, least)
    if not len(rows):
        return least
    pairs = zip(x, rows[nearest.numpy()])
    return torch.stack(
        [(a - _centred(images, np.array([row]))[0]).square().mean().sqrt() for a, row in pairs]
    )


def _centred(images: np.ndarray, rows: np.ndarray) -> Tensor:
    """(len(rows), D) float32 in [-0.5, 0.5] of uint8 images."""
    return torch.from_numpy(np.asarray(images[rows], np.float32)).flatten(1) / 255 - 0.5
