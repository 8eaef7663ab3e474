"""What pages show of the default study and of the figures of record: pictures, tables and sentences
with numbers.

python -m workflow.overview            # all; the default study is computed where it is not there
yet python -m workflow.overview records    # what comes from results/ alone, in seconds
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
from medddist.base.progress import Progress
from medddist.study.profile import load_profile
from medddist.study.study import Study
from workflow import audit_page, comparison_page, leakage_page, reliability_page
from workflow.record_figures import growth, overview
from workflow.words import FORMER, FORMER_JA, mark, with_interval

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "audit": audit_page,
    "comparison": comparison_page,
    "leakage": leakage_page,
    "reliability": reliability_page,
}  # with records of their own: `records`, `text`, `pictures`
SHOWN = ("distilled", "random_balanced", "full_good")


def picture(study: Study) -> figures.Shown:
    result, data = study.distillation(), study.data
    first = np.concatenate(
        [np.flatnonzero(data.train.labels == k)[:4] for k in range(data.classes)]
    )
    some = [
        k * study.profile.distill.images_per_class + i
        for k in range(data.classes)
        for i in range(4)
    ]
    pictures = {
        f"{len(data.train):,} training images (16 of them)": data.train.images[first] / 255,
        f"{len(result.distilled.images)} distilled images (16 of them)": data.pixels(
            result.distilled.images[some].cpu().numpy()
        ),
    }
    rows = [row for row in study.table() if row["method"] in SHOWN]
    return figures.show(overview(pictures, rows, "balanced_accuracy"), "")


def found(study: Study) -> str:
    """A paragraph of figures; every number is the study's or a record's."""
    rows = {row["method"]: row for row in study.table()}
    lead = rows["random_balanced"]["distilled_lead"]["balanced_accuracy"]
    value = lambda method: f"{rows[method]['balanced_accuracy']['mean']:.3f}"
    return (
        "On the phantom (`demo`), networks trained on "
        f"{4 * study.profile.distill.images_per_class} distilled images reach a balanced"
        f" accuracy of {value('distilled')} on test, on as many random real images "
        f"{value('random_balanced')}, on all images"
        f" {value('full_good')}. The lead over random real images is "
        f"{lead['difference']:+.3f}, 95 % interval"
        f" [{lead['low']:+.3f}, {lead['high']:+.3f}].\n"
    )


ANSWERED = ("distilled", "random_balanced", "random_natural", "full_good", "majority")
ANSWER = {
    "head": ("trained on", "images", "balanced accuracy", "accuracy"),
    "note": (
        "Real radiographs (`results/{file}`, {variant} teachers), {test:,} test images, 95 % "
        "intervals."
    ),
    "former": FORMER,
}
ANSWER_JA = {
    "head": ("学習に用いたもの", "枚数", "均衡正解率", "正解率"),
    "note": "実際の胸部X線画像（`results/{file}`、教師は {variant}）、テスト画像 {test:,} 枚、角括弧内は95%区間。",
    "former": FORMER_JA,
    "distilled": "蒸留画像",
    "random_balanced": "無作為な実画像（クラスごとに同数）",
    "random_natural": "無作為な実画像（元の比率）",
    "full_good": "全学習画像",
    "majority": "常に最多クラスと答える",
}


def answer(words: dict = ANSWER) -> str:
    """The first variant of each record on real radiographs in one short table: what is trained on,
    and what it is worth.
    """
    told = []
    for path, record in real_records():
        variant, measured = next(iter(record["variants"].items()))
        counts, sent = (
            measured["data"]["counts"],
            len(measured["data"]["class_names"])
            * measured["settings"]["distill"]["images_per_class"],
        )
        images = {"full_good": sum(counts["train"]), "majority": 0}
        rows = {row["method"]: row for row in measured["rows"]}
        told += ["| " + " | ".join(words["head"]) + " |", "|---|--:|---|---|"]
        for method in filter(rows.get, ANSWERED):
            scores = " | ".join(
                with_interval(rows[method][metric]) for metric in ("balanced_accuracy", "accuracy")
            )
            told.append(
                f"| {words.get(method, rows[method]['label'])} | {images.get(method, sent):,} "
                f"| {scores} |"
            )
        told += [
            "",
            words["note"].format(file=path.name, variant=variant, test=sum(counts["test"])),
            "",
            *mark(record, words["former"]),
        ]
    return "\n".join(told)


def real_records() -> list[tuple[Path, dict]]:
    return [
        (path, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((ROOT / "results").glob("real-*.json"))
    ]


def real_results() -> str:
    """A table a variant of each record on real radiographs."""
    told = []
    for path, record in real_records():
        for variant, measured in record["variants"].items():
            told += [
                *_results_of_variant(f"{path.stem}, variant {variant}", measured),
                *mark(record),
            ]
            told += [
                "```{image} " + f"assets/{_confusions_of(path, variant)}.png",
                f":alt: Confusion matrices on {path.stem}, variant {variant}: rows are"
                " true classes, columns predicted ones, as shares of the "
                "row",
                ":width: 100%",
                "```",
                "",
            ]
    return "\n".join(told)


def _results_of_variant(name: str, measured: dict) -> list[str]:
    counts, metric = measured["data"]["counts"], measured["metric"]
    lines = [
        f"## {name}",
        "",
        f"{sum(counts['train']):,} training, {sum(counts['validation']):,} validation and "
        f"{sum(counts['test']):,} test images; choices by"
        f" {metric.replace('_', ' ')} on validation; seeds {', '.join(measured['by_seed'])}.",
        "",
        "| trained on | accuracy | balanced accuracy | AUROC | lead in "
        f"{metric.replace('_', ' ')} |",
        "|---|---|---|---|---|",
    ]
    for row in measured["rows"]:
        lead = row.get("distilled_lead", {}).get(metric)
        told = (
            f"{lead['difference']:+.3f} [{lead['low']:+.3f},\N{NO-BREAK SPACE}{lead['high']:+.3f}]"
            if lead
            else ""
        )
        lines.append(
            f"| {row['label']} | {with_interval(row['accuracy'])} | "
            f"{with_interval(row['balanced_accuracy'])} | {with_interval(row['auroc'])} | {told} |"
        )
    share = measured["summary"]["share_of_full_good"]
    lines += [
        "",
        f"The distilled images reach {share:.3f} of the {metric.replace('_', ' ')} that all "
        "images by the good recipe do.",
    ]
    minutes = [
        (s["seconds"]["teachers"] + s["seconds"]["distillation"]) / 60
        for s in measured["by_seed"].values()
    ]
    each = ", ".join(f"{one[metric]:.3f}" for one in measured["by_seed"].values())
    lines += [
        "",
        f"By seed, the distilled images: {each}. Teachers and distillation of a seed took "
        f"{min(minutes):.0f} to {max(minutes):.0f} minutes.",
        "",
    ]
    return lines


def _confusions_of(path: Path, variant: str) -> str:
    return f"confusion-{path.stem}-{variant}"


def record_pictures() -> dict[str, figures.Shown]:
    """By file name:

    each sweep, the confusion matrices of each variant of a record, and how cost grows. Numbers
    alone, no radiograph.
    """
    drawn = {
        name: figures.show(figures.images_per_class(rows, "balanced_accuracy"), "")
        for name, rows in sweeps().items()
    }
    for path, record in real_records():
        for variant, measured in record["variants"].items():
            shown = {
                row["label"]: np.array(row["confusion"])
                for row in measured["rows"]
                if row["method"] in SHOWN
            }
            drawn[_confusions_of(path, variant)] = figures.show(
                figures.confusions(shown, measured["data"]["class_names"]), ""
            )
    scaling = ROOT / "results" / "bench-scaling.json"
    if scaling.exists():
        drawn["growth"] = figures.show(
            growth(json.loads(scaling.read_text(encoding="utf-8"))["rows"], GROWING), ""
        )
    for page in PAGES.values():
        drawn |= page.pictures(page.records(ROOT / "results"))
    return drawn


def sweeps() -> dict[str, pd.DataFrame]:
    """The rows of each sweep in results/sweep-*.csv on each data source, by a name for them."""
    found = {}
    for path in sorted((ROOT / "results").glob("sweep-*.csv")):
        sources = pd.read_csv(path, dtype={"seeds": str}).groupby("data")
        found |= {
            path.stem if len(sources) == 1 else f"{path.stem}-{source}": rows
            for source, rows in sources
        }
    return found


def sweep_pages(found: dict[str, pd.DataFrame]) -> str:
    """Each sweep's picture and its table, in MyST."""
    told, records = (
        [],
        {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in (ROOT / "results").glob("sweep-*.json")
        },
    )
    for name, rows in found.items():
        record = next((one for stem, one in records.items() if name.startswith(stem)), {})
        rows = rows[
            (rows["metric"] == "balanced_accuracy") & (rows["seeds"] == max(rows["seeds"], key=len))
        ]
        told += [
            f"```{{image}} assets/{name}.png",
            f":alt: Balanced accuracy by images a class, each method with its interval ({name})",
            ":width: 80%",
            "```",
            "",
        ]
        sizes = sorted(rows["images_per_class"].dropna().astype(int).unique())
        told += [
            f"| `{name}` | " + " | ".join(f"{size} a class" for size in sizes) + " |",
            "|---" * (len(sizes) + 1) + "|",
        ]
        for label, of_method in rows.groupby("label", sort=False):
            by_size = {
                int(size): row
                for size, row in zip(
                    of_method["images_per_class"].fillna(0), of_method.to_dict("records")
                )
            }
            cell = lambda row: with_interval(row) if row else ""
            told.append(
                f"| {label} | "
                + " | ".join(cell(by_size.get(size, by_size.get(0))) for size in sizes)
                + " |"
            )
        told += ["", *mark(record)]
    return "\n".join(told)


