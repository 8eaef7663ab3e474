"""Threads of torch and of numba at work on the same cores, as the engine sets them while it
computes; the caller's settings come back.

Torch's operations and the compiled kernels follow one another every few milliseconds, by threads of
one OpenMP runtime. Two things then make them slow, several times over on a machine that others use
too:

Different numbers: OpenMP ends and starts threads each time that the number changes. So kernels use
    as many threads as torch does.

Spinning: GNU's OpenMP lets threads that wait run idle for milliseconds, on cores that somebody else
    needs, unless OMP_WAIT_POLICY said otherwise before torch was imported. It stops by itself, as
    its manual says under GOMP_SPINCOUNT, where a process has more threads than the machine has
    cores. So while the engine computes, one more thread of Python sits there with such a team,
    asleep.
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
    """Let kernels use as many threads as torch does (fewer where numba was given fewer), and
    waiting threads sleep; also a decorator.

    The numbers of threads of torch and numba are afterwards what they were. May be nested, and used
    by several threads at once.
    """
    torchs = torch.get_num_threads()
    numbas = numba.get_num_threads()
    numba.set_num_threads(min(torchs, numba.config.NUMBA_NUM_THREADS))
    if (
        torch.get_num_threads() != torchs
    ):  # numba's threads, when first started, set torch's number to their own
        torch.set_num_threads(torchs)
    try:
        with _SLEEPERS if torchs > 1 else contextlib.nullcontext():
            yield
    finally:
        numba.set_num_threads(numbas)


class Sleepers:
    """More OpenMP threads than the machine has cores, asleep: as long as anybody is inside, and a
    little longer.

    On entering and leaving again and again they would else be started each time, which takes a
    millisecond.
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
        threading.Thread(
            target=self._sit, args=(started,), name="medddist-sleepers", daemon=True
        ).start()
        started.wait()

    def __exit__(self, *_) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def _sit(self, started: threading.Event) -> None:
        """The team of threads belongs to this thread of Python and ends with it."""
        _start_team((os.cpu_count() or 1) + 1)
        started.set()
        with self._changed:
            while self._inside or self._changed.wait_for(lambda: self._inside, self.linger_seconds):
                self._changed.wait_for(lambda: not self._inside)
            self._there = False


_SLEEPERS = Sleepers()


def _start_team(threads: int) -> bool:
    """Start OpenMP threads of the calling thread's own, with nothing to do; False where the runtime
    is not GNU's.
    """
    if sys.platform != "linux":
        return False
    try:
        runtime = ctypes.CDLL(None)  # torch's, which numba's kernels find too
        runtime.GOMP_parallel(runtime.omp_get_num_threads, None, threads, 0)
    except (AttributeError, OSError):
        return False
    return True
