"""Linear probes: what a logistic regression reads from frozen features, self-supervised ones
against random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medddist.baselines.distribution_matching import features
from medddist.comparison.contenders import LABELS, SELF_SUPERVISED, Entry
from medddist.comparison.tables import Comparison
from medddist.measure import metrics
from medddist.measure.probes import LabelledRows, linear_probe, said_by
from medddist.method.networks import Network
from medddist.study.study import Study
from medddist.study.workers import ahead


def probe_rows(comparison: Comparison, workers: int = 1) -> list[dict]:
    """A row a network for random features, and one for each method that learned that network's
    without labels.

    All training images are seen without labels by the methods, and with labels by the probe.
    `lead_over_random` is paired on test groups, random features vary over the evaluation seeds'
    initial weights, and p is corrected over all rows by Holm. Several workers probe as many rows at
    once; see `parallel.ahead`.
    """
    inside = [
        entry
        for entry in comparison.entries()
        if entry.table == "inside" and entry.method in SELF_SUPERVISED
    ]
    networks = list(dict.fromkeys(entry.network for entry in inside))
    entries = [
        entry
        for n in networks
        for entry in [Entry("probe", "random", n), *(e for e in inside if e.network == n)]
    ]
    missing = [entry for entry in entries if not _path(comparison, entry).exists()]
    ahead(comparison.study, _probed_in_a_worker, missing, workers, "probing, several at once")
    rows, said = [], {}
    for done, entry in enumerate(entries):
        comparison.study.progress(f"probing {entry.method}, {entry.network}", done, len(entries))
        said[entry], about = probed(comparison, entry)
        label = LABELS.get(entry.method, "random features")
        row = {
            "table": "probe",
            "method": entry.method,
            "label": label,
            "network": entry.network,
            "status": "measured",
            "reason": "",
        }
        rows.append(row | comparison.study.score(said[entry]) | about)
    _add_leads(comparison, dict(zip(entries, rows)), said)
    return rows


def _add_leads(
    comparison: Comparison, rows: dict[Entry, dict], said: dict[Entry, np.ndarray]
) -> None:
    test, resamples = comparison.study.data.test, comparison.settings.resamples
    learned = [entry for entry in rows if entry.method != "random"]
    leads = [
        metrics.paired_difference(
            said[entry],
            said[Entry("probe", "random", entry.network)],
            test.labels,
            test.groups,
            resamples=resamples,
        )
        for entry in learned
    ]
    for entry, lead, p in zip(
        learned, leads, metrics.holm([lead["p_two_sided"] for lead in leads])
    ):
        rows[entry]["lead_over_random"] = {"balanced_accuracy": lead | {"p_holm": p}}


def probed(comparison: Comparison, entry: Entry) -> tuple[np.ndarray, dict]:
    """((R, N, K) of probes on the test part, {chosen, ...}) of one row; the pretraining's factor is
    chosen on validation too.
    """

    def compute() -> tuple[dict[str, Tensor], dict]:
        answers, about = _probe(comparison, entry)
        return {"probabilities": torch.from_numpy(answers)}, about

    depends_on = _depends_on(comparison, entry)
    tensors, about = comparison.study.store.tensors("compare", compute, **depends_on)
    return tensors["probabilities"].numpy(), about


def _probed_in_a_worker(study: Study, entry: Entry) -> None:
    probed(Comparison(study), entry)


def _path(comparison: Comparison, entry: Entry) -> Path:
    return comparison.study.store.path("compare", **_depends_on(comparison, entry))


def _depends_on(comparison: Comparison, entry: Entry) -> dict:
    settings = comparison.settings
    return {
        "probe": entry.method,
        "network_name": entry.network,
        "architectures": settings.architectures.as_json(),
        "evaluation_seeds": settings.evaluation_seeds,
        "grid": list(settings.grid),
        "seed": comparison.seed,
        "pretrain": settings.pretrain.as_json() if entry.method in SELF_SUPERVISED else None,
    }


def _probe(comparison: Comparison, entry: Entry) -> tuple[np.ndarray, dict]:
    classes, network = comparison.study.data.classes, comparison.network(entry.network)
    found = []
    for told, theta in _thetas(comparison, entry, network):
        train, validation, test = (
            _features(comparison, network, theta, part) for part in ("train", "validation", "test")
        )
        probe, strength, score = linear_probe(train, validation)
        found.append(
            (said_by(probe, test[0], classes), told | {"C": strength, "on_validation": score})
        )
    if entry.method == "random":  # every one counts: chance is what it stands for
        return np.stack([said for said, _ in found]), {"chosen": [told for _, told in found]}
    best = max(found, key=lambda one: one[1]["on_validation"])
    return best[0][None], {"chosen": best[1], "tried_on_validation": [told for _, told in found]}


def _thetas(
    comparison: Comparison, entry: Entry, network: Network
) -> Iterator[tuple[dict, Tensor]]:
    if entry.method == "random":
        yield from (
            ({"seed": k}, comparison.fresh(network, k))
            for k in range(comparison.settings.evaluation_seeds)
        )
        return
    for factor in comparison.settings.grid:
        theta, told = comparison.pretrained(Entry("inside", entry.method, entry.network), factor, 0)
        yield (
            {"factor": factor, "spread_of_outputs": told["spread"], "collapsed": told["collapsed"]},
            theta,
        )


@torch.no_grad()
def _features(comparison: Comparison, network: Network, theta: Tensor, part: str) -> LabelledRows:
    images, labels = comparison.study.tensors(part)
    seen = torch.cat([features(network, theta, batch) for batch in images.split(512)])
    return seen.cpu().numpy(), labels.cpu().numpy()
