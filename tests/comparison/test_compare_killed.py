"""A comparison that is killed by SIGKILL in a process of its own, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import options

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_comparison_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    def start(out: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "medddist", "compare", *options(out), "--json"]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
        )

    kept = lambda out: {
        path: path.stat().st_mtime_ns for path in (out / "compare").rglob("result.safetensors")
    }
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    first = start(out)
    while len(kept(out)) < 6 and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    first.stdout.close()
    before = kept(out)
    told = [json.loads(start(folder).communicate()[0]) for folder in (out, undisturbed)]
    assert kept(out).items() >= before.items() and len(kept(out)) > len(before) >= 6
    for one, other in zip(*told, strict=True):
        assert (one["table"], one["method"], one["network"], one["status"]) == tuple(
            other[k] for k in ("table", "method", "network", "status")
        )
        if one["status"] == "measured":
            assert one["accuracy"]["mean"] == pytest.approx(other["accuracy"]["mean"], abs=0.02)
