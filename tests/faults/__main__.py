"""Every kind of fault, many times, and what came of each: `python tests/faults --save results`
writes results/reliability.json.

    python tests/faults                      every kind, as often as on record: about an hour
    python tests/faults kills --count 100    one kind
    python tests/faults --minutes 5          each kind for longer; Ctrl-C goes on to the next

Exit code 1 where a fault was not survived; how it came about is on standard error, and `--seed`
repeats it.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch: threads do not survive a fork, and bits are compared

import argparse
import functools
import json
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "sharing"), str(HERE.parents[1])]

import coverage_guided
import inputs
import weather
from bounds import bounded
from steps import World

from medddist.base.files import read_json, write_json
from medddist.base.version import about

COUNTS = {
    "kills": 300,
    "full_disk": 20,
    "read_only": 14,
    "removed": 14,
    "together": 14,
    "clock_set_back": 14,
    "damaged_packages": 10_000,
    "damaged_trajectories": 5_000,
    "damaged_results": 5_000,
    "damaged_caches": 1_000,
    "damaged_profiles": 1_000,
    "image_folders": 1_000,
} | {f"verify: {what}": 200 for what in inputs.SPOILT}

LONGER = {
    "kills": math.inf,
    "damaged_packages": math.inf,
}  # times --minutes: these are tried as often as asked, however long it takes


def kinds(world: Callable[[], World]) -> dict[str, Callable[[random.Random], str]]:
    """By name, a function that tries one fault and says what came of it."""
    tried = {kind.__name__: lambda r, kind=kind: kind(r, world()) for kind in weather.KINDS}
    tried |= {kind.__name__: functools.partial(_in_a_folder, kind) for kind in inputs.KINDS}
    verify = {
        f"verify: {what}": functools.partial(inputs.refused_by_verify, what)
        for what in inputs.SPOILT
    }
    return tried | {name: functools.partial(_in_a_folder, kind) for name, kind in verify.items()}


def _in_a_folder(kind, r: random.Random) -> str:
    with tempfile.TemporaryDirectory() as folder, bounded():
        return kind(r, Path(folder))


def survived(
    name: str, kind: Callable[[random.Random], str], count: int, seconds: float, seed: int
) -> dict:
    """`count` faults of a kind, or as many as `seconds` suffice for: how many were tried, refused,
    right, not survived.
    """
    outcomes, failures, until = Counter(), [], time.monotonic() + seconds
    for number in range(count):
        if time.monotonic() > until:
            break
        try:
            outcomes[kind(random.Random(f"{seed} {name} {number}"))] += 1
        except KeyboardInterrupt:  # enough of this kind
            break
        except weather.Untried as reason:
            return {"tried": 0, "why": str(reason)}
        except Exception as fault:  # whatever it is, it should not have come out
            failures.append(f"{name} {number}: {type(fault).__name__}: {fault}")
            print(failures[-1], file=sys.stderr, flush=True)
    told = {
        "tried": sum(outcomes.values()) + len(failures),
        "refused": outcomes["refused"],
        "right": outcomes["right"],
        "failures": len(failures),
    }
    print(name, told, file=sys.stderr, flush=True)
    return told


def main() -> int:
    asked = argparse.ArgumentParser(
        description="Try every kind of fault, and count what came of each."
    )
    asked.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help=f"of {', '.join(COUNTS)}, coverage_guided; all by default",
    )
    asked.add_argument("--count", type=int, help="of each kind; by default as on record")
    asked.add_argument(
        "--minutes",
        type=float,
        default=1.5,
        help="the most that one kind takes; kills and damaged_packages are all tried",
    )
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--save", metavar="FOLDER", help="write FOLDER/reliability.json")
    asked = asked.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # which a shell takes from what runs in the background
    found: dict[str, dict] = {}

    def keep(name: str, told: dict, began: float) -> None:
        found[name] = told | {"seconds": round(time.monotonic() - began)}
        if asked.save:
            _save(Path(asked.save) / "reliability.json", found, asked.seed)

    with tempfile.TemporaryDirectory() as folder:
        world = functools.cache(lambda: World(Path(folder) / "world"))
        for name, kind in kinds(world).items():
            if not asked.kinds or name in asked.kinds:
                began, most = time.monotonic(), 60 * asked.minutes * LONGER.get(name, 1)
                keep(
                    name, survived(name, kind, asked.count or COUNTS[name], most, asked.seed), began
                )
    if not asked.kinds or "coverage_guided" in asked.kinds:
        for name in coverage_guided.TARGETS:
            began = time.monotonic()
            keep(
                f"coverage-guided: {name}",
                coverage_guided.survived(name, asked.minutes, asked.count),
                began,
            )
    print(json.dumps({"kinds": found, "seed": asked.seed}, indent=1))
    return int(any(of.get("failures") for of in found.values()))


def _save(path: Path, found: dict[str, dict], seed: int) -> None:
    """After each kind, so that a long run may be stopped; kinds that were tried before and not now
    are kept.
    """
    before = read_json(path)["kinds"] if path.exists() else {}
    order = [*COUNTS, *(f"coverage-guided: {name}" for name in coverage_guided.TARGETS)]
    kept = before | found
    write_json(
        path,
        {
            "kinds": {name: kept[name] for name in order if name in kept},
            "seed": seed,
            "about": about("cpu"),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
