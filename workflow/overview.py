"""Writes what pages show of the default study and of the reference results: pictures, tables, and
sentences with numbers.

    python -m workflow.overview            # all; computes the default study if it is not cached
    python -m workflow.overview records    # only what comes from results/, in seconds
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.flops import (
    DIFFERENCE_PASSES,
    forward_flops,
    iteration_flops,
    training_flops,
)
from benchmarks.problems import SMALL
from medddist import figures
from medddist.base.progress import Bar
from medddist.study.profile import load_profile
from medddist.study.study import Study
from workflow import (
    across_page,
    audit_page,
    beyond_page,
    comparison_page,
    confounding_page,
    front_page,
    guarantee_page,
    hospitals_page,
    leakage_page,
    reliability_page,
    tried_page,
    weights_page,
)
from workflow.record_figures import growth, overview
from workflow.words import (
    corrected,
    data_of,
    difference,
    mark,
    method_of,
    relabelled,
    today,
    variant_of,
    with_interval,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = {  # modules with `records`, `text` and `pictures` of their own
    "across": across_page,
    "audit": audit_page,
    "beyond": beyond_page,
    "comparison": comparison_page,
    "confounding": confounding_page,
    "guarantee": guarantee_page,
    "hospitals": hospitals_page,
    "leakage": leakage_page,
    "reliability": reliability_page,
    "tried": tried_page,
    "weights": weights_page,
}
SHOWN = ("distilled", "random_balanced", "full_good")


def picture(study: Study) -> figures.Shown:
    """Draw the overview: some images of each kind, and the scores of networks trained on them."""
    result, data = study.distillation(), study.data
    per_class = study.profile.distill.images_per_class
    first = np.concatenate(
        [np.flatnonzero(data.train.labels == k)[:4] for k in range(data.classes)]
    )
    some = [k * per_class + i for k in range(data.classes) for i in range(4)]
    distilled = result.distilled.images
    pictures = {
        f"{len(data.train):,} training images (16 of them)": data.train.images[first] / 255,
        f"{len(distilled)} distilled images (16 of them)": data.pixels(
            distilled[some].cpu().numpy()
        ),
    }
    rows = [row for row in study.table() if row["method"] in SHOWN]
    return figures.show(overview(pictures, rows, "balanced_accuracy"), "")


def summary(study: Study) -> str:
    """Write the overview's picture and a paragraph; every number is the default study's own."""
    rows = {row["method"]: row for row in study.table()}
    paired = rows["random_balanced"]["distilled_lead"]["balanced_accuracy"]
    value = lambda method: f"{rows[method]['balanced_accuracy']['mean']:.3f}"
    images = study.data.classes * study.profile.distill.images_per_class
    alt = (
        "Training images of the phantom, the distilled images learned from them, and the balanced "
        f"accuracy of networks trained on each: {value('distilled')} on {images} distilled images, "
        f"{value('random_balanced')} on {images} random real images, {value('full_good')} on all."
    )
    return (
        f"```{{image}} assets/overview.png\n:alt: {alt}\n:width: 560px\n```\n\n"
        f"On the phantom (profile `demo`), networks trained on {images} distilled images reach a "
        f"balanced accuracy of {value('distilled')} on test. Networks trained on an equal number "
        f"of random real images reach {value('random_balanced')}, and networks trained on all "
        f"images {value('full_good')}. The paired difference, distilled minus random real images, "
        f"is {paired['difference']:+.3f} with a 95 % interval of "
        f"[{paired['low']:+.3f}, {paired['high']:+.3f}].\n"
    )


def real_records() -> list[tuple[Path, dict]]:
    return [
        (path, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(RESULTS.glob("real-*.json"))
    ]


def real_results() -> str:
    """Write a table for each variant of each record on real radiographs."""
    lines = []
    for path, record in real_records():
        for variant, measured in record["variants"].items():
            rows = relabelled(measured["rows"])
            title = variant_of(variant)
            lines += [f"## {title[0].upper()}{title[1:]}", ""]
            lines += [*_results_of_variant(measured, rows), *mark(record)]
            lines += [
                "```{image} " + f"assets/{_confusions_of(path, variant)}.png",
                f":alt: {_confusions_in_words(title, measured['data']['class_names'], rows)}",
                "```",
                "",
            ]
    return "\n".join(lines)


def _results_of_variant(measured: dict, rows: list[dict]) -> list[str]:
    counts, metric, distill = (
        measured["data"]["counts"],
        measured["metric"],
        measured["settings"]["distill"],
    )
    name = metric.replace("_", " ")
    lines = [
        f"{sum(counts['train']):,} training, {sum(counts['validation']):,} validation and "
        f"{sum(counts['test']):,} test images. Distilled by {method_of(measured['settings'])}; "
        f"{distill['iterations']} iterations per seed. Selection by {name} on validation. Seeds "
        f"{', '.join(measured['by_seed'])}.",
        "",
        "| trained on | accuracy | balanced accuracy | AUROC | distilled minus row, accuracy | "
        "distilled minus row, balanced accuracy |",
        "|---" * 6 + "|",
    ]
    for row in rows:
        scores = (with_interval(row[key]) for key in ("accuracy", "balanced_accuracy", "auroc"))
        leads = map(row.get("distilled_lead", {}).get, ("accuracy", "balanced_accuracy"))
        cells = [row["label"], *scores, *(difference(lead) if lead else "" for lead in leads)]
        lines.append(f"| {' | '.join(cells)} |")
    share = measured["summary"]["share_of_full_good"]
    score = {row["method"]: row[metric]["mean"] for row in rows}
    guess = score["majority"]
    above = corrected(score["distilled"], score["full_good"], guess)
    minutes = [sum(seed["seconds"].values()) / 60 for seed in measured["by_seed"].values()]
    by_seed = ", ".join(f"{seed[metric]:.3f}" for seed in measured["by_seed"].values())
    return [
        *lines,
        "",
        f"The distilled images reach {share:.3f} of the {name} of all images with tuned training. "
        f"Corrected for chance, counted from the {guess:.3f} of a classifier that always predicts "
        f"the majority class, the share is {above:.3f}.",
        "",
        f"Distilled images by seed: {by_seed}. The distillation of one seed, with the teachers or "
        f"networks that it needs, took {min(minutes):.0f} to {max(minutes):.0f} minutes.",
        "",
    ]


def _confusions_in_words(title: str, classes: list[str], rows: list[dict]) -> str:
    """Describe the confusion matrices by their diagonals, the sensitivities."""
    parts = []
    for row in (row for row in rows if row["method"] in SHOWN):
        matrix = np.array(row["confusion"])
        shares = matrix.diagonal() / matrix.sum(1)
        each = ", ".join(f"{name} {share:.2f}" for name, share in zip(classes, shares))
        parts.append(f"{row['label']}: {each}")
    return f"Confusion matrices, {title}. Sensitivities: {'; '.join(parts)}."


def _confusions_of(path: Path, variant: str) -> str:
    return f"confusion-{path.stem}-{variant}"


def record_pictures() -> dict[str, figures.Shown]:
    """Draw each sweep, the confusion matrices of each variant of a record, and how cost grows, by
    file name. They show numbers alone, no radiograph.
    """
    drawn = {
        name: figures.show(figures.images_per_class(rows, "balanced_accuracy"), "")
        for name, rows in sweeps().items()
    }
    for path, record in real_records():
        for variant, measured in record["variants"].items():
            shown = {
                row["label"]: np.array(row["confusion"])
                for row in relabelled(measured["rows"])
                if row["method"] in SHOWN
            }
            figure = figures.confusions(shown, measured["data"]["class_names"])
            drawn[_confusions_of(path, variant)] = figures.show(figure, "")
    scaling = RESULTS / "bench-scaling.json"
    if scaling.exists():
        rows = json.loads(scaling.read_text(encoding="utf-8"))["rows"]
        rows = [row | {"what": today(row["what"])} for row in rows]
        drawn["growth"] = figures.show(growth(rows, GROWING), "")
    for page in PAGES.values():
        drawn |= page.pictures(page.records(RESULTS))
    return drawn


def sweeps() -> dict[str, pd.DataFrame]:
    """Read the rows of each sweep in results/sweep-*.csv, by file name and data source."""
    by_name = {}
    for path in sorted(RESULTS.glob("sweep-*.csv")):
        table = pd.read_csv(path, dtype={"seeds": str})
        table["label"] = table["label"].map(today)
        sources = table.groupby("data")
        by_name |= {
            path.stem if len(sources) == 1 else f"{path.stem}-{source}": rows
            for source, rows in sources
        }
    return by_name


def sweep_pages(sweeps: dict[str, pd.DataFrame]) -> str:
    """Write each sweep's picture and table, in MyST."""
    records = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in RESULTS.glob("sweep-*.json")
    }
    lines = []
    for name, rows in sweeps.items():
        record = next((found for stem, found in records.items() if name.startswith(stem)), {})
        rows = rows[
            (rows["metric"] == "balanced_accuracy") & (rows["seeds"] == max(rows["seeds"], key=len))
        ]
        sizes = sorted(rows["images_per_class"].dropna().astype(int).unique())
        heads = " | ".join(f"{size} per class" for size in sizes)
        table, alt = [f"| trained on | {heads} |", "|---" * (len(sizes) + 1) + "|"], []
        for label, own in rows.groupby("label", sort=False):
            by_size = dict(zip(own["images_per_class"].fillna(0), own.to_dict("records")))
            scores = [by_size.get(size, by_size.get(0)) for size in sizes]
            cells = (with_interval(score) if score else "" for score in scores)
            table.append(f"| {label} | " + " | ".join(cells) + " |")
            if all(scores):
                alt.append(f"{label}: {scores[0]['mean']:.3f} to {scores[-1]['mean']:.3f}")
        lines += [
            f"```{{image}} assets/{name}.png",
            f":alt: Balanced accuracy by images per class, from {sizes[0]} to {sizes[-1]}. "
            f"{'; '.join(alt)}.",
            ":width: 80%",
            "```",
            "",
        ]
        lines += [*table, "", *mark(record)]
    return "\n".join(lines)


