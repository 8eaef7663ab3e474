"""Several hospitals, each with data of its own: what a receiver can learn from what each of them
sends.

Ways to share are compared by what networks of one kind reach on every hospital's test part, by the
bytes that are sent,
and by the rounds of communication: packages of distilled images (one round), weights whose answers
    are averaged (one round), federated averaging (McMahan et al., AISTATS 2017; as many rounds as
    it takes), and the data themselves, which is what may not be sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError, NotApplicable
from medddist.base.files import digest, file_names
from medddist.data import Data, Part, Scaling, fingerprint, splits
from medddist.data.collection import PART_NAMES, TEST, TRAIN
from medddist.measure.metrics import score
from medddist.method.evaluate import probabilities, trained_networks
from medddist.method.networks import initial_parameters
from medddist.method.private.dp_sgd import fixed_scaling, public_scaling
from medddist.method.training import Recipe, train

if TYPE_CHECKING:
    from medddist.sharing.reading import Package
    from medddist.study.study import Study

FLOAT_BYTES, LABEL_BYTES = 4, 1


def hospitals(data: Data, validation_fraction: float = 0.1, seed: int = 0) -> dict[str, Data]:
    """The data by origin: each tests on its images in the test part, and deals its validation part
    out of the others itself.

    Pixels are scaled by a hospital's own training images; by public constants, where those of
    `data` are. Raises NotApplicable where origins are not known, or one lacks a class to train
    with.
    """
    if data.train.origins is None or len(data.origin_names) < 2:
        raise NotApplicable(
            data.source,
            "does not say which of two or more hospitals its images are from",
            "give origins (a column site)",
        )
    return {
        name: _of_origin(data, k, name, validation_fraction, seed)
        for k, name in enumerate(data.origin_names)
    }


def _of_origin(data: Data, origin: int, name: str, validation_fraction: float, seed: int) -> Data:
    rows = [np.flatnonzero(part.origins == origin) for part in data.parts().values()]
    images, labels, groups = (
        np.concatenate([getattr(part, column)[at] for part, at in zip(data.parts().values(), rows)])
        for column in ("images", "labels", "groups")
    )
    given = np.repeat([TRAIN, TRAIN, TEST], [len(at) for at in rows])
    if not len(rows[-1]):
        raise NotApplicable(name, "has no test image", "leave the hospital out")
    dealt = splits.completed(labels, groups, given, 0.2, validation_fraction, seed)
    splits_of = {what: np.flatnonzero(dealt == part) for part, what in enumerate(PART_NAMES)}
    parts = {what: Part(images[at], labels[at], groups[at]) for what, at in splits_of.items()}
    for what in ("train", "validation"):
        missing = np.flatnonzero(parts[what].class_counts(data.classes) == 0)
        if len(missing):
            raise NotApplicable(
                name,
                f"has no {what} image of class {data.class_names[missing[0]]}",
                "leave the hospital or the class out",
            )
    own = replace(
        data,
        **parts,
        fingerprint=fingerprint(parts, data.class_names),
        origin_names=(),
        notes=(),
        scaling=Scaling.measured(parts["train"].images),
    )
    return fixed_scaling(own) if data.scaling == public_scaling(data.channels) else own


def study_of(study: Study, data: Data) -> Study:
    """One hospital's study, by the profile with its changes; its steps are kept beside the others'.

    Raises InputError for changes that do not fit, or that take `teachers.privacy` away.
    """
    changed = study.profile.changed(study.profile.hospitals.changes)
    if study.profile.teachers.privacy and not changed.teachers.privacy:
        raise InputError(
            "hospitals.changes",
            "teachers.privacy is null there, and packages would be without the profile's guarantee",
            "take it out",
        )
    return study.with_(changed, data)


def sent_packages(study: Study, folder: str | Path) -> dict[str, Path]:
    """Each hospital's package as a .zip in `folder`, distilled from its own data alone; see
    `inbox_folder`.
    """
    from medddist.sharing.writing import write_package

    own, paths = hospitals(study.data), {}
    files = file_names(own)
    for name, data in own.items():
        paths[name] = Path(folder) / f"{files[name]}.zip"
        write_package(
            study_of(study, data),
            paths[name],
            {"description": f"Distilled by {name}", "creator": name},
            measure=False,
        )
    return paths


def inbox_folder(study: Study) -> Path:
    """A folder below the study's own for its hospitals' packages: another for another profile or
    other data.
    """
    name = study.profile.name
    depends_on = {"profile": study.profile.model_dump(mode="json"), "data": study.data.fingerprint}
    return study.out / "inbox" / f"{file_names([name])[name]}-{digest(depends_on)}"


@dataclass(frozen=True)
class Union:
    """Several packages as one training set, in one scaling of pixels."""

    images: Tensor  # (N, C, S, S)
    targets: Tensor  # (N,) or (N, K)
    recipe: Recipe
    scaling: Scaling

    def standardised(self, pixels: np.ndarray) -> Tensor:
        """(N, C, S, S) uint8 -> as the networks see it."""
        return torch.from_numpy(self.scaling.apply(np.asarray(pixels, np.float32) / 255))


def union(packages: Sequence[Package]) -> Union:
    """All packages' images in the mean of their scalings, by the first's recipe at the geometric
    mean of their step sizes.

    Labels become probabilities where any package has them so. Raises InputError for packages that
    do not go together.
    """
    if not packages:
        raise InputError("packages", "there is none to train on")
    first = packages[0]
    for package in packages[1:]:
        if (
            package.class_names != first.class_names
            or package.manifest.shape[1:] != first.manifest.shape[1:]
        ):
            raise InputError(
                f"package {package.id[:12]}",
                f"its classes or the shape of its images are not those of {first.id[:12]}",
                "leave it out",
            )
    scalings = [package.manifest.pixels.scaling for package in packages]
    means = np.mean([scaling.mean for scaling in scalings], 0).tolist()
    stds = np.mean([scaling.std for scaling in scalings], 0).tolist()
    common = Scaling(tuple(means), tuple(stds))
    moved = [
        scaling.between(common, package.images) for scaling, package in zip(scalings, packages)
    ]
    targets = [package.targets for package in packages]
    if len({one.ndim for one in targets}) > 1:
        targets = [
            one
            if one.ndim == 2
            else torch.nn.functional.one_hot(one, len(first.class_names)).float()
            for one in targets
        ]
    step_size = math.exp(np.mean([math.log(package.step_size) for package in packages]))
    return Union(
        torch.cat(moved),
        torch.cat(targets),
        first.recipe.model_copy(update={"learning_rate": step_size}),
        common,
    )


# ---- ways to share -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """What a receiver has in the end: its networks' answers on all hospitals' test parts, one after
    the other.
    """

    way: str
    sent_bytes: int
    rounds: int
    probabilities: np.ndarray  # (R, N, K)


def compare(
    study: Study, packages: Mapping[str, Path], key: Mapping[str, Path] | None = None
) -> list[dict[str, Any]]:
    """A row a way to share: its cost, and `metrics.score` on each hospital's test part and on all
    of them.
    """
    from medddist.sharing.reading import open_package

    opened = {name: open_package(path, (key or {}).get(name)) for name, path in packages.items()}
    sizes = {name: Path(path).stat().st_size for name, path in packages.items()}
    own = hospitals(study.data)
    shared = [each_alone(study, own, name) for name in own]
    shared += [
        by_packages(study, own, [opened[name]], f"the package of {name} alone", sizes[name])
        for name in opened
    ]
    shared += [
        by_packages(study, own, list(opened.values()), "all packages", sum(sizes.values())),
        by_weights(study, own),
        by_federated_averaging(study, own),
        by_data(study, own),
    ]
    return [scored(study, own, one) for one in shared]


def scored(study: Study, own: Mapping[str, Data], one: Shared) -> dict[str, Any]:
    """A row: the way, its cost, and its scores on each hospital's test part and on all."""
    ends = np.cumsum([len(data.test) for data in own.values()])[:-1]
    split = dict(zip(own, np.split(one.probabilities, ends, axis=1)))
    of = lambda said, test: score(
        said, test.labels, test.groups, study.data.class_names, resamples=study.profile.resamples
    )
    return {
        "way": one.way,
        "sent_bytes": one.sent_bytes,
        "rounds": one.rounds,
        "all": of(one.probabilities, _test(own)),
        "hospitals": {name: of(split[name], data.test) for name, data in own.items()},
    }


