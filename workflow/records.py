"""Records that scripts of this folder measure row by row: results/NAME.json.

A record says what it was measured with; rows of the same setting are replaced, and others appended,
so that what was measured survives an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from medddist.base.files import read_json, write_json
from medddist.base.version import about
from medddist.measure.intervals import INTERVAL
from medddist.study.results import source_name
from medddist.study.study import Study


def merged(old: list[dict], new: list[dict], names: Sequence[str]) -> list[dict]:
    """Replace rows of the same setting, which is what `names` say of it, and append the others."""
    setting = lambda row: tuple(row.get(name) for name in names)
    fresh = {setting(row): row for row in new}
    return [fresh.pop(setting(row), row) for row in old] + list(fresh.values())


def write_rows(
    study: Study, path: Path, rows: list[dict], names: Sequence[str], **more: Any
) -> None:
    """Put rows into a record.

    Args:
        study: that was measured.
        path: of the record.
        rows: new ones, or new versions.
        names: of a row's setting.
        more: what else the record says.
    """
    before = read_json(path) if path.exists() else {"rows": []}
    record = {
        "profile": study.profile.name,
        "source": source_name(study.source),
        "fingerprint": study.data.fingerprint,
        "settings": study.profile.model_dump(mode="json", exclude={"variants"}),
        **more,
        "interval": INTERVAL,
        "rows": merged(before["rows"], rows, names),
        "about": about(str(study.device)),
    }
    write_json(path, record)


def options(profile: str, parts: Iterable[str]) -> Callable:
    """Give a command the options that all these scripts have; the first part is the default."""
    parts = list(parts)
    given = (
        click.option("--profile", default=profile, show_default=True),
        click.option("--data", required=True, help="A folder, an .npz file or phantom."),
        click.option("--out", default="build/artifacts", show_default=True, help="Cached results."),
        click.option("--save", default="results", show_default=True, help="Folder of the record."),
        click.option("--part", type=click.Choice(parts), default=parts[0], show_default=True),
        click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting."),
    )

    def decorated(command: Callable) -> Callable:
        for option in reversed(given):
            command = option(command)
        return command

    return decorated
