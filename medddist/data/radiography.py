"""The COVID-19 Radiography Database as it is unpacked: <class>/images/*.png.

Masks and metadata are left alone. Chowdhury et al. 2020 (doi:10.1109/ACCESS.2020.3010287), Rahman
et al. 2021 (doi:10.1016/j.compbiomed.2021.104319). Earlier versions have no images/ folder; both
are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medddist.base.errors import InputError, require, shown
from medddist.base.names import closest
from medddist.data.listing import Listing, listing
from medddist.data.paths import images_below, images_in, subfolders

FOLDER = "COVID-19_Radiography_Dataset"
PUBLISHED_COUNTS = {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345}
KAGGLE = "tawsifurrahman/covid19-radiography-database"
HOW_TO_GET_IT = (
    f"get the whole of it from Kaggle ({KAGGLE}; after pip install kagglehub: "
    f"python -c \"import kagglehub; print(kagglehub.dataset_download('{KAGGLE}'))\"), unpack it, "
    f"and give the folder {FOLDER}"
)


def home(folder: Path) -> Path | None:
    """Find the database's own folder at `folder` or directly below it; None if this is not it."""
    places = (folder, folder / FOLDER)
    return next((place for place in places if place.is_dir() and _looks_like_it(place)), None)


def _looks_like_it(folder: Path) -> bool:
    """Whether it is the database, whose four classes other data may have among theirs."""
    if folder.resolve().name == FOLDER or any(folder.glob("*.metadata.xlsx")):
        return True
    found = [folder / name for name in PUBLISHED_COUNTS if (folder / name).is_dir()]
    if len(found) < len(PUBLISHED_COUNTS):
        return len(found) >= 3
    return not _strangers(folder) or any((place / "images").is_dir() for place in found)


def _strangers(folder: Path) -> list[str]:
    """Name the folders of images that are no class of the database."""
    others = (path for path in subfolders(folder) if path.name not in PUBLISHED_COUNTS)
    return [path.name for path in others if images_below(path)]


def listed(folder: Path) -> Listing:
    """List all images of the four classes.

    Raises:
        InputError: a class is missing, or the database was not unpacked completely.
    """
    absent = [name for name in PUBLISHED_COUNTS if not (folder / name).is_dir()]
    missing = ", ".join(absent)
    reason = f"the class folders {missing} of the COVID-19 Radiography Database are missing"
    others = {path.name for path in subfolders(folder)} - PUBLISHED_COUNTS.keys()
    for name in absent:
        other = closest(name, others)
        found = f"has no class folder {name!r} and an unknown folder {shown(other)!r}"
        require(not other, shown(folder), found, "if the second is the first, rename it")
    other = "to use other classes, name images and labels in labels.csv"
    require(not missing, shown(folder), f"{reason}; {HOW_TO_GET_IT}", other)
    for stranger in _strangers(folder):
        found = f"has the folder {shown(stranger)!r}, no class of the COVID-19 Radiography Database"
        raise InputError(shown(folder), found, f"move it elsewhere; {other}")
    files = {name: _images(folder / name) for name in PUBLISHED_COUNTS}
    classes = {path.relative_to(folder): name for name in files for path in files[name]}
    images = listing(folder, classes, class_names=PUBLISHED_COUNTS)
    return replace(images, notes=_count_note([len(paths) for paths in files.values()]))


def _images(folder: Path) -> list[Path]:
    inner = folder / "images" if (folder / "images").is_dir() else folder
    images, masks = images_in(inner), folder / "masks"
    count = len(images_in(masks)) if masks.is_dir() else 0
    held = f"{len(images)} images for {count} masks" if images else "no images"
    reason = f"holds {held}, the database was not unpacked completely"
    require(images and count <= len(images), shown(inner), reason, HOW_TO_GET_IT)
    return images


def _count_note(counts: list[int]) -> tuple[str, ...]:
    published = list(PUBLISHED_COUNTS.values())
    if counts == published:
        return ()
    named = lambda counts: ", ".join(f"{name} {n}" for name, n in zip(PUBLISHED_COUNTS, counts))
    here, there = (f"{named(numbers)} ({sum(numbers)})" for numbers in (counts, published))
    return (f"images per class are {here}; the published data set has {there}",)
