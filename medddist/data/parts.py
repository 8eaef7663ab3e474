"""What a data set is here: three parts of images with labels, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Part:
    """A training, validation or test part.

    images: (N, C, H, W) uint8, possibly memory-mapped
    labels: (N,) int64, positions in the data's class names
    groups: (N,) int64; images of one group (a patient, near-duplicates) are never in two parts
    origins: (N,) int64, positions in the data's origin names; None where unknown
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    origins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self, classes: int) -> np.ndarray:
        """(K,) how many images each class has."""
        return np.bincount(self.labels, minlength=classes)


@dataclass(frozen=True)
class Data:
    """A data set ready for the study; `fingerprint` names its pixels, labels and split, and reveals
    none of them.
    """

    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    fingerprint: str
    source: str
    origin_names: tuple[str, ...] = ()
    notes: tuple[
        str, ...
    ] = ()  # what a reader should know: counts unlike the published ones, files left out
    pixel_mean: tuple[float, ...] = field(
        default=(0.5,)
    )  # (C,) of the training part, images scaled to [0, 1]
    pixel_std: tuple[float, ...] = field(default=(0.25,))  # (C,)
    is_phantom: bool = False  # simulated by this package: no patient data

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size_px(self) -> int:
        return self.train.images.shape[-1]

    def parts(self) -> dict[str, Part]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def standardised(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) uint8 -> float32 with the training part's mean 0 and standard deviation 1,
        by channel.
        """
        mean, std = (
            np.asarray(v, np.float32).reshape(1, -1, 1, 1) * 255
            for v in (self.pixel_mean, self.pixel_std)
        )
        return (np.asarray(images, np.float32) - mean) / std

    def pixels(self, standardised: np.ndarray) -> np.ndarray:
        """The way back: standardised float32 -> [0, 1], clipped, for pictures."""
        mean, std = (
            np.asarray(v, np.float32).reshape(1, -1, 1, 1)
            for v in (self.pixel_mean, self.pixel_std)
        )
        return np.clip(np.asarray(standardised, np.float32) * std + mean, 0, 1)
