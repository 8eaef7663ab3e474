"""The loss on real images of a student that trained on the distilled ones, and its gradient.

    theta_0 at random,    theta_T after T steps on the distilled images (`student`)
    L = CE(theta_T; real images, their labels or teachers' probabilities)

The derivative goes back through the last W of T steps, T drawn anew each time: random truncated
back-propagation. It asks for what the distilled images are for, so that a set can be better than
the teachers that matching would follow.

Source: Feng, Vedantam & Kempe, "Embarrassingly simple dataset distillation", ICLR 2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medddist.base.errors import require
from medddist.method.augment import AugmentSettings
from medddist.method.distilled import Distilled
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import Network
from medddist.method.student import (
    Answer,
    Question,
    Student,
    Way,
    swept_gradient,
    through_one_graph,
    trained_student,
)
from medddist.method.training import Labelled

AT_ONCE = 256  # real images; more at a time need more memory and are not faster


def require_labels(real: Labelled) -> None:
    """Check that there are real images, and a class or probabilities for each.

    Raises:
        InputError: otherwise.
    """
    images, labels = (len(part) for part in real)
    given = f"there are {labels} labels for {images} images"
    require(images == labels > 0, "real", given, "give one image or more, and a label for each")


def real_loss(
    network: Network,
    distilled: Distilled,
    run: Student,
    augmentation: AugmentSettings,
    real: Labelled,
) -> Tensor:
    """Compute L, differentiable in all that is learned, by unrolling the student's last W steps.

    Args:
        network: of the student.
        distilled: the set that the student trains on.
        run: the student's start, batches and draws.
        augmentation: of the distilled images.
        real: images (B, C, H, W), and their classes (B,) or probabilities (B, K).

    Returns:
        L, ().

    Raises:
        InputError: unless each real image has a label, and the student fits.
    """
    require_labels(real)
    theta = trained_student(network, distilled, run, augmentation)
    return F.cross_entropy(network(theta, real[0]), real[1])


def unrolled_real_loss_gradient(
    network: Network,
    distilled: Distilled,
    run: Student,
    augmentation: AugmentSettings,
    real: Labelled,
) -> Answer:
    """Differentiate `real_loss` through one graph of the student's last W steps.

    Args: as in `real_loss`.
    """
    loss = lambda leaves: real_loss(network, leaves, run, augmentation, real)
    return through_one_graph(loss, distilled)


def cross_entropy(network: Network, real: Labelled) -> Question:
    """Return the question of this method: L, and its derivative in theta_T.

    Args:
        network: of the student.
        real: as in `real_loss`.

    Raises:
        InputError: unless each real image has a label.
    """
    require_labels(real)

    def question(theta: Tensor) -> tuple[Tensor, Tensor]:
        loss, slope = theta.new_zeros(()), torch.zeros_like(theta)
        for x, y in zip(*(part.split(AT_ONCE) for part in real)):
            here, slope_here = gradient(network, theta, x, y)
            share = len(x) / len(real[0])
            loss, slope = loss + share * here, slope + share * slope_here
        return loss, slope

    return question


def real_loss_gradient(
    network: Network,
    distilled: Distilled,
    run: Student,
    augmentation: AugmentSettings,
    real: Labelled,
    *,
    way: Way = "exact",
) -> Answer:
    """Compute L and its gradient by the sweep back over the student's last W steps.

    Args:
        network: as in `real_loss`, like the four that follow.
        distilled: the set.
        run: the student's start, batches and draws.
        augmentation: of the distilled images.
        real: images and what they are labelled with.
        way: `exact` or `difference`; see `student.swept_gradient`.

    Returns:
        L, and its gradient by the name of each learned tensor.
    """
    given = network, distilled, run, augmentation, cross_entropy(network, real)
    return swept_gradient(*given, way=way)
