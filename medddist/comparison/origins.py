"""Measure how far recognising a class is recognising where an image comes from.

In the radiographs the class is confounded with the source. Three things can be measured. First, the
sensitivity to one class by origin. Second, how well origins are recognised within a class, where no
disease can help. Third, on the phantom, the scores of networks that were trained where the class is
confounded with the site, and tested where it is not.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from medddist.comparison.shared import LABELS, Entry, labelled
from medddist.comparison.tables import measured
from medddist.data import Data, Part, load_data
from medddist.measure import metrics
from medddist.measure.probes import linear_probe, probe_probabilities
from medddist.method.evaluate import probabilities, trained_networks
from medddist.study.study import Study
from medddist.study.workers import ahead

FEWEST = 10  # test images of an origin in a class, for a figure of its own
THUMBNAIL_PX = 16
METHODS = ("distilled", "random_real", "full_good")
SITES = ("balanced", "confounded")  # versions of the phantom


def of_origins(study: Study, workers: int = 1) -> dict:
    """Measure it all: {by_origin: {label: rows}, probes, class_from_origin, confounding}.

    Args:
        study: whose images and results are used.
        workers: see `confounding`.
    """
    data, resamples, by_origin = study.data, study.profile.resamples, {}
    with_versions = data.is_phantom and "confounded_phantom" not in study.profile.left_out
    for method in METHODS:
        result = measured(study, Entry("inside", method))
        given = data, result.probabilities, resamples, result.sets
        by_origin[LABELS[method]] = sensitivity_by_origin(*given)
    probes = [origin_probe(data, label, resamples) for label in (None, *range(data.classes))]
    return {
        "by_origin": by_origin,
        "probes": [probe for probe in probes if probe],
        "class_from_origin": class_from_origin(data),
        "confounding": confounding(study, workers) if with_versions else [],
    }


def sensitivity_by_origin(
    data: Data, answers: np.ndarray, resamples: int, sets: np.ndarray | None = None
) -> list[dict]:
    """Score the sensitivity to each class that has several origins in the test part, by origin.

    Args:
        data: the test part and the names.
        answers: (R, N, K) class probabilities of R networks on the test part.
        resamples: of the bootstrap.
        sets: (R,) the training set of each network, as `metrics.score` takes it.

    Returns:
        Rows {class, origin, images, sensitivity}. Origins with fewer than ten images of a class are
        left out; none are left where origins are unknown.
    """
    test, rows = data.test, []
    if test.origins is None:
        return rows
    for k, name in enumerate(data.class_names):
        own = (test.labels == k) & (test.origins >= 0)
        several = np.flatnonzero(np.bincount(test.origins[own]) >= FEWEST)
        for origin in several if len(several) > 1 else ():
            at = np.flatnonzero(own & (test.origins == origin))
            if len(np.unique(test.groups[at])) > 1:
                given = answers[:, at], test.labels[at], test.groups[at], data.class_names
                share = metrics.score(*given, resamples=resamples, sets=sets)["accuracy"]
                row = {"class": name, "origin": data.origin_names[origin]}
                rows.append(row | {"images": len(at), "sensitivity": share})
    return rows


def origin_probe(data: Data, label: int | None, resamples: int) -> dict | None:
    """Score a linear probe on 16 px thumbnails that tells origins apart.

    Args:
        data: the probe is trained, tuned and tested on its three parts.
        label: the class within which origins are told apart; None for all images.
        resamples: of the bootstrap.

    Returns:
        {class, origins, balanced_accuracy, chance}; None where there are not two origins with two
        images or more in every part.
    """
    parts = list(data.parts().values())
    if any(part.origins is None for part in parts):
        return None
    wanted = [(p.origins >= 0) & ((p.labels == label) | (label is None)) for p in parts]
    shape = {"minlength": len(data.origin_names)}
    counts = [np.bincount(p.origins[chosen], **shape) for p, chosen in zip(parts, wanted)]
    origins = np.flatnonzero(np.min(counts, axis=0) >= 2)
    if len(origins) < 2:
        return None
    at = [np.flatnonzero(w & np.isin(p.origins, origins)) for p, w in zip(parts, wanted)]
    train, validation, test = (_thumbnails(p, i, origins) for p, i in zip(parts, at))
    probe, *_ = linear_probe(train, validation)
    answers, groups = (
        probe_probabilities(probe, test[0], len(origins))[None],
        parts[2].groups[at[2]],
    )
    names = [data.origin_names[origin] for origin in origins]
    scores = metrics.score(answers, test[1], groups, names, resamples=resamples)
    return {
        "class": "all classes" if label is None else data.class_names[label],
        "origins": names,
        "balanced_accuracy": scores["balanced_accuracy"],
        "chance": 1 / len(origins),
    }


def _thumbnails(part: Part, at: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images at these places, averaged to 16 px, and their origins numbered from 0."""
    images = torch.from_numpy(np.asarray(part.images[at], np.float32))
    small = torch.nn.functional.adaptive_avg_pool2d(images, THUMBNAIL_PX)
    return small.flatten(1).numpy(), np.searchsorted(origins, part.origins[at])


