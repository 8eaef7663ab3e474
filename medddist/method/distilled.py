"""A distilled set: images, labels and a step size, all that is learned and sent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Distilled:
    """A distilled set: all that is learned."""

    images: Tensor  # (N, C, H, W), standardised
    labels: Tensor  # (N,) classes, or (N, K) logits of soft labels
    log_step_size: Tensor  # ()

    @property
    def step_size(self) -> Tensor:
        """Alpha, ()."""
        return self.log_step_size.exp()

    @property
    def targets(self) -> Tensor:
        """Classes (N,) or probabilities (N, K), as the cross-entropy takes them."""
        return self.labels.softmax(1) if self.labels.is_floating_point() else self.labels

    @property
    def classes(self) -> Tensor:
        """The class of each image (N,); the most probable one of a soft label."""
        return self.labels.argmax(1) if self.labels.is_floating_point() else self.labels

    def to(self, dtype: torch.dtype) -> Distilled:
        """Convert what is learned to another number type."""
        learned = {name: value.to(dtype) for name, value in self.learned().items()}
        return Distilled(**({"labels": self.labels} | learned))

    def leaves(self) -> Distilled:
        """Copy the set so that autograd differentiates with respect to what is learned."""
        learned = {name: value.detach().requires_grad_() for name, value in self.learned().items()}
        return Distilled(**({"labels": self.labels} | learned))

    def learned(self) -> dict[str, Tensor]:
        """Return the tensors that can be learned, by name."""
        named = {"images": self.images, "log_step_size": self.log_step_size}
        return named | ({"labels": self.labels} if self.labels.is_floating_point() else {})
