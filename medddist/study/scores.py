"""What the distilled images and their references are worth on the test part.

All small sets train networks by the evaluation's recipe. The distilled set brings its learned step
size; random real images have theirs tuned on validation. The test part is scored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.measure import metrics
from medddist.method.evaluate import (
    probabilities,
    random_real,
    trained_networks,
    tuned_learning_rate,
)
from medddist.method.training import Diverged
from medddist.study.store import seconds_of

if TYPE_CHECKING:
    from pathlib import Path

    from medddist.study.study import Study

METHODS = {
    "distilled": "distilled images",
    "initial": "initial images",
    "random_balanced": "random real images, balanced",
    "random_natural": "random real images, natural proportions",
    "full_teacher": "all training images, teacher training",
    "full_good": "all training images, tuned training",
    "majority": "majority class",
}
LEAD_METRICS = ("accuracy", "balanced_accuracy")
IF_DIVERGED = (
    "lower distill.step_size for distilled images, or remove the largest of "
    "references.learning_rates for random ones"
)


@dataclass(frozen=True)
class Scored:
    """The networks of a method on the test part."""

    method: str
    probabilities: np.ndarray  # (R, N, K)
    about: dict  # learning rate and how it was chosen, images used
    scores: dict  # of `metrics.score`
    sets: np.ndarray | None = None  # (R,) the training set of each network, where there are several


@dataclass(frozen=True)
class _Set:
    """A small training set: the name of its seed, its images and labels, its learning rate."""

    seed: tuple[int | str, ...]
    images: Tensor
    labels: Tensor
    learning_rate: float


def scored(study: Study, method: str, images_per_class: int | None = None) -> Scored:
    """Score one of METHODS on the test part.

    Args:
        study: whose data, profile and cached results are used.
        method: a key of METHODS.
        images_per_class: of small sets; None takes the profile's.

    Raises:
        InputError: for an unknown method, and where a network diverges.
    """
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise InputError("method", f"{method!r} is not known", f"use one of {known}")
    size = images_per_class or study.profile.distill.images_per_class

    def compute() -> tuple[dict[str, Tensor], dict]:
        answers, about = _computed(study, method, size)
        return {"probabilities": torch.from_numpy(answers)}, about

    tensors, about = study.store.tensors("scores", compute, **_depends_on(study, method, size))
    answers, sets = tensors["probabilities"].numpy(), _sets(study, method)
    return Scored(method, answers, about, study.score(answers, sets), sets)


def scores_path(study: Study, method: str) -> Path:
    """Return where `scored` caches a method's answers, whether or not they exist."""
    size = study.profile.distill.images_per_class
    return study.store.path("scores", **_depends_on(study, method, size))


def seconds_of_scores(study: Study, method: str) -> float | None:
    """Return the seconds that `scored` took, missing steps included; None where unknown."""
    return seconds_of(scores_path(study, method)) or None


def _depends_on(study: Study, method: str, images_per_class: int) -> dict[str, Any]:
    profile, evaluate = study.profile, study.profile.evaluate.as_json()
    depends_on: dict[str, Any] = {"method": method}
    if method in ("full_teacher", "full_good"):
        depends_on["recipe"] = _full_recipe(study, method).as_json()
        depends_on |= {"networks": profile.references.full_networks, "seed": profile.evaluate.seed}
    elif method.startswith("random"):
        depends_on |= {"evaluate": evaluate, "references": profile.references.as_json()}
        depends_on |= {"images_per_class": images_per_class}
        depends_on |= {"metric": profile.distill.selection_metric}
    elif method != "majority":
        names = [study.distillation_name(seed, images_per_class) for seed in profile.seeds]
        depends_on |= {"evaluate": evaluate, "distillations": names}
    return depends_on


def _full_recipe(study: Study, method: str):
    profile = study.profile
    return profile.teachers.recipe if method == "full_teacher" else profile.references.good_recipe


def _sets(study: Study, method: str) -> np.ndarray | None:
    """(R,) the seed or draw of each network: networks of one share its images."""
    references, evaluate = study.profile.references, study.profile.evaluate
    if method in ("distilled", "initial"):
        return np.repeat(study.profile.seeds, evaluate.networks)
    if method.startswith("random"):
        return np.repeat(range(references.draws), references.networks_per_draw)
    return None


