"""The text and the picture of what a few images are worth, from results/beyond-*.json.

Each sentence about which images are better is written from the intervals: a set is above or below
another one only where the interval of their paired difference excludes zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from workflow.beyond import AGAINST, CONVNET, METHODS, SETS, SMALL
from workflow.beyond import BOTH as METRICS
from workflow.words import (
    corrected,
    data_of,
    difference,
    mark,
    markdown_table,
    records_named,
    with_interval,
)

MEASURES = (
    "`.venv/bin/python -m workflow.beyond --data my_images --save results --part {part}` measures "
    "{it}, and continues where it was stopped."
)
MISSING = (
    "Not measured yet. " + MEASURES.format(part="sets", it="the table of images and labels") + " "
    "The other parts are `networks`, `sizes` and `full`."
)
IMAGES = {  # a row's method: its images
    "random": "random real images",
    "herding": "real images by herding",
    "kmeans": "real images by k-means",
    "trajectory": "distilled by trajectory matching",
    "real_loss": "distilled by the loss on real images",
    "full": "all training images, tuned training",
    "full, teachers' recipe": "all training images, teacher training",
}
FEWER = 3  # networks of other architectures, in records that do not say how many
LABELS = {"hard": "hard", "teachers": "soft, by networks", "learned": "soft, learned"}
SOFT = {"real_loss": "learned"}  # the soft labels of sizes and networks; else by networks
SAME_LABELS = (
    "Each set is compared with other images that have the same kind of labels: hard labels with "
    "hard labels, soft or learned labels with soft labels by networks."
)
PUBLISHED = {  # accuracy on the radiography database, by images per class; see book/related.md
    "published (HoP-TM): 112 px, deeper network": {1: 0.697, 5: 0.808, 10: 0.844, 50: 0.877}
}
PUBLISHED_CLASS = "COVID"  # of the data that these scores belong to
PARTS = {  # of a record: what is missing where it has no such rows
    "sets": "which images with which labels",
    "networks": "networks that the images were not made with",
    "sizes": "other numbers of images per class",
    "full": "all training images",
}


records = records_named("beyond-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's sentences and tables, in MyST."""
    lines = [] if records else [MISSING, ""]
    for name, record in records.items():
        rows, size = record["rows"], _size(record)
        sets, full = _sets(rows, size), _full(rows)
        lines += [f"## On {data_of(record)}", "", _protocol(record), ""]
        lines += [*_not_measured(rows, size), *mark(record)]
        if sets:
            lines += ["### What the intervals say", "", SAME_LABELS, "", *_sentences(sets), ""]
            lines += _picture(name, sets)
            lines += ["### Which images, with which labels", "", *_scores([*sets, *full]), ""]
            lines += ["### Paired differences", "", *_differences(sets), ""]
            lines += ["### Each class", "", *_classes([*sets, *full]), ""]
        if sets and full:
            lines += ["### As a share of all images", "", *_shares(sets, full[0]), ""]
            lines += ["### The two scores of DD-Ranking", "", *_ranking(sets, full[0]), ""]
        networks = [row for row in rows if row["network"] != CONVNET]
        if networks:
            title = "### Networks that the images were not made with"
            lines += [title, "", *_networks(networks), *_shorter(networks, record), ""]
        if _others(rows, size):
            lines += ["### More or fewer images per class", "", *_sizes(rows, size)]
            lines += [*_shorter(_others(rows, size), record), ""]
            lines += _course(name, record)
    return "\n".join(lines)


def _size(record: dict) -> int:
    return record["settings"]["distill"]["images_per_class"]


def _sets(rows: list[dict], size: int) -> list[dict]:
    """The small sets of the study's own size, on its own network."""
    return [
        row
        for row in rows
        if row["method"] in SMALL and (row["network"], row["images_per_class"]) == (CONVNET, size)
    ]


def _full(rows: list[dict]) -> list[dict]:
    """All training images; tuned training first."""
    return sorted(
        (row for row in rows if row["method"] not in SMALL),
        key=lambda row: row["method"],
    )


def _others(rows: list[dict], size: int) -> list[dict]:
    """The small sets of other sizes."""
    return [
        row
        for row in rows
        if row["method"] in SMALL and row["network"] == CONVNET and row["images_per_class"] != size
    ]


