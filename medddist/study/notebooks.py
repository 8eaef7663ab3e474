"""What the first cell of every notebook calls: its parameters, checked before anything long starts.

papermill only warns about a name that it does not know and checks no types. Here both stop the
notebook, in one line. torch is imported when a study is opened, so that a wrong parameter is
refused at once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from medddist.base.errors import InputError
from medddist.base.progress import Bar
from medddist.base.settings import Settings, parsed

if TYPE_CHECKING:
    from medddist.study.study import Study

_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
_INJECTED = (
    "# Parameters"  # how the cell begins that papermill puts after the one tagged `parameters`
)
# the parameter that every notebook has: the cell that declares it is the parameters cell
_MARK = "profile"


def parameters(namespace: Mapping[str, Any]) -> Any:
    """A notebook's parameters, frozen and typed, from `locals()` of its first cell after the one
    tagged `parameters`.

    The declaration is that cell itself, `name: type = default  # help`, with the types str, int,
    float and bool. What counts is the value that the name has now, be it the default, papermill's,
    or one typed into the cell. Raises InputError for an undeclared name that papermill injected and
    for a value of another type.
    """
    cells = _cells_run(namespace)
    declared = declared_types(cells)
    unknown = [name for name in injected_names(cells) if name not in declared]
    if unknown:
        raise InputError(
            "notebook parameters",
            f"{unknown[0]} is not a parameter",
            f"known here: {', '.join(declared)}",
        )
    values = {name: namespace[name] for name in declared if name in namespace}
    return parsed(_settings_of(declared), values, "notebook parameters")


def declared_types(cells: Sequence[str]) -> dict[str, type]:
    """Name to type of the last cell among these sources that declares parameters; InputError where
    none does.
    """
    for cell in reversed(cells):
        types = {
            node.target.id: ast.unparse(node.annotation)
            for node in _assignments(cell, ast.AnnAssign)
        }
        if _MARK in types:
            return {name: _type_named(name, kind) for name, kind in types.items()}
    raise InputError(
        "notebook parameters",
        f"no cell declares `{_MARK}: str`",
        "run the cell tagged `parameters` first",
    )


def injected_names(cells: Sequence[str]) -> list[str]:
    """The names that papermill's cells among these sources assign."""
    injected = (cell for cell in cells if cell.startswith(_INJECTED))
    return [node.targets[0].id for cell in injected for node in _assignments(cell, ast.Assign)]


def artifacts_folder(out: str = "", start: Path | None = None) -> Path:
    """The folder `out`; for "" `build/artifacts` of the clone that `start` (the working directory)
    lies in, or of `start`.

    So a notebook finds what others computed, whether it is opened from `notebooks/`, run by `make`
    or alone in Colab.
    """
    if out:
        return Path(out).expanduser()
    here = (start or Path.cwd()).resolve()
    is_top = lambda folder: (folder / "workflow" / "Snakefile").is_file()
    top = next((folder for folder in (here, *here.parents) if is_top(folder)), here)
    return top / "build" / "artifacts"


def open_study(given: Any, changes: Mapping[str, Any] | None = None) -> Study:
    """The study that a notebook's parameters name; `overrides` holds `name=value` changes to the
    profile, separated by spaces.

    `changes`: further ones, which a notebook derives from other parameters of its own.
    """
    from medddist.base.compute import keep_freed_memory
    from medddist.study.profile import changes_from, load_profile
    from medddist.study.study import Study

    keep_freed_memory()
    changed = changes_from(given.overrides.split()) | dict(changes or {})
    profile = load_profile(given.profile, changed)
    return Study(profile, given.data, artifacts_folder(given.out), progress=Bar())


def _cells_run(namespace: Mapping[str, Any]) -> list[str]:
    """The sources of the cells that ran so far; of a percent script that Python runs itself, all
    its cells.
    """
    if "In" in namespace:
        return list(namespace["In"])
    script = namespace.get("__file__")
    return (
        re.split(r"^# %%.*$", Path(script).read_text(encoding="utf-8"), flags=re.MULTILINE)
        if script
        else []
    )


def _assignments(source: str, kind: type[ast.stmt]) -> Iterator[Any]:
    """Top-level `name = value` or `name: type = value` of a cell; none where it is not plain Python
    (a magic).
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return
    for node in statements:
        target = getattr(node, "target", None) or getattr(node, "targets", [None])[0]
        if isinstance(node, kind) and isinstance(target, ast.Name):
            yield node


def _type_named(name: str, kind: str) -> type:
    if kind not in _TYPES:
        raise InputError(
            "notebook parameters",
            f"{name} is declared as {kind}",
            f"use one of {', '.join(_TYPES)}",
        )
    return _TYPES[kind]


def _settings_of(declared: Mapping[str, type]) -> type[Settings]:
    """Strict types: "true" is no bool and "5" no int; an int is a float."""
    fields = {name: (kind, pydantic.Field(strict=True)) for name, kind in declared.items()}
    return pydantic.create_model("Parameters", __base__=Settings, **fields)


def _in_one_line(error: InputError) -> list[str]:
    return [f"{type(error).__name__}: {error}"]


# IPython asks an exception for its own rendering: a refusal is shown as its line, without a
# traceback of library code.
InputError._render_traceback_ = _in_one_line  # type: ignore[attr-defined]
