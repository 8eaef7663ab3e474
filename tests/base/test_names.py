"""Misspelt settings, profiles, data and class folders are answered with the name that was meant."""

from __future__ import annotations

import pytest
from test_mistakes import pictures

from medddist import cli
from medddist.base.errors import InputError
from medddist.base.names import closest, did_you_mean
from medddist.data import load_data
from medddist.sharing.receiving import require_classes
from medddist.study.profile import load_profile


def test_the_nearest_known_name_is_proposed_and_otherwise_the_remedy_stays():
    known = ["iterations", "momentum", "step_size"]
    assert (
        closest("iteratons", known) == "iterations" and closest("Step-Size", known) == "step_size"
    )
    assert closest("colour", known) == closest("colour", []) == ""
    assert did_you_mean("iterations", "choose one") == "did you mean iterations?"
    assert did_you_mean("", "choose one") == "choose one"


@pytest.mark.parametrize(
    "setting, meant",
    [
        ("distill.iteratons", "distill.iterations"),
        ("distil.iterations", "distill"),
        ("teachers.recipe.epoch", "teachers.recipe.epochs"),
        ("audit.recipe.learning_rat", "audit.recipe.learning_rate"),
        ("select_every", "distill.select_every"),  # the section was forgotten
    ],
)
def test_a_misspelt_setting_is_answered_with_the_one_that_was_meant(setting, meant):
    with pytest.raises(InputError) as refused:
        load_profile("smoke", {setting: 3})
    assert str(refused.value).endswith(f" is not a setting; did you mean {meant}?")


def test_a_setting_like_no_other_is_answered_with_all_that_there_are():
    with pytest.raises(InputError, match="teachers.number is not a setting; known here: kept_epo"):
        load_profile("smoke", {"teachers.number": 3})


def test_a_misspelt_profile_is_answered_with_a_built_in_one_or_a_file_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images.yaml").write_text("name: my_images\n")
    for name, meant in {
        "dmo": "demo",
        "my_imges.yaml": "my_images.yaml",
        "my_images": "my_images.yaml",
        f"{tmp_path}/my_image.yaml": f"{tmp_path}/my_images.yaml",
    }.items():
        with pytest.raises(InputError) as refused:
            load_profile(name)
        assert str(refused.value) == f"profile: {name!r} is not known; did you mean {meant}?"
    with pytest.raises(InputError, match="use one of demo, .* or the path of a .yaml file"):
        load_profile("another")


def test_misspelt_data_are_answered_with_the_folder_or_file_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "my_images", a=4, b=4)
    for name, meant in {"my_image": "my_images", "phantm": "phantom"}.items():
        with pytest.raises(InputError) as refused:
            load_data(name)
        assert str(refused.value).endswith(f"no such folder or .npz file; did you mean {meant}?")
    with pytest.raises(InputError, match="give 'phantom', a folder of images or an .npz"):
        load_data("my_images/b/../x")


def test_a_misspelt_class_folder_of_the_database_is_answered_with_its_name(tmp_path):
    pictures(tmp_path, COVID=3, Normal=3, Lung_Opacity=3, Viral_Pneumonia=3)
    with pytest.raises(InputError) as refused:
        load_data(tmp_path)
    told = "has no class folder 'Viral Pneumonia' and an unknown folder 'Viral_Pneumonia'; if "
    assert told in str(refused.value)


def test_a_receivers_misspelt_class_is_answered_with_the_packages_name():
    require_classes(("b", "a"), ("a", "b"), "mine")
    with pytest.raises(InputError) as refused:
        require_classes(
            ("COVID", "Normal", "Lung-Opacity"), ("COVID", "Normal", "Lung_Opacity"), "mine"
        )
    assert str(refused.value).endswith(
        "give both the same names: for 'Lung-Opacity', did you mean Lung_Opacity?"
    )


@pytest.mark.parametrize("name, meant", [("distil", "distill"), ("evalute", "evaluate")])
def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(capsys, name, meant):
    assert cli.exit_code([name]) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err
