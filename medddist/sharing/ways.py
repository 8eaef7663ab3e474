"""Ways for hospitals to share, compared by what a receiver reaches with each.

They are compared by the scores of networks of one kind on every hospital's test part, by the bytes
that are sent, and by the rounds of communication: packages of distilled images (one round), weights
whose answers are averaged (one round), federated averaging (McMahan et al., AISTATS 2017; several
rounds), and the data themselves, which may not be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.progress import Progress, silent
from medddist.data import Data, Part
from medddist.measure.metrics import score
from medddist.method.evaluate import probabilities, trained_networks
from medddist.method.networks import Network
from medddist.method.training import Labelled, Recipe
from medddist.sharing.federated import federated
from medddist.sharing.hospitals import COLUMNS, union
from medddist.sharing.reading import Package, open_package
from medddist.study.settings import HospitalSettings
from medddist.study.store import Store

FLOAT_BYTES, LABEL_BYTES = 4, 1


@dataclass(frozen=True)
class Setup:
    """What ways to share are compared with.

    Args:
        data: of all hospitals together; all ways with real images share its scaling.
        hospitals: each hospital's own data, by its name.
        network: whose parameters are trained, on the device.
        recipe: of networks on real images.
        settings: how many networks are trained, and how federated averaging goes.
        resamples: of the test groups behind every interval.
        store: where trained networks are cached.
        device: where networks are trained.
        progress: called while they are trained.
        federated: whether `compare` has a row of federated averaging, which takes the longest.
    """

    data: Data
    hospitals: Mapping[str, Data]
    network: Network
    recipe: Recipe
    settings: HospitalSettings
    resamples: int
    store: Store
    device: torch.device
    progress: Progress = silent
    federated: bool = True

    @cached_property
    def test(self) -> Part:
        """Join the test parts of all hospitals, one after the other."""
        tests = [own.test for own in self.hospitals.values()]
        columns = ([getattr(test, name) for test in tests] for name in COLUMNS)
        return Part(*map(np.concatenate, columns))

    def tensors(self, part: Part) -> Labelled:
        """Return a part's images in the scaling of all real images, and labels, on the device."""
        images = torch.from_numpy(self.data.standardised(part.images))
        labels = torch.from_numpy(np.asarray(part.labels, np.int64))
        return images.to(self.device), labels.to(self.device)

    def answers(self, trained: list[Tensor]) -> np.ndarray:
        """Return (R, N, K) of networks on real images, for all hospitals' test images."""
        return probabilities(self.network, trained, self.tensors(self.test)[0])


@dataclass(frozen=True)
class Shared:
    """What a receiver has in the end: its networks' answers for all hospitals' test images."""

    way: str
    sent_bytes: int
    rounds: int
    probabilities: np.ndarray  # (R, N, K)


def compare(
    setup: Setup, packages: Mapping[str, Path], keys: Mapping[str, Path] | None = None
) -> list[dict[str, Any]]:
    """Return a row per way to share; see `scored`.

    Args:
        setup: what the ways are compared with.
        packages: the .zip file of each hospital, by its name.
        keys: the public key's file of hospitals whose packages must be signed, by their names.
    """
    opened = {name: open_package(path, (keys or {}).get(name)) for name, path in packages.items()}
    sizes = {name: Path(path).stat().st_size for name, path in packages.items()}
    shared = [each_alone(setup, name) for name in setup.hospitals]
    for name, package in opened.items():
        shared += [by_packages(setup, [package], f"the package of {name} alone", sizes[name])]
    shared += [by_packages(setup, list(opened.values()), "all packages", sum(sizes.values()))]
    shared += [by_weights(setup)]
    shared += [by_federated_averaging(setup)] if setup.federated else []
    shared += [by_data(setup)]
    return [scored(setup, each) for each in shared]


def scored(setup: Setup, shared: Shared) -> dict[str, Any]:
    """Return a row: the way, its cost, and its scores on each hospital's test part and on all."""
    ends = np.cumsum([len(own.test) for own in setup.hospitals.values()])[:-1]
    split = np.split(shared.probabilities, ends, axis=1)
    names, draws = setup.data.class_names, setup.resamples
    scores = lambda given, test: score(given, test.labels, test.groups, names, resamples=draws)
    pairs = zip(split, setup.hospitals.items())
    return {
        "way": shared.way,
        "sent_bytes": shared.sent_bytes,
        "rounds": shared.rounds,
        "all": scores(shared.probabilities, setup.test),
        "hospitals": {name: scores(answers, own.test) for answers, (name, own) in pairs},
    }


