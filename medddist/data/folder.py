"""A folder with one folder per class, with or without given train, val and test folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medddist.base.errors import InputError, require, shown
from medddist.data import labels_csv, paths, radiography
from medddist.data.collection import PART_NAMES, TRAIN
from medddist.data.images import is_dicom
from medddist.data.listing import Listing, listing

LAYOUTS = (
    "give a folder with one folder of images per class (two or more), a labels.csv, or the folder "
    "of the COVID-19 Radiography Database"
)
ONE_SPLIT = "put all images into train, val and test, or none, or state the split in labels.csv"
NO_PATIENTS = (
    "patients are not read from DICOM files; name them in labels.csv, so that none is in two parts"
)


def listed(folder: Path) -> Listing:
    """List all images: by labels.csv, as the radiography database, or by class folders.

    A labels.csv takes precedence. Folders called train, val and test, around the class folders or
    in them, are a given split in any layout.

    Raises:
        InputError: the folder cannot be opened, or is none of these.
    """
    try:
        inside = paths.subfolders(folder)
    except OSError as problem:
        reason = f"cannot be opened ({problem.strerror})"
        raise InputError(shown(folder), reason, "check the path and its rights") from None
    if (folder / labels_csv.NAME).exists():
        return labels_csv.listed(folder)
    divided = any(paths.part_of(path.name) is not None for path in inside)
    database = None if divided else radiography.home(folder)
    if database and not paths.has_part_folders(database):
        return radiography.listed(database)
    return _by_class_folder(database or folder)


def _by_class_folder(folder: Path) -> Listing:
    classes, notes = _class_folders(folder)
    names = sorted({path.name for path in classes}, key=paths.natural)
    if len(names) < 2:
        loose = len(paths.images_in(folder))
        known = shown(", ".join(path.name for path in classes)) or "none"
        inside = f"{loose} images without a class folder" if loose else f"class folders: {known}"
        raise InputError(shown(folder), inside, LAYOUTS)
    images = {path: paths.images_below(path) for path in classes}
    labels = {image.relative_to(folder): path.name for path in images for image in images[path]}
    remedy = "put the images of each class into its folder"
    require(labels, shown(folder), "its folders hold no images", remedy)
    parts, split_note = paths.given_parts(list(labels), shown(folder), ONE_SPLIT)
    images = listing(folder, labels, parts, names)
    dicom_note = [NO_PATIENTS] if any(is_dicom(folder / image) for image in labels) else []
    notes = *notes, *split_note, *dicom_note, *images.notes
    return replace(images, notes=notes, gives=PART_NAMES if split_note else ())


def _class_folders(folder: Path) -> tuple[list[Path], list[str]]:
    """The folders of all classes; what stands beside train/ and test/ is left alone and noted."""
    inside = paths.subfolders(folder)
    divided = {path: part for path in inside if (part := paths.part_of(path.name)) is not None}
    if not divided:
        return inside, []
    parts = list(divided.values())
    clear = TRAIN in parts and len(set(parts)) == len(parts)
    given = shown(", ".join(path.name for path in divided))
    remedy = "a given split needs one train folder, and at most one val and test"
    require(clear, shown(folder), f"has {given}", remedy)
    others = shown(", ".join(path.name for path in inside if path not in divided))
    notes = [f"folders beside the given split were left alone: {others}"] if others else []
    return [path for around in divided for path in paths.subfolders(around)], notes
