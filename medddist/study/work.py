"""Count the work of a study's steps: how many images are trained on, how many student steps.

tests/study/test_work.py counts what the steps really do, and compares.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from medddist.data import Data
from medddist.method.distill import candidate_iterations
from medddist.method.private.extractors import AT_A_TIME, RECIPE, TRAINING_IMAGES
from medddist.method.real_loss import AT_ONCE
from medddist.method.training import Recipe
from medddist.study.profile import Profile

PREDICTED_AT_ONCE = 512  # images, as `training.predict` does


class Shape(NamedTuple):
    """Sizes of the data: images in each part, and what an image is."""

    train: int
    validation: int
    test: int
    channels: int
    classes: int
    image_size_px: int


class Unit(NamedTuple):
    """Work on `batch` images at once.

    what: `train` and `predict` count images, `student` a student's steps in the matching gradient,
    `features` images that a public network describes, `move` steps that move a set to a release, a
    self-supervised method of the comparison its steps, a condensing method its iterations.
    """

    what: str
    batch: int
    network: str = "convnet"


Work = Counter[Unit]


def shape_of(data: Data) -> Shape:
    """Give the sizes of a study's data."""
    parts = (len(part) for part in (data.train, data.validation, data.test))
    return Shape(*parts, data.channels, data.classes, data.image_size_px)


def networks_work(
    count: int, recipe: Recipe, images: int, predicted: int, network: str = "convnet"
) -> Work:
    """Count networks that are trained, and then predict.

    Args:
        count: of networks.
        recipe: of their training.
        images: that each is trained on.
        predicted: images that each predicts.
        network: the architecture.
    """
    trained = Unit("train", min(recipe.batch_size, images), network)
    asked = Unit("predict", PREDICTED_AT_ONCE, network)
    return +Work({trained: count * recipe.epochs * images, asked: count * predicted})


def teacher_work(profile: Profile, shape: Shape) -> Work:
    """Count one teacher: it stops after `kept_epochs`, and predicts at the start and after each."""
    epochs = profile.teachers.kept_epochs
    recipe = profile.teachers.recipe.model_copy(update={"epochs": epochs})
    return networks_work(1, recipe, shape.train, (epochs + 1) * shape.validation)


def distillation_work(profile: Profile, shape: Shape) -> Work:
    """Count one seed's distillation: student steps, and networks that compare candidates."""
    settings, released = profile.distill, profile.distill.images_per_class * shape.classes
    students, batch = settings.iterations * settings.segments_per_step, settings.batch_size
    batch = min(batch, released)
    if settings.method == "trajectory":
        work = +Work({Unit("student", batch): students * settings.student_steps})
    elif settings.method == "private":
        return +Work({Unit("move", released): settings.iterations * settings.extractor_networks})
    else:  # steps before the window, those of the window, and the real images
        before = (settings.horizon_steps - settings.window_steps) * batch // 2
        real, at_once = min(settings.real_batch_size, shape.train), min(AT_ONCE, shape.train)
        work = +Work({Unit("student", batch): students * settings.window_steps})
        work += +Work({Unit("train", batch): students * before})
        work += +Work({Unit("train", at_once): students * real})
    if settings.labels != "hard":
        work += _labelled(profile, released)
    if settings.selection == "last":
        return work
    tried = len(candidate_iterations(settings)) * settings.selection_networks
    return work + networks_work(tried, profile.evaluate.recipe, released, shape.validation)


def release_work(profile: Profile, shape: Shape, trained: bool) -> Work:
    """Count what comes before private distillations: public networks, and one release.

    Args:
        profile: of the study.
        shape: of the data.
        trained: whether public networks have to be trained.
    """
    networks = profile.distill.extractor_networks
    work = Work({Unit("features", 1): networks * shape.train})
    if trained:
        work += networks_work(networks, RECIPE, TRAINING_IMAGES, 0)
        work += Work({Unit("features", AT_A_TIME): networks * TRAINING_IMAGES})
    return work


def label_work(profile: Profile, shape: Shape) -> Work:
    """Count the networks that label, and the networks by which a temperature is chosen."""
    references, temperatures = profile.references, len(profile.references.label_temperatures)
    recipe, count = references.good_recipe, references.full_networks
    work = networks_work(count, recipe, shape.train, shape.train)
    if temperatures == 1:
        return work
    tried = temperatures * len(references.learning_rates) * references.tuning_networks
    released = profile.distill.images_per_class * shape.classes
    return work + networks_work(tried, profile.evaluate.recipe, released, shape.validation)


def method_work(profile: Profile, shape: Shape, method: str) -> Work:
    """Count one of `study.METHODS`: networks, and those by which a learning rate is chosen."""
    references, released = profile.references, profile.distill.images_per_class * shape.classes
    small = profile.evaluate.recipe, released
    if method in ("distilled", "initial"):
        networks = len(profile.seeds) * profile.evaluate.networks
        return networks_work(networks, *small, shape.test)
    if method.startswith(("random", "herding")):
        tried = len(references.learning_rates) * references.tuning_networks
        sets = references.draws if method.startswith("random") else 1
        each = references.networks_per_draw if sets > 1 else profile.evaluate.networks
        tuning = networks_work(tried, *small, shape.validation)
        labels = _labelled(profile, sets * released) if method.endswith("_teachers") else Work()
        return labels + tuning + networks_work(sets * each, *small, shape.test)
    if method == "full_teacher":
        trained = references.full_networks, profile.teachers.recipe, shape.train
        return networks_work(*trained, shape.test)
    return _labelled(profile, shape.test) if method == "full_good" else Work()


def audit_work(profile: Profile, shape: Shape) -> Work:
    """Count an audit: the networks that the attack trains, and shadows up to their scores."""
    settings, released = profile.audit, profile.distill.images_per_class * shape.classes
    asked = 2 * released + settings.others + shape.test  # images whose membership is asked, at most
    networks = 2 * settings.networks + settings.references
    work = networks_work(networks, settings.recipe, released, asked)
    if settings.shadows:
        one, half = profile.changed(settings.shadow_changes), shape._replace(train=shape.train // 2)
        each = [distillation_work(one, half)]
        if one.distill.follows_teachers:
            each += [teacher_work(one, half)] * one.teachers.teachers
        if one.distill.asks_networks:
            each += [label_work(one, half)]
        each += [networks_work(2 * settings.shadow_networks, one.audit.recipe, released, asked)]
        work += sum(each * settings.shadows, Work())
    return work


def _labelled(profile: Profile, images: int) -> Work:
    """Count the predictions of the networks that label, trained by then."""
    asked = Unit("predict", PREDICTED_AT_ONCE)
    return +Work({asked: profile.references.full_networks * images})