def _protocol(record: dict) -> str:
    settings = record["settings"]
    evaluate, references = settings["evaluate"], settings["references"]
    temperatures = ", ".join(f"{value:g}" for value in references["label_temperatures"])
    return (
        f"Protocol: {_size(record)} images per class; {evaluate['networks']} networks for each set "
        f"and {references['full_networks']} for all images, of {evaluate['recipe']['epochs']} and "
        f"{references['good_recipe']['epochs']} epochs; seeds "
        f"{', '.join(map(str, settings['seeds']))}; {references['draws']} draws of random images; "
        f"label temperatures {temperatures}, chosen on validation; commit "
        f"`{record['about']['commit']}`. Pixels have 8 bits unless a row says otherwise."
        f"{_loss_on_real_images(settings)}"
    )


def _loss_on_real_images(settings: dict) -> str:
    """The settings of the second method, where they are the record's own."""
    distill = settings["distill"]
    if distill["method"] != "real_loss":
        return ""
    return (
        f" The loss on real images: {distill['iterations']} iterations; the last "
        f"{distill['window_steps']} of up to {distill['horizon_steps']} student steps; "
        f"{distill['real_batch_size']:,} real images per iteration; initial images: "
        f"{distill['initial_images']}."
    )


def _not_measured(rows: list[dict], size: int) -> list[str]:
    """Say which parts, and which sets of the first part, the record does not have."""
    measured = {
        "networks": any(row["network"] != CONVNET for row in rows),
        "sizes": bool(_others(rows, size)),
        "full": bool(_full(rows)),
    }
    place = lambda row: (row["method"], row["labels"], row["storage"])
    present = set(map(place, _sets(rows, size)))
    wanted = [dict(zip(("method", "labels", "storage"), one)) for one in SETS]
    absent = [_name(row) for row in wanted if place(row) not in present]
    lines = []
    if absent:
        lines += [f"**Not measured yet:** {'; '.join(absent)}.", ""]
    for part in (part for part, there in measured.items() if not there):
        command = MEASURES.format(part=part, it="this part")
        lines += [f"**Not measured yet:** {PARTS[part]}. {command}", ""]
    return lines


# ---- sentences ---------------------------------------------------------------------------------


def _paired(row: dict, against: str, metric: str) -> dict | None:
    """The paired difference of a row to other images with the same kind of labels."""
    return next(
        (d for d in row["differences"] if (d["against"], d["metric"]) == (against, metric)), None
    )


def verdict(paired: dict) -> str:
    """Say what the interval of a paired difference allows to say."""
    if paired["low"] > 0:
        return "above"
    return "below" if paired["high"] < 0 else "not significantly different from"


def _sentences(sets: list[dict]) -> list[str]:
    lines = [f"- {sentence}" for row in sets for sentence in (_against_others(row),) if sentence]
    lines += [
        f"- {sentence}"
        for row in sets
        if row["method"] in METHODS
        for name in row["per_class"]
        if "covid" in name.lower()
        for sentence in (_sensitivity(row, name),)
        if sentence
    ]
    gains = [
        f"{_images(soft)} {gain:+.3f}"
        for hard in sets
        for soft in sets
        if (hard["labels"], soft["labels"]) == ("hard", "teachers")
        and (hard["method"], hard["storage"]) == (soft["method"], soft["storage"])
        for gain in (soft["balanced_accuracy"]["mean"] - hard["balanced_accuracy"]["mean"],)
    ]
    if gains:
        lines.append(
            "- Soft labels by networks instead of hard labels change the mean balanced accuracy "
            f"(no interval): {'; '.join(gains)}."
        )
    return lines


def _name(row: dict) -> str:
    return f"{_images(row)} ({_kind(row['labels'])})"


def _images(row: dict) -> str:
    """The images by name; real ones have 8 bits, and so have distilled ones as they are sent."""
    plain = IMAGES.get(row["method"], row["method"])
    return f"{plain}, not rounded" if row["storage"] == "float32" else plain


def _kind(labels: str) -> str:
    kinds = {"hard": "hard labels", "teachers": "soft labels by networks"}
    return kinds.get(labels, f"{labels} soft labels")


