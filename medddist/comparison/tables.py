"""The comparison: every method on the same few labels, by one recipe, against the distilled set.

Two tables, since the poster's protocol is not known. In (a), "released", only what leaves the
hospital may be used, so that self-supervision sees the released images alone. In (b), "inside", it
may see all training images without their labels.

What all methods share: the labelled budget (images a class of the profile; evaluation seed k has
    draw k, the same images for every method that takes random ones, and the same initial weights by
    network); the evaluation's recipe and augmentation; the choice on validation, over the same
    learning rates and, where a method has a learning rate of its own, over the same factors of it,
    one preparation a point; and the images that a preparation may process. The distilled set may
    also take the step size that it learned. The test part is scored once. Differences to the
    distilled set are paired on test groups, their intervals and p values are `metrics`' own, and
    the p values are corrected by Holm over a table's comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medddist.baselines.architectures import ARCHITECTURES
from medddist.baselines.transfer import Unavailable, imagenet_weights
from medddist.comparison.contenders import (
    CONDENSED,
    CORESETS,
    LABELS,
    SELF_SUPERVISED,
    Clock,
    Contenders,
    Entry,
    Prepared,
    Ready,
    require_available,
)
from medddist.data.cache import file_digest
from medddist.measure import metrics
from medddist.method.evaluate import mean_validation_scores
from medddist.method.networks import Network
from medddist.method.training import Diverged, Recipe, predict, train
from medddist.study.profile import Profile
from medddist.study.scores import seconds_of_scores
from medddist.study.study import Study
from medddist.study.workers import ahead

TABLES = {
    "released": "(a) what may leave the hospital",
    "inside": "(b) inside the hospital",
    "unseen": "networks that never saw the distillation",
}
OF_THE_STUDY = ("full_teacher", "full_good", "majority")  # scored by the study itself
MADE = ("distilled", *CONDENSED)  # images that are calculated, not taken
METRICS = ("accuracy", "balanced_accuracy")
RELATIONS = {
    "ahead": "are ahead of",
    "behind": "are behind",
    "not told apart": "show no significant difference from",
}


@dataclass(frozen=True)
class Measured:
    """A method's networks on the test part, and what it took: seconds, chosen and tried settings,
    spread of its outputs.
    """

    probabilities: np.ndarray  # (R, N, K)
    about: dict
    scores: dict  # `metrics.score`
    sets: np.ndarray | None = (
        None  # (R,) the set that each network was trained on, where networks share some
    )


def compare_recipe(profile: Profile) -> Recipe:
    """Give the recipe by which every method's networks are trained."""
    changes = profile.compare.model_dump(include={"epochs", "batch_size"}, exclude_none=True)
    return profile.evaluate.recipe.model_copy(update=changes)


