"""The table of what was tried, from results/trials.csv; a new trial is a new line there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

COLUMNS = {  # of results/trials.csv: the page's heading; `part` is the heading of a table
    "what": "what",
    "settings": "settings",
    "iterations": "iterations",
    "minutes": "minutes",
    "validation": "validation",
    "test": "test",
    "further": "further set",
    "verdict": "verdict",
    "source": "source",
}
VERDICTS = ("kept", "no gain", "worse", "promising", "reference")


def records(folder: Path) -> dict[str, pd.DataFrame]:
    """Read trials.csv of a folder; every cell is text."""
    return {
        path.stem: pd.read_csv(path, dtype=str, keep_default_na=False)
        for path in folder.glob("trials.csv")
    }


def text(records: dict[str, pd.DataFrame]) -> str:
    """Write a table for each part of the trials, in MyST; columns without an entry are left out."""
    lines = [] if records else ["No trials are recorded yet.", ""]
    for trials in records.values():
        counts = trials["verdict"].value_counts()
        shown = (f"{verdict}: {counts[verdict]}" for verdict in VERDICTS if verdict in counts)
        lines += [f"{len(trials)} rows. {'; '.join(shown)}.", ""]
        for part, rows in trials.groupby("part", sort=False):
            kept = [name for name in COLUMNS if (rows[name] != "").any()]
            lines += [f"## {part}", "", f"| {' | '.join(COLUMNS[name] for name in kept)} |"]
            lines += ["|---" * len(kept) + "|"]
            lines += [f"| {' | '.join(row)} |" for row in rows[kept].itertuples(index=False)]
            lines += [""]
    return "\n".join(lines)


def pictures(records: dict[str, pd.DataFrame]) -> dict:
    """Return no pictures: the trials are tables."""
    return {}
