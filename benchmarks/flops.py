"""Count a study's floating-point operations: convolutions and the last layer, which are nearly all.

A multiplication with its addition counts as two. Element-wise operations are bound by the speed of
memory, not by arithmetic, and are left out.
"""

from __future__ import annotations

from medddist.method.networks import NetworkSettings

# Passes that cost about as much as one forward pass.
GRADIENT_PASSES = 3  # forward, backward to inputs, backward to weights
# Forward 3: value, tangent, tangent of the weights. To inputs the same 3, to weights 2.
DIRECTIONAL_PASSES = 8
SWEEP_PASSES = GRADIENT_PASSES + DIRECTIONAL_PASSES
DIFFERENCE_PASSES = 2 * GRADIENT_PASSES  # the gradient at two points


def forward_flops(network: NetworkSettings, channels: int, classes: int, image_size_px: int) -> int:
    """Count the operations of the ConvNet on one image."""
    flops, inputs, size = 0, channels, image_size_px
    for _ in range(network.depth):
        flops += 2 * 9 * inputs * network.width * size * size
        inputs, size = network.width, size // 2
    return flops + 2 * network.width * size * size * classes


def iteration_flops(
    one_image: int, batch_size: int, student_steps: int, passes: int = SWEEP_PASSES
) -> int:
    """Count the operations of one matching gradient, by default the exact one.

    Args:
        one_image: `forward_flops` of the network.
        batch_size: images per student step.
        student_steps: steps of the student.
        passes: SWEEP_PASSES of the exact gradient, DIFFERENCE_PASSES of finite differences.
    """
    return one_image * batch_size * student_steps * passes


def training_flops(one_image: int, images: int, epochs: int) -> int:
    """Count the operations of one network trained on `images` for `epochs`."""
    return one_image * images * epochs * GRADIENT_PASSES
