"""TESLA's approximation of the matching gradient, to be compared with the library's.

With lambda_N = dL/dtheta_N, each student step i is differentiated along lambda_N in place of its
own lambda_{i+1}: the dependence of later steps on earlier ones is left out.

    dL/dalpha ~ -sum_i <g_i, lambda_N>,    dL/dx_i ~ -alpha d<g_i, lambda_N>/dx_i

Source: Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
ICML 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medddist.method.augment import AugmentSettings, augment
from medddist.method.distilled import Distilled
from medddist.method.fast.derivatives import directional, gradient
from medddist.method.matching import Segment
from medddist.method.networks import Network


def tesla_gradient(
    network: Network, distilled: Distilled, run: Segment, augmentation: AugmentSettings
) -> tuple[float, dict[str, Tensor]]:
    """Return the matching loss and TESLA's gradient, by the name of each learned tensor."""
    leaves, alpha = distilled.leaves(), distilled.step_size.detach()
    thetas = [run.start]
    for batch, draws in zip(run.batches, run.draws):
        x = augment(distilled.images[batch], draws, augmentation)
        g = gradient(network, thetas[-1], x, distilled.targets[batch])[1]
        thetas.append(thetas[-1] - alpha * g)
    missed, distance = thetas[-1] - run.target, (run.start - run.target).square().sum()
    towards, slope = 2 * missed / distance, torch.zeros_like(alpha)
    for theta, batch, draws in zip(thetas, run.batches, run.draws):
        x, y = augment(leaves.images[batch], draws, augmentation), leaves.targets[batch]
        step = directional(network, theta, x.detach(), y.detach(), towards)
        slope = slope + step.slope
        x.backward(-alpha * step.by_images)
        if step.by_targets is not None:
            y.backward(-alpha * step.by_targets)
    learned = {name: leaf.grad for name, leaf in leaves.learned().items()}
    return (missed.square().sum() / distance).item(), learned | {"log_step_size": -alpha * slope}
