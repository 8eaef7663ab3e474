"""Benchmarks: rows of one format, made-up problems, the command line and its records."""

from __future__ import annotations

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch
from click.testing import CliRunner

from benchmarks import budget, gradient, growth, measuring, paper, real_loss, teachers
from benchmarks.__main__ import app
from benchmarks.problems import REAL, Problem, RealProblem
from medddist.method.evaluate import EvaluateSettings
from medddist.method.matching import matching_gradient
from medddist.method.real_loss import real_loss_gradient
from workflow import overview, record_figures

KEYS = {"what", "setting", "ours", "reference", "ratio", "ratio_low", "ratio_high"}
TINY = Problem(width=4, depth=2, image_size_px=8, images=4, student_steps=4)
TINY_REAL = RealProblem(
    width=4, depth=2, image_size_px=8, images=6, student_steps=4, batch_size=4, real_images=5
)
TINY_STUDY = [
    "data.images=240",
    "network.width=4",
    "teachers.teachers=1",
    "teachers.recipe.epochs=2",
    "teachers.kept_epochs=2",
    "distill.iterations=2",
    "distill.select_every=2",
    "distill.student_steps=2",
    "distill.max_start_epoch=1",
    "distill.images_per_class=2",
    "evaluate.recipe.epochs=2",
]


def run(*arguments: str) -> list[dict]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert all(KEYS <= row.keys() for row in rows)
    ratios = [row for row in rows if row["reference"] is not None]
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in ratios)
    return rows


@pytest.fixture
def tiny(monkeypatch):
    """Small problems, and no processes of their own for peaks of memory."""
    monkeypatch.setattr(gradient, "SMALL", TINY)
    monkeypatch.setattr(gradient, "MIDDLE", replace(TINY, images=5))
    monkeypatch.setattr(gradient, "PAPER_FEW", replace(TINY, images=6))
    monkeypatch.setattr(growth, "SMALL", TINY)
    monkeypatch.setattr(growth, "VALUES", {"student_steps": (8,), "images": (8,)})
    monkeypatch.setattr(real_loss, "REAL", TINY_REAL)
    monkeypatch.setattr(real_loss, "VALUES", {"student_steps": (8,), "batch_size": (6,)})
    monkeypatch.setattr(teachers, "TEACHERS", 4)
    monkeypatch.setattr(teachers, "IMAGES", 8)
    for question in (gradient, growth, paper, real_loss):
        monkeypatch.setattr(question, "peak", lambda *_: measuring.Peak(1.0, 2.0, 3.0))


def test_every_way_points_in_the_exact_direction_but_teslas(tiny, tmp_path):
    rows = run("gradient", "--pairs", "2", "--save", str(tmp_path))
    assert rows == json.loads((tmp_path / "bench-gradient.json").read_text())["rows"]
    assert [row["float64_difference"] < 1e-9 for row in rows if "float64_difference" in row] == [
        True
    ]
    cosines = {
        (row["setting"]["way"], row["setting"]["images"]): row["cosine"]
        for row in rows
        if "cosine" in row
    }
    tesla = cosines.pop((gradient.TESLA, 4))
    assert set(cosines) == {
        (way, images) for way in (gradient.EXACT, gradient.DIFFERENCE) for images in (4, 5, 6)
    } | {(gradient.BY_AUTOGRAD, 4)}
    assert (
        all(cosine == pytest.approx(1, abs=1e-5) for cosine in cosines.values()) and tesla < 0.9999
    )


def test_an_iteration_of_the_loss_on_real_images_is_compared_with_one_graph(tiny, tmp_path):
    rows = run("real-loss", "--pairs", "2", "--save", str(tmp_path))
    assert rows == json.loads((tmp_path / "bench-real-loss.json").read_text())["rows"]
    cosines = {row["setting"]["way"]: row["cosine"] for row in rows if "cosine" in row}
    assert cosines == dict.fromkeys(real_loss.LIBRARY, pytest.approx(1, abs=1e-5))
    peaks = [row for row in rows if row["what"].startswith("peak MiB")]
    both = list(real_loss.LIBRARY) if measuring.CLEAR_PEAK.exists() else []
    assert [row["setting"]["way"] for row in peaks] == 2 * both
    assert [row["setting"]["student_steps"] for row in peaks] == [4, 4, 80, 80][: len(peaks)]
    assert [row["setting"] for row in rows[-2:]] == [{"student_steps": 8}, {"batch_size": 6}]


def test_growth_is_measured_and_drawn(tiny):
    rows = run("growth", "--pairs", "1")
    assert [row["setting"] for row in rows[-2:]] == [{"teachers": 4}, {"processes": 2}]
    panels = record_figures.growth(rows, {"student_steps": 4, "images": 4}).axes
    drawn = [len(line.get_xdata()) for panel in panels for line in panel.lines]
    assert drawn == ([2] * 4 if measuring.CLEAR_PEAK.exists() else [2, 2, 1, 1])
    plt.close(panels[0].figure)


