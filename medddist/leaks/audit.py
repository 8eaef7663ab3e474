"""What a released set gives away: nearest neighbours, and whether membership in the training images
can be told from it.

The attacker trains networks on the released images and asks how sure they are of an image's class:
of images that they were trained on, or on changed copies of, they are surer than of others as
difficult. The score is the log-odds of the own
class, averaged over networks, less the same of networks that have nothing to do with the image:
    trained on other real images (difficulty calibration, Watson et al., ICLR 2022), or on shadow
    sets that were distilled without it (offline LiRA, Carlini et al., S&P 2022), there over the
    standard deviation of the latter: few shadows give no `in` distribution of an image, and a
    variance only with help from all others' (`membership.moderated_deviations`).

Two controls say whether an attack is one: real images that networks were trained on have to be
    found, unseen ones may not be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.files import digest
from medddist.base.seeds import generator
from medddist.data import Part, fingerprint
from medddist.leaks.networks_asked import features, log_odds
from medddist.measure.membership import (
    LEVEL,
    attacked,
    is_at_chance,
    is_found,
    moderated_deviations,
    share,
    threshold_rank,
)
from medddist.measure.neighbours import Neighbours, neighbours
from medddist.method.distill import Distillation
from medddist.method.evaluate import trained_networks
from medddist.study.settings import AuditSettings

if TYPE_CHECKING:
    from medddist.study.study import Study


STRENGTHENED_BY = {  # what an attack's strength is decided by
    "loss": "audit.networks, audit.references, audit.recipe",
    "lira": "audit.networks, audit.shadows, audit.shadow_networks, audit.recipe",
}


@dataclass(frozen=True)
class Candidates:
    """Who is asked about: training indices, and test indices of the unseen ones; in equal numbers a
    class, as the set is.

    So that members and others differ in nothing but membership: how sure a network is depends on
        the class.
    """

    starting: Tensor
    control: Tensor
    others: Tensor
    unseen_a: Tensor
    unseen_b: Tensor
    left: Tensor  # training images that are none of these: for references

    @property
    def training(self) -> Tensor:
        return torch.cat([self.starting, self.control, self.others])

    @property
    def unseen(self) -> Tensor:
        return torch.cat([self.unseen_a, self.unseen_b])

    def split(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of `training` and `unseen`, one after the other, by group."""
        names = ("starting", "control", "others", "unseen_a", "unseen_b")
        return dict(
            zip(
                names,
                np.split(scores, np.cumsum([len(getattr(self, name)) for name in names])[:-1]),
            )
        )


