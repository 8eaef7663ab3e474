"""A first look at a source of images: what is there, what cannot be read, and whether something
dull gives the class away.

What is suspected is measured: how well each property of a file that no disease changes (its size,
    its format, the folder or site it comes from, the beginning of its name, the frame of its
    pixels) tells the class on images that the rule was not made from. A network can read sizes,
    formats and frames from the pixels, and will learn them instead of the disease where they do
    better.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from sklearn.metrics import balanced_accuracy_score

from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.seeds import numpy_generator
from medddist.data import DataSettings, folder, is_phantom, load_data, splits
from medddist.data.images import NeedsPydicom, decoded, is_dicom, prepared
from medddist.data.listing import Listing
from medddist.measure.probes import cross_validated_probe

PICTURE_PX = 64  # of the pictures of a report
THUMBNAIL_PX = 16
FRAME_PX = 2  # of a thumbnail: an eighth of the image at each side, where there is no lung
MOST_PROBED = 4000  # images, drawn at random: enough for a figure to two digits
# balanced accuracy above chance, beyond three standard errors, that makes a property suspected
CLEARLY = 0.1


@dataclass(frozen=True)
class Survey:
    """What was found.

    pictures: (N, S, S) or (N, S, S, 3) uint8 small copies of the images that can be read, labels:
        (N,), groups: (N,)
    sizes: {"299x299 px": images}, kinds: {"PNG, L": images}; empty where the source is no folder of
        files
    unreadable: (file, reason); copies: the files, or the places, of images that have the same
        pixels, together; contradictory: of those the sets of several classes; origins: {origin:
        {class: images}}, empty where unknown
    traits: [{what, tells_the_class, chance, values, suspected}], balanced accuracies, the most
        telling first
    """

    source: str
    class_names: tuple[str, ...]
    pictures: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sizes: dict[str, int]
    kinds: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    copies: tuple[tuple[str, ...], ...]
    contradictory: tuple[tuple[str, ...], ...]
    origins: dict[str, dict[str, int]]
    traits: tuple[dict, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        return dict(
            zip(
                self.class_names, np.bincount(self.labels, minlength=len(self.class_names)).tolist()
            )
        )

    @property
    def suspected(self) -> list[dict]:
        return [trait for trait in self.traits if trait["suspected"]]

    def as_json(self) -> dict:
        """Without pixels."""
        names = (
            "source",
            "counts",
            "sizes",
            "kinds",
            "copies",
            "contradictory",
            "origins",
            "traits",
            "notes",
            "unreadable",
        )
        return {name: getattr(self, name) for name in names}


def surveyed(source: str | Path, progress: Progress = silent) -> Survey:
    """Look at a source of any kind that `load_data` reads.

    Raises InputError for one without two classes of readable images.
    """
    if not is_phantom(source) and Path(source).is_dir():
        return _of_files(folder.listed(Path(source)), Path(source).resolve().name, progress)
    data = load_data(source, DataSettings(image_size_px=PICTURE_PX), None, progress)
    parts = data.parts().values()
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "labels", "groups")
    }
    origins = np.concatenate([part.origins for part in parts]) if data.origin_names else None
    named = None if origins is None else np.array(data.origin_names, object)[origins]
    flat = columns["images"].reshape(len(columns["labels"]), -1)
    hashes = splits.numbered(np.array([hash(row.tobytes()) for row in flat]))
    places = [f"image {number}" for number in range(len(flat))]
    return _survey(
        data.source,
        data.class_names,
        columns["images"][:, 0],
        columns["labels"],
        columns["groups"],
        hashes,
        places,
        named,
        {},
        {},
        (),
        data.notes,
    )


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """One readable file: a small copy (S, S), the hash of its pixels, and what its header says."""

    picture: np.ndarray
    hash: int
    size: str
    kind: str


def _of_files(listed: Listing, source: str, progress: Progress) -> Survey:
    found = list(_seen_in_order(listed, progress))
    for one in found:
        if isinstance(one, NeedsPydicom):
            raise one
    refused = [(file, one) for file, one in zip(listed.files, found) if isinstance(one, InputError)]
    unreadable = tuple((str(file), one.reason) for file, one in refused)
    readable = np.array([isinstance(one, _Seen) for one in found], bool)
    seen = [one for one in found if isinstance(one, _Seen)]
    labels, groups = listed.labels[readable], listed.groups[readable]
    missing = [
        name
        for name, count in zip(
            listed.class_names, np.bincount(labels, minlength=len(listed.class_names))
        )
        if not count
    ]
    if missing and not (listed.labels == listed.class_names.index(missing[0])).any():
        raise InputError(
            source, f"the class {missing[0]!r} has no image", "add some, or remove its folder"
        )
    if missing:
        raise InputError(
            source,
            f"no image of the class {missing[0]!r} can be read ({unreadable[0][1]})",
            "replace the files",
        )
    files = [file for file, of in zip(listed.files, readable) if of]
    columns = {
        "size in pixels": [one.size for one in seen],
        "format and mode": [one.kind for one in seen],
    }
    names = {
        "beginning of the file's name": [_prefix(file.name) for file in files],
        "folder below the class": [_inner(file) for file in files],
    }
    columns |= {what: values for what, values in names.items() if not _repeats(values, labels)}
    origins = (
        np.array(listed.origin_names, object)[listed.origins[readable]]
        if listed.origin_names
        else None
    )
    pictures, hashes = (
        np.stack([one.picture for one in seen]),
        splits.numbered(np.array([one.hash for one in seen], np.uint64)),
    )
    return _survey(
        source,
        listed.class_names,
        pictures,
        labels,
        groups,
        hashes,
        [str(file) for file in files],
        origins,
        columns,
        _counted(columns),
        unreadable,
        listed.notes,
    )


def _seen_in_order(listed: Listing, progress: Progress) -> Iterator[_Seen | InputError]:
    """A `_Seen` or the `InputError` of each file."""

    def one(file: Path) -> _Seen | InputError:
        path = listed.folder / file
        try:
            pixels = decoded(path)
        except InputError as refused:
            return refused
        small = prepared(pixels, PICTURE_PX, 1)
        height, width = small.size_px
        return _Seen(small.pixels[0], small.hashes[0], f"{width}x{height} px", _kind(path))

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL and pydicom warn of what the survey tells itself
        for number, seen in enumerate(pool.map(one, listed.files), 1):
            yield seen
            if number % 64 == 0 or number == len(listed.files):
                progress("looking at images", number, len(listed.files))


def _kind(path: Path) -> str:
    """`PNG, L` or `JPEG, RGB, with EXIF`, from the header."""
    if is_dicom(path):
        return "DICOM"
    try:
        opened = Image.open(path)
    except UnidentifiedImageError:
        return "DICOM"  # which could be read, whatever its name
    with opened as image:
        return f"{image.format}, {image.mode}" + (", with EXIF" if "exif" in image.info else "")


def _prefix(name: str) -> str:
    """What stands before the first digit: `person` of person12_virus.png."""
    return re.split(r"[0-9]", name, maxsplit=1)[0].strip(" -_.") or "(a number)"


def _inner(file: Path) -> str:
    return "/".join(file.parts[1:-1]) or "(none)"


def _counted(columns: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    return {
        name: dict(Counter(columns[name]).most_common())
        for name in ("size in pixels", "format and mode")
    }


# ---- what is suspected ---------------------------------------------------------------------------


def _survey(
    source,
    class_names,
    pictures,
    labels,
    groups,
    hashes,
    places,
    origins,
    columns,
    counted,
    unreadable,
    notes,
) -> Survey:
    together = splits.united(groups, hashes)
    columns = columns | ({} if origins is None else {"origin": list(origins)})
    found = [
        _told_by(what, np.array(values, object), labels, together)
        for what, values in columns.items()
    ]
    traits = [trait for trait in found if trait] + [_frame(pictures, labels, together)]
    by_origin = (
        {}
        if origins is None
        else {
            str(origin): {
                name: int(((labels == k) & (origins == origin)).sum())
                for k, name in enumerate(class_names)
            }
            for origin in np.unique(origins)
        }
    )
    same = [np.flatnonzero(hashes == one) for one in np.flatnonzero(np.bincount(hashes) > 1)]
    named = lambda sets: tuple(tuple(places[k] for k in one) for one in sets)
    return Survey(
        source=source,
        class_names=tuple(class_names),
        pictures=pictures,
        labels=labels,
        groups=together,
        sizes=counted.get("size in pixels", {}),
        kinds=counted.get("format and mode", {}),
        unreadable=unreadable,
        copies=named(same),
        contradictory=named(one for one in same if len(set(labels[one])) > 1),
        origins=by_origin,
        traits=tuple(sorted(traits, key=lambda trait: -trait["tells_the_class"])),
        notes=tuple(notes),
    )


def _told_by(what: str, values: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict | None:
    """How well a property alone tells the class: on each half of the images by what is commonest in
    the other half.

    None where it has one value alone.
    """
    values = splits.numbered(values)
    if values.max() == 0:
        return None
    first, guess = _half(groups), np.full(len(labels), -1)
    for here in (first, ~first):
        guess[~here] = _commonest(values, labels, here)[values[~here]]
    return _trait(what, labels, guess, int(values.max()) + 1)


def _repeats(values: list[str], labels: np.ndarray) -> bool:
    """Names that are the class in other words, as COVID-12.png in the folder COVID is: no network
    sees them, and they name no source.
    """
    return len(set(zip(values, labels.tolist()))) == len(set(values)) == len(np.unique(labels))


def _commonest(values: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(V,) the class that each value speaks for most, classes weighted equally."""
    counts = np.zeros((values.max() + 1, labels.max() + 1))
    np.add.at(counts, (values[rows], labels[rows]), 1)
    return (counts / np.maximum(counts.sum(0), 1)).argmax(1)


