"""Figures of record: what a profile gives, and how fast and lean the engine is."""

from __future__ import annotations

import click

from medddist.base.errors import InputError
from medddist.base.progress import Bar
from medddist.cli.common import (
    DEBUG,
    JSON,
    announce,
    kept_under,
    opened_study,
    require_one_process,
    study_options,
    tell,
    tell_of_a_phantom_here,
    written_by,
)


@click.command()
@study_options(profile="real")
@click.option(
    "--folder",
    default="results",
    show_default=True,
    help="Where the figures of record are written.",
)
def results(profile, data, out, device, changes, as_json, folder) -> None:
    """Measure the figures of record: every variant of the profile, with settings, versions, machine and commit, as JSON."""
    from medddist.study.profile import changes_from
    from medddist.study.results import measure, summary_lines

    require_one_process("results")
    tell_of_a_phantom_here(data)
    progress = Bar()
    try:
        with kept_under(out), written_by("--out", out), written_by("--folder", folder):
            record, path = measure(
                profile, changes_from(changes), data, out, device, folder, progress
            )
    finally:
        progress.close()
    tell(record, as_json, [*summary_lines(record), f"written to {path}"])


@click.command()
@study_options(profile="demo")
@click.option(
    "--way",
    type=click.Choice(["difference", "bfloat16", "tesla"]),
    default="difference",
    show_default=True,
    help="To the matching gradient.",
)
@click.option(
    "--save",
    metavar="FOLDER",
    help="Also write them, with settings, versions and machine, to FOLDER/gradients-PROFILE-DATA.json.",
)
def gradients(profile, data, out, device, changes, as_json, way, save) -> None:
    """Measure what whole distillations by a fast gradient are worth beside exact ones, from the same teachers."""
    from medddist.gradients import by_gradient, lines, worth
    from medddist.study.results import gradients_record

    require_one_process("gradients")
    with opened_study(profile, data, out, device, changes) as study:
        for kind in ("exact", way):
            announce(by_gradient(study, kind), "distill")
        rows = worth(study, way)
    saved = [f"written to {gradients_record(study, rows, device, save)}"] if save else []
    tell(rows, as_json, [*lines(rows), *saved])


@click.command()
@click.argument("what", type=click.Choice(["gradient", "ways", "teachers", "scaling", "paper"]))
@click.option("--pairs", type=click.IntRange(1), help="Measurements of each kind, taken in turn.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--save",
    metavar="FOLDER",
    help="Also write them, with versions and machine, to FOLDER/bench-WHAT.json (on a GPU: bench-WHAT-cuda.json).",
)
@JSON
@DEBUG
def bench(what, pairs, device, save, as_json) -> None:
    """Measure speed and memory, each as a ratio to a reference in the same run.

    gradient: the sweep against the unrolled graph. ways: every way to the gradient. teachers: against plain PyTorch.
    scaling: how cost grows. paper: one iteration of the paper's shape.
    """
    import torch

    from medddist import benchmarks
    from medddist.base.compute import device_named
    from medddist.base.files import write_json
    from medddist.base.version import about

    if what == "paper" and pairs:
        raise InputError(
            "pairs", "bench paper is one iteration without a reference", "leave --pairs out"
        )
    where, progress = device_named(device), Bar()
    if where.type == "cuda":
        torch.cuda.set_device(where)  # whose end is waited for
    try:
        rows = benchmarks.BENCHMARKS[what](
            **({"pairs": pairs} if pairs else {}), progress=progress, device=where
        )
    finally:
        progress.close()
    if save:
        name = f"bench-{what}" if where.type == "cpu" else f"bench-{what}-{where.type}"
        write_json(f"{save}/{name}.json", {"rows": rows, "about": about(str(where))})
    tell(rows, as_json, [_bench_line(row) for row in rows])


def _bench_line(row: dict) -> str:
    setting = ", ".join(
        f"{name} {value}" for name, value in row["setting"].items() if value is not None
    )
    told = f"{row['what']}: {row['ours']:.3g}"
    if row["reference"] is not None:
        told += f", reference {row['reference']:.3g}, ratio {row['ratio']:.2f}"
    if "pairs" in row:
        told += f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{told} ({setting})"
