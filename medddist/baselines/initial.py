"""What a distillation starts from: real images, averages of real images, or noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator, seed_of
from medddist.baselines.coresets import herding, k_means
from medddist.method.distill import DistillSettings
from medddist.method.distilled import Distilled
from medddist.method.evaluate import random_real
from medddist.method.training import Labelled


def initial_set(
    training: Labelled,
    classes: int,
    settings: DistillSettings,
    features: Callable[[], np.ndarray] | None = None,
    soft_labels: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Distilled, Tensor]:
    """Choose the initial images of a distillation, and label them.

    Args:
        training: images (N, C, H, W), standardised, and labels (N,).
        classes: K, the number of classes.
        settings: `images_per_class`, `initial_images`, `labels` and `seed` decide.
        features: of the training images (N, D), called for `herding` and `kmeans`.
        soft_labels: logits (N, K) of images, called unless labels are `hard`.

    Returns:
        The initial set, and the training indices that it copies (N,) or averages (N, A); none for
        noise.

    Raises:
        InputError: where a class has too few training images.
    """
    images, labels = training
    random, size = generator(settings.seed, "initial"), settings.images_per_class
    indices = random_real(labels, size, classes, "balanced", random)
    if settings.initial_images in ("herding", "kmeans"):
        by_features = features(), labels.cpu().numpy(), size, classes
        indices = torch.from_numpy(chosen_by(settings.initial_images, settings.seed)(*by_features))
    start = images[indices.to(images.device)].clone()
    if settings.initial_images == "noise":
        start, indices = torch.randn(start.shape, generator=random).to(start), indices[:0]
    elif settings.initial_images == "average":
        indices = _averaged(labels, classes, settings, random)
        start = torch.stack([images[row.to(images.device)].mean(0) for row in indices])
    log_step_size = images.new_tensor(math.log(settings.step_size))
    given = torch.arange(classes).repeat_interleave(size).to(labels)
    if settings.labels != "hard":
        given = soft_labels(start)
    return Distilled(start, given, log_step_size), indices


def chosen_by(method: str, seed: int) -> Callable[..., np.ndarray]:
    """Return the function that chooses real images: `herding`, or `kmeans` from that seed."""
    by_clusters = functools.partial(k_means, seed=seed_of(seed, "k-means"))
    return {"herding": herding, "kmeans": by_clusters}[method]


def _averaged(
    labels: Tensor, classes: int, settings: DistillSettings, random: torch.Generator
) -> Tensor:
    """(N, A) different images of one class per row; two rows may share images."""
    count = settings.averaged_images
    if count > int(torch.bincount(labels.cpu(), minlength=classes).min()):
        reason = f"{count} are more than the training images of the smallest class"
        raise InputError("averaged_images", reason, "lower it")
    size = settings.images_per_class
    draws = [random_real(labels, count, classes, "balanced", random) for _ in range(size)]
    by_class = torch.stack(draws).view(size, classes, count)
    return by_class.transpose(0, 1).flatten(0, 1)
