"""To start with: look at images, begin a study of them, say what is there and how long it takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from medddist.base.errors import InputError
from medddist.base.progress import Bar
from medddist.cli.common import (
    DEBUG,
    JSON,
    opened_study,
    require_one_process,
    study_options,
    tell,
    tell_of_a_phantom_here,
    written_by,
)


@click.command()
@click.argument("folder")
@click.option(
    "--write",
    metavar="FILE",
    help="The profile to write; by default FOLDER's name with .yaml, here.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="How long teachers, distill and evaluate may take together.",
)
@click.option(
    "--report", metavar="FILE", help="Also write what was found as an HTML page with pictures."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@JSON
@DEBUG
def init(folder, write, minutes, report, device, as_json) -> None:
    """Look at FOLDER, say what is in it, and write a profile that fits its images and this machine.

    FOLDER is whatever --data takes elsewhere. Says classes, counts, sizes, copies, files that
    cannot be read, and what but a disease may give the class away; and how long a run will take.
    Trains nothing.
    """
    from medddist.base.compute import device_named
    from medddist.base.machine import told_bytes, told_time
    from medddist.init.first_profile import fitting_profile, name_of, write_profile
    from medddist.init.report import write_report
    from medddist.init.survey import survey_lines, surveyed

    tell_of_a_phantom_here(folder)
    progress, name = Bar(), name_of(folder)
    path = Path(write or f"{name}.yaml")
    if path.exists():
        raise InputError(path, "already exists", "remove it, or name another file with --write")
    try:
        found = surveyed(folder, progress)
    finally:
        progress.close()
    made, about = fitting_profile(found, name, device_named(device), minutes)
    with written_by("--write", str(path)):
        write_profile(made, path, found.source, about)
    takes = (
        f"a run takes about {told_time(about['seconds'])} and "
        f"{told_bytes(about['memory_bytes'])} of memory here"
    )
    lines = [
        *survey_lines(found),
        *about["chosen"],
        f"written to {path}: {takes}",
        f"next: medddist evaluate --profile {shlex.quote(str(path))} --data {shlex.quote(folder)}",
    ]
    if report:
        with written_by("--report", report):
            write_report(found, Path(report), [takes])
        lines.append(f"the page with pictures: {report}")
    tell({"found": found.as_json(), "profile": str(path), **about}, as_json, lines)


@click.command()
@study_options(profile="demo")
@click.option(
    "--report",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help=(
        "Also look at the files as `init` does, and write a page with pictures; by default "
        "below --out."
    ),
)
def prepare(profile, data, out, device, changes, as_json, report) -> None:
    """Read the data, split it, and say what is there."""
    with opened_study(profile, data, out, device, changes) as study:
        counts = {
            name: part.class_counts(study.data.classes).tolist()
            for name, part in study.data.parts().items()
        }
    result = {
        "source": study.data.source,
        "fingerprint": study.data.fingerprint,
        "image_size_px": study.data.image_size_px,
        "channels": study.data.channels,
        "class_names": list(study.data.class_names),
        "counts": counts,
        "notes": list(study.data.notes),
    }
    lines = [
        f"{study.data.source}: {study.data.image_size_px} px, fingerprint {study.data.fingerprint}"
    ]
    lines += [
        f"{name}: {sum(row)} images, "
        + ", ".join(f"{c} {n}" for c, n in zip(study.data.class_names, row))
        for name, row in counts.items()
    ]
    lines += [f"note: {note}" for note in study.data.notes]
    if report is not None:
        result["report"] = _reported(data, report or f"{out}/report/{study.data.source}.html")
        lines.append(f"the page with pictures: {result['report']}")
    tell(result, as_json, lines)


def _reported(data: str, path: str) -> str:
    from medddist.init.report import write_report
    from medddist.init.survey import surveyed

    progress = Bar()
    try:
        with written_by("--report", path):
            write_report(surveyed(data, progress), Path(path))
    finally:
        progress.close()
    return path


@click.command()
@study_options(profile="demo")
def estimate(profile, data, out, device, changes, as_json) -> None:
    """Estimate time, memory and disk of each step, from a few steps measured on this machine.

    Cached results count nothing. Commands say the same in one line before they start.
    """
    import torch

    from medddist.base import machine
    from medddist.base.machine import told_bytes, told_time
    from medddist.estimates import estimates, range_seconds, total

    require_one_process("estimate")
    with opened_study(profile, data, out, device, changes) as study:
        found = estimates(study)
    whole = total(found)
    steps, everything = [each._asdict() for each in found], whole._asdict()
    everything["range_seconds"] = low, high = range_seconds(whole)
    here = {
        "device": str(study.device),
        "threads": torch.get_num_threads(),
        "free_memory_bytes": machine.free_memory_bytes(study.device),
        "free_disk_bytes": machine.free_disk_bytes(study.out),
    }
    lines = [f"{'step':10}{'time':>10}{'memory':>10}{'disk':>10}"]
    for each in (*found, whole):
        cells = told_time(each.seconds), told_bytes(each.memory_bytes), told_bytes(each.disk_bytes)
        row = "".join(f"{cell:>10}" for cell in cells) if each.seconds else f"{'cached':>10}"
        lines.append(f"{each.step:10}{row}")
    lines += [
        f"in all {told_time(low)} to {told_time(high)},"
        f" measured on {study.device} with {here['threads']} threads",
        f"free: {told_bytes(here['free_memory_bytes'])} of memory,"
        f" {told_bytes(here['free_disk_bytes'])} of disk",
    ]
    tell({"steps": steps, "total": everything, "machine": here}, as_json, lines)
