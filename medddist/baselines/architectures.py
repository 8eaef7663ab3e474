"""Networks beside the study's own, which the comparison trains and the distillation never saw.

Each is a module with `features` (N, C, H, W) -> (N, D) or (N, D, h, w) and one `linear` layer to
the logits, so that a pretrained network is its features under a fresh `linear`. None keeps running
statistics, which would live outside the flat theta of `networks.Network`: where the original
normalises over the batch, these normalise over groups of channels of one image, and where it has no
normalisation (AlexNet), over one channel. That is a change, and the tables say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from medddist.base.errors import InputError
from medddist.base.settings import Settings
from medddist.baselines.vision import import_torchvision
from medddist.method.networks import ConvNet, Network, NetworkSettings

Shape = tuple[int, int, int]  # channels C of images (N, C, H, H), classes K, and H in pixels
ARCHITECTURES = {
    "convnet": "ConvNet",
    "convnet_wide": "ConvNet, twice the width",
    "convnet_narrow": "ConvNet, half the width",
    "convnet_shallow": "ConvNet, a block less",
    "convnet_deep": "ConvNet, a block more",
    "resnet18": "ResNet-18",
    "vgg11": "VGG-11",
    "alexnet": "AlexNet-like",
    "vit": "small ViT",
    "mlp": "MLP",
}


class ArchitectureSettings(Settings):
    """Sizes; the defaults are the originals', and a study on two cores takes less."""

    width: int = Field(64, ge=4)  # channels of the first block of ResNet-18, VGG-11 and AlexNet
    vit_width: int = Field(192, ge=4)  # of a token; a multiple of 4 and of the heads
    vit_depth: int = Field(6, ge=1)  # transformer blocks
    vit_heads: int = Field(4, ge=1)  # of attention in each block
    # The patch grows with the image: 4 px at 32 px, 14 px at 112 px.
    vit_patches_per_side: int = Field(8, ge=1)
    mlp_width: int = Field(128, ge=1)  # of a hidden layer