def test_teachers_and_the_papers_iteration_are_measured(tiny):
    (row,) = run("teachers", "--pairs", "2")
    assert row["setting"]["teachers"] == 4
    assert [row["ratio"] for row in run("paper")] == [None] * 3


def test_plain_training_is_the_librarys_training(tiny):
    (training,), (plain_training,) = (
        teachers.trainings(1, way) for way in (teachers.train, teachers.plain_training)
    )
    _, start, *_ = training.args
    ours, plain = training(), plain_training()
    assert (ours - plain).norm() < 0.01 * (ours - start).norm()


@pytest.mark.skipif(not measuring.CLEAR_PEAK.exists(), reason="only Linux reports a process's peak")
def test_the_peak_is_that_of_a_fresh_process():
    assert measuring.peak(matching_gradient, TINY).whole_mib > 100


@pytest.mark.parametrize("problem", [TINY, TINY_REAL], ids=["matching", "real loss"])
def test_a_made_up_problem_is_on_the_device_asked_for(problem):
    meta = torch.device("meta")  # a device without arithmetic: what is left elsewhere shows
    network, distilled, run, _, *rest = problem.arguments(device=meta)
    ends = [run.target] if problem is TINY else rest[0]
    tensors = [
        run.start,
        *ends,
        *run.batches,
        *(draw.uniform for draw in run.draws),
        distilled.labels,
        *distilled.learned().values(),
        *network.module.parameters(),
    ]
    assert {tensor.device for tensor in tensors} == {meta}


def test_students_of_the_loss_on_real_images_train_as_the_evaluation_does():
    """All of their steps are differentiated through, in the shape that the targets are set for."""
    recipe, (_, _, run, _, real) = EvaluateSettings().recipe, TINY_REAL.arguments()
    assert (run.momentum, run.weight_decay) == (recipe.momentum, recipe.weight_decay)
    assert len(run.batches) == run.window == 4 and run.before_window == 0
    assert tuple(map(len, real)) == (5, 5) and len(run.batches[0]) == 4
    assert (REAL.width, REAL.depth, REAL.image_size_px) == (32, 3, 32)
    assert (REAL.batch_size, REAL.student_steps, REAL.real_images) == (40, 40, 256)
    _, distilled, *_ = TINY_REAL.small().arguments()
    assert len(distilled.images) == 2
    assert real_loss_gradient(*TINY_REAL.small().arguments())[1]["images"].any()


def test_whole_distillations_by_differences_are_compared_with_exact_ones(tmp_path, monkeypatch):
    options = [
        "--profile",
        "smoke",
        "--out",
        str(tmp_path / "out"),
        "--save",
        str(tmp_path / "results"),
    ]
    rows = run("worth", *options, *(word for change in TINY_STUDY for word in ("--set", change)))
    record = json.loads((tmp_path / "results" / "gradients-smoke-phantom.json").read_text())
    assert record["rows"] == rows and record["settings"]["distill"]["iterations"] == 2
    *scores, difference, tesla = rows
    assert [row["what"] for row in scores] == ["accuracy", "balanced_accuracy"]
    assert all(row["low"] <= row["difference"] <= row["high"] for row in scores)
    assert difference["ours"] > 0.999 and difference["ours"] > tesla["ours"]
    assert len(list((tmp_path / "out" / "distill").glob("*/result.safetensors"))) == 2
    assert len(list((tmp_path / "out" / "teacher").iterdir())) == 1
    monkeypatch.setattr(overview, "RESULTS", tmp_path / "results")
    page = overview.gradients()
    assert page.count(" | finite differences | ") == 3 and "| balanced accuracy | " in page


def test_methods_are_compared_by_the_minutes_they_took(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "BUDGETS_MINUTES", (0, 1e6))
    small = ["distill.window_steps=2", "distill.horizon_steps=2", "distill.real_batch_size=8"]
    changes = (word for change in TINY_STUDY + small for word in ("--set", change))
    folders = "--out", str(tmp_path / "out"), "--save", str(tmp_path / "results")
    (row,) = run("budget", "--profile", "smoke", *folders, *changes)
    assert row["setting"] == {"minutes": 1e6}, "after 0 minutes neither has a set"
    assert 0 < row["ours"] <= 1 and 0 < row["reference"] <= 1
    monkeypatch.setattr(overview, "RESULTS", tmp_path / "results")
    assert "| minutes 1000000.0 |" in overview.performance(("budget",))


def test_the_best_set_so_far_counts():
    course = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6)]
    assert [budget.best(course, minutes) for minutes in (1, 2.5, 9)] == [0.5, 0.7, 0.7]


def test_a_refused_input_is_one_line_and_exit_code_two():
    done = CliRunner().invoke(app, ["paper", "--device", "abacus"])
    assert done.exit_code == 2 and "abacus" in done.stderr and done.stderr.count("\n") == 1
