"""What every test file may ask for."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workers  # noqa: F401  first: it says how many threads there are and how they wait

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.number_of_workers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    workers.put_in_order(items)


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """`once(name, make)` makes something expensive once for all workers: see `workers.made_once`."""
    top = tmp_path_factory.getbasetemp()
    return functools.partial(workers.made_once, (top.parent if workers.WORKER else top) / "once")


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(once) -> None:
    """Compile the kernels before the first test, each by one worker only; numba's cache hands them on.

    Even workers begin with single precision and odd ones with double. In one process each kernel is
    compiled when a test first calls it.
    """
    if workers.WORKER:
        for dtype in ("float32", "float64")[:: -1 if int(workers.WORKER[2:]) % 2 else 1]:
            once(f"kernels-{dtype}", lambda _, dtype=dtype: workers.call_every_kernel(dtype))


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs beside the clone, which is not part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data here: real radiographs are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def strict(once) -> tuple[subprocess.CompletedProcess, Path]:
    """The strict build of the committed book, and the folder of its HTML."""

    def build(output: Path) -> dict:
        command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going"]
        command += ["--path-output", output, "book"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return {
            "output": str(output), "code": done.returncode, "out": done.stdout, "err": done.stderr,
        }  # fmt: skip

    made = once("book", build)
    done = subprocess.CompletedProcess([], made["code"], made["out"], made["err"])
    return done, Path(made["output"]) / "_build" / "html"
