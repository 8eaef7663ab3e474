"""One loop for every method that learns features without labels: same views, same optimiser, same
budget.

A method says what its loss on two views of a batch is, and what happens after a step. The published
recipes differ in all else (LARS, SGD or AdamW; hours on many GPUs); here all take AdamW with the
same schedule, a choice of this study.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medddist.base.progress import Progress, silent
from medddist.base.seeds import generator
from medddist.base.settings import Settings
from medddist.base.threads import shared_threads
from medddist.method.augment import AugmentSettings, augment, draw
from medddist.method.networks import Network, initial_parameters
from medddist.method.training import Diverged

# outputs whose `spread` is below this, and below half of what it was before, point nearly all the
# same way
COLLAPSED = 0.2


class PretrainSettings(Settings):
    """The budget and the recipe that all methods share; a step takes `batch_size` images in two
    views each.
    """

    inside_steps: int = Field(3000, ge=1)  # where all training images may be seen
    released_steps: int = Field(600, ge=1)  # where the released ones alone may
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(
        2e-3, gt=0
    )  # AdamW's, reached after a tenth of the steps, then a cosine to zero
    weight_decay: float = Field(1e-2, ge=0)
    hidden_width: int = Field(256, ge=1)  # of projector and predictor
    output_width: int = Field(64, ge=2)  # of a projection
    momentum: float = Field(
        0.99, ge=0, lt=1
    )  # of target networks at the start; it rises to 1 by a cosine (BYOL)
    mask_ratio: float = Field(0.75, gt=0, lt=1)  # of MAE: patches removed
    decoder_width: int = Field(64, ge=4)
    # Wider than the recipe's, and without cut-out: a view that hides the lesion teaches to ignore
    # it.
    views: AugmentSettings = AugmentSettings(
        shift=0.15, scale=0.3, rotation_degrees=10, brightness=0.2, contrast=0.2, cutout=0
    )


class Method(nn.Module):
    """What the loop asks of a method: a loss on two views, what it compares (to see a collapse),
    and what follows a step.
    """

    encoder: nn.Module  # with `features`, as every network of `architectures`

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        """() of two views (N, C, H, W) of the same images; `random` for what the method itself
        draws.
        """
        raise NotImplementedError

    def outputs(self, images: Tensor) -> Tensor:
        """(N, D) what the method would make of images; without spread over images it has collapsed."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each step with the share of steps done."""


@dataclass(frozen=True)
class Pretrained:
    """theta (P,): the network with pretrained features; its `linear` is what it started with and
    means nothing.
    """

    theta: Tensor
    losses: list[float]
    spread: dict[str, float]  # `spread` of the outputs at the start and at the end

    @property
    def collapsed(self) -> bool:
        return self.spread["end"] < min(COLLAPSED, self.spread["start"] / 2)


