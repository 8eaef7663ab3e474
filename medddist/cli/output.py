"""Print results on standard output, as JSON or in words, and errors on standard error."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable
from typing import Any, NamedTuple

from medddist.base import processes
from medddist.cli.program import as_called

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")  # no import: see `commands`


class Output(NamedTuple):
    """What a command returns.

    Attributes:
        result: for --json.
        lines: the same for people.
        failure: why the exit code is 1, though nothing went wrong; "" for 0.
    """

    result: Any
    lines: list[str]
    failure: str = ""


def show(output: Output, as_json: bool) -> None:
    """Print a result on standard output."""
    text = "\n".join(output.lines)
    if as_json:
        text = json.dumps(output.result, indent=1, ensure_ascii=False, allow_nan=False)
    if not processes.rank():  # of several processes, the first reports
        print(text)


def note(message: str) -> None:
    """Print a line on standard error."""
    if not processes.rank():
        print(f"medddist: {as_called(message)}", file=sys.stderr)


def error(message: str, code: int, debug: bool = False, kind: str = "error: ") -> int:
    """Print an error as one line on standard error, with `debug` after its traceback, and return
    the exit code.
    """
    if debug:
        traceback.print_exc()
    print(f"medddist: {kind}{' '.join(as_called(message).split())}", file=sys.stderr)
    return code


# ---- results in words ----------------------------------------------------------------------------


def data_lines(about: dict) -> list[str]:
    """Describe the data and its parts."""
    size, names = about["image_size_px"], about["class_names"]
    lines = [f"{about['source']}: {size} px, fingerprint {about['fingerprint']}"]
    for part, counts in about["counts"].items():
        lines.append(f"{part}: {sum(counts)} images, {_counts(names, counts)}")
    return lines + [f"note: {text}" for text in about["notes"]]


def estimate_lines(estimate: dict) -> list[str]:
    """Tabulate estimates of time, memory and disk, and say what this machine has."""
    # torch, not above: see `commands`
    from medddist.base.machine import told_bytes, told_estimate, told_time

    here = estimate["machine"]
    lines = [f"{'step':10}{'time':>10}{'memory':>10}{'disk':>10}"]
    for row in (*estimate["steps"], estimate["total"]):
        cells = [f"{'cached':>10}"]
        if row["seconds"]:
            sizes = told_bytes(row["memory_bytes"]), told_bytes(row["disk_bytes"])
            cells = [f"{cell:>10}" for cell in (told_time(row["seconds"]), *sizes)]
        lines.append(f"{row['step']:10}{''.join(cells)}")
    memory, disk = told_bytes(here["free_memory_bytes"]), told_bytes(here["free_disk_bytes"])
    measured = f"measured on {here['device']} with {here['threads']} threads"
    for name, text in (("evaluation", "up to evaluate"), ("total", f"in all, {measured}")):
        left = estimate[name]
        if left["seconds"]:
            lines.append(f"{told_estimate(left['seconds'], *left['range_seconds'])}: {text}")
    return lines + [f"free: {memory} of memory, {disk} of disk"]


def score_lines(rows: list[dict]) -> list[str]:
    """Tabulate each row's metrics with their intervals."""
    lines = [f"{'':40}" + _cells(METRICS)]
    return lines + [f"{row['label']:40}" + _scores(row, METRICS) for row in rows]


def comparison_lines(rows: list[dict]) -> list[str]:
    """List the comparison's rows, table by table."""
    lines: list[str] = []
    for table in dict.fromkeys(row["table"] for row in rows):
        lines += ["", table] if lines else [table]
        for row in rows:
            if row["table"] == table:
                lines.append(f"  {row['label']:42}{row['network']:18}{_comparison(row)}")
    return lines


def _comparison(row: dict) -> str:
    if row["status"] != "measured":
        return f"unavailable: {row['reason']}"
    text = _scores(row, METRICS[:2])
    if "bytes_released" in row:
        text += f"{row['bytes_released']:>12,} bytes"
    for name in ("distilled_lead", "lead_over_random"):
        if name in row:
            lead = row[name]["balanced_accuracy"]
            interval = f"[{lead['low']:+.3f}, {lead['high']:+.3f}] {lead.get('verdict', '')}"
            text += f"  {name.replace('_', ' ')} {lead['difference']:+.3f} {interval}"
    return text


def audit_lines(result: dict) -> list[str]:
    """Say what was nearest, first in a sentence, and how well each attack told members from unseen
    images.
    """
    lines = [_nearest_sentence(result["neighbours"])]
    for space, near in result["neighbours"].items():
        line = f"nearest in {space}: training {near['to_training']:.3f}, unseen "
        line += f"{near['to_unseen']:.3f}; training is nearer for "
        line += _share(near["training_is_nearer"])
        if "start_is_nearest" in near:
            line += f"; initial {near['to_start']:.3f}, the nearest of all for "
            line += _share(near["start_is_nearest"])
        lines.append(line)
    for attack, groups in result["membership"].items():
        released = groups["released"]
        rows = {
            "positive control": groups["positive_control"]["control"],
            "negative control": released["unseen"],
            "initial images": released.get("starting"),
            "other training images": released.get("others"),
        }
        for name, row in rows.items():
            if row:
                low, high = row["by_chance"][:2]
                found = f"{_share(row['true_positives'])} found, by chance {low} to {high}"
                auc = _interval(row["auc"], "auc")
                lines.append(f"{attack} attack, {name}: {found}; AUC {auc}")
    return lines


def _nearest_sentence(spaces: dict) -> str:
    """Say how many distilled images resemble the real images that they were made from."""
    counted = lambda name: {space: near[name] for space, near in spaces.items() if name in near}
    starts, trained = counted("start_is_nearest"), counted("training_is_nearer")
    what = "are nearest to the real image that they started from"
    if not starts:
        what = "are nearer to a training image than to any unseen one (by chance, half of them)"
    (space, first), *others = (starts or trained).items()
    also = "".join(f"; by {name}, {of['count']} of {of['of']}" for name, of in others)
    return f"{first['count']} of {first['of']} distilled images {what} (by {space}{also})"


def package_lines(about: dict, made_with: str | None = None) -> list[str]:
    """Describe a package that passed every check; `made_with`: the key it was just signed with."""
    signature = "none"
    if made_with:
        signature = f"made with {made_with}"
    elif about["signed"]:
        key = about["signed_by"]
        signature = f"by the key {key}" if key else "not checked; give --key"
    title = f"{about['description']}, by {about['creator']}, licence: {about['licence']}"
    images = f"{sum(about['images'])} images of {about['image_size_px']} px"
    counts = _counts(about["class_names"], about["images"])
    return [
        f"{about['package']}: complete; {title}",
        f"{images} ({counts}), {about['labels']} labels, step size {about['step_size']:.4g}",
        f"ID {about['id']}",
        f"signature: {signature}",
    ]


def _scores(row: dict, metrics: Iterable[str]) -> str:
    return _cells(_interval(row[metric], "mean") for metric in metrics)


def _interval(value: dict, name: str) -> str:
    return f"{value[name]:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _share(share: dict) -> str:
    return f"{share['count']} of {share['of']} [{share['low']:.3f}, {share['high']:.3f}]"


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"{text:>24}" for text in texts)


def _counts(names: Iterable[str], counts: Iterable[int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts))