def _computed(study: Study, method: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    """Class probabilities (R, N, K) on the test part, and how the networks were trained."""
    if method == "majority":
        train, test = study.data.train.labels, study.data.test.labels
        return metrics.majority_class(train, test, study.data.classes), {}
    if method in ("full_teacher", "full_good"):
        return _of_all_images(study, method)
    if method.startswith("random"):
        return _of_random_images(study, method.removeprefix("random_"), images_per_class)
    return _of_distillations(study, method, images_per_class)


def _of_all_images(study: Study, method: str) -> tuple[np.ndarray, dict]:
    recipe, networks = _full_recipe(study, method), study.profile.references.full_networks
    seed, what = (study.profile.evaluate.seed, method), f"training on {METHODS[method]}"
    given = study.network(), *study.tensors("train"), recipe, networks, seed
    trained = trained_networks(*given, study.progress, what)
    return _answers(study, trained), {"learning_rates": [recipe.learning_rate]}


def _of_random_images(study: Study, draw: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    """Several draws of random real images; the learning rate is tuned on validation."""
    references, (images, labels) = study.profile.references, study.tensors("train")
    evaluate, metric = study.profile.evaluate, study.profile.distill.selection_metric
    asked = labels, images_per_class, study.data.classes, draw
    randoms = [generator(evaluate.seed, "random real", draw, k) for k in range(references.draws)]
    drawn = [random_real(*asked, random) for random in randoms]
    training = images[drawn[0]], labels[drawn[0]], evaluate.recipe, references.learning_rates
    judged = study.tensors("validation"), metric, references.tuning_networks, (evaluate.seed, draw)
    rate, tried = tuned_learning_rate(study.network(), *training, *judged)
    sets = [_Set((draw, k), images[at], labels[at], rate) for k, at in enumerate(drawn)]
    answers = _of_sets(study, sets, references.networks_per_draw, METHODS[f"random_{draw}"])
    about = {"learning_rates": [rate], "tried_on_validation": tried, "draws": references.draws}
    return answers, about


def _of_distillations(study: Study, method: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    seeds = study.profile.seeds
    results, sets = [study.distillation(seed, images_per_class) for seed in seeds], []
    for seed, result in zip(seeds, results):
        chosen = result.distilled if method == "distilled" else result.initial
        rate = chosen.step_size.item()
        sets.append(_Set((method, seed), chosen.images, chosen.targets, rate))
    rates = [trained_on.learning_rate for trained_on in sets]
    iterations = [result.selected_iteration for result in results]
    about = {"learning_rates": rates, "seeds": list(seeds), "selected_iterations": iterations}
    return _of_sets(study, sets, study.profile.evaluate.networks, METHODS[method]), about


def _of_sets(study: Study, sets: Sequence[_Set], networks: int, what: str) -> np.ndarray:
    """(R, N, K) of networks trained by the evaluation's recipe on each set, one after another."""
    answers, base = [], study.profile.evaluate.recipe
    for one in sets:
        recipe = base.model_copy(update={"learning_rate": one.learning_rate})
        given = study.network(), one.images, one.labels, recipe, networks
        try:
            trained = trained_networks(*given, (study.profile.evaluate.seed, *one.seed))
            answers.append(_answers(study, trained))
        except Diverged:
            rate = f"the rate {one.learning_rate:.3g} that was chosen on validation"
            raise InputError(what, f"a network diverged at {rate}", IF_DIVERGED) from None
        study.progress(f"evaluating {what}", networks * len(answers), networks * len(sets))
    return np.concatenate(answers)


def _answers(study: Study, trained: list[Tensor]) -> np.ndarray:
    return probabilities(study.network(), trained, study.tensors("test")[0])


def difference(study: Study, a: Scored, b: Scored, metric: str) -> dict:
    """Return the paired difference of a metric on the test part, with its 95 % interval.

    Args:
        study: with the test part.
        a: the networks of a method.
        b: the networks that are subtracted.
        metric: `accuracy` or `balanced_accuracy`.
    """
    test, resamples = study.data.test, max(2000, study.profile.resamples)
    given = a.probabilities, b.probabilities, test.labels, test.groups, metric
    return metrics.paired_difference(*given, resamples=resamples, sets=(a.sets, b.sets))


def table(study: Study, methods: Sequence[str] = tuple(METHODS)) -> list[dict]:
    """Return a row per method: its scores, its learning rate, and the paired difference to it."""
    results, rows = {method: scored(study, method) for method in methods}, []
    for method, result in results.items():
        row = {"method": method, "label": METHODS[method], **result.about, **result.scores}
        if method != "distilled" and "distilled" in results:
            lead = lambda metric, to=result: difference(study, results["distilled"], to, metric)
            row["distilled_lead"] = {metric: lead(metric) for metric in LEAD_METRICS}
        rows.append(row)
    return rows
