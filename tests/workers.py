"""How the tests are shared among several processes; imported by conftest.py before anything else.

`make test` runs them with pytest-xdist, in as many workers as there are cores; `pytest` alone runs them in one process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait sleep, as in the command

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, ...; "" where there are no workers
MOST_WORKERS = 4  # each needs about 1.5 GB
THREADS = (
    "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip
if WORKER:  # one thread each, set before anything imports numpy, numba or torch
    for _name in THREADS:
        os.environ.setdefault(_name, "1")


def number_of_workers() -> int:
    """Return the number of workers for `-n auto`: one per core that this process may use."""
    usable = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count() or 1))(0)
    return min(len(usable), MOST_WORKERS)


def put_in_order(items: list[pytest.Item]) -> None:
    """Put the smoke study, which takes minutes, where it delays least.

    The first worker starts with it while the others run the rest. In one process it comes last.
    """
    first = bool(WORKER)
    items.sort(key=lambda item: (item.get_closest_marker("study") is not None) != first)


def made_once(top: Path, name: str, make: Callable[[Path], Any]) -> Any:
    """Return what `make(folder)` returned, called once for all workers that share the folder `top`.

    make: called in one worker while the others that ask for this name wait; its result is kept as
        JSON. `folder` is empty, and every worker finds it under the same path.
    """
    folder, result = top / name, top / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(top / f"{name}.lock"):
        if not result.exists():
            result.write_text(json.dumps(make(folder)))
        return json.loads(result.read_text())


def call_every_kernel(dtype: str) -> None:
    """Call what is compiled for one number type, in images and parameters of a tiny network."""
    import torch

    from medddist.derivatives import directional, gradient, logits, slopes
    from medddist.networks import initial_parameters
    from small import labelled, tiny_network

    network, kind = tiny_network(), getattr(torch, dtype)
    theta, (images, labels) = initial_parameters(network, 0).to(kind), labelled(3, dtype=kind)
    logits(network, theta, images)
    gradient(network, theta, images, labels)
    directional(network, theta, images, labels, theta)
    slopes(network, theta, images, labels, slopes(network, theta, images, labels).open)
