"""What commands share: options, a study with progress, and what is said in which way."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medddist.base import processes
from medddist.base.errors import InputError, NotWritable
from medddist.base.progress import Bar

if TYPE_CHECKING:
    from medddist.study.study import Study

JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print the result alone, as JSON, on standard output."
)
DEBUG = click.option(
    "--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False
)


def study_options(profile: str, artifacts: str = "--out") -> Callable[[Callable], Callable]:
    """What every step of a study takes; `artifacts` is what the folder of its results is called."""
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
            help=(
                "phantom (built in; a folder of that name is ./phantom), an .npz in "
                "MedMNIST's layout, the radiography database's folder, or a folder of class "
                "folders."
            ),
        ),
        click.option(
            artifacts,
            default="build/artifacts",
            show_default=True,
            help="Folder where results are kept and found again.",
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


@contextlib.contextmanager
def opened_study(
    profile: str,
    data: str,
    out: str,
    device: str,
    changes: tuple[str, ...],
    about_to: str | None = None,
) -> Iterator[Study]:
    """A study with progress on standard error, its bar closed whatever happens; what it is
    `about_to` do is told before.
    """
    from medddist.base.compute import keep_freed_memory  # not above: --help need not wait for torch
    from medddist.method.private.dp_sgd import LOCAL
    from medddist.study.profile import changes_from, load_profile
    from medddist.study.study import Study

    tell_of_a_phantom_here(data)
    progress = Bar()
    keep_freed_memory()
    try:
        option = "--artifacts" if "artifacts" in click.get_current_context().params else "--out"
        with kept_under(out), written_by(option, out):
            study = Study(load_profile(profile, changes_from(changes)), data, out, device, progress)
            if study.profile.teachers.privacy and not processes.rank():
                print(f"medddist: {LOCAL}", file=sys.stderr)
            if about_to and not processes.rank():
                announce(study, about_to)
            yield study
    finally:
        progress.close()


def tell_of_a_phantom_here(data: str) -> None:
    """A line on standard error where `phantom`, which is built in, is also the name of a file or
    folder here.
    """
    from medddist.data import phantom_notice

    notice = phantom_notice(data)
    if notice and not processes.rank():
        print(f"medddist: {notice}", file=sys.stderr)


@contextlib.contextmanager
def kept_under(out: str) -> Iterator[None]:
    """Say, when Ctrl-C stops a study, what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"finished steps and the last checkpoint are kept under {out}"
        raise KeyboardInterrupt(f"{kept}; run the same command again to continue") from None


@contextlib.contextmanager
def written_by(option: str, place: str) -> Iterator[None]:
    """Name the option that gave a place, where it cannot be written to."""
    try:
        yield
    except NotWritable as refused:
        if Path(place) not in (refused.path, *refused.path.parents):
            raise
        raise NotWritable(refused.path, refused.problem, option) from refused


def announce(study: Study, command: str) -> None:
    """Say on standard error, in one line, what time, memory and disk a command will take."""
    from medddist.estimates import announcement  # not above: --help need not wait for torch

    line = announcement(study, command)
    if line:
        print(f"medddist: {command}: {line}", file=sys.stderr)


def require_one_process(step: str) -> None:
    if processes.count() > 1:
        raise InputError(
            step,
            "deals nothing out to several processes",
            "run `teachers` and `distill` under torchrun, then this without",
        )


def tell(result: Any, as_json: bool, lines: list[str]) -> None:
    if processes.rank():
        return  # the first process speaks
    print(
        json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        if as_json
        else "\n".join(lines)
    )


def table_lines(rows: list[dict]) -> list[str]:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    lines = [f"{'':40}" + "".join(f"{name:>24}" for name in shown)]
    for row in rows:
        cells = (f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in shown)
        lines.append(f"{row['label']:40}" + "".join(f"{cell:>24}" for cell in cells))
    return lines


def say(message: str, code: int, debug: bool, kind: str = "error: ") -> int:
    if debug:
        traceback.print_exc()
    print(f"medddist: {kind}" + " ".join(message.split()), file=sys.stderr)
    return code
