"""Measure whether distillation makes a shortcut stronger: classes told apart by their origin.

    python -m workflow.confounding --data FOLDER --out FOLDER --save results --part origins

Each part adds its rows to `results/confounding-NAME.json`, where rows of the same setting are
replaced. Everything is cached in `--out`, so that a run that was stopped goes on.

    origins   the test part within each origin, and with origins mixed equally over the classes
    phantom   the phantom with sites confounded with classes, tested with sites balanced over them
    control   the same for training on balanced sites, where there is no shortcut to learn

    independent = sum over cells (k, o) of v_ko s_ko,    v_ko = 1 / (O K_o)
    usual       = sum over classes k of v_k s_k,         v_k = sum over o of v_ko
    lost        = usual - independent

Notation: s_ko the sensitivity to class k among images of origin o, s_k that among all images of the
class in any cell, O the number of origins that have at least two classes, K_o that of classes of
origin o. Both scores weight the classes alike, so `lost` is the effect of the mix of origins alone.
Where every class has every origin, origin and class are independent in the first score. Otherwise
they are so within each origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from medddist.base.errors import require
from medddist.base.progress import Bar
from medddist.comparison.shared import labelled
from medddist.data import Data
from medddist.measure import metrics
from medddist.measure.intervals import Estimate, combined_error, interval_around
from medddist.measure.resampling import Answers, checked_answers, group_counts, replicates
from medddist.measure.resampling import wanted_points as points_of
from medddist.method.evaluate import probabilities, trained_networks
from medddist.study import labels
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.scores import scores_path, sets_of
from medddist.study.study import Study
from workflow.records import options, write_rows

METHODS = ("full_good", "random_balanced", "random_teachers", "distilled")
ORIGIN_ALONE = "origin_alone"
FEWEST = 10  # test images of a class in an origin, for a cell of its own
METRIC, SEED, ROWS = "balanced_accuracy", 0, 200
OTHER = {"confounded": "balanced", "balanced": "confounded"}


@dataclass(frozen=True)
class Lost:
    """A method's scores on the usual and on the independent test, paired by network and resample.

    Estimates are of `usual`, `independent` and `lost`; `groups` is how many are resampled.
    """

    estimates: dict[str, Estimate]
    groups: int

    @staticmethod
    def of(answers: Answers, points: np.ndarray, draws: np.ndarray) -> Lost:
        """Pair points (2, R) and draws (B, 2, R) of the usual and the independent test."""
        pair = lambda values: (values[..., 0, :], values[..., 1, :])
        ours, drawn = pair(points), pair(draws)
        given = {
            "usual": (ours[0], drawn[0]),
            "independent": (ours[1], drawn[1]),
            "lost": (ours[0] - ours[1], drawn[0] - drawn[1]),
        }
        estimates = {name: Estimate.of(*each, answers.shares) for name, each in given.items()}
        return Lost(estimates, answers.group_count)

    def summary(self) -> dict[str, dict]:
        """Return {usual, independent, lost}, each {mean, low, high}."""
        rows = {}
        for name, estimate in self.estimates.items():
            bounds = (-1, 1) if name == "lost" else (0, 1)
            error = combined_error([estimate], self.groups)
            low, high = interval_around(estimate.mean, error, bounds)
            rows[name] = {"mean": estimate.mean, "low": low, "high": high}
        return rows

    def minus(self, other: Lost) -> dict[str, float | None]:
        """Return how much more is lost than by other networks: {difference, low, high}."""
        pair = self.estimates["lost"], other.estimates["lost"]
        value = pair[0].mean - pair[1].mean
        low, high = interval_around(value, combined_error(pair, self.groups), (-2, 2))
        return {"difference": value, "low": low, "high": high}


# ---- a test part with its origins mixed equally ------------------------------------------------


def cells_of(data: Data) -> list[tuple[int, int]]:
    """List (class, origin) of the test part's cells: of origins that have at least two classes.

    A cell has FEWEST images or more, from at least two groups.
    """
    test = data.test
    if test.origins is None:
        return []
    cells = []
    for origin in range(len(data.origin_names)):
        at = [(test.origins == origin) & (test.labels == k) for k in range(data.classes)]
        enough = [
            (k, origin)
            for k, own in enumerate(at)
            if own.sum() >= FEWEST and len(np.unique(test.groups[own])) > 1
        ]
        cells += enough if len(enough) > 1 else []
    return cells


def weights_of(cells: list[tuple[int, int]]) -> np.ndarray:
    """Return v (cells,): origins count alike, and so do the classes of an origin."""
    origins = [origin for _, origin in cells]
    return np.array([1 / (len(set(origins)) * origins.count(origin)) for origin in origins])


def mixed_equally(data: Data, answers: np.ndarray, sets, resamples: int) -> Lost:
    """Score the usual and the equal mix of origins; see the formulas above.

    Args:
        data: whose test part has two cells or more.
        answers: (R, N, K).
        sets: (R,) the training set of each network, or None.
        resamples: of the test groups.
    """
    test, cells = data.test, cells_of(data)
    checked = checked_answers(answers, test.labels, test.groups, None, resamples, sets=sets)
    inside = np.array([(test.labels == k) & (test.origins == o) for k, o in cells])
    classes = sorted({k for k, _ in cells})
    of_class = np.array([[k == own for k, _ in cells] for own in classes])
    masks = np.concatenate([of_class @ inside, inside])  # (classes + cells, N)
    v = weights_of(cells)
    weights = np.zeros((2, len(masks)))
    weights[0, : len(classes)], weights[1, len(classes) :] = of_class @ v, v
    sensitivities = _sensitivities(checked, masks)
    points = sensitivities(np.ones((1, checked.group_count)))[0]
    chunks = group_counts(checked.group_count, resamples, SEED, ROWS)
    draws = np.concatenate([sensitivities(counts) for counts in chunks])
    return Lost.of(checked, weights @ points, weights @ draws)


def _sensitivities(answers: Answers, masks: np.ndarray):
    """A function from how often groups are drawn (B, G) to sensitivities (B, masks, R)."""
    right = answers.probabilities.argmax(2) == answers.labels  # (R, N)
    hits = masks[:, None] & right  # (masks, R, N)
    by_group = csr_array(np.eye(answers.group_count, dtype=np.float32)[answers.groups])
    of, found = masks @ by_group, hits.reshape(-1, hits.shape[2]) @ by_group

    def compute(counts: np.ndarray) -> np.ndarray:
        total, correct = counts @ of.T, counts @ found.T
        total = np.where(total > 0, total, np.nan)[..., None]
        return correct.reshape(len(counts), len(masks), -1) / total

    return compute


def by_origin_alone(data: Data) -> np.ndarray:
    """Answer with the class that is most frequent in an image's origin, classes weighted equally.

    Returns (1, N, K); the most a network could reach by recognising origins and nothing else.
    """
    train, counts = data.train, np.zeros((len(data.origin_names), data.classes))
    known = train.origins >= 0
    np.add.at(counts, (train.origins[known], train.labels[known]), 1)
    shares = counts / np.maximum(train.class_counts(data.classes), 1)
    return np.eye(data.classes)[shares.argmax(1)[data.test.origins]][None]


def within(data: Data, answers: np.ndarray, sets, resamples: int) -> Iterator[dict]:
    """Score networks within each origin of `cells_of`: by all their answers, and by its classes.

    `restricted` takes the most probable of the origin's own classes, so that its chance is one in
    so many, and recognising the origin does not help.
    """
    test, cells = data.test, cells_of(data)
    for origin in sorted({o for _, o in cells}):
        classes = [k for k, o in cells if o == origin]
        at = np.flatnonzero((test.origins == origin) & np.isin(test.labels, classes))
        names, groups = [data.class_names[k] for k in classes], test.groups[at]
        options = {"resamples": resamples, "sets": sets}
        given = answers[:, at], test.labels[at], groups, data.class_names
        every = metrics.score(*given, **options)
        own = answers[:, at][:, :, classes], np.searchsorted(classes, test.labels[at]), groups
        restricted = metrics.score(*own, names, **options)
        yield {
            "origin": data.origin_names[origin],
            "images": {data.class_names[k]: int((test.labels[at] == k).sum()) for k in classes},
            **{metric: every[metric] for metric in ("accuracy", METRIC)},
            "sensitivity": {name: every["per_class"][name]["sensitivity"] for name in names},
            "restricted": restricted[METRIC],
            "chance": 1 / len(classes),
        }


def of_origins(study: Study) -> Iterator[list[dict]]:
    """Measure the test part by origin; of the phantom, that of its confounded version."""
    study = of_version(study, "confounded") if study.data.is_phantom else study
    data, resamples, before = study.data, study.profile.resamples, {}
    remedy = "give the origin of each image, with at least two classes in one of them"
    require(cells_of(data), "data", f"no origin has two classes of {FEWEST} test images", remedy)
    for method in (ORIGIN_ALONE, *METHODS):
        answers, sets = by_origin_alone(data), None
        if method != ORIGIN_ALONE:
            scored = study.scored(method)
            answers, sets = scored.probabilities, scored.sets
        lost = mixed_equally(data, answers, sets, resamples)
        shared = {"method": method, "networks": len(answers)}
        rows = [{"part": "origins", **shared, **compared(lost, before)}]
        if method != ORIGIN_ALONE:
            own = within(data, answers, sets, resamples)
            rows += [{"part": "within", **shared, **row} for row in own]
            before[method] = lost
        yield rows


def compared(lost: Lost, before: dict[str, Lost]) -> dict:
    """Return a method's scores, and how much more it loses than the methods before it."""
    against = [{"against": name, **lost.minus(other)} for name, other in before.items()]
    return {**lost.summary(), "against": against}


