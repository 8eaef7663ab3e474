"""Compiles the kernels that a profile's notebooks call, so that no two of them do so at once.

python workflow/kernels.py demo
"""

from __future__ import annotations

import sys

import torch

from medddist.method.fast.derivatives import directional, gradient, slopes
from medddist.method.networks import NetworkSettings, convnet, initial_parameters
from medddist.study.profile import load_profile


def compile_for(profile: str) -> None:
    """Call each kernel once, on a network as small as can be; numba keeps the code on disk."""
    network = convnet(NetworkSettings(width=1, depth=2), 1, 2, 4)
    theta, x, y = initial_parameters(network, 0), torch.zeros(2, 1, 4, 4), torch.arange(2)
    gradient(network, theta, x, y)
    slopes(network, theta, x, y)
    if load_profile(profile).distill.gradient == "exact":
        directional(network, theta, x, y, theta)


if __name__ == "__main__":
    compile_for(sys.argv[1])