def class_from_origin(data: Data) -> float | None:
    """Score knowing an image's origin alone: balanced accuracy on test; None where it is unknown.

    The answer is the class that is most frequent there, classes weighted equally.
    """
    train, test = data.train, data.test
    if train.origins is None or test.origins is None:
        return None
    counts = np.zeros((len(data.origin_names), data.classes))
    known = train.origins >= 0
    np.add.at(counts, (train.origins[known], train.labels[known]), 1)
    shares = counts / np.maximum(train.class_counts(data.classes), 1)  # of a class by origin
    return float(balanced_accuracy_score(test.labels, shares.argmax(1)[test.origins]))


def confounding(study: Study, workers: int = 1) -> list[dict]:
    """Train on the phantom with sites balanced over classes or confounded with them; test on both.

    Patients, anatomy and lesions of the two versions are the same. So `lost`, the score on the
    networks' own version minus that on the other, is the effect of the sites alone.

    Args:
        study: on the phantom.
        workers: versions that are trained on at once; see `workers.ahead`.

    Returns:
        Rows {trained_on, tested_on, balanced_accuracy, accuracy, class_from_site_alone, lost}.
    """
    ahead(study, trained_where, SITES, workers, "training where sites are balanced, or confounded")
    answers, versions = {}, _versions(study)
    for sites in SITES:
        answers |= trained_where(study, sites)
    return [_version_row(study, versions, answers, pair) for pair in product(versions, versions)]


def _versions(study: Study) -> dict[str, Data]:
    """The phantom with sites balanced over the classes, and confounded with them."""
    given = "phantom", study.profile.data, study.out / "cache"
    return {sites: load_data(*given, sites=sites) for sites in SITES}


def trained_where(study: Study, sites: str) -> dict[str, np.ndarray]:
    """Train on one version of the phantom: {"trained on/tested on": answers (R, N, K)}."""
    versions, references = _versions(study), study.profile.references
    depends_on = {
        "confounding": [data.fingerprint for data in versions.values()],
        "trained_on": sites,
        "seed": study.profile.evaluate.seed,
        "recipe": references.good_recipe.as_json(),
        "networks": references.full_networks,
    }
    compute = lambda: (_trained_where(study, sites, versions), {})
    tensors, _ = study.store.tensors("compare", compute, **depends_on)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _trained_where(study: Study, sites: str, versions: dict[str, Data]) -> dict[str, Tensor]:
    references, seed = study.profile.references, (study.profile.evaluate.seed, "confounding")
    answers, network, data = {}, study.network(), versions[sites]
    given = network, *labelled(data, data.train, study.device), references.good_recipe
    what = f"training where sites are {sites}"
    trained = trained_networks(*given, references.full_networks, seed, study.progress, what)
    for tested_on, other in versions.items():
        images, _ = labelled(data, other.test, study.device)  # as its training images are
        predicted = probabilities(network, trained, images)
        answers[f"{sites}/{tested_on}"] = torch.from_numpy(predicted)
    return answers


def _version_row(
    study: Study, versions: dict[str, Data], answers: dict[str, np.ndarray], pair: tuple[str, str]
) -> dict:
    trained_on, tested_on = pair
    data, own = versions[tested_on], versions[trained_on].test
    ours, truth = answers[f"{trained_on}/{tested_on}"], (data.test.labels, data.test.groups)
    scores = metrics.score(ours, *truth, data.class_names, resamples=study.profile.resamples)
    row = {"trained_on": trained_on, "tested_on": tested_on}
    row |= {"class_from_site_alone": class_from_origin(data)}
    row |= {metric: scores[metric] for metric in ("accuracy", "balanced_accuracy")}
    same = all(map(np.array_equal, truth, (own.labels, own.groups)))
    if tested_on != trained_on and same:
        given = answers[f"{trained_on}/{trained_on}"], ours, *truth
        lost = metrics.paired_difference(*given, resamples=study.profile.compare.resamples)
        row["lost"] = {"balanced_accuracy": lost}
    return row
