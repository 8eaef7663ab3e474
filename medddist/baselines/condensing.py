"""Condense real images: the outer loop that gradient and distribution matching share."""

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
    momentum: float = Field(0.5, ge=0, lt=1)  # of the images' updates
    network_every: int = Field(10, ge=1)  # gradient matching: iterations before a fresh network
    # gradient matching: of the network's step on the images between iterations
    network_learning_rate: float = Field(0.01, gt=0)
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
    """Condense real images to a few synthetic ones.

    Real and synthetic images of a class go through one and the same augmentation (siamese: Zhao &
    Bilen, ICML 2021). Between iterations with the same network it takes a step on the synthetic
    images.

    Args:
        loss_of: of the method, for one class.
        network: drawn at random again and again.
        training: real images (N, C, H, W) and labels (N,).
        initial: images (M, C, H, W) to start from, and labels (M,), which stay.
        settings: what both methods share.
        iterations: steps of the images.
        learning_rate: of the images.
        network_every: iterations with the same network; with 1 the network takes no step.
        seed: of networks, batches and augmentation.
        progress: called after each iteration.
        what: the name of the work that progress shows.

    Returns:
        Images (M, C, H, W).

    Raises:
        Diverged: the loss or the images are no longer finite.
    """
    images, labels = initial[0].clone(), initial[1]
    velocity, classes = torch.zeros_like(images), range(int(labels.max()) + 1)
    members = [(training[1] == k).nonzero().flatten() for k in classes]
    for iteration in range(iterations):
        random = generator(*seed, "iteration", iteration)
        if iteration % network_every == 0:
            theta = initial_parameters(network, *seed, "network", iteration).to(images)
        learned, loss = images.detach().requires_grad_(), 0.0
        for k, own in enumerate(members):
            some = torch.randperm(len(own), generator=random)[: settings.real_images_per_class]
            real = training[0][own[some.to(own.device)]]
            both = siamese([learned[labels == k], real], settings.augmentation, random)
            loss = loss + loss_of(network, theta, *both, k)
        (slope,) = torch.autograd.grad(loss, learned)
        velocity = settings.momentum * velocity + slope
        images = images - learning_rate * velocity
        if not (loss.isfinite() and images.isfinite().all()):
            reason = f"condensing diverged in iteration {iteration + 1} at {learning_rate:g}"
            raise Diverged("learning_rate", reason, "lower the learning rate")
        if network_every > 1:
            x = augment(images, draw(len(images), random, images), settings.augmentation)
            theta = theta - settings.network_learning_rate * gradient(network, theta, x, labels)[1]
        progress(what, iteration + 1, iterations)
    return images


def siamese(
    groups: list[Tensor], settings: AugmentSettings, random: torch.Generator
) -> list[Tensor]:
    """Change each group of images (N, C, H, W) by the same one draw."""
    uniform = draw(1, random, groups[0]).uniform
    return [augment(images, Draws(uniform.expand(len(images), -1)), settings) for images in groups]
