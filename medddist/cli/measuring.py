"""A study's steps, each keeping its result: teachers, distillation, and what the distilled images
are worth and give away.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from medddist.cli.common import (
    opened_study,
    require_one_process,
    say,
    study_options,
    table_lines,
    tell,
)

if TYPE_CHECKING:
    from medddist.method.distill import Distillation
    from medddist.study.study import Study


@click.command()
@study_options(profile="demo")
def teachers(profile, data, out, device, changes, as_json) -> None:
    """Train the teachers and keep their trajectories; under torchrun, each process trains, and the
    first tells, its share.
    """
    with opened_study(profile, data, out, device, changes, "teachers") as study:
        found = [(seed, one) for seed in study.profile.seeds for one in study.train_teachers(seed)]
    result = [
        {
            "file": str(one.path),
            "seed": seed,
            "snapshots": one.snapshots,
            "parameters": one.parameter_count,
            "validation": one.about["validation"],
        }
        for seed, one in found
    ]
    lines = [
        f"{row['file']}: {row['snapshots']} snapshots, validation balanced accuracy "
        f"{row['validation'][-1]['balanced_accuracy']:.3f}"
        for row in result
    ]
    tell(result, as_json, lines)


@click.command()
@study_options(profile="demo")
def distill(profile, data, out, device, changes, as_json) -> None:
    """Distil the training images, with teachers where there are none yet; under torchrun, segments
    are dealt out.
    """
    with opened_study(profile, data, out, device, changes, "distill") as study:
        found = [
            (seed, study.distillation(seed), study.distillation_path(seed))
            for seed in study.profile.seeds
        ]
    unchanged = {seed: _unchanged(study, one) for seed, one, _ in found}
    result = [
        {
            "file": str(path),
            "seed": seed,
            "images": len(one.distilled.images),
            "step_size": one.distilled.step_size.item(),
            "selected_iteration": one.selected_iteration,
            "unchanged": bool(unchanged[seed]),
            "candidates": list(one.candidates),
        }
        for seed, one, path in found
    ]
    lines = []
    for row in result:
        selected = (
            unchanged[row["seed"]] or f"released as it was at iteration {row['selected_iteration']}"
        )
        lines.append(
            f"{row['file']}: {row['images']} images, step size {row['step_size']:.4g}; {selected}"
        )
    if any(unchanged.values()):
        lines.append(
            _distil_longer("distill", profile, data, out, changes, study.profile.distill.iterations)
        )
    tell(result, as_json, lines)


def _unchanged(study: Study, result: Distillation) -> str:
    """That the selected images are the initial ones, in words; "" where distillation changed them."""
    import torch

    if not torch.equal(result.distilled.images, result.initial.images):
        return ""
    kinds = {"real": "real images", "average": "averages of real images", "noise": "noise"}
    initial = kinds[study.profile.distill.initial_images]
    if study.source == "phantom":
        initial = initial.replace("real images", "images of the phantom")
    told = f"the selected images are unchanged {initial} (iteration {result.selected_iteration})"
    by_validation = study.profile.distill.selection == "validation" and len(result.candidates) > 1
    return f"{told}: no later candidate was better on validation" if by_validation else told


def _distil_longer(
    command: str, profile: str, data: str, out: str, changes: tuple[str, ...], iterations: int
) -> str:
    line = f"next: distil longer: {longer(command, profile, data, out, changes, iterations)}"
    if data == "phantom":
        return line
    init = shlex.join(["medddist", "init", data, "--minutes", "120", "--write", "longer.yaml"])
    return f"{line}; or with more time for teachers too: {init}"


def longer(
    command: str, profile: str, data: str, out: str, changes: tuple[str, ...], iterations: int
) -> str:
    """The same command with four times the iterations, and 400, demo's largest by `init`, at least."""
    kept = [change for change in changes if not change.startswith("distill.iterations=")]
    words = ["medddist", command, "--profile", profile, "--data", data, "--out", out]
    for change in (*kept, f"distill.iterations={max(4 * iterations, 400)}"):
        words += ["--set", change]
    return shlex.join(words)


@click.command()
@study_options(profile="demo")
def evaluate(profile, data, out, device, changes, as_json) -> None:
    """Score the distilled images and their references on the test part."""
    from medddist.study.results import summary, summary_line

    require_one_process("evaluate")
    with opened_study(profile, data, out, device, changes, "evaluate") as study:
        rows = study.table()
        told = [_unchanged(study, study.distillation(seed)) for seed in study.profile.seeds]
    lines = [
        *table_lines(rows),
        summary_line(study.profile.name, summary(rows, study.profile.distill.selection_metric)),
    ]
    several = len(told) > 1
    lines += [
        f"seed {seed}: {line}" if several else line
        for seed, line in zip(study.profile.seeds, told)
        if line
    ]
    if told[0]:  # the set that `package` would send
        lines.append(
            _distil_longer(
                "evaluate", profile, data, out, changes, study.profile.distill.iterations
            )
        )
    else:
        same = ["--profile", profile, "--data", data, "--artifacts", out]
        same += [word for change in changes for word in ("--set", change)]
        lines.append(f"next: {shlex.join(['medddist', 'package', *same, '--out', 'set.zip'])}")
    tell(rows, as_json, lines)


