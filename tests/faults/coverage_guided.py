"""Inputs that atheris, where it is installed (`pip install 'medddist[fuzz]'`), looks for by the
branches that they reach.

`python coverage_guided.py TARGET CORPUS -max_total_time=60` is one search, in a process of its own:
it never returns.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEARCH_MINUTES = 1.0
BYTES = 2048  # MB that libFuzzer allows


def survived(name: str, minutes: float, count: int | None = None) -> dict:
    """How many inputs were tried; a failure is the one that a search ends with."""
    if importlib.util.find_spec("atheris") is None:
        return {"tried": 0, "why": "atheris is not installed here"}
    with tempfile.TemporaryDirectory() as folder:
        _write_seeds(name, Path(folder))
        limits = [
            f"-max_total_time={round(60 * min(minutes, SEARCH_MINUTES))}",
            f"-rss_limit_mb={BYTES}",
            "-timeout=30",
            "-max_len=16384",
        ]
        limits += [f"-runs={count}"] if count else []
        done = subprocess.run(
            [sys.executable, str(HERE / "coverage_guided.py"), name, folder, *limits],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    tried = re.search(r"Done (\d+) runs", done.stderr)
    told = {"tried": int(tried[1]) if tried else 1, "failures": int(done.returncode != 0)}
    print("coverage-guided:", name, told, file=sys.stderr, flush=True)
    return told


def _write_seeds(name: str, folder: Path) -> None:
    for number, content in enumerate(TARGETS[name][0]()):
        (folder / f"seed{number}").write_bytes(content)


def _packages() -> list[bytes]:
    import damage

    return [damage.packages.archive.zipped(files) for files in damage.FILES.values()]


def _profiles() -> list[bytes]:
    from importlib import resources

    return [
        entry.read_bytes()
        for entry in resources.files("medddist.profiles").iterdir()
        if entry.name.endswith(".yaml")
    ]


def _trajectories() -> list[bytes]:
    import inputs

    return [inputs._kept("trajectory.safetensors"), inputs._kept("result.safetensors")]


def _open_package(path: Path) -> None:
    from medddist.sharing.reading import open_package

    open_package(path)


def _load_profile(path: Path) -> None:
    from medddist.study.profile import load_profile

    load_profile(str(path))


def _open_trajectory(path: Path) -> None:
    from medddist.base.tensors import load_tensors
    from medddist.method.trajectories import open_trajectory

    for read in (
        load_tensors,
        lambda path: (found := open_trajectory(path)).rows(*range(found.snapshots)),
    ):
        try:
            read(path)
        except ValueError:  # InputError is one, and the other reader is tried as well
            pass


# target: seeds, what reads a file, the file's name, what is watched for branches
TARGETS = {
    "packages": (_packages, _open_package, "x.zip", ["medddist.sharing", "zipfile"]),
    "profiles": (
        _profiles,
        _load_profile,
        "x.yaml",
        ["medddist.study.profile", "medddist.base.settings"],
    ),
    "trajectories": (
        _trajectories,
        _open_trajectory,
        "x.safetensors",
        ["medddist.method.trajectories"],
    ),
}


def main() -> None:
    import atheris

    _, read, file, watched = TARGETS[sys.argv[1]]
    with atheris.instrument_imports(include=watched, enable_loader_override=False):
        from medddist import package  # noqa: F401
        from medddist.base.errors import InputError
        from medddist.method import trajectories  # noqa: F401
        from medddist.study import profile  # noqa: F401
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    path = Path(folder) / file

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except InputError:
            pass

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
