"""How fast and lean is an iteration of the loss on real images, beside one graph of its window?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch

from benchmarks.gradient import DIFFERENCE, EXACT, cosine
from benchmarks.measuring import Report, can_measure_memory, paired, peak, prepare_process, row
from benchmarks.problems import CPU, REAL, RealProblem
from medddist.method.real_loss import real_loss_gradient, unrolled_real_loss_gradient

LIBRARY: dict[str, Callable] = {
    EXACT: real_loss_gradient,
    DIFFERENCE: partial(real_loss_gradient, way="difference"),
}
VALUES = {"student_steps": (10, 20, 80), "batch_size": (20, 80), "width": (64, 128)}
FEW, MANY = 10, 80  # steps of the windows whose memory is compared


def measure(pairs: int, report: Report | None = None, device: torch.device = CPU) -> list[dict]:
    """Compare with one graph of the window; then change window, batch and width, each alone."""
    prepare_process()
    rows = [timed(name, pairs, report, device) for name in LIBRARY]
    if can_measure_memory(device):
        rows += peaks(device)
    return rows + growth(pairs, report, device)


def timed(name: str, pairs: int, report: Report | None, device: torch.device) -> dict:
    """Time one way to the gradient, and take the cosine of its images' part to the graph's."""
    arguments = REAL.arguments(device=device)
    ways = LIBRARY[name], unrolled_real_loss_gradient
    calls = [partial(way, *arguments) for way in ways]
    setting = {"way": name} | asdict(REAL)
    measured = paired("seconds per iteration", setting, *calls, pairs, report)
    return measured | {"cosine": cosine(*(call()[1]["images"] for call in calls))}


def peaks(device: torch.device) -> list[dict]:
    """Compare peak memory: each way with one graph, and a long window with a short one."""
    where = "the process" if device.type == "cpu" else "torch on the GPU"
    few, many = (replace(REAL, student_steps=steps) for steps in (FEW, MANY))
    unrolled = median_peak(unrolled_real_loss_gradient, REAL, device)
    beside_graph, by_window = [], []
    for name, way in LIBRARY.items():
        usual, short, long = (median_peak(way, shape, device) for shape in (REAL, few, many))
        setting, longer = ({"way": name} | asdict(shape) for shape in (REAL, many))
        beside_graph.append(row(f"peak MiB of {where}, above rest", setting, usual, unrolled))
        what = f"peak MiB, a window of {MANY} steps against {FEW}"
        by_window.append(row(what, longer, long, short))
    return beside_graph + by_window


def median_peak(way: Callable, problem: RealProblem, device: torch.device) -> float:
    """Return the median of three peaks above rest in MiB; one may be off by a tenth."""
    return statistics.median(peak(way, problem, device).above_rest_mib for _ in range(3))


def growth(pairs: int, report: Report | None, device: torch.device) -> list[dict]:
    """Time iterations of the exact sweep with one setting changed, beside the usual shape."""
    usual = partial(real_loss_gradient, *REAL.arguments(device=device))
    rows = []
    for name, values in VALUES.items():
        for value in values:
            arguments = replace(REAL, **{name: value}).arguments(device=device)
            changed, setting = partial(real_loss_gradient, *arguments), {name: value}
            what = "seconds per iteration, one setting changed"
            rows.append(paired(what, setting, changed, usual, pairs, report))
    return rows
