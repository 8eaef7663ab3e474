"""The text and the pictures of the comparison's reference results, from results/compare-*.json."""

from __future__ import annotations

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES, ArchitectureSettings, architecture
from medddist.comparison.contenders import SELF_SUPERVISED
from medddist.comparison.shared import LABELS
from medddist.comparison.tables import FORMER_VERDICTS, METRICS, NO_OTHER, TABLES, verdict_lines
from medddist.method.networks import NetworkSettings
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
COLUMNS = {  # beside method and network; which of them differ from row to row in a table
    "accuracy": lambda row: with_interval(row["accuracy"]),
    "balanced accuracy": lambda row: with_interval(row["balanced_accuracy"]),
    "distilled minus method, balanced accuracy": lambda row: _lead(row),
    "real images leave": lambda row: "yes" if row["real_images_leave"] else "no",
    "bytes": lambda row: f"{row['bytes_released']:,}" if row["released"] == "network" else "",
    "seconds": lambda row: "" if row["seconds"] is None else f"{row['seconds']:,.0f}",
}
LEFT_OUT = {"released": {"bytes"}, "inside": {"real images leave"}}
LEFT_OUT["unseen"] = {"bytes", "real images leave", "seconds"}
PROBES_HEAD = ("features", "network", "balanced accuracy", "minus random features", "collapsed")
ON_THE_PHANTOM = "On the phantom, trained on sites that are {} and tested on sites that are {}"
SITES = {"balanced": "balanced over classes", "confounded": "confounded with classes"}


