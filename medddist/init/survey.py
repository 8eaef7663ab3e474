"""Take a first look at images: what is there, what is unreadable, what is there twice, and whether
anything other than the disease predicts the class (shortcuts).
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from medddist.base.errors import InputError
from medddist.base.names import counted
from medddist.base.progress import Progress, silent
from medddist.data import Data, DataSettings, folder, is_phantom, load_data, splits
from medddist.data.images import NeedsPydicom, decoded, is_dicom, prepared
from medddist.data.listing import Listing
from medddist.init.shortcuts import repeats_the_class, shortcuts

PICTURE_PX = 64  # of the pictures of a report
SIZE, FORMAT, SITE = "size in pixels", "format and mode", "site"


@dataclass(frozen=True)
class Survey:
    """What a first look found.

    Attributes:
        pictures: (N, S, S) uint8, small copies of the readable images.
        labels: (N,) positions in `class_names`.
        sizes, kinds: number of images by size (`299x299 px`) and format (`PNG, L`); empty where
            the source is not a folder of files.
        unreadable: (file, reason) of each unreadable file.
        copies: sets of files, or of places in an array, with the same pixels.
        contradictory: those of the copies that belong to several classes.
        origins: number of images by site and class; empty where unknown.
        traits: what `shortcuts` returns.
    """

    source: str
    class_names: tuple[str, ...]
    pictures: np.ndarray
    labels: np.ndarray
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
        """Number of readable images by class."""
        return {name: int((self.labels == k).sum()) for k, name in enumerate(self.class_names)}

    @property
    def suspected(self) -> list[dict]:
        """The properties that predict the class clearly better than guessing."""
        return [trait for trait in self.traits if trait["suspected"]]

    def as_json(self) -> dict:
        """Return everything but pixels."""
        hidden = ("class_names", "pictures", "labels")
        return {"counts": self.counts} | {k: v for k, v in vars(self).items() if k not in hidden}


def surveyed(source: str | Path, progress: Progress = silent) -> Survey:
    """Survey a source of any kind that `load_data` reads.

    Raises:
        InputError: the source has fewer than two classes of readable images.
    """
    if not is_phantom(source) and Path(source).is_dir():
        return _survey_of_files(folder.listed(Path(source)), Path(source).resolve().name, progress)
    settings = DataSettings(image_size_px=PICTURE_PX)
    return _survey_of_arrays(load_data(source, settings, None, progress))


class _Image(NamedTuple):
    """One readable image: its small copy (S, S), the hash of its pixels, and its header."""

    picture: np.ndarray
    hash: int
    size: str = ""
    kind: str = ""


def _survey_of_arrays(data: Data) -> Survey:
    parts = data.parts().values()
    joined = lambda name: np.concatenate([getattr(part, name) for part in parts])
    images = [_Image(image[0], hash(image.tobytes())) for image in joined("images")]
    places = [f"image {number}" for number in range(len(images))]
    names = data.origin_names
    origins = [names[k] for k in joined("origins")] if names else []
    about = data.source, data.class_names, joined("labels"), joined("groups")
    return _survey(*about, images, places, origins, {}, (), data.notes)


def _survey_of_files(listed: Listing, source: str, progress: Progress) -> Survey:
    looked = list(_looked_at(listed, progress))
    readable = np.array([isinstance(each, _Image) for each in looked], bool)
    refused = {k: error for k, error in enumerate(looked) if isinstance(error, InputError)}
    unreadable = tuple((str(listed.files[k]), error.reason) for k, error in refused.items())
    labels = listed.labels[readable]
    for k, name in enumerate(listed.class_names):
        if not (listed.labels == k).any():
            reason = f"the class {name!r} has no image"
            raise InputError(source, reason, "add some, or remove its folder")
        if not (labels == k).any():
            reason = f"no image of the class {name!r} can be read ({unreadable[0][1]})"
            raise InputError(source, reason, "replace the files")
    kept = np.flatnonzero(readable)
    images, files = [looked[k] for k in kept], [listed.files[k] for k in kept]
    names = {"beginning of the file name": [_prefix(file.name) for file in files]}
    names["folder below the class"] = ["/".join(file.parts[1:-1]) or "(none)" for file in files]
    properties = {SIZE: [image.size for image in images], FORMAT: [image.kind for image in images]}
    properties |= {k: v for k, v in names.items() if not repeats_the_class(v, labels)}
    origins = [listed.origin_names[listed.origins[k]] for k in kept] if listed.origin_names else []
    about = source, listed.class_names, labels, listed.groups[readable], images
    places = list(map(str, files))
    return _survey(*about, places, origins, properties, unreadable, listed.notes)


def _looked_at(listed: Listing, progress: Progress) -> Iterator[_Image | InputError]:
    """Decode each file; an unreadable one gives its error."""

    def look(file: Path) -> _Image | InputError:
        path = listed.folder / file
        try:
            small = prepared(decoded(path), PICTURE_PX, 1)
        except NeedsPydicom:
            raise
        except InputError as refused:
            return refused
        height, width = small.size_px
        return _Image(small.pixels[0], small.hashes[0], f"{width}x{height} px", _kind(path))

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL and pydicom warn of what the survey itself reports
        for number, looked in enumerate(pool.map(look, listed.files), 1):
            yield looked
            if number % 64 == 0 or number == len(listed.files):
                progress("looking at images", number, len(listed.files))


def _kind(path: Path) -> str:
    """`PNG, L` or `JPEG, RGB, with EXIF`, from the header."""
    if not is_dicom(path):
        with contextlib.suppress(UnidentifiedImageError), Image.open(path) as image:
            exif = ", with EXIF" if "exif" in image.info else ""
            return f"{image.format}, {image.mode}{exif}"
    return "DICOM"  # also where only the name says otherwise


def _prefix(name: str) -> str:
    """What stands before the first digit: `person` of person12_virus.png."""
    return re.split(r"[0-9]", name, maxsplit=1)[0].strip(" -_.") or "(a number)"


def _survey(
    source: str,
    class_names: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    images: Sequence[_Image],
    places: Sequence[str],
    origins: Sequence[str],
    properties: Mapping[str, Sequence[str]],
    unreadable: tuple[tuple[str, str], ...],
    notes: Sequence[str],
) -> Survey:
    hashes = splits.numbered(np.array([image.hash for image in images], object))
    same = [np.flatnonzero(hashes == k) for k in np.flatnonzero(np.bincount(hashes) > 1)]
    named = lambda sets: tuple(tuple(places[k] for k in rows) for rows in sets)
    counted = lambda name: dict(Counter(properties.get(name, ())).most_common())
    pairs = Counter(zip(origins, labels.tolist()))
    by_class = lambda origin: {name: pairs[origin, k] for k, name in enumerate(class_names)}
    pictures = np.stack([image.picture for image in images])
    tried = {**properties, SITE: origins} if origins else properties
    return Survey(
        source=source,
        class_names=tuple(class_names),
        pictures=pictures,
        labels=labels,
        sizes=counted(SIZE),
        kinds=counted(FORMAT),
        unreadable=unreadable,
        copies=named(same),
        contradictory=named(rows for rows in same if len(set(labels[rows])) > 1),
        origins={origin: by_class(origin) for origin in sorted(set(origins))},
        traits=tuple(shortcuts(tried, pictures, labels, splits.united(groups, hashes))),
        notes=tuple(notes),
    )


# ---- in words ------------------------------------------------------------------------------------


def survey_lines(survey: Survey) -> list[str]:
    """Say what was found, one line each."""
    counts = ", ".join(f"{name} {count}" for name, count in survey.counts.items())
    total = f"{len(survey.labels)} images of {len(survey.class_names)} classes"
    lines = [f"{survey.source}: {total}: {counts}"]
    if survey.sizes:
        lines += [f"sizes: {_most(survey.sizes)}", f"formats: {_most(survey.kinds)}"]
    if survey.unreadable:
        number, (file, reason) = len(survey.unreadable), survey.unreadable[0]
        lines.append(f"unreadable: {number}, left out; the first is {file} ({reason})")
    copies = sum(len(places) - 1 for places in survey.copies)
    contradictions = sum(map(len, survey.contradictory))
    same = counted(copies, "image has", "images have")
    told = copies and f"{same} the pixels of another; {_first(survey.copies)}"
    lines.append(f"copies: {told or 'none'}")
    if contradictions:
        reason = f"{contradictions} images have a copy in another class"
        lines.append(f"contradictions: {reason}; {_first(survey.contradictory)}")
    lines += [f"note: {note}" for note in survey.notes]
    for trait in survey.suspected:
        score = f"{trait['tells_the_class']:.2f} (chance {trait['chance']:.2f})"
        told = f"the {trait['what']} alone predicts the class with balanced accuracy {score}"
        lines.append(f"shortcut suspected: {told}")
    tried = ", ".join(trait["what"] for trait in survey.traits)
    return lines + ([] if survey.suspected else [f"no shortcut suspected; only tried: {tried}"])


def _first(sets: Sequence[Sequence[str]]) -> str:
    return f"the first are {sets[0][0]} and {sets[0][1]}"


def _most(counts: dict[str, int], shown: int = 4) -> str:
    first = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:shown])
    return first + (f" and {len(counts) - shown} more" if len(counts) > shown else "")