# what `python -m benchmarks growth` changes alone, and from where
GROWING = {
    name: getattr(SMALL, name) for name in ("student_steps", "images", "image_size_px", "width")
}

# name, profile's network and counts: teachers, kept epochs, real training images, iterations,
# images a step, student steps
SCALES = {
    "the poster's study": {},
    "ten times the real images": {"real_images": 10},
    "ten times the distilled images, in ten times the steps": {"student_steps": 10},
    "ten times the pixels": {"image_size_px": 10**0.5},
}
ASSUMED = {"GPU, TFLOP/s": 20.0, "price, $ an hour": 2.5}


def costs() -> str:
    """The paper profile in operations, hours and money, and larger ones; every factor is in the
    table or in its note.
    """
    profile = load_profile("paper")
    train = 16_933 - 1_693  # the database's training part without its validation images
    lines = [
        "| | teachers, PFLOP | distillation, PFLOP | by differences | GPU hours | $ |",
        "|---" * 6 + "|",
    ]
    for name, times in SCALES.items():
        size = round(profile.data.image_size_px * times.get("image_size_px", 1))
        one = forward_flops(profile.network, 1, 4, size)
        d, steps = (
            profile.distill,
            round(profile.distill.student_steps * times.get("student_steps", 1)),
        )
        teachers = profile.teachers.teachers * training_flops(
            one, train * times.get("real_images", 1), profile.teachers.kept_epochs
        )
        distillation, by_differences = (
            d.iterations * iteration_flops(one, d.batch_size, steps, *passes)
            for passes in ((), (DIFFERENCE_PASSES,))
        )
        hours = (teachers + distillation) / (ASSUMED["GPU, TFLOP/s"] * 1e12) / 3600
        cells = [
            f"{teachers / 1e15:,.0f}",
            f"{distillation / 1e15:,.0f}",
            f"{by_differences / 1e15:,.0f}",
            f"{hours:,.1f}",
            f"{hours * ASSUMED['price, $ an hour']:,.0f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    p = profile
    lines += [
        "",
        f"The `paper` profile: {p.teachers.teachers} teachers of {p.teachers.kept_epochs} "
        f"epochs on {train:,} images, {p.distill.iterations:,} iterations of"
        f" {p.distill.student_steps} student steps on {p.distill.batch_size} images, width "
        f"{p.network.width}, depth {p.network.depth}, {p.data.image_size_px} px."
        f" Assumed: {ASSUMED['GPU, TFLOP/s']:g} TFLOP/s sustained and "
        f"${ASSUMED['price, $ an hour']:g} an hour; put your own in their place. Hours and "
        "money are of exact gradients.",
    ]
    return "\n".join(lines) + "\n"


def performance(names: tuple[str, ...]) -> str:
    """The rows of results/bench-NAME.json, and of bench-NAME-cuda.json, as tables, with the machine
    that they were measured on.
    """
    tables = []
    for path in filter(
        Path.exists,
        (ROOT / "results" / f"bench-{name}{on}.json" for name in names for on in ("", "-cuda")),
    ):
        record = json.loads(path.read_text(encoding="utf-8"))
        machine, packages = record["about"]["machine"], record["about"]["packages"]
        where = machine.get("gpu") or f"{machine['processor']}, {machine['threads']} threads"
        tables += [f"`{path.stem}`, {where}, torch {packages['torch']}:", ""]
        tables += ["| what | setting | here | reference | ratio |", "|---|---|---|---|---|"]
        tables += [_of_bench(row) for row in record["rows"]] + [""]
    return "\n".join(tables)


def gradients() -> str:
    """The rows of results/gradients-*.json as a table."""
    lines = [
        "| profile and data | way | metric | by it | by the exact gradient | difference |",
        "|---" * 6 + "|",
    ]
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "results").glob("gradients-*.json"))
    ]
    for record in records:
        measured = f"{record['profile']}, {Path(record['source']).stem}"
        lines += [f"| {measured} | {_of_worth(row)} |" for row in record["rows"]]
    marked = next(filter(None, map(mark, records)), [])
    return "\n".join([*lines, "", *marked]).rstrip("\n") + "\n"


