"""A sweep: one study at every point of a few axes, and one tidy table of what came out.

The points are independent but for what they share by its hash: a seed's teachers serve every number of images a class.
`workflow/sweep.smk` says which point needs what, and runs each as a notebook.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from medddist import metrics
from medddist.errors import InputError
from medddist.profile import changes_from, load_profile
from medddist.settings import Settings, parsed
from medddist.study import METHODS, Progress, Study

WITHOUT_SIZE = ("full_teacher", "full_good", "majority")  # methods that no number of images a class changes


class Sweep(Settings):
    """The axes, over a profile with `overrides` (`name=value`, separated by spaces, as notebooks take them)."""

    profile: str
    overrides: str = ""
    data: tuple[str, ...] = ()  # sources; none: the one that the command names
    methods: tuple[str, ...] = Field(("distilled",), min_length=1)
    images_per_class: tuple[PositiveInt, ...] = Field(min_length=1)
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)

    @field_validator("methods")
    @classmethod
    def _known(cls, methods):
        unknown = [method for method in methods if method not in METHODS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not known; use some of {', '.join(METHODS)}")
        return methods


@dataclass(frozen=True)
class Point:
    """One place of a sweep; `images_per_class` is 0 for a method that has no such number."""

    data: str
    method: str
    images_per_class: int
    seed: int

    @property
    def name(self) -> str:
        return f"{name_of_data(self.data)}-{self.method}-{self.images_per_class}-{self.seed}"


def load_sweep(path: str | Path, data: str) -> Sweep:
    """A sweep from a .yaml file, on `data` where it names no source itself.

    Raises InputError for what a profile refuses, and for two sources of one name.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"sweep: there is no file {path}; give the name of one in workflow/sweeps, or a path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as broken:
        raise InputError(f"{path}: is not valid YAML ({str(broken).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no settings; write one setting a line, such as `profile: demo`")
    values["data"] = values.get("data") or [data]
    sweep = parsed(Sweep, values, f"sweep {Path(path).stem}")
    names = [name_of_data(source) for source in sweep.data]
    if len(set(names)) < len(names):
        raise InputError(f"sweep {Path(path).stem}: data: two sources have one name ({', '.join(names)}); rename one")
    load_profile(sweep.profile, changes_from(sweep.overrides.split()))
    return sweep


def name_of_data(source: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in Path(source).stem) or "data"


def points(sweep: Sweep) -> Iterator[Point]:
    for data, method in itertools.product(sweep.data, sweep.methods):
        sizes = (0,) if method in WITHOUT_SIZE else sweep.images_per_class
        yield from (Point(data, method, size, seed) for size, seed in itertools.product(sizes, sweep.seeds))


def changes_at(seed: int, images_per_class: int = 0) -> dict[str, Any]:
    """What a point changes in its profile: whatever is random there comes from its seed."""
    size = {"distill.images_per_class": images_per_class} if images_per_class else {}
    return {"seeds": [seed], "evaluate.seed": seed, "images_per_class": []} | size


def study_at(
    point: Point, sweep: Sweep, out: str | Path, device: str = "auto", progress: Progress | None = None
) -> Study:
    profile = load_profile(
        sweep.profile, changes_from(sweep.overrides.split()) | changes_at(point.seed, point.images_per_class)
    )
    return Study(profile, point.data, out, device, progress)


def table(sweep: Sweep, out: str | Path, device: str = "auto") -> pd.DataFrame:
    """The tidy table: a row for every data source, method, number of images a class, seed and metric.

    Columns: data, method, label, images_per_class (missing for a method without), images, seeds ("0", or "0 1" for the networks
    of several seeds together), networks, metric, mean, std, low and high (95 %, see `metrics`).
    Points that were not computed yet are computed.
    """
    rows = []
    but_for_seed = lambda point: (point.data, point.method, point.images_per_class)
    for (data, method, size), alike in itertools.groupby(points(sweep), but_for_seed):
        studies = {str(point.seed): study_at(point, sweep, out, device) for point in alike}
        scored = {seed: study.scored(method) for seed, study in studies.items()}
        said = {seed: (one.probabilities, one.sets) for seed, one in scored.items()}
        if len(said) > 1:
            pooled = np.concatenate([one.probabilities for one in scored.values()])
            said[" ".join(said)] = pooled, _pooled_sets([one.sets for one in scored.values()])
        any_study = next(iter(studies.values()))  # of one profile and one source: their test parts are the same
        about = {"data": name_of_data(data), "method": method, "label": METHODS[method]}
        about |= {"images_per_class": size or None, "images": size * any_study.data.classes or None}
        for seeds, (networks, sets) in said.items():
            rows += _rows(about, seeds, networks, sets, any_study)
    return pd.DataFrame(rows).astype({"images_per_class": "Int64", "images": "Int64"})


def _pooled_sets(each: list[np.ndarray | None]) -> np.ndarray | None:
    """(R,) the set of each network of several points, whose sets are different ones."""
    if any(sets is None for sets in each):
        return None
    named = [f"{point} {number}" for point, sets in enumerate(each) for number in sets]
    return np.unique(named, return_inverse=True)[1]


def _rows(
    about: dict, seeds: str, said: np.ndarray, sets: np.ndarray | None, study: Study
) -> list[dict]:
    test, resamples = study.data.test, study.profile.resamples
    given = said, test.labels, test.groups, study.data.class_names
    scores = metrics.score(*given, resamples=resamples, sets=sets)
    shared = about | {"seeds": seeds, "networks": len(said)}
    return [shared | {"metric": metric, **scores[metric]} for metric in metrics.METRICS]
