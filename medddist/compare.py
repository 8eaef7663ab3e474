"""The comparison: every method on the same few labels, by one recipe, against the distilled set.

Two tables, since the poster's protocol is not known. In (a), "released", only what leaves the hospital may be used, so that
self-supervision sees the released images alone. In (b), "inside", it may see all training images without their labels.

What all methods share: the labelled budget (images a class of the profile; evaluation seed k has draw k, the same images for
every method that takes random ones, and the same initial weights by network); the evaluation's recipe and augmentation; the
choice on validation, over the same learning rates and, where a method has a learning rate of its own, over the same factors
of it, one preparation a point; and the images that a preparation may process. The distilled set may also take the step
size that it learned. The test part is scored once. Differences to the distilled set are paired on test groups, crossed with
seeds, and their p values corrected by Holm over a table's comparisons.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medddist import metrics
from medddist.architectures import architecture
from medddist.baselines.byol import BYOL
from medddist.baselines.condensing import condense
from medddist.baselines.coresets import herding, k_means
from medddist.baselines.distribution_matching import distribution_matching_loss, features
from medddist.baselines.gradient_matching import gradient_matching_loss
from medddist.baselines.mae import MAE
from medddist.baselines.pretraining import pretrain, transplanted
from medddist.baselines.simsiam import SimSiam
from medddist.baselines.skd import SKD
from medddist.baselines.transfer import (
    Unavailable,
    imagenet_network,
    imagenet_weights,
    recipe_of_budget,
    source_site,
)
from medddist.data import DataSettings, load_data
from medddist.data.cache import file_digest
from medddist.evaluate import mean_validation_scores, random_real
from medddist.networks import Network, initial_parameters
from medddist.seeds import generator, seed_of
from medddist.study import Study
from medddist.teachers import Labelled
from medddist.training import Diverged, predict, train
from medddist.trajectories import load_tensors, save_tensors

TABLES = {"released": "(a) what may leave the hospital", "inside": "(b) inside the hospital", "unseen": "networks that never saw the distillation"}
LABELS = {
    "distilled": "distilled images",
    "random_real": "random real images",
    "random_natural": "random real images, natural proportions",
    "herding": "coreset by herding",
    "k_means": "coreset by k-means",
    "gradient_matching": "gradient matching (DC)",
    "distribution_matching": "distribution matching (DM)",
    "scratch": "from scratch",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "skd": "SKD-style",
    "mae": "MAE",
    "transfer_imagenet": "transfer from ImageNet",
    "transfer_site": "transfer from one site",
    "transfer_phantom": "transfer from the phantom",
    "full_teacher": "all training images, teachers' recipe",
    "full_good": "all training images, good recipe",
    "majority": "majority class",
}
SELF_SUPERVISED = {"byol": BYOL, "simsiam": SimSiam, "skd": SKD, "mae": MAE}
CONDENSED = {"gradient_matching": gradient_matching_loss, "distribution_matching": distribution_matching_loss}
CORESETS = ("herding", "k_means")
OF_THE_STUDY = ("full_teacher", "full_good", "majority")  # scored by the study itself
MADE = ("distilled", *CONDENSED)  # images that are calculated, not taken
METRICS = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Entry:
    """A row of a table: a method with a network."""

    table: str
    method: str
    network: str = "convnet"


@dataclass(frozen=True)
class Ready:
    """What one evaluation seed trains on, and from where: images (N, C, H, W), labels (N,) or (N, K), theta (P,)."""

    images: Tensor
    labels: Tensor
    start: Tensor


@dataclass(frozen=True)
class Measured:
    """A method's networks on the test part, and what it took: seconds, chosen and tried settings, spread of its outputs."""

    probabilities: np.ndarray  # (R, N, K)
    about: dict


