"""Grad-CAM heat maps: which parts of an image raise the logit of a class.

    heat = max(0, sum over c of mean over pixels (d logit / d a_c) a_c)

Notation: a_c the maps of the last block's output, c its channels.
Source: Selvaraju et al., ICCV 2017.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam(module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Compute heat maps (N, H, W) in [0, 1]; the maximum of each is 1, or 0 where no part counts.

    Args:
        module: a ConvNet with its parameters.
        images: (N, C, H, W), standardised.
        classes: (N,) whose logits are explained.
    """
    maps = module.features(images).detach().requires_grad_()
    logits = module.linear(maps.flatten(1))
    (slopes,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), maps)
    heat = F.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)).detach()
    heat = F.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    largest = heat.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, heat / largest.clamp_min(1e-30), torch.zeros_like(heat))
