"""How torch's threads and numba's share the cores while the engine computes.

Torch's operations and the compiled kernels alternate every few milliseconds, on threads of one
OpenMP runtime. Two things make them several times slower:

- Different numbers of threads: OpenMP ends and starts threads whenever the number changes. So the
  kernels use as many threads as torch.
- Spinning: GNU's OpenMP lets waiting threads spin for milliseconds on cores that another process
  needs, unless OMP_WAIT_POLICY said otherwise before torch was imported. It stops spinning (see
  GOMP_SPINCOUNT in its manual) while a process has more threads than the machine has cores. So
  while the engine computes, one Python thread holds such a team of threads, asleep.

The caller's settings come back afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

import numba
import torch


@contextlib.contextmanager
def shared_threads() -> Iterator[None]:
    """Let kernels use as many threads as torch, and waiting threads sleep; also a decorator.

    Numba may have been given fewer threads, which it keeps. Afterwards both numbers are what they
    were. May be nested, and used by several Python threads at once.
    """
    torchs = torch.get_num_threads()
    numbas = numba.get_num_threads()
    numba.set_num_threads(min(torchs, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != torchs:  # numba changes it when its threads first start
        torch.set_num_threads(torchs)
    try:
        with _SLEEPERS if torchs > 1 else contextlib.nullcontext():
            yield
    finally:
        numba.set_num_threads(numbas)


class Sleepers:
    """More OpenMP threads than cores, asleep while anybody is inside, and a little longer.

    Starting them takes a millisecond, too long to do so each time.
    """

    def __init__(self, linger_seconds: float = 1.0):
        self.linger_seconds = linger_seconds
        self._changed, self._inside, self._there = threading.Condition(), 0, False

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1
            self._changed.notify_all()
            if self._there:
                return
            self._there = True
        started = threading.Event()
        how = {"args": (started,), "name": "medddist-sleepers", "daemon": True}
        threading.Thread(target=self._sit, **how).start()
        started.wait()

    def __exit__(self, *_) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def _sit(self, started: threading.Event) -> None:
        """Hold the team of threads, which belongs to this Python thread and ends with it."""
        _start_team((os.cpu_count() or 1) + 1)
        started.set()
        with self._changed:
            while self._inside or self._changed.wait_for(lambda: self._inside, self.linger_seconds):
                self._changed.wait_for(lambda: not self._inside)
            self._there = False


_SLEEPERS = Sleepers()


def _start_team(threads: int) -> bool:
    """Start idle OpenMP threads of the calling thread; False where the runtime is not GNU's."""
    if sys.platform != "linux":
        return False
    try:
        runtime = ctypes.CDLL(None)  # torch's, which numba's kernels find too
        runtime.GOMP_parallel(runtime.omp_get_num_threads, None, threads, 0)
    except (AttributeError, OSError):
        return False
    return True