class Comparison:
    """The tables of a study; every row, and every pretraining, is kept under the hash of what it depends on."""

    def __init__(self, study: Study):
        self.study, self.profile, self.settings = study, study.profile, study.profile.compare
        epochs = self.settings.epochs
        self.recipe = self.profile.evaluate.recipe.model_copy(update={"epochs": epochs} if epochs else {})
        self.seed = self.profile.evaluate.seed

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

    def rows(self, tables: Sequence[str] = tuple(TABLES)) -> list[dict]:
        """A row an entry: scores or why there are none, what it took, what leaves, and the distilled images' lead over it."""
        entries = [entry for entry in self.entries() if entry.table in tables]
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

    def _told(self, entry: Entry, found: Measured) -> dict:
        return self.study._scores(found.probabilities) | found.about | self._what_leaves(entry)

    def _what_leaves(self, entry: Entry) -> dict:
        """In (a) images, where a pixel is a byte, or four if it is calculated; in (b) at most the network, four bytes a parameter."""
        if entry.method == "majority":
            return {"released": "nothing but a class", "bytes_released": 1, "real_images_leave": False}
        if entry.table == "inside" and entry.method != "distilled":
            return {"released": "network", "bytes_released": 4 * self.network(entry.network).parameter_count, "real_images_leave": False}
        data, made = self.study.data, entry.method in MADE
        count = self.profile.distill.images_per_class * data.classes
        pixels = count * data.channels * data.image_size_px**2
        return {"released": "images", "bytes_released": pixels * (4 if made else 1) + count, "real_images_leave": not made}

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
            found |= zip(others, metrics.paired_differences(*given, resamples=self.settings.resamples))
        return found

    # ---- one row -----------------------------------------------------------------------------------------------------

    def measured(self, entry: Entry) -> Measured:
        """Raises Unavailable where the row cannot be measured here, InputError as the study's steps do."""
        if entry.method in OF_THE_STUDY:
            return self._of_the_study(entry.method)
        path = self.study._folder("compare", **self._depends_on(entry)) / "result.safetensors"
        if not path.exists():
            save_tensors(path, *self._measure(entry))
        tensors, about = load_tensors(path)
        return Measured(tensors["probabilities"].numpy(), about)

    def _of_the_study(self, method: str) -> Measured:
        scored = self.study.scored(method)
        return Measured(scored.probabilities, {"seconds": self.study.seconds_of_scores(method), "chosen": scored.about})

    def _depends_on(self, entry: Entry) -> dict:
        plain, profile = self.study._plain, self.profile
        method = "scratch" if entry.method == "random_real" else entry.method  # one thing by two names
        found = {"method": method, "network_name": entry.network, "seed": self.seed, "recipe": plain(self.recipe)}
        names = {"evaluation_seeds", "learning_rates", "tuning_networks"} | ({"grid"} if method not in ("distilled", "scratch") else set())
        found |= self.settings.model_dump(mode="json", include=names)
        found |= {"images_per_class": profile.distill.images_per_class, "metric": profile.distill.selection_metric}
        found |= {"architectures": plain(self.settings.architectures)} if not entry.network.startswith("convnet") else {}
        if method in ("distilled", *CORESETS):
            folders = [self.study._distill_folder(self.study._distill_settings(seed, None)).name for seed in profile.seeds]
            found |= {"distillations": folders}
        if method in SELF_SUPERVISED:
            found |= {"sees": entry.table, "pretrain": plain(self.settings.pretrain)}
        if method in CONDENSED or method.startswith("transfer"):
            found |= {"budget": self.budget("inside"), "condense": plain(self.settings.condense), "good": plain(profile.references.good_recipe)}
        if method == "transfer_phantom":
            found |= {"phantom_images": self.settings.phantom_images}
        if method == "transfer_imagenet":
            found |= {"weights": file_digest(imagenet_weights(self.settings.imagenet_weights))}
        return found

    def _measure(self, entry: Entry) -> tuple[dict[str, Tensor], dict]:
        """Choose on validation, train a network for each evaluation seed, and ask them about the test part."""
        network = self.network(entry.network)
        prepared, evaluating = self._prepare(entry, network), _Clock()
        (factor, rate), tried = self._chosen(network, prepared, evaluating)
        trained = []
        for k in range(self.settings.evaluation_seeds):
            ready = prepared.ready(factor, k)
            with evaluating:
                trained.append(self._trained(network, ready, rate, k))
            self.study.progress(f"{LABELS[entry.method]}, {entry.network}", k + 1, self.settings.evaluation_seeds)
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

    def _chosen(self, network: Network, prepared: Prepared, evaluating: _Clock) -> tuple[tuple[float | None, float], list[dict]]:
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
        except Diverged:
            return 0.0
        scores = mean_validation_scores(network, trained, self.study.tensors("validation"))
        return scores[self.profile.distill.selection_metric]

    def _trained(self, network: Network, ready: Ready, rate: float, *seed: int | str) -> Tensor:
        recipe = self.recipe.model_copy(update={"learning_rate": rate})
        return train(network, ready.start, ready.images, ready.labels, recipe, (self.seed, "compare", *seed))

    # ---- what each method prepares -----------------------------------------------------------------------------------

    def network(self, name: str) -> Network:
        data = self.study.data
        if name == "imagenet_resnet18":
            network = imagenet_network(imagenet_weights(self.settings.imagenet_weights), data.classes)
        else:
            network = architecture(name, self.profile.network, self.settings.architectures, data.channels, data.classes, data.image_size_px)
        network.module.to(self.study.device)
        return network

    def fresh(self, network: Network, k: int) -> Tensor:
        """Initial parameters (P,) of evaluation seed k: the same for every method."""
        return initial_parameters(network, self.seed, "compare", k).to(self.study.device)

    def drawn(self, k: int, draw: str = "balanced") -> Labelled:
        """The labelled budget of evaluation seed k: random real images, the study's own draw of that number."""
        images, labels = self.study.tensors("train")
        random = generator(self.seed, "random real", draw, k)
        indices = random_real(labels, self.profile.distill.images_per_class, self.study.data.classes, draw, random)
        return images[indices], labels[indices]

    def budget(self, table: str) -> int:
        """Images that one preparation may process, views counted: the steps of self-supervision, two views of a batch each."""
        pretraining = self.settings.pretrain
        steps = pretraining.inside_steps if table == "inside" else pretraining.released_steps
        return 2 * steps * pretraining.batch_size

    def _prepare(self, entry: Entry, network: Network) -> Prepared:
        method = entry.method
        if method in SELF_SUPERVISED:
            return self._self_supervised(entry, network)
        if method in CONDENSED:
            return self._condensed(method, network)
        if method.startswith("transfer"):
            return self._transfer(method, network)
        sets = {
            "distilled": self._distilled,
            "scratch": self.drawn,
            "random_real": self.drawn,
            "random_natural": functools.partial(self.drawn, draw="natural"),
            "herding": lambda k: self._coresets["herding"],
            "k_means": lambda k: self._coresets["k_means"],
        }[method]
        ready = lambda factor, k: Ready(*sets(k), self.fresh(network, k))
        if method == "distilled":
            learned = self._distillation(0).distilled.step_size.item()
            seconds = sum(sum(self.study.seconds(seed).values()) for seed in self.profile.seeds)
            return Prepared(ready, own_rates=(learned,), clock=_Clock(seconds))
        return Prepared(ready)

    def _distillation(self, k: int):
        return self.study.distillation(self.profile.seeds[k % len(self.profile.seeds)])

    def _distilled(self, k: int) -> Labelled:
        found = self._distillation(k).distilled
        return found.images, found.targets

    @functools.cached_property
    def _coresets(self) -> dict[str, Labelled]:
        """By the features of the first teacher at its last snapshot."""
        study = self.study
        teacher, network, (images, labels) = study.teachers()[0], study.network(), study.tensors("train")
        (theta,) = (row.to(study.device) for row in teacher.rows(teacher.snapshots - 1))
        with torch.no_grad():
            seen = np.concatenate([features(network, theta, batch).cpu().numpy() for batch in images.split(512)])
        given = seen.astype(np.float64), study.data.train.labels, self.profile.distill.images_per_class, study.data.classes
        chosen = {"herding": herding(*given), "k_means": k_means(*given, seed_of(self.seed, "k-means"))}
        return {name: (images[indices], labels[indices]) for name, indices in chosen.items()}

    def _condensed(self, method: str, network: Network) -> Prepared:
        settings, training = self.settings.condense, self.study.tensors("train")
        iterations = max(1, self.budget("inside") // (settings.real_images_per_class * self.study.data.classes))
        every = settings.network_every if method == "gradient_matching" else 1
        rate = getattr(settings, f"learning_rate_{method}")
        images, labels = self.drawn(0)
        report = lambda done, total: self.study.progress(LABELS[method], done, total)
        clock = _Clock()

        @functools.cache
        def made(factor: float) -> Tensor:
            given = training, (images, labels), settings, iterations, factor * rate, every, (self.seed, method)
            with clock:
                return condense(CONDENSED[method], network, *given, progress=report)

        def ready(factor: float, k: int) -> Ready:
            return Ready(made(factor), labels, self.fresh(network, k))

        processed = iterations * settings.real_images_per_class * self.study.data.classes
        return Prepared(ready, has_grid=True, images_processed=processed, clock=clock)

    # ---- self-supervision --------------------------------------------------------------------------------------------

    def _self_supervised(self, entry: Entry, network: Network) -> Prepared:
        found: dict[tuple[float, str], dict] = {}
        clock = _Clock()

        def ready(factor: float, k: int) -> Ready:
            theta, told = self.pretrained(entry, factor, k)
            if (factor, told["file"]) not in found:
                clock.seconds += told["seconds"]
            found[factor, told["file"]] = told
            return Ready(*self.drawn(k), transplanted(network, theta, network, self.fresh(network, k)))

        def about(factor: float) -> dict:
            chosen = [told for (at, _), told in found.items() if at == factor]
            spreads = {when: float(np.mean([told["spread"][when] for told in chosen])) for when in ("start", "end")}
            return {"spread_of_outputs": spreads, "collapsed": any(told["collapsed"] for told in chosen)}

        return Prepared(ready, has_grid=True, images_processed=self.budget(entry.table), clock=clock, about=about)

    def pretrained(self, entry: Entry, factor: float, k: int) -> tuple[Tensor, dict]:
        """theta (P,) of a network that self-supervision trained, and {losses, spread, collapsed, seconds, file}.

        Inside the hospital one pretraining serves every evaluation seed; on released images each seed has its own images.
        """
        settings = self.settings.pretrain.model_copy(update={"learning_rate": factor * self.settings.pretrain.learning_rate})
        inside = entry.table == "inside"
        steps = settings.inside_steps if inside else settings.released_steps
        seed = (self.seed, entry.method, entry.network, *(() if inside else (k,)))
        plain, sees = self.study._plain, {} if inside else {"images_per_class": self.profile.distill.images_per_class}
        folder = self.study._folder(
            "pretrain", method=entry.method, network_name=entry.network, architectures=plain(self.settings.architectures),
            settings=plain(settings), steps=steps, seed=list(seed), **sees,
        )  # fmt: skip
        path = folder / "result.safetensors"
        if not path.exists():
            images = self.study.tensors("train")[0] if inside else self.drawn(k)[0]
            report = lambda done, total: self.study.progress(f"{LABELS[entry.method]}, {entry.network}: pretraining", done, total)
            began = time.monotonic()
            found = pretrain(self.network(entry.network), SELF_SUPERVISED[entry.method], images, settings, steps, seed, report)
            told = {"losses": found.losses, "spread": found.spread, "collapsed": found.collapsed}
            save_tensors(path, {"theta": found.theta}, told | {"seconds": round(time.monotonic() - began, 2)})
        tensors, about = load_tensors(path)
        return tensors["theta"].to(self.study.device), about | {"file": str(path)}

    # ---- transfer ----------------------------------------------------------------------------------------------------

    def _transfer(self, method: str, network: Network) -> Prepared:
        if method == "transfer_imagenet":
            return self._from_imagenet(network)
        images, labels, source = self._source(method)
        classes = int(labels.max()) + 1
        elsewhere = architecture("convnet", self.profile.network, self.settings.architectures, images.shape[1], classes, images.shape[2])
        elsewhere.module.to(self.study.device)
        start = initial_parameters(elsewhere, self.seed, method).to(images)
        good, clock = self.profile.references.good_recipe, _Clock()

        @functools.cache
        def learned(factor: float) -> Tensor:
            recipe = recipe_of_budget(good, factor * good.learning_rate, len(images), self.budget("inside"))
            with clock:
                return train(elsewhere, start, images, labels, recipe, (self.seed, method))

        def ready(factor: float, k: int) -> Ready:
            return Ready(*self.drawn(k), transplanted(elsewhere, learned(factor), network, self.fresh(network, k)))

        about = lambda factor: {"source": source}
        return Prepared(ready, has_grid=True, images_processed=self.budget("inside"), clock=clock, about=about)

    def _source(self, method: str) -> tuple[Tensor, Tensor, str]:
        """Labelled images from elsewhere, on the device, and what they are."""
        study = self.study
        if method == "transfer_site":
            indices, labels, name = source_site(study.data)
            images = study.tensors("train")[0][torch.from_numpy(indices).to(study.device)]
            source = f"{len(labels)} labelled training images of {name}"
        else:
            if study.data.source == "phantom":
                raise Unavailable("the data is the phantom itself")
            if not 16 <= study.data.image_size_px <= 512:
                raise Unavailable(f"the phantom has 16 to 512 px, not {study.data.image_size_px}")
            asked = DataSettings(image_size_px=study.data.image_size_px, channels=study.data.channels, images=self.settings.phantom_images)
            phantom = load_data("phantom", asked, study.out / "cache")
            images, labels = torch.from_numpy(phantom.standardised(phantom.train.images)).to(study.device), phantom.train.labels
            source = f"{len(labels)} images of the phantom"
        return images, torch.from_numpy(np.asarray(labels, np.int64)).to(study.device), source

    def _from_imagenet(self, network: Network) -> Prepared:
        """The weights are in the module; its last layer is fresh."""
        theta = torch.cat([parameter.detach().flatten() for parameter in network.module.parameters()]).to(self.study.device)

        def ready(factor: None, k: int) -> Ready:
            return Ready(*self.drawn(k), transplanted(network, theta, network, self.fresh(network, k)))

        return Prepared(ready)


class _Clock:
    """Adds up the seconds spent within it."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *problem) -> None:
        self.seconds += time.monotonic() - self.began


@dataclass(frozen=True)
class Prepared:
    """What a method hands to the evaluation.

    ready: (factor of the method's own learning rate, or None; evaluation seed) -> what to train on and from where
    about: (that factor) -> what else to tell of the method
    """

    ready: Callable[[float | None, int], Ready]
    has_grid: bool = False
    own_rates: tuple[float, ...] = ()  # further learning rates of the recipe, that the method brings
    images_processed: int = 0  # by one preparation
    clock: _Clock = field(default_factory=_Clock)  # of the preparations
    about: Callable[[float | None], dict] = lambda factor: {}


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
