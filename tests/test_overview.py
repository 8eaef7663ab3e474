"""The pages' figures are made from files in results/, never typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import medddist
from medddist import figures
from medddist.measure import metrics
from medddist.study.profile import Profile
from workflow import (
    api_page,
    comparison_page,
    leakage_page,
    overview,
    reliability_page,
    settings_page,
)
from workflow.record_figures import growth

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(overview, "ROOT", tmp_path)
    monkeypatch.setattr(overview, "RESULTS", tmp_path / "results")
    return tmp_path


def sweep_rows(data: str) -> list[dict]:
    shared = {"data": data, "networks": 2, "std": 0.0}
    rows = []
    for metric in ("accuracy", "balanced_accuracy"):
        for seeds in ("0", "1", "0 1"):
            for size in (1, 10):
                score = {"mean": 0.1 * size**0.5, "low": 0.05, "high": 0.4}
                rows.append(
                    shared
                    | {
                        "method": "distilled",
                        "label": "distilled images",
                        "images_per_class": size,
                        "seeds": seeds,
                        "metric": metric,
                    }
                    | score
                )
            full = {"mean": 0.9, "low": 0.8, "high": 0.95, "images_per_class": None}
            rows.append(
                shared
                | {"method": "full_good", "label": "all images", "seeds": seeds, "metric": metric}
                | full
            )
    return rows


def test_a_sweep_is_a_picture_and_a_table_for_each_data_source(root):
    pd.DataFrame(sweep_rows("a") + sweep_rows("b")).astype({"images_per_class": "Int64"}).to_csv(
        root / "results" / "sweep-x-a-b.csv", index=False
    )
    found = overview.sweeps()
    assert list(found) == ["sweep-x-a-b-a", "sweep-x-a-b-b"]
    for rows in found.values():
        axes = figures.images_per_class(rows, "balanced_accuracy").axes[0]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "distilled images",
            "all images",
        ]
        assert list(axes.lines[0].get_ydata()) == pytest.approx([0.1, 0.1 * 10**0.5])
        figures.plt.close(axes.figure)
    page = overview.sweep_pages(found).replace("\N{NO-BREAK SPACE}", " ")
    assert (
        page.count("```{image}") == 2
        and page.count(":alt: Balanced accuracy by images per class") == 2
    )
    assert "| distilled images | 0.100 [0.050, 0.400] | 0.316 [0.050, 0.400] |" in page
    assert "| all images | 0.900 [0.800, 0.950] | 0.900 [0.800, 0.950] |" in page


def test_no_results_no_pages(root):
    assert (
        overview.sweeps() == {}
        and overview.sweep_pages({}) == ""
        and overview.performance(("gradient",)) == ""
    )
    for page in overview.PAGES.values():
        assert page.records(root / "results") == {} == page.pictures({})
    assert (
        leakage_page.text({}).startswith("Not measured yet. `.venv/bin/medddist leakage")
        and comparison_page.text({}) == ""
    )


def test_a_benchmark_is_a_table_with_its_machine(root):
    row = {
        "what": "seconds",
        "setting": {"way": "sweep", "batch_size": None},
        "ours": 1.0,
        "reference": 2.0,
        "ratio": 0.5,
        "ratio_low": 0.4,
        "ratio_high": 0.6,
        "cosine": 1.0,
    }
    about = {"machine": {"processor": "P", "threads": 2}, "packages": {"torch": "2"}}
    (root / "results" / "bench-ways.json").write_text(json.dumps({"rows": [row], "about": about}))
    page = overview.performance(("gradient", "ways"))
    assert (
        "**Ways to compute the gradient** (`results/bench-ways.json`; P, 2 threads, torch 2):"
        in page
    )
    assert "| seconds | way sweep | 1 | 2 | 0.50 (0.40 to 0.60); cosine 1.000000 |" in page


def test_costs_grow_with_what_is_multiplied():
    rows = [
        line.split("|")[1:-1] for line in overview.costs().splitlines() if line.startswith("| ")
    ][1:]
    value = lambda row, column: float(rows[row][column].replace(",", ""))
    assert len(rows) == len(overview.SCALES)
    assert value(1, 1) == pytest.approx(10 * value(0, 1), rel=0.03) and value(1, 2) == value(0, 2)
    assert value(2, 2) == pytest.approx(10 * value(0, 2), rel=0.03)
    assert 8 < value(3, 2) / value(0, 2) < 11
    assert all(
        value(row, 3) == pytest.approx(6 / 11 * value(row, 2), rel=0.05) for row in range(len(rows))
    )


def real_record() -> dict:
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    rows = [
        {"method": name, "label": f"the {name}", "accuracy": score, "balanced_accuracy": score}
        for name in ("distilled", "full_good", "initial")
    ]
    data = {"class_names": ["a", "b"], "counts": {"train": [1000, 234], "test": [30, 10]}}
    return {
        "variants": {
            "v": {"rows": rows, "data": data, "settings": {"distill": {"images_per_class": 5}}},
            "w": {},
        }
    }


@pytest.mark.parametrize("record, marked", [({}, True), ({"interval": metrics.INTERVAL}, False)])
def test_pages_mark_intervals_on_record_that_are_of_the_former_kind(root, record, marked):
    results = root / "results"
    pd.DataFrame(sweep_rows("a")).to_csv(results / "sweep-x-a.csv", index=False)
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    origins = {"class_from_origin": None, "probes": [], "by_origin": {}, "confounding": []}
    compare = {
        "pretrain": {"released_steps": 1, "inside_steps": 1, "batch_size": 1},
        "evaluation_seeds": 2,
        "epochs": 1,
        "batch_size": 1,
        "learning_rates": [],
        "grid": [],
    }
    settings = {"distill": {"images_per_class": 1}, "compare": compare}
    leak = {
        "label": "x",
        "start": None,
        "images_per_class": 1,
        "accuracy": score,
        "balanced_accuracy": score,
        "found": {},
        "privacy": None,
        "broken": [],
    }
    gradient = {
        "way": "w",
        "metric": "accuracy",
        "by_way": 0.5,
        "by_exact": 0.5,
        "difference": 0.0,
        "low": -0.1,
        "high": 0.1,
    }
    for name, of in {
        "real-x": real_record(),
        "sweep-x-a": {},
        "compare-x": {"rows": [], "settings": settings, "origins": origins},
        "gradients-x": {"profile": "p", "source": "s", "rows": [gradient]},
        "leakage-x": {"rows": [leak]},
    }.items():
        (results / f"{name}.json").write_text(json.dumps(of | record))
    pages = [overview.sweep_pages(overview.sweeps()), overview.gradients()]
    pages += [page.text(page.records(results)) for page in (comparison_page, leakage_page)]
    assert ["former method" in page for page in pages] == [marked] * len(pages)


def compared(table: str, method: str, network: str = "convnet", **more) -> dict:
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {"table": table, "method": method, "network": network, "label": method}
    row |= {"status": "measured", "reason": "", "seconds": 1, "per_class": {"a": {}, "b": {}}}
    row |= {"accuracy": score, "balanced_accuracy": score, "real_images_leave": False}
    return row | {"released": "images", "bytes_released": 2 * 10 * (64 + 1)} | more


def comparison(source: str, rows: list[dict]) -> dict:
    pretrain = {"released_steps": 1, "inside_steps": 1, "batch_size": 1}
    compare = {"pretrain": pretrain, "evaluation_seeds": 2, "epochs": 1, "batch_size": 1}
    compare |= {"learning_rates": [], "grid": [], "architectures": {"width": 8}}
    settings = {"distill": {"images_per_class": 10, "labels": "hard"}, "compare": compare}
    settings["data"] = {"image_size_px": 8, "channels": 1}
    origins = {"class_from_origin": None, "probes": [], "by_origin": {}, "confounding": []}
    about = {"source": source, "interval": metrics.INTERVAL, "origins": origins}
    return about | {"rows": rows, "settings": settings}


def test_the_comparison_says_each_thing_once_and_what_is_sent_today():
    better, worse = ({"mean": mean, "low": mean, "high": mean} for mean in (0.9, 0.8))
    network = {"released": "network", "bytes_released": 4 * 1234}
    rows = [
        compared("released", "distilled"),
        compared("released", "random_real"),
        compared("released", "scratch"),
        compared("released", "scratch", "vit"),
        compared("inside", "scratch", **network),
        compared("inside", "byol", "resnet18", **network),
        compared("inside", "full_teacher", **network, balanced_accuracy=better),
        compared("inside", "full_good", **network, balanced_accuracy=worse),
    ]
    page = comparison_page.text({"compare-x": comparison("x.npz", rows)})
    scratch = "| random real images, from scratch |"
    assert page.count(f"{scratch} ConvNet") == 1 and page.count(f"{scratch} small ViT") == 1
    assert "8 channels in its first block instead of 64, and 1,234 parameters instead of" in page
    assert "A set of 20 images is sent as 1,300 bytes: one byte per pixel" in page
    assert "before packages held pixels of 8 bits" not in page
    assert "accuracy of 0.800 [0.800,\N{NO-BREAK SPACE}0.800], less than teacher training" in page
    rows[0]["bytes_released"], rows[-1]["balanced_accuracy"] = 2 * 10 * (4 * 64 + 1), better
    page = comparison_page.text({"compare-x": comparison("x.npz", rows)})
    assert "is sent as 1,300 bytes" in page and "a set took 5,140 bytes" in page
    assert "less than teacher training" not in page


def test_the_phantoms_comparison_is_folded_and_last_and_has_no_figures():
    records = {
        "compare-a": comparison("phantom", [compared("released", "distilled")]),
        "compare-b": comparison("b.npz", [compared("released", "distilled")]),
    }
    page = comparison_page.text(records)
    assert page.index("## On real radiographs") < page.index("## On the phantom")
    assert "assets/compare-b-released.png" in page and "compare-a" not in page
    folded = page.split("````{dropdown}")[1]
    assert "| distilled | ConvNet |" in folded and "#" not in folded


def test_growth_is_drawn_as_ratios():
    row = {
        "what": "peak MiB",
        "setting": {"images": 80},
        "ratio": 2.2,
        "ratio_low": 2.0,
        "ratio_high": 2.4,
    }
    _, memory = growth([row, row | {"setting": {"images": 80, "width": 64}}], {"images": 40}).axes
    assert list(memory.lines[0].get_xdata()) == [1, 2] and list(memory.lines[0].get_ydata()) == [
        1,
        2.2,
    ]
    figures.plt.close(memory.figure)


def test_faults_are_a_table_with_what_was_not_tried(root):
    assert "No counts have been recorded" in reliability_page.text(
        reliability_page.records(root / "results")
    )
    kinds = {
        "kills": {"tried": 1200, "refused": 0, "right": 1200, "failures": 0, "seconds": 60},
        "x": {"tried": 0, "why": "no root", "seconds": 0},
    }
    about = {
        "commit": "c",
        "machine": {"processor": "P"},
        "python": "3",
        "packages": {"torch": "2"},
    }
    (root / "results" / "reliability.json").write_text(
        json.dumps({"kinds": kinds, "seed": 0, "about": about})
    )
    page = reliability_page.text(reliability_page.records(root / "results"))
    assert (
        "then started again | 1,200 | 0 | 1,200 | 0 |" in page
        and "| x | 0 | not tried: no root |  |  |" in page
    )
    assert "1,200 faults in 1 minutes" in page


def test_readmes_caption_of_the_overview_has_the_numbers_of_the_default_study():
    numbers = re.findall(r"0\.\d{3}", (REPOSITORY / "book" / "found.txt").read_text("utf-8"))[:3]
    text = (REPOSITORY / "README.md").read_text("utf-8")
    caption = next(line for line in text.splitlines() if line.startswith((":alt:", "![")))
    assert sorted(re.findall(r"0\.\d\d", caption)) == sorted(f"{float(n):.2f}" for n in numbers)


def test_the_librarys_page_lists_every_room_and_is_written_from_the_tree():
    pages, book = api_page.pages(), REPOSITORY / "book"
    assert {path: (book / path).read_text("utf-8") for path in pages} == pages
    for room in api_page.ROOMS:
        assert all(
            f"\n| `{api_page._short(name)}` | " in pages["api.md"]
            for name in api_page.modules(room)
        )
    contents = (REPOSITORY / "_toc.yml").read_text("utf-8")
    assert all(f"file: {path.removesuffix('.md')}\n" in contents for path in pages)
    top = {path.stem for path in (REPOSITORY / "medddist").glob("[a-z]*") if path.is_dir()}
    assert top - {"cli", "profiles", "template"} <= set(api_page.ROOMS)


def test_every_public_name_has_a_section_on_the_librarys_page():
    sections = (REPOSITORY / "book" / "api.md").read_text("utf-8").split("## All modules")[0]
    for name in set(medddist.__all__) - {"__version__"}:
        assert re.search(
            rf"\n## {name}\n\n.*\n\.\. auto\w+:: medddist\.[\w.]+\.{name}\n", sections
        ), name


def test_every_setting_is_on_the_page_of_settings_and_explained():
    """A new setting needs a comment behind it, or a line in its model's docstring."""
    uses = settings_page._uses(Profile)
    for kind in (Profile, *uses):
        said = settings_page.explained(kind)
        own = {name: settings_page._model(field) for name, field in kind.model_fields.items()}
        unexplained = [name for name, model in own.items() if not model and not said[name]]
        assert not unexplained, f"{kind.__name__}: {unexplained}"
    page = settings_page.text()
    row = "| `distill.iterations` | integer, at least 0 | `5000` | updates of the images |"
    assert row in page and "| `teachers.privacy` | [DP-SGD](#settings-privacysettings) or" in page
    assert "list of integers, above 0, not empty | `[5, 20]`" in page
    assert "`epochs: 1000`, `momentum: 0.9`" in page, "a recipe's defaults that are not the usual"
