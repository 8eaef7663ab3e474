"""The comparison: every method on the same few labels, by one recipe, against the distilled set.

Two tables, since the poster's protocol is not known. In (a), "released", only what leaves the hospital may be used, so that
self-supervision sees the released images alone. In (b), "inside", it may see all training images without their labels.

What all methods share: the labelled budget (images a class of the profile; evaluation seed k has draw k, the same images for
every method that takes random ones, and the same initial weights by network); the evaluation's recipe and augmentation; the
choice on validation, over the same learning rates and, where a method has a learning rate of its own, over the same factors
of it, one preparation a point; and the images that a preparation may process. The distilled set may also take the step
size that it learned. The test part is scored once. Differences to the distilled set are paired on
test groups, their intervals and p values are `metrics`' own, and the p values are corrected by Holm
over a table's comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medddist import metrics
from medddist.baselines.transfer import Unavailable, imagenet_weights
from medddist.contenders import CONDENSED, CORESETS, LABELS, SELF_SUPERVISED, Clock, Contenders, Entry, Prepared, Ready
from medddist.data.cache import file_digest
from medddist.evaluate import mean_validation_scores
from medddist.networks import Network
from medddist.parallel import ahead
from medddist.study import Study
from medddist.training import Diverged, predict, train
from medddist.trajectories import load_tensors, save_tensors

TABLES = {"released": "(a) what may leave the hospital", "inside": "(b) inside the hospital", "unseen": "networks that never saw the distillation"}
OF_THE_STUDY = ("full_teacher", "full_good", "majority")  # scored by the study itself
MADE = ("distilled", *CONDENSED)  # images that are calculated, not taken
METRICS = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Measured:
    """A method's networks on the test part, and what it took: seconds, chosen and tried settings, spread of its outputs."""

    probabilities: np.ndarray  # (R, N, K)
    about: dict
    scores: dict  # `metrics.score`
    sets: np.ndarray | None = None  # (R,) which of several training sets each network had


