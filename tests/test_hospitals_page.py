"""What hospitals gain: the measurement on a tiny study, and what the page says of a record."""

import json

import pytest
from click.testing import CliRunner

from workflow import hospitals, hospitals_page, overview

SMALL = ("data.images=400", "distill.iterations=1", "distill.images_per_class=1")
SMALL += ("evaluate.recipe.epochs=1", "teachers.teachers=1", "network.width=4", "seeds=[0]")
SMALL += ("hospitals.networks=2", "hospitals.rounds=2", "references.good_recipe.epochs=1")


def score(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def row(way: str, mean: float, above=None, hospital=None, epsilon=None) -> dict:
    both = {"accuracy": score(mean), "balanced_accuracy": score(mean)}
    given = {"way": way, "hospital": hospital, "epsilon": epsilon, "networks": 3, "rounds": 1}
    given["draws"] = 5
    if above is not None:
        paired = {"difference": sum(above) / 2, "low": above[0], "high": above[1]}
        given["packages_above"] = {"accuracy": paired, "balanced_accuracy": paired}
    return given | {"sent_bytes": 1000} | both


def record(*rows: dict) -> dict:
    distill = {"method": "trajectory", "iterations": 30}
    settings = {"distill": distill, "teachers": {"teachers": 3}, "seeds": [0]}
    settings["hospitals"] = {"changes": {"teachers.teachers": 1, "distill.iterations": 20}}
    return {"source": "phantom", "settings": settings, "about": {"commit": "c"}, "rows": [*rows]}


def test_a_gain_is_one_only_where_its_interval_excludes_zero():
    rows = row("all packages", 0.7), row("alone", 0.5, (0.1, 0.3), "A")
    rows += row("alone", 0.6, (-0.1, 0.2), "B"), row("pooled real data", 0.8, (-0.2, -0.1))
    text = hospitals_page.text({"hospitals-phantom": record(*rows)})
    assert "with the best hospital alone (B): **not significantly different** in balanced" in text
    assert (
        "compared with all real data in one place: **below** in balanced accuracy (-0.150 [-0.200,"
        in text
    )
    assert "| A alone | 1 kB | 1 | 0.500 [0.400," in text
    assert "Without a guarantee: trajectory matching on 1 teacher, 20 iterations; each" in text


def test_each_epsilon_has_a_table_of_its_own_and_says_what_is_public():
    rows = [row("all packages", 0.4, epsilon=e) for e in (1.0, 4.0)]
    text = hospitals_page.text({"hospitals-phantom": record(*rows)})
    assert text.count("| what a receiver has |") == 2
    assert "epsilon 1 per release" in text and "networks are untrained here" in text


def test_without_a_record_the_page_says_how_to_make_it():
    assert hospitals_page.text({}).startswith("Not measured yet. `.venv/bin/python -m workflow.")


def test_the_committed_text_is_that_of_the_committed_results():
    committed = (overview.ROOT / "book" / "hospitals_measured.txt").read_text(encoding="utf-8")
    assert committed == hospitals_page.text(hospitals_page.records(overview.RESULTS))


@pytest.mark.parametrize("part", ["ways", "private"])
def test_every_way_is_a_row_with_its_interval(part, tmp_path, monkeypatch):
    monkeypatch.setattr(hospitals, "EPSILONS", (4.0,))
    monkeypatch.setattr(hospitals, "DRAWS", 2)
    folders = "--out", str(tmp_path / "out"), "--save", str(tmp_path)
    more = ("data.images=1200", "data.validation_fraction=0.2", "distill.extractor_networks=1")
    more = more if part == "private" else ()
    words = [word for change in (*SMALL, *more) for word in ("--set", change)]
    given = ["--profile", "smoke", "--data", "phantom", "--part", part, *folders, *words]
    done = CliRunner().invoke(hospitals.main, given)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "hospitals-phantom.json").read_text())["rows"]
    shared = {"weights, answers averaged", "federated averaging"} if part == "ways" else set()
    expected = {"all packages", "its package", "alone", "pooled real data"} | shared
    assert {row["way"] for row in rows} == expected
    for each in rows:
        assert each["epsilon"] == (None if part == "ways" else 4.0)
        above = each.get("packages_above", {}).get("balanced_accuracy")
        assert (above is None) == (each["way"] == "all packages")
        assert above is None or above["low"] <= above["difference"] <= above["high"]
        packages = each["way"] in ("all packages", "its package")
        assert (each["draws"], each["networks"]) == ((2, 4) if packages else (1, 2))