def _test(own: Mapping[str, Data]) -> Part:
    return Part(
        *(
            np.concatenate([getattr(data.test, name) for data in own.values()])
            for name in ("images", "labels", "groups")
        )
    )


def by_packages(
    study: Study, own: Mapping[str, Data], packages: Sequence[Package], way: str, sent_bytes: int
) -> Shared:
    """Networks of the packages' kind trained on all of them together."""
    one, network, settings = union(packages), study.network(), study.profile.hospitals
    ids = [package.id for package in packages]

    def train_all() -> list[Tensor]:
        images, targets, seed = (
            one.images.to(study.device),
            one.targets.to(study.device),
            (settings.seed, "hospitals", *ids),
        )
        return trained_networks(
            network,
            images,
            targets,
            one.recipe,
            settings.networks,
            seed,
            study.progress,
            f"training: {way}",
        )

    trained = _kept(study, train_all, packages=ids, recipe=one.recipe.as_json())
    return Shared(
        way,
        sent_bytes,
        1,
        probabilities(network, trained, one.standardised(_test(own).images).to(study.device)),
    )


def each_alone(study: Study, own: Mapping[str, Data], name: str) -> Shared:
    """A hospital's networks on its own data: nothing is sent."""
    return Shared(f"{name} alone", 0, 0, _said(study, own, _on_own_data(study, own[name], name)))


