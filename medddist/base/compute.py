"""Where the arithmetic happens: the device, and the memory habits of the process."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

import torch

from medddist.base.errors import InputError


def device_named(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1` as a device; `auto` takes a GPU where there is one.

    Of several processes on a machine, each takes a GPU of its own as far as there are so many.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("device", f"{name!r} is no device", "use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError("device", f"{name!r} is not supported", "use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device",
            "cuda was asked for and torch sees no GPU here",
            "use --device cpu, or install a CUDA build of torch",
        )
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise InputError(
            "device",
            f"{name} was asked for and there are {torch.cuda.device_count()} GPUs, counted "
            "from cuda:0",
        )
    return device


def where_computed(device: torch.device) -> dict[str, str]:
    """What a result's last digits, and with them longer runs, depend on beside its settings:
    torch's version and the kind of device.
    """
    return {"torch": str(torch.__version__), "device": device.type}


def use_full_precision() -> None:
    """No TF32 on a GPU: convolutions would keep ten bits, and the gradient through many steps would
    no longer be exact.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory instead of handing it back; without glibc nothing happens.

    For the whole process and for good: the command and the notebooks do so, a library may not.
    A training step frees and takes the same tens of megabytes again, and each round trip through
    the kernel costs page faults.
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
