"""The audit: can training images be recognised from a released set?

Nearest neighbours show what an image resembles. Two attacks on membership train networks on the
released set and ask how confident they are of an image's class:

    loss:  log-odds minus those of reference networks (difficulty calibration, Watson et al. 2022)
    LiRA:  (log-odds minus their mean over shadows without the image) / their standard deviation

with shadows as in `shadows` (offline LiRA, Carlini et al. 2022). Each attack has two controls: real
images that networks were trained on must be found, unseen images must not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.seeds import generator
from medddist.leaks.answers import log_odds, standardised_features
from medddist.leaks.candidates import Candidates, candidates, random_set
from medddist.leaks.shadows import attack_depends_on, images_asked, out_of_shadows
from medddist.measure.membership import (
    LEVEL,
    attacked,
    is_at_chance,
    is_found,
    share,
    threshold_rank,
)
from medddist.measure.neighbours import Neighbours, neighbours
from medddist.method.distill import Distillation
from medddist.method.evaluate import trained_networks
from medddist.study.settings import AuditSettings
from medddist.study.study import Study

STRENGTHENED_BY = {  # the settings that decide how strong an attack is
    "loss": "audit.networks, audit.references, audit.recipe",
    "lira": "audit.networks, audit.shadows, audit.shadow_networks, audit.recipe",
}
TELLS = 0.55  # the AUC from which an attack tells members apart, be it with too few images


def audit(study: Study, seed: int | None = None) -> dict[str, Any]:
    """Audit a seed's released set; `broken` says whether the result means anything.

    Returns:
        seed, settings, neighbours by space, and membership by attack: for the released set and for
        the positive control, rows of `membership.attacked`.

    Raises:
        InputError: where there are too few images.
    """
    seed = study.profile.seeds[0] if seed is None else seed
    compute = lambda: _audited(study, seed)
    return study.store.values("audit", compute, **_depends_on(study, seed))


def is_audited(study: Study) -> bool:
    """Say whether the audit of the first seed's set is cached."""
    depends_on = _depends_on(study, study.profile.seeds[0])
    return study.store.path("audit", "result.json", **depends_on).exists()


def _depends_on(study: Study, seed: int) -> dict[str, Any]:
    settings = study.profile.audit.as_json()
    return {"audit": settings, "distillation": study.distillation_name(seed)}


def candidates_of(study: Study, result: Distillation) -> Candidates:
    """Draw the images that the audit of a study's set asks about."""
    size = study.profile.distill.images_per_class
    return candidates(study.data, result.initial_indices, size, study.profile.audit)


def _audited(study: Study, seed: int) -> dict[str, Any]:
    result, settings = study.distillation(seed), study.profile.audit
    asked = candidates_of(study, result)
    # refused before minutes are spent
    threshold_rank(len(asked.unseen_a), settings.false_positives)
    spaces = nearest(study, result, seed).items()
    own, control, reference = _loss_scores(study, result, asked, seed)
    attacks = {"loss": (own - reference, control - reference)}
    if settings.shadows:
        out = out_of_shadows(study, asked, seed)
        standing_out = ((own, *out["distilled"]), (control, *out["control"]))
        attacks["lira"] = tuple((score - mean) / std for score, mean, std in standing_out)
    return {
        "seed": seed,
        "settings": settings.as_json(),
        "neighbours": {space: _summary(distances) for space, distances in spaces},
        "membership": {
            name: _membership(asked, *scores, settings) for name, scores in attacks.items()
        },
    }


def _membership(
    asked: Candidates, own: np.ndarray, control: np.ndarray, settings: AuditSettings
) -> dict[str, Any]:
    """One attack on the released set, and on the positive control."""
    released, trained_on = asked.split(own), asked.split(control)
    del released["control"]
    names = ("control", "unseen_a", "unseen_b")
    return {
        "released": attacked(released, settings.false_positives),
        "positive_control": attacked(
            {name: trained_on[name] for name in names}, settings.false_positives
        ),
    }


def broken(result: dict[str, Any]) -> list[str]:
    """Say why an audit's attacks show nothing, a line each; none where both controls behaved."""
    reasons = []
    for name, sets in result["membership"].items():
        if not is_found(sets["positive_control"]["control"]):
            reasons.append(_not_found(name, sets["positive_control"]))
        for what, groups in sets.items():
            if not is_at_chance(groups["unseen"]):
                reasons.append(
                    f"the {name} attack is not valid: it tells unseen images of the"
                    f" {what.replace('_', ' ')} apart; look for copies in the data"
                )
    return reasons