records = records_named("compare-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's protocol, verdicts and tables, in MyST.

    Those on real radiographs come first. The phantom's tables are folded and have no figures, since
    the notebook has them.
    """
    lines = []
    for name, record in sorted(records.items(), key=lambda named: _on_phantom(named[1])):
        rows, settings = told_once(record["rows"]), record["settings"]
        lines += [f"## On {data_of(record)}", "", _protocol(settings), ""]
        lines += [*_verdicts(rows), "", *mark(record)]
        lines += [*_sizes(rows, settings), *_bytes(rows, settings), *_trainings(rows)]
        if not _on_phantom(record):
            lines += _tables(name, record, rows, "### {}")
            continue
        folded = _tables(name, record, rows, "**{}**", drawn=False)
        lines += ["````{dropdown} All rows on the phantom", *folded, "````", ""]
    return "\n".join(lines)


def _verdicts(rows: list[dict]) -> list[str]:
    """What the distilled images are better and worse than, in both accuracies; no empty lists."""
    told = (line for metric in METRICS for line in verdict_lines(rows, metric))
    return [f"- {line}." for line in told if not line.endswith(NO_OTHER)]


def _on_phantom(record: dict) -> bool:
    return record.get("source") == "phantom"


def _tables(name: str, record: dict, rows: list[dict], heading: str, drawn=True) -> list[str]:
    lines = []
    for table, title in TITLES.items():
        shown = [row for row in rows if row["table"] == table]
        lines += [heading.format(title), ""]
        lines += _picture(f"{name}-{table}", title, shown) if drawn else []
        if table == "inside":
            lines += [
                "Only a network leaves the hospital. Methods that do not use unlabelled images "
                "have the same scores as in (a) and are not repeated.",
                "",
            ]
            shown = [row for row in shown if _uses_more(row)]
        lines += [*_scores(shown, table), ""]
    probes = [row for row in rows if row["table"] == "probe"]
    lines += [heading.format("Linear probes on self-supervised features"), "", *_probes(probes), ""]
    lines += [heading.format("Does the source of an image predict its class?"), ""]
    return lines + _sources(record["origins"])


def told_once(rows: list[dict]) -> list[dict]:
    """Return rows in today's words. Random real images from scratch, which records of 0.1.0 list
    under two names, are there once.
    """
    places: dict[tuple, dict] = {}
    for row in relabelled(rows):
        if row["method"] in ("scratch", "random_real"):
            row = row | {"method": "random_real", "label": LABELS["random_real"]}
        places.setdefault((row["table"], row["method"], row["network"]), row)
    return list(places.values())


def _uses_more(row: dict) -> bool:
    """Whether a row of table (b) uses what (a) has not, or is what others are compared with."""
    method = row["method"]
    return method == "distilled" or method in SELF_SUPERVISED or method.startswith("full_")


def _measured(rows: list[dict], method: str) -> list[dict]:
    return [row for row in rows if row["method"] == method and row["status"] == "measured"]


def _sizes(rows: list[dict], settings: dict) -> list[str]:
    """Say how large the ResNet-18 is, beside the usual one."""
    sizes = {row["bytes_released"] // 4 for row in rows if _is_sent_network(row, "resnet18")}
    if not sizes:
        return []
    data, width = settings["data"], settings["compare"]["architectures"]["width"]
    shape = data["channels"], _classes(rows), data["image_size_px"]
    usual = ArchitectureSettings()
    whole = architecture("resnet18", NetworkSettings(), usual, shape).parameter_count
    return [
        f"ResNet-18 is a narrow one here: {width} channels in its first block instead of "
        f"{usual.width}, and {max(sizes):,} parameters instead of {whole:,}.",
        "",
    ]


def _is_sent_network(row: dict, network: str) -> bool:
    return row.get("released") == "network" and row["network"] == network


def _classes(rows: list[dict]) -> int:
    return next(len(row["per_class"]) for row in rows if "per_class" in row)


def _bytes(rows: list[dict], settings: dict) -> list[str]:
    """Say how many bytes a set takes, as it is sent today and as it was measured."""
    distilled = _measured(rows, "distilled")
    if not distilled:
        return []
    data, distill, classes = settings["data"], settings["distill"], _classes(rows)
    images = classes * distill["images_per_class"]
    label = 1 if distill["labels"] == "hard" else 4 * classes
    sent = images * (data["channels"] * data["image_size_px"] ** 2 + label)
    text = (
        f"A set of {images} images is sent as {sent:,} bytes: one byte per pixel, whether the "
        f"image is real or distilled, and {label if label > 1 else 'one'} per label."
    )
    measured = distilled[0]["bytes_released"]
    if measured != sent:
        text += (
            " This record was measured before packages held pixels of 8 bits: its distilled "
            f"images were scored without rounding, and a set took {measured:,} bytes. "
            "[](beyond.md) compares rounded and unrounded images."
        )
    return [text, ""]


def _trainings(rows: list[dict]) -> list[str]:
    """Say so where tuned training on all images is below teacher training."""
    (tuned, *_), (teachers, *_) = (
        _measured(rows, name) or [None] for name in ("full_good", "full_teacher")
    )
    if not tuned or not teachers:
        return []
    tuned, teachers = tuned["balanced_accuracy"], teachers["balanced_accuracy"]
    if tuned["mean"] >= teachers["mean"]:
        return []
    return [
        f"On all training images, tuned training reaches a balanced accuracy of "
        f"{with_interval(tuned)}, less than teacher training, {with_interval(teachers)}. So the "
        "row of tuned training is not the best that all images give here.",
        "",
    ]


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
    return [f"```{{image}} assets/{name}.png", alt, ":width: 560px", "```", ""]


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw each table of each record, by file name."""
    drawn = {}
    for name, record in records.items():
        for table in TABLES if not _on_phantom(record) else ():
            rows = [row for row in told_once(record["rows"]) if row["table"] == table]
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


def _scores(rows: list[dict], table: str) -> list[str]:
    shown = {name: cell for name, cell in COLUMNS.items() if name not in LEFT_OUT[table]}
    cells = [_cells(row, shown) for row in rows if row["status"] == "measured"]
    lines = markdown_table(("method", "network", *shown), cells)
    missing = [row for row in rows if row["status"] != "measured"]
    return lines + [
        "",
        *(f"- {row['label']}: {row['status']}, {row['reason']}." for row in missing),
    ]


def _cells(row: dict, shown: dict) -> list[str]:
    network = NETWORKS.get(row["network"], row["network"])
    return [row["label"], network, *(cell(row) for cell in shown.values())]


def _lead(row: dict) -> str:
    paired = row.get("distilled_lead", {}).get("balanced_accuracy")
    return f"{difference(paired)}, {_verdict(paired)}" if paired else ""


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
    lines = []
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
