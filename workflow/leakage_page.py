"""The page of accuracy against leakage: its text and its pictures, from results/leakage-*.json."""

from __future__ import annotations

import json
from pathlib import Path

from medddist import figures
from workflow.words import mark, with_interval


def records(folder: Path) -> dict[str, dict]:
    """Of leakage-*.json in a folder, by their names."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("leakage-*.json"))
    }


def text(found: dict[str, dict]) -> str:
    """Each record's picture and its table, in MyST."""
    told = (
        []
        if found
        else [
            "Not measured yet: `medddist leakage --profile demo --data phantom --save "
            "results` does, and goes on where it was stopped.",
            "",
        ]
    )
    for name, record in found.items():
        told += [
            f"```{{image}} assets/{name}.png",
            f":alt: Balanced accuracy by the area under the attack's curve ({name})",
            ":width: 100%",
            "```",
            "",
        ]
        told += [
            f"| `{name}` | images a class | balanced accuracy | images started from: found, "
            "AUC | other training images: found, AUC |",
            "|---" * 5 + "|",
        ]
        told += [*(_of_leakage(row) for row in record["rows"]), ""]
        told += [
            line.replace("These intervals", "The intervals of balanced accuracy")
            for line in mark(record)
        ]
        broken = [
            f"- {figures.leakage_name(row)}, {row['images_per_class']} a class: {reason}"
            for row in record["rows"]
            for reason in row["broken"]
        ]
        told += [
            *(
                ["Where a control was not as it has to be:", "", *broken, ""]
                if broken
                else ["All controls were as they have to be.", ""]
            )
        ]
        told += [
            f"Guaranteed: epsilon {p['epsilon']:.3g} at delta {p['delta']:g} for one "
            f"{p['unit']}, teachers together: {p['composed']['teachers']}, with"
            f" {p['composed']['steps']:,} steps "
            f"({p['accountant']})."
            for p in _guarantees(record)
        ] + [""]
    return "\n".join(told)


def _of_leakage(row: dict) -> str:
    score, cells = row["balanced_accuracy"], []
    for group in ("starting", "others"):
        if (of := row["found"].get(group)) is None:
            cells.append("")
            continue
        hits, area = of["true_positives"], of["auc"]
        cells.append(
            f"{hits['count']} of {hits['of']}, by chance {of['by_chance'][0]} to "
            f"{of['by_chance'][1]}; {area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
        )
    return (
        f"| {figures.leakage_name(row)} | {row['images_per_class']} | {with_interval(score)} | "
        + " | ".join(cells)
        + " |"
    )


def _guarantees(record: dict) -> list[dict]:
    """Those of a record's rows, each once."""
    found = [row["privacy"] for row in record["rows"] if row["privacy"]]
    return [one for k, one in enumerate(found) if one not in found[:k]]


def pictures(found: dict[str, dict]) -> dict[str, figures.Shown]:
    """By the name of the file."""
    return {
        name: figures.show(figures.leakage(record["rows"], "balanced_accuracy"), "")
        for name, record in found.items()
    }
