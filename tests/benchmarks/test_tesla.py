"""TESLA's approximation, against a graph that is cut between the student's steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gradient import cosine
from benchmarks.problems import Problem
from benchmarks.tesla import tesla_gradient
from medddist.method.augment import augment
from medddist.method.distilled import Distilled
from medddist.method.matching import matching_gradient


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("steps", [1, 6])
def test_each_step_is_differentiated_at_parameters_taken_for_constants(steps, labels):
    """With one step, TESLA's gradient is exact."""
    shape = Problem(4, 2, image_size_px=8, images=6, student_steps=steps, batch_size=4)
    network, distilled, run, augmentation = shape.arguments(torch.float64)
    if labels == "soft":
        logits = 2 * F.one_hot(distilled.labels, 4).to(torch.float64)
        distilled = Distilled(distilled.images, logits, distilled.log_step_size)
    leaves, theta, moved = distilled.leaves(), run.start, run.start
    for batch, draws in zip(run.batches, run.draws):
        at = theta.detach().requires_grad_()
        x = augment(leaves.images[batch], draws, augmentation)
        loss = F.cross_entropy(network(at, x), leaves.targets[batch])
        (slope,) = torch.autograd.grad(loss, at, create_graph=True)
        moved = moved - leaves.step_size * slope
        theta = moved.detach()
    loss = (moved - run.target).square().sum() / (run.start - run.target).square().sum()
    expected = torch.autograd.grad(loss, list(leaves.learned().values()))
    found_loss, found = tesla_gradient(network, distilled, run, augmentation)
    assert found_loss == pytest.approx(loss.item(), rel=1e-12)
    for name, value in zip(leaves.learned(), expected, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
    _, exact = matching_gradient(network, distilled, run, augmentation)
    assert (cosine(found["images"], exact["images"]) > 1 - 1e-12) == (steps == 1)
