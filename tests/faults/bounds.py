"""No input may take longer or more memory than these: a time limit and a limit on the address
space.
"""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from pathlib import Path

# of computing, and ten times as many by the clock: on a busy machine, waiting for the processor is
# no hanging
SECONDS = 60
BYTES = (
    3 * 2**30
    # beyond what the process has; a hundred million pixels in several threads are the most that is
    # decoded
)


@contextmanager
def bounded(seconds: int = SECONDS, most_bytes: int = BYTES):
    """Within, TimeoutError after computing for so many seconds or waiting for ten times as many,
    and MemoryError for more than so many bytes (Linux).
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    if (held := Path("/proc/self/statm")).exists():
        pages = int(held.read_text().split()[0])
        resource.setrlimit(
            resource.RLIMIT_AS, (pages * resource.getpagesize() + most_bytes, before[1])
        )
    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds),
    }
    handlers = {number: signal.signal(number, _too_long) for number in timers}
    for timer, after in timers.values():
        signal.setitimer(timer, after)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_long(*_) -> None:
    raise TimeoutError("it took longer than it may")
