"""Learn features without labels: one loop for every method, with the same views and optimiser.

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

# Outputs have collapsed where their `spread` is below this, and below half of that at the start.
COLLAPSED = 0.2
WATCHED = 256  # images, at most, whose outputs' spread is measured


class PretrainSettings(Settings):
    """The budget and the recipe that all methods share.

    A step takes `batch_size` images in two views each. Views are wider than the recipe's
    augmentation, and without cut-out: a view that hides the lesion teaches to ignore it.
    """

    inside_steps: int = Field(3000, ge=1)  # where all training images may be seen
    released_steps: int = Field(600, ge=1)  # where the released ones alone may
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(2e-3, gt=0)  # AdamW's; see `warm_cosine`
    weight_decay: float = Field(1e-2, ge=0)  # AdamW's
    hidden_width: int = Field(256, ge=1)  # of projector and predictor
    output_width: int = Field(64, ge=2)  # of a projection
    momentum: float = Field(0.99, ge=0, lt=1)  # of target networks at the start
    mask_ratio: float = Field(0.75, gt=0, lt=1)  # of MAE: patches removed
    decoder_width: int = Field(64, ge=4)  # of MAE's decoder
    views: AugmentSettings = AugmentSettings(
        shift=0.15, scale=0.3, rotation_degrees=10, brightness=0.2, contrast=0.2, cutout=0
    )


class Method(nn.Module):
    """What the loop asks of a method."""

    encoder: nn.Module  # with `features`, as every network of `architectures`

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        """Compute the loss () on two views (N, C, H, W) of the same images.

        `random` is for what the method itself draws.
        """
        raise NotImplementedError

    def outputs(self, images: Tensor) -> Tensor:
        """Compute what the method compares (N, D): without spread over images it has collapsed."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Do what follows a step, when the share `progress` of the steps is done."""


@dataclass(frozen=True)
class Pretrained:
    """A network with pretrained features.

    theta: (P,) parameters; those of the `linear` layer are what it started with and mean nothing
    losses: of each step
    spread: of the outputs, see `spread`, at the `start` and at the `end`
    """

    theta: Tensor
    losses: list[float]
    spread: dict[str, float]

    @property
    def collapsed(self) -> bool:
        """Whether the outputs of all images point nearly the same way."""
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
    """Learn a network's features from images without labels.

    Args:
        network: its module is copied.
        make: the method's class, or what makes one of (encoder, settings, seed).
        images: (N, C, H, W), N at least 2.
        settings: the recipe.
        steps: of the optimiser.
        seed: of parameters, batches and views.
        progress: called after each step.
        what: the name of the work that progress shows.

    Raises:
        Diverged: the loss or, in the end, a parameter or an output is no longer finite.
    """
    encoder = seeded(copy.deepcopy(network.module), *seed, "encoder").to(images.device)
    method = make(encoder, settings, seed).to(images.device).train()
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    decay = settings.weight_decay
    optimiser = torch.optim.AdamW(learned, lr=0.0, weight_decay=decay, betas=(0.9, 0.95))
    before, losses = spread(method, images[:WATCHED]), []
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
        _require_finite(math.isfinite(losses[-1]), step + 1, settings.learning_rate)
        progress(what, step + 1, steps)
    theta, after = flat(method.encoder), spread(method, images[:WATCHED])
    finite = bool(theta.isfinite().all()) and math.isfinite(after)
    _require_finite(finite, steps, settings.learning_rate)  # the last loss is before the last step
    return Pretrained(theta, losses, {"start": before, "end": after})


def _require_finite(finite: bool, step: int, rate: float) -> None:
    if not finite:
        reason = f"pretraining diverged in step {step} at {rate:g}"
        raise Diverged("learning_rate", reason, "lower the learning rate")


def batches(
    count: int, batch_size: int, steps: int, seed: tuple[int | str, ...]
) -> Iterator[Tensor]:
    """Yield batches of indices: shuffled passes, each without its last, smaller batch.

    Args:
        count: images.
        batch_size: images in a batch; all where they are fewer.
        steps: batches.
        seed: of the passes.
    """
    size, given, passes = min(batch_size, count), 0, 0
    while given < steps:
        order = torch.randperm(count, generator=generator(*seed, "pass", passes))
        whole = order[: count // size * size].split(size)[: steps - given]
        yield from whole
        given, passes = given + len(whole), passes + 1


def warm_cosine(progress: float, warm: float = 0.1) -> float:
    """Give the factor of the learning rate when the share `progress` of the steps is done.

    It rises for the share `warm` of the steps, and then falls to zero by a cosine. It is not 0 at
    the first step.
    """
    rising = min(1.0, (progress + 0.01) / warm)
    return rising * 0.5 * (1 + math.cos(math.pi * max(0.0, progress - warm) / (1 - warm)))


@torch.no_grad()
def spread(method: Method, images: Tensor) -> float:
    """Compute the standard deviation of the L2-normalised outputs, times the root of their width.

    1 is what directions without any preference have, 0 a complete collapse (SimSiam, section 4.1).
    Heads normalise over these images, as in training.
    """
    outputs = F.normalize(method.outputs(images), dim=1)
    return float(outputs.std(0, correction=0).mean() * outputs.shape[1] ** 0.5)


def seeded(module: nn.Module, *seed: int | str) -> nn.Module:
    """Draw the module's parameters from the named seed, and let them be learned."""
    network = Network(module)
    network.loaded(initial_parameters(network, *seed))
    return module.requires_grad_()


def mlp_head(
    inputs: int, hidden: int, outputs: int, batch_norm_last: bool = False
) -> nn.Sequential:
    """Make a projector or predictor of BYOL or SimSiam: linear, batch norm, ReLU, linear.

    Heads are discarded, so that their running statistics need no place in theta.

    Args:
        inputs: width.
        hidden: width.
        outputs: width.
        batch_norm_last: whether a batch norm without affine follows.
    """
    layers = [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    layers.append(nn.Linear(hidden, outputs))
    if batch_norm_last:
        layers.append(nn.BatchNorm1d(outputs, affine=False))
    return nn.Sequential(*layers)


def embedded(encoder: nn.Module, images: Tensor) -> Tensor:
    """Compute the features (N, D) of images (N, C, H, W)."""
    return encoder.features(images).flatten(1)


@torch.no_grad()
def ema_step(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Set target <- momentum target + (1 - momentum) online, for parameters.

    Running statistics are each network's own.
    """
    for average, value in zip(target.parameters(), online.parameters(), strict=True):
        average.mul_(momentum).add_(value, alpha=1 - momentum)


def rising_momentum(base: float, progress: float) -> float:
    """Compute BYOL's momentum: 1 - (1 - base) (cos(pi progress) + 1) / 2."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


def flat(module: nn.Module) -> Tensor:
    """Join the module's parameters to (P,), in the order of `networks.Network`."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def transplanted(source: Network, theta: Tensor, target: Network, fresh: Tensor) -> Tensor:
    """Give a network learned features and a fresh last layer.

    Args:
        source: the network that learned.
        theta: (P,) its parameters.
        target: a network with the same features.
        fresh: (P',) parameters of the target, of which the last layer is taken.

    Returns:
        (P',) parameters of the target.
    """
    learned, own = source.named(theta), target.named(fresh)
    chosen = (own if name.startswith("linear.") else learned for name in target.names)
    return torch.cat([part[name].flatten() for part, name in zip(chosen, target.names)])
