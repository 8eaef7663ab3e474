"""A profile's steps, each kept under the hash of what it depends on: asked for again it is read, killed it goes on."""

from __future__ import annotations

import contextlib
import functools
import logging
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medddist import metrics, processes
from medddist.compute import device_named, use_full_precision, where_computed
from medddist.data import Data, load_data
from medddist.distill import Distillation, DistillSettings, check_processes, distill
from medddist.errors import InputError
from medddist.evaluate import probabilities, random_real, trained_networks, tuned_learning_rate
from medddist.files import digest, private_folder, read_json, write_bytes, write_json
from medddist.matching import Distilled
from medddist.networks import Network, convnet
from medddist.privacy import LOCAL, fixed_scaling, stand_in
from medddist.profile import Profile
from medddist.seeds import generator
from medddist.settings import Settings
from medddist.teachers import Labelled, TeacherSettings, teacher_path, train_teacher
from medddist.training import Diverged, Recipe
from medddist.trajectories import Trajectory, load_tensors, open_trajectory, save_tensors

LOG = logging.getLogger("medddist")
Progress = Callable[[str, int, int], None]  # what is being done, done, of how many

# Raised by hand when what a step computes changes, so that no result of older code is taken for one of newer code;
# tests/test_study.py reminds of it when the source of the step's modules has changed.
VERSIONS = {"teacher": 2, "distill": 3, "scores": 2, "pretrain": 1, "compare": 1, "audit": 1, "hospitals": 1}


@dataclass(frozen=True)
class Scored:
    """A method's networks on the test part: what they said, and what that is worth."""

    method: str
    probabilities: np.ndarray  # (R, N, K)
    about: dict  # learning rate and how it was chosen, images used
    scores: dict  # `metrics.score`
    sets: np.ndarray | None = None  # (R,) which of several training sets each network had


METHODS = {
    "distilled": "distilled images",
    "initial": "the images it started from",
    "random_balanced": "random real images, balanced",
    "random_natural": "random real images, natural proportions",
    "full_teacher": "all training images, teachers' recipe",
    "full_good": "all training images, good recipe",
    "majority": "majority class",
}


