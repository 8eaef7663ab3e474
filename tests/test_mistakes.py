"""The likeliest mistakes end with exit code 2 and one line each, and a page shows these lines.

`python tests/test_mistakes.py` writes the page anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medddist import cli

PAGE = Path(__file__).resolve().parent.parent / "book" / "mistakes.md"
HEAD = """\
# When something is wrong

A mistake ends a command with exit code 2 and one line on standard error: what is wrong, and what to
do. The table lists the most likely mistakes with their messages; a test makes each mistake and
compares the message. (After `make install`, the program is `.venv/bin/medddist`.) Any other failure
ends with exit code 1; `--debug` then shows where it was.

| mistake, and the command | message, after `medddist: error:` |
|---|---|
"""

MISTAKES = {  # what: the command, in a folder that `made` has filled
    "a command misspelt": "distil",
    "an option misspelt": "distill --profil demo",
    "an unknown profile": "teachers --profile dmo",
    "a setting misspelt": "distill --set distill.iteration=100",
    "a value of another type": "distill --set distill.iterations=many",
    "a value out of range": "distill --set distill.step_size=-0.01",
    "a setting without a value": "distill --set iterations",
    "settings that contradict each other": (
        "distill --profile smoke --set distill.max_start_epoch=30"
    ),
    "an unknown device": "prepare --device gpu",
    "a path that does not exist": "prepare --data xrays",
    "a single picture as data": "prepare --data one.png",
    "images without class folders": "prepare --data loose",
    "one class": "prepare --data one_class",
    "a class of two images": "prepare --data few",
    "a damaged image": "prepare --data damaged",
    "the radiography database half unpacked": "prepare --data COVID-19_Radiography_Dataset",
    "labels.csv without a column": "prepare --data no_column",
    "labels.csv with a missing file": "prepare --data wrong_name",
    "an .npz without a part": "prepare --data no_test.npz",
    "an .npz with pixels from 0 to 255 as floats": "prepare --data floats.npz",
    "more blocks than the images can be halved": "teachers --data good --set network.depth=6",
    "more distilled images per class than training images": (
        "distill --data good --profile smoke --set distill.images_per_class=50"
    ),
    "a profile with an unknown setting": "teachers --profile mine.yaml",
    "a profile that already exists": "init good --write mine.yaml",
    "a class folder without images": "init hollow",
    "a package that was cut off": "verify cut.zip",
    "a missing package": "train set.zip --data good",
}


def pictures(folder: Path, **counts: int) -> None:
    """Folders of grey noise."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(random.integers(0, 255, (32, 32), np.uint8)).save(
                folder / name / f"{k}.png"
            )


def made(here: Path) -> None:
    """All that the mistakes need."""
    pictures(here / "good", a=12, b=12)
    pictures(here / "one_class", a=4)
    pictures(here / "hollow", a=6, b=6, c=0)
    pictures(here / "few", a=4, b=2)
    pictures(here, loose=3)
    pictures(here / "damaged", a=4, b=4)
    (here / "damaged" / "b" / "1.png").write_bytes(b"no image")
    pictures(here / "COVID-19_Radiography_Dataset", COVID=3, Normal=3)
    for name, text in (
        ("no_column", "name,label\na/0.png,a\n"),
        ("wrong_name", "file,label\na/0.png,a\na/9.png,b\n"),
    ):
        pictures(here / name, a=3)
        (here / name / "labels.csv").write_text(text)
    (here / "one.png").write_bytes((here / "good" / "a" / "0.png").read_bytes())
    images, labels = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2
    np.savez(here / "no_test.npz", train_images=images, train_labels=labels)
    parts = {
        f"{part}_{what}": of
        for part in ("train", "test")
        for what, of in (("images", images + 255.0), ("labels", labels))
    }
    np.savez(here / "floats.npz", **parts)
    (here / "mine.yaml").write_text("name: mine\nteachers: {number: 3}\n")
    (here / "cut.zip").write_bytes(b"PK\x03\x04 and no more")


def said(command: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.suppress(SystemExit),
    ):
        return cli.exit_code(command.split()), out.getvalue(), err.getvalue()
    raise AssertionError(f"{command}: ended otherwise")


def rows(here: Path) -> Iterator[tuple[str, str, str]]:
    """(mistake, command, what it says); the folder's own name left out."""
    before = os.getcwd()
    os.chdir(here)
    try:
        for what, command in MISTAKES.items():
            code, out, err = said(command)
            lines = [line for line in err.splitlines() if line.startswith("medddist: error: ")]
            assert (code, out, len(lines)) == (2, "", 1), f"{command}: {code} {out}{err}"
            assert str(here) not in err, f"{command}: {err}"
            assert err.endswith(lines[0] + "\n") and "Traceback" not in err
            yield what, command, lines[0].removeprefix("medddist: error: ")
    finally:
        os.chdir(before)


def page(here: Path) -> str:
    cell = lambda text: text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
    return HEAD + "".join(
        f"| {cell(what)}<br>`medddist {command}` | {cell(line)} |\n"
        for what, command, line in rows(here)
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    made(folder)
    return folder


def test_twenty_mistakes_and_more_are_one_line_each_and_as_the_page_shows_them(here):
    assert len(MISTAKES) >= 20
    assert page(here) == PAGE.read_text(encoding="utf-8"), "run: python tests/test_mistakes.py"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder))
        PAGE.write_text(page(Path(folder)), encoding="utf-8")
    print(PAGE, file=sys.stderr)
