"""The device that computes, and settings of the process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys

import torch

from medddist.base.errors import InputError


def device_named(name: str) -> torch.device:
    """Return the device `auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one.

    Of several processes on a machine, each takes a GPU of its own while there are enough.

    Raises:
        InputError: for an unknown device, and for a GPU that torch does not see.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    remedy = "use auto, cpu or cuda"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("device", f"{name!r} is not a valid device", remedy) from None
    if device.type not in ("cpu", "cuda"):
        raise InputError("device", f"{name!r} is not supported", remedy)
    if device.type == "cuda" and not torch.cuda.is_available():
        remedy = "use --device cpu, or install a CUDA build of torch"
        raise InputError("device", "cuda was asked for and torch sees no GPU here", remedy)
    if device.type == "cuda" and device.index >= (count := torch.cuda.device_count()):
        reason = f"{name} was asked for and there are {count} GPUs, counted from cuda:0"
        raise InputError("device", reason, "use one of them")
    return device


def where_computed(device: torch.device) -> dict[str, str]:
    """Return what a result's last digits depend on beside settings: torch and kind of device."""
    return {"torch": str(torch.__version__), "device": device.type}


def use_full_precision() -> None:
    """Switch TF32 off on GPUs: it keeps ten bits, too few for a gradient through many steps."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the whole process; without glibc nothing happens.

    A training step frees and takes the same tens of megabytes again and again, and each round trip
    through the kernel costs page faults. Commands and notebooks call this; a library must not.
    """
    if sys.platform != "linux":
        return
    no_memory_maps, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(no_memory_maps, 0)
        allocator.mallopt(trim_threshold, 2**31 - 1)
