"""How fast is teacher training, beside a plain PyTorch loop?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measuring import Report, paired, prepare_process
from benchmarks.problems import CLASSES, CPU
from medddist.base.seeds import generator
from medddist.method.augment import augment, draw
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters
from medddist.method.training import Recipe, sampled_order, train

TEACHERS = 100
WIDTH, DEPTH, SIZE_PX, IMAGES = 32, 3, 32, 512
RECIPE = Recipe(epochs=2, batch_size=256, learning_rate=0.01)


def measure(pairs: int, report: Report | None = None, device: torch.device = CPU) -> list[dict]:
    """Compare rounds of TEACHERS / `pairs` teachers, augmentation included on both sides."""
    prepare_process()
    share = max(1, TEACHERS // pairs)
    setting = {
        "width": WIDTH,
        "depth": DEPTH,
        "image_size_px": SIZE_PX,
        "images": IMAGES,
        "teachers": share * pairs,
        "epochs": RECIPE.epochs,
        "batch_size": RECIPE.batch_size,
    }
    calls = (partial(run_all, trainings(share, way, device)) for way in (train, plain_training))
    return [paired("seconds per round of teachers", setting, *calls, pairs, report)]


def trainings(
    count: int, way: Callable = train, device: torch.device = CPU
) -> list[Callable[[], Tensor]]:
    """Return one call per teacher that trains it by `train` or `plain_training`."""
    network = convnet(NetworkSettings(width=WIDTH, depth=DEPTH), 1, CLASSES, SIZE_PX)
    network.module.to(device)
    images = torch.randn(IMAGES, 1, SIZE_PX, SIZE_PX, generator=generator("bench")).to(device)
    labels = torch.arange(len(images), device=device) % CLASSES
    starts = [initial_parameters(network, "bench", k).to(device) for k in range(count)]
    return [
        partial(way, network, start, images, labels, RECIPE, ("bench", k))
        for k, start in enumerate(starts)
    ]


def run_all(calls: list[Callable[[], Tensor]]) -> list[Tensor]:
    """Make every call, one after another."""
    return [call() for call in calls]


def plain_training(
    network: Network, start: Tensor, images: Tensor, labels: Tensor, recipe: Recipe, seed: tuple
) -> Tensor:
    """Train as a PyTorch user would: module, optimiser, loss, backward.

    Args:
        network: architecture of the teacher.
        start: (P,) initial parameters.
        images: (N, C, H, W).
        labels: (N,).
        recipe: as for `train`; without a schedule.
        seed: as for `train`, so that order and augmentation are the same.

    Returns:
        The trained parameters (P,).
    """
    module = network.loaded(start).requires_grad_(True)
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
