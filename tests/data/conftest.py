"""Small sources made on the spot: nothing here comes from a patient."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

# A slow moment of a shared machine is no failure, and the same examples are tried every time.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes of 20 grey 20 px images each."""
    for k, name in enumerate(("sick", "well")):
        folder = tmp_path / "source" / name
        folder.mkdir(parents=True)
        for i, pixels in enumerate(noise(20, 20, 20, seed=k)):
            Image.fromarray(pixels).save(folder / f"{name} {i + 1}.png")
    return tmp_path / "source"


@pytest.fixture
def npz_arrays() -> dict[str, np.ndarray]:
    """MedMNIST's layout: 30 training, 6 validation, 9 test images of 16 px in three classes."""
    arrays = {}
    for seed, (part, count) in enumerate({"train": 30, "val": 6, "test": 9}.items()):
        arrays[f"{part}_images"] = noise(count, 16, 16, seed=seed)
        arrays[f"{part}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
    return arrays


@pytest.fixture
def save_npz(tmp_path: Path):
    def save(arrays: dict[str, np.ndarray], name: str = "set.npz") -> Path:
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return save
