"""Faults of every kind, a few of each; `python tests/faults` tries the many that are on record."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import hypothesis
import inputs
import pytest
import weather
from bounds import bounded
from hypothesis import strategies as st
from steps import Ended, untimed

steady = hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
QUICK = [inputs.damaged_trajectories, inputs.damaged_results, inputs.damaged_profiles]


@pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.__name__)
@steady
@hypothesis.given(r=st.randoms(use_true_random=False))
def test_a_damaged_input_is_refused_or_read_right(kind, r, tmp_path_factory):
    assert kind(r, tmp_path_factory.mktemp("input")) in ("refused", "right")


@pytest.mark.parametrize(
    "kind", [inputs.damaged_caches, inputs.image_folders], ids=lambda kind: kind.__name__
)
def test_a_damaged_cache_or_folder_is_refused_or_read_right(kind, tmp_path):
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        assert kind(random.Random(number), tmp_path / str(number)) in ("refused", "right")


@pytest.mark.parametrize("what", inputs.SPOILT)
def test_verify_refuses(what, tmp_path):
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        assert (
            inputs.refused_by_verify(what, random.Random(number), tmp_path / str(number))
            == "refused"
        )


def test_the_bounds_hold():
    with pytest.raises(TimeoutError), bounded(seconds=1):
        while True:
            pass
    with pytest.raises(MemoryError), bounded(most_bytes=2**28):
        bytearray(2**31)


def test_an_error_is_clear_if_it_is_one_line_of_ours():
    assert Ended(2, "", "medddist: error: x: is full\n").clear
    assert Ended(2, "", "medddist: teachers: about 3 s\nmedddist: error: x: is full\n").clear
    assert (
        not Ended(1, "", "medddist: error: x: is full\n").clear
        and not Ended(2, "", "Traceback\n  x\n").clear
        and not Ended(2, "", "").clear
    )
    assert not Ended(2, "", "medddist: error: x: is full\nmedddist: error: y\n").clear


def test_times_are_not_compared():
    assert untimed({"a": [{"seconds": 1, "b": 2}], "seconds_of_all": 3}) == {"a": [{"b": 2}]}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [kind.__name__ for kind in weather.KINDS] + ["coverage_guided"])
def test_bad_weather_is_survived(kind, root):
    command = [sys.executable, str(root / "tests" / "faults"), kind, "--count", "2", "--seed", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["kinds"]
