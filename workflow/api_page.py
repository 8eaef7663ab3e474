"""Writes the library's reference from the tree of medddist/: book/api.md, which begins it,
book/api/ROOM.md, a page per room, and book/settings.md.

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

The public names below are imported from `medddist` itself and keep their meaning between releases;
[](python.md) shows them in use. All other names may change in any release.
"""
ROOMS_HEAD = """## All modules

A page per room, made from the docstrings. They are listed from the ground up: a room imports only
from rooms above it. Shapes stand in brackets: N images, C channels, H and W pixels, K classes. The
settings of a profile are listed in [](settings.md), the commands in [](reproduce.md).
"""
READING = "Read these modules in this order; `medddist/method/README.md` says why."


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
    rooms = {f"api/{room}.md": _room(room, title) for room, title in ROOMS.items()}
    return {"api.md": _start(), **rooms, "settings.md": settings_page.text()}


def _start() -> str:
    names = [name for name in medddist.__all__ if name in medddist._WHERE]
    public = [
        (f"{{py:obj}}`~medddist.{medddist._WHERE[name]}.{name}`", _summary(name)) for name in names
    ]
    rooms = [
        (f"[{title}](api/{room}.md)", ", ".join(f"`{_short(name)}`" for name in modules(room)))
        for room, title in ROOMS.items()
    ]
    tables = [markdown_table(("name", "what it is or does"), public)]
    tables.append(markdown_table(("room", "modules"), rooms))
    return "\n".join([HEAD, *tables[0], "", ROOMS_HEAD, *tables[1], ""])


def _short(name: str) -> str:
    return name.removeprefix("medddist.")


def _summary(name: str) -> str:
    """The first sentence of a public name's docstring."""
    path = ROOT / "medddist" / medddist._WHERE[name].replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    (node,) = (one for one in body if getattr(one, "name", None) == name)
    return " ".join(ast.get_docstring(node).split("\n\n")[0].split())


def _room(room: str, title: str) -> str:
    lines = [f"# {title}\n"]
    if room == "method":
        lines.append(f"{READING}\n")
    for name in modules(room):
        directive = f".. automodule:: {name}\n   :members:\n   :ignore-module-all:"
        lines.append(f"## {name}\n\n```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(lines)


def main() -> None:
    """Write the pages in place of those that are there."""
    book = ROOT / "book"
    (book / "api").mkdir(exist_ok=True)
    for file in (book / "api").glob("*.md"):
        file.unlink()
    for path, text in pages().items():
        (book / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
