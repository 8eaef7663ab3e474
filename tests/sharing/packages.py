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
from safetensors.torch import load, save
from small import CLASSES, SIZE_PX, labelled, tiny_distill, tiny_evaluation, tiny_teachers

from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.method.distilled import Distilled
from medddist.sharing import archive
from medddist.sharing.manifest import DATA, MANIFEST
from medddist.sharing.writing import STATED, packed

HERE = Path(__file__).parent
# written once each, the second by `PYTHONPATH=tests python tests/sharing/packages.py`
KEPT_1, KEPT_2 = HERE / "phantom-v1.zip", HERE / "phantom-v2.zip"
SCALING = Scaling((0.4,), (0.16,))
VERSIONS = {1: torch.float32, 2: torch.uint8}


def data(size_px: int = SIZE_PX, scaling: Scaling = SCALING) -> Data:
    def part(count: int, seed: int) -> Part:
        images, labels = labelled(count, seed)
        pixels = (images * 40 + 100).clamp(0, 255).to(torch.uint8).numpy()
        pixels = pixels.repeat(size_px // SIZE_PX, 2).repeat(size_px // SIZE_PX, 3)
        return Part(pixels, labels.numpy(), np.arange(count))

    names, about = ("a", "b", "c"), ("0123456789abcdef" * 2, "made up")
    return Data(part(24, 0), part(9, 1), part(18, 2), names, *about, scaling=scaling)


def released(soft: bool = False, count: int = 2 * CLASSES, size_px: int = SIZE_PX) -> Distilled:
    """A set as it is scored and sent: its pixels are on the 256 levels of a picture."""
    images, labels = labelled(count, 3)
    images = images.repeat(1, 1, size_px // SIZE_PX, size_px // SIZE_PX)
    targets = 5 * torch.eye(CLASSES)[labels] if soft else labels
    return Distilled(SCALING.apply(SCALING.levels(images)), targets, torch.tensor(0.05).log())


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


def files(
    soft: bool = False, sign_with: Path | None = None, version: int = 2, **changes
) -> dict[str, bytes]:
    """The files of a small package; `changes` are of what its manifest says."""
    found = dict(_files(soft, sign_with, tuple(changes.items())))
    return found if version == 2 else _of_version_1(found, released(soft))


def _of_version_1(found: dict[str, bytes], one: Distilled) -> dict[str, bytes]:
    """The package as it was written before: standardised pixels, and no word of it."""

    def said(manifest: dict) -> None:
        manifest["version"] = 1
        del manifest["storage"]

    tensors = {"images": one.images, "targets": one.targets, "step_size": one.step_size}
    return with_manifest(found | {DATA: save(tensors)}, said)


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


def with_tensors(version: int = 2, soft: bool = False, **changes) -> dict[str, bytes]:
    """A package whose tensors are others, and whose manifest lists that."""
    found = files(soft, version=version)
    tensors = load(found[DATA]) | changes
    kept = {name: value for name, value in tensors.items() if value is not None}
    return with_manifest(found | {DATA: save(kept)})


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


PIXELS = SIZE_PX**2  # bytes of one image


if __name__ == "__main__":
    # the set of the first kept package, in the format of today
    from medddist.data import DataSettings, load_data
    from medddist.sharing.reading import open_package

    before = open_package(KEPT_1)
    phantom = load_data("phantom", DataSettings(images=240, image_size_px=16))
    kept = ("seed", "selected_iteration", "settings", *STATED)
    same = {name: getattr(before.manifest, name) for name in kept} | {"simulated": True}
    one = Distilled(before.images, before.targets, torch.tensor(before.step_size).log())
    made = packed(one, phantom, about() | same)
    KEPT_2.write_bytes(archive.zipped(made))