# the settings that `python -m benchmarks growth` changes one at a time, with their base values
GROWING = {
    name: getattr(SMALL, name) for name in ("student_steps", "images", "image_size_px", "width")
}

# larger studies than the paper profile: which counts are multiplied, by how much
SCALES = {
    "the poster's study": {},
    "ten times the real images": {"real_images": 10},
    "ten times the distilled images and student steps": {"student_steps": 10},
    "ten times the pixels": {"image_size_px": 10**0.5},
}
ASSUMED = {"GPU, TFLOP/s": 20.0, "price, $ per hour": 2.5}


def costs() -> str:
    """Write the paper profile and larger studies in operations, hours and money; every factor is in
    the table or in its note.
    """
    profile = load_profile("paper")
    teachers, distill, network = profile.teachers, profile.distill, profile.network
    train = 16_933 - 1_693  # the database's training part without its validation images
    rate, price = ASSUMED["GPU, TFLOP/s"], ASSUMED["price, $ per hour"]
    lines = [
        "| study | teachers, PFLOP | distillation, PFLOP | distillation by finite differences, "
        "PFLOP | GPU hours | $ |",
        "|---" * 6 + "|",
    ]
    for name, times in SCALES.items():
        size = round(profile.data.image_size_px * times.get("image_size_px", 1))
        forward = forward_flops(network, 1, 4, size)
        steps = round(distill.student_steps * times.get("student_steps", 1))
        images = train * times.get("real_images", 1)
        of_teachers = teachers.teachers * training_flops(forward, images, teachers.kept_epochs)
        exact, by_differences = (
            distill.iterations * iteration_flops(forward, distill.batch_size, steps, *passes)
            for passes in ((), (DIFFERENCE_PASSES,))
        )
        hours = (of_teachers + exact) / (rate * 1e12) / 3600
        counts = (of_teachers / 1e15, exact / 1e15, by_differences / 1e15)
        cells = [*(f"{count:,.0f}" for count in counts), f"{hours:,.1f}", f"{hours * price:,.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"The `paper` profile: {teachers.teachers} teachers of {teachers.kept_epochs} epochs on "
        f"{train:,} images; {distill.iterations:,} iterations of {distill.student_steps} student "
        f"steps on {distill.batch_size} images; width {network.width}, depth {network.depth}, "
        f"{profile.data.image_size_px} px. Assumed: {rate:g} TFLOP/s sustained and ${price:g} per "
        "hour; replace these with your own figures. Hours and money are for exact gradients.",
    ]
    return "\n".join(lines) + "\n"


