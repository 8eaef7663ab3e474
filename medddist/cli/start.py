"""Start: look at images, read data, estimate what steps take."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from medddist.base.progress import Bar
from medddist.cli.commands import DEVICE, command, step
from medddist.cli.output import Output, data_lines, estimate_lines, note
from medddist.cli.program import program

WRITE_HELP = "The profile to write; by default FOLDER's name.yaml, here."
MINUTES_HELP = "How long teachers, distillation and evaluation may take together."


@command(
    click.argument("data", metavar="FOLDER"),
    click.option("--write", metavar="FILE", help=WRITE_HELP),
    click.option("--minutes", type=click.FloatRange(min=1), default=60, help=MINUTES_HELP),
    click.option("--report", metavar="FILE", help="Also write an HTML page with pictures."),
    DEVICE,
)
def init(data, write, minutes, report, device) -> Output:
    """Look at images and write a profile that fits them.

    FOLDER is whatever --data takes elsewhere. Reports classes, images per class, sizes, copies,
    unreadable files, whether anything other than the disease predicts the class (shortcuts), and
    how long a run will take. The profile fits the images and this machine. Trains nothing.
    """
    from medddist.base.compute import device_named
    from medddist.base.files import require_place
    from medddist.base.machine import told_bytes
    from medddist.estimates import Estimate, told
    from medddist.init.first_profile import fitting_profile, name_of, refuse_existing, write_profile
    from medddist.init.report import write_report
    from medddist.init.survey import survey_lines, surveyed

    name = name_of(data)
    path = Path(write or f"{name}.yaml")
    click.get_current_context().params["write"] = str(path)  # to be named if it is not writable
    refuse_existing(path)
    with Bar() as progress:
        survey = surveyed(data, progress)
    require_place(path)
    note("init: measuring a few steps on this machine, about a minute")
    profile, about = fitting_profile(survey, name, device_named(device), minutes)
    write_profile(profile, path, survey.source, about)
    time = told(Estimate("evaluate", about["seconds"], about["memory_bytes"], 0))
    memory = told_bytes(about["memory_bytes"])
    takes = f"up to evaluate, a run takes {time}, and {memory} of memory here"
    following = shlex.join([*program(), "evaluate", "--profile", str(path), "--data", data])
    lines = [*survey_lines(survey), *about["chosen"], f"written to {path}: {takes}"]
    lines.append(f"next: {following}")
    if report:
        write_report(survey, Path(report), [takes])
        lines.append(f"report with pictures: {report}")
    return Output({"found": survey.as_json(), "profile": str(path), **about}, lines)


@step(announced=False, torchrun=True)
def prepare(study) -> Output:
    """Read the data, split it into parts, and describe it."""
    data = study.data
    counts = {k: part.class_counts(data.classes).tolist() for k, part in data.parts().items()}
    result = {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "image_size_px": data.image_size_px,
        "channels": data.channels,
        "class_names": list(data.class_names),
        "counts": counts,
        "notes": list(data.notes),
    }
    return Output(result, data_lines(result))


@step(announced=False)
def estimate(study) -> Output:
    """Estimate time, memory and disk of each step.

    Measures a few steps on this machine. What is cached costs nothing. `init` and every command
    estimate in the same way, and say it in one line. Times are expected within a factor of two.
    """
    import torch

    from medddist.base import machine
    from medddist.estimates import estimates, range_seconds, total

    each_step = estimates(study)
    evaluation, whole = total(each_step[:-1]), total(each_step)
    spread = lambda left: left._asdict() | {"range_seconds": range_seconds(left)}
    here = {
        "device": str(study.device),
        "threads": torch.get_num_threads(),
        "free_memory_bytes": machine.free_memory_bytes(study.device),
        "free_disk_bytes": machine.free_disk_bytes(study.out),
    }
    result = {
        "steps": [estimate._asdict() for estimate in each_step],
        "evaluation": spread(evaluation),
        "total": spread(whole),
        "machine": here,
    }
    return Output(result, estimate_lines(result))
