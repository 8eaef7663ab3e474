"""A study: a profile on a data source, whose steps are computed once and then read."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medddist.base import processes
from medddist.base.compute import device_named, use_full_precision
from medddist.base.errors import InputError
from medddist.base.progress import Progress, silent
from medddist.base.settings import Settings
from medddist.base.tensors import load_tensors, save_tensors
from medddist.baselines.initial import initial_set
from medddist.data import Data, load_data
from medddist.measure import metrics
from medddist.method.distill import Ask, Distillation, DistillSettings, check_processes, distill
from medddist.method.distilled import Distilled
from medddist.method.iterations import along_teachers, on_real_images
from medddist.method.networks import Network, NetworkSettings, convnet
from medddist.method.private.dp_sgd import LOCAL, fixed_scaling, stand_in
from medddist.method.teachers import TeacherSettings, teacher_path, train_teacher
from medddist.method.training import Labelled
from medddist.method.trajectories import Trajectory, open_trajectory
from medddist.study import labels, private, scores
from medddist.study.profile import Profile
from medddist.study.scores import Scored
from medddist.study.store import VERSIONS, Store, seconds_of

DISTILLED_PARTS = ("images", "labels", "log_step_size")
COURSE = ("initial_indices", "losses", "step_sizes")  # tensors of a distillation besides its sets


class Study:
    """A profile on a data source: ask for a step, and it is computed, resumed or read.

    Args:
        profile: all settings.
        source: the data, as `load_data` takes it.
        out: the folder of results.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        progress: called while a step is computed.
    """

    def __init__(
        self,
        profile: Profile,
        source: str | Path = "phantom",
        out: str | Path = "build/artifacts",
        device: str = "auto",
        progress: Progress = silent,
    ):
        self.profile, self.source, self.out = profile, source, Path(out)
        self.device, self.progress = device_named(device), progress
        self._loaded: Data | None = None  # as loaded or handed over, before privacy scales it
        self._data: Data | None = None
        self._handed_over = False
        use_full_precision()

    # ---- data and networks -----------------------------------------------------------------------

    def with_(self, profile: Profile | None = None, data: Data | None = None) -> Study:
        """Derive a study of another profile, or of other data: the one way to do so.

        Source, folder, device and progress stay. Data that were handed over stay too; loaded data
        are loaded again where `profile.data` differs. The derived study's own profile decides how
        its pixels are scaled.
        """
        chosen = profile or self.profile
        derived = type(self)(chosen, self.source, self.out, str(self.device), self.progress)
        derived._handed_over = self._handed_over or data is not None
        if data is None and (self._handed_over or chosen.data == self.profile.data):
            data = self._loaded
        if data is not None:
            derived._use(data)
        return derived

    @property
    def data(self) -> Data:
        """The data; with a guarantee, always scaled by public constants."""
        if self._data is None:
            given = self.source, self.profile.data, self.out / "cache", self.progress
            with Store(self.out, self.device, {}, self._notice).marked():
                self._use(load_data(*given))
        return self._data

    @data.setter
    def data(self, data: Data) -> None:
        """Use other data in place of those of the source."""
        self._handed_over = True
        self._use(data)

    def _use(self, data: Data) -> None:
        self._loaded = data
        self._data = fixed_scaling(data) if self.profile.guarantees else data
        for name in ("_tensors", "store"):  # of the data before
            self.__dict__.pop(name, None)

    @property
    def _notice(self) -> str:
        return LOCAL if self.profile.guarantees else ""

    @functools.cached_property
    def store(self) -> Store:
        """Cached results of this study."""
        network = self.profile.network.as_json()
        shared = {"data": self.data.fingerprint, "network": network}
        return Store(self.out, self.device, shared, self._notice)

    def tensors(self, part: str) -> Labelled:
        """Return a part's images (N, C, H, W), standardised, and labels (N,), on the device."""
        return self._tensors[part]

    @functools.cached_property
    def _tensors(self) -> dict[str, Labelled]:
        tensors = {}
        for name, part in self.data.parts().items():
            images = torch.from_numpy(self.data.standardised(part.images))
            labels = torch.from_numpy(np.asarray(part.labels, np.int64))
            tensors[name] = images.to(self.device), labels.to(self.device)
        return tensors

    def network(self, settings: NetworkSettings | None = None) -> Network:
        """Return the profile's ConvNet, or one of other settings, on the device."""
        data, settings = self.data, settings or self.profile.network
        with _section("network", settings):
            network = convnet(settings, data.channels, data.classes, data.image_size_px)
        network.module.to(self.device)
        return network

    # ---- teachers --------------------------------------------------------------------------------

    def teachers(self, seed: int | None = None) -> list[Trajectory]:
        """Return all of a seed's teachers; each of several processes trains its share and waits."""
        self.train_teachers(seed)
        processes.wait()
        return [open_trajectory(path) for path in self.teacher_paths(seed)]

    def train_teachers(self, seed: int | None = None) -> list[Trajectory]:
        """Train this process's share of a seed's teachers, without waiting for other processes."""
        settings, paths = self._teacher_settings(seed), self.teacher_paths(seed)
        depends_on, trained = self._teacher_depends_on(settings), []
        for index in processes.mine(settings.teachers):
            parts = self.tensors("train"), self.tensors("validation")
            computing = self.store.computing(paths[index], "teacher", **depends_on)
            with computing, _section("teachers.recipe", settings.recipe):
                given = self.network(), *parts, settings, index, paths[index].parent
                trained.append(train_teacher(*given, progress=self.progress))
        return trained

    def teacher_paths(self, seed: int | None = None) -> list[Path]:
        """Return the files of a seed's teachers, whether or not they exist."""
        settings = self._teacher_settings(seed)
        path = self.store.path("teacher", **self._teacher_depends_on(settings))
        return [teacher_path(path.parent, index) for index in range(settings.teachers)]

    def _teacher_settings(self, seed: int | None) -> TeacherSettings:
        return self.profile.teachers.model_copy(update={"seed": self._seed(seed)})

    def _seed(self, seed: int | None) -> int:
        return self.profile.seeds[0] if seed is None else seed

    def _teacher_depends_on(self, settings: TeacherSettings) -> dict:
        """A teacher does not depend on how many there are, except for its privacy guarantee."""
        values = settings.as_json()
        if not settings.privacy:
            del values["teachers"]
        return {"settings": values}

    # ---- distillation ----------------------------------------------------------------------------

    def distillation(
        self, seed: int | None = None, images_per_class: int | None = None
    ) -> Distillation:
        """Return a seed's distillation.

        Of several processes, each takes its share of the segments and the first keeps the result.
        """
        settings = self._distill_settings(seed, images_per_class)
        path = self.distillation_path(seed, images_per_class)
        with _section("distill", settings):
            check_processes(settings)
        if not processes.from_the_first(path.exists):
            asked = None if settings.method == "private" else self._asked(settings)
            depends_on = self._distill_depends_on(settings)
            computing = self.store.computing(path, "distill", **depends_on)
            with computing, _section("distill", settings):
                result = self._distilled(settings, asked, path)
                if processes.rank() == 0:
                    _save_distillation(path, result)
                    _unfinished(path).unlink(missing_ok=True)
            processes.wait()
        return _load_distillation(path, self.device)

    def _asked(self, settings: DistillSettings) -> Ask:
        """What an iteration asks; the teachers and networks that it needs are trained first."""
        teachers = self.teachers(settings.seed) if settings.follows_teachers else None
        if settings.asks_networks:
            if processes.rank() == 0:
                labels.label_temperature(self)
            processes.wait()
        with _section("distill", settings):
            if settings.method == "trajectory":
                return along_teachers(self.network(), teachers, settings)
            training = self.tensors("train")
            by_networks = settings.real_targets == "teachers"
            targets = labels.teachers_probabilities(self) if by_networks else training[1]
            networks = [self.network(), *map(self.network, settings.student_networks)]
            given = networks, training, targets, settings, self.profile.evaluate.recipe
            return on_real_images(*given, teachers)

    def _distilled(self, settings: DistillSettings, ask: Ask | None, path: Path) -> Distillation:
        """Distil by the method; the released images have 256 levels, as they are sent."""
        if ask is None:
            result = private.distilled_privately(self, settings)
        else:
            result = self._by_students(settings, ask, path)
        scaling, released = self.data.scaling, result.distilled
        as_sent = scaling.apply(scaling.levels(released.images))
        return replace(result, distilled=replace(released, images=as_sent))

    def _by_students(self, settings: DistillSettings, ask: Ask, path: Path) -> Distillation:
        """Distil; where a guarantee holds for the teachers, no real image is looked at."""
        training, validation = self.tensors("train"), self.tensors("validation")
        if self.profile.teachers.privacy:
            size_px, per_class = self.data.image_size_px, settings.images_per_class
            shape = self.data.channels, size_px, size_px
            training = validation = stand_in(self.data.classes, per_class, shape, self.device)
        label = labels.soft_labels(self) if settings.labels != "hard" else None
        features = lambda: labels.features(self)
        initial = initial_set(training, self.data.classes, settings, features, label)
        given = self.network(), *initial, validation, ask, settings, self.profile.evaluate
        return distill(*given, _unfinished(path), progress=self.progress)

    def distillation_path(
        self, seed: int | None = None, images_per_class: int | None = None
    ) -> Path:
        """Return the file of a seed's distillation, whether or not it exists."""
        settings = self._distill_settings(seed, images_per_class)
        return self.store.path("distill", **self._distill_depends_on(settings))

    def distillation_name(
        self, seed: int | None = None, images_per_class: int | None = None
    ) -> str:
        """Return a name of all that a seed's distilled set depends on."""
        return self.distillation_path(seed, images_per_class).parent.name

    def _distill_settings(self, seed: int | None, images_per_class: int | None) -> DistillSettings:
        size = images_per_class or self.profile.distill.images_per_class
        changes = {"seed": self._seed(seed), "images_per_class": size}
        return self.profile.distill.model_copy(update=changes)

    def _distill_depends_on(self, settings: DistillSettings) -> dict:
        depends_on = {"settings": settings.read()}
        depends_on |= {"recipe": self.profile.evaluate.recipe.as_json()}
        if settings.follows_teachers:
            depends_on |= {"teachers": self._teacher_settings(settings.seed).as_json()}
            depends_on |= {"teacher_version": VERSIONS["teacher"]}
        if settings.asks_networks:
            depends_on |= {"networks": labels.depends_on(self)}
        if settings.method == "private":
            depends_on |= {"versions": [VERSIONS["public"], VERSIONS["release"]]}
            depends_on |= private.phantom_depends_on(self)
        return depends_on

    def seconds(self, seed: int) -> dict[str, float]:
        """Return the seconds of a seed's teachers, of the networks that label, and of distilling.

        Interruptions are left out, and so is what the distillation does not need.
        """
        settings = self._distill_settings(seed, None)
        teachers = self.teacher_paths(seed) if settings.follows_teachers else []
        networks = labels.paths(self) if settings.asks_networks else []
        return {
            "teachers": sum(map(seconds_of, teachers)),
            "networks": sum(map(seconds_of, networks)),
            "distillation": seconds_of(self.distillation_path(seed)),
        }

    # ---- scores ----------------------------------------------------------------------------------

    def score(self, probabilities: np.ndarray, sets: np.ndarray | None = None) -> dict:
        """Score networks on the test part by `metrics.score`.

        Args:
            probabilities: (R, N, K) of R networks.
            sets: (R,) the training set of each network; None for one set or independent networks.
        """
        test, resamples = self.data.test, self.profile.resamples
        given = probabilities, test.labels, test.groups, self.data.class_names
        return metrics.score(*given, resamples=resamples, sets=sets)

    def scored(self, method: str, images_per_class: int | None = None) -> Scored:
        """Score one of METHODS on the test part; see `scores.scored`."""
        return scores.scored(self, method, images_per_class)

    def is_scored(self, method: str) -> bool:
        """Say whether the result of `scored` is cached."""
        return scores.scores_path(self, method).exists()

    def scores_of_seed(self, seed: int) -> dict:
        """Score the distilled images of one seed alone."""
        pooled, networks = self.scored("distilled").probabilities, self.profile.evaluate.networks
        first = self.profile.seeds.index(seed) * networks
        return self.score(pooled[first : first + networks])

    def table(self, methods: tuple[str, ...] | None = None) -> list[dict]:
        """Return a row per method (None: `scores.methods_of`): its scores, and the difference."""
        return scores.table(self, methods)


