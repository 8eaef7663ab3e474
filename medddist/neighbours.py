"""How near released images are to the training images, and whether nearer than to images that nobody trained on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medddist.networks import Network

BATCH = 512


class Neighbours(NamedTuple):
    """Of N released images, each in its class; distances are root mean squares over pixels or features."""

    start: Tensor | None  # (N,) distance to the image it started from, or to the nearest of those it is an average of
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
    """Each argument but the last two: images or features (N, ...) and classes (N,); start (N,) or (N, A) training indices, or none.

    Of two sets the larger has nearer neighbours by number alone, so the two distances are to as many images of each class.
    """
    classes, found = released[1], []
    rest = torch.ones(len(training[1]), dtype=torch.bool)
    rest[start.flatten()] = False
    for k, x in enumerate(released[0]):
        own, other = _of_class(training[1], classes[k]), _of_class(unseen[1], classes[k])
        to_own, to_other = _distances(x, training[0][own]), _distances(x, unseen[0][other])
        candidates = torch.nonzero(rest[own.cpu()]).flatten()
        drawn = candidates[torch.randperm(len(candidates), generator=random)[: len(other)]].to(to_own.device)
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


@torch.no_grad()
def features(network: Network, theta: Tensor, images: Tensor) -> Tensor:
    """(N, F) of the network's last block, each feature in standard deviations over these images."""
    module = network.loaded(theta)
    found = torch.cat([module.features(batch).flatten(1) for batch in images.split(BATCH)])
    return found / found.std(0).clamp_min(1e-6)
