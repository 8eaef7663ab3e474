"""Differentiable augmentation of radiographs, with separate random numbers for each image.

    A(x) = cutout(m + (1 + c) (x' - m) + b),    x' = x resampled at R p + t

Every change is close to linear in the image, so gradients flow to the images. The random numbers
are a separate object, so that a step can be repeated exactly. Flips are off by default: a mirrored
chest has its heart on the wrong side.

Notation: p pixel positions in [-1, 1]^2, R rotation, zoom and flip, t the shift, m the mean of x',
c and b the draws of contrast and brightness.
Source: differentiable augmentation, Zhao & Bilen, ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medddist.base.settings import Settings


class AugmentSettings(Settings):
    """The largest change of each kind; 0 switches it off, and all 0 is exactly the identity."""

    shift: float = Field(0.06, ge=0, le=0.5)  # in image sides, in each direction
    scale: float = Field(0.08, ge=0, lt=1)  # 0.08: between 0.92 and 1.08 of the size
    rotation_degrees: float = Field(5.0, ge=0, le=180)  # in each direction
    brightness: float = Field(0.2, ge=0)  # added, in standard deviations of the training pixels
    contrast: float = Field(0.2, ge=0, lt=1)  # factor 1 +- this around the image's mean
    cutout: float = Field(0.2, ge=0, le=1)  # side, in image sides, of a square set to the mean
    flip: bool = False  # left-right

    @property
    def moves(self) -> bool:
        """Whether pixels change place."""
        return self.shift > 0 or self.scale > 0 or self.rotation_degrees > 0 or self.flip


NO_AUGMENTATION = AugmentSettings(
    shift=0, scale=0, rotation_degrees=0, brightness=0, contrast=0, cutout=0
)


@dataclass(frozen=True)
class Draws:
    """Random numbers of one batch."""

    uniform: Tensor  # (N, 9) in [-1, 1), one column for each purpose

    def column(self, k: int) -> Tensor:
        """Return the numbers (N,) for one purpose."""
        return self.uniform[:, k]


def draw(count: int, generator: torch.Generator, like: Tensor) -> Draws:
    """Draw random numbers for `count` images, on the device and of the type of `like`."""
    uniform = torch.rand(count, 9, generator=generator, dtype=torch.float32) * 2 - 1
    return Draws(uniform.to(like.device, like.dtype))


def augment(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Change images (N, C, H, W) by their draws; differentiable in the images."""
    x = moved(images, draws, settings) if settings.moves else images
    if settings.contrast or settings.brightness:
        mean = x.mean((1, 2, 3), keepdim=True)
        factor = 1 + settings.contrast * draws.column(5)[:, None, None, None]
        x = mean + (x - mean) * factor + settings.brightness * draws.column(6)[:, None, None, None]
    return cut_out(x, draws, settings.cutout) if settings.cutout else x


def moved(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Shift, scale, rotate and flip by one bilinear resampling; border pixels continue outside."""
    angle = torch.deg2rad(settings.rotation_degrees * draws.column(0))
    zoom = 1 / (1 + settings.scale * draws.column(1))
    mirror = torch.ones_like(zoom)
    if settings.flip:
        mirror = torch.where(draws.column(4) < 0, -1.0, 1.0).to(zoom)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    across, down = 2 * settings.shift * draws.column(2), 2 * settings.shift * draws.column(3)
    of = lambda numbers: numbers[:, None, None]
    x, y = _axis(images.shape[3], images), _axis(images.shape[2], images)[:, None]
    columns = of(cos * mirror) * x - of(sin) * y + of(across)  # as affine_grid, which takes longer
    rows = of(sin * mirror) * x + of(cos) * y + of(down)
    grid = torch.stack([columns, rows], 3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _axis(size_px: int, like: Tensor) -> Tensor:
    """Middles of pixels (size_px,) in [-1, 1]."""
    return (torch.arange(size_px, device=like.device, dtype=like.dtype) + 0.5) * (2 / size_px) - 1


def cut_out(images: Tensor, draws: Draws, side: float) -> Tensor:
    """Set a square anywhere in each image to the image's mean; `side` is in image sides."""
    height, width = images.shape[2:]
    rows, columns = _near(draws.column(7), height, side), _near(draws.column(8), width, side)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(inside, images.mean((1, 2, 3), keepdim=True), images)


def _near(centre: Tensor, size_px: int, side: float) -> Tensor:
    """Which pixels (N, size_px) lie within side / 2 of centres (N,) in [-1, 1)."""
    pixel = (torch.arange(size_px, device=centre.device, dtype=centre.dtype) + 0.5) / size_px
    return (pixel - ((centre + 1) / 2)[:, None]).abs() < side / 2
