"""The command `medddist`: the study's steps, one after another or each alone."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from medddist import processes
from medddist.errors import InputError
from medddist.profile import changes_from, load_profile
from medddist.progress import Progress

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result alone, as JSON, on standard output.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False)


def study_options(profile: str):
    """What every step of a study takes."""
    options = [
        click.option(
            "--profile",
            default=profile,
            show_default=True,
            help="smoke, demo, real, paper, or the path of a .yaml file.",
        ),
        click.option(
            "--data",
            default="phantom",
            show_default=True,
            help="phantom, an .npz in MedMNIST's layout, the radiography database's folder, or a folder of class folders.",
        ),
        click.option(
            "--out", default="build/artifacts", show_default=True, help="Folder where results are kept and found again."
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="NAME=VALUE",
            help="Change a setting, as in distill.iterations=100; may be repeated.",
        ),
        JSON,
        DEBUG,
    ]

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="medddist")
def app() -> None:
    """Dataset distillation for sharing medical images.

    Distil a data set into a few synthetic images, and measure what they are worth. Each command computes what it needs,
    keeps it under --out, and reads it when asked again; a command that was stopped goes on.
    """


@contextlib.contextmanager
def _opened_study(profile: str, data: str, out: str, device: str, changes: tuple[str, ...]):
    """A study with progress on standard error, its bar closed whatever happens."""
    from medddist.study import Study  # not above: --help need not wait for torch

    progress = Progress()
    try:
        yield Study(load_profile(profile, changes_from(changes)), data, out, device, progress)
    finally:
        progress.close()


def _alone(step: str) -> None:
    if processes.count() > 1:
        raise InputError(f"{step}: deals nothing out to several processes; run `teachers` and `distill` under torchrun, then this without")


def _tell(result: Any, as_json: bool, lines: list[str]) -> None:
    if processes.rank():
        return  # the first process speaks
    print(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines))


@app.command()
@study_options(profile="demo")
def prepare(profile, data, out, device, changes, as_json) -> None:
    """Read the data, split it, and say what is there."""
    with _opened_study(profile, data, out, device, changes) as study:
        counts = {name: part.class_counts(study.data.classes).tolist() for name, part in study.data.parts().items()}
    result = {
        "source": study.data.source,
        "fingerprint": study.data.fingerprint,
        "image_size_px": study.data.image_size_px,
        "channels": study.data.channels,
        "class_names": list(study.data.class_names),
        "counts": counts,
        "notes": list(study.data.notes),
    }
    lines = [f"{study.data.source}: {study.data.image_size_px} px, fingerprint {study.data.fingerprint}"]
    lines += [
        f"{name}: {sum(row)} images, " + ", ".join(f"{c} {n}" for c, n in zip(study.data.class_names, row))
        for name, row in counts.items()
    ]
    _tell(result, as_json, lines + [f"note: {note}" for note in study.data.notes])


@app.command()
@study_options(profile="demo")
def teachers(profile, data, out, device, changes, as_json) -> None:
    """Train the teachers and keep their trajectories; under torchrun, each process trains, and the first tells, its share."""
    with _opened_study(profile, data, out, device, changes) as study:
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
        f"{row['file']}: {row['snapshots']} snapshots, validation balanced accuracy {row['validation'][-1]['balanced_accuracy']:.3f}"
        for row in result
    ]
    _tell(result, as_json, lines)


@app.command()
@study_options(profile="demo")
def distill(profile, data, out, device, changes, as_json) -> None:
    """Distil the training images, with teachers where there are none yet; under torchrun, segments are dealt out."""
    with _opened_study(profile, data, out, device, changes) as study:
        found = [(seed, study.distillation(seed), study.distillation_path(seed)) for seed in study.profile.seeds]
    result = [
        {
            "file": str(path),
            "seed": seed,
            "images": len(one.distilled.images),
            "step_size": one.distilled.step_size.item(),
            "selected_iteration": one.selected_iteration,
            "candidates": list(one.candidates),
        }
        for seed, one, path in found
    ]
    lines = [
        f"{row['file']}: {row['images']} images, step size {row['step_size']:.4g}, selected on validation at iteration {row['selected_iteration']}"
        for row in result
    ]
    _tell(result, as_json, lines)


@app.command()
@study_options(profile="demo")
def evaluate(profile, data, out, device, changes, as_json) -> None:
    """Score the distilled images and their references on the test part."""
    _alone("evaluate")
    with _opened_study(profile, data, out, device, changes) as study:
        rows = study.table()
    _tell(rows, as_json, _table_lines(rows))


def _table_lines(rows: list[dict]) -> list[str]:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    lines = [f"{'':40}" + "".join(f"{name:>24}" for name in shown)]
    for row in rows:
        cells = (f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in shown)
        lines.append(f"{row['label']:40}" + "".join(f"{cell:>24}" for cell in cells))
    return lines


@app.command()
@study_options(profile="demo")
@click.option("--save", metavar="FOLDER", help="Also write the rows, with settings, versions and machine, to FOLDER/compare-PROFILE-DATA.json.")
def compare(profile, data, out, device, changes, as_json, save) -> None:
    """Compare the distilled images with other ways to learn from few labels.

    Rows of two tables (only released images may be used; all may be seen, unlabelled), of networks that never saw the
    distillation, and of linear probes on features learned without labels. --save adds what origins give away.
    """
    from medddist.compare import Comparison, verdict_lines
    from medddist.origins import of_origins
    from medddist.probes import probe_rows
    from medddist.results import compare_record

    _alone("compare")
    with _opened_study(profile, data, out, device, changes) as study:
        comparison = Comparison(study)
        rows = comparison.rows() + probe_rows(comparison)
        written = [f"written to {compare_record(study, rows, of_origins(comparison), device, save)}"] if save else []
    _tell(rows, as_json, [*_comparison_lines(rows), *verdict_lines(rows), *written])


def _comparison_lines(rows: list[dict]) -> list[str]:
    lines = []
    for row in rows:
        if not lines or row["table"] != before:
            lines += ["", row["table"]] if lines else [row["table"]]
        before = row["table"]
        lines.append(f"  {row['label']:42}{row['network']:18}" + _comparison_cells(row))
    return lines


def _comparison_cells(row: dict) -> str:
    if row["status"] != "measured":
        return f"unavailable: {row['reason']}"
    cells = (f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in ("accuracy", "balanced_accuracy"))
    told = f"{row['bytes_released']:>12,} bytes" if "bytes_released" in row else ""
    for what in ("distilled_lead", "lead_over_random"):
        if what in row:
            lead = row[what]["balanced_accuracy"]
            told += f"  {what.replace('_', ' ')} {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}] {lead.get('verdict', '')}"
    return "".join(f"{cell:>24}" for cell in cells) + told


@app.command()
@study_options(profile="real")
@click.option("--folder", default="results", show_default=True, help="Where the figures of record are written.")
def results(profile, data, out, device, changes, as_json, folder) -> None:
    """Measure the figures of record: every variant of the profile, with settings, versions, machine and commit, as JSON."""
    from medddist.results import measure, summary_lines

    _alone("results")
    progress = Progress()
    try:
        record, path = measure(profile, changes_from(changes), data, out, device, folder, progress)
    finally:
        progress.close()
    _tell(record, as_json, [*summary_lines(record), f"written to {path}"])


@app.command()
@click.argument("what", type=click.Choice(["gradient", "ways", "teachers", "scaling", "paper"]))
@click.option("--pairs", type=click.IntRange(1), help="Measurements of each kind, taken in turn.")
@click.option("--save", metavar="FOLDER", help="Also write them, with versions and machine, to FOLDER/bench-WHAT.json.")
@JSON
@DEBUG
def bench(what, pairs, save, as_json) -> None:
    """Measure speed and memory, each as a ratio to a reference in the same run.

    gradient: the exact sweep against the unrolled graph. ways: every way to the gradient. teachers: against plain PyTorch.
    scaling: how cost grows. paper: one iteration of the paper's shape.
    """
    from medddist import benchmarks
    from medddist.files import write_json
    from medddist.results import about

    if what == "paper" and pairs:
        raise InputError("pairs: bench paper is one iteration without a reference; leave --pairs out")
    progress = Progress()
    try:
        rows = benchmarks.BENCHMARKS[what](**({"pairs": pairs} if pairs else {}), progress=progress)
    finally:
        progress.close()
    if save:
        write_json(f"{save}/bench-{what}.json", {"rows": rows, "about": about("cpu")})
    _tell(rows, as_json, [_bench_line(row) for row in rows])


def _bench_line(row: dict) -> str:
    setting = ", ".join(f"{name} {value}" for name, value in row["setting"].items() if value is not None)
    told = f"{row['what']}: {row['ours']:.3g}"
    if row["reference"] is not None:
        told += f", reference {row['reference']:.3g}, ratio {row['ratio']:.2f}"
    if "pairs" in row:
        told += f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{told} ({setting})"


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit 0 when done, 2 for a mistake of the caller's or a refused input, 1 for anything else."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        return _run(arguments, debug)
    finally:
        processes.leave()


def _run(arguments: list[str], debug: bool) -> int:
    try:
        return app(arguments, standalone_mode=False, prog_name="medddist") or 0
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.ctx.get_help())
        return 0
    except click.ClickException as mistake:
        return _say(mistake.format_message(), 2, debug)
    except InputError as mistake:
        return _say(str(mistake), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; the same command goes on from what was kept", 1, debug)
    except Exception as fault:  # the last resort: whatever it is, the user gets one line
        return _say(f"{type(fault).__name__}: {fault}; run it again with --debug for the traceback", 1, debug)


def _say(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("medddist: error: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
