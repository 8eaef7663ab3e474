"""Well-trained networks on all images: what they answer serves as soft labels.

    labels of image x = softmax(a(x) / temperature),    a = mean over networks of log p(k | x)

They are the networks of `references.good_recipe`, which are scored as "all training images" anyway.
The same labels go to distilled, random and chosen images, so that a table shows what labels and
what images bring. Validation chooses the temperature, by random real images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medddist.base.seeds import generator
from medddist.baselines.distribution_matching import all_features
from medddist.method.evaluate import random_real, trained_networks, tuned_learning_rate
from medddist.method.training import predict
from medddist.study.store import VERSIONS

if TYPE_CHECKING:
    from pathlib import Path

    from medddist.study.study import Study

LEAST = 1e-6  # probability; its logarithm is averaged


def well_trained(study: Study) -> list[Tensor]:
    """Return the parameters (P,) of the networks trained on all images by the tuned recipe."""
    return list(_trained(study)["thetas"])


def teachers_probabilities(study: Study) -> Tensor:
    """Return what the networks together answer for the training images (N, K), as real targets."""
    return _trained(study)["answers"].softmax(1)


def soft_labels(study: Study) -> Callable[[Tensor], Tensor]:
    """Return the function that labels images (N, C, H, W) with logits (N, K)."""
    temperature, trained = label_temperature(study), well_trained(study)
    return lambda images: (_log_answers(study, trained, images) / temperature).log_softmax(1)


def features(study: Study) -> np.ndarray:
    """Compute the first such network's features (N, D) of the training images, for coresets."""
    given = study.network(), well_trained(study)[0], study.tensors("train")[0]
    return all_features(*given).astype(np.float64)


def label_temperature(study: Study) -> float:
    """Return the temperature whose labels make random real images worth most on validation.

    Each of `references.label_temperatures` is tried with each learning rate, in a run that the
    labels of all sets share.
    """
    answers, temperatures = _trained(study)["answers"], study.profile.references.label_temperatures
    if len(temperatures) == 1:
        return temperatures[0]
    tried = functools.partial(_temperatures_tried, study, answers)
    return study.store.values("labels", tried, **_temperature_depends_on(study))["chosen"]


def depends_on(study: Study) -> dict[str, Any]:
    """Return what these labels depend on, beside the data and the network."""
    values = _networks_depend_on(study)
    if len(study.profile.references.label_temperatures) > 1:
        values |= _temperature_depends_on(study)
    temperatures = list(study.profile.references.label_temperatures)
    return values | {"temperatures": temperatures, "version": VERSIONS["labels"]}


def paths(study: Study) -> list[Path]:
    """Return the files of the networks and of the temperature, whether or not they exist."""
    networks = study.store.path("labels", **_networks_depend_on(study))
    chosen = study.store.path("labels", "result.json", **_temperature_depends_on(study))
    return [networks, chosen]


def _networks_depend_on(study: Study) -> dict[str, Any]:
    references, seed = study.profile.references, study.profile.evaluate.seed
    recipe = references.good_recipe.as_json()
    return {"recipe": recipe, "networks": references.full_networks, "seed": seed}


def _trained(study: Study) -> dict[str, Tensor]:
    """The networks' `thetas` (R, P) and `answers` (N, K) for the training images."""
    references, seed = study.profile.references, (study.profile.evaluate.seed, "full_good")
    recipe, count = references.good_recipe, references.full_networks

    def compute() -> tuple[dict[str, Tensor], dict]:
        images, what = study.tensors("train")[0], "training on all training images"
        given = study.network(), *study.tensors("train"), recipe, count, seed
        trained = trained_networks(*given, study.progress, what)
        return {"thetas": torch.stack(trained), "answers": _log_answers(study, trained, images)}, {}

    tensors, _ = study.store.tensors("labels", compute, **_networks_depend_on(study))
    return {name: value.to(study.device) for name, value in tensors.items()}


def _log_answers(study: Study, trained: list[Tensor], images: Tensor) -> Tensor:
    """a, (N, K)."""
    network = study.network()
    logs = [predict(network, theta, images).clamp_min(LEAST).log() for theta in trained]
    return torch.stack(logs).mean(0)


def _temperature_depends_on(study: Study) -> dict[str, Any]:
    profile, references = study.profile, study.profile.references
    names = {"label_temperatures", "learning_rates", "tuning_networks"}
    distill = profile.distill.model_dump(include={"images_per_class", "selection_metric"})
    tried = {"tried": references.model_dump(mode="json", include=names), **distill}
    return _networks_depend_on(study) | tried | {"evaluate": profile.evaluate.as_json()}


def _temperatures_tried(study: Study, answers: Tensor) -> dict:
    profile, references = study.profile, study.profile.references
    evaluate, metric = profile.evaluate, profile.distill.selection_metric
    (images, labels), size = study.tensors("train"), profile.distill.images_per_class
    random = generator(evaluate.seed, "random real", "balanced", 0)
    chosen = random_real(labels, size, study.data.classes, "balanced", random).to(study.device)
    tried = {}
    for temperature in references.label_temperatures:
        targets = (answers[chosen] / temperature).softmax(1)
        given = study.network(), images[chosen], targets, evaluate.recipe, references.learning_rates
        judged = study.tensors("validation"), metric, references.tuning_networks
        _, scores = tuned_learning_rate(*given, *judged, (evaluate.seed, "temperature"))
        tried[f"{temperature:g}"] = max(scores.values())
        study.progress("choosing the labels' temperature", len(tried), len(tried))
    return {"chosen": float(max(tried, key=tried.get)), "tried_on_validation": tried}
