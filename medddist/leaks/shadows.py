"""Shadow distillations for LiRA (Carlini et al., S&P 2022).

A shadow is distilled from a random half of the images; of shadows 2k and 2k + 1 each image is in
exactly one. Of an image, the shadows without it say how confident networks are that never saw it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.files import digest
from medddist.base.seeds import generator
from medddist.data import Part, fingerprint
from medddist.leaks.answers import log_odds
from medddist.leaks.candidates import Candidates, random_set
from medddist.measure.membership import moderated_deviations
from medddist.method.evaluate import trained_networks
from medddist.study.study import Study

SETS = ("distilled", "control")


def out_of_shadows(
    study: Study, asked: Candidates, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Summarise the candidates' log-odds by shadows that they are not in.

    Args:
        study: whose set is audited.
        asked: the candidates.
        seed: of the study.

    Returns:
        For the distilled sets, and for real sets as large, mean (N,) and standard deviation (N,).
    """
    settings = study.profile.audit
    shadows = [shadow_scores(study, number, asked, seed) for number in range(settings.shadows)]
    out = ~np.array([inside for inside, _ in shadows])  # (shadows, N)
    summary = {}
    for name in SETS:
        every = np.array([scores[name] for _, scores in shadows])
        scores = every.T[out.T].reshape(out.shape[1], settings.shadows // 2)
        summary[name] = scores.mean(1), deviations(scores, settings.variance)
    return summary


def deviations(scores: np.ndarray, variance: str) -> np.ndarray:
    """Return standard deviations (N,) of scores (N, shadows); ones where one serves all images."""
    count, shadows = scores.shape
    if variance == "one" or shadows < 2:
        return np.ones(count)
    return moderated_deviations(scores.var(1, ddof=1), shadows - 1)


def in_shadow(groups: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Return (N,) bool: the images whose group is in a shadow."""
    names = np.unique(groups)
    order = torch.randperm(len(names), generator=generator(seed, "shadow", number // 2)).numpy()
    first = order < len(names) // 2
    return first[np.searchsorted(names, groups)] ^ bool(number % 2)


def shadow(study: Study, number: int, asked: Candidates) -> Study:
    """Derive a shadow's study: half of the training images and of the unseen candidates.

    Its teachers and its distillation are cached like any study's.
    """
    settings, parts = study.profile.audit, study.data.parts()
    rows = {"train": np.arange(len(parts["train"])), "test": np.sort(asked.unseen.numpy())}
    for part, at in rows.items():
        rows[part] = at[in_shadow(parts[part].groups, settings.seed, number)[at]]
    half = (
        np.concatenate([getattr(parts[part], name)[at] for part, at in rows.items()])
        for name in ("images", "labels", "groups")
    )
    validation = parts["validation"]  # in place of a test part too: a shadow is not scored
    parts = {"train": Part(*half), "validation": validation, "test": validation}
    # with the whole data's fingerprint, since pixels are scaled as theirs
    name = fingerprint(parts, study.data.class_names)[:16] + study.data.fingerprint[:16]
    profile = study.profile.changed(settings.shadow_changes)
    return study.with_(profile, replace(study.data, **parts, fingerprint=name))


def shadow_scores(
    study: Study, number: int, asked: Candidates, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Score the candidates by one shadow.

    Args:
        study: whose set is audited.
        number: of the shadow.
        asked: the candidates.
        seed: of the study.

    Returns:
        (N,) which candidates the shadow contains, and by set their log-odds (N,).
    """
    one, settings = shadow(study, number, asked), study.profile.audit
    inside = []
    for part, indices in (("train", asked.training), ("test", asked.unseen)):
        groups = study.data.parts()[part].groups
        inside.append(in_shadow(groups, settings.seed, number)[indices.numpy()])

    def compute() -> tuple[dict[str, Tensor], dict]:
        scores = scored_by_shadow(one, images_asked(study, asked), seed)
        return {name: torch.from_numpy(score) for name, score in scores.items()}, {}

    tensors, _ = one.store.tensors("audit", compute, **shadow_depends_on(one, asked, seed))
    return np.concatenate(inside), {name: score.numpy() for name, score in tensors.items()}


def scored_by_shadow(one: Study, asked: tuple[Tensor, Tensor], seed: int) -> dict[str, np.ndarray]:
    """Compute log-odds of images by networks trained on a shadow's sets.

    Args:
        one: the shadow.
        asked: images and labels of the candidates.
        seed: of the study.

    Returns:
        For the shadow's distilled set and for a real set as large, (N,).
    """
    settings, network = one.profile.audit, one.network()
    released, (images, labels) = one.distillation(seed).distilled, one.tensors("train")
    size = one.profile.distill.images_per_class, one.data.classes
    chosen = random_set(labels, *size, settings.seed, "shadow's control").to(labels.device)
    sets = {
        "distilled": (released.images, released.targets),
        "control": (images[chosen], labels[chosen]),
    }
    scores = {}
    for name, pair in sets.items():
        given = network, *pair, settings.recipe, settings.shadow_networks
        trained = trained_networks(*given, (settings.seed, "attack", "shadow", name))
        scores[name] = log_odds(network, trained, *asked)
    return scores


def images_asked(study: Study, asked: Candidates) -> tuple[Tensor, Tensor]:
    """Return images and labels of `asked.training`, then of `asked.unseen`."""
    device = study.device
    pairs = [
        [tensor[indices.to(device)] for tensor in study.tensors(part)]
        for part, indices in (("train", asked.training), ("test", asked.unseen))
    ]
    (images, labels), (more_images, more_labels) = pairs
    return torch.cat([images, more_images]), torch.cat([labels, more_labels])


def shadow_depends_on(one: Study, asked: Candidates, seed: int) -> dict[str, Any]:
    """Return what a shadow's scores depend on."""
    return attack_depends_on(one, asked, seed, ("recipe", "shadow_networks", "seed"))


def attack_depends_on(
    study: Study, asked: Candidates, seed: int, decided_by: tuple[str, ...]
) -> dict[str, Any]:
    """Return what an attack's scores depend on.

    Args:
        study: whose set is attacked.
        asked: the candidates.
        seed: of the study.
        decided_by: names of the audit's settings that decide.
    """
    settings = study.profile.audit.model_dump(mode="json", include=set(decided_by))
    whom = digest([asked.training.tolist(), asked.unseen.tolist(), asked.left.tolist()])
    return {"attack": settings, "asked": whom, "distillation": study.distillation_name(seed)}
