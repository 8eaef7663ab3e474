"""Opening a package: nothing in it is trusted before it was checked, and nothing in it is ever run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils.data import Dataset

from medddist.base.errors import InputError, shown
from medddist.base.progress import Progress, silent
from medddist.method.networks import Network, convnet
from medddist.method.training import Recipe
from medddist.sharing import archive as container
from medddist.sharing import tensors
from medddist.sharing.manifest import (
    DATA,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    Manifest,
    manifest_from,
)

if TYPE_CHECKING:
    from medddist.sharing.receiving import Trained


@dataclass(frozen=True, eq=False)
class Package(Dataset):
    """A distilled set that was checked: a torch data set of (image (C, S, S), target), a class or
    probabilities (K,).
    """

    manifest: Manifest
    id: str  # SHA-256 of the manifest's bytes
    signed: bool
    signed_by: (
        str | None
    )  # fingerprint of the key that the signature was checked with; None where none was given
    images: Tensor  # (N, C, S, S) float32, standardised
    targets: Tensor  # (N,) int64 or (N, K) float32
    step_size: float

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    @property
    def recipe(self) -> Recipe:
        """The manifest's, at the learned step size."""
        return self.manifest.settings.evaluation.recipe.model_copy(
            update={"learning_rate": self.step_size}
        )

    def network(self) -> Network:
        """An untrained network of the kind that the set was made with."""
        pixels = self.manifest.pixels
        return convnet(
            self.manifest.settings.network,
            pixels.channels,
            len(self.class_names),
            pixels.image_size_px,
        )

    def train(
        self,
        networks: int | None = None,
        device: str = "auto",
        progress: Progress = silent,
    ) -> Trained:
        """Networks trained on the set by its own recipe, as `receiving.Trained`; by default as many
        as the sender measured.
        """
        from medddist.sharing.receiving import trained

        return trained(self, networks, device, progress)


def open_package(
    path: str | Path, key: str | Path | None = None, expect: str | None = None
) -> Package:
    """A package's folder or .zip file, checked throughout.

    key: a public key's file; what is not signed by it is refused. expect: the ID that it has to
        have. Raises InputError, one line with the reason, for anything that is not a whole and
        usable package of this version.
    """
    path = Path(path)
    try:
        with container.opened(path) as box:
            return _checked(box, key, expect)
    except InputError as reason:
        raise InputError(shown(path), reason) from None


def _checked(box, key, expect) -> Package:
    content = container.read(box, MANIFEST, MAX_MANIFEST_BYTES)
    name = hashlib.sha256(content).hexdigest()
    if expect is not None and expect.strip().lower() != name:
        raise InputError(
            f"its ID is {name}, not the expected {shown(expect)[:80]}; ask the sender which "
            "one is meant"
        )
    signed, signed_by = SIGNATURE in box.sizes, _signed_by(box, content, key)
    manifest = manifest_from(content)
    strangers = box.sizes.keys() - manifest.files.keys() - {MANIFEST, SIGNATURE}
    if strangers:
        raise InputError(min(strangers), "is not in the manifest")
    files = {file: _file(box, file, manifest) for file in manifest.files}
    contents = tensors.unpacked(files[DATA], manifest)
    return Package(
        manifest,
        name,
        signed,
        signed_by,
        contents.images,
        contents.targets,
        contents.step_size.item(),
    )


def _signed_by(box, manifest: bytes, key: str | Path | None) -> str | None:
    if key is None:
        return None
    from medddist.sharing.signature import require_signature

    if SIGNATURE not in box.sizes:
        raise InputError(
            "is not signed, and a signature was asked for with a key; ask the sender for a "
            "signed one"
        )
    return require_signature(container.read(box, SIGNATURE, 64), manifest, Path(key))


def _file(box, name: str, manifest: Manifest) -> bytes:
    """A listed file's bytes, of the announced size and digest."""
    announced = manifest.files[name]
    content = container.read(box, name, announced.bytes)
    if len(content) != announced.bytes:
        raise InputError(name, f"has {len(content)} bytes, {announced.bytes} were announced")
    if hashlib.sha256(content).hexdigest() != announced.sha256:
        raise InputError(
            name,
            "is not the file that the manifest describes (its SHA-256 is another)",
            "get it again",
        )
    return content
