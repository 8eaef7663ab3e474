"""The text on shortcuts through the origin of images, from results/confounding-*.json.

A method is said to lose more or less than another one only where the interval of the difference
excludes zero.
"""

from __future__ import annotations

from medddist import figures
from workflow.words import (
    data_of,
    difference,
    made_by,
    mark,
    markdown_table,
    records_named,
    with_interval,
)

COMMAND = "`.venv/bin/python -m workflow.confounding --data {} --save results --part {}`"
MISSING = (
    f"Not measured yet. {COMMAND.format('my_images', 'origins')} measures it on your images, and "
    "`--profile demo --data phantom --part phantom` on the phantom; the part `control` trains "
    "where there is no shortcut."
)
METHODS = {
    "origin_alone": "knowing the source alone",
    "full_good": "all training images",
    "random_balanced": "random real images, hard labels",
    "random_teachers": "random real images, soft labels",
    "distilled": "distilled images",
}
TITLES = {
    ("origins", None): "Sources mixed equally over the classes",
    ("phantom", "confounded"): "Trained on the confounded phantom, tested on both versions",
    ("phantom", "balanced"): "Control: trained on the balanced phantom, tested on both versions",
}
NOTES = {
    "origins": (
        "Usual: the test part's own mix of sources. Independent: all classes of a source have "
        "equal weight, and so have all sources. Both tests give the classes equal weight, so the "
        "difference is due to the mix of sources alone. Only sources with at least two classes "
        "count, so classes that are in no such source are left out."
    ),
    "phantom": (
        "Usual: the test part of the confounded version. Independent: the same patients in the "
        "balanced version, where sites are independent of classes."
    ),
}


STRENGTH = (
    "The strength of a shortcut is the score that is lost without it; below zero, none is seen. A "
    "network that recognises little has little to lose, so compare the scores too."
)


records = records_named("confounding-*")


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw nothing: this page has tables alone."""
    return {}


def text(records: dict[str, dict]) -> str:
    """Write each record's sentences and tables, in MyST."""
    lines = [] if records else [MISSING, ""]
    for record in records.values():
        lines += [f"### Shortcuts on {data_of(record)}", "", made_by(record["settings"]), ""]
        lines += mark(record)
        for (part, version), title in TITLES.items():
            rows = _of(record["rows"], part, version)
            if rows:
                note = NOTES[part] + _counted(part, record["rows"])
                lines += [f"**{title}.** {note} {STRENGTH}", ""]
                lines += [*(f"- {sentence}" for sentence in _sentences(rows)), "", *_lost(rows), ""]
        own = _of(record["rows"], "within", None)
        if own:
            lines += [*_within(own), ""]
    return "\n".join(lines)


def _of(rows: list[dict], part: str, version: str | None) -> list[dict]:
    """The rows of a part, in the order of METHODS."""
    own = [row for row in rows if (row["part"], row.get("trained_on")) == (part, version)]
    return sorted(own, key=lambda row: list(METHODS).index(row["method"]))


def verdict(paired: dict) -> str:
    """Say what the interval of a difference in what is lost allows to say."""
    if paired["low"] is None or paired["low"] <= 0 <= paired["high"]:
        return "not significantly different from that"
    return "stronger than" if paired["low"] > 0 else "weaker than"


def _sentences(rows: list[dict]) -> list[str]:
    """Answer whether the shortcut is stronger or weaker than in other images."""
    lines = []
    for row in rows:
        compared = [paired for paired in row["against"] if paired["low"] is not None]
        if row["method"] == "distilled" and compared:
            says = [
                f"{verdict(paired)} with {METHODS[paired['against']]} ({difference(paired)})"
                for paired in compared
            ]
            lines.append(f"**With distilled images the shortcut is** {'; '.join(says)}.")
        elif compared and compared[0]["against"] == "full_good":
            lines.append(
                f"With {METHODS[row['method']]}, the shortcut is {verdict(compared[0])} with "
                f"all training images ({difference(compared[0])})."
            )
    return lines


def _counted(part: str, rows: list[dict]) -> str:
    """Name the classes of sources with several classes, where only these count."""
    names = sorted({name for row in _of(rows, "within", None) for name in row["images"]})
    if part != "origins" or not names:
        return ""
    listed = ", ".join(name.replace("_", " ") for name in names)
    return (
        f" The classes that count are {listed}. Scores, also of knowing the source alone, "
        "therefore differ from those over all classes."
    )


def _lost(rows: list[dict]) -> list[str]:
    head = ["trained on", "usual test", "independent test", "lost"]
    cells = [
        [
            METHODS[row["method"]],
            with_interval(row["usual"]),
            with_interval(row["independent"]),
            difference(row["lost"] | {"difference": row["lost"]["mean"]}),
        ]
        for row in rows
        if row["lost"]["low"] is not None
    ]
    return markdown_table(head, cells)


def _within(rows: list[dict]) -> list[str]:
    lines = []
    for origin in dict.fromkeys(row["origin"] for row in rows):
        own = [row for row in rows if row["origin"] == origin]
        names = list(own[0]["images"])
        counts = ", ".join(f"{n.replace('_', ' ')} {c:,}" for n, c in own[0]["images"].items())
        cells = [
            [
                METHODS[row["method"]],
                with_interval(row["accuracy"]),
                with_interval(row["balanced_accuracy"]),
                with_interval(row["restricted"]),
                *(with_interval(row["sensitivity"][name]) for name in names),
            ]
            for row in own
        ]
        head = ["trained on", "accuracy", "balanced accuracy", "among its own classes"]
        head += [f"sensitivity {name.replace('_', ' ')}" for name in names]
        lines += [
            f"**Within {origin}** ({counts} test images). Among its own classes: balanced accuracy "
            f"when a network must choose one of these; chance is {own[0]['chance']:.3f}.",
            "",
            *markdown_table(head, cells),
            "",
        ]
    return lines[:-1]
