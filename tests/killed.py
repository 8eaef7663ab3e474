"""Runs that are killed by SIGKILL at chosen moments and started again, until one of them ends.

`python killed.py` reads scenarios as JSON from standard input. Each attempt is a forked process
that kills itself, or is killed by its parent after some time; torch is imported once, and the
forking process itself computes nothing, since threads do not survive a fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numba
import torch
import torch.fx.experimental.symbolic_shapes
from small import (
    CLASSES,
    asked,
    labelled,
    some_logits,
    tiny_distill,
    tiny_evaluation,
    tiny_network,
)

from medddist.base import files
from medddist.baselines.initial import initial_set
from medddist.method import evaluate, teachers
from medddist.method.distill import distill
from medddist.method.teachers import TeacherSettings, train_teacher
from medddist.method.trajectories import open_trajectory


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, function: Callable, *, after: bool = False) -> Callable:
    """`function`, killing the process before (or after) its `number`-th call, counted from 1."""
    calls = 0

    def deadly(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == number and not after:
            die()
        result = function(*arguments, **named)
        if calls == number:
            die()
        return result

    return deadly


def arm(moment: list) -> Callable[..., None]:
    """Prepare the death that `moment` describes, [what, number]; the callback to use for progress."""
    what, number = moment
    if what == "progress":
        return at_call(number, lambda *arguments: None)
    if what in ("rename", "renamed"):
        files.os.replace = at_call(number, os.replace, after=what == "renamed")
    elif what == "flush":
        files.os.fsync = at_call(number, os.fsync)
    elif what == "scoring":
        evaluate.mean_validation_scores = at_call(number, evaluate.mean_validation_scores)
    elif what == "training":  # of a candidate's network
        evaluate.train = at_call(number, evaluate.train)
    elif what == "epoch":
        teachers.validation_scores = at_call(number, teachers.validation_scores)
    return lambda *arguments: None


def teacher_run(folder: Path, settings: dict, **saving) -> None:
    network = tiny_network()
    train_teacher(
        network, labelled(20), labelled(9, seed=1), TeacherSettings(**settings), 1, folder, **saving
    )


def distillation_run(folder: Path, settings: dict, **saving) -> None:
    trajectories = [
        open_trajectory(path) for path in sorted(folder.parent.glob("teacher_*.safetensors"))
    ]
    chosen, checkpoint = tiny_distill(**settings), folder / "unfinished.safetensors"
    network = tiny_network()
    result = distill(
        network,
        *initial_set(labelled(20), CLASSES, chosen, soft_labels=some_logits),
        labelled(9, seed=1),
        asked(network, trajectories, chosen),
        chosen,
        tiny_evaluation(),
        checkpoint,
        **saving,
    )
    # The progress of the last iteration, the last candidate and the choice are behind; what counts
    # is kept as one file.
    with files.replaced_atomically(folder / "result.pt") as temporary:
        torch.save(result, temporary)


def attempt(scenario: dict, moment: list | None) -> int:
    """One process from start to its end or death; its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            progress = arm(moment) if moment and moment[0] != "seconds" else lambda *arguments: None
            run = {"teacher": teacher_run, "distill": distillation_run}[scenario["run"]]
            saving = {"progress": progress, "save_every_seconds": scenario["save_every_seconds"]}
            run(Path(scenario["folder"]), scenario["settings"], **saving)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if moment and moment[0] == "seconds":
        time.sleep(moment[1])
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def died(status: int, moment: list) -> bool:
    """Killed as it should be; a run that is killed by the clock may also be done before."""
    return status == signal.SIGKILL or (moment[0] == "seconds" and status == 0)


def main() -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings(
        "ignore", "This process .* is multi-threaded", DeprecationWarning
    )  # from Python 3.12 on
    numba.njit(lambda: 0)()  # numba prepares itself once for all attempts; this starts no thread
    ends = []
    for scenario in json.load(sys.stdin):
        killed = [died(attempt(scenario, moment), moment) for moment in scenario["moments"]]
        ends.append({"killed": killed, "last": attempt(scenario, None)})
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
