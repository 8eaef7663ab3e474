"""Accuracy against leakage: what a set is worth, and what an attack finds of its training images.

Each row is a study of its own (teachers, distillation, scores, audit), cached like any other. A set
of random real images is a row too: sent as it is, all of its images are given away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from medddist.leaks.audit import audit, broken
from medddist.study.settings import LeakageSettings

if TYPE_CHECKING:
    from medddist.study.profile import Profile
    from medddist.study.study import Study

METRICS = ("accuracy", "balanced_accuracy")
GROUPS = ("starting", "others")  # training images that the set did and did not start from


class Point(NamedTuple):
    """One row: how it is named, and the profile that it is measured with."""

    label: str
    profile: Profile


def points(profile: Profile) -> list[Point]:
    """List every start and every noise multiplier at every number of images.

    Raises:
        InputError: for `leakage.changes` that no profile can take.
    """
    settings, found = profile.leakage, []
    for size in settings.images_per_class:
        shared = settings.changes | {"distill.images_per_class": size}
        for start in settings.starts:
            one = profile.changed(shared | {"distill.initial_images": start})
            label = {"real": "real images", "noise": "noise"}.get(
                start, f"averages of {one.distill.averaged_images}"
            )
            found.append(Point(f"distilled from {label}", one))
        for noise in settings.noise_multipliers:
            found.append(
                Point(
                    "distilled from noise, DP-SGD",
                    profile.changed(shared | _protected(noise, settings)),
                )
            )
    return found


def _protected(noise_multiplier: float, settings: LeakageSettings) -> dict[str, Any]:
    """The changes for DP-SGD, without anything that would undo its guarantee."""
    needed = {
        "teachers.recipe.sampling": "natural",
        "distill.method": "trajectory",
        "distill.labels": "hard",
        "distill.initial_images": "noise",
        "distill.selection": "last",
    }
    return (
        needed | {"teachers.privacy.noise_multiplier": noise_multiplier} | settings.privacy_changes
    )


def leakage(study: Study) -> list[dict[str, Any]]:
    """Measure every point of a study's profile, and random real images at each number of images.

    Returns:
        A row each: label, start, images_per_class, accuracy and balanced_accuracy (intervals over
        test images and networks), found by group (true_positives and auc, intervals as in
        `membership`), start_is_nearest, privacy, broken.
    """
    rows, referred_to = [], set()
    for label, profile in points(study.profile):
        one = study.with_(profile)
        rows.append(_row(label, one))
        size = profile.distill.images_per_class
        if size not in referred_to:
            rows.append(_reference(one))
            referred_to.add(size)
    return rows


def _row(label: str, study: Study) -> dict[str, Any]:
    scores, told, profile = study.scored("distilled").scores, audit(study), study.profile
    released = told["membership"]["loss"]["released"]
    return {
        "label": label,
        "start": profile.distill.initial_images,
        "images_per_class": profile.distill.images_per_class,
        **{metric: scores[metric] for metric in METRICS},
        "found": {group: released[group] for group in GROUPS if group in released},
        "start_is_nearest": told["neighbours"]["pixels"].get("start_is_nearest"),
        "privacy": study.teachers()[0].about["privacy"] if profile.teachers.privacy else None,
        "broken": broken(told),
    }


def _reference(study: Study) -> dict[str, Any]:
    """Random real images, as many; found by networks trained on such images."""
    scores, told = study.scored("random_balanced").scores, audit(study)
    return {
        "label": "random real images",
        "start": None,
        "images_per_class": study.profile.distill.images_per_class,
        **{metric: scores[metric] for metric in METRICS},
        "found": {"starting": told["membership"]["loss"]["positive_control"]["control"]},
        "start_is_nearest": None,
        "privacy": None,
        "broken": broken(told),
    }


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as people read them, a line each."""
    return [_line(row) for row in rows]


def _line(row: dict[str, Any]) -> str:
    score, told = row["balanced_accuracy"], []
    for group, of in row["found"].items():
        hits, area = of["true_positives"], of["auc"]
        told.append(
            f"{group} {hits['count']} of {hits['of']} found, AUC {area['auc']:.3f} "
            f"[{area['low']:.3f}, {area['high']:.3f}]"
        )
    if row["privacy"]:
        told.append(f"epsilon {row['privacy']['epsilon']:.3g} at delta {row['privacy']['delta']:g}")
    head = (
        f"{row['label']}, {row['images_per_class']} a class: balanced accuracy "
        f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    )
    return "; ".join([head, *told, *row["broken"]])
