"""Bars that move honestly: speed and time left are those of the work of this sitting."""

from __future__ import annotations

import re

import numba
import pytest
import tqdm

from medddist.base.progress import COMPILING, Bar


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    monkeypatch.setattr(tqdm.std, "time", clock)
    return clock


def test_after_resuming_only_the_work_of_this_sitting_counts(clock, capsys):
    bar = Bar()
    for done in range(301, 304):  # 300 iterations were done by an earlier run
        bar("distilling", done, 400)
        clock.now += 10.0
    about = bar.bar.format_dict
    speed = (about["n"] - about["initial"]) / about["elapsed"]
    assert about["rate"] == pytest.approx(0.1) and speed < 0.1
    said = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "303/400" in said and "16:10" in said  # 97 more, 10 seconds each


def test_the_start_in_which_kernels_are_compiled_does_not_count(clock, capsys):
    bar = Bar()
    bar("teacher 1 of 2", 0, 5)
    clock.now += 100.0  # compiling
    bar("teacher 1 of 2", 1, 5)
    for done in (2, 3):
        clock.now += 20.0
        bar("teacher 1 of 2", done, 5)
    assert bar.bar.format_dict["rate"] == pytest.approx(1 / 20)
    assert "00:40" in capsys.readouterr().err.rpartition("\r")[2]  # two more epochs


def test_work_that_was_done_before_has_no_speed(clock, capsys):
    bar = Bar()
    bar("reading images", 871, 871)  # all of it was cached
    bar("teachers", 0, 10)
    clock.now += 1e-5
    bar("teachers", 9, 10)
    bar("teachers", 10, 10)
    said = capsys.readouterr().err
    assert "?it/s" in said and not re.search(r"\d{4,}(\.\d+)?it/s", said), said


def test_compiling_is_said_once_and_only_where_something_is_compiled(capsys):
    with Bar():
        pass
    assert capsys.readouterr().err == ""
    with Bar():
        numba.njit(lambda x: x + 1)(1)
        numba.njit(lambda x: x + 2)(1)
    assert capsys.readouterr().err == f"{COMPILING}\n"
    numba.njit(lambda x: x + 3)(1)
    assert capsys.readouterr().err == ""
