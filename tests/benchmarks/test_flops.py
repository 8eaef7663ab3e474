"""Operations counted by formula equal those that torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import (
    DIFFERENCE_PASSES,
    SWEEP_PASSES,
    forward_flops,
    iteration_flops,
    training_flops,
)
from medddist.method.networks import NetworkSettings, convnet, initial_parameters

SHAPES = [(8, 3, 1, 32), (6, 2, 3, 17), (4, 1, 1, 8)]  # width, depth, channels, size


def counted(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("width, depth, channels, size", SHAPES)
def test_the_forward_pass(width, depth, channels, size):
    settings = NetworkSettings(width=width, depth=depth)
    network = convnet(settings, channels, 4, size)
    theta, x = initial_parameters(network, 0), torch.zeros(3, channels, size, size)
    assert counted(lambda: network(theta, x)) == 3 * forward_flops(settings, channels, 4, size)


def test_a_training_step_is_three_passes_but_for_the_derivative_in_the_images():
    settings = NetworkSettings(width=32, depth=4)
    network = convnet(settings, 1, 4, 32)
    theta, x = initial_parameters(network, 0).requires_grad_(), torch.zeros(2, 1, 32, 32)
    found = counted(lambda: network(theta, x).sum().backward())
    assert found == pytest.approx(training_flops(forward_flops(settings, 1, 4, 32), 2, 1), rel=0.05)


def test_an_iteration_counts_its_steps_and_its_batch():
    assert iteration_flops(10, 4, 5) == 10 * 4 * 5 * SWEEP_PASSES
    assert iteration_flops(10, 4, 5, DIFFERENCE_PASSES) == 10 * 4 * 5 * 6
