"""The steps of a study, each with a cached result, and the reference results."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from medddist.base.progress import Bar
from medddist.cli import commands
from medddist.cli.commands import SEED, command, same_study, save_option, step, study_options
from medddist.cli.output import Output, audit_lines, comparison_lines, score_lines
from medddist.cli.program import program

if TYPE_CHECKING:
    from medddist.study.study import Study

WHERE = "Where to write the reference results."
FOLDER = click.option("--folder", default="results", help=WHERE)


@step(torchrun=True)
def teachers(study) -> Output:
    """Train networks on the real images and keep their trajectories.

    Under torchrun, each process trains its share, and the first lists its own.
    """
    trained = [(k, teacher) for k in study.profile.seeds for teacher in study.train_teachers(k)]
    result, lines = [], []
    for seed, teacher in trained:
        row = {"file": str(teacher.path), "seed": seed, "snapshots": teacher.snapshots}
        row |= {"parameters": teacher.parameter_count, "validation": teacher.about["validation"]}
        score = f"validation balanced accuracy {row['validation'][-1]['balanced_accuracy']:.3f}"
        lines.append(f"{teacher.path}: {teacher.snapshots} snapshots, {score}")
        result.append(row)
    return Output(result, lines)


@step(torchrun=True)
def distill(study) -> Output:
    """Distil the training images into a few synthetic ones.

    Trains the teachers first where they are missing. Under torchrun, processes share the segments.
    """
    result, lines = [], []
    unchanged = {seed: _unchanged(study, seed) for seed in study.profile.seeds}
    for seed in study.profile.seeds:
        distillation, path = study.distillation(seed), study.distillation_path(seed)
        images, iteration = len(distillation.distilled.images), distillation.selected_iteration
        step_size = distillation.distilled.step_size.item()
        row = {"file": str(path), "seed": seed, "images": images, "step_size": step_size}
        row |= {"selected_iteration": iteration, "unchanged": bool(unchanged[seed])}
        result.append(row | {"candidates": list(distillation.candidates)})
        released = unchanged[seed] or f"released as of iteration {iteration}"
        lines.append(f"{path}: {images} images, step size {step_size:.4g}; {released}")
    if any(unchanged.values()):
        lines.append(_distil_longer("distill", study))
    return Output(result, lines)


def _unchanged(study: Study, seed: int) -> str:
    """Say that the selected images are the initial ones; "" where distillation changed them."""
    import torch  # not above: --help need not wait for it

    distillation, settings = study.distillation(seed), study.profile.distill
    if not torch.equal(distillation.distilled.images, distillation.initial.images):
        return ""
    real = "images of the phantom" if study.source == "phantom" else "real images"
    kinds = {"average": f"averages of {real}", "noise": "noise"}
    initial, iteration = kinds.get(settings.initial_images, real), distillation.selected_iteration
    text = f"the selected images are unchanged {initial} (iteration {iteration})"
    if settings.selection == "validation" and len(distillation.candidates) > 1:
        text += ": no later candidate was better on validation"
    return text


def _distil_longer(name: str, study: Study) -> str:
    given = click.get_current_context().params
    line = f"next: distil longer: {longer(name, given, study.profile.distill.iterations)}"
    if given["data"] == "phantom":
        return line
    fit = [*program(), "init", given["data"], "--minutes", "120", "--write", "longer.yaml"]
    return f"{line}; or with more time for teachers too: {shlex.join(fit)}"


def longer(name: str, given: Mapping[str, Any], iterations: int) -> str:
    """Return the same command with four times the iterations, and at least 400."""
    kept = [change for change in given["changes"] if not change.startswith("distill.iterations=")]
    changes = (*kept, f"distill.iterations={max(4 * iterations, 400)}")
    return same_study({**given, "changes": changes}, name)


@step()
def evaluate(study) -> Output:
    """Score the distilled images and random real ones on the test part."""
    from medddist.study.results import summary, summary_line

    rows, seeds, profile = study.table(), study.profile.seeds, study.profile
    unchanged = {seed: _unchanged(study, seed) for seed in seeds}
    told = summary_line(profile.name, summary(rows, profile.distill.selection_metric))
    lines = [*score_lines(rows), told]
    for seed, text in unchanged.items():
        if text:
            lines.append(f"seed {seed}: {text}" if len(seeds) > 1 else text)
    if unchanged[seeds[0]]:  # the set that `package` would send
        lines.append(_distil_longer("evaluate", study))
    else:
        given, target = click.get_current_context().params, ("--out", "set.zip")
        lines.append(f"next: {same_study(given, 'package', *target, artifacts='--artifacts')}")
    return Output(rows, lines)


@step(save_option("compare-PROFILE-DATA"))
def compare(study, save) -> Output:
    """Compare distilled images with other ways to learn from few labels.

    Two tables: only released images may be used; all may be seen, unlabelled. Then networks that
    never saw the distillation, and linear probes on features learned without labels. --save adds
    what sites give away.
    """
    from medddist.comparison.origins import of_origins
    from medddist.comparison.probes import probe_rows
    from medddist.comparison.tables import comparison_rows, verdict_lines
    from medddist.study.workers import workers_for

    workers = workers_for(study)
    rows = comparison_rows(study, workers=workers) + probe_rows(study, workers)
    lines = [*comparison_lines(rows), *verdict_lines(rows)]
    if save:
        lines.append(_record(study, "compare", save, rows=rows, origins=of_origins(study)))
    return Output(rows, lines)


@step(SEED, save_option("audit-PROFILE-DATA-RATE"))
def audit(study, save) -> Output:
    """Measure what distilled images give away: neighbours and membership.

    Positive and negative controls show whether an attack can be believed. Exit code 1 where one
    does not behave as expected: then the attack is too weak to be informative. The profile `lira`
    is the long one: 32 shadow distillations, one false positive per thousand.
    """
    from medddist.leaks.audit import audit as audited
    from medddist.leaks.audit import broken

    result = audited(study)
    reasons, lines = broken(result), audit_lines(result)
    if save:
        rate = f"-{result['settings']['false_positives']:g}"
        lines.append(_record(study, "audit", save, rate, audit=result, broken=reasons))
    return Output(result, lines, "; ".join(reasons))


@step(save_option("leakage-PROFILE-DATA"), announced=False)
def leakage(study, save) -> Output:
    """Measure accuracy and leakage by initial images and DP-SGD.

    Initial images are real ones, averages or noise; DP-SGD comes with few and many images. Each
    point is a study of its own, cached and resumable. The profile's `leakage` lists the points and
    their sizes.
    """
    from medddist.leaks.leakage import leakage as measured
    from medddist.leaks.leakage import lines as leakage_lines

    rows = measured(study)
    lines = leakage_lines(rows)
    if save:
        lines.append(_record(study, "leakage", save, rows=rows))
    return Output(rows, lines)


STEPS = (teachers, distill, evaluate, compare, audit, leakage)


def _record(study: Study, step: str, folder: str, suffix: str = "", **measured: Any) -> str:
    from medddist.study.results import write_record  # torch, not above: see `commands`

    device = click.get_current_context().params["device"]
    path = write_record(step, study, device, folder, suffix, **measured)
    return f"written to {path}"


@command(*study_options(profile="real"), FOLDER)
def results(profile, data, artifacts, device, changes, folder) -> Output:
    """Measure all variants of a profile; write the reference results.

    The JSON file also holds settings, versions, machine and commit.
    """
    from medddist.study.profile import changes_from
    from medddist.study.results import measure, summary_lines

    commands.require_one_process("results")
    changed = changes_from(changes)
    with Bar() as progress:
        record, path = measure(profile, changed, data, artifacts, device, folder, progress)
    return Output(record, [*summary_lines(record), f"written to {path}"])
