"""What the distilled images and their references are worth on the test part.

All small sets train networks by the evaluation's recipe. The distilled set brings its learned step
size; random real images have theirs tuned on validation. The test part is scored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.baselines.initial import chosen_by
from medddist.measure import metrics
from medddist.method.evaluate import (
    probabilities,
    random_real,
    trained_networks,
    tuned_learning_rate,
)
from medddist.method.training import Diverged
from medddist.study import labels
from medddist.study.store import seconds_of

if TYPE_CHECKING:
    from pathlib import Path

    from medddist.study.profile import Profile
    from medddist.study.study import Study

METHODS = {
    "distilled": "distilled images",
    "initial": "initial images",
    "random_balanced": "random real images, balanced",
    "random_natural": "random real images, natural proportions",
    "herding": "real images by herding",
    "random_teachers": "random real images, soft labels",
    "herding_teachers": "real images by herding, soft labels",
    "full_teacher": "all training images, teacher training",
    "full_good": "all training images, tuned training",
    "majority": "majority class",
}
FURTHER = {  # which images with which labels, for those who ask what each brings
    "kmeans": "real images by k-means",
    "kmeans_teachers": "real images by k-means, soft labels",
    "distilled_hard": "distilled images, their classes as labels",
    "distilled_teachers": "distilled images, soft labels of networks",
    "distilled_float32": "distilled images, not rounded to 8 bit",
    "distilled_float32_teachers": "distilled images, not rounded to 8 bit, soft labels of networks",
}
OF_ALL_IMAGES = ("full_teacher", "full_good")
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
class SmallSet:
    """A small training set: the name of its seed, its images, their labels, its learning rate."""

    seed: tuple[int | str, ...]
    images: Tensor
    targets: Tensor
    learning_rate: float


def scored(study: Study, method: str, images_per_class: int | None = None) -> Scored:
    """Score one of METHODS or FURTHER on the test part.

    Args:
        study: whose data, profile and cached results are used.
        method: a key of METHODS or FURTHER.
        images_per_class: of small sets; None takes the profile's.

    Raises:
        InputError: for an unknown method, and where a network diverges.
    """
    if method not in METHODS | FURTHER:
        known = ", ".join(METHODS | FURTHER)
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
    if method in OF_ALL_IMAGES:
        depends_on["recipe"] = _full_recipe(study, method).as_json()
        depends_on |= {"networks": profile.references.full_networks, "seed": profile.evaluate.seed}
    elif _is_distilled(method):
        names = [study.distillation_name(seed, images_per_class) for seed in profile.seeds]
        depends_on |= {"evaluate": evaluate, "distillations": names}
    elif method != "majority":
        depends_on |= {"evaluate": evaluate, "references": profile.references.as_json()}
        depends_on |= {"images_per_class": images_per_class}
        depends_on |= {"metric": profile.distill.selection_metric}
    if method.endswith("_teachers"):
        depends_on |= {"networks": labels.depends_on(study)}
    return depends_on


def _is_distilled(method: str) -> bool:
    return method == "initial" or method.startswith("distilled")


def _full_recipe(study: Study, method: str):
    profile = study.profile
    return profile.teachers.recipe if method == "full_teacher" else profile.references.good_recipe


def _sets(study: Study, method: str) -> np.ndarray | None:
    """(R,) the seed or draw of each network: networks of one share its images."""
    references, evaluate = study.profile.references, study.profile.evaluate
    if _is_distilled(method):
        return np.repeat(study.profile.seeds, evaluate.networks)
    if method.startswith("random"):
        return np.repeat(range(references.draws), references.networks_per_draw)
    return None


def _computed(study: Study, method: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    """Class probabilities (R, N, K) on the test part, and how the networks were trained."""
    if method == "majority":
        train, test = study.data.train.labels, study.data.test.labels
        return metrics.majority_class(train, test, study.data.classes), {}
    if method in OF_ALL_IMAGES:
        return _of_all_images(study, method)
    if _is_distilled(method):
        return _of_distillations(study, method, images_per_class)
    return _of_real_images(study, method, images_per_class)


def _of_all_images(study: Study, method: str) -> tuple[np.ndarray, dict]:
    recipe, networks = _full_recipe(study, method), study.profile.references.full_networks
    about = {"learning_rates": [recipe.learning_rate]}
    if method == "full_good":
        return _answers(study, labels.well_trained(study)), about
    seed, what = (study.profile.evaluate.seed, method), f"training on {METHODS[method]}"
    given = study.network(), *study.tensors("train"), recipe, networks, seed
    return _answers(study, trained_networks(*given, study.progress, what)), about


def _of_real_images(study: Study, method: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    """Real images, drawn several times or chosen once; validation tunes the learning rate."""
    references, evaluate = study.profile.references, study.profile.evaluate
    sets, metric = (
        _real_sets(study, method, images_per_class),
        study.profile.distill.selection_metric,
    )
    training = sets[0].images, sets[0].targets, evaluate.recipe, references.learning_rates
    seed = evaluate.seed, sets[0].seed[0]
    judged = study.tensors("validation"), metric, references.tuning_networks, seed
    rate, tried = tuned_learning_rate(study.network(), *training, *judged)
    tuned = [replace(one, learning_rate=rate) for one in sets]
    networks = references.networks_per_draw if method.startswith("random") else evaluate.networks
    answers = _of_sets(study, tuned, networks, (METHODS | FURTHER)[method])
    about = {"learning_rates": [rate], "tried_on_validation": tried, "draws": len(sets)}
    return answers, about


def _of_distillations(study: Study, method: str, images_per_class: int) -> tuple[np.ndarray, dict]:
    sets = _distilled_sets(study, method, images_per_class)
    seeds = study.profile.seeds
    results = [study.distillation(seed, images_per_class) for seed in seeds]
    about = {
        "learning_rates": [one.learning_rate for one in sets],
        "seeds": list(seeds),
        "selected_iterations": [result.selected_iteration for result in results],
    }
    networks, what = study.profile.evaluate.networks, (METHODS | FURTHER)[method]
    return _of_sets(study, sets, networks, what), about


def sets_of(study: Study, method: str, images_per_class: int | None = None) -> list[SmallSet]:
    """Return the small sets of a method, one for each seed or draw, with their labels.

    The learning rate of real images is not tuned yet: 0.
    """
    size = images_per_class or study.profile.distill.images_per_class
    return (_distilled_sets if _is_distilled(method) else _real_sets)(study, method, size)


def _real_sets(study: Study, method: str, images_per_class: int) -> list[SmallSet]:
    evaluate, (images, classes) = study.profile.evaluate, study.tensors("train")
    asked, how = (images_per_class, study.data.classes), method.removesuffix("_teachers")
    if how in ("herding", "kmeans"):
        choose, plain = chosen_by(how, evaluate.seed), classes.cpu().numpy()
        indices = [torch.from_numpy(choose(labels.features(study), plain, *asked))]
    else:
        how = "natural" if method == "random_natural" else "balanced"
        draws = range(study.profile.references.draws)
        randoms = [generator(evaluate.seed, "random real", how, k) for k in draws]
        indices = [random_real(classes, *asked, how, random) for random in randoms]
    label = lambda at: classes[at]
    if method.endswith("_teachers"):
        soft = labels.soft_labels(study)
        label = lambda at: soft(images[at]).softmax(1)
    return [SmallSet((how, k), images[at], label(at), 0.0) for k, at in enumerate(indices)]


def _distilled_sets(study: Study, method: str, images_per_class: int) -> list[SmallSet]:
    sets = []
    for seed in study.profile.seeds:
        result = study.distillation(seed, images_per_class)
        chosen = result.initial if method == "initial" else result.distilled
        images, targets = chosen.images, chosen.targets
        if "float32" in method:
            images = result.pictures[result.selected_iteration].to(images)
        if method == "distilled_hard":
            targets = chosen.classes
        elif method.endswith("_teachers"):
            targets = labels.soft_labels(study)(images).softmax(1)
        name = ("initial" if method == "initial" else "distilled", seed)
        sets.append(SmallSet(name, images, targets, chosen.step_size.item()))
    return sets


def _of_sets(study: Study, sets: Sequence[SmallSet], networks: int, what: str) -> np.ndarray:
    """(R, N, K) of networks trained by the evaluation's recipe on each set, one after another."""
    answers, base = [], study.profile.evaluate.recipe
    for one in sets:
        recipe = base.model_copy(update={"learning_rate": one.learning_rate})
        given = study.network(), one.images, one.targets, recipe, networks
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


def methods_of(profile: Profile) -> tuple[str, ...]:
    """List the METHODS of a profile's table: where distilled images have hard labels, so do others.

    Random real images with hard labels are always there: they are what a receiver would have. What
    the profile leaves out is not there.
    """
    hard = profile.distill.labels == "hard"
    others = ("random_teachers", "herding_teachers") if hard else ("herding",)
    return tuple(method for method in METHODS if method not in (*others, *profile.left_out))


def table(study: Study, methods: Sequence[str] | None = None) -> list[dict]:
    """Return a row per method: its scores, its learning rate, and the paired difference to it."""
    methods = methods or methods_of(study.profile)
    results, rows = {method: scored(study, method) for method in methods}, []
    for method, result in results.items():
        row = {"method": method, "label": METHODS[method], **result.about, **result.scores}
        if method != "distilled" and "distilled" in results:
            lead = lambda metric, to=result: difference(study, results["distilled"], to, metric)
            row["distilled_lead"] = {metric: lead(metric) for metric in LEAD_METRICS}
        rows.append(row)
    return rows
