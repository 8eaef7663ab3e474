"""What a distillation starts from: real images, averages of real images, or noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.method.distill import DistillSettings
from medddist.method.evaluate import random_real
from medddist.method.matching import Distilled
from medddist.method.training import Labelled


def initial_set(
    training: Labelled, classes: int, settings: DistillSettings
) -> tuple[Distilled, Tensor]:
    """Choose the initial images of a distillation.

    Args:
        training: images (N, C, H, W), standardised, and labels (N,).
        classes: K, the number of classes.
        settings: `images_per_class`, `initial_images`, `labels` and `seed` decide.

    Returns:
        The initial set, and the training indices that it copies (N,) or averages (N, A); none for
        noise.

    Raises:
        InputError: where a class has too few training images.
    """
    images, labels = training
    random = generator(settings.seed, "initial")
    indices = random_real(labels, settings.images_per_class, classes, "balanced", random)
    start = images[indices.to(images.device)].clone()
    if settings.initial_images == "noise":
        start, indices = torch.randn(start.shape, generator=random).to(start), indices[:0]
    elif settings.initial_images == "average":
        indices = _averaged(labels, classes, settings, random)
        start = torch.stack([images[row.to(images.device)].mean(0) for row in indices])
    log_step_size = images.new_tensor(math.log(settings.step_size))
    hard = torch.arange(classes).repeat_interleave(settings.images_per_class).to(labels)
    return Distilled(start, _labels(hard, classes, settings, images.dtype), log_step_size), indices


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


def _labels(hard: Tensor, classes: int, settings: DistillSettings, kind: torch.dtype) -> Tensor:
    """Classes (N,), or logits (N, K) whose softmax gives the own class `label_confidence`."""
    if settings.labels == "hard":
        return hard
    gap = math.log(settings.label_confidence * (classes - 1) / (1 - settings.label_confidence))
    return gap * F.one_hot(hard, classes).to(kind)
