"""Transfer learning: features learned with labels elsewhere, on ImageNet, on the phantom or at
another site.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.base.errors import InputError
from medddist.baselines.vision import import_torchvision
from medddist.data import Data
from medddist.method.networks import Network
from medddist.method.training import Recipe

IMAGENET_FILE = "resnet18-f37072fd.pth"  # torchvision's name for ResNet18_Weights.IMAGENET1K_V1
IMAGENET_SIDE_PX = 64  # smaller images are enlarged to this: the network halves five times


class Unavailable(Exception):
    """A row of the table that cannot be measured here, and why."""


class ImageNetResNet18(nn.Module):
    """torchvision's ResNet-18 for images of any number of channels, its batch statistics frozen at
    ImageNet's.

    They are buffers, outside theta: kept as they are, batch norm is a scale and a shift, both of
        which are fine-tuned.
    """

    def __init__(self, classes: int):
        super().__init__()
        layers = import_torchvision().models.resnet18(weights=None)
        layers.fc = nn.Identity()
        self.layers, self.linear = layers, nn.Linear(512, classes)
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        if x.shape[-1] < IMAGENET_SIDE_PX:
            x = F.interpolate(x, IMAGENET_SIDE_PX, mode="bilinear", align_corners=False)
        return self.layers(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


def imagenet_weights(given: str | None) -> Path:
    """The file of ImageNet weights: the one given, or torchvision's in its cache. Nothing is
    downloaded.

    Raises Unavailable, saying where it was looked for, and InputError for a given file that is not
    there.
    """
    if given:
        if not Path(given).is_file():
            raise InputError(
                "compare.imagenet_weights",
                f"{given} is no file",
                f"give torchvision's {IMAGENET_FILE}, or leave it out",
            )
        return Path(given)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE
    if not cached.is_file():
        raise Unavailable(
            f"no ImageNet weights here: {IMAGENET_FILE} is not in torchvision's cache, and "
            "compare.imagenet_weights names no file"
        )
    return cached


def imagenet_network(weights: Path, classes: int) -> Network:
    """ResNet-18 with these weights in its module, and a last layer that means nothing yet.

    Raises InputError for a file that does not hold them. It is read as tensors alone; nothing is
    unpickled into objects.
    """
    module = ImageNetResNet18(classes)
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)
        missing, unexpected = module.layers.load_state_dict(found, strict=False)
    except Exception as problem:  # whatever torch finds wrong with a file
        reason = " ".join(str(problem).split())[:100] or type(problem).__name__
        raise InputError(
            weights, f"holds no ImageNet weights of ResNet-18 ({reason})", "give torchvision's file"
        ) from None
    if missing or set(unexpected) - {"fc.weight", "fc.bias"}:
        raise InputError(
            weights,
            f"holds another network's weights ({(missing + unexpected)[0]} does not fit)",
            "give torchvision's file",
        )
    return Network(module)


def source_site(data: Data) -> tuple[np.ndarray, np.ndarray, str]:
    """(training images' indices, their labels numbered from 0, name) of the site with most images
    among those with two classes or more.

    Raises Unavailable where origins are unknown or every site has one class.
    """
    origins, labels = data.train.origins, data.train.labels
    if origins is None:
        raise Unavailable("this data does not say which site an image is from")
    several = [k for k in np.unique(origins) if len(np.unique(labels[origins == k])) > 1]
    if not several:
        raise Unavailable(
            "every site of this data has one class alone, so there is no task to transfer from"
        )
    site = max(several, key=lambda k: int(np.sum(origins == k)))
    indices = np.flatnonzero(origins == site)
    return indices, np.unique(labels[indices], return_inverse=True)[1], data.origin_names[site]


def recipe_of_budget(
    recipe: Recipe, learning_rate: float, images: int, images_processed: int
) -> Recipe:
    """`recipe` at another rate, for as many epochs of `images` as take `images_processed`, and one
    at least.
    """
    return recipe.model_copy(
        update={"learning_rate": learning_rate, "epochs": max(1, round(images_processed / images))}
    )
