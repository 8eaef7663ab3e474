"""Figures of record: every variant of a profile measured, with all that is needed to measure it again."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from medddist import metrics
from medddist.compute import device_named
from medddist.files import write_json
from medddist.privacy import LOCAL
from medddist.profile import load_profile
from medddist.study import Progress, Study

PACKAGES = ("medddist", "torch", "numpy", "scipy", "scikit-learn", "numba", "safetensors")


def measure(
    name: str,
    changes: dict[str, Any],
    source: str,
    out: str | Path,
    device: str,
    folder: str | Path,
    progress: Progress | None = None,
) -> tuple[dict, Path]:
    """Measure profile `name` in each of its variants on `source`; (the record, the file in `folder` that holds it).

    Steps that are there already are read, so a record that was interrupted is gone on with.
    """
    base = load_profile(name, changes)
    variants = {variant: load_profile(name, changes_of | changes) for variant, changes_of in base.variants.items()} or {
        "": base
    }
    record = {
        "profile": base.name,
        "source": Path(source).name,
        "interval": metrics.INTERVAL,
        "variants": {
            variant: _measured(Study(profile, source, out, device, progress)) for variant, profile in variants.items()
        },
        "about": about(device),
    }
    path = Path(folder) / f"{base.name}-{Path(source).stem}.json"
    write_json(path, record)
    return record, path


def compare_record(study: Study, rows: list[dict], origins: dict, device: str, folder: str | Path) -> Path:
    """The comparison's rows, and `origins.of_origins`, as a file in `folder`, with all that is needed to measure them again."""
    path = Path(folder) / f"compare-{study.profile.name}-{Path(study.source).stem}.json"
    write_json(path, _of_study(study, device, rows=rows, origins=origins))
    return path


def audit_record(study: Study, told: dict, broken: list[str], device: str, folder: str | Path) -> Path:
    """What `audit.audit` told and `audit.broken` said of it, as a file in `folder`, with all that is needed to measure it again."""
    path = Path(folder) / f"audit-{study.profile.name}-{Path(study.source).stem}-{told['settings']['false_positives']:g}.json"
    write_json(path, _of_study(study, device, audit=told, broken=broken))
    return path


def gradients_record(study: Study, rows: list[dict], device: str, folder: str | Path) -> Path:
    """`gradients.worth`'s rows as a file in `folder`, with all that is needed to measure them again."""
    path = Path(folder) / f"gradients-{study.profile.name}-{Path(study.source).stem}.json"
    write_json(path, _of_study(study, device, rows=rows))
    return path


def leakage_record(study: Study, rows: list[dict], device: str, folder: str | Path) -> Path:
    """`leakage.leakage`'s rows as a file in `folder`, with all that is needed to measure them again."""
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
        "interval": metrics.INTERVAL,
        **measured,
        "about": about(device),
    }


def local_note(study: Study) -> dict[str, str]:
    """What a record says of itself where a guarantee holds for the study's packages, and not for the record."""
    return {"local": LOCAL} if study.profile.teachers.privacy else {}


def _measured(study: Study) -> dict:
    data, metric = study.data, study.profile.distill.selection_metric
    rows = study.table()
    return local_note(study) | {
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        "data": {
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
            "counts": {name: part.class_counts(data.classes).tolist() for name, part in data.parts().items()},
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
    better = max(("random_balanced", "random_natural"), key=lambda method: by_method[method][metric]["mean"])
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
        **{metric: scores[metric]["mean"] for metric in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")},
        "selected_iteration": result.selected_iteration,
        "step_size": result.distilled.step_size.item(),
        "candidates_on_validation": list(result.candidates),
        "teachers_on_validation": [one.about["validation"] for one in study.teachers(seed)],
        "seconds": study.seconds(seed),
    }


def about(device: str = "auto") -> dict:
    """Versions, machine and commit."""
    where = device_named(device)
    return {
        "when": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "device": str(where),
            **({"gpu": torch.cuda.get_device_name(where)} if where.type == "cuda" else {}),
        },
    }


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of medddist's own clone, with '+' behind it when the library there differs from it.

    None elsewhere: a repository that medddist is installed in, by a virtual environment, is not medddist's.
    """
    here = Path(__file__).resolve().parents[1]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # set in git's hooks
    git = lambda *words: subprocess.run(
        ["git", "-C", here, *words], capture_output=True, text=True, check=True, env=own
    ).stdout.strip()
    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here:
            return None
        git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "medddist") else "")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def summary_lines(record: dict) -> list[str]:
    return [summary_line(variant or record["profile"], measured["summary"]) for variant, measured in record["variants"].items()]


def summary_line(name: str, told: dict) -> str:
    """`summary` in a line that says whether the distilled images are told apart from the better random reference."""
    lead = told["lead_over_it"]
    interval = "no interval" if lead["low"] is None else f"[{lead['low']:+.3f}, {lead['high']:+.3f}]"
    return (
        f"{name}: {told['metric']} {told['distilled']:.3f} by the distilled images, {told['share_of_full_good']:.2f} of full data's;"
        f" lead over {told['better_random_reference']} {lead['difference']:+.3f} {interval}"
        + ("" if metrics.excludes_zero(lead) else ": not told apart")
    )
