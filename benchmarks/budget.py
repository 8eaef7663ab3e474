"""Which method has the better images after so many minutes, from the same initial images?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring import row
from medddist.study.study import Study

METHODS = ("real_loss", "trajectory")  # ours, and the reference
SAME = ("initial_images", "select_every", "selection_networks")  # of both
BUDGETS_MINUTES = (5, 10, 15, 20, 25)


def measure(study: Study, budgets_minutes: Sequence[float]) -> list[dict]:
    """Compare the best set so far on validation, after each budget of minutes.

    Teachers, networks that give soft labels, and the scoring of candidates count.

    Returns:
        A row per budget that both methods have a set in; `ours` and `reference` are scores.
    """
    settings, courses = study.profile.distill, {}
    metric = settings.selection_metric
    same = {f"distill.{name}": getattr(settings, name) for name in SAME}
    for method in METHODS:
        one = study.with_(study.profile.changed({"distill.method": method} | same))
        courses[method] = course(one, metric)
    ours, reference = (courses[method] for method in METHODS)
    what = f"validation {metric.replace('_', ' ')} after so many minutes"
    return [
        row(what, {"minutes": budget}, best(ours, budget), best(reference, budget))
        for budget in budgets_minutes
        if min(ours)[0] <= budget and min(reference)[0] <= budget
    ]


def course(study: Study, metric: str) -> list[tuple[float, float]]:
    """List the minutes after which each candidate was there, and its score on validation."""
    seed = study.profile.seeds[0]
    result, spent = study.distillation(seed), study.seconds(seed)
    distilling = spent.pop("distillation")
    before, iterations = sum(spent.values()), len(result.losses)
    seconds = lambda candidate: before + distilling * candidate["iteration"] / iterations
    return [(seconds(each) / 60, each[metric]) for each in result.candidates]


def best(course: Sequence[tuple[float, float]], minutes: float) -> float:
    """Return the highest score that was reached by then."""
    return max(score for at, score in course if at <= minutes)
