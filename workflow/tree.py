"""Lists the files of the clone and of the data whose change makes a workflow's step run again."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def under_root(*patterns: str) -> list[str]:
    """List files of the clone that match a pattern, sorted, without what the book builds."""
    matches = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(str(path) for path in matches if path.is_file() and "_build" not in path.parts)


def state_of(data: str) -> str:
    """Hash the names, sizes and times of the files of `data`, without reading them."""
    start = ROOT / data
    if data == "phantom" or not start.exists():
        return data
    files = [start] if start.is_file() else sorted(p for p in start.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()
        line = f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