BENCHMARKS = {  # title of results/bench-NAME.json
    "gradient": "The gradient of one iteration",
    "paper": "One iteration of the paper's shape",
    "teachers": "Training of teachers",
    "real-loss": "An iteration of the loss on real images",
    "budget": "The loss on real images beside trajectory matching, by time",
    "ways": "Ways to compute the gradient",
    "scaling": "Growth with one setting at a time",
}


def performance(names: tuple[str, ...]) -> str:
    """Write results/bench-NAME.json and bench-NAME-cuda.json as tables, each with its machine."""
    lines = []
    for name in names:
        for path in (RESULTS / f"bench-{name}{device}.json" for device in ("", "-cuda")):
            if not path.exists():
                continue
            record = json.loads(path.read_text(encoding="utf-8"))
            machine, packages = record["about"]["machine"], record["about"]["packages"]
            where = machine.get("gpu") or f"{machine['processor']}, {machine['threads']} threads"
            lines += [
                f"**{BENCHMARKS[name]}** (`results/{path.name}`; {where}, torch "
                f"{packages['torch']}):",
                "",
                "| measured | setting | this library | reference | ratio |",
                "|---|---|---|---|---|",
                *map(_of_bench, record["rows"]),
                "",
            ]
    return "\n".join(lines)


def gradients() -> str:
    """Write the rows of results/gradients-*.json as a table."""
    lines = [
        "| data | gradient | metric | with this gradient | with the exact gradient | paired "
        "difference |",
        "|---" * 6 + "|",
    ]
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("gradients-*.json"))
    ]
    for record in records:
        lines += [f"| {data_of(record)} | {_of_worth(row)} |" for row in record["rows"]]
    marked = next(filter(None, map(mark, records)), [])
    return "\n".join([*lines, "", *marked]).rstrip("\n") + "\n"