def _frame(pictures: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict:
    """The same of the frame of 16 px thumbnails, by a linear probe."""
    chosen = np.sort(numpy_generator(0, "survey").permutation(len(labels))[:MOST_PROBED])
    labels, groups = labels[chosen], groups[chosen]
    side = PICTURE_PX // THUMBNAIL_PX
    small = (
        pictures[chosen].reshape(len(chosen), THUMBNAIL_PX, side, THUMBNAIL_PX, side).mean((2, 4))
    )
    inside = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), bool)
    inside[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = True
    rows, first, guess = small[:, ~inside], _half(groups), np.full(len(labels), -1)
    for here in (first, ~first):
        if len(np.unique(labels[here])) > 1:
            guess[~here] = cross_validated_probe((rows[here], labels[here]), groups[here])[
                0
            ].predict(rows[~here])
    return _trait("frame of the image", labels, guess, 0)


def _half(groups: np.ndarray) -> np.ndarray:
    """(N,) bool: the images of random half of the groups."""
    names = np.unique(groups)
    return (numpy_generator(0, "halves").permutation(len(names)) < len(names) // 2)[
        np.searchsorted(names, groups)
    ]


def _trait(what: str, labels: np.ndarray, guess: np.ndarray, values: int) -> dict:
    """`suspected` where balanced accuracy is above chance by `CLEARLY`, and by three of its
    standard errors.
    """
    counts = np.bincount(labels)
    counts, chance = counts[counts > 0], 1 / len(np.unique(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a guess may be of no class at all
        score = float(balanced_accuracy_score(labels, guess))
    error = float(np.sqrt((score * (1 - score) / counts).sum()) / len(counts))
    return {
        "what": what,
        "tells_the_class": score,
        "chance": chance,
        "values": values,
        "suspected": bool(score - chance > max(CLEARLY, 3 * error)),
    }


# ---- for people ----------------------------------------------------------------------------------


def survey_lines(found: Survey) -> list[str]:
    """What was found, a line each."""
    total = len(found.labels)
    lines = [
        f"{found.source}: {total} images of {len(found.class_names)} classes: "
        + ", ".join(f"{name} {n}" for name, n in found.counts.items())
    ]
    lines += (
        [f"sizes: {_most(found.sizes)}", f"formats: {_most(found.kinds)}"] if found.sizes else []
    )
    if found.unreadable:
        file, reason = found.unreadable[0]
        lines.append(
            f"unreadable: {len(found.unreadable)}, the first is {file} ({reason}); they are "
            "left out"
        )
    repeated = sum(len(one) - 1 for one in found.copies)
    lines.append(
        f"copies: {repeated} of the images have another's pixels; the first are "
        f"{' and '.join(found.copies[0][:2])}"
        if repeated
        else "copies: none"
    )
    if found.contradictory:
        lines.append(
            f"contradictions: {sum(map(len, found.contradictory))} images have the pixels of "
            "one of another class; the first are"
            f" {' and '.join(found.contradictory[0][:2])}"
        )
    lines += [f"note: {note}" for note in found.notes]
    for trait in found.suspected:
        lines.append(
            f"suspected: the {trait['what']} alone tells the class with balanced accuracy "
            f"{trait['tells_the_class']:.2f} (chance {trait['chance']:.2f})"
        )
    return (
        lines
        if found.suspected
        else [*lines, "suspected: nothing; that is no proof, only these properties were tried"]
    )


def _most(counts: dict[str, int], shown: int = 4) -> str:
    first = [f"{name} {count}" for name, count in list(counts.items())[:shown]]
    return ", ".join(first) + (f" and {len(counts) - shown} more" if len(counts) > shown else "")
