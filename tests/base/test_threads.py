"""Threads of torch and numba while the engine computes, and afterwards: whoever imported first,
whatever was set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import pytest
import torch
from small import (
    asked,
    labelled,
    tiny_distill,
    tiny_evaluation,
    tiny_network,
    tiny_recipe,
    walks,
)
from test_matching import tiny_case

from medddist.base import threads
from medddist.base.threads import Sleepers, shared_threads
from medddist.baselines.initial import initial_set
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.distill import distill
from medddist.method.fast import derivatives, kernels
from medddist.method.matching import matching_gradient
from medddist.method.networks import initial_parameters
from medddist.method.training import predict, train

ROOT = Path(__file__).resolve().parents[2]
MOST = numba.config.NUMBA_NUM_THREADS


@pytest.fixture(params=sorted({(1, 1), (1, MOST), (2, 1), (2, MOST), (MOST + 1, MOST)}), ids=str)
def callers(request):
    """(torch's, numba's) threads as a caller set them; the test's own settings come back."""
    before = torch.get_num_threads(), numba.get_num_threads()
    numba.set_num_threads(request.param[1])
    torch.set_num_threads(request.param[0])
    yield request.param
    numba.set_num_threads(before[1])
    torch.set_num_threads(before[0])


def batch():
    network = tiny_network()
    return network, initial_parameters(network, 0), *labelled(6)


def distilled(tmp_path):
    network = tiny_network()
    settings, data = tiny_distill(iterations=1), labelled(12)
    return distill(
        network,
        *initial_set(data, 3, settings),
        data,
        asked(network, walks(tmp_path, network), settings),
        settings,
        tiny_evaluation(),
        tmp_path / "run",
    )


def of_batch(function, *more):
    return lambda _: function(*batch(), *more)


ENTRIES = {
    "gradient": of_batch(derivatives.gradient),
    "directional": lambda _: derivatives.directional(*batch(), batch()[1]),
    "slopes": of_batch(derivatives.slopes),
    "logits": lambda _: derivatives.logits(*batch()[:3]),
    "matching_gradient": lambda _: matching_gradient(*tiny_case(), NO_AUGMENTATION),
    "train": of_batch(train, tiny_recipe(), ("threads",)),
    "predict": lambda _: predict(*batch()[:3]),
    "distill": distilled,
}


@pytest.mark.parametrize("call", ENTRIES.values(), ids=ENTRIES)
def test_kernels_use_torchs_number_of_threads_and_the_caller_keeps_his(
    call, callers, tmp_path, monkeypatch
):
    inside = set()
    for name, of in vars(kernels).items():
        if isinstance(of, numba.core.dispatcher.Dispatcher) and not name.startswith("_"):
            looked = lambda *given, of=of: (
                inside.add((torch.get_num_threads(), numba.get_num_threads())) or of(*given)
            )
            monkeypatch.setattr(kernels, name, looked)
    call(tmp_path)
    assert inside == {(callers[0], min(callers[0], MOST))}
    assert (torch.get_num_threads(), numba.get_num_threads()) == callers


def test_settings_come_back_after_an_error(callers):
    with pytest.raises(ZeroDivisionError), shared_threads():
        raise ZeroDivisionError
    assert (torch.get_num_threads(), numba.get_num_threads()) == callers


@pytest.mark.parametrize("first", ["torch", "medddist.method.fast.derivatives", "numba"])
@pytest.mark.parametrize("torchs", [1, 2])
def test_order_of_imports_does_not_matter(first, torchs):
    """Numba's threads, when first started, would raise torch's number to that of the cores."""
    script = (
        f"import {first}, torch, numba; from medddist.base.threads import shared_threads\n"
        f"torch.set_num_threads({torchs}); before = numba.config.NUMBA_NUM_THREADS\n"
        "with shared_threads(): inside = torch.get_num_threads(), numba.get_num_threads()\n"
        "print(*inside, torch.get_num_threads(), numba.get_num_threads() == before)"
    )
    given = os.environ | {"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"}
    given.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=given, cwd=ROOT
    )
    assert done.stdout.split() == [f"{torchs}", f"{torchs}", f"{torchs}", "True"], done.stderr


def sleeping() -> bool:
    return any(thread.name == "medddist-sleepers" for thread in threading.enumerate())


def test_while_the_engine_computes_there_are_more_threads_than_cores_and_then_no_longer(
    monkeypatch,
):
    """GNU's OpenMP then lets those that wait sleep, whatever it read when it was loaded."""
    asked = []
    started = threads._start_team
    monkeypatch.setattr(threads, "_start_team", lambda count: asked.append(count) or started(count))
    crowd = Sleepers(linger_seconds=0.05)
    for _ in range(2):
        with crowd, crowd:
            assert sleeping() and asked == [os.cpu_count() + 1], "nested, they are started once"
        with crowd:
            assert sleeping() and len(asked) == 1, "and again at once, they are still there"
        until = time.monotonic() + 20
        while sleeping() and time.monotonic() < until:
            time.sleep(0.01)
        assert not sleeping()
        asked.clear()


@pytest.mark.parametrize("torchs, there", [(1, False), (2, True)])
def test_one_thread_needs_nobody_to_sleep(torchs, there, monkeypatch):
    crowd, before = Sleepers(linger_seconds=0), torch.get_num_threads()
    monkeypatch.setattr(threads, "_SLEEPERS", crowd)
    torch.set_num_threads(torchs)
    with shared_threads():
        assert crowd._there is there
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is that of torch for Linux")
def test_gnus_openmp_starts_a_team_of_the_asked_number():
    script = (
        "import os, torch; from medddist.base.threads import _start_team\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count(); _start_team(4); print(count() - before)"
    )
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=given, cwd=ROOT
    )
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize(
    "platform, problem", [("win32", None), ("linux", OSError), ("linux", AttributeError)]
)
def test_without_gnus_openmp_nothing_is_started(platform, problem, monkeypatch):
    def refuse(name):
        raise problem

    monkeypatch.setattr(threads.sys, "platform", platform)
    monkeypatch.setattr(threads.ctypes, "CDLL", refuse)
    assert not threads._start_team(2)
