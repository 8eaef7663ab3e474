"""What each method of the comparison hands to the evaluation: images, labels, and the weights to
start from.

All take their random real images, their initial weights by network and their budget from here, so
that these are the same for all.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medddist.base.seeds import generator, seed_of
from medddist.baselines.architectures import architecture
from medddist.baselines.byol import BYOL
from medddist.baselines.condensing import condense
from medddist.baselines.coresets import herding, k_means
from medddist.baselines.distribution_matching import distribution_matching_loss, features
from medddist.baselines.gradient_matching import gradient_matching_loss
from medddist.baselines.mae import MAE
from medddist.baselines.pretraining import pretrain, transplanted
from medddist.baselines.simsiam import SimSiam
from medddist.baselines.skd import SKD
from medddist.baselines.transfer import (
    Unavailable,
    imagenet_network,
    imagenet_weights,
    recipe_of_budget,
    source_site,
)
from medddist.data import Data, DataSettings, load_data
from medddist.method.evaluate import random_real
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Labelled, train
from medddist.study.profile import Profile
from medddist.study.settings import CompareSettings
from medddist.study.study import Study

LABELS = {
    "distilled": "distilled images",
    "random_real": "random real images",
    "random_natural": "random real images, natural proportions",
    "herding": "coreset by herding",
    "k_means": "coreset by k-means",
    "gradient_matching": "gradient matching (DC)",
    "distribution_matching": "distribution matching (DM)",
    "scratch": "training from scratch",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "skd": "SKD-style",
    "mae": "MAE",
    "transfer_imagenet": "transfer from ImageNet",
    "transfer_site": "transfer from one site",
    "transfer_phantom": "transfer from the phantom",
    "full_teacher": "all training images, teachers' recipe",
    "full_good": "all training images, good recipe",
    "majority": "majority class",
}
SELF_SUPERVISED = {"byol": BYOL, "simsiam": SimSiam, "skd": SKD, "mae": MAE}
CONDENSED = {
    "gradient_matching": gradient_matching_loss,
    "distribution_matching": distribution_matching_loss,
}
CORESETS = ("herding", "k_means")


@dataclass(frozen=True)
class Entry:
    """A row of a table: a method with a network."""

    table: str
    method: str
    network: str = "convnet"


@dataclass(frozen=True)
class Ready:
    """What one evaluation seed trains on, and from where: images (N, C, H, W), labels (N,) or (N,
    K), theta (P,).
    """

    images: Tensor
    labels: Tensor
    start: Tensor


class Clock:
    """Adds up the seconds spent within it."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *problem) -> None:
        self.seconds += time.monotonic() - self.began


@dataclass(frozen=True)
class Prepared:
    """What a method hands to the evaluation.

    ready: (factor of the method's own learning rate, or None; evaluation seed) -> what to train on
        and from where
    about: (that factor) -> what else to tell of the method
    """

    ready: Callable[[float | None, int], Ready]
    has_grid: bool = False
    own_rates: tuple[
        float, ...
    ] = ()  # further learning rates of the recipe, that the method brings
    images_processed: int = 0  # by one preparation
    clock: Clock = field(default_factory=Clock)  # of the preparations
    about: Callable[[float | None], dict] = lambda factor: {}


def network_named(
    name: str,
    profile: Profile,
    shape: tuple[int, int, int],
    device: torch.device,
) -> Network:
    """Make one of the comparison's networks.

    Args:
        name: one of `architectures.ARCHITECTURES`, or `imagenet_resnet18`.
        profile: gives the ConvNet's size, the other networks' sizes and the ImageNet weights.
        shape: channels of an image, classes, and an image's height and width in pixels.
        device: where the network's parameters lie.

    Raises:
        Unavailable: there are no ImageNet weights on this machine.
        InputError: the name is unknown, or the images are too small for the network.
    """
    settings = profile.compare
    if name == "imagenet_resnet18":
        network = imagenet_network(imagenet_weights(settings.imagenet_weights), shape[1])
    else:
        network = architecture(name, profile.network, settings.architectures, *shape)
    network.module.to(device)
    return network


def pretraining_steps(settings: CompareSettings, table: str) -> int:
    """Give the steps of one self-supervised pretraining in a table."""
    pretrain = settings.pretrain
    return pretrain.inside_steps if table == "inside" else pretrain.released_steps


def image_budget(settings: CompareSettings, table: str) -> int:
    """Give the images that one preparation may process: two views of each pretraining batch."""
    return 2 * pretraining_steps(settings, table) * settings.pretrain.batch_size


