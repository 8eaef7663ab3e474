"""Differential privacy: teachers trained by DP-SGD, and what it guarantees for a distilled set.

    g = (sum over the batch of g_i min(1, C / |g_i|) + sigma C N(0, 1)) / B

A step takes each training image independently with probability q (Poisson sampling), clips its
gradient, and adds noise to the sum. The trajectories are (epsilon, delta)-differentially private,
composed over the steps of all teachers. Distillation uses the training images only through them: it
starts from noise, scales pixels by constants and releases the last iteration. So the guarantee also
holds for the distilled set. A package contains nothing else that depends on the images.

Notation: g_i the gradient of image i, C max_grad_norm, sigma noise_multiplier, q sample_rate, B the
constant recipe.batch_size.
Source: Abadi et al., CCS 2016, as Opacus implements it.

Protected is one image: results of training sets that differ in one image are hard to distinguish.
For a patient with n images epsilon is n times as large, and delta grows too. Public by assumption
are the class names and the split of the data. A teacher's file also holds its validation scores,
which are not protected; the file is not released.
Not counted are: tuning on the same images, a second set released from them, the floating-point
attack of Mironov (CCS 2012), and that torch's generator is not cryptographic. The noise comes from
system entropy that is not stored, since whoever knows the seed could subtract it. So such teachers
cannot be reproduced bit by bit.
"""

from __future__ import annotations

import copy
import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medddist.base.errors import InputError
from medddist.base.files import digest
from medddist.base.settings import Settings
from medddist.base.threads import shared_threads
from medddist.data.scaling import Scaling
from medddist.method.augment import augment, draw
from medddist.method.networks import Network
from medddist.method.training import Recipe, TrainingState, rate_factor, require_finite

if TYPE_CHECKING:
    from medddist.data import Data

LOCAL = (  # about all files of a study with a guarantee, except its packages
    "scores, audits, logs and caches are exact figures of the real images and not covered by the "
    "guarantee; keep them where the images are: only packages, as `medddist package` writes them, "
    "may be sent"
)


class PrivacySettings(Settings):
    """Settings of DP-SGD and of its privacy account.

    These numbers and teachers.recipe.batch_size are written into the package. They are public, so
    none may be chosen by looking at the training images, not even at how many there are: choose
    delta and batch_size for a round number that may be known, such as "at least 10,000".
    """

    noise_multiplier: float = Field(1.0, gt=0)  # standard deviation of the noise over max_grad_norm
    max_grad_norm: float = Field(1.0, gt=0)  # C, of one image's gradient
    sample_rate: float = Field(0.05, gt=0, lt=1)  # q, probability of an image to be in a step
    delta: float = Field(1e-5, gt=0, lt=1)  # well below 1 / (public number of training images)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which an image is used once on average, 1/q."""
        return math.ceil(1 / self.sample_rate)


def epsilon_of(settings: PrivacySettings, steps: int) -> float:
    """Bound epsilon at `settings.delta` after so many steps in all, by Opacus's Rényi accountant.

    Raises:
        InputError: without Opacus.
    """
    accountant = _opacus("accountants").RDPAccountant()
    accountant.history = [(settings.noise_multiplier, settings.sample_rate, steps)]
    # Every order gives a bound, and the smallest is returned: small noise needs small orders in
    # fine steps, large noise needs large ones.
    orders = [1 + k / 10 for k in range(1, 100)] + [*range(11, 64), *(2**k for k in range(6, 13))]
    with warnings.catch_warnings():
        # "Optimal order is the largest alpha": a larger one might give a smaller bound
        warnings.filterwarnings("ignore", "Optimal order is")
        return float(accountant.get_epsilon(settings.delta, alphas=orders))


def guarantee(settings: PrivacySettings, teachers: int, epochs: int) -> dict[str, Any]:
    """State the guarantee for the trajectories of all teachers together, and what they determine.

    Args:
        settings: of DP-SGD.
        teachers: how many.
        epochs: of each.

    Returns:
        {epsilon, delta, ...}, as a package's manifest holds it.
    """
    steps = teachers * epochs * settings.steps_per_epoch
    return {
        "epsilon": epsilon_of(settings, steps),
        "delta": settings.delta,
        "unit": "training image",
        "composed": {"teachers": teachers, "steps": steps},
        "noise_multiplier": settings.noise_multiplier,
        "max_grad_norm": settings.max_grad_norm,
        "sample_rate": settings.sample_rate,
        "sampling": "Poisson",
        "accountant": f"Rényi DP, Opacus {metadata.version('opacus')}",
    }


def refuse_unprotected(teachers, distill) -> None:
    """Check that only DP-SGD uses training images, and nothing uses validation images.

    Args:
        teachers: a profile's TeacherSettings, with `privacy`.
        distill: its DistillSettings.

    Raises:
        ValueError: for a setting that contradicts `privacy`.
    """
    sampling, start = teachers.recipe.sampling, distill.initial_images
    reason = ""
    if sampling != "natural":
        reason = f"teachers.recipe.sampling: {sampling} draws do not go with teachers.privacy, "
        reason += "whose accountant counts Poisson sampling; set it to natural"
    elif start != "noise":
        reason = f"distill.initial_images: {start} training images to start from "
        reason += "undo teachers.privacy; set it to noise"
    elif distill.selection != "last":
        reason = "distill.selection: choosing by validation images is not covered by "
        reason += "teachers.privacy; set it to last"
    elif distill.method != "trajectory" or distill.labels != "hard":
        reason = f"distill.method: {distill.method} with labels: {distill.labels} looks at "
        reason += "training images; under teachers.privacy, set them to trajectory and hard"
    if reason:
        raise ValueError(reason)


