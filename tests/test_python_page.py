"""The page "Use it from Python": its code runs as it stands, is as short as it says, and names what
is public.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import packages
import pytest
import yaml

import medddist

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "book" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def statements(block: str) -> list[str]:
    """The lines besides imports and empty ones."""
    return [
        line for line in block.splitlines() if line and not line.startswith(("from ", "import "))
    ]


def ran(folder: Path, code: str) -> str:
    """What code prints in a fresh process, whose working directory is `folder`."""
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_distilling_takes_ten_lines_and_a_loop_of_ones_own_fifteen():
    distilling, engine, *_ = BLOCKS
    assert len([line for line in distilling.splitlines() if line]) <= 10
    assert len(statements(engine)) <= 15
    cut = [line for block in BLOCKS for line in block.splitlines() if len(line) > 78]
    assert not cut, "longer than the page's column"


@pytest.mark.timeout(1200)
def test_the_ten_lines_distil_and_score(tmp_path):
    first, *scores = ran(tmp_path, BLOCKS[0]).splitlines()
    assert re.fullmatch(r"16 images, iteration (0|4|8|12)", first)
    assert [line.partition(":")[0] for line in scores] == [
        "distilled images",
        "random real images, balanced",
    ]
    assert (tmp_path / "results_here" / "distill").is_dir()


@pytest.mark.timeout(1200)
def test_the_fifteen_lines_come_nearer_to_the_teacher(tmp_path):
    losses = [float(line.split()[1]) for line in ran(tmp_path, BLOCKS[1]).splitlines()]
    assert len(losses) == 5 and losses[-1] < losses[0] and list(tmp_path.iterdir()) == []


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="an extra")
def test_a_package_is_read_trained_on_exported_and_answers_with_class_names(tmp_path):
    shutil.copy(packages.KEPT_2, tmp_path / "set.zip")
    said = ran(tmp_path, "\n".join(BLOCKS[2:]))
    assert len(said.splitlines()) == 2 and said.startswith("<Package ") and "tensor" not in said
    package = medddist.open_package(tmp_path / "set.zip")
    assert said.splitlines()[1] in package.class_names
    assert len(list((tmp_path / "as_png").rglob("*.png"))) == len(package)


def test_the_page_names_all_that_is_public_and_is_in_the_book():
    rows = re.findall(r"^\| [a-z ]+ \| (`.*`) \|$", PAGE, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(medddist.__all__)
    used = set(re.findall(r"^from medddist import (.*)$", PAGE, flags=re.MULTILINE))
    assert {name.strip() for line in used for name in line.split(",")} <= named
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    assert files[files.index("own_data") + 1] == "python"