def candidates(study: Study, result: Distillation, settings: AuditSettings) -> Candidates:
    """Drawn from the audit's seed. Raises InputError where there are too few training images."""
    data, per_class = study.data, study.profile.distill.images_per_class
    random = generator(settings.seed, "audit")
    free = np.ones(len(data.train.labels), bool)
    free[result.initial_indices.flatten().numpy()] = False
    control = _drawn(data.train.labels, data.train.groups, free, per_class, data.classes, random)
    free[control] = False
    fewest = int(np.bincount(data.train.labels[free], minlength=data.classes).min())
    others = _drawn(
        data.train.labels,
        data.train.groups,
        free,
        min(settings.others // data.classes, fewest // 2),
        data.classes,
        random,
    )
    free[others] = False
    fewest = int(data.test.class_counts(data.classes).min())
    unseen = _drawn(
        data.test.labels,
        data.test.groups,
        np.ones(len(data.test), bool),
        fewest,
        data.classes,
        random,
    )
    first = np.arange(len(unseen)) % fewest < fewest // 2  # of each class
    if min(len(control), len(others), first.sum()) < data.classes:
        raise InputError(
            "audit",
            "there are too few images of the smallest class",
            "give more, or lower distill.images_per_class",
        )
    tensor = lambda indices: torch.from_numpy(np.asarray(indices, np.int64))
    drawn = (control, others, unseen[first], unseen[~first], np.flatnonzero(free))
    return Candidates(_starting(study, result, settings), *map(tensor, drawn))


def _starting(study: Study, result: Distillation, settings: AuditSettings) -> Tensor:
    """Training images that the set started from: all; of averages, as many in each class as the
    class with fewest has.
    """
    if result.initial_indices.ndim == 1:
        return result.initial_indices
    data, averaged = study.data, np.zeros(len(study.data.train.labels), bool)
    averaged[result.initial_indices.flatten().numpy()] = True
    fewest = int(np.bincount(data.train.labels[averaged], minlength=data.classes).min())
    random = generator(settings.seed, "audit", "averaged")
    return torch.from_numpy(
        _drawn(data.train.labels, data.train.groups, averaged, fewest, data.classes, random)
    )


def _drawn(
    labels, groups, free, per_class: int, classes: int, random: torch.Generator
) -> np.ndarray:
    """Up to `per_class` indices of each class, class by class, images of one group beside one
    another.
    """
    chosen = []
    for k in range(classes):
        members = np.flatnonzero((labels == k) & free)
        names = np.unique(groups[members])
        place = dict(zip(names.tolist(), torch.randperm(len(names), generator=random).tolist()))
        chosen.append(sorted(members.tolist(), key=lambda i: place[int(groups[i])])[:per_class])
    return np.concatenate(chosen).astype(np.int64)


def audit(study: Study, seed: int | None = None) -> dict[str, Any]:
    """Everything that is measured on a seed's released set, kept as the study's step; `broken` says
    whether to believe it.
    """
    seed = study.profile.seeds[0] if seed is None else seed
    depends_on = _depends_on(study, seed)
    return study.store.values("audit", lambda: _measured(study, seed), **depends_on)


def _depends_on(study: Study, seed: int) -> dict[str, Any]:
    return {
        "audit": study.profile.audit.as_json(),
        "distillation": study.distillation_name(seed),
    }


def _measured(study: Study, seed: int) -> dict[str, Any]:
    result, settings = study.distillation(seed), study.profile.audit
    asked = candidates(study, result, settings)
    threshold_rank(
        len(asked.unseen_a), settings.false_positives
    )  # refused before minutes are spent
    told = {
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "neighbours": {
            space: _neighbours_told(found) for space, found in nearest(study, result, seed).items()
        },
    }
    own, control, calibration = _loss_scores(study, result, asked, seed)
    attacks = {"loss": (own - calibration, control - calibration)}
    if settings.shadows:
        out = _out_of_shadows(study, asked, seed)
        attacks["lira"] = (
            _standing_out(own, *out["distilled"]),
            _standing_out(control, *out["control"]),
        )
    told["membership"] = {
        name: _membership(asked, *scores, settings) for name, scores in attacks.items()
    }
    return told


def _membership(
    asked: Candidates, own: np.ndarray, control: np.ndarray, settings: AuditSettings
) -> dict[str, Any]:
    """The released set and the positive control under one attack."""
    of_set = {name: of for name, of in asked.split(own).items() if name != "control"}
    of_control = {
        name: of
        for name, of in asked.split(control).items()
        if name in ("control", "unseen_a", "unseen_b")
    }
    return {
        "released": attacked(of_set, settings.false_positives),
        "positive_control": attacked(of_control, settings.false_positives),
    }


def broken(told: dict[str, Any]) -> list[str]:
    """Why an audit's attacks show nothing, a line each; none where both controls are as they have
    to be.
    """
    reasons = []
    for name, of in told["membership"].items():
        control = of["positive_control"]["control"]
        if not is_found(control):
            found, high, area = control["true_positives"], control["by_chance"][1], control["auc"]
            reasons.append(
                f"the {name} attack is broken: of {found['of']} real images that networks "
                f"were trained on it finds {found['count']},"
                f" and chance up to {high} (AUC {area['auc']:.3f} [{area['low']:.3f}, "
                f"{area['high']:.3f}]); strengthen it ({STRENGTHENED_BY[name]}), or give more "
                "test images"
            )
        for what, groups in of.items():
            if not is_at_chance(groups["unseen"]):
                reasons.append(
                    f"the {name} attack is broken: it tells unseen images of the "
                    f"{what.replace('_', ' ')} from one another;"
                    " look for copies in the data"
                )
    return reasons


def nearest(study: Study, result: Distillation, seed: int) -> dict[str, Neighbours]:
    """Nearest neighbours in pixels, and in features of the seed's first teacher at its last
    snapshot.
    """
    teacher, network = study.teachers(seed)[0], study.network()
    theta = teacher.rows(teacher.snapshots - 1)[0].to(study.device)
    (train, train_labels), (test, test_labels) = study.tensors("train"), study.tensors("test")
    images, classes = result.distilled.images, result.distilled.targets
    classes = classes if classes.ndim == 1 else classes.argmax(1)
    mapped = features(network, theta, torch.cat([images, train, test])).split(
        [len(images), len(train), len(test)]
    )
    spaces = {"pixels": (images, train, test), "features": mapped}
    random = lambda space: generator(study.profile.audit.seed, "neighbours", space)
    return {
        space: neighbours(
            (a, classes), (b, train_labels), (c, test_labels), result.initial_indices, random(space)
        )
        for space, (a, b, c) in spaces.items()
    }


def images_asked(study: Study, asked: Candidates) -> tuple[Tensor, Tensor]:
    """Images and labels of `training`, then of `unseen`."""
    pairs = [
        [tensor[indices.to(study.device)] for tensor in study.tensors(part)]
        for part, indices in (("train", asked.training), ("test", asked.unseen))
    ]
    return torch.cat([pairs[0][0], pairs[1][0]]), torch.cat([pairs[0][1], pairs[1][1]])


def _loss_scores(
    study: Study, result: Distillation, asked: Candidates, seed: int
) -> list[np.ndarray]:
    """Log-odds of all candidates by networks on the released set, on the positive control, and on
    other real images; kept.
    """
    names = ("released", "control", "reference")

    def compute() -> tuple[dict[str, Tensor], dict]:
        scores = map(torch.from_numpy, _attack(study, result, asked))
        return dict(zip(names, scores)), {}

    tensors, _ = study.store.tensors("audit", compute, **_loss_depends_on(study, asked, seed))
    return [tensors[name].numpy() for name in names]


def _loss_depends_on(study: Study, asked: Candidates, seed: int) -> dict[str, Any]:
    decided_by = ("recipe", "networks", "references", "seed")
    return _scores_depend_on(study, asked, seed, decided_by)


def _shadow_depends_on(one: Study, asked: Candidates, seed: int) -> dict[str, Any]:
    return _scores_depend_on(one, asked, seed, ("recipe", "shadow_networks", "seed"))


def _scores_depend_on(
    study: Study, asked: Candidates, seed: int, decided_by: tuple[str, ...]
) -> dict[str, Any]:
    """These of the attack's settings, whom it is asked about, and the set it attacks."""
    settings = study.profile.audit.model_dump(mode="json", include=set(decided_by))
    whom = digest([asked.training.tolist(), asked.unseen.tolist(), asked.left.tolist()])
    return {"attack": settings, "asked": whom, "distillation": study.distillation_name(seed)}


def _attack(
    study: Study, result: Distillation, asked: Candidates
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    settings, network, (train, labels) = (
        study.profile.audit,
        study.network(),
        study.tensors("train"),
    )
    images_of = lambda indices: (train[indices.to(train.device)], labels[indices.to(train.device)])

    def scored(images: Tensor, targets: Tensor, networks: int, *name: int | str) -> np.ndarray:
        what = f"attacking: networks on {name[0]} images"
        trained = trained_networks(
            network,
            images,
            targets,
            settings.recipe,
            networks,
            (settings.seed, "attack", *name),
            study.progress,
            what,
        )
        return log_odds(network, trained, *images_asked(study, asked))

    own = scored(result.distilled.images, result.distilled.targets, settings.networks, "released")
    control = scored(*images_of(asked.control), settings.networks, "control")
    sets = [
        _real_set(labels[asked.left.to(labels.device)], study, settings, "reference", k)
        for k in range(settings.references)
    ]
    calibration = [
        scored(*images_of(asked.left[chosen]), 1, "reference", k) for k, chosen in enumerate(sets)
    ]
    return own, control, np.mean(calibration, axis=0)


def _real_set(labels: Tensor, study: Study, settings: AuditSettings, *name: int | str) -> Tensor:
    """Indices of as many random images a class as the released set has (or as there are)."""
    labels, per_class = labels.cpu().numpy(), study.profile.distill.images_per_class
    chosen = _drawn(
        labels,
        np.arange(len(labels)),
        np.ones(len(labels), bool),
        per_class,
        study.data.classes,
        generator(settings.seed, "audit", *name),
    )
    return torch.from_numpy(chosen)


def _neighbours_told(found: Neighbours) -> dict[str, Any]:
    """The distances' medians, and how often the nearer one is a training image (a half, if that
    says nothing).
    """
    median = lambda values: None if values is None else float(values.median())
    told = {
        "to_start": median(found.start),
        "to_training": median(found.training),
        "to_unseen": median(found.unseen),
    }
    told["training_is_nearer"] = share(
        int((found.training < found.unseen).sum()), len(found.training), LEVEL
    )
    if found.start_is_nearest is not None:
        told["start_is_nearest"] = share(
            int(found.start_is_nearest.sum()), len(found.start_is_nearest), LEVEL
        )
    return told


# ---- shadows -------------------------------------------------------------------------------------


def _out_of_shadows(
    study: Study, asked: Candidates, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of the candidates' log-odds by networks that never saw them: mean (N,) and standard deviation
    (N,) over those shadows.
    """
    settings = study.profile.audit
    found = [shadow_scores(study, number, asked, seed) for number in range(settings.shadows)]
    out = ~np.array(
        [inside for inside, _ in found]
    )  # (shadows, N); each image is out of one of two
    told = {}
    for name in ("distilled", "control"):
        scores = (
            np.array([scores[name] for _, scores in found])
            .T[out.T]
            .reshape(out.shape[1], settings.shadows // 2)
        )
        told[name] = scores.mean(1), _deviations(scores, settings.variance)
    return told


def _deviations(scores: np.ndarray, variance: str) -> np.ndarray:
    """(N,) of scores (N, shadows); ones where one variance serves all, which then changes no order."""
    count, shadows = scores.shape
    if variance == "one" or shadows < 2:
        return np.ones(count)
    return moderated_deviations(scores.var(1, ddof=1), shadows - 1)


def _standing_out(score: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return (score - mean) / deviation


def in_shadow(groups: np.ndarray, seed: int, number: int) -> np.ndarray:
    """(N,) bool: the images of random half the groups; of numbers 2k and 2k + 1 one has what the
    other has not.
    """
    names = np.unique(groups)
    first = (
        torch.randperm(len(names), generator=generator(seed, "shadow", number // 2)).numpy()
        < len(names) // 2
    )
    return first[np.searchsorted(names, groups)] ^ bool(number % 2)


def shadow(study: Study, number: int, asked: Candidates) -> Study:
    """The same study, with the profile's changes for shadows, on a random half of the training
    images and of those asked about.

    It is a study as any other: its teachers and its distillation are kept under the hash of its
        data and gone on with.
    """
    settings, parts = study.profile.audit, study.data.parts()
    rows = {"train": np.arange(len(parts["train"])), "test": np.sort(asked.unseen.numpy())}
    rows = {
        part: at[in_shadow(parts[part].groups, settings.seed, number)[at]]
        for part, at in rows.items()
    }
    half = [
        np.concatenate([getattr(parts[part], name)[at] for part, at in rows.items()])
        for name in ("images", "labels", "groups")
    ]
    parts = {
        "train": Part(*half),
        "validation": parts["validation"],
        "test": parts["validation"],
    }  # a shadow is not scored
    name = (
        fingerprint(parts, study.data.class_names)[:16] + study.data.fingerprint[:16]
    )  # its pixels are scaled as all data are
    return study.with_(
        study.profile.changed(settings.shadow_changes),
        replace(study.data, **parts, fingerprint=name),
    )


def shadow_scores(
    study: Study, number: int, asked: Candidates, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) which of the images asked about a shadow had, and their log-odds by its networks; kept
    as the shadow's own step.
    """
    one, settings = shadow(study, number, asked), study.profile.audit
    rows = {"train": asked.training.numpy(), "test": asked.unseen.numpy()}
    inside = [
        in_shadow(study.data.parts()[part].groups, settings.seed, number)[at]
        for part, at in rows.items()
    ]

    def compute() -> tuple[dict[str, Tensor], dict]:
        scores = _scored_by_shadow(one, images_asked(study, asked), seed)
        return {name: torch.from_numpy(score) for name, score in scores.items()}, {}

    tensors, _ = one.store.tensors("audit", compute, **_shadow_depends_on(one, asked, seed))
    return np.concatenate(inside), {name: score.numpy() for name, score in tensors.items()}


def _scored_by_shadow(one: Study, asked: tuple[Tensor, Tensor], seed: int) -> dict[str, np.ndarray]:
    """Log-odds of the candidates by networks on a shadow's distilled set, and on as many real
    images of its half.
    """
    settings, network, released = one.profile.audit, one.network(), one.distillation(seed).distilled
    images, labels = one.tensors("train")
    chosen = _real_set(labels, one, settings, "shadow's control").to(labels.device)
    sets = {
        "distilled": (released.images, released.targets),
        "control": (images[chosen], labels[chosen]),
    }
    name = (settings.seed, "attack", "shadow")
    trained = {
        what: trained_networks(
            network, *pair, settings.recipe, settings.shadow_networks, (*name, what)
        )
        for what, pair in sets.items()
    }
    return {what: log_odds(network, found, *asked) for what, found in trained.items()}