def _of_worth(row: dict) -> str:
    if "metric" in row:  # as records of version 0.1.0 have it
        names = {"what": row["metric"], "ours": row["by_way"], "reference": row["by_exact"]}
        row = row | names | {"setting": {"way": row["way"]}}
    cells = f"{row['setting']['way']} | {row['what'].replace('_', ' ')}"
    cells += f" | {row['ours']:.3f} | {row['reference']:.3f}"
    if "difference" not in row:
        return f"{cells} |"
    return f"{cells} | {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _of_bench(row: dict) -> str:
    setting = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in row["setting"].items()
        if value is not None
    )
    reference, ratio = "", ""
    if row["reference"] is not None:
        reference, ratio = f"{row['reference']:.3g}", f"{row['ratio']:.2f}"
        if row["ratio_low"] != row["ratio_high"]:
            ratio += f" ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    if "cosine" in row:
        ratio += f"; cosine {row['cosine']:.6f}"
    if "float64_difference" in row:
        ratio += f"; in float64 the two differ by {row['float64_difference']:.0e}"
    what = row["what"].replace(
        "seconds an iteration", "seconds per iteration"
    )  # in 0.1.0's records
    return f"| {what} | {setting} | {row['ours']:.3g} | {reference} | {ratio} |"


def write_records() -> None:
    """Pages and pictures that come from results/ alone."""
    pages = {
        "results_measured": real_results(),
        "answer_measured": answer(),
        "answer_measured_ja": answer(ANSWER_JA),
        "sweeps_measured": sweep_pages(sweeps()),
    }
    pages |= {
        "performance_measured": performance(("gradient", "paper", "teachers")),
        "ways_measured": performance(("ways",)),
    }
    pages |= {
        "scaling_measured": performance(("scaling",)),
        "gradients_measured": gradients(),
        "cost_measured": costs(),
    }
    pages |= {
        f"{name}_measured": page.text(page.records(ROOT / "results"))
        for name, page in PAGES.items()
    }
    for name, text in pages.items():
        (ROOT / "book" / f"{name}.txt").write_text(text, encoding="utf-8")
    for name, drawn in record_pictures().items():
        (ROOT / "book" / "assets" / f"{name}.png").write_bytes(drawn.content)


def main() -> None:
    figures.set_style()
    write_records()
    if sys.argv[1:] == ["records"]:
        return
    study = Study(
        load_profile("demo"), "phantom", ROOT / "build" / "artifacts", progress=Progress()
    )
    (ROOT / "book" / "assets" / "overview.png").write_bytes(picture(study).content)
    (ROOT / "book" / "found.txt").write_text(found(study), encoding="utf-8")


if __name__ == "__main__":
    main()
