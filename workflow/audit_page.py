"""The long audit's text, from results/audit-*.json."""

from __future__ import annotations

import json
from pathlib import Path

ATTACKS = {"loss": "loss", "lira": "LiRA"}
GROUPS = {
    "starting": "images it started from",
    "others": "other training images",
    "unseen": "unseen images (negative control)",
}


def records(folder: Path) -> dict[str, dict]:
    """Of audit-*.json in a folder, by their names."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("audit-*.json"))
    }


def text(found: dict[str, dict]) -> str:
    """Each record's table, in MyST."""
    told = (
        []
        if found
        else [
            "Not measured yet: `medddist audit --profile lira --save results` does, and goes "
            "on where it was stopped.",
            "",
        ]
    )
    for name, record in found.items():
        settings = record["audit"]["settings"]
        told += [
            f"False positives {settings['false_positives']:g}, {settings['shadows']} shadow "
            f"distillations (`{name}`):",
            "",
        ]
        told += [
            "| attack | asked about | found | by chance | area under the curve |",
            "|---" * 5 + "|",
        ]
        for attack, of in record["audit"]["membership"].items():
            rows = {
                "real images that networks were trained on (positive control)": of[
                    "positive_control"
                ]["control"]
            }
            rows |= {
                said: of["released"][group]
                for group, said in GROUPS.items()
                if group in of["released"]
            }
            told += [_row(ATTACKS[attack], said, row) for said, row in rows.items()]
        told += [
            "",
            *(
                f"- {reason}"
                for reason in record["broken"]
                or ["Both controls were as they have to be, for each attack."]
            ),
            "",
        ]
    return "\n".join(told)


def _row(attack: str, said: str, row: dict) -> str:
    hits, area = row["true_positives"], row["auc"]
    share = (
        f"{hits['count']} of {hits['of']}: {hits['share']:.3f} [{hits['low']:.3f}, "
        f"{hits['high']:.3f}]"
    )
    low, high = row["by_chance"]
    return (
        f"| {attack} | {said} | {share} | {low} to {high} | {area['auc']:.3f} "
        f"[{area['low']:.3f}, {area['high']:.3f}] |"
    )


def pictures(found: dict[str, dict]) -> dict:
    """None."""
    return {}
