"""Keeps the theme's pages silent in a browser's console, from a folder and from a server.

A Sphinx extension, named in _config.yml. It removes lines that sphinx-book-theme 1.1 or its
dependencies write into every page, and turns docstrings into markup.
"""

from __future__ import annotations

import gc
import re
from pathlib import Path

import yaml
from pydantic import BaseModel
from sphinx.application import Sphinx

# imported before autodoc writes into annotations that a later class would inherit
import medddist.study.profile  # noqa: F401

# thebe runs code in the page on a remote server, and is declared twice, which is a syntax error
THEBE = re.compile(r"thebe", re.IGNORECASE)
SECTION = re.compile(r"(Args|Returns|Raises|Yields|Example|Examples|Note|Notes):$")
LIST = re.compile(r"(-|\d+\.) ")
NAMED = re.compile(r"[a-z]\w*: ")
# icons are drawn as SVG, and a page opened from a folder may not load fonts
CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
NO_ADDRESS = "/OWNER/"  # in the repository's address in _config.yml, until somebody sets it
TOKEN = "<repository>"  # in notebooks that were made without an address
ADDRESSED = re.compile(r"\{\{ addressed: (.*?) \}\}", re.DOTALL)
FONTS = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')


def set_context(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Follow the system's light or dark mode, set the page's language, and drop thebe's scripts."""
    context["language"] = "ja" if pagename.endswith("_ja") else context["language"]
    context["default_mode"] = context.get("default_mode") or "auto"
    context["script_files"] = [
        script for script in context["script_files"] if not _of_thebe(script)
    ]


def _of_thebe(script: object) -> bool:
    return bool(
        THEBE.search(f"{getattr(script, 'filename', '')} {getattr(script, 'attributes', '')}")
    )


def drop_dead_links(app: Sphinx, config: object) -> None:
    """Show no button that leads to the repository while its address is not set."""
    if NO_ADDRESS in config.myst_substitutions["repository"]:
        buttons = ("use_repository_button", "use_issues_button", "use_edit_page_button")
        config.html_theme_options |= dict.fromkeys(buttons, False)
        config.html_theme_options |= {"repository_url": "", "launch_buttons": {}}


def name_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Fill in the repository's address, also in code, where MyST substitutes nothing.

    `{{ clone }}` is the command that clones it, and `{{ addressed: text }}` a text that is true
    only where there is an address; without one, both are empty. `{{ version }}` and `{{ date }}`
    are those of CITATION.cff.
    """
    address = str(app.config.myst_substitutions["repository"])
    is_set, text = NO_ADDRESS not in address, source[0]
    text = text.replace("{{ clone }}", f"git clone {address} && " if is_set else "")
    text = ADDRESSED.sub(r"\1" if is_set else "", text)
    cited = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    text = text.replace("{{ version }}", str(cited["version"]))
    text = text.replace("{{ date }}", str(cited["date-released"]))
    if Path(app.env.doc2path(name)).suffix == ".ipynb":
        text = re.sub(r"https://github\.com/OWNER/medddist", TOKEN, text)
        text = text.replace(TOKEN, address) if is_set else text
    source[0] = text


def remove_preloads(app: Sphinx, failed: Exception | None) -> None:
    for page in [] if failed else Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if FONTS.search(text):
            page.write_text(FONTS.sub("", text), encoding="utf-8")


def without_fields(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave out the signature of settings, whose fields are listed below it with their defaults."""
    is_model = isinstance(obj, type) and issubclass(obj, BaseModel)
    return ("", "") if is_model else None


def as_text(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn a docstring into markup.

    It is plain text with names between backticks, blocks that are indented after a blank line
    (equations, code), lists, lines `name: what it is`, and sections such as `Args:`. Nothing else
    in it is markup.
    """
    if lines and lines[0].startswith("Alias for field number"):  # Python's own words
        lines.clear()
    marked: list[str] = []
    state = "text"  # or "list", "block", "section"
    title, entry = "", 0  # of the section, and the indentation of its entries
    for line in lines:
        before = marked[-1] if marked else ""
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            marked.append("")
        elif SECTION.match(line):
            state, entry, title = "section", 0, line.strip(": ")
            marked += ["", f"**{title}**", ""]
        elif indent and state == "section":
            entry = entry or indent
            bullet = "" if title == "Returns" else "- " if indent == entry else "  "
            marked.append(bullet + _escaped(line.strip()))
        elif not indent:
            starts = LIST.match(line)
            if starts or NAMED.match(line) or state == "block":
                marked.append("")
            state = "list" if starts or (state == "list" and before) else "text"
            marked.append(_escaped(line))
        elif state == "list":
            marked.append(_escaped(line))
        else:
            if state == "text" and not before:
                state = "block"
                marked += ["::", ""]
            marked.append(line if state == "block" else _escaped(line.strip()))
    lines[:] = marked


def _escaped(line: str) -> str:
    parts = line.split("`")
    return "".join(
        f"``{part}``" if k % 2 else re.sub(r"([\\*|_])", r"\\\1", part)
        for k, part in enumerate(parts)
    )


def setup(app: Sphinx) -> dict:
    gc.disable()  # searching millions of nodes for cycles takes long, and finds little
    app.connect("config-inited", drop_dead_links)
    app.connect("html-page-context", set_context, priority=900)
    app.connect("autodoc-process-docstring", as_text)
    app.connect("autodoc-process-signature", without_fields)
    app.connect("source-read", name_repository)
    app.connect("build-finished", remove_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