def _not_found(name: str, control: dict[str, Any]) -> str:
    """Say why the positive control was not found: too few images, or else too weak an attack."""
    row = control["control"]
    hits, high, area = row["true_positives"], row["by_chance"][1], row["auc"]
    seen = (
        f"of {hits['of']} real images that networks were trained on it finds {hits['count']}, and"
        f" chance up to {high} (AUC {area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}])"
    )
    stronger, more = f"strengthen it ({STRENGTHENED_BY[name]})", "give more test images"
    if area["auc"] >= TELLS or high >= hits["of"]:
        few = f"the {name} attack is inconclusive, too few test images: {seen}"
        return f"{few}; {more} of every class, or {stronger}"
    return f"the {name} attack is too weak to be informative: {seen}; {stronger}, or {more}"


def nearest(study: Study, result: Distillation, seed: int) -> dict[str, Neighbours]:
    """Find nearest neighbours in pixels, and in features of the seed's first teacher."""
    teacher, network = study.teachers(seed)[0], study.network()
    theta = teacher.rows(teacher.snapshots - 1)[0].to(study.device)
    (train, train_labels), (test, test_labels) = study.tensors("train"), study.tensors("test")
    released, start = result.distilled, result.initial_indices
    images, classes = released.images, released.classes
    if len(start):  # learned labels may name another class than the image started from
        classes = train_labels[start.reshape(len(start), -1)[:, 0].to(train_labels.device)]
    sizes = [len(images), len(train), len(test)]
    features = standardised_features(network, theta, torch.cat([images, train, test]))
    spaces = {"pixels": (images, train, test), "features": features.split(sizes)}
    found = {}
    for space, (own, training, unseen) in spaces.items():
        sets = (own, classes), (training, train_labels), (unseen, test_labels)
        random = generator(study.profile.audit.seed, "neighbours", space)
        found[space] = neighbours(*sets, start, random)
    return found


def _loss_scores(
    study: Study, result: Distillation, asked: Candidates, seed: int
) -> list[np.ndarray]:
    """Log-odds of all candidates by networks on the released set, the control and references."""
    names = ("released", "control", "reference")

    def compute() -> tuple[dict[str, Tensor], dict]:
        scores = map(torch.from_numpy, _attack(study, result, asked))
        return dict(zip(names, scores)), {}

    decided_by = ("recipe", "networks", "references", "seed")
    depends_on = attack_depends_on(study, asked, seed, decided_by)
    tensors, _ = study.store.tensors("audit", compute, **depends_on)
    return [tensors[name].numpy() for name in names]


def _attack(
    study: Study, result: Distillation, asked: Candidates
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    settings, network, released = study.profile.audit, study.network(), result.distilled
    (train, labels), questions = study.tensors("train"), images_asked(study, asked)

    def scored(images: Tensor, targets: Tensor, networks: int, *name: int | str) -> np.ndarray:
        given = network, images, targets, settings.recipe, networks
        what = f"attacking: networks on {name[0]} images"
        seed = (settings.seed, "attack", *name)
        return log_odds(network, trained_networks(*given, seed, study.progress, what), *questions)

    def real(indices: Tensor) -> tuple[Tensor, Tensor]:
        return train[indices.to(train.device)], labels[indices.to(labels.device)]

    own = scored(released.images, released.targets, settings.networks, "released")
    control = scored(*real(asked.control), settings.networks, "control")
    left = labels[asked.left.to(labels.device)]
    size = study.profile.distill.images_per_class, study.data.classes
    references = []
    for k in range(settings.references):
        chosen = asked.left[random_set(left, *size, settings.seed, "reference", k)]
        references.append(scored(*real(chosen), 1, "reference", k))
    return own, control, np.mean(references, axis=0)


def _summary(distances: Neighbours) -> dict[str, Any]:
    """Median distances, and how often the nearer image is a training image (by chance, half)."""
    median = lambda values: None if values is None else float(values.median())
    closer, starts = distances.training < distances.unseen, distances.start_is_nearest
    summary = {
        "to_start": median(distances.start),
        "to_training": median(distances.training),
        "to_unseen": median(distances.unseen),
        "training_is_nearer": share(int(closer.sum()), len(closer), LEVEL),
    }
    if starts is not None:
        summary["start_is_nearest"] = share(int(starts.sum()), len(starts), LEVEL)
    return summary
