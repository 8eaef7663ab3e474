"""Profiles: those of the package, files of one's own, changes by name, and mistakes in one line."""

from __future__ import annotations

import pytest
import yaml

from medddist.base.errors import InputError
from medddist.study.profile import changes_from, load_profile, profile_names


def refused(*texts, name="mine.yaml", **changes) -> None:
    with pytest.raises(InputError) as error:
        load_profile(str(name), changes.pop("changes", None))
    message = str(error.value)
    assert "\n" not in message and all(text in message for text in texts), message


@pytest.fixture
def mine(tmp_path):
    """The path of a profile that changes little."""
    (tmp_path / "mine.yaml").write_text("network: {width: 8}\ndistill:\n  iterations: 3\n")
    return tmp_path / "mine.yaml"


def test_the_packages_profiles():
    assert {"smoke", "demo", "real", "paper"} <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_of_the_package_is_valid_and_so_are_its_variants(name):
    profile = load_profile(name)
    assert profile.name == name
    variants = [load_profile(name, changes) for changes in profile.variants.values()]
    assert len({variant.digest() for variant in variants}) == len(variants), (
        "each variant is another study"
    )
    for settings in [profile, *variants]:  # what the steps will ask of each other
        assert settings.distill.last_epoch_read <= settings.teachers.kept_epochs
        assert 2**settings.network.depth <= settings.data.image_size_px


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_says_what_it_needs_takes_and_shows(root, name):
    """Its first lines are the hardware, the time and the expected result."""
    head = [
        line
        for line in (root / "medddist" / "profiles" / f"{name}.yaml").read_text().splitlines()
        if line.startswith("#")
    ]
    words = " ".join(head).lower()
    assert f"# {name}" in head[0] and "needs" in words and "takes" in words and "expect" in words


def test_the_papers_settings():
    """facts.md: 100 teachers, 5,000 iterations, 20 images a class, width 128, depth 5; depth 5 goes
    with 112 px.
    """
    paper = load_profile("paper")
    assert (paper.teachers.teachers, paper.distill.iterations, paper.distill.images_per_class) == (
        100,
        5000,
        20,
    )
    assert (paper.network.width, paper.network.depth, paper.data.image_size_px) == (128, 5, 112)


def test_a_file_of_ones_own_and_changes_however_deep(mine):
    profile = load_profile(str(mine))
    assert (
        profile.name,
        profile.network.width,
        profile.distill.iterations,
        profile.teachers.teachers,
    ) == (
        "mine",
        8,
        3,
        100,
    )
    changed = load_profile(
        str(mine),
        {
            "distill.iterations": 9,
            "teachers.recipe.momentum": 0.5,
            "evaluate.recipe.augmentation.shift": 0.0,
            "seeds": [1, 2],
        },
    )
    assert (changed.distill.iterations, changed.network.width, changed.seeds) == (9, 8, (1, 2))
    assert (
        changed.teachers.recipe.momentum == 0.5 and changed.evaluate.recipe.augmentation.shift == 0
    )
    assert changed.digest() != profile.digest()
    assert load_profile(str(mine), {"distill.iterations": 3}).digest() == profile.digest()


def test_a_section_with_nothing_in_it_can_be_changed_and_is_refused_as_it_is(mine):
    mine.write_text("teachers:\n")
    assert load_profile(str(mine), {"teachers.teachers": 3}).teachers.teachers == 3
    refused("teachers", "None", name=mine)


@pytest.mark.parametrize(
    "name", ["nonsense", "", "../another", "smoke.yml", "nowhere/mine.yaml", "."]
)
def test_an_unknown_profile_is_refused_with_those_there_are(name):
    refused("profile: ", repr(name), "smoke", "demo", name=name)


