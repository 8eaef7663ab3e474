"""The table of faults that were tried, from results/reliability.json."""

from __future__ import annotations

import json
from pathlib import Path

OUTCOMES = ("tried", "refused", "right", "failures")
FAULTS = {  # a kind of fault in results/reliability.json, as it is called on the page
    "kills": "`kill -9`, up to three times in a row, then started again",
    "full_disk": "disk full",
    "read_only": "folder read-only",
    "removed": "files deleted while it runs",
    "together": "two runs of the same step at once",
    "clock_set_back": "clock set back",
    "damaged_packages": "damaged package",
    "damaged_trajectories": "damaged trajectory",
    "damaged_results": "damaged result or checkpoint",
    "damaged_caches": "damaged cache",
    "damaged_profiles": "damaged profile",
    "image_folders": "image folder with an odd or damaged file",
}


def records(folder: Path) -> dict[str, dict]:
    """reliability.json of a folder, by its name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("reliability.json")
    }


def text(found: dict[str, dict]) -> str:
    """The counts as a table."""
    if not found:
        return "There are no counts on record yet: the command above makes them.\n"
    record = found["reliability"]
    lines = [
        "| fault | tried | refused with a reason | right result | not survived |",
        "|---|---|---|---|---|",
    ]
    for name, of in record["kinds"].items():
        cells = [f"{of[outcome]:,}" if outcome in of else "" for outcome in OUTCOMES]
        told = f"not tried: {of['why']}" if "why" in of else ""
        lines.append(
            f"| {FAULTS.get(name, name)} | "
            + " | ".join([cells[0], told or cells[1], *cells[2:]])
            + " |"
        )
    about = record["about"]
    lines += [
        "",
        f"{sum(of['tried'] for of in record['kinds'].values()):,} faults in "
        f"{sum(of['seconds'] for of in record['kinds'].values()) / 60:.0f} minutes, seed "
        f"{record['seed']}, commit"
        f" `{about['commit']}`, {about['machine']['processor']}, Python "
        f"{about['python']}, torch {about['packages']['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def pictures(found: dict[str, dict]) -> dict:
    """None: the counts are a table."""
    return {}
