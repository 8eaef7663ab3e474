"""A study's distillation with a guarantee: which steps are kept, and what each may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medddist.base import processes
from medddist.base.errors import require
from medddist.base.files import digest, locked
from medddist.base.tensors import load_tensors
from medddist.data.phantom.generate import CLASS_NAMES
from medddist.method.distill import Distillation
from medddist.method.distilled import Distilled
from medddist.method.networks import convnet
from medddist.method.private.distilling import noise_start, private_distillation, public_start
from medddist.method.private.extractors import (
    FEWER_IMAGES,
    Extractors,
    extractors,
    public_phantom,
)
from medddist.method.private.release import Release, clipped_sums, guarantee, released
from medddist.method.training import Labelled

if TYPE_CHECKING:
    from medddist.method.settings import DistillSettings
    from medddist.study.scores import Scored
    from medddist.study.study import Study

STACKED = ("thetas", "means", "scales", "projections")


def with_epsilon(study: Study, epsilon: float) -> Study:
    """Derive the study whose set has a guarantee with this epsilon, from all images of the data."""
    changes = {"distill.method": "private", "distill.labels": "hard", "distill.epsilon": epsilon}
    if not study.data.is_phantom:  # every image enters by itself
        changes["data.images"] = None
    return study.with_(study.profile.changed(changes))


def scored_with_epsilon(study: Study, asked: tuple[float, str]) -> Scored:
    """Score a method, the second asked, in the study whose set has the first as its epsilon."""
    epsilon, method = asked
    return with_epsilon(study, epsilon).scored(method)


def distilled_privately(study: Study, settings: DistillSettings) -> Distillation:
    """Distil by one release of the training part; validation and test parts are not looked at.

    Raises InputError under torchrun.
    """
    require(
        processes.count() == 1,
        "distill.method",
        "private releases once, and several processes would each do so",
        "start one process",
    )
    public = public_networks(study)
    release, _ = release_of(study, settings, public)
    start = public_set(study, settings)
    return private_distillation(public, start, release, settings, study.progress)


def public_networks(study: Study) -> Extractors:
    """Make the public networks: trained on the phantom, or random where that is the data.

    They depend on nothing private, and are kept.
    """
    depends_on = _public(study)
    network = convnet(study.profile.network, *depends_on["shape"])
    network.module.to(study.device)

    def compute() -> tuple[dict[str, torch.Tensor], dict]:
        given = network, public_phantom_of(study), *depends_on["numbers"], depends_on["trained"]
        made = extractors(*given, study.progress)
        return {name: torch.stack(getattr(made, name)) for name in STACKED}, {"clip": made.clip}

    tensors, about = study.store.tensors("public", compute, **depends_on)
    parts = (tuple(tensors[name].to(study.device)) for name in STACKED)
    return Extractors(network, *parts, about["clip"])


def public_to_train(study: Study) -> bool:
    """Say whether public networks have to be trained before the study's next release."""
    depends_on = _public(study)
    return depends_on["trained"] and not study.store.path("public", **depends_on).exists()


def _public(study: Study) -> dict[str, Any]:
    """What public networks depend on; their answers are the phantom's classes."""
    settings, data = study.profile.distill, study.data
    return {
        "numbers": [settings.extractor_networks, settings.extractor_numbers],
        "trained": settings.extractors == "phantom" and not data.is_phantom,
        "shape": [data.channels, len(CLASS_NAMES), data.image_size_px],
        **phantom_depends_on(study),
    }


def phantom_depends_on(study: Study) -> dict[str, int]:
    """Return what public networks and a release depend on only where the phantom is the data."""
    return {"images": FEWER_IMAGES} if study.data.is_phantom else {}


def release_of(
    study: Study, settings: DistillSettings, public: Extractors
) -> tuple[Release, dict[str, Any]]:
    """Return the release of a seed, which is drawn once and kept, and what guarantee it has.

    Each image's features are computed by themselves, and the sums are of integers: one image or
    patient more changes nothing else. The sums without noise are not kept.

    Raises:
        InputError: for data whose split looked at other images than the one that it places.
    """
    alone = "the parts of these data were drawn by a look at all images"
    remedy = "load them with data.split=hashed"
    require(study.data.split == "hashed", "distill.method", f"private: {alone}", remedy)

    def compute() -> tuple[dict[str, torch.Tensor], dict]:
        sums = _sums(study, public)
        drawn = released(sums, public.clip, settings.epsilon, settings.delta)
        unit = "patient" if study.data.patients else "image"
        stated = guarantee(settings.epsilon, settings.delta, unit, sums.size)
        means, counts = torch.from_numpy(drawn.means), torch.from_numpy(drawn.counts)
        return {"means": means, "counts": counts}, {"guarantee": stated}

    depends_on = _decides(study, settings)
    with locked(study.store.path("release", **depends_on)):  # a second process waits, and reads
        tensors, about = study.store.tensors("release", compute, **depends_on)
    return Release(tensors["means"].numpy(), tensors["counts"].numpy()), about["guarantee"]


_SUMS: dict[str, np.ndarray] = {}  # of the last data asked for, in memory alone


def _sums(study: Study, public: Extractors) -> np.ndarray:
    """Sums without noise, which all seeds and all epsilons of the same data share."""
    names = {"extractors", "extractor_networks", "extractor_numbers"}
    settings = study.profile.distill.model_dump(mode="json", include=names)
    key = digest([study.store.shared, settings, study.store.computed_by])
    if key not in _SUMS:
        images, labels = study.tensors("train")
        features = public.one_by_one(images, study.progress)
        units, classes = np.asarray(study.data.train.groups), study.data.classes
        _SUMS.clear()
        _SUMS[key] = clipped_sums(features, labels.cpu().numpy(), units, classes, public.clip)
    return _SUMS[key]


def stated_guarantee(study: Study) -> dict[str, Any]:
    """State what holds for the set of the first seed: what was noted when its release was drawn.

    Raises:
        InputError: where that release is not kept any more; another one is another set.
    """
    settings = study.profile.distill.model_copy(update={"seed": study.profile.seeds[0]})
    path = study.store.path("release", **_decides(study, settings))
    gone = "is missing, and a new one would not be the one that the set was made of"
    require(path.exists(), path, gone, "remove the distilled set too, and distil again")
    return load_tensors(path)[1]["guarantee"]


def _decides(study: Study, settings: DistillSettings) -> dict[str, Any]:
    names = {"epsilon", "delta", "extractors", "extractor_networks", "extractor_numbers", "seed"}
    return {
        "settings": settings.model_dump(mode="json", include=names),
        **phantom_depends_on(study),
    }


def public_phantom_of(study: Study) -> Labelled:
    """Return the public phantom images (N, C, S, S), scaled like the data, and their labels.

    Where the phantom itself plays the private data, the public one has other patients, and fewer,
    since no network is trained on it.
    """
    data = study.data
    given = data.image_size_px, data.channels, data.scaling, study.out / "cache"
    others = (study.profile.data.seed + 1, FEWER_IMAGES) if data.is_phantom else ()
    images, labels = public_phantom(*given, *others)
    return images.to(study.device), labels.to(study.device)


def public_set(study: Study, settings: DistillSettings) -> Distilled:
    """Return the public set that a seed's private distillation starts from."""
    data, phantom = study.data, public_phantom_of(study)
    if data.is_phantom:
        shape = tuple(phantom[0].shape[1:])
        return noise_start(shape, data.classes, settings, phantom[0])
    same = tuple(data.class_names) == CLASS_NAMES
    return public_start(phantom, data.classes, same, settings)
