"""Open a package: everything in it is checked before it is used, and nothing in it is ever run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from medddist.base.compute import device_named, use_full_precision
from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.method.evaluate import trained_networks
from medddist.method.networks import Network, convnet
from medddist.method.training import Diverged, Recipe
from medddist.sharing import manifest as form
from medddist.sharing.archive import WHOLE, Archive
from medddist.sharing.exporting import export
from medddist.sharing.receiving import Trained
from medddist.sharing.signature import require_signature
from medddist.sharing.tensors import unpacked

REMEDY = "ask the sender for another package"
MAX_PART = 200  # characters of the parts of a message, which may quote the package


@dataclass(frozen=True, eq=False, repr=False)
class Package(Dataset):
    """A distilled set that was checked.

    It is a torch data set of (image (C, S, S), target), a class or probabilities (K,), for a
    `DataLoader`. Its images are standardised, as networks see them; `pixels` returns pictures.
    """

    manifest: form.Manifest
    id: str  # SHA-256 of the manifest's bytes
    signed: bool
    signed_by: str | None  # fingerprint of the key that checked it; None where none was given
    images: Tensor  # (N, C, S, S) float32, standardised
    targets: Tensor  # (N,) int64 or (N, K) float32
    step_size: float

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.manifest.shape[1:]))
        content = f"{len(self)} images of {size} in {len(self.class_names)} classes"
        return f"<Package {self.id[:12]}: {content}, {self.manifest.labels} labels>"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the targets."""
        return self.manifest.class_names

    @property
    def classes(self) -> Tensor:
        """The class of each image (N,); the most probable one of a soft label."""
        return self.targets.argmax(1) if self.targets.is_floating_point() else self.targets

    def pixels(self) -> np.ndarray:
        """Return the images as pictures, (N, C, S, S) uint8."""
        return self.manifest.pixels.scaling.levels(self.images).numpy()

    def export(self, folder: str | Path) -> list[Path]:
        """Write the images as PNG in a folder per class, with metadata.csv; see `exporting`.

        Raises:
            InputError: the folder already exists, or cannot be written.
        """
        return export(self, folder)

    @property
    def recipe(self) -> Recipe:
        """The manifest's recipe, at the learned step size."""
        recipe = self.manifest.settings.evaluation.recipe
        return recipe.model_copy(update={"learning_rate": self.step_size})

    def network(self) -> Network:
        """Return an untrained network of the kind that the set was made with."""
        pixels, classes = self.manifest.pixels, len(self.class_names)
        settings = self.manifest.settings.network
        return convnet(settings, pixels.channels, classes, pixels.image_size_px)

    def train(
        self, networks: int | None = None, device: str = "auto", progress: Progress = silent
    ) -> Trained:
        """Train networks on the set by its own recipe, as the sender did to measure it.

        On one kind of machine they are the sender's, to the same bits.

        Args:
            networks: how many; None for as many as the sender measured.
            device: `auto`, `cpu`, `cuda` or `cuda:1`.
            progress: called while they are trained.

        Raises:
            InputError: where training diverges at the learned step size.
        """
        use_full_precision()
        place, network = device_named(device), self.network()
        network.module.to(place)
        count = networks or self.manifest.settings.evaluation.networks
        given = network, self.images.to(place), self.targets.to(place), self.recipe, count
        try:
            trained = trained_networks(*given, self.manifest.training_seed, progress)
        except Diverged:
            reason = f"training on it diverges at its step size {self.step_size:.3g}"
            raise InputError(f"package {self.id[:12]}", reason, "ask the sender") from None
        return Trained(self.manifest, self.id, network, trained)


def open_package(
    path: str | Path, key: str | Path | None = None, expect: str | None = None
) -> Package:
    """Open a package's .zip file, and check everything in it.

    Args:
        path: the .zip file.
        key: a public key's file; a package that is not signed by it is refused.
        expect: the ID that the package must have.

    Raises:
        InputError: in one line, for anything but a whole and usable package of this version.
    """
    path = Path(path)
    try:
        return _checked(Archive(path), key, expect)
    except InputError as mistake:
        subject = shown(path) if mistake.subject == WHOLE else f"{shown(path)}: {mistake.subject}"
        reason, remedy = _line(mistake.reason), _line(mistake.remedy or REMEDY)
        raise InputError(subject, reason, remedy) from None


def _line(text: str) -> str:
    """A part of a message that prints in one line, whatever a package wrote into it."""
    line = shown(text)
    return line if len(line) <= MAX_PART else line[: MAX_PART - 3] + "..."


def _checked(archive: Archive, key: str | Path | None, expect: str | None) -> Package:
    content = archive.read(form.MANIFEST, form.MAX_MANIFEST_BYTES)
    name = hashlib.sha256(content).hexdigest()
    if expect is not None and expect.strip().lower() != name:
        reason = f"its ID is {name}, not the expected {expect[:80]}"
        raise InputError(WHOLE, reason, "ask the sender which one is meant")
    signed, signed_by = form.SIGNATURE in archive.sizes, None
    if key is not None:
        if not signed:
            reason = "is not signed, and a key was given to check its signature"
            raise InputError(WHOLE, reason, "ask the sender for a signed package")
        signed_by = require_signature(archive.read(form.SIGNATURE, 64), content, Path(key))
    manifest = form.manifest_from(content)
    unlisted = archive.sizes.keys() - manifest.files.keys() - {form.MANIFEST, form.SIGNATURE}
    if unlisted:
        raise InputError(shown(min(unlisted))[:100], "is not in the manifest")
    files = {file: _listed_file(archive, file, manifest) for file in manifest.files}
    tensors = unpacked(files[form.DATA], manifest)
    values = tensors["images"], tensors["targets"], manifest.step_size
    return Package(manifest, name, signed, signed_by, *values)


def _listed_file(archive: Archive, name: str, manifest: form.Manifest) -> bytes:
    """A file's content, of the size and digest that the manifest lists."""
    listed, remedy = manifest.files[name], "get the package again"
    content = archive.read(name, listed.bytes)
    if len(content) != listed.bytes:
        reason = f"has {len(content)} bytes; {listed.bytes} are listed in the manifest"
        raise InputError(name, reason, remedy)
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        reason = "is not the file that the manifest lists (its SHA-256 differs)"
        raise InputError(name, reason, remedy)
    return content
