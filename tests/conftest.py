"""What every test file may ask for, and how the tests are shared among several processes.

`make test` runs them with pytest-xdist, in as many workers as there are cores; `pytest` alone runs
them in one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch: threads that wait sleep, as in the command

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, ...; "" where there are no workers
THREADS = (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
if WORKER:  # one thread each, set before anything imports numpy, numba or torch
    for name in THREADS:
        os.environ.setdefault(name, "1")

ROOT = Path(__file__).resolve().parent.parent
MOST_WORKERS = 4  # each needs about 1.5 GB


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: one per core that this process may use."""
    usable = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count() or 1))(0)
    return min(len(usable), MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the smoke study, which takes minutes, where it delays least.

    The first worker starts with it while the others run the rest. In one process it comes last.
    """
    first = bool(WORKER)
    items.sort(key=lambda item: (item.get_closest_marker("study") is not None) != first)


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Make something expensive once for all workers: `once(name, make)` is what `make(folder)`
    returned.

    make: called in one worker while the others that ask for this name wait; its result is kept as
        JSON. `folder` is empty, and every worker finds it under the same path.
    """
    top = tmp_path_factory.getbasetemp()
    top = (top.parent if WORKER else top) / "once"

    def made(name: str, make: Callable[[Path], Any]) -> Any:
        folder, result = top / name, top / f"{name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(top / f"{name}.lock"):
            if not result.exists():
                result.write_text(json.dumps(make(folder)))
            return json.loads(result.read_text())

    return made


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(once) -> None:
    """Compile the kernels before the first test, each by one worker only; numba's cache hands them
    on.

    Even workers begin with single precision and odd ones with double. In one process each kernel is
    compiled when a test first calls it.
    """
    if WORKER:
        for dtype in ("float32", "float64")[:: -1 if int(WORKER[2:]) % 2 else 1]:
            once(f"kernels-{dtype}", lambda _, dtype=dtype: call_every_kernel(dtype))


def call_every_kernel(dtype: str) -> None:
    """Call what is compiled for one number type, in images and parameters of a tiny network."""
    import torch
    from small import labelled, tiny_network

    from medddist.method.fast.derivatives import directional, gradient, logits, slopes
    from medddist.method.networks import initial_parameters

    network, kind = tiny_network(), getattr(torch, dtype)
    theta, (images, labels) = initial_parameters(network, 0).to(kind), labelled(3, dtype=kind)
    logits(network, theta, images)
    gradient(network, theta, images, labels)
    directional(network, theta, images, labels, theta)
    slopes(network, theta, images, labels, slopes(network, theta, images, labels).open)


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
        command = [
            Path(sys.executable).with_name("jupyter-book"),
            "build",
            "-W",
            "-n",
            "--keep-going",
        ]
        command += ["--path-output", output, "book"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return {
            "output": str(output),
            "code": done.returncode,
            "out": done.stdout,
            "err": done.stderr,
        }

    made = once("book", build)
    done = subprocess.CompletedProcess([], made["code"], made["out"], made["err"])
    return done, Path(made["output"]) / "_build" / "html"
