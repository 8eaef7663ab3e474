"""Prepare what each method of the comparison trains its networks on, and where they start.

A method is a function of the study and of a row: it states what its results depend on, and computes
nothing before it is asked to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import NotApplicable
from medddist.baselines.byol import BYOL
from medddist.baselines.condensing import condense
from medddist.baselines.distribution_matching import distribution_matching_loss
from medddist.baselines.gradient_matching import gradient_matching_loss
from medddist.baselines.initial import chosen_by
from medddist.baselines.mae import MAE
from medddist.baselines.pretraining import flat, pretrain, transplanted
from medddist.baselines.simsiam import SimSiam
from medddist.baselines.skd import SKD
from medddist.baselines.transfer import imagenet_weights, recipe_of_budget, source_site
from medddist.comparison.shared import (
    LABELS,
    Entry,
    Prepared,
    Ready,
    condensing_iterations,
    cost,
    drawn,
    fresh,
    image_budget,
    labelled,
    network_named,
    network_of,
    pretraining_steps,
    timed,
)
from medddist.data import DataSettings, load_data
from medddist.data.cache import file_digest
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, train
from medddist.study import labels as study_labels
from medddist.study.store import seconds_of
from medddist.study.study import Study

SELF_SUPERVISED = {"byol": BYOL, "simsiam": SimSiam, "skd": SKD, "mae": MAE}
CONDENSED = {
    "gradient_matching": gradient_matching_loss,
    "distribution_matching": distribution_matching_loss,
}
PHANTOM_PX = 16, 512  # the smallest and the largest phantom


def prepare(study: Study, entry: Entry) -> Prepared:
    """Prepare a row; raises NotApplicable where it cannot be measured on this data or machine."""
    return CONTENDERS[entry.method](study, entry)


# ---- sets of images, on which networks are trained from scratch ----------------------------------


def _distilled(study: Study, entry: Entry) -> Prepared:
    """The distilled set of each seed of the profile in turn, with the step size that it learned."""
    seeds, count = study.profile.seeds, study.profile.compare.evaluation_seeds

    def ready(network: Network, factor: None, k: int) -> Ready:
        chosen = study.distillation(seeds[k % len(seeds)]).distilled
        rates = (chosen.step_size.item(),)
        return Ready(chosen.images, chosen.targets, fresh(study, network, k), rates)

    about = lambda factor: cost(sum(sum(study.seconds(seed).values()) for seed in seeds))
    depends_on = {"distillations": [study.distillation_name(seed) for seed in seeds]}
    return Prepared(depends_on, ready, about, sets=np.arange(count) % len(seeds))


def _random(study: Study, entry: Entry, draw: str) -> Prepared:
    ready = lambda network, factor, k: Ready(*drawn(study, k, draw), fresh(study, network, k))
    return Prepared({}, ready)


def _coreset(study: Study, entry: Entry) -> Prepared:
    """Real images chosen by the features of a network that was well trained on all images."""
    choose = chosen_by(entry.method.replace("_", ""), study.profile.evaluate.seed)

    @functools.cache
    def chosen() -> Labelled:
        images, labels = study.tensors("train")
        size, classes = study.profile.distill.images_per_class, study.data.classes
        indices = choose(study_labels.features(study), study.data.train.labels, size, classes)
        return images[indices], labels[indices]

    ready = lambda network, factor, k: Ready(*chosen(), fresh(study, network, k))
    count = study.profile.references.full_networks
    one_of = lambda: sum(map(seconds_of, study_labels.paths(study)[:1])) / count
    return Prepared(study_labels.depends_on(study), ready, lambda factor: cost(one_of()))


def _condensed(study: Study, entry: Entry) -> Prepared:
    """Images by gradient or distribution matching, which start as the random ones of seed 0."""
    compare, method, spent = study.profile.compare, entry.method, []
    settings, classes = compare.condense, study.data.classes
    iterations = condensing_iterations(compare, classes)
    rate, every = {
        "gradient_matching": (settings.learning_rate_gradient_matching, settings.network_every),
        "distribution_matching": (settings.learning_rate_distribution_matching, 1),
    }[method]

    @functools.cache
    def condensed(network: Network, factor: float) -> Tensor:
        given = study.tensors("train"), drawn(study, 0), settings, iterations, factor * rate, every
        seed, what = (study.profile.evaluate.seed, method), LABELS[method]
        with timed(spent):
            return condense(CONDENSED[method], network, *given, seed, study.progress, what)

    def ready(network: Network, factor: float, k: int) -> Ready:
        return Ready(condensed(network, factor), drawn(study, 0)[1], fresh(study, network, k))

    processed = iterations * settings.real_images_per_class * classes
    depends_on = {"iterations": iterations, "condense": settings.as_json()}
    return Prepared(depends_on, ready, lambda factor: cost(sum(spent), processed), compare.grid)


# ---- features learned elsewhere, from which networks start ---------------------------------------


def _fine_tuned(study: Study, network: Network, k: int, source: Network, theta: Tensor) -> Ready:
    """Random real images, and the features of `source` at theta (P,) under a fresh last layer."""
    return Ready(*drawn(study, k), transplanted(source, theta, network, fresh(study, network, k)))


def _self_supervised(study: Study, entry: Entry) -> Prepared:
    compare, pretrainings = study.profile.compare, {}

    def ready(network: Network, factor: float, k: int) -> Ready:
        number = 0 if entry.table == "inside" else k
        theta, pretrainings[factor, number] = pretrained(study, entry, factor, number)
        return _fine_tuned(study, network, k, network, theta)

    def about(factor: float) -> dict:
        seconds = sum(each["seconds"] for each in pretrainings.values())
        chosen = [each for (tried, _), each in pretrainings.items() if tried == factor]
        spread = {at: float(np.mean([e["spread"][at] for e in chosen])) for at in ("start", "end")}
        watched = {"spread_of_outputs": spread, "collapsed": any(e["collapsed"] for e in chosen)}
        return cost(seconds, image_budget(compare, entry.table), **watched)

    depends_on = {"sees": entry.table, "pretrain": compare.pretrain.as_json()}
    return Prepared(depends_on, ready, about, compare.grid)


def pretrained(study: Study, entry: Entry, factor: float, k: int) -> tuple[Tensor, dict]:
    """Return a network's parameters after self-supervised pretraining, cached.

    Args:
        study: whose data, settings and cached results are used.
        entry: the table, the method and the network. Inside the hospital all training images are
            seen, and one pretraining serves every evaluation seed.
        factor: of the learning rate of `compare.pretrain`.
        k: the evaluation seed, whose random real images are seen in other tables; 0 inside.

    Returns:
        The parameters (P,), and {losses, spread, collapsed, seconds}.
    """
    profile, method, inside = study.profile, entry.method, entry.table == "inside"
    compare, steps = profile.compare, pretraining_steps(profile.compare, entry.table)
    changes = {"learning_rate": factor * compare.pretrain.learning_rate}
    settings = compare.pretrain.model_copy(update=changes)
    seed = (profile.evaluate.seed, method, entry.network, *(() if inside else (k,)))
    sees = {} if inside else {"images_per_class": profile.distill.images_per_class}

    def compute() -> tuple[dict[str, Tensor], dict]:
        images, spent = (study.tensors("train") if inside else drawn(study, k))[0], []
        what = f"{LABELS[method]}, {entry.network}: pretraining"
        given = network_of(study, entry.network), SELF_SUPERVISED[method], images, settings
        with timed(spent):
            learned = pretrain(*given, steps, seed, study.progress, what)
        about = {"losses": learned.losses, "spread": learned.spread}
        about |= {"collapsed": learned.collapsed, "seconds": round(sum(spent), 2)}
        return {"theta": learned.theta}, about

    depends_on = {"method": method, "network_name": entry.network, "seed": list(seed)}
    depends_on |= {"settings": settings.as_json(), "steps": steps, **sees}
    depends_on |= {"architectures": compare.architectures.as_json()}
    tensors, about = study.store.tensors("pretrain", compute, **depends_on)
    return tensors["theta"].to(study.device), about


def _from_imagenet(study: Study, entry: Entry) -> Prepared:
    """The weights are in the network's module; its last layer is fresh."""
    weights = imagenet_weights(study.profile.compare.imagenet_weights)

    def ready(network: Network, factor: None, k: int) -> Ready:
        return _fine_tuned(study, network, k, network, flat(network.module).to(study.device))

    return Prepared({"weights": file_digest(weights)}, ready)


