"""The first page's picture and its findings, from the default study and from the figures of record.

    python workflow/overview.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from medddist import figures
from medddist.architectures import ARCHITECTURES
from medddist.compare import TABLES, verdict_lines
from medddist.contenders import LABELS
from medddist.costs import activation_bytes, forward_flops, iteration_flops, training_flops
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


def comparisons() -> dict[str, dict]:
    """The records of results/compare-*.json by their names."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results").glob("compare-*.json"))}


def comparison_pages(records: dict[str, dict]) -> str:
    """Each record's protocol in figures, its verdicts, and its tables, in MyST."""
    told = []
    for name, record in records.items():
        rows, settings = record["rows"], record["settings"]
        compare, pretrain = settings["compare"], settings["compare"]["pretrain"]
        lists = {what: ", ".join(map(str, compare[what])) for what in ("learning_rates", "grid")}
        told += [
            f"## {name}", "",
            f"{settings['distill']['images_per_class']} labelled images a class; {compare['evaluation_seeds']} evaluation seeds; {compare['epochs']} epochs in batches of"
            f" {compare['batch_size']}; learning rates {lists['learning_rates']}; factors of a method's own learning rate {lists['grid']}. A preparation"
            f" processes at most {2 * pretrain['released_steps'] * pretrain['batch_size']:,} images in (a) and"
            f" {2 * pretrain['inside_steps'] * pretrain['batch_size']:,} in (b).", "",
            *("\n".join(f"- {line}." for line in verdict_lines(rows)).splitlines()), "",
        ]  # fmt: skip
        for table, title in TABLES.items():
            told += [f"### {title}", "", *_picture_of(name, table, title), *_compared([row for row in rows if row["table"] == table]), ""]
        told += ["### What linear probes read from self-supervised features", "", *_probes([row for row in rows if row["table"] == "probe"]), ""]
        told += _origins(record["origins"])
    return "\n".join(told)


def _picture_of(name: str, table: str, title: str) -> list[str]:
    alt = f":alt: Accuracy and balanced accuracy of every row of the table {title}, with intervals"
    return [f"```{{image}} assets/{name}-{table}.png", alt, ":width: 100%", "```", ""]


def comparison_pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """By the name of the file."""
    found = {}
    for name, record in records.items():
        for table in TABLES:
            rows = [row for row in record["rows"] if row["table"] == table]
            if table == "unseen":
                rows = [row | {"label": ARCHITECTURES[row["network"]], "network": row["label"], "method": ""} for row in rows]
            found[f"{name}-{table}"] = figures.show(figures.compared(rows, ("accuracy", "balanced_accuracy")), "")
    return found


