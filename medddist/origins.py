"""How far recognising a class is recognising where an image comes from.

In the radiographs class follows source. What a network learned cannot be told from what it was given, but three things
can be measured: how one class fares by origin; how well origins are told apart within a class, where no disease can help;
and, on the phantom, what becomes of networks trained where class follows site and tested where it does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score

from medddist import metrics
from medddist.compare import Comparison
from medddist.contenders import LABELS, Entry
from medddist.data import load_data
from medddist.data.parts import Data, Part
from medddist.evaluate import probabilities, trained_networks
from medddist.probes import LabelledRows, linear_probe, said_by
from medddist.trajectories import load_tensors, save_tensors

FEWEST = 10  # test images of an origin in a class, for a figure of its own
THUMBNAIL_PX = 16
METHODS = ("distilled", "random_real", "full_good")


def sensitivity_by_origin(
    study_data: Data, probabilities: np.ndarray, resamples: int, sets: np.ndarray | None = None
) -> list[dict]:
    """Of each class with several origins in the test part, the share recognised by origin: {class, origin, images, sensitivity}.

    probabilities: (R, N, K); sets: as `metrics.score` takes them. Origins with fewer than ten images of
    a class are left out; [] where origins are unknown.
    """
    test, found = study_data.test, []
    for k, name in enumerate(study_data.class_names):
        for origin in _origins_of(test, k):
            at = np.flatnonzero((test.labels == k) & (test.origins == origin))
            if len(np.unique(test.groups[at])) > 1:
                given = probabilities[:, at], test.labels[at], test.groups[at], study_data.class_names
                scores = metrics.score(*given, resamples=resamples, sets=sets)
                found.append({"class": name, "origin": study_data.origin_names[origin], "images": len(at), "sensitivity": scores["accuracy"]})
    return found


def _origins_of(part: Part, label: int) -> list[int]:
    """The origins that have enough images of a class, where there are several."""
    if part.origins is None:
        return []
    counts = np.bincount(part.origins[(part.labels == label) & (part.origins >= 0)])
    several = np.flatnonzero(counts >= FEWEST).tolist()
    return several if len(several) > 1 else []


def origin_probe(data: Data, label: int | None, resamples: int) -> dict | None:
    """How well a linear probe on 16 px thumbnails tells origins apart within class `label`, or over all images (None).

    {class, origins, balanced_accuracy, chance}; None where there are not two origins with enough images in every part.
    """
    chosen = {name: _of_class(part, label) for name, part in data.parts().items()}
    known = [{int(o) for o in np.unique(part.origins[at]) if np.sum(part.origins[at] == o) >= 2} for part, at in chosen.values() if len(at)]
    origins = sorted(set.intersection(*known)) if len(known) == 3 else []
    if len(origins) < 2:
        return None
    train, validation, test = (_thumbnails(part, at[np.isin(part.origins[at], origins)], origins) for part, at in chosen.values())
    probe, *_ = linear_probe(train, validation)
    part, at = chosen["test"]
    groups = part.groups[at[np.isin(part.origins[at], origins)]]
    names = [data.origin_names[origin] for origin in origins]
    scores = metrics.score(said_by(probe, test[0], len(origins))[None], test[1], groups, names, resamples=resamples)
    what = "all classes" if label is None else data.class_names[label]
    return {"class": what, "origins": names, "balanced_accuracy": scores["balanced_accuracy"], "chance": 1 / len(origins)}


def _of_class(part: Part, label: int | None) -> tuple[Part, np.ndarray]:
    if part.origins is None:
        return part, np.array([], int)
    wanted = part.origins >= 0
    return part, np.flatnonzero(wanted if label is None else wanted & (part.labels == label))


def _thumbnails(part: Part, at: np.ndarray, origins: list[int]) -> LabelledRows:
    """Pixels of the images at these places, averaged to 16 px, and their origins numbered from 0."""
    images = torch.from_numpy(np.asarray(part.images[at], np.float32))
    small = torch.nn.functional.adaptive_avg_pool2d(images, THUMBNAIL_PX)
    return small.flatten(1).numpy(), np.searchsorted(origins, part.origins[at])


def class_from_origin(data: Data) -> float | None:
    """Balanced accuracy on test of knowing an image's origin alone: the class that is commonest there, classes weighted equally."""
    train, test = data.train, data.test
    if train.origins is None or test.origins is None:
        return None
    counts = np.zeros((len(data.origin_names), data.classes))
    known = train.origins >= 0
    np.add.at(counts, (train.origins[known], train.labels[known]), 1)
    shares = counts / np.maximum(train.class_counts(data.classes), 1)  # of a class by origin
    return float(balanced_accuracy_score(test.labels, shares.argmax(1)[test.origins]))


