"""What one iteration of each method of distilling asks, and of which student.

    trajectory   a student that starts where a teacher was: how far from the teacher does it end?
    real_loss    a student that trains as the evaluation does: what is its loss on real images?

The outer loop (`distill`) only sees the answers: a loss, and its gradient in all that is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medddist.base.errors import InputError
from medddist.method.distill import Ask, DistillSettings
from medddist.method.distilled import Distilled
from medddist.method.matching import matching_gradient, segment
from medddist.method.networks import Network, initial_parameters
from medddist.method.real_loss import real_loss_gradient
from medddist.method.student import Answer, student
from medddist.method.training import Labelled, Recipe, sampled_order
from medddist.method.trajectories import Trajectory


def along_teachers(
    network: Network, trajectories: list[Trajectory], settings: DistillSettings
) -> Ask:
    """Return what trajectory matching asks: of a teacher and a start epoch drawn anew each time.

    Args:
        network: of teachers and students.
        trajectories: one per teacher.
        settings: of the distillation.

    Raises:
        InputError: for settings that the trajectories do not allow.
    """
    check_trajectories(trajectories, network, settings, settings.last_epoch_read)

    def ask(distilled: Distilled, random: torch.Generator) -> Answer:
        teacher = trajectories[int(torch.randint(len(trajectories), (), generator=random))]
        epoch = int(torch.randint(settings.max_start_epoch, (), generator=random))
        like = distilled.images
        start, target = (
            row.to(like) for row in teacher.rows(epoch, epoch + settings.expert_epochs)
        )
        if torch.equal(start, target):
            reason = f"does not move after epoch {epoch}"
            raise InputError(teacher.path, reason, "raise the teachers' learning_rate")
        run = segment(start, target, like, settings.batch_size, settings.student_steps, random)
        given = network, distilled, run, settings.augmentation
        return matching_gradient(*given, way=settings.gradient)

    return ask


def check_trajectories(
    trajectories: list[Trajectory], network: Network, settings: DistillSettings, needed: int
) -> None:
    """Check that every trajectory fits the network and reaches the epoch `needed`.

    Raises:
        InputError: where one does not, or there is none.
    """
    if not trajectories:
        raise InputError("teachers", "there are no trajectories to match", "train one or more")
    for trajectory in trajectories:
        theirs, ours = trajectory.parameter_count, network.parameter_count
        if theirs != ours:
            reason = f"has {theirs} parameters per snapshot, and the network has {ours}"
            remedy = "train teachers with these network settings"
            raise InputError(trajectory.path, reason, remedy)
        if trajectory.snapshots <= needed:
            epochs = f"{settings.max_start_epoch} and expert_epochs {settings.expert_epochs}"
            reason = f"{epochs} need snapshots to epoch {needed}, and {trajectory.path} ends at"
            reason += f" {trajectory.snapshots - 1}"
            remedy = "lower it or raise the teachers' kept_epochs"
            raise InputError("max_start_epoch", reason, remedy)


def on_real_images(
    networks: list[Network],
    training: Labelled,
    targets: Tensor,
    settings: DistillSettings,
    recipe: Recipe,
    trajectories: list[Trajectory] | None = None,
) -> Ask:
    """Return what the loss on real images asks: of a fresh student, T steps long, and a batch.

    T is drawn from W to `horizon_steps` each time, and the batch has each class equally often, on
    average, where balanced accuracy selects.

    Args:
        networks: of the students, one of which is drawn each time.
        training: images (N, C, H, W) and labels (N,).
        targets: what the student is to answer: labels (N,) or probabilities (N, K).
        settings: of the distillation.
        recipe: the evaluation's, whose momentum and weight decay the students train with.
        trajectories: of teachers, at whose snapshots students start; None for fresh networks.

    Raises:
        InputError: for settings that the trajectories do not allow.
    """
    if trajectories is not None:
        check_trajectories(trajectories, networks[0], settings, settings.max_start_epoch - 1)
    window, horizon = settings.window_steps, settings.horizon_steps
    sampling = "balanced" if settings.selection_metric == "balanced_accuracy" else "natural"
    descent = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    (images, labels), device = training, training[0].device

    def first(network: Network, random: torch.Generator) -> Tensor:
        number = int(torch.randint(2**40, (), generator=random))
        if trajectories is None:
            return initial_parameters(network, number)
        teacher = trajectories[number % len(trajectories)]
        return teacher.rows(number // len(trajectories) % settings.max_start_epoch)[0]

    def ask(distilled: Distilled, random: torch.Generator) -> Answer:
        network = networks[int(torch.randint(len(networks), (), generator=random))]
        steps = int(torch.randint(window, horizon + 1, (), generator=random))
        given = first(network, random), distilled.images, settings.batch_size, steps, random
        run = student(*given, **descent, window=window)
        chosen = sampled_order(labels, sampling, random)[: settings.real_batch_size].to(device)
        given = network, distilled, run, settings.augmentation, (images[chosen], targets[chosen])
        return real_loss_gradient(*given, way=settings.gradient)

    return ask
