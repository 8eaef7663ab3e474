"""Where the arithmetic happens: the device, and the memory habits of the process."""

from __future__ import annotations

import ctypes
import functools
import sys

import numba
import torch

from medddist.errors import InputError


def device_named(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1` as a device; `auto` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device: {name!r} is no device; use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: {name!r} is not supported; use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for and torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    return device


def use_torchs_threads() -> None:
    """The compiled kernels use as many threads as torch does: torchrun gives each of its processes one."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory instead of handing it back; without glibc nothing happens.

    A training step frees and takes the same tens of megabytes again; by default each round trip through the kernel costs
    page faults, a third of a small step's time on a CPU (`medddist bench teachers` measures it).
    """
    if sys.platform != "linux":
        return
    no_memory_maps, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    try:
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(no_memory_maps, 0)
        allocator.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        return
