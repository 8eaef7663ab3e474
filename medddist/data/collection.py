"""What every source is read into before it is split into parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2  # a group found in two given parts is kept in the last of them
PART_NAMES = ("train", "validation", "test")
PATIENTS = "patients"  # what a source's layout may give, beside the parts


@dataclass(frozen=True)
class Collection:
    """All images of a source, decoded and resized, with what is known of them.

    images: (N, C, S, S) uint8
    labels: (N,) int64, positions in class_names
    groups: (N,) int64, equal for images of one patient
    units: (N,) uint64, of the patient's name or, without one, of the pixels as decoded: of no other
        image
    hashes: (N, 2) uint64, of the pixels as decoded and as resized, both in the channels asked for
    parts: (N,) int8, TRAIN, VALIDATION or TEST as given; all TRAIN in a source without a split
    origins: (N,) int64, positions in origin_names; all -1 where origin_names is empty
    gives: of patients, validation and test, those that columns, arrays or folders are there for
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    units: np.ndarray
    hashes: np.ndarray
    parts: np.ndarray
    origins: np.ndarray
    class_names: tuple[str, ...]
    origin_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
