"""Several small pieces of a study at once: each in a process with one thread, its result kept as a
file for who asks next.

Networks as small as these leave most of a second core idle, whatever the number of threads; two
that are trained side by side do not.
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
    """As many as torch has threads on a CPU; one on a GPU, which they would have to share."""
    return torch.get_num_threads() if study.device.type == "cpu" else 1


def ahead(
    study: Study, work: Callable[[Study, T], Any], items: Sequence[T], workers: int, what: str
) -> None:
    """work(study, item) of every item, in any order, so that what it keeps under `study.out` is
    there when it is asked for.

    work: a function of a module, since it is called in another process, on a study opened there
        from the same profile and data
    what: it is called in the progress
    With one worker, or fewer than two items, nothing is done: who asks for a result computes it.
        Raises what `work` raises.
    """
    if min(workers, len(items)) < 2:
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    given = (
        study.profile.model_dump_json(),
        study.source,
        str(study.out),
        str(study.device),
        os.getpid(),
    )
    study.progress(what, 0, len(items))
    try:
        with parallel_config("loky", n_jobs=min(workers, len(items)), inner_max_num_threads=1):
            done = Parallel(batch_size=1, return_as="generator_unordered")(
                delayed(_one)(work, given, item) for item in items
            )
            for number, _ in enumerate(done, 1):
                study.progress(what, number, len(items))
    # or they would keep their memory, and a notebook that ends would warn of what they leave
    finally:
        get_reusable_executor().shutdown(wait=True)


def _one(work: Callable[[Study, T], Any], given: tuple, item: T) -> None:
    work(_opened(*given), item)


def _end_with(asked_by: int) -> None:
    """A worker whose asker was killed would go on, and nobody would wait for it."""
    while os.getppid() == asked_by:
        time.sleep(0.5)
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _opened(profile: str, source: str | Path, out: str, device: str, asked_by: int) -> Study:
    """A worker's own; kept, since one worker does many pieces."""
    threading.Thread(target=_end_with, args=(asked_by,), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()  # a process of its own, and the caller's is left alone
    return Study(Profile.model_validate_json(profile), source, out, device)
