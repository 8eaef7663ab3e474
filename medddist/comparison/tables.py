"""Compare every method on the same few labels, by one recipe, with the distilled set.

There are two tables, since the poster's protocol is not known. In (a), "released", only what leaves
the hospital may be used: self-supervision sees the released images alone. In (b), "inside", it may
see all training images without their labels. A third one has networks that the distillation never
saw.

All methods share the labelled budget: evaluation seed k has draw k of random real images and, by
network, the same initial parameters. They share the evaluation's recipe and augmentation, and the
number of images that a preparation may process. All are tuned on validation: over the same learning
rates and, where a method has a learning rate of its own, over the same factors of it, with one
preparation for each. The distilled set may also take the step size that it learned. The test part
is scored once. Differences to the distilled set are paired on test groups, and their p values are
corrected by Holm over a table's comparisons.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from medddist.base.errors import NotApplicable
from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED, prepare
from medddist.comparison.shared import (
    LABELS,
    Entry,
    Prepared,
    Ready,
    compare_recipe,
    network_of,
    timed,
)
from medddist.measure import metrics
from medddist.method.evaluate import mean_validation_scores, probabilities
from medddist.method.networks import Network
from medddist.method.training import Diverged, train
from medddist.study.profile import Profile
from medddist.study.scores import Scored, seconds_of_scores
from medddist.study.study import Study
from medddist.study.workers import ahead

TABLES = {
    "released": "(a) what may leave the hospital",
    "inside": "(b) inside the hospital",
    "unseen": "networks that never saw the distillation",
}
OF_THE_STUDY = ("full_teacher", "full_good", "majority")  # scored by the study itself
SYNTHETIC = ("distilled", *CONDENSED)  # images that are computed
METRICS = ("accuracy", "balanced_accuracy")
VERDICTS = {  # of the distilled images, as sentences continue
    "better": "better than",
    "worse": "worse than",
    "not significantly different": "not significantly different from",
}
NO_OTHER = "none of the other rows"
FORMER_VERDICTS = dict(zip(("ahead", "behind", "not told apart"), VERDICTS))  # of records of 0.1.0


def entries(profile: Profile) -> list[Entry]:
    """List the rows of all tables, without what the profile leaves out."""
    settings, networks = profile.compare, profile.compare.contrastive_networks
    random = [("random_real", name) for name in dict.fromkeys(("convnet", *networks, "vit"))]
    sets = [(method, "convnet") for method in ("random_natural", "herding", "k_means", *CONDENSED)]
    learned = [*product(("byol", "simsiam", "skd"), networks), ("mae", "vit")]
    learned += [("transfer_imagenet", "imagenet_resnet18")]
    learned += [("transfer_site", "convnet"), ("transfer_phantom", "convnet")]
    distilled, majority = ("distilled", "convnet"), ("majority", "none")
    full = [("full_teacher", "convnet"), ("full_good", "convnet")]
    unseen = [(m, name) for name in settings.unseen_networks for m in ("distilled", "random_real")]
    tables = {
        "released": [distilled, *random, *sets, *learned, majority],
        "inside": [distilled, *random, *learned, *full, majority],
        "unseen": unseen,
    }
    listed = [Entry(table, *row) for table, rows in tables.items() for row in rows]
    left_out = set(profile.left_out)
    if "self_supervision_on_released" in left_out:
        alone = set(product(["released"], SELF_SUPERVISED))
        listed = [entry for entry in listed if (entry.table, entry.method) not in alone]
    return [entry for entry in listed if entry.method not in left_out]


def comparison_rows(
    study: Study, tables: Sequence[str] = tuple(TABLES), workers: int = 1
) -> list[dict]:
    """Measure the tables.

    Args:
        study: whose data, profile and cached results are used.
        tables: some of TABLES.
        workers: rows that are measured at once; see `workers.ahead`.

    Returns:
        A row per entry: scores, or why there are none; what it took; what leaves the hospital; and
        the paired difference of the distilled images to it.
    """
    wanted = [entry for entry in entries(study.profile) if entry.table in tables]
    if workers > 1:
        for seed in study.profile.seeds:  # several rows need them
            study.distillation(seed)
        ahead(study, measured, missing(study, wanted), workers, "comparing, several at once")
    once = functools.cache(functools.partial(measured, study))
    rows, scored = {}, {}
    for done, entry in enumerate(wanted):
        label = LABELS[entry.method]
        study.progress(f"comparing: {label}, {entry.network}", done, len(wanted))
        row = dataclasses.asdict(entry) | {"label": label, "status": "measured", "reason": ""}
        try:
            result = scored[entry] = once(shared_row(entry))
            rows[entry] = row | result.scores | result.about | _released(study, entry)
        except NotApplicable as mistake:
            rows[entry] = row | {"status": "unavailable", "reason": mistake.reason}
    study.progress("comparing", len(wanted), len(wanted))
    _add_leads(study, rows, scored)
    return list(rows.values())


def shared_row(entry: Entry) -> Entry:
    """Name the row that is measured for a row: the table matters to self-supervision alone."""
    table = entry.table if entry.method in SELF_SUPERVISED else "released"
    return dataclasses.replace(entry, table=table)


def missing(study: Study, wanted: Sequence[Entry] | None = None) -> list[Entry]:
    """List once each the rows, by default all, that can be measured here and have no result yet.

    Rows of the study's own scores are not among them.
    """
    wanted = entries(study.profile) if wanted is None else wanted
    without = []
    for entry in dict.fromkeys(shared_row(e) for e in wanted if e.method not in OF_THE_STUDY):
        with contextlib.suppress(NotApplicable):
            depends_on = _depends_on(study, entry, prepare(study, entry))
            if not study.store.path("compare", **depends_on).exists():
                without.append(entry)
    return without


def _released(study: Study, entry: Entry) -> dict:
    """Say what leaves the hospital.

    In (a) images, where a pixel is a byte, or four if it is computed and not rounded; in (b) at
    most the network, four bytes per parameter.
    """
    if entry.method == "majority":
        what, size, real = "nothing but a class", 1, False
    elif entry.table == "inside" and entry.method != "distilled":
        what, size, real = "network", 4 * network_of(study, entry.network).parameter_count, False
    else:
        data, settings = study.data, study.profile.distill
        what, real = "images", entry.method not in SYNTHETIC
        is_sent = entry.method == "distilled"
        soft = is_sent and settings.labels != "hard"
        pixels, label = data.channels * data.image_size_px**2, 4 * data.classes if soft else 1
        size = (
            settings.images_per_class
            * data.classes
            * ((1 if real or is_sent else 4) * pixels + label)
        )
    return {"released": what, "bytes_released": size, "real_images_leave": real}


# ---- the paired differences ----------------------------------------------------------------------


def _add_leads(study: Study, rows: dict[Entry, dict], scored: dict[Entry, Scored]) -> None:
    """Add to each row the distilled images' lead over it, tested within its table."""
    for table in dict.fromkeys(entry.table for entry in rows):
        leads = {}
        for ours in scored:
            if ours.table == table and ours.method == "distilled":
                leads |= _leads(study, ours, scored)
        for metric in METRICS:
            of_metric = [lead[metric] for lead in leads.values()]
            corrected = metrics.holm([lead["p_two_sided"] for lead in of_metric])
            for lead, p in zip(of_metric, corrected):
                lead |= {"p_holm": p, "verdict": verdict(lead["difference"], p)}
        for entry, lead in leads.items():
            rows[entry]["distilled_lead"] = lead


