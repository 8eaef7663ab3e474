"""Images that are moved until public networks see the released class means in them.

    x <- argmin sum over classes k of E |mean over images of k of f(A(x)) - m_k|^2

Each step draws a new augmentation A of each image, as the networks see it that will learn from the
images. Nothing private is touched here: only the release (`release`) and public networks
(`extractors`).
Source: Zhao & Bilen, ICML 2021, and WACV 2023 (distribution matching with augmentation).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, augment, draw
from medddist.method.private.extractors import Extractors


@shared_threads()
def fitted(
    public: Extractors,
    images: Tensor,
    classes: Tensor,
    means: np.ndarray,
    steps: int,
    learning_rate: float,
    augmentation: AugmentSettings,
    random: torch.Generator,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Move images by Adam until their class means are the released ones.

    Args:
        public: the networks.
        images: (N, C, H, W) to start from.
        classes: (N,) of the images.
        means: (K, D) that were released.
        steps: of Adam.
        learning_rate: of Adam.
        augmentation: of the images, drawn anew in each step.
        random: draws it.
        progress: called after each step.

    Returns:
        The images, and the loss of each step (steps,).
    """
    x = images.detach().clone().requires_grad_()
    wanted = torch.from_numpy(means).to(x)
    optimiser, losses = torch.optim.Adam([x], lr=learning_rate), []
    share = torch.nn.functional.one_hot(classes, len(wanted)).to(x)
    share = (share / share.sum(0).clamp_min(1)).T
    for step in range(steps):
        optimiser.zero_grad()
        seen = augment(x, draw(len(x), random, x), augmentation)
        loss = (share @ public.features(seen) - wanted).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        progress("moving images to the release", step + 1, steps)
    return x.detach(), torch.tensor(losses)
