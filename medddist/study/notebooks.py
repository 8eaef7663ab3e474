"""Check a notebook's parameters before anything long starts, and open its study.

papermill only warns of an unknown name, and checks no types. Here both stop the notebook, in one
line. torch is imported when a study is opened, so that a wrong parameter is refused at once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from medddist.base.errors import InputError
from medddist.base.names import closest, did_you_mean
from medddist.base.progress import Bar
from medddist.base.settings import Settings, parsed

if TYPE_CHECKING:
    from medddist.study.study import Study

_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
_INJECTED = "# Parameters"  # papermill's cell, after the one tagged `parameters`, begins so
_MARK = "profile"  # every notebook has this parameter, declared in the cell tagged `parameters`


def parameters(namespace: Mapping[str, Any]) -> Any:
    """Read a notebook's parameters, frozen and typed.

    The cell tagged `parameters` declares them: `name: type = default  # help`, with the types str,
    int, float and bool. The value that a name has now counts, whether it is the default,
    papermill's, or typed into the cell.

    Args:
        namespace: `locals()` of the next cell.

    Raises:
        InputError: papermill injected an undeclared name, or a value is of another type.
    """
    cells = _cells_run(namespace)
    declared = declared_types(cells)
    injected = (cell for cell in cells if cell.startswith(_INJECTED))
    given = [node.targets[0].id for cell in injected for node in _assignments(cell, ast.Assign)]
    unknown = [name for name in given if name not in declared]
    if unknown:
        known = f"known here: {', '.join(declared)}"
        remedy = did_you_mean(closest(unknown[0], declared), known)
        raise InputError("notebook parameters", f"{unknown[0]} is not a parameter", remedy)
    # Strict types: "true" is not a bool and "5" not an int; an int is a float.
    fields = {name: (kind, pydantic.Field(strict=True)) for name, kind in declared.items()}
    model = pydantic.create_model("Parameters", __base__=Settings, **fields)
    values = {name: namespace[name] for name in declared if name in namespace}
    return parsed(model, values, "notebook parameters")


def declared_types(cells: Sequence[str]) -> dict[str, type]:
    """Return the types by name in the last of these cells that declares parameters.

    Raises:
        InputError: no cell declares any.
    """
    for cell in reversed(cells):
        declarations = _assignments(cell, ast.AnnAssign)
        types = {node.target.id: ast.unparse(node.annotation) for node in declarations}
        if _MARK in types:
            return {name: _type_named(name, kind) for name, kind in types.items()}
    remedy = "run the cell tagged `parameters` first"
    raise InputError("notebook parameters", f"no cell declares `{_MARK}: str`", remedy)


def artifacts_folder(out: str = "", start: Path | None = None) -> Path:
    """Return the folder of results: `out`, or `build/artifacts` of the clone around `start`.

    So a notebook finds cached results, whether it is opened from `notebooks/`, run by `make`, or
    alone in Colab. `start` is the working directory by default; outside a clone it is taken itself.
    """
    if out:
        return Path(out).expanduser()
    here = (start or Path.cwd()).resolve()
    is_top = lambda folder: (folder / "workflow" / "Snakefile").is_file()
    top = next((folder for folder in (here, *here.parents) if is_top(folder)), here)
    return top / "build" / "artifacts"


def open_study(given: Any, changes: Mapping[str, Any] | None = None) -> Study:
    """Open the study that a notebook's parameters name.

    Args:
        given: the parameters; `overrides` holds `name=value`, separated by spaces.
        changes: further changes of the profile, from other parameters of the notebook.
    """
    # Late, since these import torch, which takes seconds.
    from medddist.base.compute import keep_freed_memory
    from medddist.study.profile import changes_from, load_profile
    from medddist.study.study import Study

    keep_freed_memory()
    changed = changes_from(given.overrides.split()) | dict(changes or {})
    profile = load_profile(given.profile, changed)
    return Study(profile, given.data, artifacts_folder(given.out), progress=Bar())


def _cells_run(namespace: Mapping[str, Any]) -> list[str]:
    """The cells that ran so far; all cells of a percent script that Python itself runs."""
    if "In" in namespace:
        return list(namespace["In"])
    if "__file__" not in namespace:
        return []
    text = Path(namespace["__file__"]).read_text(encoding="utf-8")
    return re.split(r"^# %%.*$", text, flags=re.MULTILINE)


def _assignments(source: str, kind: type[ast.stmt]) -> Iterator[Any]:
    """Top-level `name = value` or `name: type = value` of a cell of plain Python."""
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
        remedy = f"use one of {', '.join(_TYPES)}"
        raise InputError("notebook parameters", f"{name} is declared as {kind}", remedy)
    return _TYPES[kind]


# IPython asks an exception how to show it: a refusal is one line, without a traceback.
_in_one_line = lambda error: [f"{type(error).__name__}: {error}"]
InputError._render_traceback_ = _in_one_line  # type: ignore[attr-defined]
