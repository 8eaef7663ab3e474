"""The first page's picture and its findings, from the default study and from the figures of record.

    python workflow/overview.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from medddist import figures
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


def leakages() -> dict[str, dict]:
    """The records in results/leakage-*.json by their names."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results").glob("leakage-*.json"))}


def leakage_pages(found: dict[str, dict]) -> str:
    """Each record's picture and its table, in MyST."""
    told = [] if found else ["Not measured yet: `medddist leakage --profile demo --data phantom --save results` does, and goes on where it was stopped.", ""]
    for name, record in found.items():
        told += [f"```{{image}} assets/{name}.png", f":alt: Balanced accuracy by the area under the attack's curve ({name})", ":width: 100%", "```", ""]
        told += [f"| `{name}` | images a class | balanced accuracy | images started from: found, AUC | other training images: found, AUC |", "|---" * 5 + "|"]
        told += [_of_leakage(row) for row in record["rows"]]
        broken = [f"- {figures.leakage_name(row)}, {row['images_per_class']} a class: {reason}" for row in record["rows"] for reason in row["broken"]]
        told += ["", *(["Where a control was not as it has to be:", "", *broken, ""] if broken else ["All controls were as they have to be.", ""])]
        told += [f"Guaranteed: epsilon {p['epsilon']:.3g} at delta {p['delta']:g} for one {p['unit']}, over {p['composed']['teachers']} teachers with"
                 f" {p['composed']['steps']:,} steps together ({p['accountant']})." for p in _guarantees(record)] + [""]  # fmt: skip
    return "\n".join(told)


def _of_leakage(row: dict) -> str:
    score, cells = row["balanced_accuracy"], []
    for group in ("starting", "others"):
        if (of := row["found"].get(group)) is None:
            cells.append("")
            continue
        hits, area = of["true_positives"], of["auc"]
        cells.append(f"{hits['count']} of {hits['of']}, by chance {of['by_chance'][0]} to {of['by_chance'][1]}; {area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]")
    shown = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    return f"| {figures.leakage_name(row)} | {row['images_per_class']} | {shown} | " + " | ".join(cells) + " |"


def _guarantees(record: dict) -> list[dict]:
    """Those of a record's rows, each once."""
    found = [row["privacy"] for row in record["rows"] if row["privacy"]]
    return [one for k, one in enumerate(found) if one not in found[:k]]


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


def main() -> None:
    (ROOT / "book" / "results_measured.txt").write_text(real_results(), encoding="utf-8")
    figures.set_style()
    for name, rows in sweeps().items():
        drawn = figures.show(figures.images_a_class(rows, "balanced_accuracy"), "")
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)
    (ROOT / "book" / "sweeps_measured.txt").write_text(sweep_pages(sweeps()), encoding="utf-8")
    for name, record in leakages().items():
        drawn = figures.show(figures.leakage(record["rows"], "balanced_accuracy"), "")
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)
    pages = {"leakage": leakage_pages(leakages())}
    pages |= {"performance": performance(("gradient", "paper", "teachers")), "ways": performance(("ways",))}
    pages |= {"scaling": performance(("scaling",)), "cost": costs()}
    for name, text in pages.items():
        (ROOT / "book" / f"{name}_measured.txt").write_text(text, encoding="utf-8")
    study = Study(load_profile("demo"), "phantom", ROOT / "build" / "artifacts", progress=Progress())
    (ROOT / "book" / "assets" / "overview.png").write_bytes(picture(study).content)
    (ROOT / "book" / "found.txt").write_text(found(study), encoding="utf-8")


if __name__ == "__main__":
    main()
