"""A profile: all settings of a study, by name from the package or from a file, with changes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from medddist.architectures import ARCHITECTURES, ArchitectureSettings
from medddist.baselines.condensing import CondenseSettings
from medddist.baselines.pretraining import PretrainSettings
from medddist.audit import AuditSettings
from medddist.data import DataSettings
from medddist.distill import DistillSettings
from medddist.errors import InputError
from medddist.evaluate import EvaluateSettings
from medddist.hospitals import HospitalSettings
from medddist.leakage import LeakageSettings
from medddist.networks import NetworkSettings
from medddist.privacy import refuse_unprotected
from medddist.settings import Settings, parsed
from medddist.teachers import TeacherSettings
from medddist.training import Recipe


class ReferenceSettings(Settings):
    """What the distilled set is held against: random real images, and the full training part by two recipes."""

    draws: int = Field(5, ge=1)  # of random real images, balanced and in natural proportions each
    networks_per_draw: int = Field(1, ge=1)
    learning_rates: tuple[PositiveFloat, ...] = Field((0.003, 0.01, 0.03, 0.1), min_length=1)  # tried on validation for the random real images
    tuning_networks: int = Field(2, ge=1)
    full_networks: int = Field(3, ge=1)
    good_recipe: Recipe = Recipe(
        epochs=30,
        batch_size=256,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        sampling="balanced",
    )


class CompareSettings(Settings):
    """How the comparison measures every method; see `compare`."""

    evaluation_seeds: int = Field(5, ge=2)  # each with a draw of labelled images of its own, and fresh networks
    epochs: int | None = Field(None, ge=1)  # of the evaluation's recipe; None: as many as it has
    batch_size: int | None = Field(None, ge=1)  # of that recipe; smaller batches take more steps for the same arithmetic
    learning_rates: tuple[PositiveFloat, ...] = Field((0.01, 0.03, 0.1), min_length=1)  # of that recipe, tried on validation
    grid: tuple[PositiveFloat, ...] = Field((0.3, 1.0), min_length=1)  # factors of a method's own learning rate, tried on validation
    tuning_networks: int = Field(1, ge=1)  # a point of the grid
    contrastive_networks: tuple[Literal["convnet", "resnet18", "vit"], ...] = ("convnet", "resnet18", "vit")
    unseen_networks: tuple[Literal[tuple(ARCHITECTURES)], ...] = ("convnet_wide", "convnet_shallow", "resnet18", "vgg11", "alexnet", "vit", "mlp")
    architectures: ArchitectureSettings = ArchitectureSettings()
    pretrain: PretrainSettings = PretrainSettings()
    condense: CondenseSettings = CondenseSettings()
    imagenet_weights: str | None = None  # torchvision's file for ResNet-18; None: its cache
    resamples: int = Field(2000, ge=100)  # of the test groups behind each paired difference
    phantom_images: int = Field(5000, ge=100)  # that transfer from the phantom to other data learns from


class Profile(Settings):
    """All settings of a study. `seeds`: each trains its own teachers and distils from them."""

    name: str
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    teachers: TeacherSettings = TeacherSettings()
    distill: DistillSettings = DistillSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    references: ReferenceSettings = ReferenceSettings()
    compare: CompareSettings = CompareSettings()
    audit: AuditSettings = AuditSettings()
    leakage: LeakageSettings = LeakageSettings()
    hospitals: HospitalSettings = HospitalSettings()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    images_per_class: tuple[PositiveInt, ...] = ()  # further sizes for the table over numbers of images a class
    variants: dict[
        str, dict[str, Any]
    ] = {}  # by name, changes such as {"distill.iterations": 10}; `medddist results` measures each
    resamples: int = Field(1000, ge=100)  # of the test groups behind every interval

    @model_validator(mode="after")
    def _teachers_reach_as_far_as_matching_reads(self):
        needed, kept = self.distill.last_epoch_read, self.teachers.kept_epochs
        if needed > kept:
            raise ValueError(
                f"distill.max_start_epoch {self.distill.max_start_epoch} and distill.expert_epochs {self.distill.expert_epochs} need"
                f" teachers to epoch {needed}, and teachers.kept_epochs is {kept}; lower them, or raise it (teachers are then"
                " trained anew)"
            )
        return self

    @model_validator(mode="after")
    def _nothing_undoes_the_guarantee(self):
        if self.teachers.privacy:
            refuse_unprotected(self.teachers, self.distill)
        return self

    def changed(self, changes: dict[str, Any]) -> Profile:
        """This profile with changes such as {"distill.iterations": 10}; InputError as `load_profile`."""
        values = self.model_dump(mode="json")
        for setting, value in changes.items():
            _set(values, setting, value)
        return parsed(Profile, values, f"profile {self.name}")


def profile_names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("medddist.profiles").iterdir()
        if entry.name.endswith(".yaml")
    )


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """A profile of the package by name, or a .yaml file, with `changes` such as {"distill.iterations": 10}.

    Raises InputError for an unknown profile or setting and for a bad value.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else resources.files("medddist.profiles") / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"profile: {name!r} is not known; use one of {', '.join(profile_names())}, or the path of a .yaml file"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as broken:
        raise InputError(f"{path}: is not valid YAML ({str(broken).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no settings; write one setting a line, such as `name: mine`")
    values.setdefault("name", Path(str(path)).stem)
    for setting, value in (changes or {}).items():
        _set(values, setting, value)
    return parsed(Profile, values, f"profile {name}")


def _set(values: dict, setting: str, value: Any) -> None:
    *parents, last = setting.split(".")
    for parent in parents:
        if values.get(parent) is None:  # absent, or a name with nothing after it
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise InputError(f"{setting}: {parent} holds no further settings")
    values[last] = value


def changes_from(assignments: list[str]) -> dict[str, Any]:
    """{"distill.iterations": 10} from ["distill.iterations=10"]; values are read as YAML."""
    changes = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise InputError(f"set: {assignment!r} is not name=value; write, for example, distill.iterations=100")
        try:
            changes[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(
                f"set: {name}: {value!r} is not a value; quote text that holds special characters"
            ) from None
    return changes
