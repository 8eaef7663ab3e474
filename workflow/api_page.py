"""Writes book/api.md: the library's public modules, room by room, from the tree of medddist/.

python -m workflow.api_page
"""

from __future__ import annotations

import ast
from pathlib import Path

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

This page is made from the docstrings, one section per room, from the ground up: a room imports only
from rooms above it on this page. The commands are described in [](reproduce.md). Shapes stand in
brackets: N images, C channels, H and W pixels, K classes.

The names that keep their meaning between releases are few: [](python.md) lists them, and shows them
in use. They are imported from `medddist` itself. All other modules may change in any release.

```python
from medddist import Study, load_profile

study = Study(load_profile("demo", {"distill.iterations": 50}), "phantom")
released = study.distillation().distilled  # images (N, C, H, W), labels, step size
rows = study.table()  # scores of networks trained on them, and references
```
"""


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


def text() -> str:
    """Write the page, in MyST."""
    lines = [HEAD]
    for room, title in ROOMS.items():
        lines.append(f"## {title}\n")
        if room == "method":
            lines.append(
                "Read these modules in this order; `medddist/method/README.md` says why.\n"
            )
        for name in modules(room):
            directive = f".. automodule:: {name}\n   :members:\n   :ignore-module-all:"
            lines.append(f"### {name}\n\n```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "book" / "api.md").write_text(text(), encoding="utf-8")
