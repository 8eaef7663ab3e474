"""Figures of record: every variant of a profile measured, with all that is needed to measure it
again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medddist.base.files import write_json
from medddist.base.progress import Progress, silent
from medddist.base.version import about
from medddist.measure.intervals import INTERVAL
from medddist.measure.metrics import excludes_zero
from medddist.method.private.dp_sgd import LOCAL
from medddist.study.profile import load_profile
from medddist.study.study import Study


def measure(
    name: str,
    changes: dict[str, Any],
    source: str,
    out: str | Path,
    device: str,
    folder: str | Path,
    progress: Progress = silent,
) -> tuple[dict, Path]:
    """Measure profile `name` in each of its variants on `source`; (the record, the file in `folder`
    that holds it).

    Steps that are there already are read, so a record that was interrupted is gone on with.
    """
    base = load_profile(name, changes)
    variants = {
        variant: load_profile(name, changes_of | changes)
        for variant, changes_of in base.variants.items()
    } or {"": base}
    record = {
        "profile": base.name,
        "source": Path(source).name,
        "interval": INTERVAL,
        "variants": {
            variant: _measured(Study(profile, source, out, device, progress))
            for variant, profile in variants.items()
        },
        "about": about(device),
    }
    path = Path(folder) / f"{base.name}-{Path(source).stem}.json"
    write_json(path, record)
    return record, path


def compare_record(
    study: Study, rows: list[dict], origins: dict, device: str, folder: str | Path
) -> Path:
    """The comparison's rows, and `origins.of_origins`, as a file in `folder`, with all that is
    needed to measure them again.
    """
    path = Path(folder) / f"compare-{study.profile.name}-{Path(study.source).stem}.json"
    write_json(path, _of_study(study, device, rows=rows, origins=origins))
    return path


def audit_record(
    study: Study, told: dict, broken: list[str], device: str, folder: str | Path
) -> Path:
    """What `audit.audit` told and `audit.broken` said of it, as a file in `folder`, with all that
    is needed to measure it again.
    """
    path = Path(folder) / (
        f"audit-{study.profile.name}-{Path(study.source).stem}-{told['settings']['false_positives']:g}.json"
    )
    write_json(path, _of_study(study, device, audit=told, broken=broken))
    return path


def leakage_record(study: Study, rows: list[dict], device: str, folder: str | Path) -> Path:
    """`leakage.leakage`'s rows as a file in `folder`, with all that is needed to measure them
    again.
    """
    path = Path(folder) / f"leakage-{study.profile.name}-{Path(study.source).stem}.json"
    write_json(path, _of_study(study, device, rows=rows))
    return path


def _of_study(study: Study, device: str, **measured: Any) -> dict:
    return {
        "profile": study.profile.name,
        "source": Path(study.source).name,
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        "fingerprint": study.data.fingerprint,
        **local_note(study),
        "interval": INTERVAL,
        **measured,
        "about": about(device),
    }


def local_note(study: Study) -> dict[str, str]:
    """What a record says of itself where a guarantee holds for the study's packages, and not for
    the record.
    """
    return {"local": LOCAL} if study.profile.teachers.privacy else {}


def _measured(study: Study) -> dict:
    data, metric = study.data, study.profile.distill.selection_metric
    rows = study.table()
    return local_note(study) | {
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        "data": {
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
            "counts": {
                name: part.class_counts(data.classes).tolist()
                for name, part in data.parts().items()
            },
            "notes": list(data.notes),
        },
        "metric": metric,
        "rows": rows,
        "summary": summary(rows, metric),
        "by_seed": {str(seed): _of_seed(study, seed) for seed in study.profile.seeds},
    }


def summary(rows: list[dict], metric: str) -> dict:
    """The questions that the study asks, answered on the metric that its choices were made by."""
    by_method = {row["method"]: row for row in rows}
    better = max(
        ("random_balanced", "random_natural"), key=lambda method: by_method[method][metric]["mean"]
    )
    distilled = by_method["distilled"][metric]["mean"]
    return {
        "metric": metric,
        "distilled": distilled,
        "share_of_full_good": distilled / by_method["full_good"][metric]["mean"],
        "better_random_reference": better,
        "lead_over_it": by_method[better]["distilled_lead"][metric],
    }


def _of_seed(study: Study, seed: int) -> dict:
    """One seed's own figures: its scores on test, its candidates on validation, its cost."""
    scores = study.scores_of_seed(seed)
    result = study.distillation(seed)
    return {
        **{
            metric: scores[metric]["mean"]
            for metric in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
        },
        "selected_iteration": result.selected_iteration,
        "step_size": result.distilled.step_size.item(),
        "candidates_on_validation": list(result.candidates),
        "teachers_on_validation": [one.about["validation"] for one in study.teachers(seed)],
        "seconds": study.seconds(seed),
    }


def summary_lines(record: dict) -> list[str]:
    return [
        summary_line(variant or record["profile"], measured["summary"])
        for variant, measured in record["variants"].items()
    ]


def summary_line(name: str, told: dict) -> str:
    """`summary` in a line that says whether the distilled images are told apart from the better
    random reference.
    """
    lead = told["lead_over_it"]
    interval = (
        "no interval" if lead["low"] is None else f"[{lead['low']:+.3f}, {lead['high']:+.3f}]"
    )
    return (
        f"{name}: {told['metric']} {told['distilled']:.3f} by the distilled images, "
        f"{told['share_of_full_good']:.2f} of full data's;"
        f" lead over {told['better_random_reference']} {lead['difference']:+.3f} {interval}"
        + ("" if excludes_zero(lead) else ": not told apart")
    )