@contextlib.contextmanager
def _section(name: str, settings: Settings) -> Iterator[None]:
    """Name a refused setting in full, as --set takes it."""
    try:
        yield
    except InputError as mistake:
        if mistake.subject in type(settings).model_fields:
            raise mistake.within(name) from None
        raise


def _unfinished(path: Path) -> Path:
    return path.with_name("unfinished.safetensors")


def _save_distillation(path: Path, result: Distillation) -> None:
    tensors = {f"picture.{iteration}": images for iteration, images in result.pictures.items()}
    for name in ("distilled", "initial"):
        released = getattr(result, name)
        tensors |= {f"{name}.{part}": getattr(released, part) for part in DISTILLED_PARTS}
    tensors |= {name: getattr(result, name) for name in COURSE}
    about = {"selected_iteration": result.selected_iteration, "candidates": result.candidates}
    save_tensors(path, tensors, about)


def _load_distillation(path: Path, device: torch.device) -> Distillation:
    tensors, about = load_tensors(path)
    parts_of = lambda name: (tensors[f"{name}.{part}"].to(device) for part in DISTILLED_PARTS)
    values = {name: Distilled(*parts_of(name)) for name in ("distilled", "initial")}
    values |= {name: tensors[name] for name in COURSE} | about
    pictured = (name.partition(".")[2] for name in tensors if name.startswith("picture."))
    values["pictures"] = {k: tensors[f"picture.{k}"] for k in sorted(map(int, pictured))}
    return Distillation(**values | {"candidates": tuple(about["candidates"])})
