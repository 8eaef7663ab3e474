"""Compute several small results of a study at once, each in a process with one thread.

A small network leaves most of a second core idle, whatever the number of threads. Two networks that
are trained side by side do not.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from medddist.base.compute import keep_freed_memory
from medddist.study.profile import Profile
from medddist.study.study import Study

T = TypeVar("T")


def workers_for(study: Study) -> int:
    """Return how many processes to use: torch's threads on a CPU, one on a GPU."""
    return torch.get_num_threads() if study.device.type == "cpu" else 1


def ahead(
    study: Study, work: Callable[[Study, T], Any], items: Sequence[T], workers: int, what: str
) -> None:
    """Call work(study, item) for every item, in any order, so that its results are cached.

    With one worker, or fewer than two items, nothing is done: who asks for a result computes it.

    Args:
        study: whose profile and data are opened in each process.
        work: a function of a module; what it raises is raised here.
        items: its second arguments.
        workers: how many processes.
        what: what the progress calls it.
    """
    if min(workers, len(items)) < 2:
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    place = study.source, str(study.out), str(study.device)
    given = study.profile.model_dump_json(), *place, os.getpid()
    calls = (delayed(_one)(work, given, item) for item in items)
    study.progress(what, 0, len(items))
    try:
        with parallel_config("loky", n_jobs=min(workers, len(items)), inner_max_num_threads=1):
            done = Parallel(batch_size=1, return_as="generator_unordered")(calls)
            for number, _ in enumerate(done, 1):
                study.progress(what, number, len(items))
    finally:
        # Otherwise they keep their memory, and a notebook warns at its end.
        get_reusable_executor().shutdown(wait=True)


def _one(work: Callable[[Study, T], Any], given: tuple, item: T) -> None:
    work(_opened(*given), item)


def _end_with(asked_by: int) -> None:
    """End this process when the one that asked was killed: nobody waits for it."""
    while os.getppid() == asked_by:
        time.sleep(0.5)
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _opened(profile: str, source: str | Path, out: str, device: str, asked_by: int) -> Study:
    """Open the study once per worker, which computes many results."""
    threading.Thread(target=_end_with, args=(asked_by,), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()  # a process of its own, and the caller's is left alone
    return Study(Profile.model_validate_json(profile), source, out, device)
