"""Where a ConvNet looks: Grad-CAM (Selvaraju et al., ICCV 2017), on the last block's output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam(module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Heat maps (N, H, W) in [0, 1] of what speaks for classes (N,) in images (N, C, H, W).

    The last block's maps are summed with weights that are the mean gradient of the class's logit
    with respect to each map; what is negative is cut off; each image's largest value is 1 (or all
    is 0 where nothing speaks for the class).
    """
    maps = module.features(images).detach().requires_grad_()
    logits = module.linear(maps.flatten(1))
    (slopes,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), maps)
    heat = F.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)).detach()
    heat = F.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    largest = heat.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, heat / largest.clamp_min(1e-30), torch.zeros_like(heat))
