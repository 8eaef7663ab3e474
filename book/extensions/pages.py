"""Fix pages of sphinx-book-theme 1.1: no errors in the console, from a folder or from a server.

A Sphinx extension, named in _config.yml. Each fixes a line that the theme writes into every page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

# Before autodoc writes into annotations that a later class would inherit.
import medddist.study.profile  # noqa: F401

# Thebe runs code of a page on a server elsewhere; it is declared twice, which is a syntax error.
THEBE = re.compile(r"thebe", re.IGNORECASE)
# Icons are drawn as SVG, and from a folder a browser refuses to load the fonts.
FONTS = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')


def set_context(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Set the page's language, colours as the reader's system has them, and no script of thebe."""
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
    """Show docstrings as plain text: only names in backticks and `name: what` lines are markup."""
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