def by_packages(setup: Setup, packages: Sequence[Package], way: str, sent_bytes: int) -> Shared:
    """Train networks on several packages together.

    Args:
        setup: what the ways are compared with.
        packages: one or more, of the setup's network.
        way: the row's name.
        sent_bytes: the size of the packages' files.
    """
    joint, ids = union(packages), [package.id for package in packages]
    labelled = lambda: (joint.images.to(setup.device), joint.targets.to(setup.device))
    trained = _trained(setup, labelled, joint.recipe, ids, way, packages=ids)
    test = joint.standardised(setup.test.images).to(setup.device)
    return Shared(way, sent_bytes, 1, probabilities(setup.network, trained, test))


def each_alone(setup: Setup, name: str) -> Shared:
    """Train a hospital's networks on its own data: nothing is sent."""
    trained = _on_real_images(setup, name, [setup.hospitals[name]])
    return Shared(f"{name} alone", 0, 0, setup.answers(trained))


def by_weights(setup: Setup) -> Shared:
    """Send a trained network of each hospital; the receiver averages their answers."""
    answers = [each_alone(setup, name).probabilities for name in setup.hospitals]
    sent = len(setup.hospitals) * setup.network.parameter_count * FLOAT_BYTES
    return Shared("weights, answers averaged", sent, 1, np.mean(answers, axis=0))


def by_data(setup: Setup) -> Shared:
    """Send all real data to one place, and train networks there."""
    trained = _on_real_images(setup, "pooled data", setup.hospitals.values())
    parts = [own.train for own in setup.hospitals.values()]
    sent = sum(part.images.size + LABEL_BYTES * len(part) for part in parts)
    return Shared("pooled real data", sent, 1, setup.answers(trained))


def by_federated_averaging(setup: Setup) -> Shared:
    """Send networks there and back in rounds, until validation stops rising; see `federated`."""
    settings = setup.settings
    changes = {"epochs": settings.local_epochs, "schedule": "constant"}
    recipe = setup.recipe.model_copy(update=changes)
    decide = {"rounds", "patience", "federated_rates", "networks", "seed"}
    depends_on = {
        "recipe": recipe.as_json(),
        "hospitals": [own.fingerprint for own in setup.hospitals.values()],
        "federated": settings.model_dump(mode="json", include=decide),
    }

    def compute() -> tuple[dict[str, Tensor], dict]:
        parts = {
            name: (setup.tensors(own.train), setup.tensors(own.validation))
            for name, own in setup.hospitals.items()
        }
        courses = federated(setup.network, parts, recipe, settings, setup.progress)
        rounds = max(len(course.scores) for course in courses)
        return {"thetas": torch.stack([course.theta for course in courses])}, {"rounds": rounds}

    tensors, about = setup.store.tensors("hospitals", compute, **depends_on)
    rounds, trained = about["rounds"], list(tensors["thetas"].to(setup.device))
    sent = 2 * rounds * len(setup.hospitals) * setup.network.parameter_count * FLOAT_BYTES
    way = f"federated averaging, {rounds} rounds"
    return Shared(way, sent, rounds, setup.answers(trained))


def _on_real_images(setup: Setup, name: str, owners: Collection[Data]) -> list[Tensor]:
    """Networks on the training images of some hospitals."""
    labelled = lambda: map(torch.cat, zip(*(setup.tensors(own.train) for own in owners)))
    fingerprints = [own.fingerprint for own in owners]
    depends_on = {"trained_on": name, "hospitals": fingerprints}
    return _trained(setup, labelled, setup.recipe, [name], name, **depends_on)


def _trained(
    setup: Setup,
    labelled: Callable[[], Labelled],
    recipe: Recipe,
    names: list[str],
    what: str,
    **depends_on,
) -> list[Tensor]:
    """Networks on images and labels; `names` name their random numbers."""
    seed = (setup.settings.seed, "hospitals", *names)
    given = recipe, setup.settings.networks, seed, setup.progress, f"training: {what}"
    train_all = lambda: trained_networks(setup.network, *labelled(), *given)
    return _cached(setup, train_all, recipe=recipe.as_json(), **depends_on)


def _cached(setup: Setup, train_all: Callable[[], list[Tensor]], **depends_on) -> list[Tensor]:
    """Networks, theta (P,) each: those alone are the ones whose weights are sent."""
    depends_on |= {"networks": setup.settings.networks, "seed": setup.settings.seed}
    compute = lambda: ({"thetas": torch.stack(train_all())}, {})
    tensors, _ = setup.store.tensors("hospitals", compute, **depends_on)
    return list(tensors["thetas"].to(setup.device))
