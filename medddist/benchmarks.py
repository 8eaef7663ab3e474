"""Benchmarks: figures as ratios to a reference of the same run; times pair by pair, with the ratio's lowest and highest pair.

Nothing here is a test: a shared machine is noisy, so times are compared, never judged. Memory is the peak of a fresh process, where
Linux's /proc tells it; on a GPU it is what torch allocates there.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from medddist.base.compute import keep_freed_memory, use_full_precision
from medddist.base.seeds import generator
from medddist.method.augment import AugmentSettings, augment, draw
from medddist.method.matching import (
    Distilled,
    Segment,
    matching_gradient,
    segment,
    unrolled_gradient,
)
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters
from medddist.method.training import Recipe, sampled_order, train

CLASSES = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A made-up matching problem; every step takes all images unless `batch_size` says otherwise."""

    width: int
    depth: int
    image_size_px: int
    images: int
    student_steps: int
    batch_size: int | None = None

    def problem(
        self, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> tuple[Network, Distilled, Segment, AugmentSettings]:
        network = convnet(
            NetworkSettings(width=self.width, depth=self.depth), 1, CLASSES, self.image_size_px
        )
        random = generator("bench", self.image_size_px)
        start = initial_parameters(network, "bench").to(dtype)
        network.module.to(device)
        target = start + 0.01 * torch.randn(start.shape, generator=random, dtype=dtype)
        size = (self.images, 1, self.image_size_px, self.image_size_px)
        images = torch.randn(size, generator=random, dtype=dtype).to(device)
        labels, log_step_size = (
            torch.arange(self.images, device=device) % CLASSES,
            torch.tensor(math.log(0.01), dtype=dtype, device=device),
        )
        distilled = Distilled(images, labels, log_step_size)
        run = segment(
            start, target, images, self.batch_size or self.images, self.student_steps, random
        )
        return network, distilled, run, AugmentSettings()

    def few(self) -> Case:
        return replace(self, images=2, student_steps=1)


DIFFERENCE = "sweep, differences with the ReLUs held"
SMALL = Case(width=32, depth=3, image_size_px=32, images=40, student_steps=20)
MIDDLE = Case(width=64, depth=3, image_size_px=64, images=40, student_steps=20)
PAPER = Case(width=128, depth=5, image_size_px=112, images=80, student_steps=20)
PAPER_FEW = replace(PAPER, images=8, student_steps=5)
WAYS = {
    "unrolled": unrolled_gradient,
    "sweep": matching_gradient,
    "sweep, all steps' activations kept": partial(matching_gradient, kept_steps=10**6),
    "sweep, half of the steps' activations kept": partial(matching_gradient, kept_steps=10),
    DIFFERENCE: partial(matching_gradient, way="difference"),
    "sweep, convolutions in bfloat16": partial(matching_gradient, way="bfloat16"),
    "TESLA's approximation": partial(matching_gradient, way="tesla"),
}
KEPT = "sweep, all steps' activations kept"

MEMORY = Path("/proc/self/clear_refs")  # writing to it resets the peak of resident memory

Progress = Callable[[str, int, int], None]


def gradient(
    pairs: int = 5, progress: Progress | None = None, device: torch.device = CPU
) -> list[dict]:
    """The exact sweep against the unrolled graph: time, error and peak memory."""
    _as_a_study_runs()
    rows = [exactness(device)]
    kept = (
        [KEPT] if device.type == "cpu" else []
    )  # elsewhere autograd differentiates, and keeps no activations from before
    for case in (SMALL, MIDDLE, PAPER_FEW):
        arguments = case.problem(device=device)
        for way in ("sweep", *kept, DIFFERENCE):
            what = ", ".join(["seconds an iteration", *way.split(", ")[1:]])
            ways = [lambda of=WAYS[name], a=arguments: of(*a) for name in (way, "unrolled")]
            rows.append(_paired(what, asdict(case), *ways, pairs=pairs, progress=progress))
    if not _tells_memory(device):
        return rows
    peak = lambda case, way: peak_mib(case, way, device)[0]
    unrolled = peak(MIDDLE, "unrolled")
    rows.append(_row(_above_rest(device), asdict(MIDDLE), peak(MIDDLE, "sweep"), unrolled))
    for way in (*kept, DIFFERENCE):
        rows.append(
            _row(f"the same, {way.partition(', ')[2]}", asdict(MIDDLE), peak(MIDDLE, way), unrolled)
        )
    few, many = (replace(MIDDLE, student_steps=steps) for steps in (5, 80))
    rows.append(
        _row(
            "peak MiB, 80 student steps against 5",
            asdict(many),
            peak(many, "sweep"),
            peak(few, "sweep"),
        )
    )
    return rows


def ways(
    pairs: int = 5, progress: Progress | None = None, device: torch.device = CPU
) -> list[dict]:
    """Every way to the gradient that was tried and kept in the library, against the unrolled graph: time, and direction in the images.

    The sweep that autograd differentiates twice is what a network without written-out derivatives takes.
    """
    _as_a_study_runs()
    arguments = SMALL.problem(device=device)
    unrolled, cosine = lambda: unrolled_gradient(*arguments), nn.functional.cosine_similarity
    exact = unrolled()[1]["images"].flatten()
    others = {
        name: way
        for name, way in WAYS.items()
        if name != "unrolled" and (device.type == "cpu" or "kept" not in name)
    }
    calls = {name: lambda of=of: of(*arguments) for name, of in others.items()}
    if device.type == "cpu":  # elsewhere that is the sweep itself
        calls["sweep, differentiated twice by autograd"] = lambda: _by_autograd(*arguments)
    rows = []
    for name, call in calls.items():
        row = _paired(
            "seconds an iteration", {"way": name}, call, unrolled, pairs=pairs, progress=progress
        )
        rows.append(row | {"cosine": cosine(call()[1]["images"].flatten(), exact, dim=0).item()})
    return rows


def _by_autograd(network: Network, *rest):
    """`matching_gradient` as for a network that the kernels do not know: wrapped, it is none of theirs."""
    return matching_gradient(Network(nn.Sequential(network.module)), *rest)


def paper(progress: Progress | None = None, device: torch.device = CPU) -> list[dict]:
    """One exact iteration of the paper's shape: its time, and the peak of the whole process, imports included (of a GPU: what torch reserves)."""
    above, whole, seconds = peak_mib(PAPER, "sweep", device)
    setting = asdict(PAPER)
    return [
        {"what": _of_all(device), "setting": setting, "ours": whole, "reference": None},
        {"what": _above_rest(device), "setting": setting, "ours": above, "reference": None},
        {"what": "seconds an iteration", "setting": setting, "ours": seconds, "reference": None},
    ]


def exactness(device: torch.device = CPU) -> dict:
    """The image gradient's relative difference to the unrolled one in float64; and how far each is from that in float32."""
    case = replace(SMALL, width=16, images=12, batch_size=8)
    network, distilled, run, augmentation = case.problem(torch.float64, device)
    exact, found = (
        of(network, distilled, run, augmentation)[1]["images"]
        for of in (unrolled_gradient, matching_gradient)
    )
    single = [
        of(*_single(network, distilled, run, augmentation))[1]["images"]
        for of in (matching_gradient, unrolled_gradient)
    ]
    error = lambda one: ((one.double() - exact).norm() / exact.norm()).item()
    row = _row("float32 error against float64", asdict(case), *map(error, single))
    return row | {"float64_difference": error(found)}


def _single(network, distilled: Distilled, run: Segment, augmentation):
    draws = tuple(replace(one, uniform=one.uniform.float()) for one in run.draws)
    run = replace(run, start=run.start.float(), target=run.target.float(), draws=draws)
    return network, distilled.to(torch.float32), run, augmentation


def teachers(
    pairs: int = 5, progress: Progress | None = None, device: torch.device = CPU, count: int = 100
) -> list[dict]:
    """Small teachers by the study's training against a loop of plain PyTorch, augmentation counted on both sides.

    A round is `count / pairs` teachers of each kind; the ratio's spread is over rounds.
    """
    _as_a_study_runs()
    share = max(1, count // pairs)
    ours, plain = ([*_teacher_runs(share, way, device)] for way in (train, plain_training))
    setting = {
        "width": 32,
        "depth": 3,
        "image_size_px": 32,
        "images": TEACHER_IMAGES,
        "teachers": share * pairs,
    }
    setting |= {"epochs": TEACHER_RECIPE.epochs, "batch_size": TEACHER_RECIPE.batch_size}
    all_of = lambda runs: [run() for run in runs]
    return [
        _paired(
            "seconds a round of teachers",
            setting,
            lambda: all_of(ours),
            lambda: all_of(plain),
            pairs=pairs,
            progress=progress,
        )
    ]


TEACHER_RECIPE, TEACHER_IMAGES = Recipe(epochs=2, batch_size=256, learning_rate=0.01), 512


def _teacher_runs(
    count: int, way: Callable = train, device: torch.device = CPU
) -> list[Callable[[], Tensor]]:
    """A call a teacher that trains it by `train` or `plain_training`."""
    network = convnet(NetworkSettings(width=32, depth=3), 1, CLASSES, 32)
    network.module.to(device)
    images = torch.randn(TEACHER_IMAGES, 1, 32, 32, generator=generator("bench")).to(device)
    labels = torch.arange(len(images), device=device) % CLASSES
    starts = [initial_parameters(network, "bench", k).to(device) for k in range(count)]
    return [
        partial(way, network, start, images, labels, TEACHER_RECIPE, ("bench", k))
        for k, start in enumerate(starts)
    ]


def plain_training(
    network: Network, start: Tensor, images: Tensor, labels: Tensor, recipe: Recipe, seed: tuple
) -> Tensor:
    """The recipe as a PyTorch user writes it: module, optimiser, loss, backward; the same order and augmentation."""
    module = convnet_of(network, start)
    optimiser = torch.optim.SGD(
        module.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    for epoch in range(recipe.epochs):
        random = generator(*seed, "epoch", epoch)
        for batch in sampled_order(labels, recipe.sampling, random).split(recipe.batch_size):
            x = augment(images[batch], draw(len(batch), random, images), recipe.augmentation)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x), labels[batch]).backward()
            optimiser.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def convnet_of(network: Network, theta: Tensor) -> nn.Module:
    """The network's own module with theta in it, to be trained by an optimiser."""
    module = network.loaded(theta)
    return module.requires_grad_(True)


def scaling(
    pairs: int = 3, progress: Progress | None = None, device: torch.device = CPU
) -> list[dict]:
    """How the sweep's cost grows: each setting changed alone, as a ratio to SMALL in the same run; two processes on the CPU alone."""
    _as_a_study_runs()
    changes = [
        {"student_steps": 40}, {"student_steps": 80}, {"images": 80}, {"images": 160}, {"image_size_px": 64},
        {"image_size_px": 128}, {"width": 64}, {"width": 128},
    ]  # fmt: skip
    base, rows = SMALL.problem(device=device), []
    for change in changes:
        case = replace(SMALL, **change)
        other = case.problem(device=device)
        ways = lambda o=other: matching_gradient(*o), lambda: matching_gradient(*base)
        rows.append(_paired("seconds an iteration", change, *ways, pairs=pairs, progress=progress))
        if _tells_memory(device):
            rows.append(
                _row(
                    "peak MiB",
                    change,
                    peak_mib(case, "sweep", device)[0],
                    peak_mib(SMALL, "sweep", device)[0],
                )
            )
    rows.append(_several_teachers(pairs, progress, device))
    return rows if device.type == "cuda" else [*rows, _two_processes(pairs, progress)]


def _several_teachers(pairs: int, progress: Progress | None, device: torch.device = CPU) -> dict:
    train_some = lambda count: [call() for call in _teacher_runs(count, device=device)]
    return _paired(
        "seconds of training",
        {"teachers": 4},
        lambda: train_some(4),
        lambda: train_some(1),
        pairs=pairs,
        progress=progress,
    )


def _two_processes(pairs: int, progress: Progress | None) -> dict:
    """Two segments by two processes of one thread each, against one process of as many threads as it takes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        shared = lambda: list(pool.map(_an_iteration, [SMALL, SMALL]))
        twice = lambda: list(map(_an_iteration, [SMALL, SMALL]))
        what = "seconds an iteration of two segments, without the exchange"
        return _paired(what, {"processes": 2}, shared, twice, pairs=pairs, progress=progress)


def _one_thread() -> None:
    torch.set_num_threads(1)
    _as_a_study_runs()


def _an_iteration(case: Case) -> float:
    return matching_gradient(*case.problem())[0]


BENCHMARKS = {
    "gradient": gradient,
    "ways": ways,
    "teachers": teachers,
    "scaling": scaling,
    "paper": paper,
}


def _as_a_study_runs() -> None:
    keep_freed_memory()
    use_full_precision()


# ---- measuring -------------------------------------------------------------------------------------------------------


def _paired(what, setting, ours, reference, *, pairs: int, progress: Progress | None) -> dict:
    """Medians of both and of their ratio, taken in turn after a first call that is not counted; low and high: the extremes."""
    ours(), reference()
    times = []
    for done in range(pairs):
        times.append((_seconds(ours), _seconds(reference)))
        if progress:
            progress(what, done + 1, pairs)
    ratios = [a / b for a, b in times]
    row = _row(what, setting, *(statistics.median(column) for column in zip(*times)))
    return row | {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pairs": pairs,
    }


def _row(what: str, setting: dict, ours: float, reference: float) -> dict:
    ratio = ours / reference
    return {
        "what": what, "setting": setting, "ours": ours, "reference": reference,
        "ratio": ratio, "ratio_low": ratio, "ratio_high": ratio,
    }  # fmt: skip


def _seconds(call: Callable[[], object]) -> float:
    _finish_on_gpu()
    began = time.perf_counter()
    call()
    _finish_on_gpu()
    return time.perf_counter() - began


def _finish_on_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _tells_memory(device: torch.device) -> bool:
    return device.type == "cuda" or MEMORY.exists()


def _of_all(device: torch.device) -> str:
    return (
        "peak MiB of the whole process"
        if device.type == "cpu"
        else "peak MiB reserved by torch on the GPU"
    )


def _above_rest(device: torch.device) -> str:
    return (
        "peak MiB above the process at rest"
        if device.type == "cpu"
        else "peak MiB allocated on the GPU above what is there at rest"
    )


def peak_mib(case: Case, way: str, device: torch.device = CPU) -> tuple[float, float, float]:
    """Of one call in a fresh process: peak above its memory at rest, peak of the whole process, and seconds; on a GPU, of its memory."""
    if device.type == "cuda":
        return _peak_on_gpu(case, way, device)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_in_this_process, case, way).result()


def _peak_in_this_process(case: Case, way: str) -> tuple[float, float, float]:
    _as_a_study_runs()
    of = WAYS[way]
    of(*case.few().problem())  # imports and compiled kernels are there now
    arguments = case.problem()
    MEMORY.write_text("5")  # the peak starts anew from what is resident now
    rest = _status_mib("VmRSS")
    seconds = _seconds(lambda: of(*arguments))
    peak = _status_mib("VmHWM")
    return peak - rest, peak, seconds


def _peak_on_gpu(case: Case, way: str, device: torch.device) -> tuple[float, float, float]:
    _as_a_study_runs()
    of, arguments = WAYS[way], case.problem(device=device)
    of(*case.few().problem(device=device))  # libraries are loaded
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    rest = torch.cuda.memory_allocated(device)
    of(*arguments)
    above, whole = (
        torch.cuda.max_memory_allocated(device) - rest,
        torch.cuda.max_memory_reserved(device),
    )
    return (
        above / 2**20,
        whole / 2**20,
        _seconds(lambda: of(*arguments)),
    )  # plans for these shapes are made by now


def _status_mib(field: str) -> float:
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
