"""A first look: what is in a folder made to have one of everything, what is suspected where it was
planted, and the page.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from medddist.base.errors import InputError
from medddist.init import shortcuts
from medddist.init.report import page, write_report
from medddist.init.survey import survey_lines, surveyed
from medddist.measure.probes import cross_validated_probe


def folder_of(tmp_path, count: int = 40, **how):
    """Two classes of grey noise; how: of class b, `size`, `ending`, `prefix`, and a grey `border`."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        of = how if name == "b" else {}
        (tmp_path / name).mkdir()
        for k in range(count):
            pixels = random.integers(40, 200, (of.get("size", 48), 48), np.uint8)
            if "border" in of:
                pixels[:6] = of["border"]
            prefix = of.get("prefix", "img") if k % 2 else "img"
            Image.fromarray(pixels).save(tmp_path / name / f"{prefix}{k}{of.get('ending', '.png')}")
    return tmp_path


def suspected(found) -> set[str]:
    return {trait["what"] for trait in found.suspected}


def test_what_is_there_is_counted(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "a" / "broken.png").write_bytes(b"no image")
    (folder / "a" / "copy.png").write_bytes((folder / "a" / "img0.png").read_bytes())
    (folder / "a" / "claimed.png").write_bytes((folder / "b" / "img0.png").read_bytes())
    found = surveyed(folder)
    assert found.counts == {"a": 42, "b": 40}
    assert (found.sizes, found.kinds) == ({"48x48 px": 82}, {"PNG, L": 82})
    assert {frozenset(one) for one in found.copies} == {
        frozenset({"a/copy.png", "a/img0.png"}),
        frozenset({"a/claimed.png", "b/img0.png"}),
    }
    assert [set(one) for one in found.contradictory] == [{"a/claimed.png", "b/img0.png"}]
    assert found.unreadable == (
        ("a/broken.png", "cannot be read as an image (no image format is recognised in it)"),
    )
    text = "\n".join(survey_lines(found))
    assert "no shortcut suspected; only tried: " in text
    assert (
        "82 images of 2 classes: a 42, b 40" in text
        and "the first is a/broken.png" in text
        and "copies: 2 images have the pixels of another; " in text
    )
    assert (
        "contradictions: 2 images have a copy in another class; the first are a/claimed.png and "
        "b/img0.png" in text
    )
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    "how, what",
    [
        ({"size": 40}, {"size in pixels"}),
        ({"ending": ".jpg"}, {"format and mode"}),
        ({"prefix": "north"}, {"beginning of the file name"}),
        ({"border": 0}, {"border of the image"}),
        ({}, set()),
    ],
)
def test_what_is_planted_is_suspected_and_nothing_else(tmp_path, how, what):
    found = surveyed(folder_of(tmp_path, **how))
    assert suspected(found) == what, found.traits


def test_no_image_of_the_border_is_both_learned_from_and_chosen_by(tmp_path, monkeypatch):
    seen = []

    def watched(rows, groups):
        seen.append(groups)
        return cross_validated_probe(rows, groups)

    monkeypatch.setattr(shortcuts, "cross_validated_probe", watched)
    folder = folder_of(tmp_path)
    (folder / "a" / "copy.png").write_bytes((folder / "a" / "img0.png").read_bytes())
    surveyed(folder)
    first, second = seen
    assert (
        not set(first) & set(second)
        and len(first) + len(second) == 81
        and len({*first, *second}) == 80
    )


def test_names_that_repeat_the_class_name_no_source(tmp_path):
    folder = folder_of(tmp_path)
    for name in "ab":
        for file in (folder / name).iterdir():
            file.rename(file.with_name(f"{name}-{file.name.removeprefix('img')}"))
    assert "beginning of the file name" not in {trait["what"] for trait in surveyed(folder).traits}


def test_sites_are_held_against_the_classes(tmp_path):
    folder = folder_of(tmp_path)
    rows = [
        f"{c}/img{k}.png,{c},{'north' if (c == 'a') == (k % 10 > 0) else 'south'}"
        for c in "ab"
        for k in range(40)
    ]
    (folder / "labels.csv").write_text("\n".join(["file,label,site", *rows]))
    found = surveyed(folder)
    (origin,) = [trait for trait in found.traits if trait["what"] == "site"]
    assert origin["suspected"] and origin["tells_the_class"] == pytest.approx(0.9)
    assert found.origins == {"north": {"a": 36, "b": 4}, "south": {"a": 4, "b": 36}}


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path):
    folder = folder_of(tmp_path, count=3)
    for file in (folder / "b").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of the class 'b' can be read"):
        surveyed(folder)


def test_what_cannot_be_read_is_told_without_a_remedy_that_init_applies_itself(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "a" / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(folder / "b" / "nan (1); x.tif")
    found = surveyed(folder)
    assert [why for _, why in found.unreadable] == [
        "cannot be read as an image (no image format is recognised in it)",
        "has pixels that are NaN or infinite",
    ]
    assert "skip_unreadable" not in "\n".join(survey_lines(found))


def test_a_class_without_a_file_is_refused(tmp_path):
    folder = folder_of(tmp_path, count=3)
    (folder / "c").mkdir()
    with pytest.raises(
        InputError, match="the class 'c' has no image; add some, or remove its folder"
    ):
        surveyed(folder)


def test_a_file_of_arrays_is_looked_at_too(tmp_path):
    random = np.random.default_rng(0)
    parts = {
        f"{part}_images": random.integers(0, 255, (12, 16, 16), np.uint8)
        for part in ("train", "val", "test")
    }
    np.savez(
        tmp_path / "x.npz",
        **parts,
        **{f"{part}_labels": np.arange(12) % 2 for part in ("train", "val", "test")},
    )
    found = surveyed(tmp_path / "x.npz")
    assert found.counts == {"0": 18, "1": 18} and found.copies == () and not found.sizes


@pytest.mark.filterwarnings(
    "ignore:vert"
)  # seaborn 0.13.2 asks matplotlib 3.11 for box plots in the old words
def test_the_page_holds_all_it_shows_and_says_who_may_see_it(tmp_path):
    (tmp_path / "in").mkdir()
    found = surveyed(folder_of(tmp_path / "in", count=6))
    write_report(found, tmp_path / "out" / "page.html", ["takes <long>"])
    text = (tmp_path / "out" / "page.html").read_text()
    assert text == page(found, ["takes <long>"]), "the same each time"
    assert text.count("<img ") == 4 and "http" not in text and "takes &lt;long&gt;" in text
    assert "only where the images may" in text
