"""Problems of random numbers in the shapes that benchmarks measure: of matching, and of the loss on
real images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from medddist.base.seeds import generator
from medddist.method.augment import AugmentSettings
from medddist.method.distilled import Distilled
from medddist.method.evaluate import EvaluateSettings
from medddist.method.matching import Segment, segment
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters
from medddist.method.student import Student
from medddist.method.training import Labelled

CLASSES = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Problem:
    """Shape of a matching problem; a student step uses all images unless `batch_size` is set."""

    width: int
    depth: int
    image_size_px: int
    images: int
    student_steps: int
    batch_size: int | None = None

    def arguments(
        self, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> tuple[Network, Distilled, Segment, AugmentSettings]:
        """Return what `matching_gradient` and `unrolled_gradient` take."""
        network = convnet(
            NetworkSettings(width=self.width, depth=self.depth), 1, CLASSES, self.image_size_px
        )
        random = generator("bench", self.image_size_px)
        start = initial_parameters(network, "bench").to(dtype)
        network.module.to(device)
        target = start + 0.01 * torch.randn(start.shape, generator=random, dtype=dtype)
        size = (self.images, 1, self.image_size_px, self.image_size_px)
        images = torch.randn(size, generator=random, dtype=dtype).to(device)
        labels = torch.arange(self.images, device=device) % CLASSES
        log_step_size = torch.tensor(math.log(0.01), dtype=dtype, device=device)
        run = segment(
            start, target, images, self.batch_size or self.images, self.student_steps, random
        )
        return network, Distilled(images, labels, log_step_size), run, AugmentSettings()

    def small(self) -> Problem:
        """Return two images and one step of this network, for a first call that is not measured."""
        return replace(self, images=2, student_steps=1)


@dataclass(frozen=True)
class RealProblem(Problem):
    """Shape of a problem of the loss on real images: T = W, all steps are differentiated through.

    Students train as the evaluation does, with momentum and weight decay.
    """

    real_images: int = 256

    def arguments(
        self, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> tuple[Network, Distilled, Student, AugmentSettings, Labelled]:
        """Return what `real_loss_gradient` and `unrolled_real_loss_gradient` take."""
        network, distilled, run, augmentation = super().arguments(dtype, device)
        recipe = EvaluateSettings().recipe
        descent = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        size = (self.real_images, 1, self.image_size_px, self.image_size_px)
        random = generator("bench", "real", self.image_size_px)
        images = torch.randn(size, generator=random, dtype=dtype).to(device)
        labels = torch.arange(self.real_images, device=device) % CLASSES
        student = replace(run.student, **descent, window=self.student_steps)
        return network, distilled, student, augmentation, (images, labels)

    def small(self) -> RealProblem:
        """Return two distilled images, one step and two real images, as `Problem.small` does."""
        return replace(super().small(), real_images=2)


SMALL = Problem(width=32, depth=3, image_size_px=32, images=40, student_steps=20)
MIDDLE = Problem(width=64, depth=3, image_size_px=64, images=40, student_steps=20)
PAPER = Problem(width=128, depth=5, image_size_px=112, images=80, student_steps=20)
PAPER_FEW = replace(PAPER, images=8, student_steps=5)
REAL = RealProblem(width=32, depth=3, image_size_px=32, images=80, student_steps=40, batch_size=40)
