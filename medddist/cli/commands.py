"""Declare each option once, and make commands of functions that return an `Output`.

Commands import what they need when they run, so that --help need not wait for torch.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medddist.base import processes
from medddist.base.errors import InputError, NotWritable
from medddist.base.progress import Bar
from medddist.cli.output import Output, error, note, show
from medddist.cli.program import as_called, program

if TYPE_CHECKING:
    from medddist.study.study import Study

PROFILE_HELP = "smoke, demo, full, real, private, paper, or the path of a .yaml file."
DATA_HELP = (
    "phantom (built in; a folder of that name is ./phantom), a folder of class folders, the "
    "radiography database's folder, or an .npz in MedMNIST's layout."
)
JSON_HELP = "Print only the result, as JSON, on standard output."
DEBUG_HELP = "Show the traceback of an error."
SEED_HELP = "Which of the study's sets; by default the first seed's."
KEY_HELP = "The sender's public key: refuse a package without its signature."
JSON = click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
DEBUG = click.option("--debug", is_flag=True, expose_value=False, help=DEBUG_HELP)
DEVICE = click.option("--device", default="auto", help="auto, cpu or cuda.")
SEED = click.option("--seed", type=int, help=SEED_HELP)
KEY = click.option("--key", metavar="FILE", help=KEY_HELP)
EXPECT = click.option("--expect", metavar="ID", help="Refuse a package with another ID.")


class _Command(click.Command):
    """A command whose help names the program as it was called."""

    def get_help(self, context: click.Context) -> str:
        return as_called(super().get_help(context))


def settings_option(text: str) -> Callable:
    """Declare --set."""
    text = f"{text}; may be repeated."
    return click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help=text)


def save_option(name: str) -> Callable:
    """Declare --save, which writes a record called `name`."""
    text = f"Also write the result, with settings, versions and machine, to FOLDER/{name}.json."
    return click.option("--save", metavar="FOLDER", help=text)


def command(*options: Callable) -> Callable[[Callable[..., Output]], click.Command]:
    """Make a command of a function that returns an `Output`; each takes --json and --debug."""

    def decorate(function: Callable[..., Output]) -> click.Command:
        @functools.wraps(function)
        def run(as_json: bool, **given: Any) -> int:
            if "data" in given:
                from medddist.data import phantom_notice  # torch, not above: see the module

                if notice := phantom_notice(given["data"]):
                    note(notice)
            with _explained():
                output = function(**given)
            show(output, as_json)
            return error(output.failure, 1, kind="") if output.failure else 0

        for option in (DEBUG, JSON, *reversed(options)):
            run = option(run)
        return click.command(cls=_Command)(run)

    return decorate


def study_options(profile: str = "demo", artifacts: str = "--out") -> list[Callable]:
    """List the options of every step of a study.

    Args:
        profile: the default.
        artifacts: the name of the option for cached results.
    """
    folder = "Folder for cached results."
    return [
        click.option("--profile", default=profile, help=PROFILE_HELP),
        click.option("--data", default="phantom", help=DATA_HELP),
        click.option(artifacts, "artifacts", default="build/artifacts", help=folder),
        DEVICE,
        settings_option("Change a setting, as in distill.iterations=100"),
    ]


def step(
    *options: Callable, artifacts: str = "--out", announced: bool = True, torchrun: bool = False
) -> Callable[[Callable[..., Output]], click.Command]:
    """Make a command of a function of a study, which it opens.

    Args:
        options: of the command besides those of every step; the values of all but --seed are
            passed on.
        artifacts: the name of the option for cached results.
        announced: whether to say before how long it takes.
        torchrun: whether several processes may share the work.
    """

    def decorate(function: Callable[..., Output]) -> click.Command:
        @functools.wraps(function)
        def run(profile, data, artifacts, device, changes, seed=None, **given) -> Output:
            name = function.__name__
            if not torchrun:
                require_one_process(name)
            if seed is not None:
                changes = (*changes, f"seeds=[{seed}]")
            about_to = name if announced else ""
            with opened_study(profile, data, artifacts, device, changes, about_to) as study:
                return function(study, **given)

        return command(*study_options(artifacts=artifacts), *options)(run)

    return decorate


@contextlib.contextmanager
def opened_study(
    profile: str, data: str, out: str, device: str, changes: tuple[str, ...], about_to: str = ""
) -> Iterator[Study]:
    """Open a study that reports its progress; estimate what the command `about_to` takes first."""
    from medddist.base.compute import keep_freed_memory  # torch, not above: see the module
    from medddist.method.private.dp_sgd import LOCAL
    from medddist.study.profile import changes_from, load_profile
    from medddist.study.study import Study

    keep_freed_memory()
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, device, progress)
        if study.profile.guarantees:
            note(LOCAL)
        if about_to:
            announce(study, about_to)
        yield study


def announce(study: Study, command: str, through: str | None = None) -> None:
    """Say what a command takes, where it takes long.

    Args:
        study: that it works on.
        command: its name.
        through: the last step that it computes, where that is not of its name.
    """
    from medddist.estimates import announcement

    if not processes.rank() and (estimate := announcement(study, through or command)):
        note(f"{command}: {estimate}")


def require_one_process(name: str) -> None:
    """Refuse a step that several processes cannot share."""
    if processes.count() > 1:
        remedy = "run `teachers` and `distill` under torchrun, then this step without it"
        raise InputError(name, "does not support torchrun", remedy)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Name the option that chose a folder that is not writable, and say what Ctrl-C leaves."""
    try:
        yield
    except NotWritable as refused:
        raise NotWritable(refused.path, refused.problem, _option_for(refused.path)) from refused
    except KeyboardInterrupt:
        folder = click.get_current_context().params.get("artifacts")
        if not folder:
            raise
        kept = f"finished steps and the last checkpoint are kept under {folder}"
        raise KeyboardInterrupt(f"{kept}; run the same command again to continue") from None


def _option_for(path: Path) -> str:
    """The option whose value is the file or the innermost folder around it."""
    context = click.get_current_context()
    declared = [option for option in context.command.params if isinstance(option, click.Option)]
    given = [option for option in declared if context.params.get(option.name)]
    options = {Path(str(context.params[option.name])): option.opts[0] for option in given}
    chosen = (options[place] for place in (path, *path.parents) if place in options)
    return next(chosen, "folder")


def same_study(given: Mapping[str, Any], name: str, *more: str, artifacts: str = "--out") -> str:
    """Return another command on the same study, ready for a shell.

    Args:
        given: the present command's parameters.
        name: of the other command.
        more: words at its end.
        artifacts: the name of its option for cached results.
    """
    words = [*program(), name, "--profile", given["profile"], "--data", given["data"]]
    words += [artifacts, given["artifacts"]]
    for change in given["changes"]:
        words += ["--set", change]
    return shlex.join([*words, *more])
