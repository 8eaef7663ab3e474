"""What a study costs in floating-point operations: convolutions and the last layer, where nearly all of them are.

A multiplication with its addition counts as two. The element-wise rest is bound by memory's speed, not by arithmetic, and left out.
"""

from __future__ import annotations

from medddist.method.networks import NetworkSettings

GRADIENT_PASSES = 3  # forward, and backward to inputs and to weights, each as dear as forward
DIRECTIONAL_PASSES = 8  # value and tangent forward (3 with the weights' tangent), their derivatives to inputs (3) and to weights (2)
SWEEP_PASSES = GRADIENT_PASSES + DIRECTIONAL_PASSES
DIFFERENCE_PASSES = 2 * GRADIENT_PASSES  # the gradient here and a little way along


def forward_flops(network: NetworkSettings, channels: int, classes: int, image_size_px: int) -> int:
    """Of the ConvNet on one image."""
    flops, inputs, size = 0, channels, image_size_px
    for _ in range(network.depth):
        flops += 2 * 9 * inputs * network.width * size * size
        inputs, size = network.width, size // 2
    return flops + 2 * network.width * size * size * classes


def iteration_flops(
    one_image: int, batch_size: int, student_steps: int, passes: int = SWEEP_PASSES
) -> int:
    """Of one matching gradient, by default the exact one that keeps nothing; `one_image` is `forward_flops`."""
    return one_image * batch_size * student_steps * passes


def training_flops(one_image: int, images: int, epochs: int) -> int:
    """Of one network trained on `images` for `epochs`."""
    return one_image * images * epochs * GRADIENT_PASSES


def activation_bytes(
    network: NetworkSettings, image_size_px: int, batch_size: int, bytes_a_number: int = 4
) -> int:
    """Of one student step whose activations are kept: each later block's z, each block's derivative."""
    numbers, size = 0, image_size_px
    for block in range(network.depth):
        numbers += (block > 0) * size * size + (size // 2) ** 2
        size //= 2
    return numbers * network.width * batch_size * bytes_a_number


def noted_bytes(network: NetworkSettings, image_size_px: int, batch_size: int) -> int:
    """Of one student step whose open ReLUs are noted, a byte for each window of the pooling."""
    sizes = [image_size_px >> block + 1 for block in range(network.depth)]
    return sum(size * size for size in sizes) * network.width * batch_size
