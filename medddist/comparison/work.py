"""Count the work of the comparison's rows; see `study.work`. Linear probes are not counted."""

from __future__ import annotations

from medddist.baselines.transfer import recipe_of_budget
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED
from medddist.comparison.shared import (
    Entry,
    compare_recipe,
    condensing_iterations,
    image_budget,
    pretraining_steps,
)
from medddist.comparison.tables import OF_THE_STUDY
from medddist.study.profile import Profile
from medddist.study.work import Shape, Unit, Work, method_work, networks_work


def row_work(profile: Profile, shape: Shape, entry: Entry) -> Work:
    """Count one row: what its method prepares, and the networks that are tried and evaluated."""
    if entry.method in OF_THE_STUDY:
        return method_work(profile, shape, entry.method)
    settings, released = profile.compare, profile.distill.images_per_class * shape.classes
    small, preparation = (compare_recipe(profile), released), _preparation(profile, shape, entry)
    points, seeds = len(settings.grid) if preparation else 1, settings.evaluation_seeds
    rates = len(settings.learning_rates) + (entry.method == "distilled")
    tried = points * rates * settings.tuning_networks
    if entry.method in SELF_SUPERVISED and entry.table != "inside":
        points += seeds - 1  # each seed has images of its own
    return (
        Work({unit: points * amount for unit, amount in preparation.items()})
        + networks_work(tried, *small, shape.validation, entry.network)
        + networks_work(seeds, *small, shape.test, entry.network)
    )


def _preparation(profile: Profile, shape: Shape, entry: Entry) -> Work:
    """Count what precedes a method's networks; a site to transfer from counts as all data."""
    settings, method = profile.compare, entry.method
    if method in SELF_SUPERVISED:
        unit = Unit(method, settings.pretrain.batch_size, entry.network)
        return Work({unit: pretraining_steps(settings, entry.table)})
    if method in CONDENSED:
        batch = settings.condense.real_images_per_class * shape.classes
        return Work({Unit(method, batch): condensing_iterations(settings, shape.classes)})
    if method in ("transfer_site", "transfer_phantom"):
        images = settings.phantom_images if method == "transfer_phantom" else shape.train
        good, budget = profile.references.good_recipe, image_budget(settings, "inside")
        return networks_work(1, recipe_of_budget(good, 0.0, images, budget), images, 0)
    return Work()
