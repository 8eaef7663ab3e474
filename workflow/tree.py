"""What the workflows see of the clone and of the data: the files that a step is made anew for when
they change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def under_root(*patterns: str) -> list[str]:
    """Files of the clone by pattern, sorted; those of the book without what it builds and without
    its links.
    """
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(str(path) for path in found if path.is_file() and "_build" not in path.parts)


def state_of(data: str) -> str:
    """What is seen of `data` without reading it:

    the names, sizes and times of its files. Changes when it does.
    """
    start = ROOT / data
    if data == "phantom" or not start.exists():
        return data
    files = (
        [start] if start.is_file() else sorted(path for path in start.rglob("*") if path.is_file())
    )
    seen = hashlib.sha256()
    for path in files:
        about = path.stat()
        seen.update(
            f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return seen.hexdigest()
