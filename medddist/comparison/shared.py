"""Give what all methods of the comparison share: random images, initial parameters, budgets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from medddist.base.seeds import generator
from medddist.baselines.architectures import architecture
from medddist.baselines.transfer import imagenet_network, imagenet_weights
from medddist.data import Data, Part
from medddist.method.evaluate import random_real
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, Recipe
from medddist.study.profile import Profile
from medddist.study.scores import METHODS
from medddist.study.settings import CompareSettings
from medddist.study.study import Study

LABELS = METHODS | {
    "random_real": "random real images, from scratch",
    "herding": "coreset by herding",
    "k_means": "coreset by k-means",
    "gradient_matching": "gradient matching (DC)",
    "distribution_matching": "distribution matching (DM)",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "skd": "SKD-style",
    "mae": "MAE",
    "transfer_imagenet": "transfer from ImageNet",
    "transfer_site": "transfer from one site",
    "transfer_phantom": "transfer from the phantom",
    "random": "random features",
}


@dataclass(frozen=True)
class Entry:
    """A row of a table: a method with a network."""

    table: str
    method: str
    network: str = "convnet"


class Ready(NamedTuple):
    """What the network of one evaluation seed is trained on, and where it starts."""

    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,) or (N, K)
    start: Tensor  # (P,) parameters
    own_rates: tuple[float, ...] = ()  # learning rates that come with the images


@dataclass(frozen=True)
class Prepared:
    """What a method hands to the evaluation.

    depends_on: what the method's results depend on, beside what those of all methods do
    ready: (network, factor of the method's own learning rate or None, evaluation seed) -> Ready
    about: (the chosen factor) -> what to tell of the preparations, see `cost`
    factors: to choose from on validation; (None,) where the method has no learning rate of its own
    sets: (R,) the training set of each evaluation seed, where several seeds share one
    """

    depends_on: dict[str, Any]
    ready: Callable[[Network, float | None, int], Ready]
    about: Callable[[float | None], dict] = lambda factor: cost(0.0)
    factors: tuple[float | None, ...] = (None,)
    sets: np.ndarray | None = None


def cost(seconds: float, images_processed: int = 0, **more: Any) -> dict:
    """Tell the seconds of all preparations, and the images that one of them processed."""
    processed = {"images_processed_a_preparation": images_processed}
    return {"seconds_preparing": round(seconds, 2), **processed, **more}


@contextlib.contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Append the seconds spent within, whether or not it fails."""
    began = time.monotonic()
    try:
        yield
    finally:
        spent.append(time.monotonic() - began)


def network_named(
    name: str, profile: Profile, shape: tuple[int, int, int], device: torch.device
) -> Network:
    """Make one of the comparison's networks.

    Args:
        name: one of `architectures.ARCHITECTURES`, or `imagenet_resnet18`.
        profile: gives the ConvNet's size, the other networks' sizes and the ImageNet weights.
        shape: channels of an image, classes, and an image's height and width in pixels.
        device: where the network's parameters lie.

    Raises:
        NotApplicable: there are no ImageNet weights on this machine.
        InputError: the name is unknown, or the images are too small for the network.
    """
    settings = profile.compare
    if name == "imagenet_resnet18":
        network = imagenet_network(imagenet_weights(settings.imagenet_weights), shape[1])
    else:
        network = architecture(name, profile.network, settings.architectures, shape)
    network.module.to(device)
    return network


def network_of(study: Study, name: str) -> Network:
    """Make one of the comparison's networks for the study's images; see `network_named`."""
    data = study.data
    shape = data.channels, data.classes, data.image_size_px
    return network_named(name, study.profile, shape, study.device)


def fresh(study: Study, network: Network, k: int) -> Tensor:
    """Draw the initial parameters (P,) of evaluation seed k: the same for every method."""
    return initial_parameters(network, study.profile.evaluate.seed, "compare", k).to(study.device)


def drawn(study: Study, k: int, draw: str = "balanced") -> Labelled:
    """Draw the labelled images of evaluation seed k; the study's own draw k has the same."""
    (images, labels), size = study.tensors("train"), study.profile.distill.images_per_class
    random = generator(study.profile.evaluate.seed, "random real", draw, k)
    indices = random_real(labels, size, study.data.classes, draw, random)
    return images[indices], labels[indices]


def labelled(data: Data, part: Part, device: torch.device) -> Labelled:
    """Return the images of a part, standardised as `data` is, and its labels, on a device."""
    images = torch.from_numpy(data.standardised(part.images))
    return images.to(device), torch.from_numpy(np.asarray(part.labels, np.int64)).to(device)


def compare_recipe(profile: Profile) -> Recipe:
    """Give the recipe by which every method's networks are trained."""
    changes = profile.compare.model_dump(include={"epochs", "batch_size"}, exclude_none=True)
    return profile.evaluate.recipe.model_copy(update=changes)


def pretraining_steps(settings: CompareSettings, table: str) -> int:
    """Give the steps of one self-supervised pretraining in a table."""
    pretraining = settings.pretrain
    return pretraining.inside_steps if table == "inside" else pretraining.released_steps


def image_budget(settings: CompareSettings, table: str) -> int:
    """Give the images that one preparation may process: two views of each pretraining batch."""
    return 2 * pretraining_steps(settings, table) * settings.pretrain.batch_size


def condensing_iterations(settings: CompareSettings, classes: int) -> int:
    """Give the iterations of gradient or distribution matching that the image budget allows."""
    per_iteration = settings.condense.real_images_per_class * classes
    return max(1, image_budget(settings, "inside") // per_iteration)
