"""Bad weather for a step: each function disturbs one run of one step, and says what came of it,
"right" or "refused".

After each the step is run once more, undisturbed, and has to end as if nothing had been; an
AssertionError says that it did not.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from killed import at_call
from steps import World

MOST_DEATHS = 3


class Untried(Exception):
    """This machine cannot make this weather."""


def kills(r: random.Random, world: World) -> str:
    """SIGKILL, up to three times in a row: at a random moment, or just before or after a random
    flush or rename.
    """
    step = r.choice(world.steps)
    out = world.place(step)
    for _ in range(r.randint(1, MOST_DEATHS)):
        if r.random() < 0.5:
            run = world.start(step, out)
            time.sleep(r.uniform(0, world.seconds[step]))
            run.kill()
        else:
            run = world.start(
                step,
                out,
                _deadly(
                    r.choice(["replace", "fsync", "rename"]), r.randint(1, 12), r.random() < 0.5
                ),
            )
        ended = run.ended()
        assert ended.status in (-9, world.right[step].status), f"{step}: after SIGKILL {ended}"
    world.finish(step, out)
    return "right"


def _deadly(name: str, number: int, after: bool):
    """SIGKILL of the process itself before or after its `number`-th call of os.replace, os.fsync or
    os.rename.
    """
    return lambda: setattr(os, name, at_call(number, getattr(os, name), after=after))


def full_disk(r: random.Random, world: World) -> str:
    """A file system with room for a part of what the step writes, down to nothing."""
    step = r.choice(world.steps)
    with _mounted(world.folder, "-t", "tmpfs", "-o", "size=1g", "tmpfs") as disk:
        out = disk / "out"
        shutil.copytree(world.before[step], out)
        _mount("-o", f"remount,size={_bytes(disk) + 4096 * r.randint(0, 40)}", str(disk))
        outcome = world.require_right_or_clear(step, world.start(step, out).ended(), out)
        _mount("-o", "remount,size=1g", str(disk))
        world.finish(step, out)
    return outcome


def _bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def read_only(r: random.Random, world: World) -> str:
    """A folder that cannot be written to; where all is there already, reading it is enough."""
    step = r.choice(world.steps)
    there = r.random() < 0.3
    out = world.place(step)
    if there:
        world.require_right(step, world.start(step, out).ended(), out)
    _mount("--bind", str(out), str(out))
    try:
        _mount("-o", "remount,ro,bind", str(out))
        ended = world.start(step, out).ended()
    finally:
        subprocess.run(["umount", "--lazy", str(out)], check=True)
    outcome = world.require_right_or_clear(step, ended, out)
    world.finish(step, out)
    return outcome


def removed(r: random.Random, world: World) -> str:
    """Files, a folder of results or everything is deleted while the step is at work."""
    step = r.choice(world.steps)
    out = world.place(step)
    run = world.start(step, out)
    time.sleep(r.uniform(0, world.seconds[step]))
    there = [path for path in out.rglob("*") if "set.zip" not in path.name]
    for path in (
        r.sample(there, min(len(there), r.choice([1, 3, 10])))
        if r.random() < 0.8
        else [out / "cache", *out.glob("[a-z]*/")]
    ):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    outcome = world.require_right_or_clear(step, run.ended(), out)
    if (
        step == "train" or step == "prepare"
    ):  # what these do not make themselves is not theirs to bring back
        shutil.rmtree(out)
        out = world.place(step)
    for earlier in world.before if step not in ("train", "prepare") else ():
        if earlier == step:
            break
        ended = world.start(earlier, out).ended()  # the folder as the step would have found it
        assert ended.status == world.right[earlier].status, f"{earlier}: {ended}"
    world.finish(
        step, out, lacking=True
    )  # the teachers of a shadow whose distillation is there, say: nobody asks for them again
    return outcome


def together(r: random.Random, world: World) -> str:
    """Two runs of the same step at once, on the same folder."""
    step = r.choice(world.steps)
    out = world.place(step)
    first = world.start(step, out)
    time.sleep(r.choice([0, r.uniform(0, world.seconds[step])]))
    outcomes = {
        world.require_right_or_clear(step, run.ended(), out)
        for run in (first, world.start(step, out))
    }
    world.finish(step, out)
    return "refused" if "refused" in outcomes else "right"


def clock_set_back(r: random.Random, world: World) -> str:
    """Every file there is from the future, and each look at the clock finds an earlier time."""
    step = r.choice(world.steps)
    out, later = world.place(step), time.time() + r.choice([60, 86_400, 10**8])
    for path in out.rglob("*"):
        os.utime(path, (later, later))
    world.require_right(step, world.start(step, out, _backwards(r.uniform(1, 10_000))).ended(), out)
    world.finish(step, out)
    return "right"


def _backwards(seconds: float):
    def arm() -> None:
        now, looks = time.time(), iter(range(10**9))
        time.time = lambda: now - seconds * next(looks)
        time.time_ns = lambda: int(time.time() * 1e9)

    return arm


KINDS = [kills, full_disk, read_only, removed, together, clock_set_back]


@contextmanager
def _mounted(folder: Path, *words: str) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    _mount(*words, str(disk))
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _mount(*words: str) -> None:
    """Needs root; where that is refused the kind is left out, and the record says so."""
    try:
        subprocess.run(["mount", *words], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as refused:
        raise Untried("file systems cannot be mounted here; it needs Linux and root") from refused
