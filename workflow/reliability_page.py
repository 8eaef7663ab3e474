"""The table of the robustness tests, from results/reliability.json."""

from __future__ import annotations

from workflow.words import records_named

OUTCOMES = ("tried", "refused", "right", "failures")
FAULTS = {  # a kind of fault in results/reliability.json: its name on the page
    "kills": "`kill -9`, up to three times in a row, then started again",
    "full_disk": "disk full",
    "read_only": "read-only folder",
    "removed": "files deleted during the run",
    "together": "two runs of the same step at once",
    "clock_set_back": "clock set back",
    "damaged_packages": "damaged package",
    "damaged_trajectories": "damaged trajectory",
    "damaged_results": "damaged result or checkpoint",
    "damaged_caches": "damaged cache",
    "damaged_profiles": "damaged profile",
    "image_folders": "image folder with an unusual or damaged file",
    "verify: a pickle in place of safetensors": "verify: a pickle instead of safetensors",
    "verify: a path that climbs out": "verify: a path that leads out of the package",
}
HEAD = "| fault | tried | refused with a reason | correct result | failed |"


records = records_named("reliability")


def text(records: dict[str, dict]) -> str:
    """Write the counts as a table."""
    if not records:
        return "No counts have been recorded yet. The command above makes them.\n"
    record = records["reliability"]
    about, kinds = record["about"], record["kinds"]
    lines = [HEAD, "|---" * 5 + "|"]
    for name, counts in kinds.items():
        tried, *cells = (f"{counts[key]:,}" if key in counts else "" for key in OUTCOMES)
        if "why" in counts:
            cells[0] = f"not tried: {counts['why']}"
        lines.append(f"| {FAULTS.get(name, name)} | " + " | ".join([tried, *cells]) + " |")
    tried = sum(counts["tried"] for counts in kinds.values())
    minutes = sum(counts["seconds"] for counts in kinds.values()) / 60
    lines += [
        "",
        f"{tried:,} faults in {minutes:.0f} minutes, seed {record['seed']}; latest run: commit "
        f"`{about['commit']}`, {about['machine']['processor']}, Python {about['python']}, torch "
        f"{about['packages']['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def pictures(records: dict[str, dict]) -> dict:
    """Return no pictures: the counts are a table."""
    return {}
