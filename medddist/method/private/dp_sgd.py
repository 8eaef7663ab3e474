"""Differential privacy: teachers by DP-SGD (Abadi et al., CCS 2016; Opacus), and what then holds
for a set distilled from them.

A step takes each training image with chance q by itself (Poisson sampling), clips its gradient to
the norm C, adds the clipped ones and Gaussian noise of standard deviation noise_multiplier C, and
divides by a constant. Trajectories are thereby (epsilon, delta)-differentially private, composed
over the steps of all teachers; distillation sees the training images through them alone (noise to
start from, fixed pixel scaling, the last iteration), so that the same holds for its result.
Nothing else of the images goes into a package: `tests/test_privacy.py` holds every byte to that.

What is protected is one image: training parts that differ in one are hardly told apart. For a
    patient with n images epsilon is n times as large, and delta grows too. Taken as public: the
    class names, and how the data were dealt into parts. A teacher's file also tells its scores on
    validation images, which nothing protects; it is not what is released.
Not counted: trying settings on the same images, releasing a second set from them, the
    floating-point attack of Mironov (CCS 2012), and that torch's generator is no cryptographic one.
    The noise is drawn from the system's entropy, which is kept nowhere: who knows the seed could
    subtract it. Such teachers are therefore not the same bits twice.
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
from medddist.method.training import Diverged, Recipe, TrainingState, rate_factor

if TYPE_CHECKING:
    from medddist.data import Data

LOCAL = (  # of a study with teachers.privacy: everything but its packages
    "scores, audits, logs and caches are exact figures of the real images and not covered by "
    "teachers.privacy; keep them"
    " where the images are: only packages, as `medddist package` writes them, may be sent"
)


class PrivacySettings(Settings):
    """DP-SGD: the noise, and what it is counted with.

    All of it is written into the package, and so is teachers.recipe.batch_size: public numbers,
    none of which may be chosen by looking at the training images. That includes how many they are:
    delta and batch_size are chosen from a round figure that may be known, such as "at least
    10,000".
    """

    noise_multiplier: float = Field(1.0, gt=0)  # standard deviation of the noise over max_grad_norm
    max_grad_norm: float = Field(1.0, gt=0)  # C, of one image's gradient
    sample_rate: float = Field(
        0.05, gt=0, lt=1
    )  # q, the chance of an image to be in a step; 1/q steps are an epoch
    delta: float = Field(
        1e-5, gt=0, lt=1
    )  # well below one over the publicly known number of training images

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(1 / self.sample_rate)


def epsilon_of(settings: PrivacySettings, steps: int) -> float:
    """Epsilon at `settings.delta` of so many steps, whoever takes them: an upper bound by Rényi DP
    (Opacus's accountant).
    """
    accountant = _opacus("accountants").RDPAccountant()
    accountant.history = [(settings.noise_multiplier, settings.sample_rate, steps)]
    # Few large orders where noise is large, many small ones where it is small: the bound is the
    # best of all, and any is one.
    orders = [1 + k / 10 for k in range(1, 100)] + [*range(11, 64), *(2**k for k in range(6, 13))]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Optimal order is"
        )  # an order further out might give less, and this one is a bound too
        return float(accountant.get_epsilon(settings.delta, alphas=orders))


def guarantee(settings: PrivacySettings, teachers: int, epochs: int) -> dict[str, Any]:
    """What holds for all trajectories of so many teachers together, and for whatever is calculated
    from them alone.
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
    """Raises ValueError where anything but DP-SGD would look at the training images or at
    validation images.

    teachers, distill: a profile's TeacherSettings, with `privacy`, and DistillSettings.
    """
    if teachers.recipe.sampling != "natural":
        raise ValueError(
            "teachers.recipe.sampling: balanced draws do not go with teachers.privacy, whose "
            "accountant counts Poisson sampling;"
            " set it to natural"
        )
    if distill.initial_images != "noise":
        raise ValueError(
            f"distill.initial_images: {distill.initial_images} training images to start from "
            "undo teachers.privacy; set it to noise"
        )
    if distill.selection != "last":
        raise ValueError(
            "distill.selection: choosing by validation images is not covered by "
            "teachers.privacy; set it to last"
        )


def public_scaling(channels: int) -> Scaling:
    """Return the constants that replace the training images' own, which epsilon does not cover."""
    return Scaling((0.5,) * channels, (0.25,) * channels)


def fixed_scaling(data: Data) -> Data:
    """Return the data in `public_scaling`, under a fingerprint of its own.

    Data in that scaling already are returned as they are.
    """
    public = public_scaling(data.channels)
    if data.scaling == public:
        return data
    name = digest([data.fingerprint, public.mean[0], public.std[0]])
    return replace(data, fingerprint=name + data.fingerprint[:16], scaling=public)


def stand_in(
    classes: int, images_per_class: int, shape: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What distillation gets instead of training images (and of validation images): zeros, whatever
    the data are.
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
    """`training.train` with DP-SGD: from theta (P,), on images (N, C, H, W) and classes (N,), to
    the parameters reached (P,).

    recipe.batch_size is the constant that a step's sum is divided by, and no batch's size. random:
    for tests; None draws from the system's entropy. Raises InputError without Opacus, and Diverged
    when the parameters are no longer finite.
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
    theta, velocity, mean, steps = (
        state.theta,
        state.velocity,
        torch.zeros_like(state.theta),
        settings.steps_per_epoch,
    )
    for number in range(steps):
        taken = (
            (torch.rand(len(labels), generator=random) < settings.sample_rate)
            .nonzero()
            .flatten()
            .to(images.device)
        )
        x = images[taken]
        x = augment(x, draw(len(x), random, images), recipe.augmentation) if len(x) else x
        slope = step.gradient(theta, x, labels[taken])
        velocity = recipe.momentum * velocity + slope + recipe.weight_decay * theta
        progress = (state.epoch + number / steps) / recipe.epochs
        theta = theta - recipe.learning_rate * rate_factor(recipe.schedule, progress) * velocity
        mean += theta / steps
    if not theta.isfinite().all():  # not the loss, which was not paid for
        raise Diverged(
            "learning_rate",
            f"training diverged in epoch {state.epoch + 1} at {recipe.learning_rate:g}",
            "lower the learning rate",
        )
    return TrainingState(state.epoch + 1, theta, velocity, mean)


class _Step:
    """Clipped gradients with noise, by Opacus on a copy of the network's module; its parameters
    come and go as one theta.
    """

    def __init__(
        self, network: Network, recipe: Recipe, settings: PrivacySettings, random: torch.Generator
    ):
        module = copy.deepcopy(network.module).requires_grad_(True)
        # strict would refuse a module in evaluation mode or with buffers: the ConvNet has neither
        self.module = _opacus("grad_sample").GradSampleModule(module.train(), loss_reduction="sum")
        self.parameters, self.named = list(module.parameters()), network.named
        self.random = random
        self.optimizer = _opacus("optimizers").DPOptimizer(
            torch.optim.SGD(
                self.parameters, lr=0.0
            ),  # only what is done before its step is used: the step is the recipe's
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=recipe.batch_size,
            generator=_on(self.parameters[0].device, random),
        )

    def gradient(self, theta: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """(P,) of the cross-entropy, summed over clipped images, with noise, over
        recipe.batch_size; of no image, the noise.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.named(theta).values()):
                parameter.copy_(value)
        if len(x):
            x = (
                x.detach().requires_grad_()
            )  # torch warns of a full hook on a layer whose input needs no gradient
            F.cross_entropy(self.module(x), labels, reduction="sum").backward()
        else:
            for parameter in self.parameters:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
        self.optimizer.pre_step()
        return torch.cat([parameter.grad.flatten() for parameter in self.parameters])


def _on(device: torch.device, random: torch.Generator) -> torch.Generator:
    """Opacus draws on the parameters' device: there, a generator seeded from this one."""
    if device.type == "cpu":
        return random
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=random)))


def _opacus(part: str):
    """A module of Opacus, which is an extra: InputError where it is not installed."""
    try:
        return importlib.import_module(f"opacus.{part}")
    except ImportError:
        raise InputError(
            "teachers.privacy", "needs Opacus", "pip install 'medddist[privacy]'"
        ) from None
