"""A study of one's own: a folder with these notebooks, set to one's data, that builds its own book.

The files come from `medddist/template`, links to the clone's own notebooks, workflow and pages; an installed package has copies.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import sys
from pathlib import Path

import yaml

from medddist.errors import InputError
from medddist.files import write_bytes

TEMPLATE = Path(__file__).parent / "template"
WORKFLOW = ("Snakefile", "notebook.py", "book.py", "tree.py")
# What the pages and _config.yml refer to.
ASSETS = ("flow.svg", "book.css", "favicon.svg", "tex-svg.js", "MathJax-LICENSE.txt", "README.txt")
PAGES = ("extensions/pages.py", "method.md", "references.md", "references.bib", *(f"assets/{name}" for name in ASSETS))
PROFILE = "study.yaml"
IGNORED = "/build/\n/book/_build/\n__pycache__/\n.ipynb_checkpoints/\n# images must not be shared by accident\n*.npz\n*.dcm\n*.png\n*.jpg\n*.jpeg\n"


def require_room_for(folder: Path) -> None:
    """Raises InputError unless `folder` is absent or empty, and where the package came without its template."""
    if not (TEMPLATE / "notebooks").is_dir():
        raise InputError(f"{TEMPLATE}: the notebooks are not there; install medddist from a clone (pip install -e .) on Linux or macOS")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty; name a new folder")


def write_study(folder: Path, data: str, title: str) -> None:
    """All of the study but its profile, `study.yaml`, in `folder`; `data` is `phantom` or an absolute path."""
    folder = Path(folder)
    for script in sorted((TEMPLATE / "notebooks").glob("[0-9]*.py")):
        write_bytes(folder / "notebooks" / script.name, with_defaults(script.read_text(encoding="utf-8"), profile=PROFILE, data=data).encode())
    for name in WORKFLOW:
        _copied(TEMPLATE / "workflow" / name, folder / "workflow" / name)
    for name in PAGES:
        _copied(TEMPLATE / "book" / name, folder / "book" / name)
    method = folder / "book" / "method.md"
    write_bytes(method, without_links(method.read_text(encoding="utf-8"), {"intro", *(Path(name).stem for name in PAGES)}).encode())
    for name in ("_config.yml", "_toc.yml", "notebooks"):  # where Jupyter Book looks for them
        os.symlink(f"../{name}", folder / "book" / name)
    written = {
        "book/intro.md": f"# {title}\n\n{ABOUT}",
        "README.md": f"# {title}\n\n{ABOUT}\n{HOW}",
        "_config.yml": _configuration(title),
        "_toc.yml": _contents(folder),
        "Makefile": _makefile(data),
        ".gitignore": IGNORED,
    }
    for name, text in written.items():
        write_bytes(folder / name, text.encode())


def without_links(page: str, there: set[str]) -> str:
    """A page whose links to pages that are not `there` are words; one that stands alone, as to another language, is gone."""
    link = r"\[([^\]]*)\]\((\w+)\.md\)"
    page = re.sub(rf"^{link}\n\n", lambda found: found[0] if found[2] in there else "", page, flags=re.MULTILINE)
    return re.sub(link, lambda found: found[0] if found[2] in there else found[1] or f"medddist's page on {found[2]}", page)


def with_defaults(script: str, **values: str) -> str:
    """A notebook's script with other defaults of these parameters, the lines `name: str = "..."  # help` of its parameters cell."""
    for name, value in values.items():
        line = lambda found: f"{found[1]}{_quoted(value)}{found[2]}"  # noqa: B023
        script, count = re.subn(rf'^({name}: str = )"[^"\n]*"(.*)$', line, script, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{count} lines declare the parameter {name}")
    return script


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _configuration(title: str) -> str:
    """This book's own settings without the buttons that lead to its repository."""
    settings = yaml.safe_load((TEMPLATE / "_config.yml").read_text(encoding="utf-8"))
    for name in ("launch_buttons", "copyright", "author"):
        settings.pop(name, None)
    without_buttons = settings["html"] | {"use_repository_button": False, "use_issues_button": False}
    year = str(datetime.date.today().year)
    settings |= {"title": title, "author": "", "copyright": year, "html": without_buttons}
    return "# Jupyter Book 1.x. The repository's address is that of medddist, where notebooks install it from when it is not there.\n" + yaml.safe_dump(
        settings, sort_keys=False, allow_unicode=True
    )


def _contents(folder: Path) -> str:
    """This book's own table of contents, as far as its pages are in the study."""
    contents = yaml.safe_load((TEMPLATE / "_toc.yml").read_text(encoding="utf-8"))
    there = lambda chapter: (folder / "book" / f"{chapter['file']}.md").exists() or (folder / f"{chapter['file']}.py").exists()
    parts = [part | {"chapters": [chapter for chapter in part["chapters"] if there(chapter)]} for part in contents["parts"]]
    return yaml.safe_dump(contents | {"parts": [part for part in parts if part["chapters"]]}, sort_keys=False, allow_unicode=True)


def _makefile(data: str) -> str:
    for_make = lambda text: text.replace("$", "$$").replace("#", "\\#")
    return MAKEFILE.replace("<data>", for_make(data)).replace("<python>", for_make(sys.executable))


MAKEFILE = """\
# make book     the notebooks executed on DATA, as build/study/html/index.html; what is there already is read
# make clean    removes build/
DATA ?= <data>
PROFILE ?= study.yaml
PY ?= <python>
export DATA PROFILE
export PYTHONUNBUFFERED := 1

.PHONY: book clean

book:
	@mkdir -p build/study
	@rm -rf build/study/.snakemake/sources
	@"$(PY)" -m snakemake --snakefile workflow/Snakefile --directory build/study --cores all --nolock \\
	  --rerun-incomplete --quiet all --runtime-source-cache-path "$(CURDIR)/build/study/.snakemake/sources"
	@echo 'the book: build/study/html/index.html'

clean:
	rm -rf build
"""

ABOUT = """\
A study of dataset distillation on data of one's own, started by `medddist new-study`: its notebooks are those of medddist's book, with
the data and the profile of this folder as their defaults.
"""

HOW = """\
```
make book    # runs the notebooks and builds build/study/html/index.html
```

`study.yaml` holds every setting, `notebooks/*.py` are the notebooks' sources (jupytext's percent format), `workflow/Snakefile` says which
needs which, `book/` has the pages. Results are kept under `build/`; the book shows images: if they are of patients, it may go only
where the images may. `make book` needs medddist with its extra `book` in the Python that the Makefile names (`make book PY=...`).
"""