def _leads(study: Study, ours: Entry, scored: dict[Entry, Scored]) -> dict[Entry, dict[str, dict]]:
    """By other row and metric; in `unseen` the other rows are those of the same network."""
    others = {
        entry: result
        for entry, result in scored.items()
        if entry.table == ours.table
        and entry.method != "distilled"
        and (entry.network == ours.network or ours.table != "unseen")
    }
    answers, test = [result.probabilities for result in others.values()], study.data.test
    given = scored[ours].probabilities, answers, test.labels, test.groups, METRICS
    sets = scored[ours].sets, [result.sets for result in others.values()]
    resamples = study.profile.compare.resamples
    return dict(zip(others, metrics.paired_differences(*given, resamples=resamples, sets=sets)))


def verdict(difference: float, p_corrected: float | None, level: float = 0.05) -> str:
    """Return one of VERDICTS: what the distilled images are, held against another method."""
    if p_corrected is None or p_corrected >= level:
        return "not significantly different"
    return "better" if difference > 0 else "worse"


def verdict_lines(rows: list[dict], metric: str = "balanced_accuracy") -> list[str]:
    """Say for each table which methods the distilled images are better and worse than."""
    lines = []
    for table in dict.fromkeys(row["table"] for row in rows if "distilled_lead" in row):
        chosen: dict[str, list[dict]] = {word: [] for word in VERDICTS}
        for row in rows:
            if row["table"] == table and "distilled_lead" in row:
                word = row["distilled_lead"][metric]["verdict"]
                chosen[FORMER_VERDICTS.get(word, word)].append(row)
        begin = f"{TABLES[table]}: in {metric.replace('_', ' ')} the distilled images are"
        for word, those in chosen.items():
            lines.append(f"{begin} {VERDICTS[word]} {_named(those) or NO_OTHER}")
    return lines


