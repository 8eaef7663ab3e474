"""How `make test` shares the tests among several processes (see workers.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import workers
from medddist import kernels
from test_book import make

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("target", ["test", "test-all"])
def test_make_runs_the_tests_in_as_many_workers_as_asked(target):
    for asked, options in (([], "-n auto"), (["WORKERS=0"], "-n 0"), (["WORKERS=2"], "-n 2")):
        done = make("-n", target, *asked, capture_output=True)
        (line,) = [line for line in done.stdout.splitlines() if "-m pytest" in line]
        assert f"{options} --dist worksteal" in line


def test_a_worker_computes_with_one_thread_unless_told_otherwise():
    script = "import workers, torch, numba; print(torch.get_num_threads(), numba.get_num_threads())"
    plain = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    plain |= {"PYTEST_XDIST_WORKER": "gw0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain, cwd=TESTS, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_auto_is_a_worker_per_core_but_no_more_than_memory_allows(monkeypatch):
    for cores, expected in ((1, 1), (2, 2), (64, workers.MOST_WORKERS)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert workers.number_of_workers() == expected


class Item:
    """A collected test, as far as its order needs it."""

    def __init__(self, name: str):
        self.name = name

    def get_closest_marker(self, marker: str) -> bool | None:
        return True if marker in self.name else None


@pytest.mark.parametrize(
    "worker, order",
    [("gw0", ["study 1", "study 2", "a", "b"]), ("", ["a", "b", "study 1", "study 2"])],
)
def test_the_smoke_study_comes_first_in_a_worker_and_last_in_one_process(
    monkeypatch, worker, order
):
    monkeypatch.setattr(workers, "WORKER", worker)
    items = [Item(name) for name in ("a", "study 1", "b", "study 2")]
    workers.put_in_order(items)
    assert [item.name for item in items] == order


def test_what_several_ask_for_is_made_once(once):
    made = []

    def make_it(folder: Path) -> list:
        made.append(folder)
        return [str(folder), len(made)]

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda _: once("test-of-once", make_it), range(8)))
    assert given == [[str(made[0]), 1]] * 8 and made[0].is_dir()


def test_what_could_not_be_made_is_tried_again(once):
    with pytest.raises(ZeroDivisionError):
        once("test-of-failure", lambda _: 1 / 0)
    assert once("test-of-failure", lambda _: "made") == "made"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_kernel_is_left_to_be_compiled_by_several_workers(dtype):
    workers.call_every_kernel(dtype)
    compiled = {
        name: one
        for name, one in vars(kernels).items()
        if getattr(one, "targetoptions", {}).get("parallel")
    }
    assert len(compiled) > 9
    for name, one in compiled.items():
        assert any(dtype in str(signature) for signature in one.signatures), name
