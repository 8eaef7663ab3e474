"""A ledger adds up releases from the same data, and refuses what is beyond its budget."""

from __future__ import annotations

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from medddist.base.errors import InputError
from medddist.method.private.release import SENSITIVITY, epsilon_by_formula, guarantee
from medddist.sharing.guarantees import Released
from medddist.sharing.ledger import entered


@dataclasses.dataclass(frozen=True)
class Made:
    """As much of a package's contents as a ledger looks at."""

    distillation: SimpleNamespace
    guarantee: Released | None


def contents(number: int, epsilon: float = 1.0) -> Made:
    images = torch.full((2, 1, 8, 8), float(number))
    made = SimpleNamespace(distilled=SimpleNamespace(images=images))
    return Made(made, Released(**guarantee(epsilon, 1e-5, "image", 10)))


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps({"budget_epsilon": 1.4, "delta": 1e-5}))
    return path


def test_releases_add_up_as_gaussian_noise_composes(ledger):
    assert entered(contents(0), ledger).guarantee.ledger
    entered(contents(1, 0.5), ledger)
    kept = json.loads(ledger.read_text())
    noises = [entry["noise"] for entry in kept["releases"]]
    assert [entry["unit"] for entry in kept["releases"]] == ["image", "image"]
    together = 1 / math.sqrt(sum(1 / noise**2 for noise in noises))
    assert 1.0 < epsilon_by_formula(together, 1e-5) < 1.4
    alone = contents(0).guarantee
    assert noises[0] == pytest.approx(alone.noise_scale / SENSITIVITY)


def test_what_is_beyond_the_budget_is_refused_and_not_entered(ledger):
    entered(contents(0), ledger)
    before = ledger.read_text()
    with pytest.raises(InputError, match=r"epsilon would be 1\.\d+ \(1 is spent\).* budget is 1.4"):
        entered(contents(1), ledger)
    assert ledger.read_text() == before


def test_releases_that_protect_another_unit_do_not_add_up(ledger):
    entered(contents(0, 0.2), ledger)
    made = SimpleNamespace(distilled=SimpleNamespace(images=torch.ones(2, 1, 8, 8)))
    other = Made(made, Released(**guarantee(0.2, 1e-5, "patient", 10)))
    with pytest.raises(InputError, match="protects one image.*this set one patient"):
        entered(other, ledger)


def test_packages_at_the_same_time_are_all_entered(ledger):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: entered(contents(k, 0.05), ledger), range(8)))
    assert len(json.loads(ledger.read_text())["releases"]) == 8


def test_the_same_set_is_not_added_twice(ledger):
    entered(contents(0), ledger)
    before = ledger.read_text()
    assert entered(contents(0), ledger).guarantee.ledger and ledger.read_text() == before


@pytest.mark.parametrize("text", ["{}", "[1]", '{"budget_epsilon": -1}', "no JSON", '{"x": 1}'])
def test_what_is_no_ledger_is_refused_in_one_line(ledger, text):
    ledger.write_text(text)
    with pytest.raises(InputError) as refused:
        entered(contents(0), ledger)
    assert "\n" not in str(refused.value) and ledger.read_text() == text


def test_a_missing_ledger_is_not_made_up(tmp_path):
    with pytest.raises(InputError, match="does not exist; write a budget into it"):
        entered(contents(0), tmp_path / "none.json")


def test_only_releases_are_entered(ledger):
    with pytest.raises(InputError, match="set distill.method to private"):
        entered(dataclasses.replace(contents(0), guarantee=None), ledger)
