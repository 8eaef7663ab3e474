"""The COVID-19 Radiography Database as it is unpacked: <class>/images/*.png, masks and metadata
left alone.

Chowdhury et al. 2020 (doi:10.1109/ACCESS.2020.3010287), Rahman et al. 2021
(doi:10.1016/j.compbiomed.2021.104319). Earlier versions have no images/ folder; both are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.data.collection import TRAIN
from medddist.data.listing import Listing, images_in, listing

FOLDER = "COVID-19_Radiography_Dataset"
PUBLISHED_COUNTS = {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345}
KAGGLE = "tawsifurrahman/covid19-radiography-database"
HOW_TO_GET_IT = (
    f"get the whole of it from Kaggle ({KAGGLE}; with pip install 'medddist[kaggle]': "
    f"python -c \"import kagglehub; print(kagglehub.dataset_download('{KAGGLE}'))\"), unpack it, "
    f"and give the folder {FOLDER}"
)


def home(folder: Path) -> Path | None:
    """The database's own folder, at `folder` or directly below it; None where this is something
    else.
    """
    for candidate in (folder, folder / FOLDER):
        if candidate.is_dir() and _looks_like_it(candidate):
            return candidate
    return None


def _looks_like_it(folder: Path) -> bool:
    classes = sum((folder / name).is_dir() for name in PUBLISHED_COUNTS)
    return classes >= 3 or folder.resolve().name == FOLDER or any(folder.glob("*.metadata.xlsx"))


def listed(folder: Path) -> Listing:
    """All images of the four classes; raises `InputError` for what is missing or half unpacked."""
    missing = [name for name in PUBLISHED_COUNTS if not (folder / name).is_dir()]
    if missing:
        raise InputError(
            shown(folder),
            f"the class folders {', '.join(missing)} of the COVID-19 Radiography Database are "
            f"missing; {HOW_TO_GET_IT}",
            "to use other classes, name images and labels in labels.csv",
        )
    entries = [
        (path.relative_to(folder), name, TRAIN)
        for name in PUBLISHED_COUNTS
        for path in _images(folder / name)
    ]
    found = listing(folder, entries, class_names=tuple(PUBLISHED_COUNTS))
    return replace(
        found, notes=counts_note(np.bincount(found.labels, minlength=len(PUBLISHED_COUNTS)))
    )


def _images(folder: Path) -> list[Path]:
    inner = folder / "images" if (folder / "images").is_dir() else folder
    images, masks = images_in(inner), folder / "masks"
    if not images:
        raise InputError(
            shown(inner), "holds no images, the database was not unpacked completely", HOW_TO_GET_IT
        )
    mask_count = len(images_in(masks)) if masks.is_dir() else 0
    if mask_count > len(images):
        raise InputError(
            shown(inner),
            f"holds {len(images)} images for {mask_count} masks, the database was not "
            "unpacked completely",
            HOW_TO_GET_IT,
        )
    return images


def counts_note(counts: np.ndarray) -> tuple[str, ...]:
    """What to say of images per class unlike the published ones."""
    published = list(PUBLISHED_COUNTS.values())
    if list(counts) == published:
        return ()
    here, there = (
        ", ".join(f"{name} {n}" for name, n in zip(PUBLISHED_COUNTS, numbers))
        for numbers in (counts, published)
    )
    return (
        f"images per class are {here} ({sum(counts)}); the published data set has {there} "
        f"({sum(published)})",
    )