@pytest.mark.parametrize(
    "changes, texts",
    [
        ({"distil.iterations": 1}, ["distil", "distill"]),
        ({"distill.iteration": 1}, ["distill.iteration", "iterations"]),
        ({"distill.iterations": -1}, ["distill.iterations", "-1"]),
        ({"distill.iterations": "many"}, ["distill.iterations", "'many'"]),
        ({"distill.iterations": None}, ["distill.iterations", "None"]),
        ({"distill.iterations.more": 1}, ["distill.iterations.more", "holds no further settings"]),
        ({"distill": 3}, ["distill", "3"]),
        ({"distill.labels": "fuzzy"}, ["distill.labels", "'hard'", "'learned'", "'fuzzy'"]),
        ({"teachers.kept_epochs": 100}, ["teachers", "kept_epochs 100", "50 epochs"]),
        ({"teachers.recipe.learning_rate": float("inf")}, ["teachers.recipe.learning_rate"]),
        ({"references.learning_rates": []}, ["references.learning_rates"]),
        ({"references.learning_rates": [0.1, -1]}, ["references.learning_rates.1", "-1"]),
        ({"images_per_class": [5, 0]}, ["images_per_class.1", "0"]),
        ({"distill.method": "real_loss", "distill.horizon_steps": 3}, ["horizon_steps 3", "40"]),
        ({"distill.student_networks": [{"width": 8}]}, ["student_networks", "real_loss"]),
        ({"distill.method": "private"}, ["distill.method: private", "data.split to hashed"]),
        (
            {"distill.method": "private", "distill.labels": "teachers", "data.split": "hashed"},
            ["labels: teachers", "set it to hard"],
        ),
        ({"seeds": []}, ["seeds"]),
        ({"": 1}, ["profile"]),
        ({"a..b": 1}, ["a"]),
    ],
)
def test_a_bad_change_is_one_line_that_names_it(mine, changes, texts):
    refused(*texts, name=mine, changes=changes)


@pytest.mark.parametrize(
    "content", ["a: [1", "", "- 1", "just text", "\x00", "3: 4", "distill: {3: 4}", "a: &a [*a]"]
)
def test_a_file_that_holds_no_settings_is_named(mine, content):
    mine.write_text(content)
    refused("mine.yaml", name=mine)


def test_a_file_that_is_no_text_is_named(mine):
    mine.write_bytes(b"name: \xff\xfe")
    refused("mine.yaml", "YAML", name=mine)


def test_changes_are_read_as_yaml():
    assert changes_from(["a.b=1", "c=0.5", "d=[1, 2]", "e=true", "f=x=y", "g=", "h= text "]) == {
        "a.b": 1,
        "c": 0.5,
        "d": [1, 2],
        "e": True,
        "f": "x=y",
        "g": None,
        "h": "text",
    }
    assert changes_from([]) == {}
    # YAML 1.1 takes 1e-3 for text; the settings take it for the number it is.
    assert (
        load_profile("smoke", changes_from(["distill.step_size=1e-3"])).distill.step_size == 0.001
    )


@pytest.mark.parametrize("assignment", ["a", "=1", "", "a=[1", "a={", "a='"])
def test_a_bad_assignment_is_refused(assignment):
    with pytest.raises(InputError, match="^set: ") as error:
        changes_from([assignment])
    assert "\n" not in str(error.value)


def test_a_profile_written_out_is_read_back(tmp_path):
    profile = load_profile("smoke")
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(profile.model_dump(mode="json")))
    assert load_profile(str(tmp_path / "smoke.yaml")) == profile


def test_paper_reads_as_far_as_its_teachers_go():
    paper = load_profile("paper")
    assert paper.distill.last_epoch_read == paper.teachers.kept_epochs


def test_teachers_that_do_not_reach_as_far_as_matching_reads_are_refused_before_any_is_trained():
    with pytest.raises(
        InputError,
        match=(
            "distill.max_start_epoch 40 and distill.expert_epochs 2 .* to epoch 41, .* "
            "teachers.kept_epochs is 17"
        ),
    ):
        load_profile("full", {"distill.max_start_epoch": 40})


def test_setting_the_method_brings_what_the_profile_says_of_it():
    real = load_profile("real").distill
    matched = load_profile("real", {"distill.method": "trajectory"}).distill
    assert (real.method, real.outer_optimiser, real.labels) == ("real_loss", "adam", "learned")
    assert (matched.outer_optimiser, matched.labels) == ("sgd", "hard")
    assert matched.learning_rate_images == 1000 and matched.iterations == 80
    again = load_profile("real").changed({"distill.method": "trajectory"}).distill
    assert again == matched


def test_what_is_set_is_stronger_than_what_comes_with_the_method():
    changes = {"distill.method": "trajectory", "distill.iterations": 7}
    assert load_profile("real", changes).distill.iterations == 7


def test_an_unknown_setting_of_a_method_is_refused():
    mistake = {"methods": {"trajectory": {"distill.iteration": 1}}, "distill.method": "trajectory"}
    with pytest.raises(InputError, match="distill.iteration is not a setting"):
        load_profile("smoke").model_copy(update={"methods": mistake["methods"]}).changed(
            {"distill.method": "trajectory"}
        )
