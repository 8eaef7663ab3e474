"""Which device is taken, and that asking the allocator is harmless."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medddist.base import compute
from medddist.base.compute import device_named, keep_freed_memory
from medddist.base.errors import InputError
from medddist.cli.commands import opened_study
from medddist.study import notebooks

ROOT = Path(__file__).resolve().parents[2]


def test_named_devices(monkeypatch):
    assert device_named("cpu") == torch.device("cpu")
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compute.torch.cuda, "device_count", lambda: 2)
    assert device_named("auto") == torch.device("cuda", 0) and device_named(
        "cuda:1"
    ) == torch.device("cuda", 1)
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


LIBRARY = """
import ctypes, sys
class Refusing(ctypes.CDLL):
    def __getattr__(self, name):
        assert name != "mallopt", "mallopt was called"
        return super().__getattr__(name)
ctypes.CDLL = Refusing
import os
from medddist import Study, load_profile
"""
CALLS = {
    "a study": (
        "Study(load_profile('smoke', {'data.images': 60}), 'phantom', sys.argv[1], 'cpu').data"
    ),
    "training": "import torch; from medddist.method.networks import *; from medddist.method.training import *;"
    "network = convnet(NetworkSettings(width=2, depth=1), 1, 2, 4);"
    "train(network, initial_parameters(network, 0), torch.zeros(2, 1, 4, 4), torch.arange(2),"
    " Recipe(epochs=1), (0,))",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_who_uses_the_library_keeps_malloc_and_environment_as_they_were(call, tmp_path):
    script = (
        LIBRARY
        + call
        + "\nassert 'OMP_WAIT_POLICY' not in os.environ, 'the environment was changed'"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def test_the_command_and_the_notebooks_keep_freed_memory(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(compute, "keep_freed_memory", lambda: asked.append("asked"))
    with opened_study("smoke", "phantom", str(tmp_path), "cpu", ()):
        assert asked == ["asked"]
    given = SimpleNamespace(profile="smoke", overrides="", data="phantom", out=str(tmp_path))
    notebooks.open_study(given)
    assert asked == ["asked", "asked"]
