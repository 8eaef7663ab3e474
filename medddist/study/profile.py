"""A profile: all settings of a study, by name from the package or from a file, with changes."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, model_validator

from medddist.base.errors import InputError
from medddist.base.names import closest, closest_beside, did_you_mean
from medddist.base.settings import Settings, parsed
from medddist.data import DataSettings
from medddist.method.distill import DistillSettings
from medddist.method.evaluate import EvaluateSettings
from medddist.method.networks import NetworkSettings
from medddist.method.private.dp_sgd import refuse_unprotected
from medddist.method.teachers import TeacherSettings
from medddist.study import settings


class Profile(Settings):
    """All settings of a study. `seeds`: each trains its own teachers and distils from them.

    `methods`: by the name of a method, what changes with `distill.method`, so that setting the
    method is enough: {"trajectory": {"distill.outer_optimiser": "sgd"}}.
    """

    name: str  # in the names of records
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    teachers: TeacherSettings = TeacherSettings()
    distill: DistillSettings = DistillSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    references: settings.ReferenceSettings = settings.ReferenceSettings()
    compare: settings.CompareSettings = settings.CompareSettings()
    audit: settings.AuditSettings = settings.AuditSettings()
    leakage: settings.LeakageSettings = settings.LeakageSettings()
    hospitals: settings.HospitalSettings = settings.HospitalSettings()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    left_out: tuple[settings.LeftOut, ...] = ()  # what the tables of scores do without
    images_per_class: tuple[PositiveInt, ...] = ()  # further sizes, for the table over sizes
    methods: dict[str, dict[str, Any]] = {}
    # By name, changes such as {"distill.iterations": 10}; `medddist results` measures each.
    variants: dict[str, dict[str, Any]] = {}
    resamples: int = Field(1000, ge=100)  # of the test groups behind every interval

    @property
    def guarantees(self) -> bool:
        """Whether differential privacy bounds what the released set says of the real images."""
        return bool(self.teachers.privacy) or self.distill.method == "private"

    @model_validator(mode="after")
    def _teachers_reach_as_far_as_matching_reads(self):
        distill, kept = self.distill, self.teachers.kept_epochs
        if distill.follows_teachers and distill.last_epoch_read > kept:
            start, expert = distill.max_start_epoch, distill.expert_epochs
            read = f"distill.max_start_epoch {start} and distill.expert_epochs {expert} need "
            needed = f"teachers to epoch {distill.last_epoch_read}"
            remedy = "lower them, or raise it (teachers are then trained anew)"
            raise ValueError(f"{read}{needed}, and teachers.kept_epochs is {kept}; {remedy}")
        return self

    @model_validator(mode="after")
    def _nothing_undoes_the_guarantee(self):
        if self.teachers.privacy:
            refuse_unprotected(self.teachers, self.distill)
        if self.distill.method == "private" and self.data.split != "hashed":
            reason = "distill.method: private needs a split in which no image decides for another"
            raise ValueError(f"{reason}; set data.split to hashed")
        return self

    def changed(self, changes: dict[str, Any]) -> Profile:
        """Copy the profile with changes such as {"distill.iterations": 10}.

        Raises:
            InputError: as `load_profile` does.
        """
        return _with(changes, self.model_dump(mode="json"), self.name)


def profile_names() -> list[str]:
    """List the profiles of the package."""
    files = (file.name for file in resources.files("medddist.profiles").iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """Load a profile of the package by name, or a .yaml file.

    Args:
        name: of the profile, or the path of the file.
        changes: such as {"distill.iterations": 10}.

    Raises:
        InputError: for an unknown profile or setting, and for a bad value.
    """
    own = name.endswith((".yaml", ".yml"))
    path = Path(name) if own else resources.files("medddist.profiles") / f"{name}.yaml"
    if not path.is_file():
        raise InputError("profile", f"{name!r} is not known", _profile_meant(name, own))
    values = {"name": Path(str(path)).stem} | settings_in(path, "name: mine")
    return _with(changes or {}, values, name)


def _profile_meant(name: str, own: bool) -> str:
    """What to do about an unknown profile: a built-in one or a file beside it may be meant."""
    meant = "" if own else closest(name, profile_names())
    meant = meant or closest_beside(Path(name if own else f"{name}.yaml"), (".yaml", ".yml"))
    otherwise = f"use one of {', '.join(profile_names())}, or the path of a .yaml file"
    return did_you_mean(meant, otherwise)


def settings_in(path: Path | Traversable, example: str) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        InputError: it is not valid YAML, or holds no settings; `example` is such a line.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as invalid:
        raise InputError(path, f"is not valid YAML ({str(invalid).splitlines()[0]})") from None
    if not isinstance(values, dict):
        remedy = f"write one setting per line, such as `{example}`"
        raise InputError(path, "holds no settings", remedy)
    return values


def _with(changes: dict[str, Any], values: dict, name: str) -> Profile:
    """Set `changes` in a profile's values, which are checked then.

    A change of the method brings what the profile says under `methods` with it, and is stronger.
    """
    method, of_methods = changes.get("distill.method"), values.get("methods")
    if isinstance(of_methods, dict) and isinstance(of_methods.get(method), dict):
        changes = of_methods[method] | changes
    for setting, value in changes.items():
        *parents, last = setting.split(".")
        section = values
        for parent in parents:
            if section.get(parent) is None:  # absent, or a name with nothing after it
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                raise InputError(setting, f"{parent} holds no further settings")
        section[last] = value
    return parsed(Profile, values, f"profile {name}")


def changes_from(assignments: list[str]) -> dict[str, Any]:
    """Parse ["distill.iterations=10"] to {"distill.iterations": 10}; values are YAML.

    Raises:
        InputError: for what is not name=value.
    """
    changes = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            remedy = "write, for example, distill.iterations=100"
            raise InputError("set", f"{assignment!r} is not name=value", remedy)
        try:
            changes[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            remedy = "quote text that contains special characters"
            raise InputError("set", f"{name}: {value!r} is not a value", remedy) from None
    return changes