@click.command()
@study_options(profile="demo")
@click.option(
    "--save",
    metavar="FOLDER",
    help=(
        "Also write the rows, with settings, versions and machine, to "
        "FOLDER/compare-PROFILE-DATA.json."
    ),
)
def compare(profile, data, out, device, changes, as_json, save) -> None:
    """Compare the distilled images with other ways to learn from few labels.

    Rows of two tables (only released images may be used; all may be seen, unlabelled), of networks
    that never saw the distillation, and of linear probes on features learned without labels. --save
    adds what origins give away.
    """
    from medddist.comparison.origins import of_origins
    from medddist.comparison.probes import probe_rows
    from medddist.comparison.tables import Comparison, verdict_lines
    from medddist.study.results import compare_record
    from medddist.study.workers import workers_for

    require_one_process("compare")
    with opened_study(profile, data, out, device, changes, "compare") as study:
        comparison = Comparison(study)
        workers = workers_for(study)
        rows = comparison.rows(workers=workers) + probe_rows(comparison, workers)
        written = (
            [f"written to {compare_record(study, rows, of_origins(comparison), device, save)}"]
            if save
            else []
        )
    tell(rows, as_json, [*_comparison_lines(rows), *verdict_lines(rows), *written])


def _comparison_lines(rows: list[dict]) -> list[str]:
    lines, before = [], None
    for row in rows:
        if row["table"] != before:
            lines += ["", row["table"]] if lines else [row["table"]]
        before = row["table"]
        lines.append(f"  {row['label']:42}{row['network']:18}" + _comparison_cells(row))
    return lines


def _comparison_cells(row: dict) -> str:
    if row["status"] != "measured":
        return f"unavailable: {row['reason']}"
    cells = (
        f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]"
        for m in ("accuracy", "balanced_accuracy")
    )
    told = f"{row['bytes_released']:>12,} bytes" if "bytes_released" in row else ""
    for what in ("distilled_lead", "lead_over_random"):
        if what in row:
            lead = row[what]["balanced_accuracy"]
            told += (
                f"  {what.replace('_', ' ')} {lead['difference']:+.3f} [{lead['low']:+.3f}, "
                f"{lead['high']:+.3f}] {lead.get('verdict', '')}"
            )
    return "".join(f"{cell:>24}" for cell in cells) + told


@click.command()
@study_options(profile="demo")
@click.option(
    "--seed",
    type=int,
    help="Which of the study's sets; by default that of the profile's first seed.",
)
@click.option(
    "--save",
    metavar="FOLDER",
    help=(
        "Also write it, with settings, versions and machine, to "
        "FOLDER/audit-PROFILE-DATA-RATE.json."
    ),
)
def audit(profile, data, out, device, changes, as_json, seed, save) -> int:
    """Measure what the distilled set gives away: nearest neighbours, and membership with both
    controls.

    The profile `lira` is the long one: 32 shadow distillations, and one false positive in a
    thousand.
    Exit code 1 where a control fails: the attack is then uninformative, and its figures
        show nothing.
    """
    from medddist.leaks.audit import audit as audited
    from medddist.leaks.audit import broken
    from medddist.study.results import audit_record

    require_one_process("audit")
    seeds = () if seed is None else (f"seeds=[{seed}]",)
    with opened_study(profile, data, out, device, changes + seeds, "audit") as study:
        result = audited(study)
    reasons = broken(result)
    saved = [f"written to {audit_record(study, result, reasons, device, save)}"] if save else []
    tell(result, as_json, [*_audit_lines(result), *saved])
    return say("; ".join(reasons), 1, debug=False) if reasons else 0


def _audit_lines(result: dict) -> list[str]:
    lines = []
    for space, told in result["neighbours"].items():
        nearer = told["training_is_nearer"]
        line = (
            f"nearest in {space}: training {told['to_training']:.3f}, unseen "
            f"{told['to_unseen']:.3f} (training is nearer for {_share(nearer)})"
        )
        if "start_is_nearest" in told:
            line += (
                f"; start {told['to_start']:.3f}, the nearest of all for "
                f"{_share(told['start_is_nearest'])}"
            )
        lines.append(line)
    for attack, of in result["membership"].items():
        rows = {
            "positive control": of["positive_control"]["control"],
            "negative control": of["released"]["unseen"],
        }
        rows |= {
            f"{name} images": of["released"][name]
            for name in ("starting", "others")
            if name in of["released"]
        }
        lines += [
            f"{attack} attack, {name}: found {_share(row['true_positives'])}, by chance "
            f"{row['by_chance'][0]} to {row['by_chance'][1]};"
            f" AUC {row['auc']['auc']:.3f} [{row['auc']['low']:.3f}, {row['auc']['high']:.3f}]"
            for name, row in rows.items()
        ]
    return lines


def _share(told: dict) -> str:
    return f"{told['count']} of {told['of']} [{told['low']:.3f}, {told['high']:.3f}]"


@click.command()
@study_options(profile="demo")
@click.option(
    "--save",
    metavar="FOLDER",
    help=(
        "Also write the rows, with settings, versions and machine, to "
        "FOLDER/leakage-PROFILE-DATA.json."
    ),
)
def leakage(profile, data, out, device, changes, as_json, save) -> None:
    """Measure accuracy against leakage: starts from real images, averages and noise, and DP-SGD,
    with few and many images.

    Each point is a study of its own, kept and gone on with; which there are, and how small they
    are, is in the profile's `leakage`.
    """
    from medddist.leaks.leakage import leakage as measured
    from medddist.leaks.leakage import lines
    from medddist.study.results import leakage_record

    require_one_process("leakage")
    with opened_study(profile, data, out, device, changes) as study:
        rows = measured(study)
        written = [f"written to {leakage_record(study, rows, device, save)}"] if save else []
    tell(rows, as_json, [*lines(rows), *written])
