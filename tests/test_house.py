"""The house is kept in order by machines: layers, lint, sizes, and docstrings of what is public."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "medddist"
BIN = Path(sys.executable).parent
MODULES = sorted(
    path
    for path in LIBRARY.rglob("*.py")
    if not path.name.startswith("_") or path.stem == "__init__"
)
MOST_LINES = 350
MOST_MODULES_ON_THE_TOP_FLOOR = 8
NO_VERBS = {
    *("The", "A", "An", "All", "What", "How", "Whether", "Which", "Where", "Who", "When", "Why"),
    *("Of", "By", "In", "On", "At", "For", "From", "With", "Without", "As", "To", "And", "Each"),
    *("Every", "One", "Two", "Some", "This", "These", "That", "It", "Its", "As", "Up", "Of"),
}
SUMMARY_ONLY = 4  # functions with at most so many arguments may say all in their summary


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


# ---- layers ------------------------------------------------------------------------------------


def test_imports_go_down():
    done = run(BIN / "lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout


def test_the_contract_fails_when_an_arrow_is_turned(tmp_path):
    shutil.copytree(LIBRARY, tmp_path / "medddist", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module = tmp_path / "medddist" / "method" / "training.py"
    module.write_text(module.read_text() + "\nfrom medddist.study.study import Study  # noqa\n")
    done = run(BIN / "lint-imports", "--no-cache", cwd=tmp_path)
    assert done.returncode == 1
    assert "medddist.method is not allowed to import medddist.study" in done.stdout


def test_nobody_below_the_study_knows_of_it_and_no_import_hides_in_a_function():
    for path in MODULES:
        place = path.relative_to(LIBRARY)
        if place.parts[0] in ("cli", "__init__.py", "__main__.py"):
            continue  # commands import when they run, so that --help need not wait for torch
        if place.as_posix() == "study/notebooks.py":
            continue  # a wrong parameter is refused before torch is imported
        hidden = [
            node.lineno
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medddist")
        ]
        assert not hidden, f"{path.relative_to(ROOT)}: imports of medddist in functions at {hidden}"


# ---- lint and sizes ----------------------------------------------------------------------------


def test_ruff_has_nothing_to_say():
    for arguments in (("check",), ("format", "--check")):
        done = run(BIN / "ruff", *arguments, "--no-cache", ".")
        assert done.returncode == 0, done.stdout[-3000:]


def test_modules_are_short_and_the_top_floor_is_small():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MOST_LINES}
    assert not long
    top = [path for path in LIBRARY.glob("*.py")]
    assert len(top) <= MOST_MODULES_ON_THE_TOP_FLOOR


# ---- docstrings --------------------------------------------------------------------------------


def public(path: Path) -> list[tuple[str, ast.AST]]:
    """Public functions, classes and methods of a module, by dotted name."""
    found = []

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            kinds = (ast.FunctionDef, ast.ClassDef)
            if isinstance(node, kinds) and not node.name.startswith("_") and node.name != "forward":
                found.append((prefix + node.name, node))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def lacks(node: ast.AST) -> str:
    """What a public docstring lacks; "" where nothing does."""
    text = ast.get_docstring(node)
    if not text:
        return "a docstring"
    if isinstance(node, ast.ClassDef):
        return ""
    if "property" in (ast.unparse(decorator) for decorator in node.decorator_list):
        return ""  # a property is documented as what it is
    first = text.split()[0].strip(".,:;`")
    if not first[:1].isupper() or first in NO_VERBS:
        return f"a verb at its beginning ({' '.join(text.split()[:4])} ...)"
    arguments = [*node.args.args, *node.args.kwonlyargs]
    names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
    if len(names) > SUMMARY_ONLY and "Args:" not in text:
        return f"Args: for its {len(names)} arguments"
    raised = {
        ast.unparse(inner.exc.func)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call)
    }
    if raised & {"InputError", "NotApplicable", "Diverged"} and "Raise" not in text:
        return "Raises"
    return ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_public_names_say_what_they_do(path):
    if not path.read_text(encoding="utf-8").strip():
        return
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "no module docstring"
    if path.relative_to(LIBRARY).parts[0] == "cli":
        return  # click's help texts
    missing = [f"{name}: lacks {what}" for name, node in public(path) if (what := lacks(node))]
    assert not missing, "\n".join(missing)
