"""The text and the pictures of accuracy against leakage, from results/leakage-*.json."""

from __future__ import annotations

from medddist import figures
from workflow.words import mark, records_named, relabelled, today, with_interval

MISSING = (
    "Not measured yet. `.venv/bin/medddist leakage --profile full --data phantom --save results` "
    "measures it, and continues where it was stopped."
)
HEAD = (
    "| set | images per class | balanced accuracy | initial images found (AUC) | "
    "other training images found (AUC) |"
)


records = records_named("leakage-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's picture, table and guarantees, in MyST."""
    lines = [] if records else [MISSING, ""]
    for name, record in records.items():
        rows = relabelled(record["rows"])
        lines += [f"```{{image}} assets/{name}.png", _alt(rows), ":width: 560px", "```", ""]
        lines += [HEAD, "|---" * 5 + "|", *map(_row, rows), ""]
        lines += [
            line.replace("These intervals were", "The intervals of balanced accuracy were")
            for line in mark(record)
        ]
        weak = [
            f"- {figures.leakage_name(row)}, {row['images_per_class']} images per class: "
            f"{today(reason)}"
            for row in rows
            for reason in row["broken"]
        ]
        if weak:
            lines += ["Rows whose control did not behave as expected:", "", *weak, ""]
        else:
            lines += ["All controls behaved as expected.", ""]
        lines += [*map(_guarantee, _guarantees(rows)), ""]
    return "\n".join(lines)


def _alt(rows: list[dict]) -> str:
    alt = ":alt: Balanced accuracy of each set against the area under the attack's curve (AUC)."
    scores = [row["balanced_accuracy"]["mean"] for row in rows]
    areas = [row["found"]["starting"]["auc"]["auc"] for row in rows if row["found"].get("starting")]
    if areas:
        alt += (
            f" Balanced accuracy ranges from {min(scores):.3f} to {max(scores):.3f}, the AUC on "
            f"initial images from {min(areas):.3f} to {max(areas):.3f}."
        )
    return alt


def _row(row: dict) -> str:
    cells = []
    for group in ("starting", "others"):
        attacked = row["found"].get(group)
        if attacked is None:
            cells.append("")
            continue
        hits, area, (low, high) = attacked["true_positives"], attacked["auc"], attacked["by_chance"]
        cells.append(
            f"{hits['count']} of {hits['of']}, by chance {low} to {high}; "
            f"{area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
        )
    score = with_interval(row["balanced_accuracy"])
    begin = f"| {figures.leakage_name(row)} | {row['images_per_class']} | {score} | "
    return begin + " | ".join(cells) + " |"


def _guarantees(rows: list[dict]) -> list[dict]:
    """List the guarantees of a record's rows, each once."""
    stated = [row["privacy"] for row in rows if row["privacy"]]
    return [guarantee for k, guarantee in enumerate(stated) if guarantee not in stated[:k]]


def _guarantee(stated: dict) -> str:
    composed = stated["composed"]
    return (
        f"Guarantee of the DP-SGD rows: epsilon {stated['epsilon']:.3g} at delta "
        f"{stated['delta']:g} for one {stated['unit']}. It covers all teachers (number: "
        f"{composed['teachers']}), with {composed['steps']:,} steps ({stated['accountant']})."
    )


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw each record, by file name."""
    return {
        name: figures.show(figures.leakage(relabelled(record["rows"]), "balanced_accuracy"), "")
        for name, record in records.items()
    }
