"""Linear probes: what a logistic regression reads from frozen features, self-supervised ones against random ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from medddist import metrics
from medddist.baselines.distribution_matching import features
from medddist.compare import Comparison
from medddist.contenders import LABELS, SELF_SUPERVISED, Entry
from medddist.networks import Network
from medddist.parallel import ahead
from medddist.study import Study
from medddist.trajectories import load_tensors, save_tensors

FOLDS = 3
STRENGTHS = (1e-3, 1e-2, 1e-1)  # scikit-learn's C, the inverse of the penalty; chosen on validation
LabelledRows = tuple[np.ndarray, np.ndarray]  # features (N, D), classes (N,)


def linear_probe(train: LabelledRows, validation: LabelledRows) -> tuple[Pipeline, float, float]:
    """(logistic regression on standardised features, its C, its balanced accuracy on validation), C chosen by the latter.

    Classes weigh equally. Raises ValueError, scikit-learn's, where the training rows have one class alone.
    """
    found = []
    for strength in STRENGTHS:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty may need longer, and then hardly matters
            probe.fit(*train)
        found.append((probe, strength, float(balanced_accuracy_score(validation[1], probe.predict(validation[0])))))
    return max(found, key=lambda one: one[2])


def cross_validated_probe(rows: LabelledRows, groups: np.ndarray) -> tuple[Pipeline, float, float | None]:
    """As `linear_probe` without validation rows: C by cross-validation over `groups` (N,), then a fit on all rows.

    The balanced accuracy is None, and C the middle one, where a class has fewer than two groups.
    Raises ValueError, scikit-learn's, where there is one class alone.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=200))
    fewest = min(len(np.unique(groups[rows[1] == k])) for k in np.unique(rows[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # of a small class that is not in every fold
        if fewest < 2:
            middle = STRENGTHS[len(STRENGTHS) // 2]
            return probe.set_params(logisticregression__C=middle).fit(*rows), middle, None
        search = GridSearchCV(
            probe,
            {"logisticregression__C": list(STRENGTHS)},
            scoring="balanced_accuracy",
            cv=StratifiedGroupKFold(min(FOLDS, fewest)),
            error_score=0.0,
        )
        search.fit(*rows, groups=groups)
    return search.best_estimator_, search.best_params_["logisticregression__C"], float(search.best_score_)


def said_by(probe: Pipeline, rows: np.ndarray, classes: int) -> np.ndarray:
    """(N, classes) probabilities; 0 for a class that the probe never saw."""
    said = np.zeros((len(rows), classes))
    said[:, probe.classes_] = probe.predict_proba(rows)
    return said


def probe_rows(comparison: Comparison, workers: int = 1) -> list[dict]:
    """A row a network for random features, and one for each method that learned that network's without labels.

    All training images are seen without labels by the methods, and with labels by the probe. `lead_over_random` is paired
    on test groups, random features vary over the evaluation seeds' initial weights, and p is corrected over all rows by Holm.
    Several workers probe as many rows at once; see `parallel.ahead`.
    """
    inside = [entry for entry in comparison.entries() if entry.table == "inside" and entry.method in SELF_SUPERVISED]
    networks = list(dict.fromkeys(entry.network for entry in inside))
    entries = [entry for n in networks for entry in [Entry("probe", "random", n), *(e for e in inside if e.network == n)]]
    missing = [entry for entry in entries if not _path(comparison, entry).exists()]
    ahead(comparison.study, _probed_in_a_worker, missing, workers, "probing, several at once")
    rows, said = [], {}
    for done, entry in enumerate(entries):
        comparison.study.progress(f"probing {entry.method}, {entry.network}", done, len(entries))
        said[entry], about = probed(comparison, entry)
        label = LABELS.get(entry.method, "random features")
        row = {"table": "probe", "method": entry.method, "label": label, "network": entry.network, "status": "measured", "reason": ""}
        rows.append(row | comparison.study._scores(said[entry]) | about)
    _add_leads(comparison, dict(zip(entries, rows)), said)
    return rows


def _add_leads(comparison: Comparison, rows: dict[Entry, dict], said: dict[Entry, np.ndarray]) -> None:
    test, resamples = comparison.study.data.test, comparison.settings.resamples
    learned = [entry for entry in rows if entry.method != "random"]
    leads = [
        metrics.paired_difference(
            said[entry], said[Entry("probe", "random", entry.network)], test.labels, test.groups, resamples=resamples
        )
        for entry in learned
    ]
    for entry, lead, p in zip(learned, leads, metrics.holm([lead["p_two_sided"] for lead in leads])):
        rows[entry]["lead_over_random"] = {"balanced_accuracy": lead | {"p_holm": p}}


def probed(comparison: Comparison, entry: Entry) -> tuple[np.ndarray, dict]:
    """((R, N, K) of probes on the test part, {chosen, ...}) of one row; the pretraining's factor is chosen on validation too."""
    path = _path(comparison, entry)
    if not path.exists():
        said, about = _probe(comparison, entry)
        save_tensors(path, {"probabilities": torch.from_numpy(said)}, about)
    tensors, about = load_tensors(path)
    return tensors["probabilities"].numpy(), about


def _probed_in_a_worker(study: Study, entry: Entry) -> None:
    probed(Comparison(study), entry)


def _path(comparison: Comparison, entry: Entry) -> Path:
    settings = comparison.settings
    depends_on = {
        "probe": entry.method, "network_name": entry.network, "architectures": settings.architectures.what(),
        "evaluation_seeds": settings.evaluation_seeds, "grid": list(settings.grid), "seed": comparison.seed,
        "pretrain": settings.pretrain.what() if entry.method in SELF_SUPERVISED else None,
    }  # fmt: skip
    return comparison.study.folder("compare", **depends_on) / "result.safetensors"


def _probe(comparison: Comparison, entry: Entry) -> tuple[np.ndarray, dict]:
    classes, network = comparison.study.data.classes, comparison.network(entry.network)
    found = []
    for told, theta in _thetas(comparison, entry, network):
        train, validation, test = (_features(comparison, network, theta, part) for part in ("train", "validation", "test"))
        probe, strength, score = linear_probe(train, validation)
        found.append((said_by(probe, test[0], classes), told | {"C": strength, "on_validation": score}))
    if entry.method == "random":  # every one counts: chance is what it stands for
        return np.stack([said for said, _ in found]), {"chosen": [told for _, told in found]}
    best = max(found, key=lambda one: one[1]["on_validation"])
    return best[0][None], {"chosen": best[1], "tried_on_validation": [told for _, told in found]}


def _thetas(comparison: Comparison, entry: Entry, network: Network) -> Iterator[tuple[dict, Tensor]]:
    if entry.method == "random":
        yield from (({"seed": k}, comparison.fresh(network, k)) for k in range(comparison.settings.evaluation_seeds))
        return
    for factor in comparison.settings.grid:
        theta, told = comparison.pretrained(Entry("inside", entry.method, entry.network), factor, 0)
        yield {"factor": factor, "spread_of_outputs": told["spread"], "collapsed": told["collapsed"]}, theta


@torch.no_grad()
def _features(comparison: Comparison, network: Network, theta: Tensor, part: str) -> LabelledRows:
    images, labels = comparison.study.tensors(part)
    seen = torch.cat([features(network, theta, batch) for batch in images.split(512)])
    return seen.cpu().numpy(), labels.cpu().numpy()