def _against_others(row: dict) -> str:
    """Compare distilled images with every other kind, in balanced accuracy; "" for real images."""
    if row["method"] not in METHODS:
        return ""
    by_verdict: dict[str, list[str]] = {}
    for other in AGAINST:
        paired = _paired(row, other, "balanced_accuracy")
        if paired:
            named = f"{IMAGES[other]} ({difference(paired)})"
            by_verdict.setdefault(verdict(paired), []).append(named)
    if not by_verdict:
        return ""
    parts = [f"{says} {_listed(others)}" for says, others in by_verdict.items()]
    return f"**{_capital(_name(row))}**: balanced accuracy {'; '.join(parts)}."


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _sensitivity(row: dict, name: str) -> str:
    paired = _paired(row, "random", f"sensitivity {name}")
    if paired is None:
        return ""
    return (
        f"**{_shown(name)} sensitivity, {_name(row)}**: {verdict(paired)} random real images "
        f"({difference(paired)})."
    )


# ---- tables ------------------------------------------------------------------------------------


def _begin(row: dict) -> list[str]:
    return [_images(row), LABELS.get(row["labels"], row["labels"])]


def _scores(rows: list[dict]) -> list[str]:
    head = ("images", "labels", "balanced accuracy", "accuracy", "sets", "minutes per seed")
    cells = [
        [
            *_begin(row),
            with_interval(row["balanced_accuracy"]),
            with_interval(row["accuracy"]),
            str(len(row["seeds"])) if row["method"] in SMALL else "",
            "" if row["minutes_per_seed"] is None else f"{row['minutes_per_seed']:.1f}",
        ]
        for row in rows
    ]
    note = (
        "Sets: draws of random images, or seeds of a distillation. Minutes: to make one distilled "
        "set, with the teachers or networks that it needs."
    )
    return [*markdown_table(head, cells), "", note]


def _differences(sets: list[dict]) -> list[str]:
    lines = [
        "The score of the row's images minus that of others with the same kind of labels, on the "
        "same resampled test groups. Each interval is a 95 % interval of its own; they are not "
        "corrected for their number.",
        "",
    ]
    for metric in reversed(METRICS):
        shown = [row for row in sets if any(d["metric"] == metric for d in row["differences"])]
        if not shown:
            continue
        cells = [
            [*_begin(row), *(_difference_cell(row, other, metric) for other in AGAINST)]
            for row in shown
        ]
        head = ("images", "labels", *(f"minus {IMAGES[other]}" for other in AGAINST))
        lines += [
            f"**{metric.replace('_', ' ').capitalize()}:**",
            "",
            *markdown_table(head, cells),
            "",
        ]
    return lines[:-1]


def _difference_cell(row: dict, other: str, metric: str) -> str:
    paired = _paired(row, other, metric)
    return difference(paired) if paired else ""


def _classes(rows: list[dict]) -> list[str]:
    names, lines = list(rows[0]["per_class"]), []
    for what in ("sensitivity", "specificity"):
        cells = [
            [*_begin(row), *(with_interval(row["per_class"][name][what]) for name in names)]
            for row in rows
        ]
        head = ("images", "labels", *(_shown(name) for name in names))
        lines += [f"**{what.capitalize()}:**", "", *markdown_table(head, cells), ""]
        own = [
            [*_begin(row), *(_difference_cell(row, "random", f"{what} {n}") for n in names)]
            for row in rows
            if _paired(row, "random", f"{what} {names[0]}")
        ]
        if own:
            lines += [
                f"**{what.capitalize()}, minus random real images with the same kind of labels:**",
                "",
                *markdown_table(head, own),
                "",
            ]
    return lines[:-1]


def _shown(name: str) -> str:
    return name.replace("_", " ")


def _shares(sets: list[dict], full: dict) -> list[str]:
    whole, classes = full["balanced_accuracy"]["mean"], len(full["per_class"])
    chance = 1 / classes
    lines = [
        f"All training images reach a balanced accuracy of {whole:.3f} with tuned training. A "
        f"classifier that always predicts one class reaches {chance:.3f}. The plain share is the "
        "score divided by that of all images; so such a classifier has a plain share of "
        f"{chance / whole:.3f}. The share corrected for chance is (score - {chance:.3g}) / "
        f"({whole:.3f} - {chance:.3g}). Shares are of means, without intervals.",
        "",
    ]
    if whole <= chance:
        return [*lines, "All images are not above chance here, so there is no corrected share."]
    head = ("images", "labels", "share, corrected for chance", "plain share", "share of accuracy")
    cells = [
        [
            *_begin(row),
            f"{corrected(row['balanced_accuracy']['mean'], whole, chance):.3f}",
            f"{row['balanced_accuracy']['mean'] / whole:.3f}",
            f"{row['accuracy']['mean'] / full['accuracy']['mean']:.3f}",
        ]
        for row in sets
    ]
    return lines + markdown_table(head, cells)