class Study:
    """A profile on a data source: ask for a step and it is computed, gone on with or read, with those it needs."""

    def __init__(
        self,
        profile: Profile,
        source: str | Path = "phantom",
        out: str | Path = "build/artifacts",
        device: str = "auto",
        progress: Progress | None = None,
    ):
        self.profile, self.source, self.out = profile, source, Path(out)
        self.device = device_named(device)
        self.progress = progress or (lambda what, done, total: None)
        self._looked_for_elsewhere: set[Path] = set()
        self._unscaled: Data | None = None  # as they were loaded or handed over
        self._scaled: Data | None = None
        self._handed_over = False
        use_full_precision()

    # ---- data and networks -------------------------------------------------------------------------------------------

    def with_(self, profile: Profile | None = None, data: Data | None = None) -> Study:
        """A study of another profile, or of other data, beside this one: the one way to derive a study from a study.

        Source, folder, device and progress are the same. Data that were handed over stay; such as were loaded are loaded anew
        only where `profile.data` is another. How pixels are scaled is up to the derived study's own profile: see `data`.
        """
        found = type(self)(profile or self.profile, self.source, self.out, str(self.device), self.progress)
        found._handed_over = self._handed_over or data is not None
        if data is None and (self._handed_over or found.profile.data == self.profile.data):
            data = self._unscaled
        if data is not None:
            found._use(data)
        return found

    @property
    def data(self) -> Data:
        """The data. Under `teachers.privacy` pixels are scaled by public constants, whoever loaded or handed over the data."""
        if self._scaled is None:
            private_folder(self.out)
            self._mark_local()
            report = lambda done, total, what: self.progress(what, done, total)
            self._use(load_data(self.source, self.profile.data, self.out / "cache", report))
        return self._scaled

    @data.setter
    def data(self, data: Data) -> None:
        self._handed_over = True
        self._use(data)

    def _use(self, data: Data) -> None:
        self._unscaled = data
        self._scaled = fixed_scaling(data) if self.profile.teachers.privacy else data
        self.__dict__.pop("_tensors", None)  # of the data before

    def _mark_local(self) -> None:
        """Say in the folder of results that nothing there may be sent, where a package may."""
        marker = self.out / "KEEP-LOCAL.txt"
        if self.profile.teachers.privacy and not marker.exists():
            write_bytes(marker, (textwrap.fill(f"{LOCAL}.", 90) + "\n").encode())

    def tensors(self, part: str) -> Labelled:
        """Images (N, C, H, W), standardised, and labels (N,) of a part, on the device."""
        return self._tensors[part]

    @functools.cached_property
    def _tensors(self) -> dict[str, Labelled]:
        return {
            name: (
                torch.from_numpy(self.data.standardised(part.images)).to(self.device),
                torch.from_numpy(np.asarray(part.labels, np.int64)).to(self.device),
            )
            for name, part in self.data.parts().items()
        }

    def network(self) -> Network:
        """The profile's ConvNet, on the device."""
        with _section("network", self.profile.network):
            network = convnet(self.profile.network, self.data.channels, self.data.classes, self.data.image_size_px)
        network.module.to(self.device)
        return network

    # ---- steps -------------------------------------------------------------------------------------------------------

    def folder(self, step: str, **depends_on) -> Path:
        """Where a step's result is kept: named by all that it depends on, which is written beside it.

        That is its settings, and where it was computed: torch's version and the kind of device.
        """
        depends_on = {
            "version": VERSIONS[step],
            "data": self.data.fingerprint,
            "network": self.profile.network.what(),
        } | depends_on
        where, name = where_computed(self.device), digest(depends_on)
        folder = self.out / step / f"{name}-{where['device']}-torch-{where['torch']}"
        self._mark_local()
        if not (folder / "depends_on.json").exists():
            private_folder(self.out)
            write_json(folder / "depends_on.json", depends_on | where)
        if folder not in self._looked_for_elsewhere:
            self._looked_for_elsewhere.add(folder)
            self._tell_of_results_from_elsewhere(step, folder, name)
        return folder

    def _tell_of_results_from_elsewhere(self, step: str, folder: Path, name: str) -> None:
        """A line where a step is about to be computed again only because its result is of another torch or device."""
        if _has_result(folder) or processes.rank():
            return
        for other in sorted(folder.parent.glob(f"{name}-*")):
            if other != folder and _has_result(other):
                theirs, ours = read_json(other / "depends_on.json"), where_computed(self.device)
                LOG.warning(
                    f"{step}: is computed again: the cached result is of torch {theirs['torch']} on {theirs['device']},"
                    f" and here is torch {ours['torch']} on {ours['device']}"
                )
                return

    def _teacher_settings(self, seed: int) -> TeacherSettings:
        return self.profile.teachers.model_copy(update={"seed": seed})

    def _teachers_folder(self, settings: TeacherSettings) -> Path:
        """Shared by any number of teachers: the tenth is the same whether ten or a hundred are asked for.

        Not where they are under differential privacy: each file tells what is guaranteed for all together.
        """
        each = settings.what()
        if not settings.privacy:
            del each["teachers"]
        return self.folder("teacher", settings=each)

    def teachers(self, seed: int | None = None) -> list[Trajectory]:
        """All of a seed's teachers; of several processes, each trains its share and waits for the others'."""
        settings = self._teacher_settings(self.profile.seeds[0] if seed is None else seed)
        self.train_teachers(seed)
        processes.wait()
        folder = self._teachers_folder(settings)
        return [open_trajectory(teacher_path(folder, index)) for index in range(settings.teachers)]

    def train_teachers(self, seed: int | None = None) -> list[Trajectory]:
        """This process's share of a seed's teachers, without waiting for others; alone, it is all of them."""
        settings = self._teacher_settings(self.profile.seeds[0] if seed is None else seed)
        folder, found = self._teachers_folder(settings), []
        for index in processes.mine(settings.teachers):
            report = lambda epoch, epochs: self.progress(f"teacher {index + 1} of {settings.teachers}", epoch, epochs)  # noqa: B023
            parts = self.tensors("train"), self.tensors("validation")
            with _timed(teacher_path(folder, index)), _section("teachers.recipe", settings.recipe):
                found.append(train_teacher(self.network(), *parts, settings, index, folder, progress=report))
        return found

    def distillation(self, seed: int | None = None, images_per_class: int | None = None) -> Distillation:
        """A seed's distillation; of several processes, each takes its share of the segments and the first keeps the result."""
        seed = self.profile.seeds[0] if seed is None else seed
        settings = self._distill_settings(seed, images_per_class)
        path = self.distillation_path(seed, images_per_class)
        with _section("distill", settings):
            check_processes(settings)
        if not processes.from_the_first(path.exists):
            teachers = self.teachers(seed)
            with _timed(path), _section("distill", settings):
                result = distill(
                    self.network(),
                    *self._seen_by_distillation(settings),
                    self.data.classes,
                    teachers,
                    settings,
                    self.profile.evaluate,
                    path.with_name("unfinished.safetensors"),
                    progress=lambda done, total, loss: self.progress(f"distilling, loss {loss:.3f}", done, total),
                )
                if processes.rank() == 0:
                    _save_distillation(path, result)
                    path.with_name("unfinished.safetensors").unlink(missing_ok=True)
            processes.wait()
        return _load_distillation(path, self.device)

    def _seen_by_distillation(self, settings: DistillSettings) -> tuple[Labelled, Labelled]:
        """Training and validation part; neither, where a guarantee holds for the teachers and has to for the result."""
        if not self.profile.teachers.privacy:
            return self.tensors("train"), self.tensors("validation")
        shape = self.data.channels, self.data.image_size_px, self.data.image_size_px
        nothing = stand_in(self.data.classes, settings.images_per_class, shape, self.device)
        return nothing, nothing

    def distillation_path(self, seed: int, images_per_class: int | None = None) -> Path:
        return self._distill_folder(self._distill_settings(seed, images_per_class)) / "result.safetensors"

    def seconds(self, seed: int) -> dict[str, float]:
        """Seconds that a seed's teachers and distillation took, one after another, all sittings that ended in order together."""
        settings = self._teacher_settings(seed)
        folder = self._teachers_folder(settings)
        paths = [teacher_path(folder, index) for index in range(settings.teachers)]
        return {"teachers": sum(map(_seconds, paths)), "distillation": _seconds(self.distillation_path(seed))}

    def _distill_settings(self, seed: int, images_per_class: int | None) -> DistillSettings:
        changes = {"seed": seed} | ({"images_per_class": images_per_class} if images_per_class else {})
        return self.profile.distill.model_copy(update=changes)

    def _distill_folder(self, settings: DistillSettings) -> Path:
        return self.folder(
            "distill",
            settings=settings.what(),
            teachers=self._teacher_settings(settings.seed).what(),
            teacher_version=VERSIONS["teacher"],
            recipe=self.profile.evaluate.recipe.what(),
        )

    # ---- scores ------------------------------------------------------------------------------------------------------

    def scored(self, method: str, images_per_class: int | None = None) -> Scored:
        """One of METHODS on the test part, with `images_per_class` images a class where the method has such a number."""
        if method not in METHODS:
            raise InputError(f"method: {method!r} is not known; use one of {', '.join(METHODS)}")
        images_per_class = images_per_class or self.profile.distill.images_per_class
        folder = self.folder("scores", method=method, **self._score_depends_on(method, images_per_class))
        path = folder / "result.safetensors"
        if not path.exists():
            with _timed(path):
                said, about = getattr(self, f"_{method}")(images_per_class)
                save_tensors(path, {"probabilities": torch.from_numpy(said)}, about)
        tensors, about = load_tensors(path)
        said = tensors["probabilities"].numpy()
        sets = self._sets(method)
        return Scored(method, said, about, self._scores(said, sets), sets)

    def is_scored(self, method: str) -> bool:
        """Whether the result of `scored` exists, so that nothing is left to compute."""
        return self._scores_path(method).exists()

    def seconds_of_scores(self, method: str) -> float | None:
        """Seconds that `scored` took when it computed, with the steps it lacked; None where that was not noted."""
        return _seconds(self._scores_path(method)) or None

    def _scores_path(self, method: str) -> Path:
        depends_on = self._score_depends_on(method, self.profile.distill.images_per_class)
        return self.folder("scores", method=method, **depends_on) / "result.safetensors"

    def _score_depends_on(self, method: str, images_per_class: int) -> dict:
        profile = self.profile
        if method == "majority":
            return {}
        if method in ("full_teacher", "full_good"):
            recipe = profile.teachers.recipe if method == "full_teacher" else profile.references.good_recipe
            return {"recipe": recipe.what(), "networks": profile.references.full_networks, "seed": profile.evaluate.seed}
        shared = {"evaluate": profile.evaluate.what()}
        if method.startswith("random"):
            return shared | {
                "references": profile.references.what(),
                "images_per_class": images_per_class,
                "metric": profile.distill.selection_metric,
            }
        folders = [self._distill_folder(self._distill_settings(seed, images_per_class)).name for seed in profile.seeds]
        return shared | {"distillations": folders}

    def _sets(self, method: str) -> np.ndarray | None:
        """(R,) the seed or draw of each of a method's networks: those of one share its images."""
        references = self.profile.references
        if method in ("distilled", "initial"):
            return np.repeat(self.profile.seeds, self.profile.evaluate.networks)
        if method.startswith("random"):
            return np.repeat(range(references.draws), references.networks_per_draw)
        return None

    def _scores(self, said: np.ndarray, sets: np.ndarray | None = None) -> dict:
        test, resamples = self.data.test, self.profile.resamples
        given = said, test.labels, test.groups, self.data.class_names
        return metrics.score(*given, resamples=resamples, sets=sets)

    def _said(self, trained: list[Tensor]) -> np.ndarray:
        return probabilities(self.network(), trained, self.tensors("test")[0])

    def _from_sets(self, sets: list[tuple[tuple, Tensor, Tensor, float]], networks: int, what: str) -> np.ndarray:
        """Answers of networks trained by the evaluation's recipe on each (seed, images, labels, learning rate), pooled."""
        said = []
        for seed, images, labels, rate in sets:
            recipe = self.profile.evaluate.recipe.model_copy(update={"learning_rate": rate})
            named = (self.profile.evaluate.seed, *seed)
            try:
                trained = trained_networks(self.network(), images, labels, recipe, networks, named)
                said.append(self._said(trained))
            except Diverged:
                raise InputError(
                    f"{what}: a network diverged at the rate {rate:.3g} that was chosen on validation; lower distill.step_size for"
                    " distilled images, or take the largest of references.learning_rates out for random ones"
                ) from None
            self.progress(f"evaluating {what}", networks * len(said), networks * len(sets))
        return np.concatenate(said)

    def _distilled(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._released_sets("distilled", images_per_class, lambda result: result.distilled)

    def _initial(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._released_sets("initial", images_per_class, lambda result: result.initial)

    def _released_sets(self, what: str, images_per_class: int, choose: Callable[[Distillation], Distilled]):
        results = [self.distillation(seed, images_per_class) for seed in self.profile.seeds]
        chosen = [choose(result) for result in results]
        sets = [((what, seed), d.images, d.targets, d.step_size.item()) for seed, d in zip(self.profile.seeds, chosen)]
        about = {
            "learning_rates": [d.step_size.item() for d in chosen],
            "seeds": list(self.profile.seeds),
            "selected_iterations": [result.selected_iteration for result in results],
        }
        return self._from_sets(sets, self.profile.evaluate.networks, METHODS[what]), about

    def _random_balanced(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._random("balanced", images_per_class)

    def _random_natural(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._random("natural", images_per_class)

    def _random(self, draw: str, images_per_class: int) -> tuple[np.ndarray, dict]:
        """Random real images, `draws` times; the learning rate is tuned on validation, as the distilled set's is learned."""
        references, (images, labels) = self.profile.references, self.tensors("train")
        chosen = [
            random_real(
                labels,
                images_per_class,
                self.data.classes,
                draw,
                generator(self.profile.evaluate.seed, "random real", draw, k),
            )
            for k in range(references.draws)
        ]
        rate, tried = tuned_learning_rate(
            self.network(),
            images[chosen[0]],
            labels[chosen[0]],
            self.profile.evaluate.recipe,
            references.learning_rates,
            self.tensors("validation"),
            self.profile.distill.selection_metric,
            references.tuning_networks,
            (self.profile.evaluate.seed, draw),
        )
        sets = [((draw, k), images[indices], labels[indices], rate) for k, indices in enumerate(chosen)]
        said = self._from_sets(sets, references.networks_per_draw, METHODS[f"random_{draw}"])
        return said, {"learning_rates": [rate], "tried_on_validation": tried, "draws": references.draws}

    def _full_teacher(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._full("full_teacher", self.profile.teachers.recipe)

    def _full_good(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return self._full("full_good", self.profile.references.good_recipe)

    def _full(self, what: str, recipe: Recipe) -> tuple[np.ndarray, dict]:
        report = lambda done, total: self.progress(f"training on {METHODS[what]}", done, total)
        networks = self.profile.references.full_networks
        trained = trained_networks(
            self.network(), *self.tensors("train"), recipe, networks, (self.profile.evaluate.seed, what), report
        )
        return self._said(trained), {"learning_rates": [recipe.learning_rate]}

    def _majority(self, images_per_class: int) -> tuple[np.ndarray, dict]:
        return metrics.majority_class(self.data.train.labels, self.data.test.labels, self.data.classes), {}

    def scores_of_seed(self, seed: int) -> dict:
        """The distilled images of one of the profile's seeds alone: `metrics.score` of its networks."""
        pooled, networks = self.scored("distilled").probabilities, self.profile.evaluate.networks
        first = self.profile.seeds.index(seed) * networks
        return self._scores(pooled[first : first + networks])

    def difference(self, a: Scored, b: Scored, metric: str) -> dict:
        """How much better a is than b, with the paired interval over test groups and networks."""
        test = self.data.test
        return metrics.paired_difference(
            a.probabilities,
            b.probabilities,
            test.labels,
            test.groups,
            metric,
            resamples=max(2000, self.profile.resamples),
            sets=(a.sets, b.sets),
        )

    def table(self, methods: tuple[str, ...] = tuple(METHODS)) -> list[dict]:
        """A row a method: its scores, its learning rate, and the distilled images' lead over it."""
        scored = {method: self.scored(method) for method in methods}
        rows = []
        for method, result in scored.items():
            row = {"method": method, "label": METHODS[method], **result.about, **result.scores}
            if method != "distilled" and "distilled" in scored:
                row["distilled_lead"] = {
                    metric: self.difference(scored["distilled"], result, metric)
                    for metric in ("accuracy", "balanced_accuracy")
                }
            rows.append(row)
        return rows


def _has_result(folder: Path) -> bool:
    """Whether a step's folder holds more than what it depends on and what was stopped half-way."""
    names = (path.name for path in folder.iterdir())
    return any(name != "depends_on.json" and "unfinished" not in name and not name.startswith(".") for name in names)


@contextlib.contextmanager
def _section(name: str, settings: Settings):
    """Refusals that begin with one of these settings begin with its full name, as --set takes it."""
    try:
        yield
    except InputError as mistake:
        if str(mistake).partition(":")[0] in type(settings).model_fields:
            raise InputError(f"{name}.{mistake}") from None
        raise


@contextlib.contextmanager
def _timed(path: Path):
    """Note the seconds spent here beside `path`, the step's result; nothing where it existed before.

    A sitting that ends without the result keeps its seconds under another name, and the one that finishes
    adds them up: a note beside a result is the step's whole time, and a step without a result has none.
    Of a step that several processes share, the first process's seconds count.
    """
    shared = path.name == "result.safetensors"
    if path.exists() or (shared and processes.rank()):
        yield
        return
    unfinished = path.with_suffix(".unfinished_seconds.json")
    began, before = time.monotonic(), read_json(unfinished) if unfinished.exists() else 0.0
    total = lambda: round(before + time.monotonic() - began, 2)
    try:
        yield
    except BaseException:
        with contextlib.suppress(InputError):  # a full disk may be what stopped it
            write_json(unfinished, total())
        raise
    write_json(_note(path), total())
    unfinished.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_suffix(".seconds.json")


def _seconds(path: Path) -> float:
    """Seconds that a result took; 0.0 without a result, whatever stands beside its place."""
    return read_json(_note(path)) if path.exists() and _note(path).exists() else 0.0


def _save_distillation(path: Path, result: Distillation) -> None:
    tensors = {f"picture.{iteration}": images for iteration, images in result.pictures.items()}
    for name in ("distilled", "initial"):
        one = getattr(result, name)
        tensors |= {f"{name}.{part}": getattr(one, part) for part in ("images", "labels", "log_step_size")}
    tensors |= {name: getattr(result, name) for name in ("initial_indices", "losses", "step_sizes")}
    save_tensors(path, tensors, {"selected_iteration": result.selected_iteration, "candidates": result.candidates})


def _load_distillation(path: Path, device: torch.device) -> Distillation:
    tensors, about = load_tensors(path)
    sets = {
        name: Distilled(*(tensors[f"{name}.{part}"].to(device) for part in ("images", "labels", "log_step_size")))
        for name in ("distilled", "initial")
    }
    pictures = {int(name.split(".")[1]): images for name, images in tensors.items() if name.startswith("picture.")}
    return Distillation(
        **sets,
        selected_iteration=about["selected_iteration"],
        candidates=tuple(about["candidates"]),
        initial_indices=tensors["initial_indices"],
        losses=tensors["losses"],
        step_sizes=tensors["step_sizes"],
        pictures=dict(sorted(pictures.items())),
    )
