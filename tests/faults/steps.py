"""The steps of a tiny study as processes that can be disturbed, and what each should leave behind.

Every run is a forked process, so that torch is imported once; the forking process has one thread,
as threads do not survive a fork.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medddist import cli
from medddist.base.tensors import CHECKED
from medddist.cli.commands import step as study_step
from medddist.cli.output import Output

SETTINGS = [
    "data.images=160",
    "data.image_size_px=16",
    "network.width=4",
    "teachers.teachers=2",
    "teachers.recipe.epochs=3",
    "teachers.kept_epochs=3",
    "distill.iterations=4",
    "distill.select_every=2",
    "distill.student_steps=2",
    "distill.max_start_epoch=2",
    "distill.images_per_class=2",
    "evaluate.recipe.epochs=2",
    "references.good_recipe.epochs=1",
    "compare.evaluation_seeds=2",
    "compare.epochs=1",
    "compare.learning_rates=[0.03]",
    "compare.unseen_networks=[mlp]",
    "compare.contrastive_networks=[convnet]",
    "compare.pretrain.inside_steps=2",
    "compare.pretrain.released_steps=1",
    "compare.resamples=100",
    "audit.networks=1",
    "audit.references=1",
    "audit.recipe.epochs=2",
    "audit.false_positives=0.3",
    "audit.others=8",
    "audit.shadows=2",
    "audit.shadow_networks=1",
    "hospitals.rounds=2",
    "hospitals.changes={teachers.teachers: 1}",
]
STEPS = (
    "prepare",
    "teachers",
    "distill",
    "evaluate",
    "package",
    "train",
    "compare",
    "audit",
    "hospitals",
)
# beyond it a process hangs; undisturbed it takes some seconds, and on a busy machine minutes
PATIENCE_SECONDS = 1200


@study_step(announced=False)
def hospitals(study) -> Output:
    """Do what the hospitals' notebook does: a package from each, and what a receiver gains from
    them beside the other ways to share.
    """
    from medddist.sharing.studies import sent_packages, setup_of
    from medddist.sharing.ways import compare

    rows = compare(setup_of(study), sent_packages(study, f"{study.out}/sent"))
    return Output(rows, [])


cli.app.add_command(hospitals)


def command(step: str, out: Path) -> list[str]:
    """A step's command line, with all it reads and writes below `out`."""
    if step == "train":
        own = [
            "--data",
            "phantom",
            "--set",
            "data.images=160",
            "--networks",
            "1",
            "--device",
            "cpu",
        ]
        return ["train", str(out / "set.zip"), "--out", str(out / "trained"), *own, "--json"]
    changes = (
        [*SETTINGS, "data.images=600"] if step == "hospitals" else SETTINGS
    )  # each of its hospitals needs images of every class
    settings = [word for change in changes for word in ("--set", change)]
    where = (
        ["--artifacts", str(out), "--out", str(out / "set.zip")]
        if step == "package"
        else ["--out", str(out)]
    )
    return [step, "--profile", "smoke", "--device", "cpu", *where, *settings, "--json"]


@dataclass(frozen=True)
class Ended:
    """status: the exit code, or minus the signal; out, err: what it said.

    Undisturbed it is 0, but for the audit, which says by 1 that its attack shows nothing, as one
    so small does.
    """

    status: int
    out: str
    err: str

    @property
    def clear(self) -> bool:
        """Refused by exit code 2 and one line that names something of ours, after no more than what
        was about to start.
        """
        *before, last = self.err.splitlines() or [""]
        return (
            self.status == 2
            and last.startswith("medddist: error: ")
            and all(": about " in line for line in before)
        )


class Started:
    """A step in a forked process of its own group; `arm` is called in it first."""

    def __init__(self, step: str, out: Path, said: Path, arm: Callable[[], None] | None = None):
        self.said = said.with_name(f"{said.name}.{time.monotonic_ns()}")
        sys.stdout.flush(), sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                status = _in_the_child(command(step, out), self.said, arm)
            finally:
                os._exit(status)

    def kill(self) -> None:
        """SIGKILL to the process alone: what it started has to notice by itself."""
        os.kill(self.process, signal.SIGKILL)

    def ended(self) -> Ended:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                break
            if time.monotonic() > until:
                os.killpg(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)
                raise AssertionError(f"it hung for {PATIENCE_SECONDS} seconds")
            time.sleep(0.005)
        read = lambda end: (
            path.read_text()
            if (path := self.said.with_suffix(f"{self.said.suffix}.{end}")).exists()
            else ""
        )
        return Ended(os.waitstatus_to_exitcode(status), read("out"), read("err"))


