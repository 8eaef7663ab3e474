"""The text of the long audit, from results/audit-*.json."""

from __future__ import annotations

from workflow.words import records_named, today

ATTACKS = {"loss": "loss", "lira": "LiRA"}
GROUPS = {
    "starting": "initial images of the released set",
    "others": "other training images",
    "unseen": "unseen images (negative control)",
}
POSITIVE = "real images used for training (positive control)"
MISSING = (
    "Not measured yet. `.venv/bin/medddist audit --profile lira --save results` measures it, and "
    "continues where it was stopped."
)
HEAD = "| attack | images | found | expected by chance | area under the curve |"


records = records_named("audit-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's table, in MyST."""
    lines = [] if records else [MISSING, ""]
    for name, record in records.items():
        settings = record["audit"]["settings"]
        lines += [
            f"**At a false-positive rate of {settings['false_positives']:g}**, with "
            f"{settings['shadows']} shadow distillations (`results/{name}.json`):",
            "",
            HEAD,
            "|---" * 5 + "|",
        ]
        for attack, parts in record["audit"]["membership"].items():
            lines.append(_row(ATTACKS[attack], POSITIVE, parts["positive_control"]["control"]))
            lines += [
                _row(ATTACKS[attack], label, parts["released"][group])
                for group, label in GROUPS.items()
                if group in parts["released"]
            ]
        reasons = [f"- {today(reason)}" for reason in record["broken"]]
        lines += ["", *(reasons or ["Both controls behaved as expected for each attack."]), ""]
    return "\n".join(lines)


def _row(attack: str, label: str, row: dict) -> str:
    hits, area = row["true_positives"], row["auc"]
    share = f"{hits['share']:.3f} [{hits['low']:.3f}, {hits['high']:.3f}]"
    low, high = row["by_chance"]
    auc = f"{area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
    counted = f"{hits['count']} of {hits['of']}: {share}"
    return f"| {attack} | {label} | {counted} | {low} to {high} | {auc} |"


def pictures(records: dict[str, dict]) -> dict:
    """Return no pictures: the audit is a table."""
    return {}