def architecture(
    name: str, own: NetworkSettings, sizes: ArchitectureSettings, shape: Shape
) -> Network:
    """Make one of ARCHITECTURES.

    Args:
        name: a key of ARCHITECTURES.
        own: the study's own ConvNet, of which those called convnet are changes.
        sizes: of the other networks.
        shape: of the images, and the number of classes.

    Raises:
        InputError: for an unknown name, and where the image is too small for the network.
    """
    makers = {
        "convnet": lambda: ConvNet(own.width, own.depth, *shape),
        "convnet_wide": lambda: ConvNet(2 * own.width, own.depth, *shape),
        "convnet_narrow": lambda: ConvNet(max(1, own.width // 2), own.depth, *shape),
        "convnet_shallow": lambda: ConvNet(own.width, max(1, own.depth - 1), *shape),
        "convnet_deep": lambda: ConvNet(own.width, own.depth + 1, *shape),
        "resnet18": lambda: resnet18(sizes.width, shape),
        "vgg11": lambda: vgg11(sizes.width, shape),
        "alexnet": lambda: alexnet(sizes.width, shape),
        "vit": lambda: ViT(sizes, shape),
        "mlp": lambda: mlp(sizes.mlp_width, shape),
    }
    if name not in makers:
        known = ", ".join(ARCHITECTURES)
        raise InputError("network", f"{name!r} is not known", f"use one of {known}")
    return Network(makers[name]())


class Classifier(nn.Module):
    """Layers to features, and one linear layer to the logits: (N, C, H, W) -> (N, K)."""

    def __init__(self, layers: Sequence[nn.Module], width: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Compute (N, D) of images (N, C, H, W)."""
        return self.layers(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W)."""
        return self.linear(self.features(x))


def resnet18(width: int, shape: Shape) -> Classifier:
    """Make a ResNet-18 (He et al., CVPR 2016) of torchvision's blocks, with a 3x3 stem.

    Group norm stands for batch norm. The stem halves twice, as the original's does, so the last
    maps are 1/32 of the image's side, and at least 1 px.
    """
    import_torchvision()  # mends it, and has to come before the import
    from torchvision.models.resnet import BasicBlock

    channels, classes, _ = shape
    first = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
    layers, inputs = [first, group_norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], width
    for outputs in (width, 2 * width, 4 * width, 8 * width):
        stride, shortcut = 1, None
        if outputs != inputs:
            stride, narrow = 2, nn.Conv2d(inputs, outputs, 1, 2, bias=False)
            shortcut = nn.Sequential(narrow, group_norm(outputs))
        layers.append(BasicBlock(inputs, outputs, stride, shortcut, norm_layer=group_norm))
        layers.append(BasicBlock(outputs, outputs, norm_layer=group_norm))
        inputs = outputs
    return Classifier([*layers, nn.AdaptiveAvgPool2d(1)], inputs, classes)


def vgg11(width: int, shape: Shape) -> Classifier:
    """Make a VGG-11 (Simonyan & Zisserman, ICLR 2015) as distillation's literature uses it.

    It has `width` channels in its first layer, group norm, and one linear layer.
    """
    a, b, c, d = ((width * factor, 3) for factor in (1, 2, 4, 8))
    plan = [a, "pool", b, "pool", c, c, "pool", d, d, "pool", d, d, "pool"]
    return _plain(plan, group_norm, shape)


def alexnet(width: int, shape: Shape) -> Classifier:
    """Make an AlexNet as DC's code has it for small images, with instance norm added.

    It has 128, 192, 256, 192 and 192 channels at width 64.
    """
    first, second, third = (width * factor // 2 for factor in (4, 6, 8))
    plan = [(first, 5), "pool", (second, 5), "pool", (third, 3), (second, 3), (second, 3), "pool"]
    return _plain(plan, lambda c: nn.GroupNorm(c, c), shape)


def _plain(
    plan: Sequence[tuple[int, int] | str], norm: Callable[[int], nn.Module], shape: Shape
) -> Classifier:
    """Convolution, norm and ReLU for each (outputs, kernel side) of the plan; "pool" takes maxima
    where the map is still larger than 1 px.
    """
    layers, (channels, classes, side_px) = [], shape
    for step in plan:
        if step != "pool":
            outputs, kernel = step
            convolution = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
            layers += [convolution, norm(outputs), nn.ReLU()]
            channels = outputs
        elif side_px > 1:
            layers.append(nn.MaxPool2d(2))
            side_px //= 2
    side_px = min(side_px, 2)
    return Classifier([*layers, nn.AdaptiveAvgPool2d(side_px)], channels * side_px**2, classes)


def mlp(width: int, shape: Shape) -> Classifier:
    """Make two hidden layers of ReLUs on the pixels, each of that width."""
    channels, classes, image_size_px = shape
    first, second = nn.Linear(channels * image_size_px**2, width), nn.Linear(width, width)
    return Classifier([nn.Flatten(), first, nn.ReLU(), second, nn.ReLU()], width, classes)


class Attention(nn.Module):
    """A transformer's block, norms first: (N, T, D) -> (N, T, D).

    Not torch's own layer, whose projections are bare parameters that `initial_parameters` cannot
    draw from a seed; nor its fused attention, which has no second derivative on a CPU.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        hidden = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(*hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens (N, T, D) by self-attention, then each by itself."""
        each = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1))
        q, k, v = each.permute(2, 0, 3, 1, 4)  # (N, heads, T, d)
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class ViT(nn.Module):
    """A small vision transformer (Dosovitskiy et al., ICLR 2021).

    It has fixed sine positions, no class token, and takes the mean of the tokens.
    """

    def __init__(self, sizes: ArchitectureSettings, shape: Shape):
        super().__init__()
        channels, classes, image_size_px = shape
        side, width, heads = sizes.vit_patches_per_side, sizes.vit_width, sizes.vit_heads
        if image_size_px % side or width % heads or width % 4:
            reason = f"{side} does not divide {image_size_px} px, or vit_width {width}"
            reason += f" is no multiple of 4 and of {heads} heads"
            raise InputError("vit_patches_per_side", reason, "change them")
        self.patch_px = image_size_px // side
        self.embed = nn.Conv2d(channels, width, self.patch_px, self.patch_px)
        self.blocks = nn.Sequential(*(Attention(width, heads) for _ in range(sizes.vit_depth)))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)
        self.register_buffer("positions", sine_positions(side, width), persistent=False)

    def tokens(self, x: Tensor) -> Tensor:
        """Embed images (N, C, H, W) as tokens (N, T, D), row by row, with their positions."""
        return self.embed(x).flatten(2).transpose(1, 2) + self.positions

    def encoded(self, tokens: Tensor) -> Tensor:
        """Encode any tokens (N, T, D) of an image."""
        return self.norm(self.blocks(tokens))

    def features(self, x: Tensor) -> Tensor:
        """Compute (N, D) of images (N, C, H, W)."""
        return self.encoded(self.tokens(x)).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W)."""
        return self.linear(self.features(x))


def sine_positions(side: int, width: int) -> Tensor:
    """Make the fixed positions (side^2, width) of MAE.

    A quarter each is sine and cosine of row and column, with wavelengths from 2 pi to 2 pi 10,000.
    """
    frequency = torch.exp(-math.log(10000) * torch.arange(width // 4) / max(width // 4, 1))
    phase = torch.arange(side)[:, None] * frequency  # (side, width / 4)
    waves = torch.cat([phase.sin(), phase.cos()], 1)  # (side, width / 2)
    rows, columns = waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(side**2, width)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise groups of eight channels or, where eight does not divide them, of fewer."""
    return nn.GroupNorm(channels // math.gcd(channels, 8), channels)
