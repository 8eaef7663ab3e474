"""Public networks whose features a private distillation releases means of.

They are trained on the phantom, which is of no patient, or not trained at all. Everything about
them follows from a seed, so that a receiver can make them again and check.

    f(x) = (R_1 z_1(x), ..., R_n z_n(x)),    z_j = (last block of network j - mean_j) * scale_j

Notation: mean_j over phantom images, scale_j the inverse of the standard deviation over them, or 0
where a feature never changes there; R_j a random projection to few numbers; C twice the median norm
of f over phantom images, since other images lie further from the phantom's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.threads import shared_threads
from medddist.data import DataSettings, load_data
from medddist.data.scaling import Scaling
from medddist.method.augment import AugmentSettings
from medddist.method.fast.derivatives import last_block, last_block_of_each
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, Recipe, train

PHANTOM_IMAGES = 5600  # made to train public networks
FEWER_IMAGES = 600  # made where these are not trained
TRAINING_IMAGES = 4035  # of these; the others are not used
AT_A_TIME = 256  # images that a public network describes
STRONG = AugmentSettings(  # networks that saw stronger changes see more in other images, too
    shift=0.1, scale=0.15, rotation_degrees=10, brightness=0.6, contrast=0.5, cutout=0.3
)
RECIPE = Recipe(
    epochs=8,
    batch_size=64,
    learning_rate=0.02,
    momentum=0.9,
    sampling="balanced",
    augmentation=STRONG,
)
LEAST_SPREAD = 0.25  # of the median feature, below which a feature is not enlarged further
CLIP_FACTOR = 2.0  # C, in median norms over phantom images
SEED = "public networks"


@dataclass(frozen=True)
class Extractors:
    """Public networks, what their features are standardised by, and projections."""

    network: Network
    thetas: tuple[Tensor, ...]  # n of (P,)
    means: tuple[Tensor, ...]  # n of (D,)
    scales: tuple[Tensor, ...]  # n of (D,)
    projections: tuple[Tensor, ...]  # n of (D, numbers)
    clip: float  # C

    def features(self, images: Tensor) -> Tensor:
        """Compute f (N, n * numbers) of images (N, C, H, W), differentiable in them."""
        return self._joined([last_block(self.network, theta, images) for theta in self.thetas])

    def _joined(self, blocks: Sequence[Tensor]) -> Tensor:
        """F (N, n * numbers) from the last block (N, D) of each network."""
        parts = zip(blocks, self.means, self.scales, self.projections)
        return torch.cat([(block - mean) * scale @ r for block, mean, scale, r in parts], 1)

    @torch.no_grad()
    @shared_threads()
    def one_by_one(self, images: Tensor, progress: Progress = silent) -> np.ndarray:
        """Compute f (N, n * numbers) of each image by itself.

        So the last digit of an image's features does not depend on which images are there beside
        it, and neither does what it adds to a sum of integers.
        """
        rows, shape = [], (len(images), sum(p.shape[1] for p in self.projections))
        for part in images.split(AT_A_TIME):
            blocks = [last_block_of_each(self.network, theta, part) for theta in self.thetas]
            for each in zip(*(block.split(1) for block in blocks)):
                rows.append(self._joined([block.clone() for block in each])[0].cpu().numpy())
            progress("features of real images", len(rows), len(images))
        return np.reshape(rows, shape)


def public_phantom(
    image_size_px: int,
    channels: int,
    scaling: Scaling,
    cache_folder: Path | None = None,
    seed: int = 0,
    images: int | None = None,
) -> Labelled:
    """Make the phantom images (N, C, S, S), scaled, and their labels (N,); kept in the cache.

    Args:
        image_size_px: S.
        channels: C.
        scaling: of the pixels, public.
        cache_folder: of the images as they were made.
        seed: of the phantom's patients.
        images: made, of which the training part is returned; by default PHANTOM_IMAGES.
    """
    wanted = {"image_size_px": image_size_px, "channels": channels}
    wanted["images"] = images or PHANTOM_IMAGES
    part = load_data("phantom", DataSettings(**wanted, seed=seed), cache_folder).train
    scaled = torch.from_numpy(scaling.apply(np.array(part.images)))
    return scaled, torch.from_numpy(np.array(part.labels))


def extractors(
    network: Network,
    phantom: Labelled,
    count: int,
    numbers: int,
    trained: bool,
    progress: Progress = silent,
) -> Extractors:
    """Make public networks; the same everywhere, up to rounding.

    Args:
        network: a ConvNet.
        phantom: images (N, C, H, W) and labels (N,).
        count: n, of networks.
        numbers: of each network's features, after projection.
        trained: on the phantom, or left as they start.
        progress: called after each network.
    """
    images, labels = phantom
    thetas, means, scales, projections, known = [], [], [], [], []
    for k in range(count):
        theta = initial_parameters(network, SEED, k).to(images)
        if trained:
            theta = train(network, theta, images, labels, RECIPE, (SEED, k))
        with torch.no_grad():
            blocks = torch.cat([last_block(network, theta, x) for x in images.split(AT_A_TIME)])
        mean, std = blocks.mean(0), blocks.std(0)
        changes = std > 1e-6 * std.max()  # what never changes says nothing, and what hardly, little
        least = LEAST_SPREAD * std[changes].median() if changes.any() else std.new_ones(())
        scale = torch.where(changes, 1 / torch.maximum(std, least), 0.0)
        draws = torch.randn(blocks.shape[1], numbers, generator=generator(SEED, "projection", k))
        projection = draws.to(images) / numbers**0.5
        thetas.append(theta)
        means.append(mean)
        scales.append(scale)
        projections.append(projection)
        known.append((blocks - mean) * scale @ projection)
        progress("public networks", k + 1, count)
    clip = CLIP_FACTOR * torch.cat(known, 1).norm(dim=1).median().item()
    return Extractors(network, *map(tuple, (thetas, means, scales, projections)), clip)
