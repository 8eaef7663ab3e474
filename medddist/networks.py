"""The ConvNet of the study, as a function of one flat parameter vector.

Trajectory matching compares, slices and moves whole parameter vectors, so the library holds a network as
`logits = network(theta, x)` with theta (P,), and never mutates a module's own parameters.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medddist.errors import InputError
from medddist.seeds import seed_of
from medddist.settings import Settings


class NetworkSettings(Settings):
    """width channels a block, depth blocks; MTT's ConvNet has width 128, and depth 5 at 112 px."""

    width: int = Field(32, ge=1)
    depth: int = Field(3, ge=1, le=8)


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm with affine, ReLU, 2x2 average pool; then one linear layer.

    (N, C, H, W) -> logits (N, K). Source: Gidaris & Komodakis 2018, as MTT (Cazenavette et al., CVPR 2022) uses it.
    """

    def __init__(self, width: int, depth: int, channels: int, classes: int, image_size_px: int):
        super().__init__()
        pooled_px = image_size_px // 2**depth
        if pooled_px < 1:
            raise InputError(
                f"depth: {depth} blocks halve {image_size_px} px to nothing; take depth {int(math.log2(image_size_px))} or less"
            )
        inputs = [channels] + [width] * (depth - 1)
        self.convolutions = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1) for c in inputs)
        self.norms = nn.ModuleList(nn.GroupNorm(width, width) for _ in inputs)
        self.linear = nn.Linear(width * pooled_px**2, classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the last block's output (N, width, h, w)."""
        for convolution, norm in zip(self.convolutions, self.norms):
            x = F.avg_pool2d(F.relu(norm(convolution(x))), 2)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))


class Network:
    """A module as a function of its flat parameter vector: `network(theta, x)`, theta (P,), x (N, C, H, W) -> (N, K)."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [parameter.shape for parameter in module.parameters()]
        self.sizes = [parameter.numel() for parameter in module.parameters()]
        module.requires_grad_(False)

    @property
    def parameter_count(self) -> int:
        return sum(self.sizes)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """theta (P,) as the module's named parameters: views, so that gradients reach theta.

        Raises InputError for a theta of another shape.
        """
        if theta.shape != (self.parameter_count,):
            raise InputError(
                f"theta: has shape {tuple(theta.shape)} and the network ({self.parameter_count},);"
                " give parameters of this network"
            )
        return {name: part.view(shape) for name, part, shape in zip(self.names, theta.split(self.sizes), self.shapes)}

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.module, self.named(theta), (x,))

    def loaded(self, theta: Tensor) -> nn.Module:
        """The module itself with theta's values in it, for hooks and export."""
        with torch.no_grad():
            for parameter, value in zip(self.module.parameters(), self.named(theta).values()):
                parameter.copy_(value)
        return self.module


def convnet(settings: NetworkSettings, channels: int, classes: int, image_size_px: int) -> Network:
    return Network(ConvNet(settings.width, settings.depth, channels, classes, image_size_px))


def initial_parameters(network: Network, *seed: int | str) -> Tensor:
    """A fresh theta (P,) by each layer's own default initialisation, drawn from the named seed on the CPU."""
    fresh = copy.deepcopy(network.module).cpu()  # so that every device sees the same numbers, and the module keeps its own
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(*seed))
        for layer in fresh.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return torch.cat([parameter.detach().flatten() for parameter in fresh.parameters()])
