"""The command `medddist`: the steps of the study, one after another or each alone."""

from __future__ import annotations

import os
import shlex
import sys

import click

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.cli import measuring, sending, start
from medddist.cli.output import error
from medddist.cli.program import NAME, as_called, program

COMPLETE = "_MEDDDIST_COMPLETE"  # the variable with which a shell asks for completions
INTERRUPTED = 130  # as in shells: 128 and the number of SIGINT
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}
SECTIONS = {  # headings of `medddist --help`
    "Start": (start.init, start.prepare, start.estimate),
    "Distil and measure": measuring.STEPS,
    "Share": (sending.package, sending.verify, sending.train, sending.export, sending.package_key),
    "Reference results": (measuring.results,),
}


class _InSections(click.Group):
    """Commands under headings, in the order in which they are used."""

    def get_help(self, context: click.Context) -> str:
        return as_called(super().get_help(context))

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                rows = [(each.name, each.get_short_help_str(100)) for each in commands]
                formatter.write_dl(rows, col_spacing=3)


COMMANDS = [command for section in SECTIONS.values() for command in section]


@click.group(cls=_InSections, commands=COMMANDS, context_settings=SETTINGS)
@click.version_option(package_name="medddist")
def app() -> None:
    """Dataset distillation for sharing medical images.

    Distil a data set into a few synthetic images, and measure how well networks learn from them and
    what they give away. Each command computes what it needs, says first how long that takes, and
    caches it under --out. A command that was stopped resumes when run again.

    \b
    With your own images, in one folder per class:
      medddist init my_images                              describes them; writes my_images.yaml
      medddist evaluate --profile my_images.yaml --data my_images
      medddist package --profile my_images.yaml --data my_images --out set.zip

    \b
    Without images, on simulated radiographs (no patient data):
      medddist evaluate --profile smoke

    Exit codes: 0 done; 2 a mistake in what was given, in one line that says what to do; 130
    interrupted (Ctrl-C); 1 anything else, --debug shows where.

    \b
    Completion of commands and options:
      bash   eval "$(_MEDDDIST_COMPLETE=bash_source medddist)"    in ~/.bashrc
      zsh    eval "$(_MEDDDIST_COMPLETE=zsh_source medddist)"     in ~/.zshrc
      fish   _MEDDDIST_COMPLETE=fish_source medddist | source     in config.fish
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code."""
    # This process is the command's own: threads that wait sleep, which OpenMP has to know before
    # torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(exit_code(sys.argv[1:] if arguments is None else arguments))


def exit_code(arguments: list[str]) -> int:
    """Run the command: 0 done, 2 a caller's mistake or refused input, 130 Ctrl-C, 1 otherwise."""
    debug = "--debug" in arguments
    try:
        return _run(arguments, debug)
    finally:
        processes.leave()


def _run(arguments: list[str], debug: bool) -> int:
    try:
        # A completion is for the name alone: shells use it for every path that ends with it.
        name = NAME if COMPLETE in os.environ else shlex.join(program())
        return app(arguments, standalone_mode=False, prog_name=name, complete_var=COMPLETE) or 0
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.ctx.get_help())
        return 0
    except click.ClickException as mistake:
        return error(mistake.format_message(), 2, debug)
    except InputError as mistake:
        return error(str(mistake), 2, debug)
    except (KeyboardInterrupt, click.Abort) as stopped:
        cause = stopped.__cause__ or stopped  # click replaces both by its own Abort
        if isinstance(cause, EOFError):
            return _fault(cause, debug)
        kept = " ".join(map(str, cause.args))
        kept = kept or "no unfinished result is kept; run the same command again"
        return error(f"interrupted; {kept}", INTERRUPTED, debug, kind="")
    except Exception as fault:  # the last resort: whatever it is, the user gets one line
        return _fault(fault, debug)


def _fault(fault: BaseException, debug: bool) -> int:
    message = f"{type(fault).__name__}: {fault}; run it again with --debug for the traceback"
    return error(message, 1, debug)
