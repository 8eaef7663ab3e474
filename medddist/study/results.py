"""Reference results: records of measurements, with all that is needed to measure them again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medddist.base.files import write_json
from medddist.base.progress import Progress, silent
from medddist.base.version import about
from medddist.data import PHANTOM, is_phantom
from medddist.measure.intervals import INTERVAL
from medddist.measure.metrics import METRICS, excludes_zero
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
    """Measure each variant of a profile; cached steps are read, so that it is resumable.

    Args:
        name: of the profile.
        changes: of the profile.
        source: the data.
        out: the folder of cached results.
        device: where it is computed.
        folder: of records.
        progress: called while a step is computed.

    Returns:
        The record, and its file in `folder`.
    """
    base = load_profile(name, changes)
    variants, given = (base.variants or {"": {}}).items(), (source, out, device, progress)
    profiles = {variant: load_profile(name, own | changes) for variant, own in variants}
    measured = {k: _measured(Study(profile, *given)) for k, profile in profiles.items()}
    named = source_name(source)
    record = {"profile": base.name, "source": named, "interval": INTERVAL}
    record |= {"variants": measured, "about": about(device)}
    path = Path(folder) / f"{base.name}-{Path(named).stem}.json"
    write_json(path, record)
    return record, path


def write_record(
    step: str, study: Study, device: str, folder: str | Path, suffix: str = "", **measured: Any
) -> Path:
    """Record what a step measured, and all that it depends on; return the file.

    Args:
        step: `compare`, `audit` or `leakage`.
        study: that was measured.
        device: where it was computed.
        folder: of records.
        suffix: of the file's name.
        measured: the results by name.
    """
    source = source_name(study.source)
    record = {
        "profile": study.profile.name,
        "source": source,
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        "fingerprint": study.data.fingerprint,
        **local_note(study),
        "interval": INTERVAL,
        **measured,
        "about": about(device),
    }
    name = f"{step}-{study.profile.name}-{Path(source).stem}{suffix}.json"
    write_json(Path(folder) / name, record)
    return Path(folder) / name


def source_name(source: str | Path) -> str:
    """Name a source in a record: by its file or folder, and only the phantom as the phantom."""
    if is_phantom(source):
        return PHANTOM
    name = Path(os.path.abspath(source)).name
    return f"own_{name}" if Path(name).stem.lower() == PHANTOM else name


def local_note(study: Study) -> dict[str, str]:
    """Warn, in a record, that a study's guarantee holds for its packages and not for the record."""
    return {"local": LOCAL} if study.profile.guarantees else {}


def _measured(study: Study) -> dict:
    data, metric = study.data, study.profile.distill.selection_metric
    rows, parts = study.table(), data.parts().items()
    return local_note(study) | {
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        "data": {
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
            "counts": {k: part.class_counts(data.classes).tolist() for k, part in parts},
            "notes": list(data.notes),
        },
        "metric": metric,
        "rows": rows,
        "summary": summary(rows, metric),
        "by_seed": {str(seed): _of_seed(study, seed) for seed in study.profile.seeds},
    }


def summary(rows: list[dict], metric: str) -> dict:
    """Summarise a study's table on the metric that its choices were made by."""
    by_method = {row["method"]: row for row in rows}
    mean = {method: row[metric]["mean"] for method, row in by_method.items()}
    better = max(("random_balanced", "random_natural"), key=mean.get)
    return {
        "metric": metric,
        "distilled": mean["distilled"],
        "share_of_full_good": mean["distilled"] / mean["full_good"],
        "better_random_reference": better,
        "lead_over_it": by_method[better]["distilled_lead"][metric],
    }


def _of_seed(study: Study, seed: int) -> dict:
    """Results of one seed: its scores on test, its candidates on validation, its cost."""
    scores, result = study.scores_of_seed(seed), study.distillation(seed)
    followed = study.teachers(seed) if study.profile.distill.follows_teachers else []
    return {
        **{metric: scores[metric]["mean"] for metric in METRICS},
        "selected_iteration": result.selected_iteration,
        "step_size": result.distilled.step_size.item(),
        "candidates_on_validation": list(result.candidates),
        "teachers_on_validation": [teacher.about["validation"] for teacher in followed],
        "seconds": study.seconds(seed),
    }


def summary_lines(record: dict) -> list[str]:
    """Return a line per variant of a record."""
    variants = record["variants"].items()
    return [summary_line(name or record["profile"], found["summary"]) for name, found in variants]


def summary_line(name: str, summary: dict) -> str:
    """Say in a line how good the distilled images are, and whether they beat random real ones."""
    lead, share = summary["lead_over_it"], summary["share_of_full_good"]
    interval = "no interval"
    if lead["low"] is not None:
        interval = f"[{lead['low']:+.3f}, {lead['high']:+.3f}]"
    verdict = "" if excludes_zero(lead) else ": no significant difference"
    return (
        f"{name}: {summary['metric']} {summary['distilled']:.3f} with the distilled images, "
        f"{share:.2f} of that with all images; paired difference to "
        f"{summary['better_random_reference']} {lead['difference']:+.3f} {interval}{verdict}"
    )
