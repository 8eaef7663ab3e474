"""Differentiable augmentation of radiographs, each image with draws of its own.

Every change is linear in the image or close to it, so gradients flow to the images; the draws are a
separate object, so that a step can be replayed exactly. Flips are off unless asked for: a mirrored
chest has its heart on the wrong side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medddist.base.settings import Settings


class AugmentSettings(Settings):
    """The largest change of each kind;

    0 switches it off. Zero of all is the identity, bit for bit.
    """

    shift: float = Field(0.06, ge=0, le=0.5)  # of the image's side, each way
    scale: float = Field(0.08, ge=0, lt=1)  # 0.08: between 0.92 and 1.08 of the size
    rotation_degrees: float = Field(5.0, ge=0, le=180)
    brightness: float = Field(0.2, ge=0)  # added, in standard deviations of the training pixels
    contrast: float = Field(0.2, ge=0, lt=1)  # factor 1 +- this around the image's mean
    cutout: float = Field(
        0.2, ge=0, le=1
    )  # side of a square set to the image's mean, of the image's side
    flip: bool = False  # left-right

    @property
    def moves(self) -> bool:
        return self.shift > 0 or self.scale > 0 or self.rotation_degrees > 0 or self.flip


NO_AUGMENTATION = AugmentSettings(
    shift=0, scale=0, rotation_degrees=0, brightness=0, contrast=0, cutout=0
)


@dataclass(frozen=True)
class Draws:
    """Random numbers of one batch: uniform (N, 9) in [-1, 1), a column a purpose."""

    uniform: Tensor

    def column(self, k: int) -> Tensor:
        return self.uniform[:, k]


def draw(count: int, generator: torch.Generator, like: Tensor) -> Draws:
    """Draws for `count` images, on the device and of the type of `like`."""
    uniform = torch.rand(count, 9, generator=generator, dtype=torch.float32) * 2 - 1
    return Draws(uniform.to(like.device, like.dtype))


def augment(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Images (N, C, H, W) -> the same shape, changed by the draws; differentiable in the images."""
    x = moved(images, draws, settings) if settings.moves else images
    if settings.contrast or settings.brightness:
        mean = x.mean((1, 2, 3), keepdim=True)
        factor = 1 + settings.contrast * draws.column(5)[:, None, None, None]
        x = mean + (x - mean) * factor + settings.brightness * draws.column(6)[:, None, None, None]
    return cut_out(x, draws, settings.cutout) if settings.cutout else x


def moved(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Shift, scale, rotation and flip as one bilinear resampling; beyond the border its last pixel
    goes on.
    """
    angle = torch.deg2rad(settings.rotation_degrees * draws.column(0))
    zoom = 1 / (1 + settings.scale * draws.column(1))
    mirror = (
        torch.where(draws.column(4) < 0, -1.0, 1.0).to(zoom)
        if settings.flip
        else torch.ones_like(zoom)
    )
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    across, down = 2 * settings.shift * draws.column(2), 2 * settings.shift * draws.column(3)
    rows = torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def cut_out(images: Tensor, draws: Draws, side: float) -> Tensor:
    """A square of `side` times the image's side becomes the image's mean; its centre is anywhere in
    the image.
    """
    height, width = images.shape[2:]
    inside = (
        _near(draws.column(7), height, side)[:, None, :, None]
        & _near(draws.column(8), width, side)[:, None, None, :]
    )
    return torch.where(inside, images.mean((1, 2, 3), keepdim=True), images)


def _near(centre: Tensor, size_px: int, side: float) -> Tensor:
    """(N,) centres in [-1, 1) -> (N, size_px) which pixels lie within side / 2 of them."""
    pixel = (torch.arange(size_px, device=centre.device, dtype=centre.dtype) + 0.5) / size_px
    return (pixel - ((centre + 1) / 2)[:, None]).abs() < side / 2
