"""Measure pairs of times, and peaks of memory in a fresh process, as rows of one format.

Memory is resident memory as Linux's /proc states it; on a GPU it is what torch allocates there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.problems import CPU, Problem
from medddist.base.compute import keep_freed_memory, use_full_precision

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing "5" resets the peak of resident memory
MIB = 2**20

Report = Callable[[str, int, int], None]  # what is measured, pairs done, pairs in all


def prepare_process() -> None:
    """Set precision and memory as a study sets them."""
    keep_freed_memory()
    use_full_precision()


def row(what: str, setting: dict, ours: float, reference: float | None = None) -> dict:
    """Return one row of a benchmark; without a reference, its ratio is None."""
    ratio = None if reference is None else ours / reference
    return {
        "what": what,
        "setting": setting,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "ratio_low": ratio,
        "ratio_high": ratio,
    }


def paired(
    what: str,
    setting: dict,
    ours: Callable[[], object],
    reference: Callable[[], object],
    pairs: int,
    report: Report | None = None,
) -> dict:
    """Time both calls alternately, after a first call of each that is not counted.

    Args:
        what: name of the row.
        setting: what is measured.
        ours: call that is timed.
        reference: call that it is compared with.
        pairs: number of measurements of each.
        report: told after each pair.

    Returns:
        A row with the medians of the seconds and of their ratio; `ratio_low` and `ratio_high` are
        the lowest and the highest pair.
    """
    ours(), reference()
    times = []
    for done in range(1, pairs + 1):
        times.append((seconds(ours), seconds(reference)))
        if report:
            report(what, done, pairs)
    ratios = [first / second for first, second in times]
    medians = (statistics.median(column) for column in zip(*times))
    return row(what, setting, *medians) | {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pairs": pairs,
    }


def seconds(call: Callable[[], object]) -> float:
    """Time one call, work on the GPU included."""
    _wait_for_gpu()
    began = time.perf_counter()
    call()
    _wait_for_gpu()
    return time.perf_counter() - began


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Peak(NamedTuple):
    """Memory and time of one call."""

    above_rest_mib: float  # above what was in use before the call
    whole_mib: float  # of the whole process, imports included; of a GPU, what torch reserves
    seconds: float


def can_measure_memory(device: torch.device) -> bool:
    """Tell whether peaks of memory are known here: on a GPU, or on Linux."""
    return device.type == "cuda" or CLEAR_PEAK.exists()


def peak(gradient: Callable, problem: Problem, device: torch.device = CPU) -> Peak:
    """Measure one call of `gradient` on `problem`; on the CPU in a process of its own."""
    if device.type == "cuda":
        return _peak_on_gpu(gradient, problem, device)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_in_this_process, gradient, problem).result()


def _peak_in_this_process(gradient: Callable, problem: Problem) -> Peak:
    prepare_process()
    gradient(*problem.small().arguments())  # loads modules and compiled kernels
    arguments = problem.arguments()
    CLEAR_PEAK.write_text("5")
    at_rest = status_mib("VmRSS")
    taken = seconds(lambda: gradient(*arguments))
    highest = status_mib("VmHWM")
    return Peak(highest - at_rest, highest, taken)


def _peak_on_gpu(gradient: Callable, problem: Problem, device: torch.device) -> Peak:
    prepare_process()
    arguments = problem.arguments(device=device)
    gradient(*problem.small().arguments(device=device))  # loads CUDA's libraries
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    at_rest = torch.cuda.memory_allocated(device)
    gradient(*arguments)
    above_rest = torch.cuda.max_memory_allocated(device) - at_rest
    reserved = torch.cuda.max_memory_reserved(device)
    taken = seconds(lambda: gradient(*arguments))  # cuDNN has chosen its algorithms by now
    return Peak(above_rest / MIB, reserved / MIB, taken)


def status_mib(field: str) -> float:
    """Read a field of /proc/self/status that is stated in kB, such as VmRSS or VmHWM, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
