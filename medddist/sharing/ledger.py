"""A ledger adds up what was released from the same data, and refuses what is beyond its budget.

Its owner keeps it beside the data, never in a package. Releases by Gaussian noise compose in zCDP:

    rho = sum over releases of 1 / (2 noise^2),    epsilon = the bound of rho at the ledger's delta

with noise the standard deviation per unit of sensitivity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat

from medddist.base.errors import InputError
from medddist.base.files import locked, read_json, write_json
from medddist.base.settings import Settings, parsed
from medddist.method.private.release import epsilon_by_formula
from medddist.sharing.guarantees import Released
from medddist.sharing.writing import Contents


class Entry(Settings):
    """A release: which set, and its noise per unit of sensitivity."""

    set: str = Field(pattern="^[0-9a-f]{64}$")  # SHA-256 of the images sent
    noise: PositiveFloat
    unit: str


class Ledger(Settings):
    """A budget, and what was spent of it."""

    budget_epsilon: PositiveFloat
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    releases: tuple[Entry, ...] = ()

    @property
    def epsilon(self) -> float:
        """Epsilon of all releases together; 0 without one."""
        rho = sum(0.5 / entry.noise**2 for entry in self.releases)
        return epsilon_by_formula(math.sqrt(0.5 / rho), self.delta) if rho else 0.0


def entered(contents: Contents, path: str | Path) -> Contents:
    """Enter a set into a ledger, and return its contents, which say so.

    A set that is there already is not added again. The file is written before the package is.

    Raises:
        InputError: without a release, for a file that is no ledger or of another unit, and
            beyond the budget.
    """
    path, privacy = Path(path), contents.guarantee
    if not isinstance(privacy, Released):
        raise InputError("ledger", "only releases add up", "set distill.method to private")
    if not path.exists():
        example = '{"budget_epsilon": 2, "delta": 0.00001}'
        raise InputError(path, "does not exist", f"write a budget into it: {example}")
    with locked(path):
        _enter(contents, path, privacy)
    stated = privacy.model_copy(update={"ledger": True})
    return dataclasses.replace(contents, guarantee=stated)


def _enter(contents: Contents, path: Path, privacy: Released) -> None:
    try:
        ledger = parsed(Ledger, read_json(path), str(path))
    except json.JSONDecodeError:
        raise InputError(path, "is not JSON", "write it anew, with what was released") from None
    others = {entry.unit for entry in ledger.releases} - {privacy.unit}
    if others:
        reason = f"protects one {others.pop()} in its releases, and this set one {privacy.unit}"
        raise InputError(path, f"{reason}: they do not add up", "keep a ledger for each")
    images = contents.distillation.distilled.images.cpu().numpy()
    name = hashlib.sha256(images.tobytes()).hexdigest()
    noise = privacy.noise_scale / privacy.sensitivity
    if name not in {entry.set for entry in ledger.releases}:
        entry = Entry(set=name, noise=noise, unit=privacy.unit)
        spent = ledger.epsilon
        ledger = ledger.model_copy(update={"releases": (*ledger.releases, entry)})
        if ledger.epsilon > ledger.budget_epsilon:
            reason = f"with this set epsilon would be {ledger.epsilon:.3g} ({spent:.3g} is spent)"
            budget = f"the budget is {ledger.budget_epsilon:g}"
            remedy = "lower distill.epsilon, or send a set that was sent before"
            raise InputError(path, f"{reason}, and {budget}", remedy)
        write_json(path, ledger.model_dump(mode="json"))
