"""Hospitals: data dealt by origin, and the packages of several as one training set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from medddist.base.errors import InputError, NotApplicable
from medddist.data import Data, Part, Scaling, fingerprint, splits
from medddist.data.collection import PART_NAMES, TEST, TRAIN
from medddist.method.private.dp_sgd import fixed_scaling, public_scaling
from medddist.method.training import Recipe
from medddist.sharing.reading import Package

VALIDATION_FRACTION = 0.1  # of a hospital's training images
COLUMNS = ("images", "labels", "groups")


def hospitals(data: Data) -> dict[str, Data]:
    """Deal the data by origin, by the hospitals' names.

    Each hospital tests on its images in the test part, and deals its validation part out of the
    others itself, unless the parts were decided by each image or patient alone. Pixels are scaled
    by a hospital's own training images, or by public constants where those of `data` are.

    Raises:
        NotApplicable: where sites are not known, or a hospital lacks a class to train with.
    """
    if data.train.origins is None or len(data.origin_names) < 2:
        reason = "does not say which of two or more hospitals its images are from"
        raise NotApplicable(
            data.source, reason, "name each image's site (labels.csv has a column for it)"
        )
    return {name: _of_origin(data, k, name) for k, name in enumerate(data.origin_names)}


def _of_origin(data: Data, origin: int, name: str) -> Data:
    rows = [np.flatnonzero(part.origins == origin) for part in data.parts().values()]
    if not len(rows[-1]):
        raise NotApplicable(name, "has no test image", "leave the hospital out")
    chosen = list(zip(data.parts().values(), rows))
    images, labels, groups = (
        np.concatenate([getattr(part, column)[at] for part, at in chosen]) for column in COLUMNS
    )
    if data.split == "hashed":  # no image may have a say in another's part
        dealt = np.repeat(range(len(PART_NAMES)), [len(at) for at in rows])
    else:
        given = np.repeat([TRAIN, TRAIN, TEST], [len(at) for at in rows])
        dealt = splits.completed(labels, groups, given, 0.2, VALIDATION_FRACTION, seed=0)
    places = {part: np.flatnonzero(dealt == number) for number, part in enumerate(PART_NAMES)}
    parts = {part: Part(images[at], labels[at], groups[at]) for part, at in places.items()}
    for part in ("train", "validation"):
        missing = np.flatnonzero(parts[part].class_counts(data.classes) == 0)
        if len(missing):
            reason = f"has no {part} image of class {data.class_names[missing[0]]}"
            raise NotApplicable(name, reason, "leave the hospital or the class out")
    about = {"fingerprint": fingerprint(parts, data.class_names), "origin_names": (), "notes": ()}
    own = replace(data, **parts, **about, scaling=Scaling.measured(parts["train"].images))
    return fixed_scaling(own) if data.scaling == public_scaling(data.channels) else own


@dataclass(frozen=True)
class Union:
    """Several packages as one training set, in one scaling of pixels."""

    images: Tensor  # (N, C, S, S)
    targets: Tensor  # (N,) or (N, K)
    recipe: Recipe
    scaling: Scaling

    def standardised(self, pixels: np.ndarray) -> Tensor:
        """Scale (N, C, S, S) uint8 images as the networks see them."""
        return torch.from_numpy(self.scaling.apply(pixels))


def union(packages: Sequence[Package]) -> Union:
    """Join packages: images in the mean of their scalings, the first one's recipe.

    The learning rate is the geometric mean of the step sizes. Labels become probabilities where
    those of any package are. Raises InputError for packages that do not fit together.
    """
    if not packages:
        raise InputError("packages", "there are none to train on", "give one or more")
    first = packages[0]
    kind = lambda package: (package.class_names, package.manifest.shape[1:])
    for package in packages[1:]:
        if kind(package) != kind(first):
            reason = f"its classes or the shape of its images are not those of {first.id[:12]}"
            raise InputError(f"package {package.id[:12]}", reason, "leave it out")
    scalings = [package.manifest.pixels.scaling for package in packages]
    mean_of = lambda channels: tuple(np.mean(list(channels), 0).tolist())
    common = Scaling(mean_of(s.mean for s in scalings), mean_of(s.std for s in scalings))
    pairs = zip(scalings, packages)
    images = torch.cat([scaling.between(common, package.images) for scaling, package in pairs])
    targets = [package.targets for package in packages]
    if len({target.ndim for target in targets}) > 1:
        as_soft = lambda given: one_hot(given, len(first.class_names)).float()
        targets = [given if given.ndim == 2 else as_soft(given) for given in targets]
    step_size = math.exp(np.mean([math.log(package.step_size) for package in packages]))
    recipe = first.recipe.model_copy(update={"learning_rate": step_size})
    return Union(images, torch.cat(targets), recipe, common)
