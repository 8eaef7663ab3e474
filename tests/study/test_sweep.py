"""A sweep: its points, its table, and that a killed one goes on without doing anything twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_study import made_up, profile

from medddist.base.errors import InputError
from medddist.study import sweep as module
from medddist.study.sweep import Point, Sweep, changes_at, load_sweep, points, study_at, table

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "workflow" / "sweeps").glob("*.yaml"))


def tiny(**changes) -> Sweep:
    values = {
        "profile": "smoke",
        "data": ("a.npz",),
        "methods": ("distilled", "majority"),
        "images_per_class": (1, 2),
        "seeds": (3, 4),
    }
    return Sweep(**(values | changes))


def written(tmp_path: Path, **values) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"profile": "smoke", "images_per_class": [1]} | values))
    return path


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_that_come_along_can_be_read(path):
    sweep = load_sweep(path, "phantom")
    assert sweep.data == ("phantom",) and len({point.name for point in points(sweep)}) == len(
        list(points(sweep))
    )


def test_points_are_the_axes_product_and_methods_without_a_size_come_once():
    found = list(points(tiny(data=("a.npz", "b"))))
    distilled = [
        Point(data, "distilled", size, seed)
        for data in ("a.npz", "b")
        for size in (1, 2)
        for seed in (3, 4)
    ]
    majority = [Point(data, "majority", 0, seed) for data in ("a.npz", "b") for seed in (3, 4)]
    assert set(found) == {*distilled, *majority} and len(found) == 12


@pytest.mark.parametrize(
    "values, why",
    [
        ({"images_per_class": [0]}, "images_per_class.0: input should be greater than 0"),
        ({"methods": ["destilled"]}, "'destilled' is not known; use some of distilled, "),
        ({"seed": [0]}, "seed is not a setting; did you mean seeds"),
        ({"overrides": "distill.iteration=3"}, "distill.iteration is not a setting"),
        ({"profile": "large"}, "'large' is not known"),
        ({"data": ["a/x.npz", "b/x.npz"]}, "two sources have one name"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, values, why):
    with pytest.raises(InputError) as error:
        load_sweep(written(tmp_path, **values), "phantom")
    assert why in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, why",
    [(None, "there is no file"), ("a: [", "is not valid YAML"), ("", "holds no settings")],
)
def test_a_file_that_is_none_is_named(tmp_path, text, why):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=why):
        load_sweep(path, "phantom")


def test_a_points_study_has_its_size_and_its_seed_everywhere(tmp_path):
    point = Point("phantom", "distilled", 2, 7)
    one = study_at(point, tiny(overrides="distill.iterations=3 seeds=[1]"), tmp_path, "cpu").profile
    assert (one.distill.images_per_class, one.distill.iterations, one.seeds, one.evaluate.seed) == (
        2,
        3,
        (7,),
        7,
    )
    assert changes_at(7).keys() == {"seeds", "evaluate.seed", "images_per_class"}


def test_the_table_is_tidy_and_pools_the_seeds(tmp_path, monkeypatch):
    def opened(point, sweep, out, device="auto", progress=None):
        changes = {
            "seeds": [point.seed],
            "evaluate.seed": point.seed,
            "distill.images_per_class": point.images_per_class or 2,
        }
        one = module.Study(profile(**changes), "made up", out, "cpu")
        one.data = made_up()
        return one

    monkeypatch.setattr(module, "study_at", opened)
    sweep = tiny(methods=("distilled", "random_balanced", "majority"))
    rows = table(sweep, tmp_path)
    assert not rows.duplicated(["data", "method", "images_per_class", "seeds", "metric"]).any()
    assert set(rows["seeds"]) == {"3", "4", "3 4"} and set(rows["metric"]) == set(
        module.metrics.METRICS
    )
    assert len(rows) == 4 * 3 * (2 + 2 + 1)
    assert rows[rows["method"] == "majority"]["images_per_class"].isna().all()
    assert (rows["low"] <= rows["mean"]).all() and (rows["mean"] <= rows["high"]).all()
    seeds = rows.pivot_table(
        index=["method", "images_per_class", "metric"], columns="seeds", values="mean", dropna=True
    )
    np.testing.assert_allclose(seeds["3 4"], (seeds["3"] + seeds["4"]) / 2)
    assert (seeds["3"] != seeds["4"]).any()
    pooled = [np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])], [None, None]
    first, second = (module._pooled_sets(sets) for sets in pooled)
    assert first.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and second is None, (
        "a draw of one seed is no draw of another"
    )


# ---- by make -------------------------------------------------------------------------------------


def command(tmp_path: Path, sweep: Path) -> tuple[list[str], dict]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= {
        "SWEEP": str(sweep),
        "DATA": "phantom",
        "OUT": str(tmp_path / "artifacts"),
        "FOLDER": str(tmp_path),
    }
    words = [
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "workflow/sweep.smk"),
        "--directory",
        str(tmp_path / "run"),
    ]
    return [
        sys.executable,
        *words,
        "--cores",
        "1",
        "--nolock",
        "--rerun-incomplete",
        "--quiet",
        "all",
    ], environment


def test_a_wrong_sweep_ends_with_one_line_before_anything_runs(tmp_path):
    words, environment = command(tmp_path, written(tmp_path, methods=["nothing"]))
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(
        "sweep: error: sweep mine: methods: 'nothing' is not known"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_that_was_killed_goes_on_and_ends_with_the_same_table(tmp_path):
    """SIGKILL to all of it when two points are done; what is done then is not done again."""
    small = (
        "data.images=200 distill.iterations=4 distill.select_every=4 evaluate.networks=1 "
        "evaluate.recipe.epochs=5 resamples=100"
    )
    sweep = written(
        tmp_path,
        overrides=small,
        methods=["distilled", "majority"],
        images_per_class=[1, 2],
        seeds=[0, 1],
    )
    words, environment = command(tmp_path, sweep)
    running = subprocess.Popen(words, env=environment, cwd=tmp_path, start_new_session=True)
    done = lambda: {
        path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "points").glob("*.ipynb")
    }
    until = time.monotonic() + 600
    while len(done()) < 2 and time.monotonic() < until and running.poll() is None:
        time.sleep(0.1)
    before = done()
    assert len(before) >= 2 and running.poll() is None
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not list(tmp_path.glob("sweep-*.csv"))
    subprocess.run(words, env=environment, cwd=tmp_path, check=True)
    assert before.items() <= done().items() and len(done()) == 6
    rows = pd.read_csv(tmp_path / "sweep-mine-phantom.csv")
    undisturbed = table(load_sweep(sweep, "phantom"), tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(rows, undisturbed, check_dtype=False)
