"""A sweep: one study at every point of a few axes, and one tidy table of the results.

Points share cached results: a seed's teachers serve every number of images per class.
`workflow/sweep.smk` says which point needs what, and runs each as a notebook.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from medddist.base.errors import InputError
from medddist.base.settings import Settings, parsed
from medddist.measure import metrics
from medddist.study.profile import changes_from, load_profile, settings_in
from medddist.study.scores import METHODS
from medddist.study.study import Study

WITHOUT_SIZE = ("full_teacher", "full_good", "majority")  # they have no images per class


class Sweep(Settings):
    """The axes of a sweep over a profile."""

    profile: str
    overrides: str = ""  # `name=value`, separated by spaces, as notebooks take them
    data: tuple[str, ...] = ()  # sources; empty for the one that the command names
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
    """One point of a sweep; `images_per_class` is 0 for a method that has no such number."""

    data: str
    method: str
    images_per_class: int
    seed: int

    @property
    def name(self) -> str:
        """What its notebook and its files are called."""
        return f"{name_of_data(self.data)}-{self.method}-{self.images_per_class}-{self.seed}"


def load_sweep(path: str | Path, data: str) -> Sweep:
    """Load a sweep from a .yaml file, on `data` where it names no source itself.

    Raises:
        InputError: for what a profile refuses, and for two sources of one name.
    """
    try:
        values = settings_in(Path(path), "profile: demo")
    except FileNotFoundError:
        remedy = "give the name of one in workflow/sweeps, or a path"
        raise InputError("sweep", f"there is no file {path}", remedy) from None
    values["data"] = values.get("data") or [data]
    sweep = parsed(Sweep, values, f"sweep {Path(path).stem}")
    names = list(map(name_of_data, sweep.data))
    if len(set(names)) < len(names):
        reason = f"data: two sources have one name ({', '.join(names)})"
        raise InputError(f"sweep {Path(path).stem}", reason, "rename one")
    load_profile(sweep.profile, changes_from(sweep.overrides.split()))
    return sweep


def name_of_data(source: str) -> str:
    """Derive a name that is safe in file names."""
    return re.sub(r"[^\w.]", "_", Path(source).stem) or "data"


def points(sweep: Sweep) -> Iterator[Point]:
    """Yield all points; those that differ by their seed alone follow one another."""
    for data, method in itertools.product(sweep.data, sweep.methods):
        sizes = (0,) if method in WITHOUT_SIZE else sweep.images_per_class
        for size, seed in itertools.product(sizes, sweep.seeds):
            yield Point(data, method, size, seed)


def changes_at(seed: int, images_per_class: int = 0) -> dict[str, Any]:
    """Return a point's changes of its profile; all that is random comes from its seed."""
    size = {"distill.images_per_class": images_per_class} if images_per_class else {}
    return {"seeds": [seed], "evaluate.seed": seed, "images_per_class": []} | size


def study_at(point: Point, sweep: Sweep, out: str | Path, device: str = "auto") -> Study:
    """Open the study of a point.

    Args:
        point: of the sweep.
        sweep: with the profile and its overrides.
        out: the folder of results.
        device: where it is computed.
    """
    changes = changes_from(sweep.overrides.split())
    changes |= changes_at(point.seed, point.images_per_class)
    return Study(load_profile(sweep.profile, changes), point.data, out, device)


def table(sweep: Sweep, out: str | Path, device: str = "auto") -> pd.DataFrame:
    """Tabulate a sweep: a row per data source, method, images per class, seed and metric.

    Missing points are computed.

    Returns:
        Columns data, method, label, images_per_class (missing for a method without), images, seeds
        ("0", or "0 1" for the networks of several seeds together), networks, metric, mean, std, low
        and high (95 %, see `metrics`).
    """
    rows = []
    but_for_seed = lambda point: (point.data, point.method, point.images_per_class)
    for (data, method, size), alike in itertools.groupby(points(sweep), but_for_seed):
        studies = {str(point.seed): study_at(point, sweep, out, device) for point in alike}
        scored = {seed: study.scored(method) for seed, study in studies.items()}
        answers = {seed: (of.probabilities, of.sets) for seed, of in scored.items()}
        if len(answers) > 1:
            pooled = np.concatenate([of.probabilities for of in scored.values()])
            answers[" ".join(answers)] = pooled, _pooled_sets([of.sets for of in scored.values()])
        any_study = next(iter(studies.values()))  # their test parts are the same
        about = {"data": name_of_data(data), "method": method, "label": METHODS[method]}
        about |= {"images_per_class": size or None, "images": size * any_study.data.classes or None}
        for seeds, (probabilities, sets) in answers.items():
            scores = any_study.score(probabilities, sets)
            shared = about | {"seeds": seeds, "networks": len(probabilities)}
            rows += [shared | {"metric": name, **scores[name]} for name in metrics.METRICS]
    return pd.DataFrame(rows).astype({"images_per_class": "Int64", "images": "Int64"})


def _pooled_sets(each: list[np.ndarray | None]) -> np.ndarray | None:
    """(R,) the training set of each network of several points, which share none."""
    if any(sets is None for sets in each):
        return None
    named = [f"{point} {number}" for point, sets in enumerate(each) for number in sets]
    return np.unique(named, return_inverse=True)[1]
