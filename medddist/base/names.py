"""Words of messages: which known name was meant by a misspelt one, and numbers of things."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from medddist.base.errors import shown

ALIKE = 0.7  # difflib's ratio from which a name is proposed


def closest(name: str, known: Iterable[str]) -> str:
    """Find the known name that is spelt most like `name`, whatever the case; "" for none."""
    by_plain = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), by_plain, 1, ALIKE)
    return by_plain[close[0]] if close else ""


def closest_beside(path: Path, suffixes: Iterable[str]) -> str:
    """Find the file or folder in the same folder that is spelt most like `path`; "" for none.

    Args:
        path: of what does not exist.
        suffixes: of the files that may be meant; "" for folders.
    """
    try:
        inside = list(path.parent.iterdir())
    except (OSError, ValueError):
        return ""
    wanted = set(suffixes)
    kind = lambda each: "" if each.is_dir() else each.suffix
    meant = closest(path.name, (each.name for each in inside if kind(each) in wanted))
    return shown(path.with_name(meant)) if meant else ""


def did_you_mean(meant: str, otherwise: str = "") -> str:
    """Return the remedy for a misspelt name: the one that was meant, or another remedy."""
    return f"did you mean {meant}?" if meant else otherwise


def counted(number: int, one: str, several: str) -> str:
    """Write a number of things: `1 image is`, `2 images are`."""
    return f"{number} {one if number == 1 else several}"