def condensing_iterations(settings: CompareSettings, classes: int) -> int:
    """Give the iterations of gradient or distribution matching that the image budget allows."""
    per_iteration = settings.condense.real_images_per_class * classes
    return max(1, image_budget(settings, "inside") // per_iteration)


def require_available(method: str, settings: CompareSettings, data: Data) -> None:
    """Raise Unavailable where a method cannot be measured on this data or machine."""
    if method == "transfer_site":
        source_site(data)
    if method == "transfer_imagenet":
        imagenet_weights(settings.imagenet_weights)
    if method == "transfer_phantom" and data.is_phantom:
        raise Unavailable("the data is the phantom itself")
    if method == "transfer_phantom" and not 16 <= data.image_size_px <= 512:
        raise Unavailable(f"the phantom has 16 to 512 px, not {data.image_size_px}")


class Contenders:
    """The methods of a study's comparison; every pretraining is kept under the hash of what it
    depends on.
    """

    def __init__(self, study: Study):
        self.study, self.profile, self.settings = study, study.profile, study.profile.compare
        self.seed = self.profile.evaluate.seed

    def network(self, name: str) -> Network:
        """Make one of the comparison's networks for the study's images; see `network_named`."""
        data = self.study.data
        shape = data.channels, data.classes, data.image_size_px
        return network_named(name, self.profile, shape, self.study.device)

    def fresh(self, network: Network, k: int) -> Tensor:
        """Initial parameters (P,) of evaluation seed k: the same for every method."""
        return initial_parameters(network, self.seed, "compare", k).to(self.study.device)

    def drawn(self, k: int, draw: str = "balanced") -> Labelled:
        """The labelled budget of evaluation seed k: random real images, the study's own draw of
        that number.
        """
        images, labels = self.study.tensors("train")
        random = generator(self.seed, "random real", draw, k)
        indices = random_real(
            labels, self.profile.distill.images_per_class, self.study.data.classes, draw, random
        )
        return images[indices], labels[indices]

    def budget(self, table: str) -> int:
        """Give the images that one preparation may process; see `image_budget`."""
        return image_budget(self.settings, table)

    def prepare(self, entry: Entry, network: Network) -> Prepared:
        """Raises Unavailable where the method cannot be had here."""
        method = entry.method
        if method in SELF_SUPERVISED:
            return self._self_supervised(entry, network)
        if method in CONDENSED:
            return self._condensed(method, network)
        if method.startswith("transfer"):
            return self._transfer(method, network)
        sets = {
            "distilled": self._distilled,
            "scratch": self.drawn,
            "random_real": self.drawn,
            "random_natural": functools.partial(self.drawn, draw="natural"),
            "herding": lambda k: self._coresets["herding"],
            "k_means": lambda k: self._coresets["k_means"],
        }[method]
        ready = lambda factor, k: Ready(*sets(k), self.fresh(network, k))
        if method == "distilled":
            learned = self._distillation(0).distilled.step_size.item()
            seconds = sum(sum(self.study.seconds(seed).values()) for seed in self.profile.seeds)
            return Prepared(ready, own_rates=(learned,), clock=Clock(seconds))
        if method in CORESETS:
            return Prepared(ready, clock=Clock(self._seconds_of_a_teacher()))
        return Prepared(ready)

    def _seconds_of_a_teacher(self) -> float:
        return (
            self.study.seconds(self.profile.seeds[0])["teachers"] / self.profile.teachers.teachers
        )

    def _distillation(self, k: int):
        return self.study.distillation(self.profile.seeds[k % len(self.profile.seeds)])

    def _distilled(self, k: int) -> Labelled:
        found = self._distillation(k).distilled
        return found.images, found.targets

    @functools.cached_property
    def _coresets(self) -> dict[str, Labelled]:
        """By the features of the first teacher at its last snapshot."""
        study = self.study
        teacher, network, (images, labels) = (
            study.teachers()[0],
            study.network(),
            study.tensors("train"),
        )
        (theta,) = (row.to(study.device) for row in teacher.rows(teacher.snapshots - 1))
        with torch.no_grad():
            seen = np.concatenate(
                [features(network, theta, batch).cpu().numpy() for batch in images.split(512)]
            )
        given = (
            seen.astype(np.float64),
            study.data.train.labels,
            self.profile.distill.images_per_class,
            study.data.classes,
        )
        chosen = {
            "herding": herding(*given),
            "k_means": k_means(*given, seed_of(self.seed, "k-means")),
        }
        return {name: (images[indices], labels[indices]) for name, indices in chosen.items()}

    def _condensed(self, method: str, network: Network) -> Prepared:
        settings, training = self.settings.condense, self.study.tensors("train")
        iterations = condensing_iterations(self.settings, self.study.data.classes)
        every = settings.network_every if method == "gradient_matching" else 1
        rate = getattr(settings, f"learning_rate_{method}")
        images, labels = self.drawn(0)
        clock = Clock()

        @functools.cache
        def made(factor: float) -> Tensor:
            given = (
                training,
                (images, labels),
                settings,
                iterations,
                factor * rate,
                every,
                (self.seed, method),
            )
            with clock:
                return condense(
                    CONDENSED[method], network, *given, self.study.progress, LABELS[method]
                )

        def ready(factor: float, k: int) -> Ready:
            return Ready(made(factor), labels, self.fresh(network, k))

        processed = iterations * settings.real_images_per_class * self.study.data.classes
        return Prepared(ready, has_grid=True, images_processed=processed, clock=clock)

    # ---- self-supervision ------------------------------------------------------------------------

    def _self_supervised(self, entry: Entry, network: Network) -> Prepared:
        found: dict[tuple[float, str], dict] = {}
        clock = Clock()

        def ready(factor: float, k: int) -> Ready:
            theta, told = self.pretrained(entry, factor, k)
            if (factor, told["file"]) not in found:
                clock.seconds += told["seconds"]
            found[factor, told["file"]] = told
            return Ready(
                *self.drawn(k), transplanted(network, theta, network, self.fresh(network, k))
            )

        def about(factor: float) -> dict:
            chosen = [told for (at, _), told in found.items() if at == factor]
            spreads = {
                when: float(np.mean([told["spread"][when] for told in chosen]))
                for when in ("start", "end")
            }
            return {
                "spread_of_outputs": spreads,
                "collapsed": any(told["collapsed"] for told in chosen),
            }

        return Prepared(
            ready,
            has_grid=True,
            images_processed=self.budget(entry.table),
            clock=clock,
            about=about,
        )

    def pretrained(self, entry: Entry, factor: float, k: int) -> tuple[Tensor, dict]:
        """Theta (P,) of a network that self-supervision trained, and {losses, spread, collapsed,
        seconds, file}.

        Inside the hospital one pretraining serves every evaluation seed; on released images each
        seed has its own images.
        """
        settings = self.settings.pretrain.model_copy(
            update={"learning_rate": factor * self.settings.pretrain.learning_rate}
        )
        inside = entry.table == "inside"
        steps = pretraining_steps(self.settings, entry.table)
        seed = (self.seed, entry.method, entry.network, *(() if inside else (k,)))
        sees = {} if inside else {"images_per_class": self.profile.distill.images_per_class}
        depends_on = {
            "method": entry.method,
            "network_name": entry.network,
            "architectures": self.settings.architectures.as_json(),
            "settings": settings.as_json(),
            "steps": steps,
            "seed": list(seed),
            **sees,
        }

        def compute() -> tuple[dict[str, Tensor], dict]:
            images = self.study.tensors("train")[0] if inside else self.drawn(k)[0]
            what = f"{LABELS[entry.method]}, {entry.network}: pretraining"
            given = self.network(entry.network), SELF_SUPERVISED[entry.method], images, settings
            began = time.monotonic()
            learned = pretrain(*given, steps, seed, self.study.progress, what)
            about = {"losses": learned.losses, "spread": learned.spread}
            about |= {"collapsed": learned.collapsed}
            return {"theta": learned.theta}, about | {"seconds": round(time.monotonic() - began, 2)}

        tensors, about = self.study.store.tensors("pretrain", compute, **depends_on)
        file = str(self.study.store.path("pretrain", **depends_on))
        return tensors["theta"].to(self.study.device), about | {"file": file}

    # ---- transfer --------------------------------------------------------------------------------

    def _transfer(self, method: str, network: Network) -> Prepared:
        if method == "transfer_imagenet":
            return self._from_imagenet(network)
        images, labels, source = self._source(method)
        classes = int(labels.max()) + 1
        elsewhere = architecture(
            "convnet",
            self.profile.network,
            self.settings.architectures,
            images.shape[1],
            classes,
            images.shape[2],
        )
        elsewhere.module.to(self.study.device)
        start = initial_parameters(elsewhere, self.seed, method).to(images)
        good, clock = self.profile.references.good_recipe, Clock()

        @functools.cache
        def learned(factor: float) -> Tensor:
            recipe = recipe_of_budget(
                good, factor * good.learning_rate, len(images), self.budget("inside")
            )
            with clock:
                return train(elsewhere, start, images, labels, recipe, (self.seed, method))

        def ready(factor: float, k: int) -> Ready:
            return Ready(
                *self.drawn(k),
                transplanted(elsewhere, learned(factor), network, self.fresh(network, k)),
            )

        about = lambda factor: {"source": source}
        return Prepared(
            ready, has_grid=True, images_processed=self.budget("inside"), clock=clock, about=about
        )

    def _source(self, method: str) -> tuple[Tensor, Tensor, str]:
        """Labelled images from elsewhere, on the device, and what they are."""
        study = self.study
        if method == "transfer_site":
            indices, labels, name = source_site(study.data)
            images = study.tensors("train")[0][torch.from_numpy(indices).to(study.device)]
            source = f"{len(labels)} labelled training images of {name}"
        else:
            require_available(method, self.settings, study.data)
            asked = DataSettings(
                image_size_px=study.data.image_size_px,
                channels=study.data.channels,
                images=self.settings.phantom_images,
            )
            phantom = load_data("phantom", asked, study.out / "cache")
            images, labels = (
                torch.from_numpy(phantom.standardised(phantom.train.images)).to(study.device),
                phantom.train.labels,
            )
            source = f"{len(labels)} images of the phantom"
        return images, torch.from_numpy(np.asarray(labels, np.int64)).to(study.device), source

    def _from_imagenet(self, network: Network) -> Prepared:
        """The weights are in the module; its last layer is fresh."""
        theta = torch.cat(
            [parameter.detach().flatten() for parameter in network.module.parameters()]
        ).to(self.study.device)

        def ready(factor: None, k: int) -> Ready:
            return Ready(
                *self.drawn(k), transplanted(network, theta, network, self.fresh(network, k))
            )

        return Prepared(ready)
