"""Compare self-supervised features with random ones: linear probes on frozen networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medddist.baselines.distribution_matching import all_features
from medddist.comparison.contenders import SELF_SUPERVISED, pretrained
from medddist.comparison.shared import LABELS, Entry, fresh, network_of
from medddist.comparison.tables import entries
from medddist.measure import metrics
from medddist.measure.probes import linear_probe, probe_probabilities
from medddist.method.networks import Network
from medddist.study.study import Study
from medddist.study.workers import ahead


def probe_rows(study: Study, workers: int = 1) -> list[dict]:
    """Probe random features of each network, and those that each method learned without labels.

    The methods see all training images without labels, the probe sees them with labels.

    Args:
        study: whose data, profile and cached results are used.
        workers: rows that are probed at once; see `workers.ahead`.

    Returns:
        A row per network and method: scores, and `lead_over_random`, paired on test groups and
        corrected over all rows by Holm. Random features vary with the evaluation seeds' initial
        parameters.
    """
    learned = [
        (entry.method, entry.network)
        for entry in entries(study.profile)
        if entry.table == "inside" and entry.method in SELF_SUPERVISED
    ]
    networks, answers = list(dict.fromkeys(network for _, network in learned)), {}
    pairs = [*product(("random",), networks), *learned]
    pairs.sort(key=lambda pair: networks.index(pair[1]))
    rows = {Entry("probe", *pair): {} for pair in pairs}
    missing = [e for e in rows if not study.store.path("compare", **_depends_on(study, e)).exists()]
    ahead(study, probed, missing, workers, "probing, several at once")
    for done, (entry, row) in enumerate(rows.items()):
        study.progress(f"probing {entry.method}, {entry.network}", done, len(rows))
        answers[entry], about = probed(study, entry)
        row |= dataclasses.asdict(entry) | {"label": LABELS[entry.method], "status": "measured"}
        row |= {"reason": ""} | study.score(answers[entry]) | about
    _add_leads(study, rows, answers)
    return list(rows.values())


def _add_leads(study: Study, rows: dict[Entry, dict], answers: dict[Entry, np.ndarray]) -> None:
    test, resamples, leads = study.data.test, study.profile.compare.resamples, {}
    for entry in rows:
        if entry.method != "random":
            random = answers[dataclasses.replace(entry, method="random")]
            given = answers[entry], random, test.labels, test.groups
            leads[entry] = metrics.paired_difference(*given, resamples=resamples)
    corrected = metrics.holm([lead["p_two_sided"] for lead in leads.values()])
    for (entry, lead), p in zip(leads.items(), corrected):
        rows[entry]["lead_over_random"] = {"balanced_accuracy": lead | {"p_holm": p}}


def probed(study: Study, entry: Entry) -> tuple[np.ndarray, dict]:
    """Return the probes' answers on the test part (R, N, K) and what was chosen, cached.

    The factor of the pretraining's learning rate is chosen on validation, as the penalty is.
    """
    tensors, about = study.store.tensors(
        "compare", lambda: _probe(study, entry), **_depends_on(study, entry)
    )
    return tensors["probabilities"].numpy(), about


def _depends_on(study: Study, entry: Entry) -> dict[str, Any]:
    settings = study.profile.compare
    return {
        "probe": entry.method,
        "network_name": entry.network,
        "architectures": settings.architectures.as_json(),
        "evaluation_seeds": settings.evaluation_seeds,
        "grid": list(settings.grid),
        "seed": study.profile.evaluate.seed,
        "pretrain": settings.pretrain.as_json() if entry.method in SELF_SUPERVISED else None,
    }


def _probe(study: Study, entry: Entry) -> tuple[dict[str, Tensor], dict]:
    network, answers, tried = network_of(study, entry.network), [], []
    for about, theta in _thetas(study, entry, network):
        train, validation, test = (
            (all_features(network, theta, images), labels.cpu().numpy())
            for images, labels in map(study.tensors, ("train", "validation", "test"))
        )
        probe, strength, score = linear_probe(train, validation)
        answers.append(probe_probabilities(probe, test[0], study.data.classes))
        tried.append(about | {"C": strength, "on_validation": score})
    if entry.method == "random":  # each counts, since chance varies
        return {"probabilities": torch.from_numpy(np.stack(answers))}, {"chosen": tried}
    best = max(range(len(tried)), key=lambda number: tried[number]["on_validation"])
    about = {"chosen": tried[best], "tried_on_validation": tried}
    return {"probabilities": torch.from_numpy(answers[best][None])}, about


def _thetas(study: Study, entry: Entry, network: Network) -> Iterator[tuple[dict, Tensor]]:
    """Parameters (P,) to probe, and what they are: random by seed, or pretrained by factor."""
    if entry.method == "random":
        for k in range(study.profile.compare.evaluation_seeds):
            yield {"seed": k}, fresh(study, network, k)
        return
    inside = dataclasses.replace(entry, table="inside")
    for factor in study.profile.compare.grid:
        theta, about = pretrained(study, inside, factor, 0)
        watched = {"spread_of_outputs": about["spread"], "collapsed": about["collapsed"]}
        yield {"factor": factor, **watched}, theta
