"""Which version, machine and commit made a result."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from medddist.base.compute import device_named

PACKAGES = ("medddist", "torch", "numpy", "scipy", "scikit-learn", "numba", "safetensors")


def about(device: str = "auto") -> dict:
    """Return versions, machine and commit, for a record."""
    where = device_named(device)
    gpu = {"gpu": torch.cuda.get_device_name(where)} if where.type == "cuda" else {}
    machine = {"system": platform.system(), "processor": _processor()}
    return {
        "when": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {**machine, "threads": torch.get_num_threads(), "device": str(where), **gpu},
    }


def version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of medddist's own clone, with `+` where the library differs from it.

    None outside a clone of medddist, such as in another repository's virtual environment.
    """
    here = Path(__file__).resolve().parents[2]
    # without what git's own hooks set
    environment = {name: v for name, v in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        how = {"capture_output": True, "text": True, "check": True, "env": environment}
        return subprocess.run(["git", "-C", here, *words], **how).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here:
            return None
        git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        changed = git("status", "--porcelain", "--", "medddist")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name"))
        return model.split(":", 1)[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
