"""What the theme's pages need to be silent in a browser's console, opened from a folder as well as from a server.

A Sphinx extension, named in _config.yml. Each of these is a line that sphinx-book-theme 1.1 or what it brings writes into every page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

import medddist.study.profile  # noqa: F401  all of it, before autodoc writes into the annotations that a later class would inherit

THEBE = re.compile(
    r"thebe", re.IGNORECASE
)  # code run in the page, by a server elsewhere; declared twice, which is a syntax error
FONTS = re.compile(
    r'<link rel="preload" as="font"[^>]*>\s*'
)  # icons are drawn as SVG; from a folder the fonts are refused


def set_context(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Light or dark as the reader's system is, unless chosen; the page's own language; no script of thebe's."""
    context["language"] = "ja" if pagename.endswith("_ja") else context["language"]
    context["default_mode"] = context.get("default_mode") or "auto"
    context["script_files"] = [
        script for script in context["script_files"] if not _of_thebe(script)
    ]


def _of_thebe(script: object) -> bool:
    return bool(
        THEBE.search(f"{getattr(script, 'filename', '')} {getattr(script, 'attributes', '')}")
    )


def name_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Its address, in code too, where MyST substitutes nothing."""
    source[0] = source[0].replace(
        "{{ repository }}", str(app.config.myst_substitutions.get("repository", ""))
    )


def remove_preloads(app: Sphinx, failed: Exception | None) -> None:
    for page in [] if failed else Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if FONTS.search(text):
            page.write_text(FONTS.sub("", text), encoding="utf-8")


def as_text(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text with names between backticks, and `name: what it is` on a line of its own: nothing else in them is markup."""
    apart = (
        part for line in lines for part in (["", line] if re.match(r"[a-z]\w*: ", line) else [line])
    )
    parts = (line.split("`") for line in apart)
    lines[:] = [
        "".join(
            f"``{part}``" if k % 2 else re.sub(r"([\\*|_])", r"\\\1", part)
            for k, part in enumerate(line)
        )
        for line in parts
    ]


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", set_context, priority=900)
    app.connect("autodoc-process-docstring", as_text)
    app.connect("source-read", name_repository)
    app.connect("build-finished", remove_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
