"""How fast, exact and lean is the matching gradient, beside one graph of all student steps?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import nn

from benchmarks.measuring import Report, can_measure_memory, paired, peak, prepare_process, row
from benchmarks.problems import CPU, MIDDLE, PAPER_FEW, SMALL, Problem
from benchmarks.tesla import tesla_gradient
from medddist.method.distilled import Distilled
from medddist.method.matching import Segment, matching_gradient, unrolled_gradient
from medddist.method.networks import Network

EXACT = "sweep"
DIFFERENCE = "sweep, finite differences with frozen ReLUs"
BY_AUTOGRAD = "sweep, differentiated twice by autograd"
TESLA = "TESLA's approximation"
LIBRARY: dict[str, Callable] = {
    EXACT: matching_gradient,
    DIFFERENCE: partial(matching_gradient, way="difference"),
}


def measure(pairs: int, report: Report | None = None, device: torch.device = CPU) -> list[dict]:
    """Compare error, time and memory with `unrolled_gradient`; on the smallest shape, TESLA too."""
    prepare_process()
    rows = [exactness(device)]
    others = {TESLA: tesla_gradient}
    if device.type == "cpu":  # on a GPU, this is the sweep itself
        others[BY_AUTOGRAD] = by_autograd
    for problem in (SMALL, MIDDLE, PAPER_FEW):
        ways = LIBRARY | others if problem is SMALL else LIBRARY
        rows += [timed(name, way, problem, pairs, report, device) for name, way in ways.items()]
    return rows + (peaks(device) if can_measure_memory(device) else [])


def timed(
    name: str, way: Callable, problem: Problem, pairs: int, report: Report | None, device
) -> dict:
    """Time one way to the gradient, and take the cosine of its images' part to the exact one."""
    arguments = problem.arguments(device=device)
    calls = (lambda: way(*arguments)), (lambda: unrolled_gradient(*arguments))
    measured = paired(
        "seconds per iteration", {"way": name} | asdict(problem), *calls, pairs, report
    )
    return measured | {"cosine": cosine(*(call()[1]["images"] for call in calls))}


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the cosine of the angle between two image gradients of one shape."""
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def by_autograd(network: Network, *rest):
    """Call `matching_gradient` as on a network without written-out derivatives, by wrapping it."""
    return matching_gradient(Network(nn.Sequential(network.module)), *rest)


def peaks(device: torch.device) -> list[dict]:
    """Compare peak memory: each way with the unrolled graph, and many student steps with few."""
    where = "the process" if device.type == "cpu" else "torch on the GPU"
    unrolled = peak(unrolled_gradient, MIDDLE, device).above_rest_mib
    rows = [
        row(
            f"peak MiB of {where}, above rest",
            {"way": name} | asdict(MIDDLE),
            peak(way, MIDDLE, device).above_rest_mib,
            unrolled,
        )
        for name, way in LIBRARY.items()
    ]
    few, many = (replace(MIDDLE, student_steps=steps) for steps in (5, 80))
    ours, reference = (
        peak(matching_gradient, steps, device).above_rest_mib for steps in (many, few)
    )
    return [*rows, row("peak MiB, 80 student steps against 5", asdict(many), ours, reference)]


def exactness(device: torch.device = CPU) -> dict:
    """Compare errors of the image gradient in float32, against the unrolled one in float64.

    Returns:
        A row of the sweep's relative error and the unrolled graph's; `float64_difference` is the
        relative difference of the two in float64.
    """
    problem = replace(SMALL, width=16, images=12, batch_size=8)
    double = problem.arguments(torch.float64, device)
    exact = unrolled_gradient(*double)[1]["images"]
    error = lambda way, arguments: (
        (way(*arguments)[1]["images"].double() - exact).norm() / exact.norm()
    ).item()
    single = in_single_precision(*double)
    errors = error(matching_gradient, single), error(unrolled_gradient, single)
    measured = row("float32 error against float64", asdict(problem), *errors)
    return measured | {"float64_difference": error(matching_gradient, double)}


def in_single_precision(network: Network, distilled: Distilled, run: Segment, augmentation):
    """Return the same problem with every number in float32."""
    draws = tuple(replace(draw, uniform=draw.uniform.float()) for draw in run.draws)
    run = replace(run, start=run.start.float(), target=run.target.float(), draws=draws)
    return network, distilled.to(torch.float32), run, augmentation