def confounding(comparison: Comparison) -> list[dict]:
    """On the phantom: networks trained on all images where sites are balanced over classes or confounded with them, tested on both.

    {trained_on, tested_on, balanced_accuracy, accuracy, class_from_site_alone, lost}; patients, anatomy and lesions of the two versions
    are the same, so that `lost`, their own version's score minus the other's, is what the sites alone do to the same networks.
    """
    study, settings = comparison.study, comparison.profile.data
    versions = {sites: load_data("phantom", settings, study.out / "cache", sites=sites) for sites in ("balanced", "confounded")}
    path = study.folder(
        "compare", confounding=[data.fingerprint for data in versions.values()], seed=comparison.seed,
        recipe=comparison.profile.references.good_recipe.what(), networks=comparison.profile.references.full_networks,
    ) / "result.safetensors"  # fmt: skip
    if not path.exists():
        save_tensors(path, _trained_where_confounded(comparison, versions), {})
    said = {name: found.numpy() for name, found in load_tensors(path)[0].items()}
    return [_of_version(comparison, versions, said, a, b) for a in versions for b in versions]


def _trained_where_confounded(comparison: Comparison, versions: dict[str, Data]) -> dict[str, torch.Tensor]:
    """{"trained on/tested on": (R, N, K)}."""
    study, references, said = comparison.study, comparison.profile.references, {}
    tensor: Callable = lambda data, part: torch.from_numpy(data.standardised(part.images)).to(study.device)
    for trained_on, data in versions.items():
        labels = torch.from_numpy(np.asarray(data.train.labels, np.int64)).to(study.device)
        given = study.network(), tensor(data, data.train), labels, references.good_recipe, references.full_networks
        report = lambda done, total: study.progress(f"training where sites are {trained_on}", done, total)  # noqa: B023
        trained = trained_networks(*given, (comparison.seed, "confounding"), report)
        for tested_on, other in versions.items():
            found = probabilities(study.network(), trained, tensor(data, other.test))
            said[f"{trained_on}/{tested_on}"] = torch.from_numpy(found)
    return said


def _of_version(comparison: Comparison, versions: dict[str, Data], said: dict[str, np.ndarray], trained_on: str, tested_on: str) -> dict:
    data, resamples = versions[tested_on], comparison.profile.resamples
    test, ours = data.test, said[f"{trained_on}/{tested_on}"]
    scores = metrics.score(ours, test.labels, test.groups, data.class_names, resamples=resamples)
    row = {"trained_on": trained_on, "tested_on": tested_on, "class_from_site_alone": class_from_origin(data)}
    row |= {metric: scores[metric] for metric in ("accuracy", "balanced_accuracy")}
    own = versions[trained_on].test
    if tested_on != trained_on and np.array_equal(own.labels, test.labels) and np.array_equal(own.groups, test.groups):
        lost = metrics.paired_difference(said[f"{trained_on}/{trained_on}"], ours, test.labels, test.groups, resamples=comparison.settings.resamples)
        row["lost"] = {"balanced_accuracy": lost}
    return row


def of_origins(comparison: Comparison) -> dict:
    """All of the above: {by_origin: {method: rows}, probes, class_from_origin, confounding}."""
    study, resamples = comparison.study, comparison.profile.resamples
    measured = {method: comparison.measured(Entry("inside", method)) for method in METHODS}
    probes = [origin_probe(study.data, label, resamples) for label in (None, *range(study.data.classes))]
    return {
        "by_origin": {
            LABELS[method]: sensitivity_by_origin(study.data, one.probabilities, resamples, one.sets)
            for method, one in measured.items()
        },
        "probes": [probe for probe in probes if probe],
        "class_from_origin": class_from_origin(study.data),
        "confounding": confounding(comparison) if study.data.is_phantom else [],
    }