def _of_worth(row: dict) -> str:
    if "metric" in row:  # as records of version 0.1.0 have it
        names = {"what": row["metric"], "ours": row["by_way"], "reference": row["by_exact"]}
        row = row | names | {"setting": {"way": row["way"]}}
    way = {"difference": "finite differences"}.get(row["setting"]["way"], row["setting"]["way"])
    cells = f"{way} | {row['what'].replace('_', ' ')}"
    cells += f" | {row['ours']:.3f} | {row['reference']:.3f}"
    return f"{cells} | {difference(row)}" if "difference" in row else f"{cells} |"


def _of_bench(row: dict) -> str:
    setting = ", ".join(
        f"image size {value} px" if name == "image_size_px" else f"{name.replace('_', ' ')} {value}"
        for name, value in row["setting"].items()
        if value is not None
    )
    reference, ratio = "", ""
    if row["reference"] is not None:
        reference, ratio = _number(row["reference"]), f"{row['ratio']:.2f}"
        if row["ratio_low"] != row["ratio_high"]:
            ratio += f" ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    if "cosine" in row:
        ratio += f"; cosine {row['cosine']:.6f}"
    if "float64_difference" in row:
        ratio += f"; in float64 the two differ by {row['float64_difference']:.0e}"
    what, setting = today(row["what"]), today(setting)
    return f"| {what} | {setting} | {_number(row['ours'])} | {reference} | {ratio} |"


def _number(value: float) -> str:
    """Three digits, or a whole number where there are more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def write_records() -> None:
    """Write the pages' texts and pictures that come from results/ alone."""
    pages = {
        "results_measured": real_results(),
        "front_worth": front_page.worth(RESULTS),
        "front_worth_ja": front_page.worth(RESULTS, front_page.JAPANESE),
        "front_short": front_page.short(RESULTS),
        "front_short_ja": front_page.short(RESULTS, front_page.JAPANESE),
        "front_hospitals": front_page.hospitals(RESULTS),
        "front_hospitals_ja": front_page.hospitals(RESULTS, front_page.JAPANESE),
        "front_guarantee": front_page.guaranteed(RESULTS),
        "front_guarantee_ja": front_page.guaranteed(RESULTS, front_page.JAPANESE),
        "sweeps_measured": sweep_pages(sweeps()),
        "performance_measured": performance(("gradient", "paper", "teachers")),
        "real_loss_measured": performance(("real-loss", "budget")),
        "ways_measured": performance(("ways",)),
        "scaling_measured": performance(("scaling",)),
        "gradients_measured": gradients(),
        "cost_measured": costs(),
    }
    for name, page in PAGES.items():
        pages[f"{name}_measured"] = page.text(page.records(RESULTS))
    for name, text in pages.items():
        (ROOT / "book" / f"{name}.txt").write_text(text, encoding="utf-8")
    for name, drawn in record_pictures().items():
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)


def main() -> None:
    figures.set_style()
    write_records()
    if sys.argv[1:] == ["records"]:
        return
    study = Study(load_profile("demo"), "phantom", ROOT / "build" / "artifacts", progress=Bar())
    (ROOT / "book" / "assets" / "overview.png").write_bytes(picture(study).content)
    (ROOT / "book" / "found.txt").write_text(summary(study), encoding="utf-8")


if __name__ == "__main__":
    main()