def of_version(study: Study, sites: str) -> Study:
    """Derive the study of a version of the phantom."""
    return study.with_(study.profile.changed({"data.sites": sites}))


def of_phantom(study: Study, trained_on: str = "confounded") -> Iterator[list[dict]]:
    """Train on one version, and test on both: patients, anatomy and lesions are the same.

    The score on the confounded version is the usual one, that on the balanced one the independent.
    """
    require(study.data.is_phantom, "data", "this part is of the phantom", "give --data phantom")
    own, before = of_version(study, trained_on), {}
    other = of_version(study, OTHER[trained_on]).data
    test = own.data.test
    same = np.array_equal(test.labels, other.test.labels)
    same &= np.array_equal(test.groups, other.test.groups)
    require(same, "data", "the two versions' test parts differ", "report this as an error")
    resamples = own.profile.resamples
    for method in METHODS:
        both = dict(zip((trained_on, OTHER[trained_on]), answers_on_both(own, method, other)))
        given, sets = (test.labels, test.groups, None, resamples), own.scored(method).sets
        pair = [checked_answers(both[v], *given, sets=sets) for v in ("confounded", "balanced")]
        points = np.stack([points_of(each, [METRIC])[METRIC] for each in pair])
        draws = [replicates(each, resamples, SEED, [METRIC])[METRIC] for each in pair]
        lost = Lost.of(pair[0], points, np.stack(draws, 1))
        row = {"part": "phantom", "trained_on": trained_on, "method": method}
        yield [{**row, "networks": pair[0].networks, **compared(lost, before)}]
        before[method] = lost


