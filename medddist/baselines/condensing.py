"""The outer loop that gradient matching and distribution matching share: images moved to lower a
loss against real batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.settings import Settings
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, Draws, augment, draw
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Diverged, Labelled

# (network, theta, a class's synthetic images, a class's real images, class) -> ()
Loss = Callable[[Network, Tensor, Tensor, Tensor, int], Tensor]


class CondenseSettings(Settings):
    """What both methods share; their numbers of iterations come from the comparison's budget."""

    real_images_per_class: int = Field(64, ge=1)  # drawn anew for each class and iteration
    learning_rate_gradient_matching: float = Field(0.1, gt=0)  # of the images, DC's
    learning_rate_distribution_matching: float = Field(1.0, gt=0)  # DM's
    momentum: float = Field(0.5, ge=0, lt=1)
    network_every: int = Field(10, ge=1)  # gradient matching: iterations before a fresh network
    network_learning_rate: float = Field(
        0.01, gt=0
    )  # gradient matching: of the network's step on the images between iterations
    augmentation: AugmentSettings = AugmentSettings()


@shared_threads()
def condense(
    loss_of: Loss,
    network: Network,
    training: Labelled,
    initial: Labelled,
    settings: CondenseSettings,
    iterations: int,
    learning_rate: float,
    network_every: int,
    seed: tuple[int | str, ...],
    progress: Progress = silent,
    what: str = "condensing",
) -> Tensor:
    """Images (M, C, H, W) that start at `initial`'s, whose labels they keep.

    Real and synthetic images of a class go through one and the same augmentation (siamese: Zhao &
    Bilen, ICML 2021). Between iterations with the same network it takes a step on the synthetic
    images (none where network_every is 1). Raises Diverged when the loss or the images are no
    longer finite.
    """
    images, labels = initial[0].clone(), initial[1]
    velocity, members = (
        torch.zeros_like(images),
        [(training[1] == k).nonzero().flatten() for k in range(int(labels.max()) + 1)],
    )
    for iteration in range(iterations):
        random = generator(*seed, "iteration", iteration)
        if iteration % network_every == 0:
            theta = initial_parameters(network, *seed, "network", iteration).to(images)
        learned, loss = images.detach().requires_grad_(), 0.0
        for k, of_class in enumerate(members):
            real = training[0][
                of_class[
                    _some(len(of_class), settings.real_images_per_class, random).to(of_class.device)
                ]
            ]
            both = siamese([learned[labels == k], real], settings.augmentation, random)
            loss = loss + loss_of(network, theta, *both, k)
        (slope,) = torch.autograd.grad(loss, learned)
        velocity = settings.momentum * velocity + slope
        images = images - learning_rate * velocity
        if not (loss.isfinite() and images.isfinite().all()):
            raise Diverged(
                "learning_rate",
                f"condensing diverged in iteration {iteration + 1} at {learning_rate:g}",
                "lower the learning rate",
            )
        if network_every > 1:
            x = augment(images, draw(len(images), random, images), settings.augmentation)
            theta = theta - settings.network_learning_rate * gradient(network, theta, x, labels)[1]
        progress(what, iteration + 1, iterations)
    return images


def siamese(
    groups: list[Tensor], settings: AugmentSettings, random: torch.Generator
) -> list[Tensor]:
    """Each (N, C, H, W) changed by the same one draw."""
    one = draw(1, random, groups[0]).uniform
    return [augment(images, Draws(one.expand(len(images), -1)), settings) for images in groups]


def _some(count: int, wanted: int, random: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=random)[:wanted]
