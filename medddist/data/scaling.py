"""The one place for the mean and the standard deviation of pixels.

Networks see standardised pixels, z = (x - mean) / std by channel, where x is within [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# (N, C, H, W): a numpy array or a torch tensor; what goes in comes out.
Images = TypeVar("Images", np.ndarray, "Tensor")


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of pixels within [0, 1].

    mean: (C,), one value per channel
    std: (C,)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measured(cls, images: np.ndarray) -> Scaling:
        """Measure (N, C, H, W) uint8 images, exactly, by their histograms."""
        values, means, stds = np.arange(256) / 255, [], []
        for channel in np.moveaxis(images, 1, 0):
            counts = sum(np.bincount(image.ravel(), minlength=256) for image in channel)
            shares = counts / channel.size
            means.append(float(shares @ values))
            stds.append(float(np.sqrt(max(shares @ values**2 - means[-1] ** 2, 0))))
        return cls(tuple(means), tuple(stds))

    def apply(self, images: Images) -> Images:
        """Standardise uint8 images, or floats within [0, 1], to float32."""
        levels = 255 if "uint8" in str(images.dtype) else 1
        images = _float32(images)
        return (images - _column(self.mean, images) * levels) / (_column(self.std, images) * levels)

    def invert(self, standardised: Images) -> Images:
        """Turn standardised images into float32 pixels, clipped to [0, 1], for pictures."""
        images = _float32(standardised)
        return (images * _column(self.std, images) + _column(self.mean, images)).clip(0, 1)

    def levels(self, standardised: Images) -> Images:
        """Round standardised images to the 256 levels of a picture, uint8, as they are sent."""
        rounded = (self.invert(standardised) * 255).round()
        is_array = isinstance(rounded, np.ndarray)
        return rounded.astype(np.uint8) if is_array else rounded.byte()

    def between(self, other: Scaling, standardised: Images) -> Images:
        """Move standardised images from this scaling to another one, without clipping."""
        if self == other:
            return standardised
        images = _float32(standardised)
        pixels = images * _column(self.std, images) + _column(self.mean, images)
        return (pixels - _column(other.mean, images)) / _column(other.std, images)


def _float32(images: Images) -> Images:
    return np.asarray(images, np.float32) if isinstance(images, np.ndarray) else images.float()


def _column(values: tuple[float, ...], like: Images) -> Images:
    """(1, C, 1, 1) float32: an array, or a tensor on the device of `like`."""
    is_array = isinstance(like, np.ndarray)
    column = np.asarray(values, np.float32) if is_array else like.new_tensor(values)
    return column.reshape(1, -1, 1, 1)
