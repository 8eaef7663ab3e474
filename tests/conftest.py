"""What every test file may ask for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import medddist  # noqa: F401  before torch: it says how threads wait

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that take minutes come last, so that the quick ones speak first."""
    items.sort(key=lambda item: item.get_closest_marker("study") is not None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs beside the clone, which is not part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data here: real radiographs are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def strict(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """The strict build of the committed book, and the folder of its HTML."""
    output = tmp_path_factory.mktemp("book")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going"]
    done = subprocess.run([*command, "--path-output", output, "book"], cwd=ROOT, capture_output=True, text=True)
    return done, output / "_build" / "html"