def _named(rows: list[dict]) -> str:
    """Name rows by their methods, each with its networks in brackets."""
    networks: dict[str, list[str]] = {}
    for row in rows:
        networks.setdefault(row["label"], []).append(ARCHITECTURES.get(row["network"], ""))
    return "; ".join(
        f"{label} ({' / '.join(names)})" if any(names) else label
        for label, names in networks.items()
    )


# ---- one row -------------------------------------------------------------------------------------


def measured(study: Study, entry: Entry) -> Scored:
    """Score a row's networks on the test part.

    Raises NotApplicable where the row cannot be measured here, InputError as the study's steps do.
    """
    method = entry.method
    if method in OF_THE_STUDY:
        scored = study.scored(method)
        about = {"seconds": seconds_of_scores(study, method), "chosen": scored.about}
        return dataclasses.replace(scored, about=about)
    prepared = prepare(study, entry)
    depends_on = _depends_on(study, entry, prepared)
    compute = lambda: _measure(study, entry, prepared)
    tensors, about = study.store.tensors("compare", compute, **depends_on)
    answers, sets = tensors["probabilities"].numpy(), prepared.sets
    return Scored(method, answers, about, study.score(answers, sets), sets)


def _depends_on(study: Study, entry: Entry, prepared: Prepared) -> dict[str, Any]:
    """All that a row depends on: what every row does, its network, and its method."""
    profile, compare = study.profile, study.profile.compare
    names = {"evaluation_seeds", "learning_rates", "tuning_networks"}
    shared = compare.model_dump(mode="json", include=names) | {
        "method": entry.method,
        "network_name": entry.network,
        "seed": profile.evaluate.seed,
        "recipe": compare_recipe(profile).as_json(),
        "images_per_class": profile.distill.images_per_class,
        "metric": profile.distill.selection_metric,
        "factors": list(prepared.factors),
    }
    if not entry.network.startswith("convnet"):
        shared["architectures"] = compare.architectures.as_json()
    return shared | prepared.depends_on


def _measure(study: Study, entry: Entry, prepared: Prepared) -> tuple[dict[str, Tensor], dict]:
    """Choose on validation, train a network per evaluation seed, and predict the test part."""
    network, spent, trained = network_of(study, entry.network), [], []
    (factor, rate), tried = _chosen(study, network, prepared, spent)
    for k in range(study.profile.compare.evaluation_seeds):
        ready = prepared.ready(network, factor, k)
        with timed(spent):
            trained.append(_trained(study, network, ready, rate, k))
    answers, about = (
        probabilities(network, trained, study.tensors("test")[0]),
        prepared.about(factor),
    )
    about["seconds"] = round(about["seconds_preparing"] + sum(spent), 2)
    about |= {"chosen": {"learning_rate": rate, "factor": factor}, "tried_on_validation": tried}
    return {"probabilities": torch.from_numpy(answers)}, about


def _chosen(
    study: Study, network: Network, prepared: Prepared, spent: list[float]
) -> tuple[tuple[float | None, float], list[dict]]:
    """The factor of the method's own learning rate and the recipe's learning rate that score best
    on validation, and all that were tried.
    """
    tried = []
    for factor in prepared.factors:
        try:
            ready = prepared.ready(network, factor, 0)
        except Diverged:
            continue
        for rate in (*study.profile.compare.learning_rates, *ready.own_rates):
            with timed(spent):
                score = _on_validation(study, network, ready, rate)
            tried.append({"factor": factor, "learning_rate": rate, "score": score})
    if not tried:
        reason = "a method diverged at every factor of its learning rate"
        raise Diverged("compare.grid", reason, "add a smaller one")
    best = max(tried, key=lambda point: point["score"])
    return (best["factor"], best["learning_rate"]), tried


def _on_validation(study: Study, network: Network, ready: Ready, rate: float) -> float:
    count, validation = study.profile.compare.tuning_networks, study.tensors("validation")
    try:
        trained = [_trained(study, network, ready, rate, "tuning", n) for n in range(count)]
        scores = mean_validation_scores(network, trained, validation)
    except Diverged:
        return 0.0
    return scores[study.profile.distill.selection_metric]


def _trained(study: Study, network: Network, ready: Ready, rate: float, *seed: int | str) -> Tensor:
    recipe = compare_recipe(study.profile).model_copy(update={"learning_rate": rate})
    given = ready.images, ready.labels, recipe, (study.profile.evaluate.seed, "compare", *seed)
    return train(network, ready.start, *given)
