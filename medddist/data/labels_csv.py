"""labels.csv beside the images: file, and where known label, patient, site and split.

It takes precedence over class folders. Columns are separated by commas, semicolons or tabs. `file`
is a path below the folder. Without the column `label`, the class is the folder that the file is in.
An image without a patient is a group of its own, one without a site is of the site "unknown".
`split` (train, val or test) is filled in every row or in none; in none, folders of these names give
it. Images that it does not name are left out and counted.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from medddist.base.errors import InputError, require, shown
from medddist.base.names import counted
from medddist.data import paths
from medddist.data.collection import PART_NAMES, PATIENTS, TRAIN
from medddist.data.listing import Listing, listing
from medddist.data.splits import named, numbered

NAME = "labels.csv"
IMAGES = "image", "images"
COLUMNS = ("file", "label", "patient", "site", "split")
Rows = dict[int, dict[str, str]]  # by line number


def listed(folder: Path) -> Listing:
    """List all images that labels.csv names.

    Raises:
        InputError: the line and the column that cannot be used.
    """
    rows = _rows(folder / NAME)
    files = [_file(folder, number, row["file"]) for number, row in rows.items()]
    file, count = Counter(files).most_common(1)[0]
    require(count == 1, NAME, f"file {shown(file)!r} is named twice", "keep one of the lines")
    labels, class_note = _labels(rows, files)
    parts, split_note = _parts(rows, files)
    left_out = len({path.relative_to(folder) for path in paths.images_below(folder)} - set(files))
    unnamed = counted(left_out, *(f"{what} that {NAME} does not name" for what in IMAGES))
    notes = (f"left out: {unnamed}",) if left_out else ()
    images = listing(folder, dict(zip(files, labels)), parts)
    reason = f"label has one value, {shown(images.class_names[0])!r}"
    require(len(images.class_names) > 1, NAME, reason, "two classes or more are needed")
    notes += class_note + split_note + images.notes
    first = rows[min(rows)]
    gives = PART_NAMES if first.get("split") or split_note else ()
    gives += (PATIENTS,) if "patient" in first else ()
    return replace(images, notes=notes, gives=gives, **_patients(rows), **_sites(rows))


def _rows(path: Path) -> Rows:
    """Cells by column of all rows that are not empty; only the cells of known columns."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        reason = f"cannot be read ({shown(problem)})"
        raise InputError(NAME, reason, "save it as comma-separated UTF-8 text") from None
    header = [name.lower() for name in lines[0][1]] if lines else []
    _require_columns(header)
    rows = {number: _row(number, header, cells) for number, cells in lines[1:] if any(cells)}
    require(rows, NAME, "has no rows", "name every image in a row")
    return rows


def _require_columns(header: list[str]) -> None:
    known = shown(", ".join(header)) or "none"
    require("file" in header, NAME, f"the column file is missing, there are: {known}", "add it")
    labelled = "label" in header or set(header) <= set(COLUMNS)  # another may be the label
    remedy = f"add it, or keep only {', '.join(COLUMNS)} to take classes from the folders"
    require(labelled, NAME, f"the column label is missing, there are: {known}", remedy)
    require(len(set(header)) == len(header), NAME, f"a column is there twice: {known}", "keep one")


def _row(number: int, header: list[str], cells: list[str]) -> dict[str, str]:
    reason = f"line {number} has {len(cells)} cells and the header {len(header)}"
    require(len(cells) == len(header), NAME, reason, "correct the line")
    row = dict(zip(header, cells))
    for name in ("file", "label"):
        reason = f"line {number}: {name} is empty"
        require(row.get(name) != "", NAME, reason, "fill it or remove the line")
    return row


def _file(folder: Path, number: int, name: str) -> Path:
    """The path below the folder; one that leaves it is refused: it may be another person's file."""
    path = PurePosixPath(name.replace("\\", "/"))
    file = f"line {number}: file {shown(name)!r}"
    outside = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    require(not outside, NAME, f"{file} is not a path below the folder", "give one")
    exists = os.path.isfile(folder / path)  # False for a name too long, or with a zero byte
    require(exists, NAME, f"{file} is not there", "correct the name or remove the line")
    return Path(path)


def _labels(rows: Rows, files: list[Path]) -> tuple[list[str], tuple[str, ...]]:
    """The class of each row, by its label or else by its folder; and a note."""
    if "label" in rows[min(rows)]:
        return [row["label"] for row in rows.values()], ()
    labels = [paths.class_folder(file) for file in files]
    for number, file, label in zip(rows, files, labels):
        reason = f"line {number}: file {shown(file)!r} has no label and is in no class folder"
        require(label, NAME, reason, "add the column label")
    names = ", ".join(map(shown, sorted(set(labels), key=paths.natural)))
    return labels, (f"the classes are the folders {names}: {NAME} has no column label",)


def _parts(rows: Rows, files: list[Path]) -> tuple[list[int], tuple[str, ...]]:
    """The part of each row, by its split or else by the folders that its file is in; and a note."""
    splits = [row.get("split", "") for row in rows.values()]
    if not any(splits):
        return paths.given_parts(files, NAME, "fill in the column split with train, val or test")
    parts = [paths.part_of(split) for split in splits]
    for number, split, part in zip(rows, splits, parts):
        reason = f"split {shown(split)!r} is unknown" if split else "split is empty"
        remedy = "train, val or test is needed in every row, or in none"
        require(part is not None, NAME, f"line {number}: {reason}", remedy)
    require(TRAIN in parts, NAME, "split never says train", "a given split needs a training part")
    return parts, ()


def _patients(rows: Rows) -> dict[str, np.ndarray]:
    """The groups and the units; an image without a patient is a group of its own."""
    patients = {number: row.get("patient") for number, row in rows.items()}
    names = [f"p{name}" if name else f"line {number}" for number, name in patients.items()]
    names, known = np.array(names), np.array([bool(name) for name in patients.values()])
    return {"groups": numbered(names), "units": known * named(names)}


def _sites(rows: Rows) -> dict:
    """The origins and their names, if any site is known."""
    sites = [row.get("site") or "unknown" for row in rows.values()]
    names = sorted(set(sites), key=paths.natural)
    origins = np.array([names.index(site) for site in sites], np.int64)
    return {"origins": origins, "origin_names": tuple(names)} if names != ["unknown"] else {}
