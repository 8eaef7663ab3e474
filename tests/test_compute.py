"""Which device is taken, and that asking the allocator is harmless."""

from __future__ import annotations

import pytest
import torch

from medddist import compute
from medddist.compute import device_named, keep_freed_memory
from medddist.errors import InputError


def test_named_devices(monkeypatch):
    assert device_named("cpu") == torch.device("cpu")
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: True)
    assert device_named("auto").type == "cuda" and device_named("cuda:1") == torch.device("cuda", 1)
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
