"""What a data set is here: three parts of images with labels, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medddist.data.scaling import Scaling
from medddist.data.splits import numbered


@dataclass(frozen=True)
class Part:
    """A training, validation or test part.

    images: (N, C, H, W) uint8, possibly memory-mapped
    labels: (N,) int64, positions in the data's class names
    groups: (N,) int64; images of one group (a patient, near-duplicates) are never in two parts,
        unless `DataSettings.split` is "hashed" and the source's own split has them in two
    origins: (N,) int64, positions in the data's origin names; None where unknown
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    origins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self, classes: int) -> np.ndarray:
        """Count the images of each class: (K,)."""
        return np.bincount(self.labels, minlength=classes)


@dataclass(frozen=True)
class Data:
    """A data set ready for a study.

    fingerprint: 32 hexadecimal digits that name pixels, labels and split, and reveal none of them
    source: the name of the file or folder, or `phantom`
    notes: what a reader should know, such as files left out
    scaling: measured on the training part
    is_phantom: simulated by this package, without patient data
    patients: the source has a place for patients' names, whether or not all are filled in
    split: `hashed` where the source, or each image or patient alone, decided its part
    """

    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    fingerprint: str
    source: str
    origin_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scaling: Scaling = Scaling((0.5,), (0.25,))
    is_phantom: bool = False
    patients: bool = False
    split: str = "drawn"

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.train.images.shape[1]

    @property
    def image_size_px(self) -> int:
        """The side of the square images."""
        return self.train.images.shape[-1]

    def parts(self) -> dict[str, Part]:
        """Return train, validation and test by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def standardised(self, images: np.ndarray) -> np.ndarray:
        """Turn (N, C, H, W) uint8 images into float32 as the networks see them."""
        return self.scaling.apply(images)

    def pixels(self, standardised: np.ndarray) -> np.ndarray:
        """Turn standardised images into float32 within [0, 1], clipped, for pictures."""
        return self.scaling.invert(standardised)


def fingerprint(parts: Mapping[str, Part], class_names: tuple[str, ...]) -> str:
    """Name all that a result can depend on by 32 hexadecimal digits.

    These are pixels, labels, groups, origins, the split and class names.
    """
    total = hashlib.sha256(repr(class_names).encode("utf-8", "surrogateescape"))
    for name, part in parts.items():
        total.update(f"{name}{part.images.shape}{part.origins is not None}".encode())
        total.update(np.ascontiguousarray(part.images).data)
        for column in (part.labels, numbered(part.groups), part.origins):
            if column is not None:
                total.update(np.ascontiguousarray(column, "<i8").data)
    return total.hexdigest()[:32]
