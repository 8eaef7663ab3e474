"""What are distillations by finite differences worth, beside exact ones from the same teachers?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks.gradient import TESLA, cosine
from benchmarks.measuring import Report, row
from benchmarks.tesla import tesla_gradient
from medddist.base.seeds import generator
from medddist.base.version import about
from medddist.measure.intervals import INTERVAL
from medddist.method.matching import matching_gradient, segment
from medddist.study import scores as of_study
from medddist.study.profile import load_profile
from medddist.study.study import Study


def studies(
    profile: str, changes: dict, data: str, out: str, device: str, report: Report | None
) -> tuple[Study, Study]:
    """Return the study by finite differences and the exact one; they share teachers in `out`."""
    difference, exact = (
        Study(load_profile(profile, changes | {"distill.gradient": way}), data, out, device, report)
        for way in ("difference", "exact")
    )
    return difference, exact


def measure(difference: Study, exact: Study) -> list[dict]:
    """Compare both on the test part, over the networks of all seeds.

    Returns:
        A row per metric with the paired `difference` and its 95 % interval `low` to `high`;
        `ratio_low` and `ratio_high` are that interval relative to the exact distillation's score.
        The rows of `direction` follow.
    """
    ours, reference = (study.scored("distilled") for study in (difference, exact))
    rows = []
    for metric in ("accuracy", "balanced_accuracy"):
        scores = (scored.scores[metric]["mean"] for scored in (ours, reference))
        compared = row(metric, {"way": "difference"}, *scores)
        paired = of_study.difference(exact, ours, reference, metric)
        for end in ("low", "high"):
            compared[f"ratio_{end}"] = 1 + paired[end] / compared["reference"]
        rows.append(compared | paired)
    return rows + direction(exact)


def direction(study: Study) -> list[dict]:
    """Compare image gradients at the released set with the exact one, by their cosine.

    The segment starts at the first teacher's initial parameters; all numbers are float64.
    """
    settings, distilled = study.profile.distill, study.distillation().distilled.to(torch.float64)
    start, target = study.teachers()[0].rows(0, settings.expert_epochs)
    run = segment(
        start,
        target,
        distilled.images,
        settings.batch_size,
        settings.student_steps,
        generator("bench"),
    )
    images = lambda way: way(study.network(), distilled, run, settings.augmentation)[1]["images"]
    exact = images(matching_gradient)
    ways = {"difference": partial(matching_gradient, way="difference"), TESLA: tesla_gradient}
    return [
        row(
            "cosine to the exact image gradient",
            {"way": name, "student_steps": settings.student_steps},
            cosine(images(way), exact),
            1.0,
        )
        for name, way in ways.items()
    ]


def record(study: Study, rows: list[dict], device: str) -> tuple[str, dict]:
    """Return the record's file name and content: the rows, and what is needed to repeat them."""
    content = about_study(study) | {"interval": INTERVAL, "rows": rows, "about": about(device)}
    return f"gradients-{study.profile.name}-{Path(study.source).stem}.json", content


def about_study(study: Study) -> dict:
    """Return what is needed to measure a study again."""
    profile = study.profile
    return {
        "profile": profile.name,
        "source": Path(study.source).name,
        "settings": profile.model_dump(mode="json", exclude={"variants"}),
        "fingerprint": study.data.fingerprint,
    }
