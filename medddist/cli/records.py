"""Figures of record: what a profile gives."""

from __future__ import annotations

import click

from medddist.base.progress import Bar
from medddist.cli.common import (
    kept_under,
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
    """Measure the figures of record: every variant of the profile, with settings, versions, machine
    and commit, as JSON.
    """
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
