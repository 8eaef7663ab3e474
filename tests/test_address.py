"""While _config.yml has no address of the repository, no page has a dead link; setting it there
turns every link on.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
UNSET = "https://github.com/OWNER/medddist"
SET = "https://github.com/somebody/medddist"
PLACE = "somebody/medddist"
LINKS = {  # of a notebook's page, where there is an address
    "binder": "https://mybinder.org/v2/gh/" + PLACE + "/main?urlpath=lab/tree/notebooks/01_data",
    "colab": "https://colab.research.google.com/github/" + PLACE + "/blob/main/notebooks/01_data",
    "repository": f'href="{SET}"',
    "issues": f"{SET}/issues/new",
}
STATED = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def small_book(folder: Path, address: str) -> Path:
    """The first pages and one notebook, built as the book is, with this address in _config.yml."""
    source = folder / "book"
    for name in ("extensions", "assets"):
        shutil.copytree(ROOT / "book" / name, source / name)
    for path in [*(ROOT / "book").glob("*.txt"), *(ROOT / "book").glob("intro*.md")]:
        shutil.copy(path, source)
    shutil.copy(ROOT / "book" / "references.bib", source)
    shutil.copy(ROOT / "CITATION.cff", source.parent)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert config.count(STATED) == 1
    (source / "_config.yml").write_text(config.replace(STATED, address), encoding="utf-8")
    chapters = [{"file": "intro_ja"}, {"file": "notebooks/01_data"}]
    (source / "_toc.yml").write_text(
        yaml.safe_dump({"format": "jb-book", "root": "intro", "chapters": chapters})
    )
    notebook = json.loads((ROOT / "notebooks" / "01_data.ipynb").read_text(encoding="utf-8"))
    notebook["cells"] = [
        cell | {"outputs": []} if "outputs" in cell else cell for cell in notebook["cells"][:3]
    ]
    assert "github.com" in json.dumps(notebook) or "<repository>" in json.dumps(notebook)
    (source / "notebooks").mkdir()
    (source / "notebooks" / "01_data.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "--quiet", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return source / "_build" / "html"


def pages_of(folder: Path) -> dict[str, str]:
    names = ("intro", "intro_ja", "notebooks/01_data")
    return {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in names}


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page))


@pytest.mark.timeout(900)
def test_without_an_address_no_page_has_a_link_button_or_command_that_needs_one(tmp_path):
    for name, page in pages_of(small_book(tmp_path, UNSET)).items():
        assert "github.com/OWNER" not in page, name
        assert not re.search(r"mybinder|colab\.research|/issues/new|git\+https", page), name
        text = text_of(page)
        assert not [word for word in ("git clone", "Colab or Binder", "ロケット") if word in text]
        if name != "notebooks/01_data":
            assert "cd medddist\n" in text


@pytest.mark.timeout(900)
def test_setting_the_address_in_one_place_turns_all_links_on(tmp_path):
    pages = pages_of(small_book(tmp_path, SET))
    page = pages["notebooks/01_data"]
    assert [name for name, link in LINKS.items() if link not in page] == []
    for name in ("intro", "intro_ja"):
        assert f"git clone {SET} && cd medddist\n" in text_of(pages[name])
    assert "Colab or Binder" in pages["intro"] and "ロケット" in pages["intro_ja"]
    assert not [name for name, each in pages.items() if "github.com/OWNER" in each]
    assert f'repository = "{SET}"' in text_of(page)


def test_a_notebook_made_without_an_address_has_none(monkeypatch):
    from workflow import notebook

    script = ROOT / "notebooks" / "01_data.py"
    for address, written in ((UNSET, "<repository>"), (SET, SET)):
        monkeypatch.setattr(notebook, "repository_url", lambda address=address: address)
        made = "".join(cell.source for cell in notebook.from_script(script).cells)
        assert f'repository = "{written}"' in made and "github.com/OWNER" not in made


def test_notebooks_know_the_address_once_it_is_set():
    if "/OWNER/" in STATED:
        pytest.skip("_config.yml has no address yet")
    without = [
        path.name
        for path in (ROOT / "notebooks").glob("*.ipynb")
        if STATED not in path.read_text(encoding="utf-8")
    ]
    assert not without, "run: make publish"
