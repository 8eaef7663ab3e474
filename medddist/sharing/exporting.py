"""Export a package's images as files that any other tool reads.

    FOLDER/COVID/0000.png ...   one folder per class, pixels as they were sent
    FOLDER/metadata.csv         file_name, label, and for soft labels each class's probability
    FOLDER/about.json           the package's ID, licence and intended use

A soft label's class is its most probable one. metadata.csv is named as Hugging Face's `imagefolder`
expects. `load_data` reads the folder too, by its class folders.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from medddist.base.errors import NotWritable, require, shown
from medddist.base.files import file_names, write_json

if TYPE_CHECKING:
    from medddist.sharing.reading import Package

LABELS, ABOUT = "metadata.csv", "about.json"
STATED = ("description", "creator", "licence", "intended_use")  # of the manifest
FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute a cell that begins so


def export(package: Package, folder: str | Path) -> list[Path]:
    """Write the images of a package as PNG, one folder per class, and their labels.

    The folder appears whole or not at all.

    Args:
        package: that was opened.
        folder: a new one.

    Returns:
        The files: images in the package's order, metadata.csv and about.json.

    Raises:
        InputError: the folder already exists, or cannot be written.
    """
    folder = Path(folder)
    remedy = "remove it, or name another folder"
    require(not os.path.lexists(folder), shown(folder), "already exists", remedy)
    files = _files(package)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        for place in {(temporary / file).parent for file in files}:
            place.mkdir(parents=True, exist_ok=True)
        for file, image in zip(files, package.pixels()):
            _picture(image).save(temporary / file)
        (temporary / LABELS).write_text(_table(package, files), encoding="utf-8", newline="")
        write_json(temporary / ABOUT, _about(package))
        os.rename(temporary, folder)
    except (OSError, NotWritable) as problem:
        cause = problem.problem if isinstance(problem, NotWritable) else problem
        raise NotWritable(folder, cause) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / file for file in (*files, LABELS, ABOUT)]


def _files(package: Package) -> list[str]:
    """The path of each image below the folder, numbered within its class."""
    folders = file_names(package.class_names, spaces=True)
    digits, counts, files = len(str(len(package) - 1)), {}, []
    for k in package.classes.tolist():
        name = package.class_names[k]
        files.append(f"{folders[name]}/{counts.get(k, 0):0{max(digits, 4)}d}.png")
        counts[k] = counts.get(k, 0) + 1
    return files


def _picture(image: np.ndarray) -> Image.Image:
    """A picture of (C, S, S) uint8: grey, or in colour."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _table(package: Package, files: list[str]) -> str:
    names = [f"'{name}" if name.startswith(FORMULA) else name for name in package.class_names]
    text, soft = io.StringIO(newline=""), package.targets.is_floating_point()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_name", "label", *(f"probability of {name}" for name in names if soft)])
    targets = package.targets.tolist()
    for file, k, target in zip(files, package.classes.tolist(), targets, strict=True):
        writer.writerow([file, names[k], *(f"{p:.6g}" for p in (target if soft else ()))])
    return text.getvalue()


def _about(package: Package) -> dict:
    stated = {name: getattr(package.manifest, name) for name in STATED}
    return {"package": package.id, **stated, "class_names": list(package.class_names)}