def by_weights(study: Study, own: Mapping[str, Data]) -> Shared:
    """Each hospital sends a trained network; the receiver averages what they say."""
    said = [_said(study, own, _on_own_data(study, data, name)) for name, data in own.items()]
    sent = len(own) * study.network().parameter_count * FLOAT_BYTES
    return Shared("weights, answers averaged", sent, 1, np.mean(said, axis=0))


def by_data(study: Study, own: Mapping[str, Data]) -> Shared:
    """All real data in one place."""
    trained = _trained(study, lambda: _pooled(study, own), "pooled data", _fingerprints(own))
    sent = sum(data.train.images.size + LABEL_BYTES * len(data.train) for data in own.values())
    return Shared("pooled real data", sent, 1, _said(study, own, trained))


def by_federated_averaging(study: Study, own: Mapping[str, Data]) -> Shared:
    """Every round, each hospital goes on from the mean network for some epochs on its data; means
    are by number of images.
    """
    settings, network = study.profile.hospitals, study.network()
    recipe = study.profile.references.good_recipe.model_copy(
        update={"epochs": settings.local_epochs, "schedule": "constant"}
    )
    told = {"rounds": settings.rounds, "recipe": recipe.as_json(), "hospitals": _fingerprints(own)}
    trained = _kept(study, lambda: _averaged_in_rounds(study, own, recipe), **told)
    sent = 2 * settings.rounds * len(own) * network.parameter_count * FLOAT_BYTES  # there and back
    return Shared(
        f"federated averaging, {settings.rounds} rounds",
        sent,
        settings.rounds,
        _said(study, own, trained),
    )


def _averaged_in_rounds(study: Study, own: Mapping[str, Data], recipe: Recipe) -> list[Tensor]:
    settings, network, trained = study.profile.hospitals, study.network(), []
    parts = {name: _tensors(study, data.train) for name, data in own.items()}
    total = sum(len(labels) for _, labels in parts.values())
    for run in range(settings.networks):
        theta = initial_parameters(network, settings.seed, "federated", run).to(study.device)
        for number in range(settings.rounds):
            seeds = {name: (settings.seed, "federated", run, "round", number, name) for name in own}
            local = {
                name: train(network, theta, *pair, recipe, seeds[name])
                for name, pair in parts.items()
            }
            theta = torch.stack([local[name] * (len(parts[name][1]) / total) for name in own]).sum(
                0
            )
            study.progress(
                "federated averaging",
                run * settings.rounds + number + 1,
                settings.networks * settings.rounds,
            )
        trained.append(theta)
    return trained


def _on_own_data(study: Study, data: Data, name: str) -> list[Tensor]:
    return _trained(study, lambda: _tensors(study, data.train), name, [data.fingerprint])


def _trained(
    study: Study, labelled: Callable[[], tuple[Tensor, Tensor]], name: str, fingerprints: list[str]
) -> list[Tensor]:
    settings, recipe = study.profile.hospitals, study.profile.references.good_recipe
    seed = (settings.seed, "hospitals", name)
    train_all = lambda: trained_networks(
        study.network(),
        *labelled(),
        recipe,
        settings.networks,
        seed,
        study.progress,
        f"training: {name}",
    )
    return _kept(study, train_all, name=name, hospitals=fingerprints, recipe=recipe.as_json())


def _kept(study: Study, train_all: Callable[[], list[Tensor]], **depends_on) -> list[Tensor]:
    """Networks, theta (P,) each, read where they were trained before: alone and for their weights
    they are the same.
    """
    settings = study.profile.hospitals
    depends_on |= {"networks": settings.networks, "seed": settings.seed}
    compute = lambda: ({"thetas": torch.stack(train_all())}, {})
    tensors, _ = study.store.tensors("hospitals", compute, **depends_on)
    return list(tensors["thetas"].to(study.device))


def _fingerprints(own: Mapping[str, Data]) -> list[str]:
    return [data.fingerprint for data in own.values()]


def _said(study: Study, own: Mapping[str, Data], trained: list[Tensor]) -> np.ndarray:
    return probabilities(study.network(), trained, _tensors(study, _test(own))[0])


def _tensors(study: Study, part: Part) -> tuple[Tensor, Tensor]:
    """Images in the scaling that all real-data ways share, and labels."""
    images = torch.from_numpy(study.data.standardised(part.images)).to(study.device)
    return images, torch.from_numpy(np.asarray(part.labels, np.int64)).to(study.device)


def _pooled(study: Study, own: Mapping[str, Data]) -> tuple[Tensor, Tensor]:
    pairs = [_tensors(study, data.train) for data in own.values()]
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])