class Comparison(Contenders):
    """The tables of a study; every row is kept under the hash of what it depends on."""

    def __init__(self, study: Study):
        super().__init__(study)
        self._found: dict[Entry, Measured] = {}
        changes = self.settings.model_dump(include={"epochs", "batch_size"}, exclude_none=True)
        self.recipe = self.profile.evaluate.recipe.model_copy(update=changes)

    # ---- the tables --------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        contrastive = [(m, n) for m in ("byol", "simsiam", "skd") for n in self.settings.contrastive_networks]
        trained = [("scratch", n) for n in dict.fromkeys(("convnet", *self.settings.contrastive_networks, "vit"))]
        learned = [*trained, *contrastive, ("mae", "vit")]
        learned += [("transfer_imagenet", "imagenet_resnet18"), ("transfer_site", "convnet"), ("transfer_phantom", "convnet")]
        sets = [(m, "convnet") for m in ("distilled", "random_real", "random_natural", *CORESETS, *CONDENSED)]
        released = [Entry("released", *row) for row in [*sets, *learned, ("majority", "none")]]
        inside = [("distilled", "convnet"), *learned, ("full_teacher", "convnet"), ("full_good", "convnet"), ("majority", "none")]
        unseen = [Entry("unseen", m, n) for n in self.settings.unseen_networks for m in ("distilled", "random_real")]
        return [*released, *(Entry("inside", *row) for row in inside), *unseen]

    def rows(self, tables: Sequence[str] = tuple(TABLES), workers: int = 1) -> list[dict]:
        """A row an entry: scores or why there are none, what it took, what leaves, and the distilled images' lead over it.

        With several workers as many rows are measured at once; see `parallel.ahead`.
        """
        entries = [entry for entry in self.entries() if entry.table in tables]
        if workers > 1:
            ahead(self.study, _measured_in_a_worker, self._missing(entries), workers, "comparing, several at once")
        rows, measured = [], {}
        for done, entry in enumerate(entries):
            self.study.progress(f"comparing: {LABELS[entry.method]}, {entry.network}", done, len(entries))
            row = {"table": entry.table, "method": entry.method, "label": LABELS[entry.method], "network": entry.network}
            try:
                measured[entry] = self.measured(entry)
                rows.append(row | {"status": "measured", "reason": ""} | self._told(entry, measured[entry]))
            except Unavailable as reason:
                rows.append(row | {"status": "unavailable", "reason": str(reason)})
        self.study.progress("comparing", len(entries), len(entries))
        self._add_leads(dict(zip(entries, rows)), measured)
        return rows

    def _missing(self, entries: list[Entry]) -> list[Entry]:
        """Rows with no result yet, once each. What several of them need, the distillations, is there afterwards."""
        for seed in self.profile.seeds:
            self.study.distillation(seed)
        found = dict.fromkeys(one_of_its_names(entry) for entry in entries if entry.method not in OF_THE_STUDY)
        return [entry for entry in found if not self.is_kept(entry)]

    def is_kept(self, entry: Entry) -> bool:
        """Whether nothing is left to compute for a row that has its own result: it is there, or cannot be had."""
        try:
            return self._path(entry).exists()
        except Unavailable:
            return True

    def _told(self, entry: Entry, found: Measured) -> dict:
        return found.scores | found.about | self._what_leaves(entry)

    def _what_leaves(self, entry: Entry) -> dict:
        """In (a) images, where a pixel is a byte, or four if it is calculated; in (b) at most the network, four bytes a parameter."""
        if entry.method == "majority":
            return {"released": "nothing but a class", "bytes_released": 1, "real_images_leave": False}
        if entry.table == "inside" and entry.method != "distilled":
            return {"released": "network", "bytes_released": 4 * self.network(entry.network).parameter_count, "real_images_leave": False}
        data, made = self.study.data, entry.method in MADE
        count = self.profile.distill.images_per_class * data.classes
        pixels = count * data.channels * data.image_size_px**2
        labels = count * (4 * data.classes if entry.method == "distilled" and self.profile.distill.labels == "soft" else 1)
        return {"released": "images", "bytes_released": pixels * (4 if made else 1) + labels, "real_images_leave": not made}

    def _add_leads(self, rows: dict[Entry, dict], measured: dict[Entry, Measured]) -> None:
        """The distilled images' lead over each other row of its table, in `unseen` over the row of the same network."""
        for table in dict.fromkeys(entry.table for entry in rows):
            leads = self._leads({entry: found for entry, found in measured.items() if entry.table == table})
            for metric in METRICS:
                corrected = metrics.holm([lead[metric]["p_two_sided"] for lead in leads.values()])
                for (entry, lead), p in zip(leads.items(), corrected):
                    lead[metric] |= {"p_holm": p, "verdict": verdict(lead[metric]["difference"], p)}
                    rows[entry]["distilled_lead"] = lead

    def _leads(self, measured: dict[Entry, Measured]) -> dict[Entry, dict[str, dict]]:
        """By row of one table other than the distilled images', and metric."""
        test, found = self.study.data.test, {}
        for ours in (entry for entry in measured if entry.method == "distilled"):
            others = [e for e in measured if e.method != "distilled" and (e.network == ours.network or ours.table != "unseen")]
            said = [measured[entry].probabilities for entry in others]
            given = measured[ours].probabilities, said, test.labels, test.groups, METRICS
            sets = measured[ours].sets, [measured[entry].sets for entry in others]
            resamples = self.settings.resamples
            found |= zip(others, metrics.paired_differences(*given, resamples=resamples, sets=sets))
        return found

    # ---- one row -----------------------------------------------------------------------------------------------------

    def measured(self, entry: Entry) -> Measured:
        """Raises Unavailable where the row cannot be measured here, InputError as the study's steps do."""
        entry = one_of_its_names(entry)
        if entry not in self._found:
            self._found[entry] = self._of_the_study(entry.method) if entry.method in OF_THE_STUDY else self._kept(entry)
        return self._found[entry]

    def _of_the_study(self, method: str) -> Measured:
        scored = self.study.scored(method)
        about = {"seconds": self.study.seconds_of_scores(method), "chosen": scored.about}
        return Measured(scored.probabilities, about, scored.scores, scored.sets)

    def _kept(self, entry: Entry) -> Measured:
        path = self._path(entry)
        if not path.exists():
            save_tensors(path, *self._measure(entry))
        tensors, about = load_tensors(path)
        said, sets = tensors["probabilities"].numpy(), None
        if entry.method == "distilled":  # evaluation seeds take the profile's seeds in turn
            sets = np.arange(len(said)) % len(self.profile.seeds)
        return Measured(said, about, self.study._scores(said, sets), sets)

    def _path(self, entry: Entry) -> Path:
        return self.study.folder("compare", **self._depends_on(entry)) / "result.safetensors"

    def _depends_on(self, entry: Entry) -> dict:
        profile, method = self.profile, entry.method
        found = {"method": method, "network_name": entry.network, "seed": self.seed, "recipe": self.recipe.what()}
        names = {"evaluation_seeds", "learning_rates", "tuning_networks"} | ({"grid"} if method not in ("distilled", "scratch") else set())
        found |= self.settings.model_dump(mode="json", include=names)
        found |= {"images_per_class": profile.distill.images_per_class, "metric": profile.distill.selection_metric}
        found |= {"architectures": self.settings.architectures.what()} if not entry.network.startswith("convnet") else {}
        if method in ("distilled", *CORESETS):
            folders = [self.study._distill_folder(self.study._distill_settings(seed, None)).name for seed in profile.seeds]
            found |= {"distillations": folders}
        if method in SELF_SUPERVISED:
            found |= {"sees": entry.table, "pretrain": self.settings.pretrain.what()}
        if method in CONDENSED or method.startswith("transfer"):
            found |= {"budget": self.budget("inside"), "condense": self.settings.condense.what(), "good": profile.references.good_recipe.what()}
        if method == "transfer_phantom":
            found |= {"phantom_images": self.settings.phantom_images}
        if method == "transfer_imagenet":
            found |= {"weights": file_digest(imagenet_weights(self.settings.imagenet_weights))}
        return found

    def _measure(self, entry: Entry) -> tuple[dict[str, Tensor], dict]:
        """Choose on validation, train a network for each evaluation seed, and ask them about the test part."""
        network = self.network(entry.network)
        prepared, evaluating = self.prepare(entry, network), Clock()
        (factor, rate), tried = self._chosen(network, prepared, evaluating)
        trained = []
        for k in range(self.settings.evaluation_seeds):
            ready = prepared.ready(factor, k)
            with evaluating:
                trained.append(self._trained(network, ready, rate, k))
        said = np.stack([predict(network, theta, self.study.tensors("test")[0]).cpu().numpy() for theta in trained])
        about = {
            "seconds": round(prepared.clock.seconds + evaluating.seconds, 2),
            "seconds_preparing": round(prepared.clock.seconds, 2),
            "images_processed_a_preparation": prepared.images_processed,
            "chosen": {"learning_rate": rate, "factor": factor},
            "tried_on_validation": tried,
            **prepared.about(factor),
        }
        return {"probabilities": torch.from_numpy(said)}, about

    def _chosen(self, network: Network, prepared: Prepared, evaluating: Clock) -> tuple[tuple[float | None, float], list[dict]]:
        """The (factor of the method's own learning rate, learning rate of the recipe) that score best on validation."""
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
            raise Diverged("compare.grid: a method diverged at every factor of its learning rate; add a smaller one")
        best = max(tried, key=lambda one: one["score"])
        return (best["factor"], best["learning_rate"]), tried

    def _on_validation(self, network: Network, ready: Ready, rate: float) -> float:
        try:
            trained = [self._trained(network, ready, rate, "tuning", n) for n in range(self.settings.tuning_networks)]
            scores = mean_validation_scores(network, trained, self.study.tensors("validation"))
        except Diverged:
            return 0.0
        return scores[self.profile.distill.selection_metric]

    def _trained(self, network: Network, ready: Ready, rate: float, *seed: int | str) -> Tensor:
        recipe = self.recipe.model_copy(update={"learning_rate": rate})
        return train(network, ready.start, ready.images, ready.labels, recipe, (self.seed, "compare", *seed))


