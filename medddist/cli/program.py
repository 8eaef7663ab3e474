"""Name the program as it was called, so that a printed command can be run as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "medddist"
IN_TEXT = re.compile(rf"(?m)(`|^ +|_source ){NAME}(?=[ )\"]|$)")  # in messages and help texts


def program() -> list[str]:
    """Return the words that call the program: `medddist` where it is on the path or called from
    other code, its file from the working folder otherwise, or `python -m medddist`.
    """
    script = Path(sys.argv[0])
    if script.name == "__main__.py" and script.parent.name == NAME:
        return [_from_here(sys.executable), "-m", NAME]
    return [_from_here(sys.argv[0])] if script.stem == NAME else [NAME]


def as_called(text: str) -> str:
    """Put the program, as it was called, into a message or help text that says `medddist`."""
    return IN_TEXT.sub(lambda found: found[1] + shlex.join(program()), text)


def _from_here(file: str) -> str:
    """The shortest name by which the shell, in this folder, finds the file."""
    path = Path(os.path.abspath(file))  # links stay: a virtual environment's python is one
    on_path = shutil.which(path.name)
    if not file or (on_path and Path(os.path.abspath(on_path)) == path):
        return path.name or "python"
    if not path.is_relative_to(Path.cwd()):
        return str(path)
    inside = path.relative_to(Path.cwd())
    return str(inside) if inside.parent != Path() else f"./{inside}"
