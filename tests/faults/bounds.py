"""No input may take longer or more memory than these: a time limit and a limit on the address space."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60  # for one damaged input; they are small
BYTES = 3 * 2**30  # beyond what the process has; a hundred million pixels in several threads are the most that is decoded


@contextmanager
def bounded(seconds: int = SECONDS, most_bytes: int = BYTES):
    """Within, TimeoutError after so many seconds, and MemoryError for more than so many bytes (Linux)."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if (held := Path("/proc/self/statm")).exists():
        pages = int(held.read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + most_bytes, before[1]))
    handler = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_long(*_) -> None:
    raise TimeoutError(f"longer than {SECONDS} seconds")
