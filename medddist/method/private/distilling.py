"""Distillation with a guarantee: public images, moved to one noisy release of the real ones.

    public networks (phantom or random)  ->  one release of class means, with noise  ->  images

The private images are read once, image by image, to add up what is released. Everything after it,
images, labels and step size, is computed from the release and from what is public.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.method.distill import Distillation
from medddist.method.distilled import Distilled
from medddist.method.evaluate import random_real
from medddist.method.private.extractors import Extractors
from medddist.method.private.fitting import fitted
from medddist.method.private.release import Release
from medddist.method.settings import DistillSettings
from medddist.method.training import Labelled


def private_distillation(
    public: Extractors,
    start: Distilled,
    release: Release,
    settings: DistillSettings,
    progress: Progress = silent,
) -> Distillation:
    """Move a public set to the release.

    Args:
        public: networks that the release was made with.
        start: public images and their classes.
        release: of the private images.
        settings: `iterations` and `learning_rate_images` of Adam, `augmentation`, and `seed`.
        progress: called after each step.
    """
    steps, step_size = settings.iterations, start.step_size.item()
    given = start.images, start.classes, release.means, steps, settings.learning_rate_images
    random = generator(settings.seed, "private distillation")
    images, losses = fitted(public, *given, settings.augmentation, random, progress)
    return Distillation(
        distilled=Distilled(images, start.labels, start.log_step_size),
        selected_iteration=steps,
        initial=start,
        initial_indices=torch.empty(0, dtype=torch.long),
        candidates=({"iteration": steps, "step_size": step_size},),
        losses=losses,
        step_sizes=torch.full((steps,), step_size),
        pictures={0: start.images.cpu(), steps: images.cpu()},
    )


def public_start(
    phantom: Labelled, classes: int, same_classes: bool, settings: DistillSettings
) -> Distilled:
    """Choose phantom images to start from.

    Args:
        phantom: images (N, C, H, W), scaled, and labels (N,).
        classes: K of the private data.
        same_classes: whether these are the phantom's, so that an image can start in its own.
        settings: `images_per_class`, `step_size` and `seed` decide.
    """
    images, labels = phantom
    size, random = settings.images_per_class, generator(settings.seed, "public start")
    if same_classes:
        chosen = random_real(labels, size, classes, "balanced", random)
    else:
        chosen = torch.randint(len(images), (size * classes,), generator=random)
    return _labelled(images[chosen.to(images.device)].clone(), classes, settings)


def noise_start(
    shape: tuple[int, ...], classes: int, settings: DistillSettings, like: Tensor
) -> Distilled:
    """Make smooth noise to start from, where the phantom itself plays the private data.

    Args:
        shape: (C, H, W).
        classes: K.
        settings: `images_per_class`, `step_size` and `seed` decide.
        like: a tensor whose device and type the images get.
    """
    count, random = settings.images_per_class * classes, generator(settings.seed, "public start")
    coarse = torch.randn(count, shape[0], 8, 8, generator=random).to(like)
    smooth = F.interpolate(coarse, size=shape[1:], mode="bilinear", align_corners=False)
    return _labelled(smooth, classes, settings)


def _labelled(images: Tensor, classes: int, settings: DistillSettings) -> Distilled:
    labels = torch.arange(classes, device=images.device)
    labels = labels.repeat_interleave(settings.images_per_class)
    return Distilled(images, labels, images.new_tensor(math.log(settings.step_size)))