def _from_site(study: Study, entry: Entry) -> Prepared:
    indices, labels, name = source_site(study.data)

    def source() -> tuple[Tensor, Tensor, str]:
        images = study.tensors("train")[0][torch.from_numpy(indices).to(study.device)]
        classes = torch.from_numpy(np.asarray(labels, np.int64)).to(study.device)
        return images, classes, f"labelled training images of {name}"

    return _transferred(study, entry, source)


def _from_phantom(study: Study, entry: Entry) -> Prepared:
    data, images = study.data, study.profile.compare.phantom_images
    if data.is_phantom:
        raise NotApplicable(entry.method, "the data is the phantom itself")
    smallest, largest = PHANTOM_PX
    if not smallest <= data.image_size_px <= largest:
        reason = f"the phantom has {smallest} to {largest} px, not {data.image_size_px}"
        raise NotApplicable(entry.method, reason)
    size = {"image_size_px": data.image_size_px, "channels": data.channels, "images": images}

    def source() -> tuple[Tensor, Tensor, str]:
        phantom = load_data("phantom", DataSettings(**size), study.out / "cache")
        return *labelled(phantom, phantom.train, study.device), "images of the phantom"

    return _transferred(study, entry, source, phantom_images=images)


def _transferred(
    study: Study, entry: Entry, source: Callable[[], tuple[Tensor, Tensor, str]], **depends_on: Any
) -> Prepared:
    """Features of a ConvNet that was trained with the labels of the source."""
    compare, good, spent = study.profile.compare, study.profile.references.good_recipe, []
    budget, seed = image_budget(compare, "inside"), (study.profile.evaluate.seed, entry.method)
    loaded = functools.cache(source)

    @functools.cache
    def learned(factor: float) -> tuple[Network, Tensor]:
        images, labels, _ = loaded()
        shape = images.shape[1], int(labels.max()) + 1, images.shape[2]
        network = network_named("convnet", study.profile, shape, study.device)
        recipe = recipe_of_budget(good, factor * good.learning_rate, len(images), budget)
        start = initial_parameters(network, *seed).to(images)
        with timed(spent):
            return network, train(network, start, images, labels, recipe, seed)

    def ready(network: Network, factor: float, k: int) -> Ready:
        return _fine_tuned(study, network, k, *learned(factor))

    def about(factor: float) -> dict:
        images, _, name = loaded()
        return cost(sum(spent), budget, source=f"{len(images)} {name}")

    depends_on |= {"budget": budget, "good": good.as_json()}
    return Prepared(depends_on, ready, about, compare.grid)


CONTENDERS: dict[str, Callable[[Study, Entry], Prepared]] = {
    "distilled": _distilled,
    "random_real": functools.partial(_random, draw="balanced"),
    "random_natural": functools.partial(_random, draw="natural"),
    **dict.fromkeys(("herding", "k_means"), _coreset),
    **dict.fromkeys(CONDENSED, _condensed),
    **dict.fromkeys(SELF_SUPERVISED, _self_supervised),
    "transfer_imagenet": _from_imagenet,
    "transfer_site": _from_site,
    "transfer_phantom": _from_phantom,
}
