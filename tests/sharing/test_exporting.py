"""A package's images as files: the pixels that were sent, and labels that other tools read."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import packages
import pytest
import torch
from PIL import Image
from test_cli import run
from torch.utils.data import DataLoader

from medddist.base.errors import InputError
from medddist.data import load_data
from medddist.sharing.reading import open_package


@pytest.fixture(params=[False, True], ids=["hard", "soft"])
def package(tmp_path, request):
    return opened(tmp_path, packages.files(request.param))


def opened(folder, files):
    return open_package(packages.as_zip(folder / "set.zip", files))


def rows(folder) -> list[dict]:
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_images_are_png_in_a_folder_per_class_with_the_pixels_that_were_sent(package, tmp_path):
    files = package.export(tmp_path / "out")
    assert sorted(files) == sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"a", "b", "c"}
    for row, image, k in zip(
        rows(tmp_path / "out"), package.pixels(), package.classes, strict=True
    ):
        assert row["label"] == package.class_names[k] == row["file_name"].split("/")[0]
        with Image.open(tmp_path / "out" / row["file_name"]) as picture:
            assert picture.format == "PNG" and picture.mode == "L"
            assert np.array_equal(np.asarray(picture), image[0])


def test_labels_are_those_of_the_package_with_the_probabilities_of_soft_ones(package, tmp_path):
    package.export(tmp_path / "out")
    names = [f"probability of {name}" for name in package.class_names]
    soft = package.targets.is_floating_point()
    for row, target in zip(rows(tmp_path / "out"), package.targets, strict=True):
        assert row.keys() == {"file_name", "label", *(names if soft else ())}
        if soft:
            assert [float(row[name]) for name in names] == pytest.approx(target.tolist(), abs=1e-5)
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert about["package"] == package.id and about["licence"] == package.manifest.licence


def test_what_was_exported_is_a_data_set_of_the_same_images_and_classes(tmp_path):
    many = packages.packed(packages.released(count=30), packages.data(), packages.about())
    package = opened(tmp_path, many)
    package.export(tmp_path / "out")
    data = load_data(tmp_path / "out", packages.SIZE_PX)
    assert data.class_names == package.class_names
    read = np.concatenate([part.images for part in data.parts().values()])
    inside = lambda images: sorted(image.tobytes() for image in images)
    assert inside(read) == inside(package.pixels())


def test_classes_of_the_database_keep_their_names_as_folders_and_are_read_again(tmp_path):
    names = ["COVID", "Viral Pneumonia", "Lung Opacity "]
    files = packages.with_manifest(packages.files(), lambda m: m.update(class_names=names))
    opened(tmp_path, files).export(tmp_path / "out")
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert {"COVID", "Viral Pneumonia"} < folders, "a space may stay, though not at the end"
    assert len(folders) == 3 and not any(name.endswith(" ") for name in folders)


def test_names_that_are_no_file_names_or_formulas_are_made_safe(tmp_path):
    names = ["=1+1", "b/../c", "."]
    renamed = packages.with_manifest(packages.files(), lambda m: m.update(class_names=names))
    package = opened(tmp_path, renamed)
    package.export(tmp_path / "out")
    assert {row["label"] for row in rows(tmp_path / "out")} == {"'=1+1", "b/../c", "."}
    folders = [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert len(folders) == 3 and {path.name for path in tmp_path.iterdir()} == {"out", "set.zip"}


def test_a_package_goes_into_a_data_loader_as_it_is(package):
    images, targets = next(iter(DataLoader(package, batch_size=4)))
    assert torch.equal(images, package.images[:4]) and torch.equal(targets, package.targets[:4])


def test_a_folder_that_exists_is_refused_and_left_as_it_was(package, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out: already exists; remove it, or name another folder$"):
        package.export(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_that_breaks_off_leaves_nothing(package, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(InputError, match="cannot be written .No space left.*free some space"):
        package.export(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_the_command_says_what_it_wrote_and_refuses_in_one_line(capsys, package, tmp_path):
    words = "export", str(tmp_path / "set.zip"), str(tmp_path / "out")
    code, out, _ = run(capsys, *words, "--json")
    assert code == 0 and json.loads(out)["package"] == package.id
    code, out, err = run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and "already exists" in err
    code, out, err = run(capsys, "export", str(tmp_path / "none.zip"), str(tmp_path / "new"))
    assert (code, out) == (2, "") and "does not exist; give a package's .zip file" in err
