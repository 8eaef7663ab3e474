"""Says which notebook of the book is running, and about how much longer the book takes.

The seconds of each notebook are those of an earlier book (`seconds.json`), times how much slower or
faster this book has been so far.

    python -m workflow.pace demo smoke     keep the seconds of the books last made, in build/
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "workflow" / "seconds.json"  # {profile: {notebook: seconds}}; a "book" of all pages
NOTED = ".seconds.json"  # beside the notebooks of a book in the making
PAGES = "book"  # what follows the notebooks
LEAST = 1.0  # seconds that a notebook has to have taken before its pace means anything


def read(path: Path) -> dict:
    """Read a file of seconds; nothing, where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def note(folder: Path, name: str, seconds: float) -> None:
    """Note what a notebook took, beside the notebooks of this book."""
    noted = read(folder / NOTED) | {name: round(seconds, 1)}
    (folder / NOTED).write_text(json.dumps(noted), encoding="utf-8")


def seconds_left(kept: dict[str, float], noted: dict[str, float], name: str) -> float | None:
    """Estimate the seconds from the start of a notebook to the end of the book.

    Args:
        kept: seconds of each notebook of an earlier book, in their order.
        noted: seconds of this book's notebooks so far.
        name: of the notebook that starts.

    Returns:
        None where the earlier book has no such notebook.
    """
    if name not in kept:
        return None
    names = list(kept)
    known = [other for other in noted if kept.get(other, 0) >= LEAST]
    pace = sum(noted[k] for k in known) / sum(kept[k] for k in known) if known else 1.0
    return pace * sum(kept[other] for other in names[names.index(name) :])


def told(seconds: float | None) -> str:
    """Say how much longer it takes, in minutes or seconds; "" if that is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"; the book is finished in about {max(10, 10 * round(seconds / 10))} s"
    return f"; the book is finished in about {round(seconds / 60)} min"


def taken_over(kept: dict, profile: str, noted: dict[str, float], names: list[str]) -> dict:
    """Take over the seconds of a book of which every notebook was made, pages last.

    Where some were there already, nothing is taken over: their results were kept, and so are the
    former seconds.
    """
    if set(noted) != {*names, PAGES}:
        return kept
    return kept | {profile: {name: noted[name] for name in (*names, PAGES)}}


def main() -> None:
    """Keep the seconds of the books that were last made."""
    kept = read(KEPT)
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
    for profile in sys.argv[1:]:
        noted = read(ROOT / "build" / profile / "notebooks" / NOTED)
        kept = taken_over(kept, profile, noted, names)
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
