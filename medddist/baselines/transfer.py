"""Transfer features that were learned with labels on ImageNet, the phantom or one site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medddist.base.errors import InputError, NotApplicable
from medddist.baselines.vision import import_torchvision
from medddist.data import Data
from medddist.method.networks import Network
from medddist.method.training import Recipe

IMAGENET_FILE = "resnet18-f37072fd.pth"  # torchvision's name for ResNet18_Weights.IMAGENET1K_V1
IMAGENET_SIDE_PX = 64  # smaller images are enlarged to this: the network halves five times


class ImageNetResNet18(nn.Module):
    """torchvision's ResNet-18 for images of one or three channels.

    Its batch statistics are frozen at ImageNet's. They are buffers, outside theta: so batch norm is
    a scale and a shift, both of which are fine-tuned.
    """

    def __init__(self, classes: int):
        super().__init__()
        layers = import_torchvision().models.resnet18(weights=None)
        layers.fc = nn.Identity()
        self.layers, self.linear = layers, nn.Linear(512, classes)
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        """Compute (N, 512) of images (N, C, H, W)."""
        if x.shape[-1] < IMAGENET_SIDE_PX:
            x = F.interpolate(x, IMAGENET_SIDE_PX, mode="bilinear", align_corners=False)
        return self.layers(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W)."""
        return self.linear(self.features(x))


def imagenet_weights(given: str | None) -> Path:
    """Find the file of ImageNet weights; nothing is downloaded.

    Args:
        given: a file, or None for torchvision's in its cache.

    Raises:
        NotApplicable: the cache has none.
        InputError: the given file does not exist.
    """
    if given:
        if not Path(given).is_file():
            remedy = f"give torchvision's {IMAGENET_FILE}, or leave it out"
            raise InputError("compare.imagenet_weights", f"{given} is no file", remedy)
        return Path(given)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE
    if not cached.is_file():
        reason = f"no ImageNet weights here: {IMAGENET_FILE} is not in torchvision's cache"
        reason += ", and compare.imagenet_weights names no file"
        raise NotApplicable("transfer_imagenet", reason)
    return cached


def imagenet_network(weights: Path, classes: int) -> Network:
    """Make a ResNet-18 with these weights in its module, and a last layer without a meaning yet.

    The file is read as tensors alone; nothing is unpickled into objects.

    Raises:
        InputError: the file does not hold such weights.
    """
    module = ImageNetResNet18(classes)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        own = {name: value for name, value in state.items() if not name.startswith("fc.")}
        module.layers.load_state_dict(own)
    except Exception as problem:  # whatever torch finds wrong with a file
        cause = " ".join(str(problem).split())[:100] or type(problem).__name__
        reason = f"holds no ImageNet weights of ResNet-18 ({cause})"
        raise InputError(weights, reason, "give torchvision's file") from None
    return Network(module)


def source_site(data: Data) -> tuple[np.ndarray, np.ndarray, str]:
    """Choose the site with most training images among those with two classes or more.

    Returns:
        Indices of its training images (M,), their labels numbered from 0 (M,), and its name.

    Raises:
        NotApplicable: origins are unknown, or every site has one class.
    """
    origins, labels = data.train.origins, data.train.labels
    if origins is None:
        raise NotApplicable("transfer_site", "this data does not say which site an image is from")
    several = [k for k in np.unique(origins) if len(np.unique(labels[origins == k])) > 1]
    if not several:
        reason = "every site of this data has one class alone, so there is no task to transfer from"
        raise NotApplicable("transfer_site", reason)
    site = max(several, key=lambda k: int(np.sum(origins == k)))
    indices = np.flatnonzero(origins == site)
    return indices, np.unique(labels[indices], return_inverse=True)[1], data.origin_names[site]


def recipe_of_budget(
    recipe: Recipe, learning_rate: float, images: int, images_processed: int
) -> Recipe:
    """Change a recipe's learning rate, and its epochs to what a budget allows.

    Args:
        recipe: to change.
        learning_rate: the new one.
        images: of an epoch.
        images_processed: the budget; it allows one epoch at least.
    """
    epochs = max(1, round(images_processed / images))
    return recipe.model_copy(update={"learning_rate": learning_rate, "epochs": epochs})
