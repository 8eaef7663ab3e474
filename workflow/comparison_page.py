"""The page of the comparison's figures of record: its text and its pictures, from
results/compare-*.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.tables import TABLES, verdict_lines
from workflow.words import mark, with_interval


def records(folder: Path) -> dict[str, dict]:
    """The records of compare-*.json in a folder, by their names."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("compare-*.json"))
    }


def text(records: dict[str, dict]) -> str:
    """Each record's protocol in figures, its verdicts, and its tables, in MyST."""
    told = []
    for name, record in records.items():
        rows, settings = record["rows"], record["settings"]
        compare, pretrain = settings["compare"], settings["compare"]["pretrain"]
        lists = {what: ", ".join(map(str, compare[what])) for what in ("learning_rates", "grid")}
        told += [
            f"## {name}",
            "",
            f"{settings['distill']['images_per_class']} labelled images a class; "
            f"{compare['evaluation_seeds']} evaluation seeds; {compare['epochs']} epochs in "
            "batches of"
            f" {compare['batch_size']}; learning rates {lists['learning_rates']}; factors of "
            f"a method's own learning rate {lists['grid']}. A preparation"
            f" processes at most {2 * pretrain['released_steps'] * pretrain['batch_size']:,} "
            "images in (a) and"
            f" {2 * pretrain['inside_steps'] * pretrain['batch_size']:,} in (b).",
            "",
            *("\n".join(f"- {line}." for line in verdict_lines(rows)).splitlines()),
            "",
            *mark(record),
        ]
        for table, title in TABLES.items():
            told += [
                f"### {title}",
                "",
                *_picture_of(name, table, title),
                *_compared([row for row in rows if row["table"] == table]),
                "",
            ]
        told += [
            "### What linear probes read from self-supervised features",
            "",
            *_probes([row for row in rows if row["table"] == "probe"]),
            "",
        ]
        told += _origins(record["origins"])
    return "\n".join(told)


def _picture_of(name: str, table: str, title: str) -> list[str]:
    alt = f":alt: Accuracy and balanced accuracy of every row of the table {title}, with intervals"
    return [f"```{{image}} assets/{name}-{table}.png", alt, ":width: 100%", "```", ""]


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """By the name of the file."""
    found = {}
    for name, record in records.items():
        for table in TABLES:
            rows = [row for row in record["rows"] if row["table"] == table]
            if table == "unseen":
                rows = [
                    row
                    | {
                        "label": ARCHITECTURES[row["network"]],
                        "network": row["label"],
                        "method": "",
                    }
                    for row in rows
                ]
            found[f"{name}-{table}"] = figures.show(
                figures.compared(rows, ("accuracy", "balanced_accuracy")), ""
            )
    return found


def _compared(rows: list[dict]) -> list[str]:
    lines = [
        "| method | network | accuracy | balanced accuracy | distilled images are | bytes | "
        "real images leave | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        begin = f"| {row['label']} | {ARCHITECTURES.get(row['network'], row['network'])} | "
        if row["status"] != "measured":
            lines.append(begin + f"{row['status']}: {row['reason']} | | | | | |")
            continue
        lead = row.get("distilled_lead", {}).get("balanced_accuracy")
        ahead = (
            f"{lead['verdict']}, {lead['difference']:+.3f} [{lead['low']:+.3f}, "
            f"{lead['high']:+.3f}]"
            if lead
            else ""
        )
        cells = [
            with_interval(row["accuracy"]),
            with_interval(row["balanced_accuracy"]),
            ahead,
            f"{row['bytes_released']:,}",
        ]
        cells += [
            "yes" if row["real_images_leave"] else "no",
            "" if row["seconds"] is None else f"{row['seconds']:,.0f}",
        ]
        lines.append(begin + " | ".join(cells) + " |")
    return lines


def _probes(rows: list[dict]) -> list[str]:
    lines = [
        "| features | network | balanced accuracy | over random features | collapsed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lead = row.get("lead_over_random", {}).get("balanced_accuracy")
        over = (
            f"{lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]" if lead else ""
        )
        collapsed = ("yes" if row["chosen"]["collapsed"] else "no") if lead else ""
        lines.append(
            f"| {row['label']} | {ARCHITECTURES[row['network']]} | "
            f"{with_interval(row['balanced_accuracy'])} | {over} | {collapsed} |"
        )
    return lines


def _origins(found: dict) -> list[str]:
    lines = ["### How far the class is the origin", ""]
    if found["class_from_origin"] is not None:
        lines += [
            "Who knows an image's origin alone has balanced accuracy "
            f"{found['class_from_origin']:.3f}.",
            "",
        ]
    for probe in found["probes"]:
        of = "all images" if probe["class"] is None else probe["class"]
        lines.append(
            f"- A linear probe on 16 px thumbnails tells {len(probe['origins'])} origins "
            f"apart in {of}: {with_interval(probe['balanced_accuracy'])}, chance "
            f"{probe['chance']:.3f}."
        )
    each = {
        (one["class"], one["origin"], one["images"]): {}
        for of in found["by_origin"].values()
        for one in of
    }
    for method, of in found["by_origin"].items():
        for one in of:
            each[one["class"], one["origin"], one["images"]][method] = with_interval(
                one["sensitivity"]
            )
    if each:
        methods = list(found["by_origin"])
        lines += [
            "",
            "| class, origin (test images): share recognised | " + " | ".join(methods) + " |",
            "|---" * (len(methods) + 1) + "|",
        ]
        lines += [
            f"| {k}, {origin} ({n}) | " + " | ".join(of.get(m, "") for m in methods) + " |"
            for (k, origin, n), of in each.items()
        ]
    lines.append("")
    for row in found["confounding"]:
        lost = row.get("lost", {}).get("balanced_accuracy")
        change = (
            f"; {lost['difference']:+.3f} [{lost['low']:+.3f}, {lost['high']:+.3f}] lost "
            "against its own version"
            if lost
            else ""
        )
        lines.append(
            f"- On the phantom, trained where sites are {row['trained_on']}, tested where "
            f"they are {row['tested_on']}: {with_interval(row['balanced_accuracy'])}{change}."
        )
    return [*lines, ""]
