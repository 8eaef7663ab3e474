"""The text and the pictures of the comparison's reference results, from results/compare-*.json."""

from __future__ import annotations

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.tables import FORMER_VERDICTS, TABLES, verdict_lines
from workflow.words import (
    data_of,
    difference,
    mark,
    markdown_table,
    records_named,
    relabelled,
    with_interval,
)

TITLES = {
    "released": "(a) With images that may leave the hospital",
    "inside": "(b) With all training images inside the hospital",
    "unseen": "Networks that never saw the distillation",
}
NETWORKS = ARCHITECTURES | {"imagenet_resnet18": "ResNet-18"}
HEAD = (
    "method",
    "network",
    "accuracy",
    "balanced accuracy",
    "distilled minus method, balanced accuracy",
    "bytes",
    "real images leave",
    "seconds",
)
PROBES_HEAD = ("features", "network", "balanced accuracy", "minus random features", "collapsed")
ON_THE_PHANTOM = "On the phantom, trained on sites that are {} and tested on sites that are {}"
SITES = {"balanced": "balanced over classes", "confounded": "confounded with classes"}


records = records_named("compare-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's protocol, verdicts and tables, in MyST."""
    lines = []
    for name, record in records.items():
        rows = relabelled(record["rows"])
        lines += [f"## On {data_of(record)}", "", _protocol(record["settings"]), ""]
        lines += [*(f"- {line}." for line in verdict_lines(rows)), "", *mark(record)]
        for table, title in TITLES.items():
            shown = [row for row in rows if row["table"] == table]
            lines += [f"### {title}", "", *_picture(f"{name}-{table}", title, shown)]
            lines += [*_scores(shown), ""]
        probes = [row for row in rows if row["table"] == "probe"]
        lines += ["### Linear probes on self-supervised features", "", *_probes(probes), ""]
        lines += _sources(record["origins"])
    return "\n".join(lines)


def _protocol(settings: dict) -> str:
    compare, pretrain = settings["compare"], settings["compare"]["pretrain"]
    rates, factors = (", ".join(map(str, compare[name])) for name in ("learning_rates", "grid"))
    released, inside = (
        2 * pretrain[steps] * pretrain["batch_size"] for steps in ("released_steps", "inside_steps")
    )
    return (
        f"Protocol: {settings['distill']['images_per_class']} labelled images per class; "
        f"{compare['evaluation_seeds']} evaluation seeds; {compare['epochs']} epochs in batches "
        f"of {compare['batch_size']}; learning rates {rates}; factors of a method's own learning "
        f"rate {factors}. Preparing a method processes at most {released:,} images in (a) and "
        f"{inside:,} in (b)."
    )


def _picture(name: str, title: str, rows: list[dict]) -> list[str]:
    alt = f":alt: {title}: accuracy and balanced accuracy of each method, with intervals."
    leads = [row["distilled_lead"] for row in rows if "distilled_lead" in row]
    verdicts = [_verdict(lead["balanced_accuracy"]) for lead in leads]
    if verdicts:
        better, worse = verdicts.count("better"), verdicts.count("worse")
        alt += (
            f" In balanced accuracy the distilled images are better than {better} of "
            f"{len(verdicts)} rows, worse than {worse}, and not significantly different from "
            f"{len(verdicts) - better - worse}."
        )
    return [f"```{{image}} assets/{name}.png", alt, ":width: 100%", "```", ""]


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw each table of each record, by file name."""
    drawn = {}
    for name, record in records.items():
        for table in TABLES:
            rows = [row for row in relabelled(record["rows"]) if row["table"] == table]
            if table == "unseen":  # here networks are compared, a row for each
                rows = [
                    row
                    | {"label": ARCHITECTURES[row["network"]], "network": row["label"]}
                    | {"method": ""}
                    for row in rows
                ]
            figure = figures.compared(rows, ("accuracy", "balanced_accuracy"))
            drawn[f"{name}-{table}"] = figures.show(figure, "")
    return drawn


def _scores(rows: list[dict]) -> list[str]:
    return markdown_table(HEAD, [_cells(row) for row in rows])


def _cells(row: dict) -> list[str]:
    begin = [row["label"], NETWORKS.get(row["network"], row["network"])]
    if row["status"] != "measured":
        return [*begin, f"{row['status']}: {row['reason']}", *[""] * (len(HEAD) - 3)]
    paired = row.get("distilled_lead", {}).get("balanced_accuracy")
    return [
        *begin,
        with_interval(row["accuracy"]),
        with_interval(row["balanced_accuracy"]),
        f"{difference(paired)}, {_verdict(paired)}" if paired else "",
        f"{row['bytes_released']:,}",
        "yes" if row["real_images_leave"] else "no",
        "" if row["seconds"] is None else f"{row['seconds']:,.0f}",
    ]


def _verdict(paired: dict) -> str:
    """In the words of today, of a record of 0.1.0 too."""
    return FORMER_VERDICTS.get(paired["verdict"], paired["verdict"])


def _probes(rows: list[dict]) -> list[str]:
    cells = []
    for row in rows:
        paired = row.get("lead_over_random", {}).get("balanced_accuracy")
        collapsed = ("yes" if row["chosen"]["collapsed"] else "no") if paired else ""
        score = with_interval(row["balanced_accuracy"])
        over = difference(paired) if paired else ""
        cells.append([row["label"], ARCHITECTURES[row["network"]], score, over, collapsed])
    return markdown_table(PROBES_HEAD, cells)


def _sources(origins: dict) -> list[str]:
    """Write what the source of an image says about its class."""
    lines = ["### Does the source of an image predict its class?", ""]
    if origins["class_from_origin"] is not None:
        lines += [
            "A classifier that knows only the source of an image reaches a balanced accuracy of "
            f"{origins['class_from_origin']:.3f}.",
            "",
        ]
    lines += [
        f"- A linear probe on 16 px thumbnails distinguishes {len(probe['origins'])} sources "
        f"in {probe['class'] or 'all classes'} at a balanced accuracy of "
        f"{with_interval(probe['balanced_accuracy'])}; chance is {probe['chance']:.3f}."
        for probe in origins["probes"]
    ]
    lines += [*_sensitivity_by_source(origins["by_origin"]), ""]
    for row in origins["confounding"]:
        lost = row.get("lost", {}).get("balanced_accuracy")
        change = f"; loss against the version trained on: {difference(lost)}" if lost else ""
        versions = ON_THE_PHANTOM.format(SITES[row["trained_on"]], SITES[row["tested_on"]])
        lines.append(f"- {versions}: {with_interval(row['balanced_accuracy'])}{change}.")
    return [*lines, ""]


def _sensitivity_by_source(by_method: dict[str, list[dict]]) -> list[str]:
    table: dict[tuple, list[str]] = {}
    for rows in by_method.values():
        for row in rows:
            key = (row["class"], row["origin"], row["images"])
            table.setdefault(key, []).append(with_interval(row["sensitivity"]))
    if not table:
        return []
    methods = [row["label"] for row in relabelled([{"label": name} for name in by_method])]
    head = ("sensitivity for class, source (test images)", *methods)
    cells = [[f"{name}, {source} ({n})", *scores] for (name, source, n), scores in table.items()]
    return ["", *markdown_table(head, cells)]
