"""What every source is read into before it is dealt into parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

TRAIN, VALIDATION, TEST = (
    0,
    1,
    2,
)  # in the order in which a group found in two parts is kept: the last one wins
PART_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Collection:
    """All images of a source, decoded and resized, with what is known of them; a source without a
    split is all TRAIN.

    images: (N, C, S, S) uint8
    labels: (N,) int64, positions in class_names
    groups: (N,) int64, equal for images of one patient
    hashes: (N, 2) uint64, of the pixels as decoded and as resized, both in the channels asked for
    parts: (N,) int8, TRAIN, VALIDATION or TEST as the source gives them
    origins: (N,) int64, positions in origin_names; all -1 where origin_names is empty
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    hashes: np.ndarray
    parts: np.ndarray
    origins: np.ndarray
    class_names: tuple[str, ...]
    origin_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_notes(self, *notes: str) -> Collection:
        return replace(self, notes=self.notes + notes)
