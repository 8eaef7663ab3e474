"""Settings of a distillation by any method."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from medddist.base.settings import Settings
from medddist.method.augment import AugmentSettings
from medddist.method.networks import NetworkSettings
from medddist.method.student import Way

OF_METHOD = {  # settings that one method alone reads; `max_start_epoch` also where students follow
    "trajectory": ("student_steps", "expert_epochs", "max_start_epoch"),
    "real_loss": (
        "window_steps",
        "horizon_steps",
        "real_batch_size",
        "real_targets",
        "student_start",
        "student_networks",
    ),
    "private": (
        "epsilon",
        "delta",
        "extractors",
        "extractor_networks",
        "extractor_numbers",
    ),
}


class DistillSettings(Settings):
    """Settings of a distillation, under the names of matching training trajectories (MTT).

    method: `trajectory` matches teachers' trajectories (MTT); `real_loss` lowers the loss on real
        images by random truncated back-propagation (RaT-BPTT); `private` moves public images to one
        noisy release, with a guarantee.
    initial_images: real images, drawn at random, by herding or by k-means, averages of them, or
        noise with the training pixels' mean and spread; see `baselines.initial`.
    labels: the classes (`hard`); what well-trained `teachers` answer; or those answers to begin
        with, `learned` with the images from there on.
    real_targets: what real images are labelled with, their `labels` or the teachers' answers.
    student_start: of `real_loss`, a `fresh` network or a snapshot of a `teacher`.
    outer_optimiser, outer_schedule: of what is learned; Adam's learning rates are about 0.01.
    selection: the best candidate on `validation`, or the `last` one without a look at validation.
    """

    method: Literal["trajectory", "real_loss", "private"] = "trajectory"
    images_per_class: int = Field(20, ge=1)  # distilled images
    iterations: int = Field(5000, ge=0)  # updates of the images
    student_steps: int = Field(20, ge=1)  # N, of a student along a segment
    expert_epochs: int = Field(2, ge=1)  # M, of the teacher along the same segment
    max_start_epoch: int = Field(10, ge=1)  # T+: a student starts after fewer epochs, 0 or more
    window_steps: int = Field(40, ge=1)  # W, the last steps, which the derivative goes through
    horizon_steps: int = Field(160, ge=1)  # the most steps of a student; each has W or more
    real_batch_size: int = Field(1024, ge=1)  # real images per iteration
    real_targets: Literal["labels", "teachers"] = "teachers"
    student_start: Literal["fresh", "teacher"] = "fresh"
    student_networks: tuple[NetworkSettings, ...] = ()  # other ConvNets that students also are
    epsilon: float = Field(1.0, gt=0)  # of `private`, like the four that follow
    delta: float = Field(1e-5, gt=0, le=1e-3)  # well below 1 / (public number of patients)
    extractors: Literal["phantom", "random"] = "phantom"  # what public networks are trained on
    extractor_networks: int = Field(8, ge=1)  # public networks
    extractor_numbers: int = Field(64, ge=1)  # of each network's features
    batch_size: int = Field(40, ge=1)  # distilled images per student step
    step_size: float = Field(0.01, gt=0)  # alpha at the start; its logarithm is learned
    outer_optimiser: Literal["sgd", "adam"] = "sgd"
    outer_schedule: Literal["constant", "cosine"] = "constant"
    learning_rate_images: float = Field(1000.0, ge=0, le=1e38)  # of the pixels
    # of the step size's logarithm
    learning_rate_log_step_size: float = Field(0.01, ge=0, le=1e38)
    learning_rate_labels: float = Field(1.0, ge=0, le=1e38)  # of the label logits
    momentum: float = Field(0.5, ge=0, lt=1)  # of `sgd`
    segments_per_step: int = Field(1, ge=1)  # students whose gradients are averaged in an iteration
    gradient: Way = "exact"  # difference: faster, half the digits
    initial_images: Literal["real", "herding", "kmeans", "average", "noise"] = "real"
    averaged_images: int = Field(10, ge=2)  # of one class behind each image of an average start
    labels: Literal["hard", "teachers", "learned"] = "hard"
    augmentation: AugmentSettings = AugmentSettings()
    select_every: int = Field(100, ge=1)  # iterations between candidates
    selection_networks: int = Field(2, ge=1)  # trained on each candidate
    # by which candidates are compared on validation
    selection_metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy"
    selection: Literal["validation", "last"] = "validation"
    seed: int = 0  # of initial images, students and mini-batches

    @model_validator(mode="after")
    def _students_are_possible(self):
        window, horizon = self.window_steps, self.horizon_steps
        if self.method == "real_loss" and horizon < window:
            reason = f"horizon_steps {horizon} is less than window_steps {window}"
            raise ValueError(f"{reason}; raise it or lower window_steps")
        if self.method == "private" and self.labels != "hard":
            reason = f"labels: {self.labels} would come from networks that saw the real images"
            raise ValueError(f"{reason}; set it to hard with method private")
        if self.student_networks and self.follows_teachers:
            reason = "student_networks: other networks cannot start where teachers were"
            raise ValueError(f"{reason}; set method to real_loss and student_start to fresh")
        return self

    @property
    def follows_teachers(self) -> bool:
        """Whether students start where teachers were."""
        by_students = self.method == "real_loss" and self.student_start == "teacher"
        return self.method == "trajectory" or by_students

    @property
    def asks_networks(self) -> bool:
        """Whether well-trained networks label, answer for real images, or choose by features."""
        chosen = self.initial_images in ("herding", "kmeans")
        answers = self.method == "real_loss" and self.real_targets == "teachers"
        return self.method != "private" and (chosen or answers or self.labels != "hard")

    def read(self) -> dict[str, Any]:
        """Return the settings that a distillation by this method reads, as JSON values.

        What another method alone reads changes nothing, and no result should depend on it.
        """
        others = {name for names in OF_METHOD.values() for name in names}
        others -= set(OF_METHOD[self.method])
        if self.follows_teachers:
            others.discard("max_start_epoch")
        return {name: value for name, value in self.as_json().items() if name not in others}

    @property
    def last_epoch_read(self) -> int:
        """The teachers' epoch at the end of a segment from the last start epoch."""
        return self.max_start_epoch - 1 + self.expert_epochs
