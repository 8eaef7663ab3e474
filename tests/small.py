"""Problems so small that a test can afford them: networks of a few hundred parameters, images of 8
px.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from medddist.base.seeds import generator
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.distill import Ask, DistillSettings
from medddist.method.evaluate import EvaluateSettings
from medddist.method.iterations import along_teachers, on_real_images
from medddist.method.networks import Network, NetworkSettings, convnet, initial_parameters
from medddist.method.teachers import TeacherSettings
from medddist.method.training import Recipe
from medddist.method.trajectories import Trajectory, open_trajectory, write_trajectory

CLASSES, SIZE_PX = 3, 8


def tiny_network(channels: int = 1, *, width: int = 4, depth: int = 2) -> Network:
    return convnet(NetworkSettings(width=width, depth=depth), channels, CLASSES, SIZE_PX)


def softmax_network(pixels: int, classes: int) -> Network:
    """Multinomial logistic regression:

    small enough for derivatives by hand. theta is the weights by row, then the biases.
    """
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)))


def labelled(
    count: int, seed: int = 0, channels: int = 1, dtype=torch.float32
) -> tuple[Tensor, Tensor]:
    """Images whose class is a bright quarter, in noise; every class is there."""
    random = generator("labelled", seed)
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, channels, SIZE_PX, SIZE_PX, generator=random, dtype=dtype)
    half = SIZE_PX // 2
    for image, label in zip(images, labels.tolist()):
        image[:, half * (label // 2) :, half * (label % 2) :][:, :half, :half] += 1.5
    return images, labels


def walk(network: Network, snapshots: int, seed: int = 0, dtype=torch.float32) -> Tensor:
    """(S, P) a made-up trajectory: a start as any network's, and random steps from there."""
    start = initial_parameters(network, "walk", seed).to(dtype)
    steps = 0.02 * torch.randn(
        snapshots - 1, len(start), generator=generator("steps", seed), dtype=dtype
    )
    return torch.cat([start[None], start + steps.cumsum(0)])


def walks(folder: Path, network: Network, count: int = 2, snapshots: int = 5) -> list[Trajectory]:
    """`count` made-up trajectories as files."""
    paths = [Path(folder) / f"teacher_{k:03d}.safetensors" for k in range(count)]
    for k, path in enumerate(paths):
        write_trajectory(path, walk(network, snapshots, k), {"index": k})
    return [open_trajectory(path) for path in paths]


def tiny_recipe(**changes) -> Recipe:
    return Recipe(**({"epochs": 3, "batch_size": 8, "learning_rate": 0.05} | changes))


def tiny_teachers(**changes) -> TeacherSettings:
    return TeacherSettings(
        **({"teachers": 2, "recipe": tiny_recipe(epochs=5), "kept_epochs": 4} | changes)
    )


def some_logits(images: Tensor) -> Tensor:
    """(N, K) what networks might answer: each image's first class means, as soft labels."""
    return images.flatten(1)[:, :CLASSES].detach().clone()


def asked(network: Network, trajectories, settings: DistillSettings, training=None) -> Ask:
    """What the iterations of these settings ask."""
    if settings.method == "trajectory":
        return along_teachers(network, trajectories, settings)
    training = training or labelled(20)
    targets = some_logits(training[0]).softmax(1)
    return on_real_images([network], training, targets, settings, tiny_evaluation().recipe)


def tiny_distill(**changes) -> DistillSettings:
    small = {
        "images_per_class": 2,
        "iterations": 7,
        "student_steps": 3,
        "window_steps": 2,
        "horizon_steps": 4,
        "real_batch_size": 12,
        "expert_epochs": 1,
        "max_start_epoch": 3,
        "batch_size": 4,
        "step_size": 0.02,
        "learning_rate_images": 1.0,
        "learning_rate_log_step_size": 0.01,
        "select_every": 3,
        "selection_networks": 1,
    }
    return DistillSettings(**(small | changes))


def tiny_evaluation(**changes) -> EvaluateSettings:
    recipe = tiny_recipe(epochs=4, momentum=0.9, schedule="halfway", augmentation=NO_AUGMENTATION)
    return EvaluateSettings(**({"networks": 2, "recipe": recipe} | changes))


def killed_and_resumed(scenarios: list[dict]) -> list[dict]:
    """`killed.py` on these scenarios, one thread everywhere so that bits can be compared; what
    became of each.
    """
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )
    top = Path(__file__).resolve().parent
    path = os.pathsep.join(
        [str(top.parent), str(top), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    done = subprocess.run(
        [sys.executable, str(top / "killed.py")],
        input=json.dumps(scenarios),
        capture_output=True,
        text=True,
        env=os.environ | threads | {"PYTHONPATH": path},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    for scenario, end in zip(scenarios, ends, strict=True):
        assert all(end["killed"]), (
            f"not every process of {scenario} died as it should\n{done.stderr}"
        )
        assert end["last"] == 0, f"the last process of {scenario} failed\n{done.stderr}"
    return ends
