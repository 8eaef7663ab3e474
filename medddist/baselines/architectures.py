"""Other networks than the study's own: what the comparison trains, and what a distilled set has to
serve though it never saw them.

Each is a module with `features` (N, C, H, W) -> (N, D) or (N, D, h, w) and one `linear` layer to
the logits, so that a pretrained network is its features under a fresh `linear`. None keeps running
statistics, which would live outside the flat theta of `networks.Network`: where the original
normalises over the batch, these normalise over groups of channels of one image, and where it has no
normalisation (AlexNet), over one channel. That is a change, and the tables say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from medddist.base.errors import InputError
from medddist.base.settings import Settings
from medddist.baselines.vision import import_torchvision
from medddist.method.networks import ConvNet, Network, NetworkSettings


class ArchitectureSettings(Settings):
    """Sizes; the defaults are the originals' where they have one, and a study on two cores takes
    less.
    """

    width: int = Field(64, ge=4)  # channels of the first block of ResNet-18, VGG-11 and AlexNet
    vit_width: int = Field(192, ge=4)  # of a token; a multiple of 4 and of the heads
    vit_depth: int = Field(6, ge=1)
    vit_heads: int = Field(4, ge=1)
    vit_patches_per_side: int = Field(
        8, ge=1
    )  # so the patch grows with the image: 4 px at 32 px, 14 px at 112 px
    mlp_width: int = Field(128, ge=1)


class ResNet18(nn.Module):
    """ResNet-18 (He et al., CVPR 2016) with a 3x3 stem for small images; torchvision's blocks,
    group norm for batch norm.

    The stem halves twice, as the original's does, so the last maps are 1/32 of the image's side,
    and at least 1 px.
    """

    def __init__(self, width: int, channels: int, classes: int):
        super().__init__()
        import_torchvision()
        from torchvision.models.resnet import BasicBlock

        stem = [
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            group_norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        blocks, inputs = [], width
        for outputs in (width, 2 * width, 4 * width, 8 * width):
            stride = 1 if outputs == inputs else 2
            shortcut = (
                None
                if stride == 1
                else nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), group_norm(outputs)
                )
            )
            blocks += [
                BasicBlock(inputs, outputs, stride, shortcut, norm_layer=group_norm),
                BasicBlock(outputs, outputs, norm_layer=group_norm),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1))
        self.linear = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


class Plain(nn.Module):
    """Convolution, norm and ReLU a layer, max pooling where the plan says so and the map is still
    larger than 1 px.
    """

    def __init__(
        self,
        plan: list[tuple[int, int] | str],
        norm: Callable[[int], nn.Module],
        channels: int,
        classes: int,
        image_size_px: int,
    ):
        """plan: (outputs, kernel side) of a layer, or "pool"."""
        super().__init__()
        layers, side_px = [], image_size_px
        for step in plan:
            if step != "pool":
                outputs, kernel = step
                layers += [
                    nn.Conv2d(channels, outputs, kernel, padding=kernel // 2),
                    norm(outputs),
                    nn.ReLU(),
                ]
                channels = outputs
            elif side_px > 1:
                layers.append(nn.MaxPool2d(2))
                side_px //= 2
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(min(side_px, 2)))
        self.linear = nn.Linear(channels * min(side_px, 2) ** 2, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


def vgg11(width: int, channels: int, classes: int, image_size_px: int) -> Plain:
    """VGG-11 (Simonyan & Zisserman, ICLR 2015) with group norm and one linear layer, as
    distillation's literature uses it.
    """
    one, two, four, eight = ((width * factor, 3) for factor in (1, 2, 4, 8))
    plan = [
        one,
        "pool",
        two,
        "pool",
        four,
        four,
        "pool",
        eight,
        eight,
        "pool",
        eight,
        eight,
        "pool",
    ]
    return Plain(plan, group_norm, channels, classes, image_size_px)


def alexnet(width: int, channels: int, classes: int, image_size_px: int) -> Plain:
    """AlexNet as DC's code has it for small images (128, 192, 256, 192, 192 channels at width 64),
    with instance norm added.
    """
    first, second, third = (width * factor // 2 for factor in (4, 6, 8))
    plan = [(first, 5), "pool", (second, 5), "pool", (third, 3), (second, 3), (second, 3), "pool"]
    return Plain(plan, lambda c: nn.GroupNorm(c, c), channels, classes, image_size_px)


class MLP(nn.Module):
    """Two hidden layers of ReLUs on the pixels."""

    def __init__(self, width: int, channels: int, classes: int, image_size_px: int):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * image_size_px**2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.linear = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.hidden(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


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
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (N, heads, T, d)
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class ViT(nn.Module):
    """A small vision transformer (Dosovitskiy et al., ICLR 2021): fixed sine positions, no class
    token, mean of the tokens.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patches_per_side: int,
        channels: int,
        classes: int,
        image_size_px: int,
    ):
        super().__init__()
        if image_size_px % patches_per_side or width % heads or width % 4:
            raise InputError(
                "vit_patches_per_side",
                f"{patches_per_side} does not divide {image_size_px} px, or vit_width {width} "
                f"is no multiple of 4 and of {heads} heads",
                "change them",
            )
        self.patch_px = image_size_px // patches_per_side
        self.embed = nn.Conv2d(channels, width, self.patch_px, self.patch_px)
        self.blocks = nn.Sequential(*(Attention(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)
        self.register_buffer("positions", sine_positions(patches_per_side, width), persistent=False)

    def tokens(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, T, D), row by row, with their positions."""
        return self.embed(x).flatten(2).transpose(1, 2) + self.positions

    def encoded(self, tokens: Tensor) -> Tensor:
        """(N, T, D), any tokens of an image -> (N, T, D)."""
        return self.norm(self.blocks(tokens))

    def features(self, x: Tensor) -> Tensor:
        return self.encoded(self.tokens(x)).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


def sine_positions(side: int, width: int) -> Tensor:
    """(side^2, width): a quarter each of sine and cosine of row and column, wavelengths from 2 pi
    to 2 pi 10,000 (MAE's).
    """
    frequency = torch.exp(-math.log(10000) * torch.arange(width // 4) / max(width // 4, 1))
    phase = torch.arange(side)[:, None] * frequency  # (side, width / 4)
    waves = torch.cat([phase.sin(), phase.cos()], 1)  # (side, width / 2)
    rows, columns = waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(side**2, width)


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of eight channels or, where eight does not divide them, of what does."""
    return nn.GroupNorm(channels // math.gcd(channels, 8), channels)


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


def architecture(
    name: str,
    own: NetworkSettings,
    sizes: ArchitectureSettings,
    channels: int,
    classes: int,
    image_size_px: int,
) -> Network:
    """One of ARCHITECTURES for images (N, channels, H, H); those called convnet are the study's
    own, `own`, or a change of it.

    Raises InputError for an unknown name, and where the image is too small for the network.
    """
    convnets = {
        "convnet": own,
        "convnet_wide": own.model_copy(update={"width": 2 * own.width}),
        "convnet_narrow": own.model_copy(update={"width": max(1, own.width // 2)}),
        "convnet_shallow": own.model_copy(update={"depth": max(1, own.depth - 1)}),
        "convnet_deep": own.model_copy(update={"depth": own.depth + 1}),
    }
    shape = channels, classes
    if name in convnets:
        return Network(ConvNet(convnets[name].width, convnets[name].depth, *shape, image_size_px))
    if name == "resnet18":
        return Network(ResNet18(sizes.width, *shape))
    if name == "vgg11":
        return Network(vgg11(sizes.width, *shape, image_size_px))
    if name == "alexnet":
        return Network(alexnet(sizes.width, *shape, image_size_px))
    if name == "vit":
        return Network(
            ViT(
                sizes.vit_width,
                sizes.vit_depth,
                sizes.vit_heads,
                sizes.vit_patches_per_side,
                *shape,
                image_size_px,
            )
        )
    if name == "mlp":
        return Network(MLP(sizes.mlp_width, *shape, image_size_px))
    raise InputError("network", f"{name!r} is not known", f"use one of {', '.join(ARCHITECTURES)}")