def _in_the_child(words: list[str], said: Path, arm: Callable[[], None] | None) -> int:
    """The exit code; what is said is kept in memory until the end, as the disk may be full."""
    out, err = io.StringIO(), io.StringIO()
    if arm:
        arm()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.exit_code(words)
    lines = [
        line for line in err.getvalue().splitlines() if line.startswith("medddist: ")
    ]  # without the progress bars
    said.with_suffix(f"{said.suffix}.out").write_text(out.getvalue())
    said.with_suffix(f"{said.suffix}.err").write_text("".join(f"{line}\n" for line in lines))
    return status


class Right(NamedTuple):
    """What a step comes to when nothing disturbs it."""

    status: int
    said: Any  # `told`
    files: dict[str, object]  # `content`


class World:
    """What each step finds and leaves when nothing disturbs it: folders `before` and `after`, what
    it says, how long it takes.
    """

    def __init__(self, folder: Path, steps: tuple[str, ...] = STEPS):
        self.folder, self.steps, self.numbers = folder, steps, iter(range(10**9))
        self.before: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}
        self.right: dict[str, Right] = {}
        out = folder / "undisturbed"
        out.mkdir(parents=True)
        for step in STEPS[: 1 + max(STEPS.index(one) for one in steps)]:
            self.before[step] = folder / f"before-{step}"
            shutil.copytree(out, self.before[step])
            began = time.monotonic()
            ended = Started(step, out, folder / "said").ended()
            assert ended.status == 0 or (step == "audit" and " attack is " in ended.err), (
                f"{step}, undisturbed: {ended}"
            )
            self.seconds[step] = time.monotonic() - began
            self.right[step] = Right(ended.status, told(ended, out), content(out))

    def place(self, step: str) -> Path:
        """A new folder with what the step finds."""
        out = self.folder / f"out-{next(self.numbers)}"
        shutil.copytree(self.before[step], out)
        return out

    def start(self, step: str, out: Path, arm: Callable[[], None] | None = None) -> Started:
        return Started(step, out, self.folder / "said", arm)

    def require_right(self, step: str, ended: Ended, out: Path, lacking: bool = False) -> None:
        """The same words and the same files as undisturbed, but for the time it took; some may be
        `lacking`, but none is another.
        """
        right = self.right[step]
        assert ended.status == right.status, f"{step}: exit code {ended.status}, {ended.err!r}"
        assert told(ended, out) == right.said, f"{step}: says something else than undisturbed"
        found = content(out)
        others = found.keys() - right.files.keys() if lacking else found.keys() ^ right.files.keys()
        assert not others, f"{step}: other files: {sorted(others)}"
        unlike = [name for name in found if found[name] != right.files[name]]
        assert not unlike, f"{step}: unlike the undisturbed: {unlike}"

    def require_right_or_clear(self, step: str, ended: Ended, out: Path) -> str:
        """ "right" or "refused"."""
        right = self.right[step]
        if ended.status == right.status and ended.out:
            assert told(ended, out) == right.said, f"{step}: says something else than undisturbed"
            return "right"
        assert ended.clear, f"{step}: no clear error: exit code {ended.status}, {ended.err!r}"
        return "refused"

    def finish(self, step: str, out: Path, lacking: bool = False) -> None:
        """Once more, undisturbed, where the disturbance left off: now it has to be right."""
        self.require_right(step, self.start(step, out).ended(), out, lacking)
        shutil.rmtree(
            out, ignore_errors=True
        )  # a worker of one that was killed may still be at its last file


def told(ended: Ended, out: Path):
    return untimed(json.loads(ended.out.replace(str(out), "OUT")))


def untimed(value):
    """A JSON value without the times in it."""
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if "seconds" not in key}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def content(out: Path) -> dict[str, object]:
    """Read every result below a folder, but no notes of time, hidden files or checkpoints."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if (
            path.is_file()
            and not name.endswith(".seconds.json")
            and "unfinished" not in name
            and "/." not in f"/{name}"
        ):
            found[name] = (
                _safetensors(path.read_bytes())
                if path.suffix == ".safetensors"
                else path.read_bytes()
            )
    return found


def _safetensors(whole: bytes) -> tuple:
    """Header, without times, and tensors of a file."""
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    words = header.pop("__metadata__", {})
    about = untimed(json.loads(words[CHECKED])["about"]) if CHECKED in words else words
    return header, about, whole[end:]
