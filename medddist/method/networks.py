"""The ConvNet of the study, and any network as a function of one flat parameter vector.

    logits = network(theta, x),    theta (P,),    x (N, C, H, W),    logits (N, K)

Trajectory matching compares, slices and moves whole parameter vectors, so a network is called with
its parameters, and those of its module are not used.

Notation: N images, C channels, H = W pixels a side, K classes, P parameters.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medddist.base.errors import InputError
from medddist.base.seeds import seed_of
from medddist.base.settings import Settings


class NetworkSettings(Settings):
    """Size of the ConvNet; that of MTT has width 128, and depth 5 at 112 px."""

    width: int = Field(32, ge=1)  # channels of each block
    depth: int = Field(3, ge=1, le=8)  # blocks


class ConvNet(nn.Module):
    """A few equal blocks, then one linear layer: (N, C, H, W) -> logits (N, K).

    A block is a 3x3 convolution, instance norm with scale and shift, ReLU and 2x2 average pooling.
    Source: Gidaris & Komodakis, CVPR 2018, as MTT (Cazenavette et al., CVPR 2022) uses it.
    """

    def __init__(self, width: int, depth: int, channels: int, classes: int, image_size_px: int):
        super().__init__()
        pooled_px = image_size_px // 2**depth
        if pooled_px < 1:
            reason = f"{depth} blocks halve {image_size_px} px to nothing"
            raise InputError("depth", reason, f"take depth {int(math.log2(image_size_px))} or less")
        inputs = [channels] + [width] * (depth - 1)
        self.convolutions = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1) for c in inputs)
        self.norms = nn.ModuleList(nn.GroupNorm(width, width) for _ in inputs)
        self.linear = nn.Linear(width * pooled_px**2, classes)

    def features(self, x: Tensor) -> Tensor:
        """Compute the last block's output (N, width, h, w) of images (N, C, H, W)."""
        for convolution, norm in zip(self.convolutions, self.norms):
            x = F.avg_pool2d(F.relu(norm(convolution(x))), 2)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W)."""
        return self.linear(self.features(x).flatten(1))


class Network:
    """A module as a function of its flat parameter vector, `network(theta, x)`."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [parameter.shape for parameter in module.parameters()]
        self.sizes = [parameter.numel() for parameter in module.parameters()]
        module.requires_grad_(False)

    @property
    def parameter_count(self) -> int:
        """P."""
        return sum(self.sizes)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Cut theta (P,) into the module's named parameters: views, so gradients reach theta.

        Raises:
            InputError: for a theta of another shape.
        """
        if theta.shape != (self.parameter_count,):
            reason = f"has shape {tuple(theta.shape)} and the network ({self.parameter_count},)"
            raise InputError("theta", reason, "give parameters of this network")
        parts = zip(self.names, theta.split(self.sizes), self.shapes)
        return {name: part.view(shape) for name, part, shape in parts}

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W) with parameters theta (P,)."""
        return torch.func.functional_call(self.module, self.named(theta), (x,))

    def loaded(self, theta: Tensor) -> nn.Module:
        """Copy theta (P,) into the module and return it, for hooks and export."""
        with torch.no_grad():
            for parameter, value in zip(self.module.parameters(), self.named(theta).values()):
                parameter.copy_(value)
        return self.module


def convnet(settings: NetworkSettings, channels: int, classes: int, image_size_px: int) -> Network:
    """Build the ConvNet for images of these channels and size.

    Args:
        settings: width and depth.
        channels: C.
        classes: K.
        image_size_px: H and W.

    Raises:
        InputError: where so many blocks leave no pixel.
    """
    return Network(ConvNet(settings.width, settings.depth, channels, classes, image_size_px))


def initial_parameters(network: Network, *seed: int | str) -> Tensor:
    """Draw theta (P,) by each layer's default initialisation, from the named seed."""
    # a copy on the CPU, so that every device gets the same numbers and the module keeps its own
    fresh = copy.deepcopy(network.module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(*seed))
        for layer in fresh.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return torch.cat([parameter.detach().flatten() for parameter in fresh.parameters()])