def _measured_in_a_worker(study: Study, entry: Entry) -> None:
    try:
        Comparison(study).measured(entry)
    except Unavailable:  # said where the row is asked for
        pass


def one_of_its_names(entry: Entry) -> Entry:
    """The row that is measured for a row: tables matter to self-supervision alone, and random real images are where scratch starts."""
    method = "scratch" if entry.method == "random_real" else entry.method
    return Entry(entry.table if method in SELF_SUPERVISED else "released", method, entry.network)


def verdict(difference: float, p_corrected: float | None, level: float = 0.05) -> str:
    """`ahead`, `behind` or `not told apart`: of the distilled images against another method."""
    if p_corrected is None or p_corrected >= level:
        return "not told apart"
    return "ahead" if difference > 0 else "behind"


def verdict_lines(rows: list[dict], metric: str = "balanced_accuracy") -> list[str]:
    """For each table, which rows the distilled images are ahead of, behind, and not told apart from."""
    lines = []
    for table in dict.fromkeys(row["table"] for row in rows if "distilled_lead" in row):
        leads = {f"{row['label']} ({row['network']})": row["distilled_lead"][metric]["verdict"] for row in rows
                 if row["table"] == table and "distilled_lead" in row}  # fmt: skip
        for word in ("ahead", "behind", "not told apart"):
            names = [name for name, found in leads.items() if found == word]
            joined = {"ahead": "ahead of", "behind": "BEHIND", "not told apart": "not told apart from"}[word]
            lines.append(f"{TABLES[table]}: in {metric.replace('_', ' ')} the distilled images are {joined} {', '.join(names) or 'none'}")
    return lines
