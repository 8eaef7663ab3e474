"""The text on what several hospitals gain by sharing, from results/hospitals-*.json."""

from __future__ import annotations

from medddist import figures
from workflow.hospitals import ALONE, FEDERATED, PACKAGE, PACKAGES, POOLED, WEIGHTS
from workflow.words import (
    data_of,
    difference,
    markdown_table,
    method_of,
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
            lines += [f"**{_title(epsilon, rows, record['settings'])}**", ""]
            lines += [f"- {sentence}" for sentence in _sentences(rows)]
            lines += ["", *_table(rows), ""]
    return "\n".join(lines)


def _blocks(rows: list[dict]) -> dict[float | None, list[dict]]:
    found: dict[float | None, list[dict]] = {}
    for row in rows:
        found.setdefault(row["epsilon"], []).append(row)
    return found


def _title(epsilon: float | None, rows: list[dict], settings: dict) -> str:
    draws = max(row["draws"] for row in rows)
    again = f"each hospital makes its set {draws} times, and intervals cover these draws"
    if epsilon is None:
        method, iterations = _made(settings)
        return f"Without a guarantee: {method}, {iterations} iterations; {again}."
    return (
        f"With a guarantee of epsilon {epsilon:g} per release; {again}. The public networks are "
        "untrained here. Each image is assigned to a part by itself, so the test images differ "
        "from those above."
    )


def _made(settings: dict) -> tuple[str, int]:
    """How each hospital distils: the study's settings, with what changes for hospitals."""
    changed = {section: dict(settings[section]) for section in ("distill", "teachers")}
    for name, value in settings["hospitals"]["changes"].items():
        section, setting = name.split(".")
        changed.setdefault(section, {})[setting] = value
    return method_of(changed), changed["distill"]["iterations"]


def best(rows: list[dict], way: str) -> dict | None:
    """Return the best row of one way to share, by the mean."""
    chosen = [row for row in rows if row["way"] == way]
    return max(chosen, key=lambda row: row[METRIC]["mean"], default=None)


def compared(rows: list[dict]) -> list[tuple[str, str, dict]]:
    """List what all packages together are compared with: the verdict, the name, the row."""
    best_rows = ((name, best(rows, way)) for way, name in COMPARED.items())
    return [(verdict(row, METRIC), name, row) for name, row in best_rows if row is not None]


def verdict(row: dict, metric: str) -> str:
    """Say whether all packages together are above or below a row."""
    paired = row["packages_above"][metric]
    if paired["low"] > 0 or paired["high"] < 0:
        return "above" if paired["low"] > 0 else "below"
    return "not significantly different from"


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
        f"All packages together, compared with {name}{_of(row)}: "
        f"{_judged(row, METRIC)}; {_judged(row, 'accuracy')}."
        for _, name, row in compared(rows)
    ]


def _judged(row: dict, metric: str) -> str:
    says = verdict(row, metric).removesuffix(" from")
    paired = difference(row["packages_above"][metric])
    return f"**{says}** in {metric.replace('_', ' ')} ({paired})"


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