class Comparison(Contenders):
    """The tables of a study; every row is kept under the hash of what it depends on."""

    def __init__(self, study: Study):
        super().__init__(study)
        self._found: dict[Entry, Measured] = {}
        self.recipe = compare_recipe(self.profile)

    # ---- the tables ------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        contrastive = [
            (m, n) for m in ("byol", "simsiam", "skd") for n in self.settings.contrastive_networks
        ]
        trained = [
            ("scratch", n)
            for n in dict.fromkeys(("convnet", *self.settings.contrastive_networks, "vit"))
        ]
        learned = [*trained, *contrastive, ("mae", "vit")]
        learned += [
            ("transfer_imagenet", "imagenet_resnet18"),
            ("transfer_site", "convnet"),
            ("transfer_phantom", "convnet"),
        ]
        sets = [
            (m, "convnet")
            for m in ("distilled", "random_real", "random_natural", *CORESETS, *CONDENSED)
        ]
        released = [Entry("released", *row) for row in [*sets, *learned, ("majority", "none")]]
        inside = [
            ("distilled", "convnet"),
            *learned,
            ("full_teacher", "convnet"),
            ("full_good", "convnet"),
            ("majority", "none"),
        ]
        unseen = [
            Entry("unseen", m, n)
            for n in self.settings.unseen_networks
            for m in ("distilled", "random_real")
        ]
        return [*released, *(Entry("inside", *row) for row in inside), *unseen]

    def rows(self, tables: Sequence[str] = tuple(TABLES), workers: int = 1) -> list[dict]:
        """A row an entry: scores or why there are none, what it took, what leaves, and the
        distilled images' lead over it.

        With several workers as many rows are measured at once; see `parallel.ahead`.
        """
        entries = [entry for entry in self.entries() if entry.table in tables]
        if workers > 1:
            for seed in self.profile.seeds:  # what several rows need is there before they start
                self.study.distillation(seed)
            ahead(
                self.study,
                _measured_in_a_worker,
                self.missing(entries),
                workers,
                "comparing, several at once",
            )
        rows, measured = [], {}
        for done, entry in enumerate(entries):
            self.study.progress(
                f"comparing: {LABELS[entry.method]}, {entry.network}", done, len(entries)
            )
            row = {
                "table": entry.table,
                "method": entry.method,
                "label": LABELS[entry.method],
                "network": entry.network,
            }
            try:
                measured[entry] = self.measured(entry)
                rows.append(
                    row | {"status": "measured", "reason": ""} | self._told(entry, measured[entry])
                )
            except Unavailable as reason:
                rows.append(row | {"status": "unavailable", "reason": str(reason)})
        self.study.progress("comparing", len(entries), len(entries))
        self._add_leads(dict(zip(entries, rows)), measured)
        return rows

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """List once each the rows that have no result yet and can be measured here.

        Rows of the study's own scores are not among them.
        """
        rows = (one_of_its_names(entry) for entry in entries if entry.method not in OF_THE_STUDY)
        return [entry for entry in dict.fromkeys(rows) if self._is_missing(entry)]

    def _is_missing(self, entry: Entry) -> bool:
        try:
            require_available(entry.method, self.settings, self.study.data)
        except Unavailable:
            return False
        return not self._path(entry).exists()

    def _told(self, entry: Entry, found: Measured) -> dict:
        return found.scores | found.about | self._what_leaves(entry)

    def _what_leaves(self, entry: Entry) -> dict:
        """In (a) images, where a pixel is a byte, or four if it is calculated; in (b) at most the
        network, four bytes a parameter.
        """
        if entry.method == "majority":
            return {
                "released": "nothing but a class",
                "bytes_released": 1,
                "real_images_leave": False,
            }
        if entry.table == "inside" and entry.method != "distilled":
            return {
                "released": "network",
                "bytes_released": 4 * self.network(entry.network).parameter_count,
                "real_images_leave": False,
            }
        data, made = self.study.data, entry.method in MADE
        count = self.profile.distill.images_per_class * data.classes
        pixels = count * data.channels * data.image_size_px**2
        labels = count * (
            4 * data.classes
            if entry.method == "distilled" and self.profile.distill.labels == "soft"
            else 1
        )
        return {
            "released": "images",
            "bytes_released": pixels * (4 if made else 1) + labels,
            "real_images_leave": not made,
        }

    def _add_leads(self, rows: dict[Entry, dict], measured: dict[Entry, Measured]) -> None:
        """The distilled images' lead over each other row of its table, in `unseen` over the row of
        the same network.
        """
        for table in dict.fromkeys(entry.table for entry in rows):
            leads = self._leads(
                {entry: found for entry, found in measured.items() if entry.table == table}
            )
            for metric in METRICS:
                corrected = metrics.holm([lead[metric]["p_two_sided"] for lead in leads.values()])
                for (entry, lead), p in zip(leads.items(), corrected):
                    lead[metric] |= {"p_holm": p, "verdict": verdict(lead[metric]["difference"], p)}
                    rows[entry]["distilled_lead"] = lead

    def _leads(self, measured: dict[Entry, Measured]) -> dict[Entry, dict[str, dict]]:
        """By row of one table other than the distilled images', and metric."""
        test, found = self.study.data.test, {}
        for ours in (entry for entry in measured if entry.method == "distilled"):
            others = [
                e
                for e in measured
                if e.method != "distilled" and (e.network == ours.network or ours.table != "unseen")
            ]
            said = [measured[entry].probabilities for entry in others]
            given = measured[ours].probabilities, said, test.labels, test.groups, METRICS
            sets = measured[ours].sets, [measured[entry].sets for entry in others]
            found |= zip(
                others,
                metrics.paired_differences(*given, resamples=self.settings.resamples, sets=sets),
            )
        return found

    # ---- one row ---------------------------------------------------------------------------------

    def measured(self, entry: Entry) -> Measured:
        """Raises Unavailable where the row cannot be measured here, InputError as the study's steps
        do.
        """
        entry = one_of_its_names(entry)
        if entry not in self._found:
            self._found[entry] = (
                self._of_the_study(entry.method)
                if entry.method in OF_THE_STUDY
                else self._kept(entry)
            )
        return self._found[entry]

    def _of_the_study(self, method: str) -> Measured:
        scored = self.study.scored(method)
        about = {"seconds": seconds_of_scores(self.study, method), "chosen": scored.about}
        return Measured(scored.probabilities, about, scored.scores, scored.sets)

    def _kept(self, entry: Entry) -> Measured:
        depends_on = self._depends_on(entry)
        tensors, about = self.study.store.tensors(
            "compare", lambda: self._measure(entry), **depends_on
        )
        said, sets = tensors["probabilities"].numpy(), None
        if entry.method == "distilled":  # evaluation seeds take the profile's seeds in turn
            sets = np.arange(len(said)) % len(self.profile.seeds)
        return Measured(said, about, self.study.score(said, sets), sets)

    def _path(self, entry: Entry) -> Path:
        return self.study.store.path("compare", **self._depends_on(entry))

    def _depends_on(self, entry: Entry) -> dict:
        profile, method = self.profile, entry.method
        found = {
            "method": method,
            "network_name": entry.network,
            "seed": self.seed,
            "recipe": self.recipe.as_json(),
        }
        names = {"evaluation_seeds", "learning_rates", "tuning_networks"} | (
            {"grid"} if method not in ("distilled", "scratch") else set()
        )
        found |= self.settings.model_dump(mode="json", include=names)
        found |= {
            "images_per_class": profile.distill.images_per_class,
            "metric": profile.distill.selection_metric,
        }
        found |= (
            {"architectures": self.settings.architectures.as_json()}
            if not entry.network.startswith("convnet")
            else {}
        )
        if method in ("distilled", *CORESETS):
            folders = [self.study.distillation_name(seed) for seed in profile.seeds]
            found |= {"distillations": folders}
        if method in SELF_SUPERVISED:
            found |= {"sees": entry.table, "pretrain": self.settings.pretrain.as_json()}
        if method in CONDENSED or method.startswith("transfer"):
            found |= {
                "budget": self.budget("inside"),
                "condense": self.settings.condense.as_json(),
                "good": profile.references.good_recipe.as_json(),
            }
        if method == "transfer_phantom":
            found |= {"phantom_images": self.settings.phantom_images}
        if method == "transfer_imagenet":
            found |= {"weights": file_digest(imagenet_weights(self.settings.imagenet_weights))}
        return found

    def _measure(self, entry: Entry) -> tuple[dict[str, Tensor], dict]:
        """Choose on validation, train a network for each evaluation seed, and ask them about the
        test part.
        """
        network = self.network(entry.network)
        prepared, evaluating = self.prepare(entry, network), Clock()
        (factor, rate), tried = self._chosen(network, prepared, evaluating)
        trained = []
        for k in range(self.settings.evaluation_seeds):
            ready = prepared.ready(factor, k)
            with evaluating:
                trained.append(self._trained(network, ready, rate, k))
        said = np.stack(
            [
                predict(network, theta, self.study.tensors("test")[0]).cpu().numpy()
                for theta in trained
            ]
        )
        about = {
            "seconds": round(prepared.clock.seconds + evaluating.seconds, 2),
            "seconds_preparing": round(prepared.clock.seconds, 2),
            "images_processed_a_preparation": prepared.images_processed,
            "chosen": {"learning_rate": rate, "factor": factor},
            "tried_on_validation": tried,
            **prepared.about(factor),
        }
        return {"probabilities": torch.from_numpy(said)}, about

    def _chosen(
        self, network: Network, prepared: Prepared, evaluating: Clock
    ) -> tuple[tuple[float | None, float], list[dict]]:
        """The (factor of the method's own learning rate, learning rate of the recipe) that score
        best on validation.
        """
        tried = []
        for factor in self.settings.grid if prepared.has_grid else (None,):
            try:
                ready = prepared.ready(factor, 0)
            except Diverged:
                continue
            for rate in (*self.settings.learning_rates, *prepared.own_rates):
                with evaluating:
                    score = self._on_validation(network, ready, rate)
                tried.append({"factor": factor, "learning_rate": rate, "score": score})
        if not tried:
            raise Diverged(
                "compare.grid",
                "a method diverged at every factor of its learning rate",
                "add a smaller one",
            )
        best = max(tried, key=lambda one: one["score"])
        return (best["factor"], best["learning_rate"]), tried

    def _on_validation(self, network: Network, ready: Ready, rate: float) -> float:
        try:
            trained = [
                self._trained(network, ready, rate, "tuning", n)
                for n in range(self.settings.tuning_networks)
            ]
            scores = mean_validation_scores(network, trained, self.study.tensors("validation"))
        except Diverged:
            return 0.0
        return scores[self.profile.distill.selection_metric]

    def _trained(self, network: Network, ready: Ready, rate: float, *seed: int | str) -> Tensor:
        recipe = self.recipe.model_copy(update={"learning_rate": rate})
        return train(
            network, ready.start, ready.images, ready.labels, recipe, (self.seed, "compare", *seed)
        )