def _ranking(sets: list[dict], full: dict) -> list[str]:
    images = lambda row: (row["method"], row["storage"])
    hard = {images(row): row for row in sets if row["labels"] == "hard"}
    lines = [
        "DD-Ranking {cite:p}`li2025` separates what labels bring from what images bring, in "
        "accuracy. Hard label recovery (HLR) is the accuracy with all images minus that with the "
        "set, both with hard labels: smaller is better. Improvement over random (IOR) is the "
        "accuracy with the set minus that with an equal number of random real images and the same "
        "kind of labels: larger is better. Both are given for balanced accuracy too. HLR is a "
        "difference "
        "of means and has no interval here.",
        "",
    ]
    head = ["images", "labels"]
    head += [f"{score}, {m.replace('_', ' ')}" for score in ("HLR", "IOR") for m in METRICS]
    cells = []
    for row in (row for row in sets if row["method"] != "random"):
        own = hard.get(images(row))
        lost = [f"{full[m]['mean'] - own[m]['mean']:+.3f}" if own else "" for m in METRICS]
        cells.append([*_begin(row), *lost, *(_difference_cell(row, "random", m) for m in METRICS)])
    return lines + markdown_table(head, cells)


def _networks(rows: list[dict]) -> list[str]:
    methods = [method for method in IMAGES if any(row["method"] == method for row in rows)]
    by_place = {(row["network"], row["method"]): row for row in rows}
    names = list(dict.fromkeys(row["network"] for row in rows))
    cells, verdicts = [], []
    for network in names:
        scores = [
            with_interval(row["balanced_accuracy"]) if row else ""
            for row in (by_place.get((network, method)) for method in methods)
        ]
        ours = by_place.get((network, "real_loss"), {"differences": []})
        paired = _paired(ours, "random", "balanced_accuracy")
        verdicts += [verdict(paired)] if paired else []
        last = difference(paired) if paired else ""
        cells.append([ARCHITECTURES.get(network, network), *scores, last])
    head = ("network", *(_with_labels(method) for method in methods), "loss minus random")
    lines = [
        "Balanced accuracy. Every network has its learning rate tuned on validation, for every set "
        f"among the same rates. Each set is that of the first seed; {_how_many(rows)}. The last "
        "column is the paired difference of the loss on real images and random real images.",
        "",
        *markdown_table(head, cells),
    ]
    if verdicts:
        counts = [f"{says} on {verdicts.count(says)}" for says in ("above", "below")]
        same = verdicts.count("not significantly different from")
        lines += [
            "",
            f"On {len(verdicts)} networks, the images distilled by the loss on real images are "
            f"{' and '.join(counts)} compared with random real images, and not significantly "
            f"different on {same}.",
        ]
    return lines


def _how_many(rows: list[dict]) -> str:
    """Say how many networks were trained on each set, where it is on record."""
    counts = {row["network"]: row.get("networks", FEWER) for row in rows}
    named = lambda count: ", ".join(
        ARCHITECTURES.get(name, name) for name, own in counts.items() if own == count
    )
    usual, *others = sorted(set(counts.values()), key=lambda n: -list(counts.values()).count(n))
    also = "".join(f", {count} on {named(count)}" for count in others)
    return f"{usual} networks learn from each{also}"


def _shorter(rows: list[dict], record: dict) -> list[str]:
    """Say where sets by the loss on real images had another number of iterations than the rest."""
    usual = record["settings"]["distill"]["iterations"]
    own = {row.get("iterations") or usual for row in rows if row["method"] == "real_loss"}
    others = " or ".join(map(str, sorted(own - {usual})))
    if not others:
        return []
    return ["", f"In this table, the loss on real images had {others} iterations, not {usual}."]


def _with_labels(method: str) -> str:
    return f"{IMAGES[method]} ({LABELS[SOFT.get(method, 'teachers')]})"


def _with_soft_labels(rows: list[dict], size: int) -> list[dict]:
    """Small sets of all sizes, on the study's own network."""
    return [
        row
        for row in [*_others(rows, size), *_sets(rows, size)]
        if row["labels"] == SOFT.get(row["method"], "teachers")
    ]


