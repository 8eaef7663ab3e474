"""Compiles the kernels of first or of second derivatives, so that no two notebooks do so at once.

python workflow/kernels.py first|second
"""

from __future__ import annotations

import sys

import torch

from medddist.method.fast.derivatives import directional, gradient, slopes
from medddist.method.networks import NetworkSettings, convnet, initial_parameters


def compile_kernels(order: str) -> None:
    """Call each kernel once, on a network as small as can be; numba keeps the code on disk."""
    network = convnet(NetworkSettings(width=1, depth=2), 1, 2, 4)
    theta, x, y = initial_parameters(network, 0), torch.zeros(2, 1, 4, 4), torch.arange(2)
    if order == "second":
        directional(network, theta, x, y, theta)
        return
    gradient(network, theta, x, y)
    slopes(network, theta, x, y)


if __name__ == "__main__":
    compile_kernels(sys.argv[1])
