"""Says which notebook of the book is running, and about how much longer the book takes.

An earlier book says when each notebook began and when all was finished (`seconds.json`). How late
this book is at the same place, against that one, scales what is left; so it does not matter how
many notebooks run at a time.

    python -m workflow.pace demo smoke     keep the seconds of the books last made, in build/
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "workflow" / "seconds.json"  # {profile: {notebook: seconds after the book's start}}
NOTED = ".seconds"  # beside the notebooks of a book in the making: a name and a time of day a line
STARTED = "started"  # the name of the first line
PAGES = "book"  # what follows the notebooks
FINISHED = "finished"
LEAST = 5.0  # seconds after the start from which on a book's pace means anything


def read(path: Path) -> dict:
    """Read a file of seconds; nothing, where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def start(folder: Path) -> None:
    """Begin the notes of a book; those of the book before say nothing about this one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTED).write_text(f"{STARTED} {time.time()}\n", encoding="utf-8")


def note(folder: Path, name: str) -> dict[str, float]:
    """Note that a notebook, or what follows, begins now; return all notes of this book.

    Several notebooks may begin at once: each adds a line, and replaces nothing.
    """
    if not (folder / NOTED).exists():
        return {}
    with open(folder / NOTED, "a", encoding="utf-8") as file:
        file.write(f"{name} {time.time()}\n")
    return notes(folder)


def notes(folder: Path) -> dict[str, float]:
    """Read a book's notes: seconds after its start by name, and when it was started."""
    if not (folder / NOTED).exists():
        return {}
    lines = (folder / NOTED).read_text(encoding="utf-8").splitlines()
    noted = {name: float(at) for name, at in map(str.split, lines)}
    started = noted.pop(STARTED)
    return {STARTED: started} | {name: round(at - started, 1) for name, at in noted.items()}


def seconds_left(kept: dict[str, float], noted: dict[str, float], name: str) -> float | None:
    """Estimate the seconds from the start of a notebook to the end of the book.

    Args:
        kept: of an earlier book, when each notebook began and when all was finished.
        noted: when the notebooks of this book began, `name` among them.
        name: of the notebook that starts.

    Returns:
        None where one of the books has no such notebook.
    """
    if name not in kept or name not in noted:
        return None
    measured = kept[name] >= LEAST
    pace = noted[name] / kept[name] if measured else 1.0
    return pace * (kept[FINISHED] - kept[name])


def told(seconds: float | None) -> str:
    """Say how much longer it takes, in minutes or seconds; "" if that is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"; the book is finished in about {max(10, 10 * round(seconds / 10))} s"
    return f"; the book is finished in about {round(seconds / 60)} min"


def taken_over(kept: dict, profile: str, noted: dict[str, float], names: list[str]) -> dict:
    """Take over the seconds of a book of which every notebook was made.

    Where some were there already, nothing is taken over: their results were kept, and so are the
    former seconds.
    """
    wanted = [*names, PAGES, FINISHED]
    if set(noted) != {STARTED, *wanted}:
        return kept
    return kept | {profile: {name: noted[name] for name in wanted}}


def main() -> None:
    """Keep the seconds of the books that were last made."""
    kept = read(KEPT)
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
    for profile in sys.argv[1:]:
        noted = notes(ROOT / "build" / profile / "notebooks")
        kept = taken_over(kept, profile, noted, names)
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
