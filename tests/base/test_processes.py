"""Several processes give what one gives: teachers dealt out, segments of one iteration dealt out, a
killed one resumed.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import tiny_distill

from medddist import cli
from medddist.base import processes
from medddist.base.errors import InputError
from medddist.base.tensors import load_tensors
from medddist.method.distill import check_processes
from medddist.study import study
from medddist.study.profile import changes_from, load_profile

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "data.images=240",
    "network.width=4",
    "teachers.teachers=3",
    "teachers.recipe.epochs=3",
    "teachers.kept_epochs=3",
    "distill.iterations=3",
    "distill.select_every=2",
    "distill.student_steps=2",
    "distill.max_start_epoch=2",
    "distill.images_per_class=2",
    "distill.segments_per_step=4",
    "evaluate.recipe.epochs=2",
]


def started(count: int, step: str, out: Path) -> subprocess.CompletedProcess:
    """The step in `count` processes, or in one without torchrun."""
    options = [
        "--profile",
        "smoke",
        "--out",
        str(out),
        "--json",
        *(word for change in TINY for word in ("--set", change)),
    ]
    module = ["-m", "medddist", step, *options]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(several if count > 1 else []), *module]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)


def files(out: Path, pattern: str) -> dict[str, Path]:
    return {path.name: path for path in out.rglob(pattern)}


def test_one_process_has_it_all(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert list(processes.mine(5)) == [0, 1, 2, 3, 4] and processes.from_the_first(lambda: 7) == 7
    (same,) = processes.summed([torch.ones(2)])
    assert torch.equal(same, torch.ones(2))
    processes.wait()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_are_dealt_whole_and_once(monkeypatch, count):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shares = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        shares += processes.mine(5)
    assert sorted(shares) == [0, 1, 2, 3, 4]


def test_a_segment_for_every_process_or_a_refusal(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_processes(tiny_distill(segments_per_step=4))
    with pytest.raises(
        InputError, match="^segments_per_step: 1 cannot be dealt to 4 .*distill.segments_per_step=4"
    ):
        check_processes(tiny_distill())


TOGETHER = """
import sys
import torch
from medddist.base import processes
rank = processes.rank()
whole, half = processes.summed([torch.full((2, 3), 1.0 + rank), torch.tensor(0.5, dtype=torch.float64)])
assert whole.shape == (2, 3) and (whole == 3).all() and whole.dtype == torch.float32
assert half.item() == 1.0 and half.dtype == torch.float64
assert processes.from_the_first(lambda: ("from", rank)) == ("from", 0)
processes.wait()
processes.leave()
open(f"{sys.argv[1]}/{rank}", "w").close()
"""


def test_two_processes_sum_and_share(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


@pytest.mark.parametrize("step", ["evaluate", "results"])
def test_a_step_that_deals_nothing_out_refuses_several_processes(monkeypatch, capsys, step):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        cli.main([step, "--profile", "smoke"])
    assert ended.value.code == 2 and "without" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_what_one_gives(tmp_path, count):
    alone, several = tmp_path / "one", tmp_path / "several"
    for out, number in ((alone, 1), (several, count)):
        done = started(number, "distill", out)
        assert done.returncode == 0, done.stderr[-3000:]
        (made,) = json.loads(done.stdout)
        assert made["images"] == 8, "one process alone speaks"
    teachers = files(alone, "teacher_*.safetensors")
    assert len(teachers) == 3 and teachers.keys() == files(several, "teacher_*.safetensors").keys()
    for name, path in files(several, "teacher_*.safetensors").items():
        assert path.read_bytes() == teachers[name].read_bytes(), (
            "a teacher is the same bits, whoever trains it"
        )
    (one, _), (other, _) = (
        load_tensors(files(out, "result.safetensors")["result.safetensors"])
        for out in (alone, several)
    )
    for name in ("distilled.images", "losses", "step_sizes"):
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_rank_killed_in_mid_run_leaves_nothing_broken(tmp_path):
    """The first attempt is ended while it works; the second ends with the bits of an undisturbed
    run of as many processes.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert started(2, "distill", whole).returncode == 0
    killer = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kill_a_rank.py")), str(broken)],
        stdout=subprocess.PIPE,
        text=True,
    )
    first = started(2, "distill", broken)
    assert killer.communicate(timeout=60)[0].strip() == "killed" and first.returncode != 0
    assert started(2, "distill", broken).returncode == 0
    results = [
        files(out, "result.safetensors")["result.safetensors"].read_bytes()
        for out in (whole, broken)
    ]
    assert results[0] == results[1]


@pytest.mark.slow
def test_several_processes_go_on_from_what_one_had_kept(tmp_path, monkeypatch):
    """Interrupted before the third of three iterations was kept; two processes do it."""
    broken, whole = tmp_path / "broken", tmp_path / "whole"

    def interrupted(what, done, total):
        if what.startswith("distilling") and done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(study, "distill", functools.partial(study.distill, save_every_seconds=0.0))
        study.Study(
            load_profile("smoke", changes_from(TINY)), "phantom", broken, "cpu", interrupted
        ).distillation()
    (checkpoint,) = broken.rglob("unfinished.safetensors")
    assert load_tensors(checkpoint)[1]["iteration"] == 2
    assert (
        started(2, "distill", broken).returncode == 0
        and started(1, "distill", whole).returncode == 0
    )
    (one, _), (other, _) = (
        load_tensors(files(out, "result.safetensors")["result.safetensors"])
        for out in (whole, broken)
    )
    for name in ("distilled.images", "losses", "step_sizes"):
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-4)
    assert not checkpoint.exists()