def answers_on_both(study: Study, method: str, other: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return a method's answers (R, N, K) on the study's own test part and on another one.

    The images of the other one are scaled as the training images are.
    """
    own = study.scored(method)

    def compute() -> tuple[dict[str, Tensor], dict]:
        images, _ = labelled(study.data, other.test, study.device)
        answers = probabilities(study.network(), networks_of(study, method), images)
        return {"probabilities": torch.from_numpy(answers)}, {}

    of = scores_path(study, method).parent.name
    tensors, _ = study.store.tensors("compare", compute, of=of, tested_on=other.fingerprint)
    return own.probabilities, tensors["probabilities"].numpy()


def networks_of(study: Study, method: str) -> list[Tensor]:
    """Train the networks of a method that `study.scored` scores."""
    if method == "full_good":
        return labels.well_trained(study)
    evaluate, references = study.profile.evaluate, study.profile.references
    random, trained = method.startswith("random"), []
    count = references.networks_per_draw if random else evaluate.networks
    rates = study.scored(method).about["learning_rates"]
    sets = sets_of(study, method)
    for number, one in enumerate(sets):
        rate = {"learning_rate": rates[0 if random else number]}
        given = study.network(), one.images, one.targets, evaluate.recipe.model_copy(update=rate)
        trained += trained_networks(*given, count, (evaluate.seed, *one.seed))
        study.progress(f"training networks on {method}", number + 1, len(sets))
    return trained


# ---- the record --------------------------------------------------------------------------------


SETTING = ("part", "trained_on", "method", "origin")  # of a row
PARTS = {
    "origins": of_origins,
    "phantom": of_phantom,
    "control": lambda study: of_phantom(study, "balanced"),
}


@click.command()
@options("real", PARTS)
def main(profile, data, out, save, part, changes) -> None:
    """Measure one part, and add its rows to the record."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, progress=progress)
        path = Path(save) / f"confounding-{Path(source_name(data)).stem}.json"
        for rows in PARTS[part](study):
            write_rows(study, path, rows, SETTING)
            if "lost" in rows[0]:
                click.echo(f"{rows[0]['method']}: lost {rows[0]['lost']['mean']:+.3f}")


if __name__ == "__main__":
    main(prog_name="python -m workflow.confounding")
