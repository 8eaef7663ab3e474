"""Writes the library's reference from the tree of medddist/: book/api.md, and book/settings.md.

python -m workflow.api_page
"""

from __future__ import annotations

import ast
from pathlib import Path

import medddist
from workflow import settings_page
from workflow.words import markdown_table

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {  # in the house's order, from the ground up; the command line is described elsewhere
    "base": "Base: errors, files, seeds, settings",
    "data": "Data: sources, splits, the phantom",
    "method": "Method: trajectory matching, and the loss on real images",
    "measure": "Measures: scores, membership, neighbours, saliency",
    "baselines": "Baselines and other architectures",
    "study": "Study: profiles, steps, cached results",
    "comparison": "Comparison",
    "leaks": "Leaks: what a released set reveals",
    "sharing": "Sharing: packages and hospitals",
    "figures": "Figures",
    "init": "A first look at your own images",
    "estimates": "Estimates of time, memory and disk",
}
FIRST = ("networks", "training", "augment", "teachers", "trajectories", "matching", "distill")
HEAD = """# Library

```python
from medddist import Study, load_profile

study = Study(load_profile("demo", {"distill.iterations": 50}), "phantom")
released = study.distillation().distilled  # images (N, C, H, W), labels, step size
rows = study.table()  # scores of networks trained on them, and references
```

The names below are imported from `medddist` itself and keep their meaning between releases;
[](python.md) shows them in use. Shapes stand in brackets: N images, C channels, H and W pixels, K
classes. The settings of a profile are listed in [](settings.md), the commands in
[](reproduce.md).
"""
ROOMS_HEAD = """## All modules

For those who read or change the code. What is not named above may change in any release. The
modules lie in rooms, from the ground up: a room imports only from rooms above it. In each module,
public functions say what they take, return and refuse.
"""
READING = "In their order of reading; `medddist/method/README.md` says why."


def modules(room: str) -> list[str]:
    """List the dotted names of a room's modules that define a public function or class."""
    top = ROOT / "medddist" / room
    files = top.rglob("*.py") if top.is_dir() else [top.with_suffix(".py")]
    return sorted((_dotted(path) for path in files if _has_public_names(path)), key=_place)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _place(name: str) -> tuple:
    """Sort packages before what is in them, and the method's modules in their order of reading."""
    last = name.rsplit(".", 1)[-1]
    in_order = FIRST.index(last) if last in FIRST and ".method." in name else len(FIRST)
    return (name.count("."), in_order, name)


def _has_public_names(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and not node.name.startswith("_") for node in body)


def pages() -> dict[str, str]:
    """Write the pages, in MyST, by their paths below book/."""
    return {"api.md": _library(), "settings.md": settings_page.text()}


def _library() -> str:
    names = [name for name in medddist.__all__ if name in medddist._WHERE]
    described = [_described(name) for name in names]
    rooms = [_room(room, title) for room, title in ROOMS.items()]
    return "\n".join([HEAD, *described, ROOMS_HEAD, *rooms])


def _described(name: str) -> str:
    """The section of a public name, from its docstring."""
    module = medddist._WHERE[name]
    (node,) = (one for one in _tree(module).body if getattr(one, "name", None) == name)
    members = "\n   :members:" if isinstance(node, ast.ClassDef) else ""
    kind = "class" if members else "function"
    directive = f".. auto{kind}:: medddist.{module}.{name}{members}"
    return f"## {name}\n\n```{{eval-rst}}\n{directive}\n```\n"


def _tree(module: str) -> ast.Module:
    path = ROOT / "medddist" / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _room(room: str, title: str) -> str:
    rows = [(f"`{_short(name)}`", _summary(_short(name))) for name in modules(room)]
    first = f"{READING}\n\n" if room == "method" else ""
    table = "\n".join(markdown_table(("module", "what it is for"), rows))
    return f"### {title}\n\n{first}{table}\n"


def _short(name: str) -> str:
    return name.removeprefix("medddist.")


def _summary(module: str) -> str:
    """The first paragraph of a module's docstring."""
    return " ".join(ast.get_docstring(_tree(module)).split("\n\n")[0].split())


def main() -> None:
    """Write the pages in place of those that are there."""
    for path, text in pages().items():
        (ROOT / "book" / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
