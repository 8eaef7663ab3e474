"""Memory and disk of this machine, and how amounts are written for people."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import torch

MEMORY_INFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
MEMORY_LIMITS = (  # of a container: what it may use, and what it uses
    (CONTAINER / "memory.max", CONTAINER / "memory.current"),
    (CONTAINER / "memory/memory.limit_in_bytes", CONTAINER / "memory/memory.usage_in_bytes"),
)


def free_memory_bytes(device: torch.device) -> int:
    """Return the bytes that a process can still take: of the GPU, or of machine and container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if MEMORY_INFO.exists():
        lines = dict(line.split(":", 1) for line in MEMORY_INFO.read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    else:  # macOS keeps files in memory until it is asked for: half of all is a careful guess
        free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    for limit, used in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            free.append(max(int(limit.read_text()) - int(used.read_text()), 0))
    return min(free)


def resident_bytes() -> int:
    """Return the bytes that this process holds; outside Linux, the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # Unix alone has it

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_disk_bytes(folder: str | Path) -> int:
    """Return the free bytes of the disk of a folder, whether or not the folder exists."""
    folder = Path(folder).resolve()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free


def told_time(seconds: float) -> str:
    """Write seconds for people: `40 s`, `12 min`, `3.5 h`, `4 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def told_estimate(seconds: float, low: float, high: float) -> str:
    """Write an estimate with its range: `about 12 min, between 6 and 24 min`."""
    first, last = told_time(low), told_time(high)
    number, unit = first.split()
    first = number if last.endswith(f" {unit}") else first
    return f"about {told_time(seconds)}, between {first} and {last}"


def told_bytes(count: float) -> str:
    """Write bytes for people, in powers of ten: `3 MB`, `1.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{count / 1e6:.0f} MB"