def _sizes(rows: list[dict], size: int) -> list[str]:
    own = _with_soft_labels(rows, size)
    methods = [
        method for method in IMAGES if any(row["method"] == method for row in _others(own, size))
    ]
    sizes = sorted({row["images_per_class"] for row in own})
    by_place = {(row["method"], row["images_per_class"]): row for row in own}
    cells = []
    for method in methods:
        at = [by_place.get((method, count)) for count in sizes]
        scores = [with_interval(row["balanced_accuracy"]) if row else "" for row in at]
        cells.append([*_begin(next(filter(None, at))), *scores])
    compared = [
        (count, paired)
        for count in sizes
        for row in (by_place.get(("real_loss", count)),)
        if row
        for paired in (_paired(row, "random", "balanced_accuracy"),)
        if paired
    ]
    lines = [
        f"Balanced accuracy. Other sizes than {size} are of the first seed only.",
        "",
        *markdown_table(("images", "labels", *(f"{count} per class" for count in sizes)), cells),
    ]
    if compared:
        says = [f"{verdict(paired)} at {n} ({difference(paired)})" for n, paired in compared]
        lines += [
            "",
            "The set that validation chose in the loss on real images, compared with random real "
            f"images: {'; '.join(says)} per class.",
        ]
    unchanged = [
        f"{row['images_per_class']}"
        for row in own
        if row["method"] == "real_loss" and not any(row.get("selected_iterations") or [1])
    ]
    if unchanged:
        lines[-1] += (
            f" At {' and '.join(unchanged)} per class, distilling brought no gain on validation, "
            "which chose the initial images: real ones by herding, with soft labels by networks."
        )
    return lines


# ---- picture -----------------------------------------------------------------------------------


def _picture(name: str, sets: list[dict]) -> list[str]:
    means = "; ".join(f"{_name(row)} {row['balanced_accuracy']['mean']:.3f}" for row in sets)
    return [
        f"```{{image}} assets/{name}-sets.png",
        f":alt: Accuracy and balanced accuracy by images and labels. Balanced accuracy: {means}.",
        ":width: 560px",
        "```",
        "",
    ]


def _published(record: dict) -> dict:
    named = any(PUBLISHED_CLASS in row["per_class"] for row in record["rows"])
    return PUBLISHED if named else {}


def _by_size(record: dict, metric: str) -> pd.DataFrame:
    """Scores by images per class, as `figures.images_per_class` takes them."""
    size = _size(record)
    own, others = _with_soft_labels(record["rows"], size), _others(record["rows"], size)
    methods = {row["method"] for row in others}
    chosen = {(row["method"], row["images_per_class"]): row for row in own}
    return pd.DataFrame(
        {"label": IMAGES[method], "metric": metric, "seeds": "0 1", "images_per_class": count}
        | {name: chosen[method, count][metric][name] for name in ("mean", "low", "high")}
        for method, count in sorted(chosen, key=lambda at: (list(IMAGES).index(at[0]), at[1]))
        if method in methods
    )


def _course(name: str, record: dict) -> list[str]:
    """The picture of the accuracy by images per class, and what was published."""
    table = _by_size(record, "accuracy")
    last = table.groupby("label", sort=False).last()
    told = "{} {:.3f} at {:.0f}".format
    means = [told(label, row["mean"], row["images_per_class"]) for label, row in last.iterrows()]
    lines = [
        f"```{{image}} assets/{name}-sizes.png",
        f":alt: Accuracy by images per class, in the end: {'; '.join(means)}.",
        ":width: 560px",
        "```",
        "",
    ]
    if _published(record):
        lines += [
            "Squares are accuracies that others published on the same database, at a higher "
            "resolution, with a deeper network and other numbers of images per class. They are not "
            "comparable with the lines; [](related.md) says more.",
            "",
        ]
    return lines


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw the sets of each record, and the scores by images per class.

    Sets have a line for the images and a colour for the labels.
    """
    drawn = {}
    for name, record in records.items():
        sets = _sets(record["rows"], _size(record))
        rows = [
            row | {"label": _images(row), "network": _kind(row["labels"])} | {"status": "measured"}
            for row in sets
        ]
        if rows:
            figure = figures.compared(rows, tuple(reversed(METRICS)))
            drawn[f"{name}-sets"] = figures.show(figure, "")
        if _others(record["rows"], _size(record)):
            given = _by_size(record, "accuracy"), "accuracy", _published(record)
            drawn[f"{name}-sizes"] = figures.show(figures.images_per_class(*given), "")
    return drawn