def public_scaling(channels: int) -> Scaling:
    """Return the constants that replace the training images' own, which epsilon does not cover."""
    return Scaling((0.5,) * channels, (0.25,) * channels)


def fixed_scaling(data: Data) -> Data:
    """Scale the pixels of a data set by `public_scaling`; the fingerprint changes with it.

    Data that are scaled so already are returned unchanged.
    """
    public = public_scaling(data.channels)
    if data.scaling == public:
        return data
    name = digest([data.fingerprint, public.mean[0], public.std[0]])
    return replace(data, fingerprint=name + data.fingerprint[:16], scaling=public)


def stand_in(
    classes: int, images_per_class: int, shape: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Make the blank images that distillation gets instead of training and validation images.

    Args:
        classes: K.
        images_per_class: how many of each.
        shape: (C, H, W).
        device: of both tensors.

    Returns:
        Zeros (N, C, H, W), and their classes (N,).
    """
    labels = torch.arange(classes, device=device).repeat(images_per_class)
    return torch.zeros(len(labels), *shape, device=device), labels


@shared_threads()
def train_by_dp_sgd(
    network: Network,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    settings: PrivacySettings,
    *,
    resume: TrainingState | None = None,
    after_epoch: Callable[[TrainingState], None] | None = None,
    stop_after: int | None = None,
    random: torch.Generator | None = None,
) -> Tensor:
    """Train a network as `training.train` does, with clipped gradients and noise.

    Args:
        network: called with theta.
        theta: (P,) to start from.
        images: (N, C, H, W), standardised.
        labels: (N,) classes.
        recipe: of the descent; its batch_size is the constant that a step's sum is divided by.
        settings: of DP-SGD.
        resume: a state to continue from, instead of theta.
        after_epoch: called with the state after each epoch.
        stop_after: epochs after which to stop; the schedule is still that of the whole recipe.
        random: for tests; None draws from the system's entropy.

    Returns:
        The parameters reached (P,).

    Raises:
        InputError: without Opacus.
        Diverged: when the parameters are no longer finite.
    """
    random = random or _from_entropy()
    step = _Step(network, recipe, settings, random)
    state = resume or TrainingState(0, theta.detach(), torch.zeros_like(theta))
    while state.epoch < (recipe.epochs if stop_after is None else stop_after):
        state = _epoch(step, state, images, labels, recipe, settings, random)
        if after_epoch:
            after_epoch(state)
    return state.theta


def _from_entropy() -> torch.Generator:
    random = torch.Generator()
    random.seed()
    return random


def _epoch(
    step: _Step,
    state: TrainingState,
    images,
    labels,
    recipe: Recipe,
    settings: PrivacySettings,
    random,
) -> TrainingState:
    theta, velocity, mean = state.theta, state.velocity, torch.zeros_like(state.theta)
    steps = settings.steps_per_epoch
    for number in range(steps):
        chosen = torch.rand(len(labels), generator=random) < settings.sample_rate
        batch = chosen.nonzero().flatten().to(images.device)
        x = images[batch]
        x = augment(x, draw(len(x), random, images), recipe.augmentation) if len(x) else x
        slope = step.gradient(theta, x, labels[batch])
        velocity = recipe.momentum * velocity + slope + recipe.weight_decay * theta
        progress = (state.epoch + number / steps) / recipe.epochs
        theta = theta - recipe.learning_rate * rate_factor(recipe.schedule, progress) * velocity
        mean += theta / steps
    require_finite(None, theta, state.epoch, recipe)  # epsilon does not cover a look at the loss
    return TrainingState(state.epoch + 1, theta, velocity, mean)


class _Step:
    """Clipped gradients with noise, by Opacus on a copy of the network's module."""

    def __init__(
        self, network: Network, recipe: Recipe, settings: PrivacySettings, random: torch.Generator
    ):
        module = copy.deepcopy(network.module).requires_grad_(True)
        self.module = _opacus("grad_sample").GradSampleModule(module.train(), loss_reduction="sum")
        self.parameters, self.named = list(module.parameters()), network.named
        self.random = random
        # The step itself is the recipe's; of this optimizer only `pre_step` is used.
        self.optimizer = _opacus("optimizers").DPOptimizer(
            torch.optim.SGD(self.parameters, lr=0.0),
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=_on(self.parameters[0].device, random),
        )

    def gradient(self, theta: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """Compute g (P,) of the module's text; of an empty batch, the noise over B."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.named(theta).values()):
                parameter.copy_(value)
        if len(x):
            # torch warns of a full hook on a layer whose input needs no gradient
            x = x.detach().requires_grad_()
            F.cross_entropy(self.module(x), labels, reduction="sum").backward()
        else:
            for parameter in self.parameters:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
        self.optimizer.pre_step()
        return torch.cat([parameter.grad.flatten() for parameter in self.parameters])


def _on(device: torch.device, random: torch.Generator) -> torch.Generator:
    """A generator on the device where Opacus draws; off the CPU, one seeded from `random`."""
    if device.type == "cpu":
        return random
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=random)))


def _opacus(part: str):
    """Import a module of Opacus, which is an optional extra."""
    try:
        return importlib.import_module(f"opacus.{part}")
    except ImportError:
        remedy = "pip install 'opacus>=1.5,<2'"
        raise InputError("teachers.privacy", "needs Opacus", remedy) from None
