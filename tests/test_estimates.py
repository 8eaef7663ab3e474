"""Estimates: cached results count nothing, and what clearly does not fit is refused with a remedy.

That the counted work is what the steps do is tested beside the steps: study/test_work.py and
comparison/test_compare_work.py.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.measuring import peak
from benchmarks.problems import Problem
from medddist import cli, estimates
from medddist.base import machine
from medddist.base.errors import InputError
from medddist.base.files import read_json
from medddist.cli.output import estimate_lines
from medddist.estimates import (
    STEPS,
    announcement,
    memory_bytes,
    missing_results,
    networks_announcement,
    work,
)
from medddist.method.matching import matching_gradient
from medddist.method.training import Recipe
from medddist.study.profile import load_profile
from medddist.study.scores import methods_of
from medddist.study.study import Study
from medddist.study.work import Shape, Unit, Work, shape_of

SHAPE = Shape(train=400, validation=50, test=100, channels=1, classes=4, image_size_px=32)
TINY = {
    "data.images": 120,
    "data.image_size_px": 16,
    "network.width": 4,
    "network.depth": 2,
    "teachers.teachers": 1,
    "teachers.recipe.epochs": 2,
    "teachers.kept_epochs": 2,
    "distill.iterations": 2,
    "distill.max_start_epoch": 2,
    "distill.images_per_class": 2,
    "evaluate.recipe.epochs": 1,
    "references.good_recipe.epochs": 1,
    "references.draws": 1,
    "references.tuning_networks": 1,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(load_profile("smoke", TINY), "phantom", tmp_path_factory.mktemp("study"), "cpu")


def counted(profile, **missing) -> dict:
    """{step: {(what, batch): amount}} of what is missing, without predictions."""
    return {
        step: {
            (unit.what, unit.batch): amount
            for unit, amount in work(profile, SHAPE, step, results).items()
            if unit.what != "predict"
        }
        for step, results in missing.items()
    }


def test_the_smoke_profiles_work_by_hand():
    profile = load_profile("smoke")
    found = counted(
        profile, teachers=[0, 1], networks=[0], distill=[0], evaluate=methods_of(profile)
    )
    assert found["teachers"] == {("train", 64): 2 * 3 * 400}
    networks = 3  # of the candidates at iterations 0, 4 and 8
    assert found["distill"] == {("student", 16): 8 * 4, ("train", 16): networks * 20 * 16}
    assert found["networks"] == {("train", 64): 2 * 4 * 400}
    # distilled and initial; rates and draws of two kinds; rates and networks of herding
    small = 2 * 2 + 2 * (2 + 2) + (2 + 2)
    assert found["evaluate"] == {("train", 16): small * 20 * 16, ("train", 64): 2 * 4 * 400}


def test_the_work_of_the_loss_on_real_images_by_hand():
    profile = load_profile("smoke", {"distill.method": "real_loss"})
    (found,) = counted(profile, distill=[0]).values()
    before = (8 - 4) / 2  # steps of a student of mean length, before its window
    trained = 3 * 20 * 16 + 8 * before * 16
    real = {("train", 256): 8 * 64}
    assert found == {("student", 16): 8 * 4, ("train", 16): trained} | real


def test_the_work_of_an_audit_by_hand():
    attack = {("train", 16): (2 * 6 + 8) * 200 * 16}  # released, control; references
    assert counted(load_profile("smoke"), audit=[0])["audit"] == attack
    shadows = {"audit.shadows": 2, "audit.shadow_networks": 3}
    (found,) = counted(load_profile("smoke", shadows), audit=[0]).values()
    halves = {("train", 64): 2 * 2 * 3 * 200, ("student", 16): 2 * 8 * 4}  # of 400 images
    ours = 2 * (3 * 20 * 16) + 2 * (2 * 3 * 200 * 16)  # candidates; the shadow's own networks
    assert found == {("train", 16): attack["train", 16] + ours} | halves


def test_temperatures_are_counted_where_there_is_a_choice():
    one, three = (
        counted(load_profile("smoke", {"references.label_temperatures": tried}), networks=[0])
        for tried in ([2], [1, 2, 4])
    )
    assert three["networks"] == one["networks"] | {("train", 16): 3 * 2 * 20 * 16}


def test_seconds_are_the_work_at_each_units_speed(study):
    units = Work({Unit("train", 64): 100, Unit("predict", 512): 1000})
    assert estimates.seconds(units, {Unit("train", 64): 0.5, Unit("predict", 512): 0.001}.get) == 51
    speed = estimates.speeds(study.profile, SHAPE, torch.device("cpu"))
    assert all(0 < speed(Unit(what, 64)) < 1 for what in ("train", "predict", "student"))


def test_cached_results_count_nothing_and_trajectories_are_as_large_as_counted(study, monkeypatch):
    monkeypatch.setattr(estimates, "AT_ONCE_SECONDS", 0)
    line = announcement(study, "distill")
    assert "teachers" in line and "distill" in line and "\n" not in line
    assert [path.name for path in study.out.iterdir()] == ["cache"]
    missing = missing_results(study, "teachers")
    counted = estimates.disk_bytes(study.profile, shape_of(study.data), "teachers", missing)
    study.teachers()
    taken = sum(path.stat().st_size for path in study.out.rglob("teacher_*.safetensors"))
    assert counted / 2 < taken < 2 * counted + 20_000  # the file's own header
    assert announcement(study, "teachers") == "" and not missing_results(study, "teachers")
    assert "teachers" not in announcement(study, "distill")
    assert "audit" in announcement(study, "audit")


def test_the_comparison_counts_full_data_where_the_evaluation_does_not(study, monkeypatch):
    monkeypatch.setattr(estimates, "seconds", lambda units, speed: sum(units.values()))
    of_compare = lambda *steps: estimates.estimates(study, steps)[-1].seconds
    full = work(study.profile, shape_of(study.data), "evaluate", ["full_teacher", "full_good"])
    assert of_compare("compare") - of_compare("evaluate", "compare") == sum(full.values())


def test_short_work_is_not_announced(study, monkeypatch):
    for seconds, announced in (0.4, False), (40, True):
        left = [estimates.Estimate("distill", seconds, 2**20, 0)]
        monkeypatch.setattr(estimates, "estimates", lambda *_: left)
        assert bool(announcement(study, "distill")) == announced
    assert announcement(study, "distill").startswith(
        "about 40 s, between 20 and 80 s (distill 40 s); "
    )


def test_a_receiver_is_told_how_long_training_on_a_package_takes(study, monkeypatch):
    network, device = study.network(), torch.device("cpu")
    given = torch.randn(4, 1, 16, 16), torch.arange(4)
    recipe = Recipe(epochs=10, batch_size=2, learning_rate=1e9)  # it would diverge
    said = lambda asked: networks_announcement(network, given, recipe, 3, asked, device)
    assert said(4) == "", "nearly nothing"
    monkeypatch.setattr(estimates, "_seconds_per_call", lambda call, device: call() is None or 1)
    assert said(40) == "about 60 s, between 30 s and 2 min", "3 (10 epochs + 10 times 4 answers)"


def test_short_memory_is_refused_with_a_setting_that_would_fit(study, monkeypatch):
    monkeypatch.setattr(machine, "resident_bytes", lambda: 0)
    shape = shape_of(study.data)
    needed = memory_bytes(study.profile, shape, work(study.profile, shape, "distill", [0]))
    monkeypatch.setattr(machine, "free_memory_bytes", lambda device: needed)
    announcement(study, "distill")
    monkeypatch.setattr(machine, "free_memory_bytes", lambda device: needed // 2)
    with pytest.raises(InputError, match=r"needs about .* are free; --set [a-z._]+=\d+ would fit$"):
        announcement(study, "distill")


def test_short_disk_is_refused(study, monkeypatch):
    monkeypatch.setattr(machine, "free_disk_bytes", lambda folder: 10)
    with pytest.raises(InputError, match="of disk free and about .* give another --out, or "):
        announcement(study, "distill")


def test_too_many_images_per_class_are_refused_before_teachers_are_trained(tmp_path):
    profile = load_profile("smoke", TINY | {"distill.images_per_class": 100})
    study = Study(profile, "phantom", tmp_path, "cpu")
    with pytest.raises(
        InputError,
        match="distill.images_per_class: 100 is more than the .* of the class 'Viral Pneumonia'",
    ):
        announcement(study, "distill")
    assert not list(tmp_path.rglob("teacher_*"))


def test_the_command_tells_every_step_and_the_total_and_leaves_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(estimates, "LEAST_SECONDS", 0)
    changes = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    options = ["--profile", "smoke", "--out", str(tmp_path), "--device", "cpu", *changes]
    assert cli.exit_code(["estimate", *options, "--json"]) == 0
    (tmp_path / "said.json").write_text(capsys.readouterr().out)
    found = read_json(tmp_path / "said.json")
    assert [row["step"] for row in found["steps"]] == list(STEPS)
    for row in found["steps"]:
        assert row.keys() == {"step", "seconds", "memory_bytes", "disk_bytes"}
        assert all(row[name] > 0 for name in row.keys() - {"step"})
    assert {
        path.name for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())
    } == set()
    total, before = found["total"], found["evaluation"]
    assert before["seconds"] == pytest.approx(sum(row["seconds"] for row in found["steps"][:-1]))
    assert total["seconds"] == pytest.approx(sum(row["seconds"] for row in found["steps"]))
    assert total["range_seconds"][0] < total["seconds"] < total["range_seconds"][1]
    assert found["machine"]["device"] == "cpu" and found["machine"]["free_memory_bytes"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "said.json"}


@pytest.mark.slow
@pytest.mark.skipif(not machine.MEMORY_INFO.exists(), reason="only Linux tells a process's peak")
def test_the_sweeps_memory_is_within_a_factor_of_two():
    problem = Problem(width=32, depth=3, image_size_px=32, images=160, student_steps=8)
    measured = peak(matching_gradient, problem).above_rest_mib * 2**20
    assert measured / 2 < estimates.SWEEP * 4 * 32 * 32**2 * 160 < 2 * measured


def test_an_estimate_of_data_that_are_refused_leaves_no_folder(tmp_path, capsys):
    words = ["--profile", "smoke", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert cli.exit_code(["estimate", *words]) == 2
    assert "no such folder or .npz file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_total_is_said_with_its_range_once_up_to_evaluate_as_init_says_it_and_once_in_all():
    row = lambda step, seconds: {
        "step": step,
        "seconds": seconds,
        "memory_bytes": 1e6,
        "disk_bytes": 0,
    }
    spread = lambda seconds: row("", seconds) | {"range_seconds": (seconds / 2, seconds * 2)}
    machine = {"device": "cpu", "threads": 2, "free_memory_bytes": 1e9, "free_disk_bytes": 1e9}
    found = {"steps": [row("distill", 720), row("compare", 1440)], "machine": machine}
    lines = estimate_lines(found | {"evaluation": spread(720), "total": spread(2160)})
    assert "about 12 min, between 6 and 24 min: up to evaluate" in lines
    assert "about 36 min, between 18 and 72 min: in all, measured on cpu with 2 threads" in lines


def test_the_machine_is_told_in_words(tmp_path):
    assert [machine.told_time(s) for s in (5, 400, 9000, 300_000)] == [
        "5 s",
        "7 min",
        "2.5 h",
        "3 days",
    ]
    assert machine.told_estimate(720, 360, 1500) == "about 12 min, between 6 and 25 min"
    assert machine.told_estimate(60, 30, 120) == "about 60 s, between 30 s and 2 min"
    assert [machine.told_bytes(b) for b in (2e6, 1.44e9)] == ["2 MB", "1.4 GB"]
    assert machine.free_memory_bytes(torch.device("cpu")) > 0 and machine.resident_bytes() > 1e6
    assert machine.free_disk_bytes(tmp_path / "not" / "there") > 0
