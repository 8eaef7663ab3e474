"""Which device is taken, and that asking the allocator is harmless."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medddist import compute
from medddist.compute import device_named, keep_freed_memory
from medddist.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def test_named_devices(monkeypatch):
    assert device_named("cpu") == torch.device("cpu")
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compute.torch.cuda, "device_count", lambda: 2)
    assert device_named("auto") == torch.device("cuda", 0) and device_named("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="^device: cuda:2 .* 2 GPUs"):
        device_named("cuda:2")
    for process, number in (("1", 1), ("5", 1), ("4", 0)):
        monkeypatch.setenv("LOCAL_RANK", process)
        assert device_named("auto") == device_named("cuda") == torch.device("cuda", number)
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda", "cuda:0", "meta", "mps", "cpu:x"])
def test_a_device_that_cannot_be_had_is_refused(name, monkeypatch):
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="^device: "):
        device_named(name)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_keeping_memory_does_nothing_where_it_cannot(platform, monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(compute.sys, "platform", platform)
    monkeypatch.setattr(compute.ctypes, "CDLL", no_library)
    keep_freed_memory.cache_clear()
    keep_freed_memory()
    keep_freed_memory.cache_clear()


def test_kernels_use_as_many_threads_as_torch_was_given_and_torch_keeps_them():
    """numba's OpenMP threads, when first started, would raise torch's number to that of the cores."""
    script = (
        "import torch; from medddist.compute import use_torchs_threads; use_torchs_threads(); import numba, numpy;"
        "numba.njit(parallel=True)(lambda x: x.sum())(numpy.ones(9));"
        "print(torch.get_num_threads(), numba.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT
    )
    assert done.stdout.split() == ["1", "1"], done.stderr