def _compared(rows: list[dict]) -> list[str]:
    lines = ["| method | network | accuracy | balanced accuracy | distilled images are | bytes | real images leave | seconds |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        begin = f"| {row['label']} | {ARCHITECTURES.get(row['network'], row['network'])} | "
        if row["status"] != "measured":
            lines.append(begin + f"{row['status']}: {row['reason']} | | | | | |")
            continue
        lead = row.get("distilled_lead", {}).get("balanced_accuracy")
        ahead = f"{lead['verdict']}, {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]" if lead else ""
        cells = [_cell(row["accuracy"]), _cell(row["balanced_accuracy"]), ahead, f"{row['bytes_released']:,}"]
        cells += ["yes" if row["real_images_leave"] else "no", "" if row["seconds"] is None else f"{row['seconds']:,.0f}"]
        lines.append(begin + " | ".join(cells) + " |")
    return lines


def _probes(rows: list[dict]) -> list[str]:
    lines = ["| features | network | balanced accuracy | over random features | collapsed |", "|---|---|---|---|---|"]
    for row in rows:
        lead = row.get("lead_over_random", {}).get("balanced_accuracy")
        over = f"{lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]" if lead else ""
        collapsed = ("yes" if row["chosen"]["collapsed"] else "no") if lead else ""
        lines.append(f"| {row['label']} | {ARCHITECTURES[row['network']]} | {_cell(row['balanced_accuracy'])} | {over} | {collapsed} |")
    return lines


def _origins(found: dict) -> list[str]:
    lines = ["### How far the class is the origin", ""]
    if found["class_from_origin"] is not None:
        lines += [f"Who knows an image's origin alone has balanced accuracy {found['class_from_origin']:.3f}.", ""]
    for probe in found["probes"]:
        of = "all images" if probe["class"] is None else probe["class"]
        lines.append(f"- A linear probe on 16 px thumbnails tells {len(probe['origins'])} origins apart in {of}: {_cell(probe['balanced_accuracy'])}, chance {probe['chance']:.3f}.")
    each = {(one["class"], one["origin"], one["images"]): {} for of in found["by_origin"].values() for one in of}
    for method, of in found["by_origin"].items():
        for one in of:
            each[one["class"], one["origin"], one["images"]][method] = _cell(one["sensitivity"])
    if each:
        methods = list(found["by_origin"])
        lines += ["", "| class, origin (test images): share recognised | " + " | ".join(LABELS[m] for m in methods) + " |", "|---" * (len(methods) + 1) + "|"]
        lines += [f"| {k}, {origin} ({n}) | " + " | ".join(of.get(m, "") for m in methods) + " |" for (k, origin, n), of in each.items()]
    for row in found["confounding"]:
        lost = row.get("lost", {}).get("balanced_accuracy")
        change = f"; {lost['difference']:+.3f} [{lost['low']:+.3f}, {lost['high']:+.3f}] lost against its own version" if lost else ""
        lines.append(f"- On the phantom, trained where sites are {row['trained_on']}, tested where they are {row['tested_on']}: {_cell(row['balanced_accuracy'])}{change}.")
    return [*lines, ""]


def _cell(score: dict) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def sweeps() -> dict[str, pd.DataFrame]:
    """The rows of each sweep in results/sweep-*.csv on each data source, by a name for them."""
    found = {}
    for path in sorted((ROOT / "results").glob("sweep-*.csv")):
        sources = pd.read_csv(path, dtype={"seeds": str}).groupby("data")
        found |= {path.stem if len(sources) == 1 else f"{path.stem}-{source}": rows for source, rows in sources}
    return found


def sweep_pages(found: dict[str, pd.DataFrame]) -> str:
    """Each sweep's picture and its table, in MyST."""
    told = []
    for name, rows in found.items():
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


# name, profile's network and counts: teachers, kept epochs, real training images, iterations, images a step, student steps
SCALES = {
    "the poster's study": {},
    "ten times the real images": {"real_images": 10},
    "ten times the distilled images, in ten times the steps": {"student_steps": 10},
    "ten times the pixels": {"image_size_px": 10**0.5},
}
ASSUMED = {"GPU, TFLOP/s": 20.0, "price, $ an hour": 2.5}


def costs() -> str:
    """The paper profile in operations, hours and money, and larger ones; every factor is in the table or in its note."""
    profile = load_profile("paper")
    train = 16_933 - 1_693  # the database's training part without its validation images
    lines = ["| | teachers, PFLOP | distillation, PFLOP | GPU hours | $ | activations of all steps kept, GB |", "|---|---|---|---|---|---|"]
    for name, times in SCALES.items():
        size = round(profile.data.image_size_px * times.get("image_size_px", 1))
        one = forward_flops(profile.network, 1, 4, size)
        d, steps = profile.distill, round(profile.distill.student_steps * times.get("student_steps", 1))
        teachers = profile.teachers.teachers * training_flops(one, train * times.get("real_images", 1), profile.teachers.kept_epochs)
        distillation = d.iterations * iteration_flops(one, d.batch_size, steps)
        hours = (teachers + distillation) / (ASSUMED["GPU, TFLOP/s"] * 1e12) / 3600
        kept = activation_bytes(profile.network, size, d.batch_size) * steps / 1e9
        cells = [f"{teachers / 1e15:,.0f}", f"{distillation / 1e15:,.0f}", f"{hours:,.1f}", f"{hours * ASSUMED['price, $ an hour']:,.0f}", f"{kept:,.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    p = profile
    lines += ["", f"The `paper` profile: {p.teachers.teachers} teachers of {p.teachers.kept_epochs} epochs on {train:,} images, {p.distill.iterations:,} iterations of"
              f" {p.distill.student_steps} student steps on {p.distill.batch_size} images, width {p.network.width}, depth {p.network.depth}, {p.data.image_size_px} px."
              f" Assumed: {ASSUMED['GPU, TFLOP/s']:g} TFLOP/s sustained and ${ASSUMED['price, $ an hour']:g} an hour; put your own in their place."]
    return "\n".join(lines) + "\n"


def performance(names: tuple[str, ...]) -> str:
    """The rows of results/bench-NAME.json as tables, with the machine that they were measured on."""
    tables = []
    for path in filter(Path.exists, (ROOT / "results" / f"bench-{name}.json" for name in names)):
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
    if "cosine" in row:
        ratio += f"; cosine {row['cosine']:.6f}"
    if "float64_difference" in row:
        ratio += f"; in float64 the two differ by {row['float64_difference']:.0e}"
    return f"| {row['what']} | {setting} | {row['ours']:.3g} | {reference} | {ratio} |"


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


def reliability() -> str:
    """The counts in results/reliability.json as a table."""
    path = ROOT / "results" / "reliability.json"
    if not path.exists():
        return "There are no counts on record yet: the command above makes them.\n"
    record = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| fault | tried | refused with a reason | right result | not survived |", "|---|---|---|---|---|"]
    for name, of in record["kinds"].items():
        cells = [f"{of[outcome]:,}" if outcome in of else "" for outcome in OUTCOMES]
        told = f"not tried: {of['why']}" if "why" in of else ""
        lines.append(f"| {FAULTS.get(name, name)} | " + " | ".join([cells[0], told or cells[1], *cells[2:]]) + " |")
    about = record["about"]
    lines += ["", f"{sum(of['tried'] for of in record['kinds'].values()):,} faults in {sum(of['seconds'] for of in record['kinds'].values()) / 60:.0f} minutes, seed {record['seed']}, commit"
              f" `{about['commit']}`, {about['machine']['processor']}, Python {about['python']}, torch {about['packages']['torch']}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    (ROOT / "book" / "results_measured.txt").write_text(real_results(), encoding="utf-8")
    figures.set_style()
    for name, rows in sweeps().items():
        drawn = figures.show(figures.images_a_class(rows, "balanced_accuracy"), "")
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)
    (ROOT / "book" / "sweeps_measured.txt").write_text(sweep_pages(sweeps()), encoding="utf-8")
    pages = {"performance": performance(("gradient", "paper", "teachers")), "ways": performance(("ways",))}
    records = comparisons()
    for name, drawn in comparison_pictures(records).items():
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)
    pages["comparison"] = comparison_pages(records)
    pages |= {"scaling": performance(("scaling",)), "cost": costs(), "reliability": reliability()}
    for name, text in pages.items():
        (ROOT / "book" / f"{name}_measured.txt").write_text(text, encoding="utf-8")
    study = Study(load_profile("demo"), "phantom", ROOT / "build" / "artifacts", progress=Progress())
    (ROOT / "book" / "assets" / "overview.png").write_bytes(picture(study).content)
    (ROOT / "book" / "found.txt").write_text(found(study), encoding="utf-8")


if __name__ == "__main__":
    main()