def _measured_in_a_worker(study: Study, entry: Entry) -> None:
    try:
        Comparison(study).measured(entry)
    except Unavailable:  # said where the row is asked for
        pass


def one_of_its_names(entry: Entry) -> Entry:
    """The row that is measured for a row: tables matter to self-supervision alone, and random real
    images are where scratch starts.
    """
    method = "scratch" if entry.method == "random_real" else entry.method
    return Entry(entry.table if method in SELF_SUPERVISED else "released", method, entry.network)


def verdict(difference: float, p_corrected: float | None, level: float = 0.05) -> str:
    """`ahead`, `behind` or `not told apart`: of the distilled images against another method."""
    if p_corrected is None or p_corrected >= level:
        return "not told apart"
    return "ahead" if difference > 0 else "behind"


def verdict_lines(rows: list[dict], metric: str = "balanced_accuracy") -> list[str]:
    """Say for each table which rows the distilled images are ahead of, behind, or not
    significantly different from; a line each.
    """
    lines = []
    for table in dict.fromkeys(row["table"] for row in rows if "distilled_lead" in row):
        own = [row for row in rows if row["table"] == table and "distilled_lead" in row]
        for word, relation in RELATIONS.items():
            chosen = [row for row in own if row["distilled_lead"][metric]["verdict"] == word]
            lines.append(
                f"{TABLES[table]}, {metric.replace('_', ' ')}: the distilled images {relation} "
                f"{_named(chosen) or 'none'}"
            )
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
