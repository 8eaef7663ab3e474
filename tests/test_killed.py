"""kill -9 in the middle, then again from the start: the same bits as undisturbed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import labelled, tiny_distill, tiny_evaluation, tiny_network, tiny_teachers, walks

from medddist.distill import distill
from medddist.teachers import teacher_path, train_teacher

TESTS = Path(__file__).parent
HEAD = f"import os, sys; sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]; from test_killed import *\n"


def teacher(folder: Path, progress=None):
    train = labelled(30)
    return train_teacher(
        tiny_network(differentiable_once=True), train, labelled(9, 1), tiny_teachers(), 1, folder,
        progress=progress, save_every_seconds=0,
    )  # fmt: skip


def distillation(folder: Path, progress=None, **changes):
    network = tiny_network()
    settings = tiny_distill(labels="soft", learning_rate_labels=0.1, **changes)
    return distill(
        network, tiny_network(differentiable_once=True), labelled(30), labelled(9, 1), 3, walks(folder / "teachers", network),
        settings, tiny_evaluation(), folder / "unfinished.safetensors", progress=progress, save_every_seconds=0,
    )  # fmt: skip


def killed(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("epoch", [1, 5])
def test_a_killed_teacher_ends_with_the_same_bits(tmp_path, epoch):
    killed(f"teacher(Path({str(tmp_path / 'a')!r}), lambda done, total: done == {epoch} and os.kill(os.getpid(), 9))")
    assert not teacher_path(tmp_path / "a", 1).exists()
    resumed, undisturbed = teacher(tmp_path / "a"), teacher(tmp_path / "b")
    assert resumed.path.read_bytes() == undisturbed.path.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["teacher_001.safetensors"]


def test_a_killed_teacher_did_go_on(tmp_path):
    killed(f"teacher(Path({str(tmp_path)!r}), lambda done, total: done == 4 and os.kill(os.getpid(), 9))")
    epochs = []
    teacher(tmp_path, lambda done, total: epochs.append(done))
    assert epochs == [5]  # the fourth was saved before it was told of


@pytest.mark.parametrize("iteration", [3, 4])
def test_a_killed_distillation_ends_with_the_same_bits(tmp_path, iteration):
    killed(f"distillation(Path({str(tmp_path / 'a')!r}), lambda done, *rest: done == {iteration} and os.kill(os.getpid(), 9))")
    resumed, undisturbed = distillation(tmp_path / "a"), distillation(tmp_path / "b")
    for ours, theirs in zip(resumed.distilled.learned().values(), undisturbed.distilled.learned().values()):
        assert torch.equal(ours, theirs)
    assert torch.equal(resumed.losses, undisturbed.losses) and torch.equal(resumed.step_sizes, undisturbed.step_sizes)
    assert resumed.candidates == undisturbed.candidates
    assert resumed.pictures.keys() == undisturbed.pictures.keys() == {0, 3, 6, 7}
    assert all(torch.equal(resumed.pictures[k], undisturbed.pictures[k]) for k in resumed.pictures)


def test_a_checkpoint_that_a_kill_cut_short_is_never_seen(tmp_path):
    """The temporary file of an interrupted write has another name and is not read."""
    (tmp_path / ".unfinished.safetensors.x.part").write_bytes(b"half of it")
    distillation(tmp_path)
    assert load_file(tmp_path / "unfinished.safetensors")
