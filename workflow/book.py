"""Builds the book as HTML from a copy of its sources and of the notebooks just executed, so that
no tracked file changes.

    python workflow/book.py build/demo/notebooks build/demo/html
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from workflow import pace

# files that pages may refer to
TOP_LEVEL = ("_config.yml", "_toc.yml", "README.md", "CITATION.cff", "CHANGELOG.md")
FOLDERS = ("book", "results")


def copy_of_the_sources(folder: Path, notebooks: Path) -> None:
    """Write `folder` again: the tree as the book sees it, links included, with `notebooks` in
    place of the committed ones.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in TOP_LEVEL:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                folder / name,
                symlinks=True,
                ignore=shutil.ignore_patterns("_build", ".*"),
            )
    shutil.copytree(notebooks, folder / "notebooks", ignore=shutil.ignore_patterns(".*"))


def build(source: Path, output: Path) -> int:
    """Run Jupyter Book and return its exit code; show its messages only if it fails or warns."""
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        "--quiet",
        str(source / "book"),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    html = source / "book" / "_build" / "html"
    if done.returncode or not (html / "index.html").is_file():
        print(done.stdout, file=sys.stderr)
        return done.returncode or 1
    warnings = [line for line in done.stdout.splitlines() if "WARNING" in line]
    print("\n".join(warnings), end="\n" if warnings else "", file=sys.stderr)
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(html, output)
    return 0


def main() -> int:
    notebooks, output = (Path(argument).resolve() for argument in sys.argv[1:])
    source = output.parent / "book-src"
    print("the pages: building", file=sys.stderr, flush=True)
    pace.note(notebooks, pace.PAGES)
    copy_of_the_sources(source, notebooks)
    code = build(source, output)
    if not code:
        pace.note(notebooks, pace.FINISHED)
    return code


if __name__ == "__main__":
    sys.exit(main())
