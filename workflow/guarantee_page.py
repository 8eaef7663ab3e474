"""The text and the picture of sets with a guarantee, from results/private-*.json."""

from __future__ import annotations

from medddist import figures
from workflow.words import data_of, difference, mark, markdown_table, records_named, with_interval

METRIC = "balanced_accuracy"
COMMAND = (
    "`.venv/bin/python -m workflow.guarantee --data my_images --save results --part draws` "
    "measures the sets; the other parts are `beside`, `dp_sgd`, `hospitals`, `sizes` and "
    "`untrained`."
)
MISSING = f"Not measured yet. {COMMAND}"
PARTS = {  # which rows show that a part was measured
    "beside": "nearest class mean",
    "dp_sgd": "network trained by DP-SGD",
    "hospitals": "sets of three hospitals",
    "sizes": "by size",
    "untrained": "distilled by untrained networks",
}
NAMED = {
    "beside": "alternatives, such as classifiers from the same release",
    "dp_sgd": "a network trained by DP-SGD",
    "hospitals": "sets of several hospitals",
    "sizes": "fewer images",
    "untrained": "untrained public networks",
}
UNITS = {
    "image": "image",
    "patient": "group of images that belong together (a patient or, where the data name none, "
    "near-duplicates; see [](#not-promised))",
}
BESIDE = {  # a row's `what`: its name
    "random real images": "random real images, no guarantee",
    "initial": "the public initial images, unchanged",
    "networks trained on the phantom": "the public networks as classifiers",
    "distilled without noise": "distilled images without noise, no guarantee",
    "distilled by untrained networks": "distilled images, public networks untrained",
    "nearest class mean": "nearest class mean of the same release",
    "linear classifier": "linear classifier from the same release",
    "network trained by DP-SGD": "a network trained by DP-SGD and sent (protects one image)",
    "set of one hospital of three": "distilled images of one hospital, a third of the data",
    "sets of three hospitals": "distilled images of three such hospitals together, 240 images",
}


