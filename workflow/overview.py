"""The first page's picture and its findings, from the default study and from the figures of record.

    python workflow/overview.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from medddist import figures
from medddist.profile import load_profile
from medddist.progress import Progress
from medddist.study import Study

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("distilled", "random_balanced", "full_good")


def picture(study: Study) -> figures.Shown:
    result, data = study.distillation(), study.data
    first = np.concatenate([np.flatnonzero(data.train.labels == k)[:4] for k in range(data.classes)])
    some = [k * study.profile.distill.images_per_class + i for k in range(data.classes) for i in range(4)]
    pictures = {
        f"{len(data.train):,} training images (16 of them)": data.train.images[first] / 255,
        f"{len(result.distilled.images)} distilled images (16 of them)": data.pixels(result.distilled.images[some].cpu().numpy()),
    }
    rows = [row for row in study.table() if row["method"] in SHOWN]
    return figures.show(figures.overview(pictures, rows, "balanced_accuracy"), "")


def found(study: Study) -> str:
    """A paragraph of figures; every number is the study's or a record's."""
    rows = {row["method"]: row for row in study.table()}
    lead = rows["random_balanced"]["distilled_lead"]["balanced_accuracy"]
    value = lambda method: f"{rows[method]['balanced_accuracy']['mean']:.3f}"  # noqa: E731
    lines = [
        f"On the phantom (`demo`), networks trained on {4 * study.profile.distill.images_per_class} distilled images reach a balanced"
        f" accuracy of {value('distilled')} on test, on as many random real images {value('random_balanced')}, on all images"
        f" {value('full_good')}. The lead over random real images is {lead['difference']:+.3f}, 95 % interval"
        f" [{lead['low']:+.3f}, {lead['high']:+.3f}]."
    ]
    records = sorted((ROOT / "results").glob("real-*.json"))
    lines += [_of_record(json.loads(path.read_text(encoding="utf-8"))) for path in records]
    return "\n\n".join(lines) + "\n"


def _of_record(record: dict) -> str:
    told = [f"On real radiographs (`results/{record['profile']}-{Path(record['source']).stem}.json`):", ""]
    for variant, measured in record["variants"].items():
        s, rows = measured["summary"], {row["method"]: row for row in measured["rows"]}
        lead, metric = s["lead_over_it"], s["metric"]
        told.append(
            f"- teachers `{variant}`: {metric.replace('_', ' ')} {s['distilled']:.3f} by the distilled images,"
            f" {rows[s['better_random_reference']][metric]['mean']:.3f} by the better random real reference"
            f" (lead {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]),"
            f" {rows['full_good'][metric]['mean']:.3f} by all images; the majority class alone has accuracy"
            f" {rows['majority']['accuracy']['mean']:.3f}."
        )
    return "\n".join(told)


def real_results() -> str:
    """A table a variant of each record on real radiographs."""
    told = []
    for path in sorted((ROOT / "results").glob("real-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for variant, measured in record["variants"].items():
            told += _results_of_variant(f"{path.stem}, variant {variant}", measured)
    return "\n".join(told)


def _results_of_variant(name: str, measured: dict) -> list[str]:
    counts, metric = measured["data"]["counts"], measured["metric"]
    cell = lambda s: f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"  # noqa: E731
    lines = [
        f"## {name}", "",
        f"{sum(counts['train']):,} training, {sum(counts['validation']):,} validation and {sum(counts['test']):,} test images; choices by"
        f" {metric.replace('_', ' ')} on validation; seeds {', '.join(measured['by_seed'])}.", "",
        f"| trained on | accuracy | balanced accuracy | AUROC | lead in {metric.replace('_', ' ')} |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in measured["rows"]:
        lead = row.get("distilled_lead", {}).get(metric)
        told = f"{lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]" if lead else ""
        lines.append(f"| {row['label']} | {cell(row['accuracy'])} | {cell(row['balanced_accuracy'])} | {cell(row['auroc'])} | {told} |")
    share = measured["summary"]["share_of_full_good"]
    lines += ["", f"The distilled images reach {share:.3f} of the {metric.replace('_', ' ')} that all images by the good recipe do."]
    minutes = [(s["seconds"]["teachers"] + s["seconds"]["distillation"]) / 60 for s in measured["by_seed"].values()]
    each = ", ".join(f"{one[metric]:.3f}" for one in measured["by_seed"].values())
    lines += ["", f"By seed, the distilled images: {each}. Teachers and distillation of a seed took {min(minutes):.0f} to {max(minutes):.0f} minutes.", ""]
    return lines


def sweeps() -> dict[str, figures.Shown]:
    """A picture a sweep of results/sweep-*.csv and data source, by its name."""
    drawn = {}
    for path in sorted((ROOT / "results").glob("sweep-*.csv")):
        for source, rows in pd.read_csv(path, dtype={"seeds": str}).groupby("data"):
            name = path.stem if path.stem.endswith(f"-{source}") else f"{path.stem}-{source}"
            drawn[name] = figures.show(figures.images_a_class(rows, "balanced_accuracy"), "")
    return drawn


def sweep_pages(drawn: dict[str, figures.Shown]) -> str:
    """Each sweep's picture and its table, in MyST."""
    told = []
    for name in drawn:
        (path,) = [path for path in (ROOT / "results").glob("sweep-*.csv") if name.startswith(path.stem)]
        rows = pd.read_csv(path, dtype={"seeds": str})
        rows = rows[(rows["metric"] == "balanced_accuracy") & (rows["seeds"] == max(rows["seeds"], key=len))]
        told += [f"```{{image}} assets/{name}.png", f":alt: Balanced accuracy by images a class, each method with its interval ({name})", ":width: 80%", "```", ""]
        sizes = sorted(rows["images_per_class"].dropna().astype(int).unique())
        told += [f"| `{name}` | " + " | ".join(f"{size} a class" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
        for label, of_method in rows.groupby("label", sort=False):
            by_size = {int(size): row for size, row in zip(of_method["images_per_class"].fillna(0), of_method.to_dict("records"))}
            cell = lambda row: f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row else ""  # noqa: E731
            told.append(f"| {label} | " + " | ".join(cell(by_size.get(size, by_size.get(0))) for size in sizes) + " |")
        told.append("")
    return "\n".join(told)


def performance() -> str:
    """The rows of results/bench-*.json as tables, with the machine that they were measured on."""
    tables = []
    for path in sorted((ROOT / "results").glob("bench-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        machine, packages = record["about"]["machine"], record["about"]["packages"]
        tables += [f"`{path.stem}`, {machine['processor']}, {machine['threads']} threads, torch {packages['torch']}:", ""]
        tables += ["| what | setting | here | reference | ratio |", "|---|---|---|---|---|"]
        tables += [_of_bench(row) for row in record["rows"]] + [""]
    return "\n".join(tables)


def _of_bench(row: dict) -> str:
    setting = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row["setting"].items() if value is not None)
    reference, ratio = "", ""
    if row["reference"] is not None:
        reference, ratio = f"{row['reference']:.3g}", f"{row['ratio']:.2f}"
        if row["ratio_low"] != row["ratio_high"]:
            ratio += f" ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    if "float64_difference" in row:
        ratio += f"; in float64 the two differ by {row['float64_difference']:.0e}"
    return f"| {row['what']} | {setting} | {row['ours']:.3g} | {reference} | {ratio} |"


def main() -> None:
    (ROOT / "book" / "results_measured.txt").write_text(real_results(), encoding="utf-8")
    drawn = sweeps()
    for name, shown in drawn.items():
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(shown.content)
    (ROOT / "book" / "sweeps_measured.txt").write_text(sweep_pages(drawn), encoding="utf-8")
    (ROOT / "book" / "performance_measured.txt").write_text(performance(), encoding="utf-8")
    study = Study(load_profile("demo"), "phantom", ROOT / "build" / "artifacts", progress=Progress())
    (ROOT / "book" / "assets" / "overview.png").write_bytes(picture(study).content)
    (ROOT / "book" / "found.txt").write_text(found(study), encoding="utf-8")


if __name__ == "__main__":
    main()
