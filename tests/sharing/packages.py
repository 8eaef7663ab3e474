"""Packages for tests: a small one made here, and ways to spoil one, with or without a manifest that
fits the damage.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from small import CLASSES, SIZE_PX, labelled, tiny_distill, tiny_evaluation, tiny_teachers

from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.method.matching import Distilled
from medddist.sharing import archive
from medddist.sharing.manifest import DATA, MANIFEST
from medddist.sharing.writing import STATED, packed

KEPT = Path(__file__).with_name(
    "phantom-v1.zip"
)  # written once by `python tests/sharing/packages.py`, and never again


def data() -> Data:
    def part(count: int, seed: int) -> Part:
        images, labels = labelled(count, seed)
        pixels = (images * 40 + 100).clamp(0, 255).to(torch.uint8).numpy()
        return Part(pixels, labels.numpy(), np.arange(count))

    names, statistics = ("a", "b", "c"), {"scaling": Scaling((0.4,), (0.16,))}
    return Data(
        part(24, 0), part(9, 1), part(18, 2), names, "0123456789abcdef" * 2, "made up", **statistics
    )


def released(soft: bool = False) -> Distilled:
    images, labels = labelled(2 * CLASSES, 3)
    return Distilled(
        images, 5 * torch.eye(CLASSES)[labels] if soft else labels, torch.tensor(0.05).log()
    )


def about() -> dict:
    plain = {"width": 4, "depth": 2}
    settings = {
        "network": plain,
        "evaluation": tiny_evaluation(),
        "distillation": tiny_distill(),
        "teachers": tiny_teachers(),
    }
    dumped = {
        name: one if isinstance(one, dict) else one.model_dump(mode="json")
        for name, one in settings.items()
    }
    return {
        "seed": 0,
        "selected_iteration": 3,
        "measured": "not measured",
        "audit": "not measured",
        "settings": dumped,
        **STATED,
    }


def files(soft: bool = False, sign_with: Path | None = None, **changes) -> dict[str, bytes]:
    """The files of a small package; `changes` are of what its manifest says."""
    return dict(_files(soft, sign_with, tuple(changes.items())))


@functools.cache
def _files(soft: bool, sign_with: Path | None, changes: tuple) -> dict[str, bytes]:
    return packed(released(soft), data(), about() | dict(changes), sign_with)


def with_manifest(
    found: dict[str, bytes], change: Callable[[dict], None] | None = None
) -> dict[str, bytes]:
    """The files with a manifest that lists them as they now are, and is then changed: what somebody
    who knows the format sends.
    """
    manifest = json.loads(found[MANIFEST])
    others = {name: content for name, content in found.items() if name != MANIFEST}
    manifest["files"] = {
        name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()}
        for name, c in others.items()
    }
    if change:
        change(manifest)
    return {MANIFEST: json.dumps(manifest).encode()} | others


def with_tensors(**changes) -> dict[str, bytes]:
    """A package whose tensors are others, and whose manifest lists that."""
    one = released()
    tensors = {"images": one.images, "targets": one.labels, "step_size": one.step_size} | changes
    return with_manifest(
        files()
        | {DATA: save({name: value for name, value in tensors.items() if value is not None})}
    )


def with_header(header: dict, body: bytes) -> dict[str, bytes]:
    """A package whose safetensors file has a header written by hand."""
    text = json.dumps(header).encode()
    return with_manifest(files() | {DATA: len(text).to_bytes(8, "little") + text + body})


def as_zip(path: Path, found: dict[str, bytes]) -> Path:
    path.write_bytes(archive.zipped(found))
    return path


def zip_of(
    path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_STORED
) -> Path:
    """A .zip with any entries in it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for name, content in entries:
            opened.writestr(name, content)
    path.write_bytes(made.getvalue())
    return path


PIXELS = 4 * SIZE_PX**2  # bytes of one image


if __name__ == "__main__":
    from medddist.sharing.studies import contents_of, measured
    from medddist.sharing.writing import write_package
    from medddist.study.profile import load_profile
    from medddist.study.study import Study

    changes = {
        "data.images": 240,
        "data.image_size_px": 16,
        "network.width": 4,
        "distill.images_per_class": 1,
        "distill.iterations": 4,
        "teachers.recipe.epochs": 3,
        "teachers.kept_epochs": 3,
        "distill.select_every": 2,
        "evaluate.recipe.epochs": 4,
    }
    stated = {
        "description": "Phantom, kept to be read",
        "creator": "medddist's tests",
        "licence": "CC0-1.0",
    }
    study = Study(load_profile("smoke", changes), "phantom", "build/kept", "cpu")
    write_package(KEPT, contents_of(study), stated=stated, measured=measured(study))
