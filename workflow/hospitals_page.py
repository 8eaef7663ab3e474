"""The text on what several hospitals gain by sharing, from results/hospitals-*.json."""

from __future__ import annotations

from medddist import figures
from workflow.hospitals import ALONE, FEDERATED, PACKAGE, PACKAGES, POOLED, WEIGHTS
from workflow.words import (
    data_of,
    difference,
    markdown_table,
    records_named,
    with_interval,
)

METRIC = "balanced_accuracy"
COMMAND = "`.venv/bin/python -m workflow.hospitals --data phantom --save results --part {}`"
MISSING = f"Not measured yet. {COMMAND.format('ways')} measures it, and `--part private` the rest."
WAYS = {
    ALONE: "{} alone",
    PACKAGE: "the package of {}",
    PACKAGES: "all packages together",
    WEIGHTS: "a network of each hospital, predictions averaged",
    FEDERATED: "federated averaging",
    POOLED: "all real data in one place",
}
COMPARED = {  # in the sentences: with what all packages together are compared
    PACKAGE: "the best single package",
    ALONE: "the best hospital alone",
    WEIGHTS: "averaged predictions of each hospital's network",
    FEDERATED: "federated averaging",
    POOLED: "all real data in one place",
}


records = records_named("hospitals-*")


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw nothing: this text has tables alone."""
    return {}


def text(records: dict[str, dict]) -> str:
    """Write each record's sentences and tables, in MyST."""
    lines = [] if records else [MISSING, ""]
    for record in records.values():
        lines += [f"On {data_of(record)}; commit `{record['about']['commit']}`.", ""]
        for epsilon, rows in _blocks(record["rows"]).items():
            lines += [f"**{_title(epsilon, rows)}**", ""]
            lines += [f"- {sentence}" for sentence in _sentences(rows)]
            lines += ["", *_table(rows), ""]
    return "\n".join(lines)


def _blocks(rows: list[dict]) -> dict[float | None, list[dict]]:
    found: dict[float | None, list[dict]] = {}
    for row in rows:
        found.setdefault(row["epsilon"], []).append(row)
    return found


def _title(epsilon: float | None, rows: list[dict]) -> str:
    draws = max(row["draws"] for row in rows)
    again = f"each hospital makes its set {draws} times, and intervals cover these draws"
    if epsilon is None:
        return f"Without a guarantee; {again}."
    return (
        f"With a guarantee of epsilon {epsilon:g} per release; {again}. The public networks are "
        "random here. Each image decides its part alone, so the test images are not those above."
    )


def best(rows: list[dict], way: str) -> dict | None:
    """Return the best row of one way to share, by the mean."""
    chosen = [row for row in rows if row["way"] == way]
    return max(chosen, key=lambda row: row[METRIC]["mean"], default=None)


def compared(rows: list[dict]) -> list[tuple[str, str, dict]]:
    """List what all packages together are compared with: the verdict, the name, the row."""
    found = []
    for way, name in COMPARED.items():
        if (row := best(rows, way)) is None:
            continue
        paired, says = row["packages_above"][METRIC], "not significantly different from"
        if paired["low"] > 0 or paired["high"] < 0:
            says = "above" if paired["low"] > 0 else "below"
        found.append((says, name, row))
    return found


def in_short(rows: list[dict]) -> str:
    """Say in a sentence what all packages together are above, below, or not different from."""
    parts: dict[str, list[str]] = {}
    for says, name, row in compared(rows):
        about = [row["hospital"], difference(row["packages_above"][METRIC])]
        parts.setdefault(says, []).append(f"{name} ({', '.join(filter(None, about))})")
    told = "; ".join(f"{says} {', '.join(names)}" for says, names in parts.items())
    return f"In balanced accuracy, all packages together are {told}."


def _sentences(rows: list[dict]) -> list[str]:
    return [
        f"All packages together are **{says}** {name}{_of(row)}: "
        f"{difference(row['packages_above'][METRIC])} balanced accuracy, "
        f"{difference(row['packages_above']['accuracy'])} accuracy."
        for says, name, row in compared(rows)
    ]


def _of(row: dict) -> str:
    return f" ({row['hospital']})" if row["hospital"] else ""


def _table(rows: list[dict]) -> list[str]:
    head = ["what a receiver has", "sent", "rounds", "balanced accuracy", "accuracy"]
    cells = [
        [
            WAYS[row["way"]].format(row["hospital"]),
            f"{row['sent_bytes'] / 1000:,.0f} kB" if row["sent_bytes"] else "",
            str(row["rounds"] or ""),
            *(with_interval(row[metric]) for metric in (METRIC, "accuracy")),
        ]
        for row in rows
    ]
    return markdown_table(head, cells)
