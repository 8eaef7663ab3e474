"""Numeric tests pass on every instruction set that this machine has, with one thread and with two.

A fresh process is told to use another one: for torch's operations, for oneDNN's convolutions, for
MKL's products and for the compiled kernels. A test may promise the same bits for one machine, its
versions and its number of threads, and a tolerance beyond.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parent
NUMERIC = [
    "method/fast/test_derivatives.py",
    "method/test_matching.py",
    "method/test_training.py",
    "method/test_networks.py",
    "method/test_augment.py",
    "method/test_evaluate.py",
    "method/test_distill.py",
]
LEVELS = ["default", "avx2", "avx512"]  # torch's names
LEAST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
SETS = (
    {"as it is": {}}
    | {f"torch {level}": {"ATEN_CPU_CAPABILITY": level} for level in LEVELS}
    | {
        f"oneDNN {level}": {"ONEDNN_MAX_CPU_ISA": level}
        for level in ("SSE41", "AVX2", "AVX512_CORE")
    }
    | {"kernels generic": {"NUMBA_CPU_NAME": "generic"}}
    | {"least of all": LEAST | {"NUMBA_CPU_NAME": "generic"}}
)


def here(chosen: dict[str, str]) -> bool:
    """Return whether torch may be told so: an instruction that is missing would end the process."""
    most = torch.backends.cpu.get_cpu_capability().lower()
    wanted = chosen.get("ATEN_CPU_CAPABILITY", "default")
    return most not in LEVELS or LEVELS.index(wanted) <= LEVELS.index(most)


def passes(chosen: dict[str, str], threads: int, *files: str) -> None:
    if not here(chosen):
        pytest.skip("this machine has no such instructions")
    numbers = dict.fromkeys(
        ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    # Killed runs have one thread, in processes of their own.
    but = ["-m", "not slow", "-k", "not killed"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *but, *files]
    done = subprocess.run(
        command, cwd=TESTS, env=os.environ | numbers | chosen, capture_output=True, text=True
    )
    assert done.returncode == 0 and " passed" in done.stdout, (
        done.stdout[-5000:] + done.stderr[-1000:]
    )


def test_derivatives_hold_without_vector_instructions_and_with_two_threads():
    passes(LEAST, 2, "method/fast/test_derivatives.py")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chosen", SETS.values(), ids=SETS)
def test_what_touches_numbers_passes_on_each_instruction_set(chosen, threads):
    passes(chosen, threads, *NUMERIC)
