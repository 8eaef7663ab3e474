"""How do time and memory of an iteration grow with each setting?"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import torch

from benchmarks.measuring import Report, can_measure_memory, paired, peak, prepare_process, row
from benchmarks.problems import CPU, SMALL, Problem
from benchmarks.teachers import run_all, trainings
from medddist.method.matching import matching_gradient

VALUES = {
    "student_steps": (40, 80),
    "images": (80, 160),
    "image_size_px": (64, 128),
    "width": (64, 128),
}


def measure(pairs: int, report: Report | None = None, device: torch.device = CPU) -> list[dict]:
    """Change each setting alone, and compare with the smallest shape.

    Rows of several teachers and, on the CPU, of two processes follow.
    """
    prepare_process()
    memory = can_measure_memory(device)
    base = partial(matching_gradient, *SMALL.arguments(device=device))
    base_mib = peak(matching_gradient, SMALL, device).above_rest_mib if memory else None
    rows = []
    for name, values in VALUES.items():
        for value in values:
            setting = {name: value}
            problem = replace(SMALL, **setting)
            larger = partial(matching_gradient, *problem.arguments(device=device))
            rows.append(paired("seconds per iteration", setting, larger, base, pairs, report))
            if memory:
                mib = peak(matching_gradient, problem, device).above_rest_mib
                rows.append(row("peak MiB", setting, mib, base_mib))
    rows.append(several_teachers(pairs, report, device))
    return rows if device.type == "cuda" else [*rows, two_processes(pairs, report)]


def several_teachers(pairs: int, report: Report | None, device: torch.device = CPU) -> dict:
    """Compare the training of four teachers with that of one."""
    calls = (partial(run_all, trainings(count, device=device)) for count in (4, 1))
    return paired("seconds of training", {"teachers": 4}, *calls, pairs, report)


def two_processes(pairs: int, report: Report | None) -> dict:
    """Compare two segments in two processes of one thread each with both in this process."""
    what = "seconds per iteration of two segments, without the exchange"
    problems = [SMALL, SMALL]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        shared = lambda: list(pool.map(_iteration, problems))
        alone = lambda: list(map(_iteration, problems))
        return paired(what, {"processes": 2}, shared, alone, pairs, report)


def _one_thread() -> None:
    torch.set_num_threads(1)
    prepare_process()


def _iteration(problem: Problem) -> float:
    return matching_gradient(*problem.arguments())[0]
