"""How pages write what was measured: intervals, names of data and variants, and today's words for
those that older records in results/ were saved with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

FORMER = (
    "*These intervals were computed with the former method (percentile bootstrap) and will be "
    "measured again. Where networks vary more than test images, the former intervals cover the "
    "truth in 87 to 90 % of cases with five networks, and in fewer with three networks or seeds, "
    "instead of 95 %.*"
)
VARIANTS = {
    "balanced": "teachers that see all classes equally often",
    "natural": "teachers that see the natural class proportions",
}
TODAY = {  # what records of version 0.1.0 say: what it is called now
    "the images it started from": "initial images",
    "all training images, teachers' recipe": "all training images, teacher training",
    "all training images, good recipe": "all training images, tuned training",
    "seconds an iteration": "seconds per iteration",
    "seconds a round of teachers": "seconds for all teachers",
    "80 student steps against 5": "80 student steps compared with 5",
    "half of the steps' activations kept": "activations of half of the steps kept",
    "all steps' activations kept": "activations of all steps kept",
    "differences with the ReLUs held": "finite differences with frozen ReLU masks",
    "no ImageNet weights here": "no ImageNet weights available",
    "the data is the phantom itself": "the data are the phantom itself",
}
TOO_WEAK = re.compile(
    r"the (\w+) attack is broken: of (\d+) (real images that networks were trained on) it finds "
    r"(\d+), and chance up to (\d+) (\(AUC .*?\));.*"
)


def today(text: str) -> str:
    """Return the text of a record in the words that the library uses now."""
    for former, current in TODAY.items():
        text = text.replace(former, current)
    return TOO_WEAK.sub(
        r"the \1 attack is too weak to be informative: it finds \4 of \2 \3, and chance finds up "
        r"to \5 \6",
        text,
    )


def relabelled(rows: list[dict]) -> list[dict]:
    """Return a record's rows with labels and reasons in today's words."""
    return [
        row | {key: today(row[key]) for key in ("label", "reason") if row.get(key)} for row in rows
    ]


def data_of(record: dict) -> str:
    """Name the data that a record was measured on, for a heading or a caption."""
    return "the phantom" if record.get("source") == "phantom" else "real radiographs"


def method_of(settings: dict) -> str:
    """Name how images were distilled, by a record's settings; records of 0.1.0 know one way."""
    if settings["distill"].get("method", "trajectory") == "real_loss":
        labels = {"learned": "learned soft", "teachers": "soft"}
        kind = labels.get(settings["distill"]["labels"], "hard")
        return f"the loss on real images with {kind} labels"
    count = settings["teachers"]["teachers"]
    return f"trajectory matching on {count} teacher{'s' if count > 1 else ''}"


def made_by(settings: dict) -> str:
    """Say in a sentence how a record's distilled sets were made."""
    distill, seeds = settings["distill"], settings["seeds"]
    steps = ""
    if distill.get("method") == "real_loss":
        window, horizon = distill["window_steps"], distill["horizon_steps"]
        steps = f", the last {window} of up to {horizon} student steps"
    return (
        f"The distilled images were made by {method_of(settings)}: {distill['iterations']} "
        f"iterations{steps}; {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{', '.join(map(str, seeds))}."
    )


def variant_of(name: str) -> str:
    """Name a profile's variant, for a heading or a caption."""
    return VARIANTS.get(name, f"variant {name}")


def mark(record: dict, words: str = FORMER) -> list[str]:
    """Return lines that say so where a record's intervals were computed with the former method.

    Such a record does not name its method.
    """
    return [] if "interval" in record else [words, ""]


def with_interval(score: dict) -> str:
    """Write a score with its interval, with a line break nowhere in the interval."""
    return f"{score['mean']:.3f} [{score['low']:.3f},\N{NO-BREAK SPACE}{score['high']:.3f}]"


def corrected(score: float, full: float, chance: float) -> float:
    """Return the share of all images' score that is above chance."""
    return (score - chance) / (full - chance)


def share_of_all(score: dict, full: dict, classes: int) -> str:
    """Write a balanced accuracy as a share of all images', with the corrected share in brackets."""
    plain = score["mean"] / full["mean"]
    return f"{plain:.2f} ({corrected(score['mean'], full['mean'], 1 / classes):.2f})"


def difference(paired: dict) -> str:
    """Write a paired difference with its interval."""
    low, high = f"{paired['low']:+.3f}", f"{paired['high']:+.3f}"
    return f"{paired['difference']:+.3f} [{low},\N{NO-BREAK SPACE}{high}]"


def records_named(pattern: str) -> Callable[[Path], dict[str, dict]]:
    """Return the function that reads a folder's records of this pattern, by name."""

    def records(folder: Path) -> dict[str, dict]:
        paths = sorted(folder.glob(f"{pattern}.json"))
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}

    return records


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table in Markdown, a line per row."""
    lines = [" | ".join(cells) for cells in (head, *rows)]
    return [f"| {lines[0]} |", "|---" * len(head) + "|", *(f"| {line} |" for line in lines[1:])]
