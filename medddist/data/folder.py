"""A folder with one folder a class, with or without given train, validation and test folders around
them.
"""

from __future__ import annotations

from pathlib import Path

from medddist.base.errors import InputError, shown
from medddist.data import labels_csv, radiography
from medddist.data.collection import TRAIN
from medddist.data.images import is_dicom
from medddist.data.listing import (
    PART_FOLDERS,
    Listing,
    given_parts,
    has_part_folders,
    images_below,
    images_in,
    listing,
    natural,
    readable_folder,
    subfolders,
)


def listed(folder: Path) -> Listing:
    """All images of a folder: by its labels.csv if it has one, as the radiography database, or by
    class folders.

    Folders called train, val and test, around the class folders or in them, are a given split
    whatever else the folder is.
    """
    folder = readable_folder(folder)
    if (folder / labels_csv.NAME).exists():
        return labels_csv.listed(folder)
    if any(path.name.lower() in PART_FOLDERS for path in subfolders(folder)):
        return _by_class_folder(folder)
    database = radiography.home(folder)
    if database and not has_part_folders(database):
        return radiography.listed(database)
    return _by_class_folder(database or folder)


def _by_class_folder(folder: Path) -> Listing:
    classes, notes = _class_folders(folder)
    if len({path.name for path in classes}) < 2:
        raise InputError(_too_few(folder, [path.name for path in classes]))
    images = [
        (image.relative_to(folder), path.name) for path in classes for image in images_below(path)
    ]
    if not images:
        raise InputError(
            shown(folder),
            "its folders hold no images",
            "put the images of each class into its folder",
        )
    remedy = (
        "put each image into one of train, val and test, or all into none, or state the "
        "split in labels.csv"
    )
    parts, told = given_parts([image for image, _ in images], shown(folder), remedy)
    notes += told
    entries = [(image, label, part) for (image, label), part in zip(images, parts)]
    if any(is_dicom(folder / image) for image, _, _ in entries):
        notes += (
            "patients are not read from DICOM files; name them in labels.csv, so that none "
            "is in two parts",
        )
    return listing(
        folder,
        entries,
        class_names=sorted({path.name for path in classes}, key=natural),
        notes=notes,
    )


def _class_folders(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The folders of all classes; what stands beside train/ and test/ is left alone and noted."""
    inside = subfolders(folder)
    given = [
        (path, PART_FOLDERS[path.name.lower()])
        for path in inside
        if path.name.lower() in PART_FOLDERS
    ]
    if not given:
        return inside, ()
    parts = [part for _, part in given]
    if TRAIN not in parts or len(set(parts)) < len(parts):
        found = ", ".join(path.name for path, _ in given)
        raise InputError(
            shown(folder),
            f"has {shown(found)}",
            "a given split needs one train folder, and at most one val and test",
        )
    others = [path.name for path in inside if path.name.lower() not in PART_FOLDERS]
    notes = (
        (f"folders beside the given split were left alone: {shown(', '.join(others))}",)
        if others
        else ()
    )
    return [path for around, _ in given for path in subfolders(around)], notes


def _too_few(folder: Path, classes: list[str]) -> str:
    loose = len(images_in(folder))
    found = (
        f"{loose} images without a class folder"
        if loose
        else f"class folders: {shown(', '.join(classes)) or 'none'}"
    )
    return (
        f"{shown(folder)}: {found}; give a folder with one folder of images a class (two or "
        "more), a labels.csv, or "
        "the folder of the COVID-19 Radiography Database"
    )