@shared_threads()
def pretrain(
    network: Network,
    make: Callable[[nn.Module, PretrainSettings, tuple[int | str, ...]], Method],
    images: Tensor,
    settings: PretrainSettings,
    steps: int,
    seed: tuple[int | str, ...],
    progress: Progress = silent,
    what: str = "pretraining",
) -> Pretrained:
    """Learn the network's features from images (N, C, H, W) without labels, N >= 2.

    make: the method's class, or what gives one from (encoder, settings, seed)
    Raises Diverged when the loss, or in the end a parameter or an output, is no longer finite.
    """
    encoder = seeded(copy.deepcopy(network.module), *seed, "encoder").to(images.device)
    method = make(encoder, settings, seed).to(images.device).train()
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        learned, lr=0.0, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
    )
    some = images[: min(len(images), 256)]
    before, losses = spread(method, some), []
    for step, batch in enumerate(batches(len(images), settings.batch_size, steps, seed)):
        random = generator(*seed, "step", step)
        x = images[batch.to(images.device)]
        views = [augment(x, draw(len(x), random, x), settings.views) for _ in range(2)]
        loss = method.loss(*views, random)
        optimiser.param_groups[0]["lr"] = settings.learning_rate * warm_cosine(step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step((step + 1) / steps)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise Diverged(
                "learning_rate",
                f"pretraining diverged in step {step + 1} at {settings.learning_rate:g}",
                "lower the learning rate",
            )
        progress(what, step + 1, steps)
    theta, after = flat(method.encoder), spread(method, some)
    if not (
        theta.isfinite().all() and math.isfinite(after)
    ):  # the last loss is that before the last step
        raise Diverged(
            "learning_rate",
            f"pretraining diverged in step {steps} at {settings.learning_rate:g}",
            "lower the learning rate",
        )
    return Pretrained(theta, losses, {"start": before, "end": after})


def batches(
    count: int, batch_size: int, steps: int, seed: tuple[int | str, ...]
) -> Iterator[Tensor]:
    """`steps` batches of indices: shuffled passes without the last, smaller batch; all images where
    they are fewer.
    """
    size, given, passes = min(batch_size, count), 0, 0
    while given < steps:
        order = torch.randperm(count, generator=generator(*seed, "pass", passes))
        for start in range(0, count - size + 1, size):
            if given < steps:
                yield order[start : start + size]
                given += 1
        passes += 1


def warm_cosine(progress: float, warm: float = 0.1) -> float:
    """Factor of the learning rate when `progress` (0 to 1) of the steps are done; never 0 at the
    first step.
    """
    rising = min(1.0, (progress + 0.01) / warm)
    return rising * 0.5 * (1 + math.cos(math.pi * max(0.0, progress - warm) / (1 - warm)))


@torch.no_grad()
def spread(method: Method, images: Tensor) -> float:
    """Standard deviation of the L2-normalised outputs, times the root of their width.

    1 is what directions without any preference have, 0 a complete collapse (SimSiam, section 4.1).
    Heads normalise over these images, as in training.
    """
    outputs = F.normalize(method.outputs(images), dim=1)
    return float(outputs.std(0, correction=0).mean() * outputs.shape[1] ** 0.5)


def seeded(module: nn.Module, *seed: int | str) -> nn.Module:
    """The module with parameters drawn from the named seed, ready to be learned."""
    network = Network(module)
    network.loaded(initial_parameters(network, *seed))
    return module.requires_grad_()


def mlp_head(
    inputs: int, hidden: int, outputs: int, batch_norm_last: bool = False
) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: projector and predictor of BYOL and SimSiam. Heads are
    thrown away, so that their running statistics need no place in theta.
    """
    layers = [
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    ]
    return nn.Sequential(
        *layers, *([nn.BatchNorm1d(outputs, affine=False)] if batch_norm_last else [])
    )


def feature_width(encoder: nn.Module) -> int:
    return encoder.linear.in_features


def embedded(encoder: nn.Module, images: Tensor) -> Tensor:
    """(N, D) features of images (N, C, H, W)."""
    return encoder.features(images).flatten(1)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A target network: the same values, learned by averaging alone."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def ema_step(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Target <- momentum target + (1 - momentum) online, parameters; running statistics are each
    network's own.
    """
    for average, value in zip(target.parameters(), online.parameters(), strict=True):
        average.mul_(momentum).add_(value, alpha=1 - momentum)


def rising_momentum(base: float, progress: float) -> float:
    """BYOL's: 1 - (1 - base) (cos(pi progress) + 1) / 2."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


def flat(module: nn.Module) -> Tensor:
    """(P,) the module's parameters, in the order of `networks.Network`."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def transplanted(source: Network, theta: Tensor, target: Network, fresh: Tensor) -> Tensor:
    """(P',) of `target`: `source`'s features at theta (P,), and `fresh` (P',) in its last layer."""
    features, own = source.named(theta), target.named(fresh)
    return torch.cat(
        [
            (own[name] if name.startswith("linear.") else features[name]).flatten()
            for name in target.names
        ]
    )
