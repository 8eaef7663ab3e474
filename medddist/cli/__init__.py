"""The command `medddist`: the study's steps, one after another or each alone.

Its modules are the sections of `medddist --help`. Commands import what they need when they run, so
that --help need not wait for torch.
"""

from __future__ import annotations

import os
import sys

import click

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.cli import measuring, records, sending, start
from medddist.cli.common import say

INTERRUPTED = 130  # as shells say it: 128 and the number of SIGINT
SECTIONS = {  # headings of `medddist --help`, and what each command is for in a few words
    "Start": {
        "init": "look at a folder of images, write a profile that fits",
        "prepare": "read the data, deal them into parts, say what is there",
        "estimate": "time, memory and disk of each step, before it starts",
    },
    "Distil and measure": {
        "teachers": "train networks on the real images, keep their paths",
        "distill": "make a few images that train a network alike",
        "evaluate": "score them on test beside random real images",
        "compare": "and beside other ways to learn from few labels",
        "audit": "what they give away: nearest images, membership",
        "leakage": "accuracy against leakage, by start and by DP-SGD",
    },
    "Send and receive": {
        "package": "write the distilled set as a file to send",
        "verify": "check such a file throughout",
        "train": "train networks on it, score them on your own images",
        "package-key": "make a pair of keys, to sign and to check",
    },
    "Figures of record": {
        "results": "measure a profile in all its variants, as JSON",
    },
}


class _InSections(click.Group):
    """Commands under headings, in the order in which they are used; one without a heading comes
    last, under another.
    """

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for section in SECTIONS.values() for name in section}
        others = {
            name: self.commands[name].get_short_help_str(60)
            for name in sorted(set(self.commands) - listed)
        }
        for title, section in (SECTIONS | {"More": others}).items():
            rows = [(name, told) for name, told in section.items() if name in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_spacing=3)


@click.group(
    cls=_InSections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="medddist")
def app() -> None:
    """Dataset distillation for sharing medical images.

    Distil a data set into a few synthetic images, and measure what they are worth and what they
    give away. Each command computes what it needs, says before how long that takes, keeps it under
    --out, and reads it when asked again; one that was stopped goes on.

    \b
    With images of your own, one folder a class:
      medddist init my_images                              what is there; writes my_images.yaml
      medddist evaluate --profile my_images.yaml --data my_images
      medddist package --profile my_images.yaml --data my_images --out set.zip

    \b
    Without images, on a phantom that is calculated:
      medddist evaluate --profile smoke

    Exit codes: 0 done; 2 a mistake in what was given, in one line that says what to do; 130
        interrupted (Ctrl-C); 1 anything else, --debug shows where.

    \b
    Completion of commands and options:
      bash   eval "$(_MEDDDIST_COMPLETE=bash_source medddist)"    in ~/.bashrc
      zsh    eval "$(_MEDDDIST_COMPLETE=zsh_source medddist)"     in ~/.zshrc
      fish   _MEDDDIST_COMPLETE=fish_source medddist | source     in config.fish
    """


for _section in (start, measuring, sending, records):
    for _command in vars(_section).values():
        if isinstance(_command, click.Command):
            app.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit 0 when done, 2 for a mistake of the caller's or a refused input, 130
    for Ctrl-C, 1 otherwise.
    """
    # This process is the command's own: threads that wait sleep, which OpenMP has to know before
    # torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(exit_code(sys.argv[1:] if arguments is None else arguments))


def exit_code(arguments: list[str]) -> int:
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
        return say(mistake.format_message(), 2, debug)
    except InputError as mistake:
        return say(str(mistake), 2, debug)
    except (KeyboardInterrupt, click.Abort) as stopped:
        cause = stopped.__cause__ or stopped  # click puts its own Abort in the place of both
        if isinstance(cause, EOFError):
            return _fault(cause, debug)
        kept = (
            " ".join(map(str, cause.args))
            or "no unfinished result is kept; run the same command again"
        )
        return say(f"interrupted; {kept}", INTERRUPTED, debug, kind="")
    except Exception as fault:  # the last resort: whatever it is, the user gets one line
        return _fault(fault, debug)


def _fault(fault: BaseException, debug: bool) -> int:
    return say(
        f"{type(fault).__name__}: {fault}; run it again with --debug for the traceback", 1, debug
    )
