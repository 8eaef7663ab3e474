"""The points of accuracy against leakage: which there are, what a row holds, that they are kept,
the picture and the command.
"""

from __future__ import annotations

import contextlib
import json

import pytest
from test_audit import QUICK, puzzling
from test_study import tiny_study

from medddist import cli, figures
from medddist.base.errors import InputError
from medddist.cli import commands
from medddist.leaks import audit
from medddist.leaks.leakage import leakage, lines, points
from medddist.method import evaluate
from medddist.study.profile import load_profile
from medddist.study.settings import AuditSettings, LeakageSettings
from medddist.study.study import Study
from workflow import leakage_page

SMALL = {
    "network.width": 8,
    "audit": AuditSettings(**QUICK).model_dump(mode="json"),
    "leakage": LeakageSettings(
        starts=("real", "average", "noise"),
        images_per_class=(2,),
        noise_multipliers=(),
        changes={"distill.averaged_images": 4, "distill.iterations": 2},
    ).model_dump(mode="json"),
}


def study(out, monkeypatch, **changes) -> Study:
    """Every point of it is on the same made-up data."""
    monkeypatch.setattr("medddist.study.study.load_data", lambda *a, **b: puzzling())
    return tiny_study(out, puzzling(), **SMALL | changes)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("leakage")
        return out, leakage(study(out, patch))


def test_the_points_are_every_start_and_noise_at_every_size():
    profile = load_profile("full", {"leakage.noise_multipliers": [1.0, 4.0]})
    found = points(profile)
    assert [
        (one.profile.distill.images_per_class, one.profile.distill.initial_images) for one in found
    ] == [
        (size, start)
        for size in (5, 20)
        for start in ("real", "average", "noise", "noise", "noise")
    ]
    protected = [one.profile for one in found if one.profile.teachers.privacy]
    assert [one.teachers.privacy.noise_multiplier for one in protected] == [1.0, 4.0, 1.0, 4.0]
    assert all(
        one.distill.selection == "last" and one.teachers.recipe.sampling == "natural"
        for one in protected
    )
    assert (
        profile.distill.iterations
        != found[0].profile.distill.iterations
        == profile.leakage.changes["distill.iterations"]
    )


def test_a_change_that_does_not_fit_is_named():
    with pytest.raises(InputError, match="distill.iteration is not a setting"):
        points(load_profile("full", {"leakage.changes": {"distill.iteration": 3}}))


def test_a_row_is_what_the_study_and_its_audit_say(kept, monkeypatch):
    out, rows = kept
    assert [row["start"] for row in rows] == ["real", None, "average", "noise"]
    one = study(out, monkeypatch, **{"distill.iterations": 2, "distill.averaged_images": 4})
    told = audit.audit(one)["membership"]["loss"]
    assert rows[0]["found"] == {name: told["released"][name] for name in ("starting", "others")}
    assert rows[1]["found"] == {"starting": told["positive_control"]["control"]}
    assert rows[0]["balanced_accuracy"] == one.scored("distilled").scores["balanced_accuracy"]
    assert (
        set(rows[3]["found"]) == {"others"}
        and rows[3]["start_is_nearest"] is None
        and rows[2]["start_is_nearest"]["of"] == 6
    )
    assert all(row["privacy"] is None for row in rows)


def test_all_of_it_is_kept(kept, monkeypatch):
    out, rows = kept
    monkeypatch.setattr(evaluate, "train", lambda *a, **b: pytest.fail("trained again"))
    monkeypatch.setattr(
        "medddist.study.study.distill", lambda *a, **b: pytest.fail("distilled again")
    )
    assert json.loads(json.dumps(leakage(study(out, monkeypatch)))) == json.loads(json.dumps(rows))


def test_the_command_writes_a_record_that_the_page_is_made_of(kept, tmp_path, monkeypatch, capsys):
    out, rows = kept
    one = study(out, monkeypatch)
    monkeypatch.setattr(commands, "opened_study", lambda *a: contextlib.nullcontext(one))
    with pytest.raises(SystemExit) as ended:
        cli.main(["leakage", "--profile", "smoke", "--save", str(tmp_path / "results"), "--json"])
    assert ended.value.code == 0 and len(json.loads(capsys.readouterr().out)) == 4
    page = leakage_page.text(leakage_page.records(tmp_path / "results"))
    assert (
        "```{image} assets/leakage-tiny-made up.png" in page
        and page.count("| distilled from ") == 3
    )
    assert "| random real images | 2 |" in page and "epsilon" not in page


def test_a_guarantee_is_in_the_name_the_line_and_the_page(kept):
    told = {
        "epsilon": 3.25,
        "delta": 1e-5,
        "unit": "training image",
        "composed": {"teachers": 2, "steps": 680},
        "accountant": "A",
    }
    row = kept[1][3] | {"privacy": told, "broken": ["the attack is broken"]}
    assert figures.leakage_name(row) == "distilled from noise, ε = 3.2"
    assert "epsilon 3.25 at delta 1e-05" in lines([row])[0] and lines([row])[0].endswith(
        "the attack is broken"
    )
    page = leakage_page.text({"leakage-x": {"rows": [row, row]}})
    assert (
        page.count(
            "epsilon 3.25 at delta 1e-05 for one training image. It covers all teachers "
            "(number: 2), "
            "with 680 steps (A)"
        )
        == 1
    )
    assert "the attack is broken" in page


def test_the_picture_shows_every_group_of_every_row(kept):
    axes = figures.leakage(kept[1], "balanced_accuracy").axes[0]
    assert len(axes.containers) == sum(len(row["found"]) for row in kept[1]) == 6
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"distilled from averages of 4", "random real images", "2 images per class"} <= set(
        labels
    )
    figures.plt.close(axes.figure)
