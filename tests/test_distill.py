from __future__ import annotations

import math

import pytest
import torch
from small import labelled, tiny_distill, tiny_evaluation, tiny_network, walks

from medddist.distill import check_trajectories, distill, initial_set
from medddist.errors import InputError


def run(folder, train=None, validation=None, **changes):
    network = tiny_network()
    return distill(
        network, tiny_network(differentiable_once=True), train or labelled(30), validation or labelled(9, 1), 3,
        walks(folder / "teachers", network), tiny_distill(**changes), tiny_evaluation(), folder / "unfinished.safetensors",
    )  # fmt: skip


def test_the_loss_falls_and_the_initial_set_is_the_first_candidate(tmp_path):
    result = run(tmp_path, iterations=40, select_every=20, learning_rate_images=3.0, max_start_epoch=0)
    assert result.losses[-15:].mean() < result.losses[:15].mean()
    assert [candidate["iteration"] for candidate in result.candidates] == [0, 20, 40]
    assert torch.equal(result.pictures[0], result.initial.images)
    assert torch.equal(result.initial.images, labelled(30)[0][result.initial_indices])


def test_released_is_the_best_candidate_on_validation(tmp_path):
    result = run(tmp_path)
    best = max(result.candidates, key=lambda candidate: candidate["balanced_accuracy"])
    assert result.selected_iteration == best["iteration"]
    assert torch.equal(result.distilled.images, result.pictures[best["iteration"]])


def test_noise_knows_no_training_image(tmp_path):
    first, indices = initial_set(labelled(30), 3, tiny_distill(initial_images="noise"))
    other, _ = initial_set((labelled(30)[0] + 1, labelled(30)[1]), 3, tiny_distill(initial_images="noise"))
    assert len(indices) == 0 and torch.equal(first.images, other.images)


def test_soft_labels_start_confident_and_are_learned(tmp_path):
    result = run(tmp_path, labels="soft", learning_rate_labels=1.0, label_confidence=0.8)
    assert torch.allclose(result.initial.targets.max(1).values, torch.tensor(0.8))
    assert torch.equal(result.initial.targets.argmax(1), torch.tensor([0, 0, 1, 1, 2, 2]))
    released = run(tmp_path / "all", labels="soft", learning_rate_labels=1.0, label_confidence=0.8, iterations=0)
    assert torch.equal(released.distilled.labels, released.initial.labels)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"learning_rate_images": 1e30, "iterations": 40}, "learning_rate_images"),
        ({"step_size": 1e20}, "step_size"),
    ],
)
def test_a_loss_that_is_not_finite_names_the_setting_to_lower(tmp_path, changes, named):
    with pytest.raises(InputError, match=named) as refused:
        run(tmp_path, select_every=1000, **changes)
    assert "lower" in str(refused.value) and "\n" not in str(refused.value)


def test_step_size_stays_positive(tmp_path):
    result = run(tmp_path, learning_rate_log_step_size=5.0, learning_rate_images=0.0, iterations=5)
    assert all(size > 0 and math.isfinite(size) for size in result.step_sizes.tolist())


def test_trajectories_that_are_too_short_or_of_another_network_are_refused(tmp_path):
    found = walks(tmp_path, tiny_network(), snapshots=3)
    check_trajectories(found, tiny_network(), tiny_distill(max_start_epoch=1))
    with pytest.raises(InputError, match="max_start_epoch: 2 .* needs snapshots to epoch 3"):
        check_trajectories(found, tiny_network(), tiny_distill(max_start_epoch=2))
    with pytest.raises(InputError, match="parameters a snapshot"):
        check_trajectories(found, tiny_network(width=5), tiny_distill())
