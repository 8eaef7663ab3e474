"""Networks that distil and networks that train: the measurement on a tiny study, and its page."""

import json

import pytest
from click.testing import CliRunner

from workflow import across, across_page, overview

SMALL = ("data.images=160", "distill.iterations=1", "distill.images_per_class=1")
SMALL += ("evaluate.recipe.epochs=1", "teachers.teachers=1", "network.width=4", "seeds=[0]")


def score(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def record() -> dict:
    means = {"random": (0.5, 0.4), "convnet": (0.7, 0.3), "convnet_wide": (0.6, 0.8)}
    rows = [
        {"distilled_for": name, "trained": network, "networks": 8, "balanced_accuracy": score(mean)}
        for name, both in means.items()
        for network, mean in zip(("convnet", "vit"), both)
    ]
    distill = {"method": "trajectory", "iterations": 100}
    settings = {"distill": distill, "teachers": {"teachers": 3}, "network": {"width": 16}}
    return {"source": "phantom", "settings": settings | {"seeds": [0]}, "rows": rows}


def test_each_set_is_compared_with_random_images_on_every_network():
    text = across_page.text({"networks-phantom": record()})
    assert "the set for the ConvNet is above random real images on 1 of 2, and the" in text
    assert "twice the width is above random real images on 2 of 2, and the small" in text
    assert "| distilled for: ConvNet | 0.700 [0.600," in text and "8 networks learn" in text
    (drawn,) = across_page.pictures({"networks-phantom": record()}).values()
    assert drawn.content.startswith(b"\x89PNG")


def test_without_a_record_the_page_says_how_to_make_it():
    assert across_page.text({}).startswith("Not measured yet. `.venv/bin/python -m workflow.across")


def test_the_committed_text_is_that_of_the_committed_results():
    committed = (overview.ROOT / "book" / "across_measured.txt").read_text(encoding="utf-8")
    assert committed == across_page.text(across_page.records(overview.RESULTS))


def test_the_grid_has_every_pair_and_is_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(across, "TRAIN", ("convnet", "mlp"))
    monkeypatch.setattr(across, "DISTIL", {"convnet": {}, "convnet_shallow": {"network.depth": 1}})
    folders = "--out", str(tmp_path / "out"), "--save", str(tmp_path)
    words = [word for change in SMALL for word in ("--set", change)]
    given = ["--profile", "smoke", "--data", "phantom", *folders, *words]
    done = CliRunner().invoke(across.main, given)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "networks-phantom.json").read_text())["rows"]
    pairs = {(row["distilled_for"], row["trained"]) for row in rows}
    names = ("random", "convnet", "convnet_shallow")
    assert pairs == {(name, network) for name in names for network in across.TRAIN}
    monkeypatch.setattr(across, "trained_on", lambda *_: pytest.fail("it is cached"))
    assert CliRunner().invoke(across.main, given).exit_code == 0