records = records_named("private-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's sentences, picture and tables, in MyST."""
    lines = [] if records else [MISSING, ""]
    for name, record in records.items():
        rows = record["rows"]
        lines += [f"## On {data_of(record)}", "", _protocol(record), "", *mark(record)]
        lines += [f"```{{image}} assets/{name}.png", _alt(rows), ":width: 560px", "```", ""]
        lines += ["### What the intervals say", "", *_sentences(rows), ""]
        lines += ["### Sets by epsilon", "", *_by_epsilon(rows), ""]
        lines += _not_measured(rows)
        if _of(rows, "nearest class mean"):
            lines += ["### Alternatives", "", *_beside(rows), ""]
        if _of(rows, "by size"):
            lines += ["### With fewer images", "", *_by_size(rows), ""]
    return "\n".join(lines)


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw each record's scores against epsilon, by file name."""
    drawn = {}
    for name, record in records.items():
        rows, lines = record["rows"], {}
        curves = [row | {"name": "all images"} for row in _of(rows, "distilled")]
        curves += [row | {"name": _size_name(row)} for row in _of(rows, "by size")]
        for what in ("random real images", "distilled without noise", "initial"):
            lines |= dict(zip([BESIDE[what]], _of(rows, what)))
        drawn[name] = figures.show(figures.guarantee(curves, lines, METRIC), "")
    return drawn


def _of(rows: list[dict], what: str) -> list[dict]:
    """The rows of this kind, the strongest guarantee first and no guarantee last."""
    own = [row for row in rows if row["what"] == what]
    return sorted(own, key=lambda row: row.get("epsilon") or float("inf"))


def _not_measured(rows: list[dict]) -> list[str]:
    """Say which parts a record lacks."""
    present = {row["what"] for row in rows}
    absent = [part for part, what in PARTS.items() if what not in present]
    if not absent:
        return []
    return [f"**Not measured yet:** {', '.join(NAMED[part] for part in absent)}. {COMMAND}", ""]


def _size_name(row: dict) -> str:
    return f"{row['smallest_class']} images in the smallest class"


def _protocol(record: dict) -> str:
    settings, counts = record["settings"], record["training_images"]
    distill = settings["distill"]
    return (
        f"Protocol: the guarantee hides whether one {UNITS[record['unit']]} is in the data; delta "
        f"{distill['delta']:g}; "
        f"{sum(counts):,} training images, {min(counts):,} in the smallest class; "
        f"{distill['extractor_networks']} public networks with {distill['extractor_numbers']} "
        f"numbers each; {distill['images_per_class']} images per class in 8 bits; "
        f"{settings['evaluate']['networks']} networks for each set; commit "
        f"`{record['about']['commit']}`. The release is drawn anew for each set, and each release "
        "has the epsilon of its row. The epsilon of all releases together would be larger."
    )


def _alt(rows: list[dict]) -> str:
    sets = _of(rows, "distilled")
    scores = "; ".join(f"{row[METRIC]['mean']:.3f} at {row['epsilon']:g}" for row in sets)
    return f":alt: Balanced accuracy of sets with a guarantee by epsilon: {scores}."


def _sentences(rows: list[dict]) -> list[str]:
    lines = []
    for row in _of(rows, "distilled"):
        paired = row["above_random"][METRIC]
        says = "not significantly different from"
        if paired["low"] > 0 or paired["high"] < 0:
            says = "above" if paired["low"] > 0 else "below"
        score = f"{row[METRIC]['mean']:.3f}"
        lines.append(
            f"- Epsilon {row['epsilon']:g}: balanced accuracy {score}, {says} an equal number of "
            f"random real images ({difference(paired)})."
        )
    return lines


def _scores(row: dict) -> list[str]:
    paired = row.get("above_random", {}).get(METRIC)
    scores = [with_interval(row[METRIC]), with_interval(row["accuracy"])]
    return [*scores, difference(paired) if paired else ""]


SCORES = ["balanced accuracy", "accuracy", "balanced accuracy minus that of random real images"]


def _by_epsilon(rows: list[dict]) -> list[str]:
    sets = _of(rows, "distilled")
    return markdown_table(
        ["epsilon", "draws", *SCORES],
        [[f"{row['epsilon']:g}", str(row["draws"]), *_scores(row)] for row in sets],
    )


def _beside(rows: list[dict]) -> list[str]:
    shown = [row for what in BESIDE for row in _of(rows, what)]
    cells = [
        [BESIDE[row["what"]], _epsilon(row), str(row["networks"]), *_scores(row)] for row in shown
    ]
    return [
        *markdown_table(["what is used", "epsilon", "classifiers", *SCORES], cells),
        "",
        "Sets without noise, sets by untrained networks and those of hospitals were drawn once, "
        "with three networks for each set, so their intervals do not cover other draws. The row of "
        "one hospital averages three hospitals, and its interval covers how these differ.",
    ]


def _epsilon(row: dict) -> str:
    value = row.get("epsilon")
    return "no guarantee" if value is None else f"{value:g}"


def _by_size(rows: list[dict]) -> list[str]:
    own = _of(rows, "by size")
    sizes = sorted({row["smallest_class"] for row in own})
    cells = []
    for epsilon in sorted({row["epsilon"] for row in own}):
        found = {row["smallest_class"]: row for row in own if row["epsilon"] == epsilon}
        scores = [with_interval(found[size][METRIC]) if size in found else "" for size in sizes]
        cells.append([f"{epsilon:g}", *scores])
    return [
        *markdown_table(["epsilon", *(f"{size} in the smallest class" for size in sizes)], cells),
        "",
        "Balanced accuracy. Each cell has one draw of images and of noise, and three networks, so "
        "its interval does not cover other draws. All classes are reduced by the same factor.",
    ]
