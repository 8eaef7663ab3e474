"""From a folder of images to a profile that can be run."""

from __future__ import annotations

import json
import re

import pytest
import torch
from test_mistakes import pictures

from medddist import cli
from medddist.base.errors import InputError
from medddist.init import first_profile as starting
from medddist.init.first_profile import (
    FEWEST_ITERATIONS,
    SIZES,
    _shape,
    _work,
    fitting_profile,
    name_of,
    write_profile,
)
from medddist.init.survey import surveyed
from medddist.study.profile import load_profile


def steady(monkeypatch, seconds: float) -> None:
    """A machine on which every unit of work takes as long as the test says."""
    monkeypatch.setattr(starting, "speeds", lambda *_: lambda unit: seconds)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pictures(folder, healthy=60, ill=30)
    return surveyed(folder)


@pytest.mark.parametrize("seconds, minutes, size", [(1e-6, 60, SIZES[0]), (10.0, 1, SIZES[-1])])
def test_as_many_teachers_and_iterations_as_there_is_time_for(
    found, monkeypatch, seconds, minutes, size
):
    steady(monkeypatch, seconds)
    made, about = fitting_profile(found, "mine", torch.device("cpu"), minutes)
    assert (made.teachers.teachers, made.distill.iterations) == size
    assert (
        made.distill.images_per_class == 5
    )  # a quarter of the 21 that the smaller class has for training
    work = _work(made, _shape(found, made))
    assert about["seconds"] == pytest.approx(seconds * sum(sum(units.values()) for units in work))


@pytest.mark.parametrize(
    "seconds, minutes, warned", [(1e-6, 60, False), (0.005, 8, True), (10.0, 1, True)]
)
def test_too_few_minutes_for_a_gain_are_said_to_be_so_with_how_many_would_do(
    found, monkeypatch, seconds, minutes, warned
):
    steady(monkeypatch, seconds)
    made, about = fitting_profile(found, "mine", torch.device("cpu"), minutes)
    told = [line for line in about["chosen"] if "expect no gain over the initial images" in line]
    assert bool(told) == warned == (made.distill.iterations < FEWEST_ITERATIONS)
    if warned:
        assert told[0].startswith(f"with {minutes} min expect no gain over the initial images")
        enough = int(re.search(r"--minutes (\d+)", told[0])[1])
        again, _ = fitting_profile(found, "mine", torch.device("cpu"), enough)
        assert enough > minutes and again.distill.iterations >= FEWEST_ITERATIONS


def test_where_the_least_takes_longer_it_says_so_and_distils_no_more_than_a_quarter_of_what_is_left(
    tmp_path, monkeypatch
):
    pictures(tmp_path, healthy=1600, ill=60)
    steady(monkeypatch, 10.0)
    made, about = fitting_profile(surveyed(tmp_path), "mine", torch.device("cpu"), 1)
    assert (
        made.data.images == 598 and made.distill.images_per_class == 5
    )  # of 21 of the 43 for training
    assert any("1 min are not enough" in line for line in about["chosen"]) and any(
        "about 21 training images" in line for line in about["chosen"]
    )
    assert made.audit.false_positives == pytest.approx(
        0.091
    )  # one of the ten unseen images, and the next


def test_a_small_classs_audit_can_see_its_threshold(found, monkeypatch):
    steady(monkeypatch, 0.001)
    for counts, expected in (
        ({"healthy": 60, "ill": 30}, 0.2),
        ({"healthy": 900, "ill": 6}, 0.5),
        ({"healthy": 900, "ill": 600}, 0.01),
    ):
        monkeypatch.setattr(type(found), "counts", counts)
        assert fitting_profile(found, "mine", torch.device("cpu"), 60)[
            0
        ].audit.false_positives == pytest.approx(expected)


def test_too_few_images_are_refused(found, monkeypatch):
    monkeypatch.setattr(type(found), "counts", {"healthy": 60, "ill": 5})
    with pytest.raises(InputError, match="class 'ill' has 5 images, at least 6 are needed"):
        fitting_profile(found, "mine", torch.device("cpu"), 60)


def test_a_tiny_class_may_be_another_one_misspelt(found, monkeypatch):
    monkeypatch.setattr(type(found), "counts", {"healthy": 60, "healty": 2})
    with pytest.raises(InputError, match="add images, or rename the folder if 'healthy' is meant"):
        fitting_profile(found, "mine", torch.device("cpu"), 60)


def test_the_profile_that_is_written_is_read_as_it_was_and_never_written_over(tmp_path):
    profile = load_profile("demo", {"distill.iterations": 7})
    write_profile(
        profile,
        tmp_path / "demo.yaml",
        "images\nof mine",
        {"memory_bytes": 1e9, "seconds": 60, "chosen": ["a", "b"]},
    )
    assert load_profile(str(tmp_path / "demo.yaml")) == profile
    assert "data:\n  image_size_px: 32\n" in (tmp_path / "demo.yaml").read_text()
    assert (
        (tmp_path / "demo.yaml")
        .read_text()
        .startswith("# demo: made by medddist for images of mine.\n")
    )
    with pytest.raises(InputError, match="already exists"):
        write_profile(profile, tmp_path / "demo.yaml", "x", {})


def test_names_are_plain(tmp_path):
    assert [
        name_of(path)
        for path in ("phantom", tmp_path / "my images", tmp_path / "x.npz", tmp_path / "…")
    ] == ["phantom", "my_images", "x", "study"]


def test_init_says_that_it_leaves_unreadable_files_out_and_not_that_the_user_should(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "images", a=12, b=12)
    (tmp_path / "images" / "a" / "broken.png").write_bytes(b"no image")
    assert cli.exit_code(["init", "images"]) == 0
    said = capsys.readouterr().out
    assert load_profile("images.yaml").data.skip_unreadable and said.count("skip_unreadable") == 1
    assert "the profile leaves out 1 unreadable file (data.skip_unreadable: true)" in said


def test_init_and_the_report_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "images", a=12, b=12)
    assert cli.exit_code(["init", "images", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["found"]["counts"] == {"a": 12, "b": 12}
        and told["profile"] == "images.yaml"
        and told["seconds"] > 0
    )
    assert load_profile("images.yaml").name == "images"
    written = (tmp_path / "images.yaml").read_text()
    assert "image_size_px: 32" in written and told["chosen"][0] in written
    assert told["chosen"][0].startswith(
        "data.image_size_px 32: images are resized to 32x32 px, most of them from 32x32 px; "
    )
    assert cli.exit_code(["init", "images"]) == 2
