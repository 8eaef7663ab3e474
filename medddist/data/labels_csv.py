"""labels.csv: file, label and, where known, patient, site and split; where it lies in a folder, it
rules.

`file` is a path below the folder. An empty patient is a patient of its own, an empty site is the
site "unknown". `split` (train, val or test) is filled in every row or in none; in none, folders of
these names on the files' way give it. Images that it does not name are left out and counted.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from medddist.base.errors import InputError, shown
from medddist.data.collection import TRAIN
from medddist.data.listing import PART_FOLDERS, Listing, given_parts, images_below, listing, natural
from medddist.data.splits import numbered

NAME = "labels.csv"
COLUMNS = ("file", "label", "patient", "site", "split")
Row = dict[str, str]


def listed(folder: Path) -> Listing:
    """All images that labels.csv names; raises `InputError` naming the line and column."""
    rows = _rows(folder / NAME)
    files = [_file(folder, number, row["file"]) for number, row in rows]
    _require_once(files)
    parts, told = _parts(rows, files)
    entries = [(file, row["label"], part) for (_, row), file, part in zip(rows, files, parts)]
    known = {path.relative_to(folder) for path in images_below(folder)}
    left_out = len(known - set(files))
    notes = (f"{left_out} images that {NAME} does not name were left out",) if left_out else ()
    notes += told
    found = listing(folder, entries, notes=notes)
    if len(found.class_names) < 2:
        raise InputError(
            NAME,
            f"label has one value, {shown(found.class_names[0])!r}",
            "two classes or more are needed",
        )
    origins, origin_names = _sites(rows)
    return replace(found, groups=_patients(rows), origins=origins, origin_names=origin_names)


def _rows(path: Path) -> list[tuple[int, Row]]:
    """(line number, cells by column) of all rows that are not empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            _require_columns(header)
            rows = [
                (reader.line_num, _row(reader.line_num, header, cells))
                for cells in reader
                if any(c.strip() for c in cells)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(
            NAME, f"cannot be read ({shown(problem)})", "save it as comma-separated UTF-8 text"
        ) from None
    if not rows:
        raise InputError(NAME, "has no rows", "name every image in a row")
    return rows


def _require_columns(header: list[str]) -> None:
    for name in ("file", "label"):
        if name not in header:
            raise InputError(
                NAME,
                f"the column {name} is missing, there are: {shown(', '.join(header)) or 'none'}",
                "add it",
            )
    if len(set(header)) < len(header):
        raise InputError(NAME, f"a column is there twice: {shown(', '.join(header))}", "keep one")


def _row(number: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise InputError(
            NAME,
            f"line {number} has {len(cells)} cells and the header {len(header)}",
            "correct the line",
        )
    row = dict.fromkeys(COLUMNS, "") | dict(zip(header, (cell.strip() for cell in cells)))
    for name in ("file", "label"):
        if not row[name]:
            raise InputError(NAME, f"line {number}: {name} is empty", "fill it or remove the line")
    return row


def _file(folder: Path, number: int, name: str) -> Path:
    """The path below the folder; a path that leaves it is refused, so that a csv cannot name other
    people's files.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(
            NAME, f"line {number}: file {shown(name)!r} is not a path below the folder", "give one"
        )
    try:
        there = (folder / path).is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        there = False
    if not there:
        raise InputError(
            NAME,
            f"line {number}: file {shown(name)!r} is not there",
            "correct the name or remove the line",
        )
    return Path(path)


def _require_once(files: list[Path]) -> None:
    seen: set[Path] = set()
    for file in files:
        if file in seen:
            raise InputError(NAME, f"file {shown(file)!r} is named twice", "keep one of the lines")
        seen.add(file)


def _parts(rows: list[tuple[int, Row]], files: list[Path]) -> tuple[list[int], tuple[str, ...]]:
    """The part of each row, by its split or else by the train, val and test folders that its file
    is in; and a note on it.
    """
    if not any(row["split"] for _, row in rows):
        return given_parts(files, NAME, "fill in the column split with train, val or test")
    for number, row in rows:
        if row["split"].lower() not in PART_FOLDERS:
            given = f"{shown(row['split'])!r} is unknown" if row["split"] else "is empty"
            raise InputError(
                NAME,
                f"line {number}: split {given}",
                "train, val or test is needed in every row, or in none",
            )
    parts = [PART_FOLDERS[row["split"].lower()] for _, row in rows]
    if TRAIN not in parts:
        raise InputError(NAME, "split never says train", "a given split needs a training part")
    return parts, ()


def _patients(rows: list[tuple[int, Row]]) -> np.ndarray:
    """(N,) equal for equal patients; an image without one is a group of its own."""
    return numbered(
        np.array(
            [row["patient"] and f"p{row['patient']}" or f"line {number}" for number, row in rows]
        )
    )


def _sites(rows: list[tuple[int, Row]]) -> tuple[np.ndarray, tuple[str, ...]]:
    sites = [row["site"] or "unknown" for _, row in rows]
    if set(sites) == {"unknown"}:
        return np.full(len(rows), -1, np.int64), ()
    names = sorted(set(sites), key=natural)
    return np.array([names.index(site) for site in sites], np.int64), tuple(names)
