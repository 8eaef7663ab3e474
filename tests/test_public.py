"""What the library promises: its public names, and that type checkers see its hints."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medddist

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "medddist").rglob("*.py"))


@pytest.mark.parametrize("name", medddist.__all__)
def test_public_names_are_there_and_documented(name):
    value = getattr(medddist, name)
    assert name in dir(medddist) and (isinstance(value, str) or inspect.getdoc(value))


def test_an_unknown_name_is_none_of_them():
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        medddist.distil


def test_the_package_alone_imports_no_torch():
    told = subprocess.run(
        [sys.executable, "-c", "import medddist, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"


def test_the_version_stands_once():
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        == medddist.__version__
    )
    assert importlib.metadata.version("medddist") == medddist.__version__


def test_hints_are_marked_as_such_and_every_function_says_what_it_returns():
    assert (ROOT / "medddist" / "py.typed").is_file()
    assert (
        "py.typed"
        in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
            "package-data"
        ]["medddist"]
    )
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in MODULES
        for node in public_functions(path)
        if node.returns is None
    ]
    assert not without, without


def test_no_message_installs_an_extra_of_a_package_that_no_registry_has():
    """medddist is installed from a clone; its extras are named by what they hold."""
    files = [*MODULES, *(ROOT / "medddist").rglob("*.yaml")]
    assert not [path.name for path in files if "install 'medddist[" in path.read_text("utf-8")]


def public_functions(path: Path) -> list[ast.FunctionDef]:
    """Of a module and of its classes; numba infers what those that it compiles return."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    return [
        node
        for body in bodies
        for node in body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and path.stem not in ("kernels", "planes")
    ]
