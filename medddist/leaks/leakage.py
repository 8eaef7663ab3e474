"""Accuracy against leakage: what a set is worth and what an attack finds, by its start, its number
of images, and DP-SGD.

Each point is a study of its own: its teachers, its distillation, its scores and its audit are kept
    and gone on with. The
random real images that a set is held against are a point too: sent as they are, all of them are
    given away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from medddist.study.settings import LeakageSettings

if TYPE_CHECKING:
    from medddist.study.profile import Profile
    from medddist.study.study import Study

METRICS = ("accuracy", "balanced_accuracy")
GROUPS = ("starting", "others")  # training images that the set started from, and such as it did not


class Point(NamedTuple):
    """A row to be measured: the profile says all of it."""

    label: str
    profile: Profile


def points(profile: Profile) -> list[Point]:
    """Every start and every noise multiplier at every number of images.

    Raises InputError for changes that do not fit.
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
    """What DP-SGD takes, and what would undo its guarantee; see `privacy.refuse_unprotected`."""
    needed = {
        "teachers.recipe.sampling": "natural",
        "distill.initial_images": "noise",
        "distill.selection": "last",
    }
    return (
        needed | {"teachers.privacy.noise_multiplier": noise_multiplier} | settings.privacy_changes
    )


def leakage(study: Study) -> list[dict[str, Any]]:
    """A row a point, and for each number of images one of random real images: scores, what is
    found, what is guaranteed.

    {label, start, images_per_class, accuracy, balanced_accuracy, found: {group: {true_positives,
    auc}}, start_is_nearest, privacy, broken}; intervals of the first are of test images and
    networks, those of the others as `audit` says.
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
    from medddist.leaks.audit import audit, broken

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
    """As many random real images, and the attack's positive control: networks trained on such
    images.
    """
    from medddist.leaks.audit import audit, broken

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
    """The rows as people read them."""
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
