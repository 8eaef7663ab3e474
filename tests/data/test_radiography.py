from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import noise
from PIL import Image

from medddist.base.errors import InputError
from medddist.data import DataSettings, folder, load_data, radiography, splits
from medddist.data.collection import TEST, TRAIN

COUNTS = {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345}
POSTER_TEST = [723, 1202, 2038, 269]
POSTER_TRAIN = [2893, 4810, 8154, 1076]


@pytest.fixture(scope="module")
def all_names(tmp_path_factory) -> Path:
    """The database's 21,165 file names and nothing in them."""
    home = tmp_path_factory.mktemp("full") / "COVID-19_Radiography_Dataset"
    for name, count in COUNTS.items():
        (home / name / "images").mkdir(parents=True)
        (home / name / "masks").mkdir()
        for k in range(1, count + 1):
            (home / name / "images" / f"{name}-{k}.png").touch()
        (home / name / "masks" / f"{name}-1.png").touch()
        (home / f"{name}.metadata.xlsx").touch()
    return home


@pytest.mark.parametrize("duplicates", [0, 200])
def test_the_official_split_has_the_posters_counts(all_names, duplicates):
    listed = folder.listed(all_names)
    assert listed.class_names == tuple(COUNTS) and listed.notes == ()
    groups = listed.groups.copy()
    twins = np.random.default_rng(0).choice(len(groups), (duplicates, 2), replace=False)
    groups[twins[:, 1]] = groups[twins[:, 0]]
    for seed in (0, 1):
        parts = splits.completed(listed.labels, groups, listed.parts, 0.2, 0.1, seed)
        assert np.bincount(listed.labels[parts == TEST]).tolist() == POSTER_TEST
        assert np.bincount(listed.labels[parts != TEST]).tolist() == POSTER_TRAIN
        assert (parts[twins[:, 0]] == parts[twins[:, 1]]).all()
        # validation is a tenth of the 16,933, rounded down by class
        assert np.bincount(listed.labels[parts == TRAIN]).tolist() == [2604, 4329, 7339, 969]


def test_files_come_in_natural_order_without_masks(all_names):
    names = [file.as_posix() for file in folder.listed(all_names).files]
    assert names[:3] == [f"COVID/images/COVID-{k}.png" for k in (1, 2, 3)]
    assert names[9] == "COVID/images/COVID-10.png" and not any("masks" in name for name in names)


def database(home: Path, images: str = "images") -> Path:
    for k, name in enumerate(COUNTS):
        (home / name / images).mkdir(parents=True)
        for i, pixels in enumerate(noise(12, 12, 12, seed=k)):
            Image.fromarray(pixels).save(home / name / images / f"{name}-{i + 1}.png")
    return home


@pytest.mark.parametrize("images", ["images", "."])
def test_both_layouts_and_the_parent_folder_are_read(tmp_path, images):
    home = database(tmp_path / "COVID-19_Radiography_Dataset", images)
    (home / "Normal" / "masks").mkdir()
    Image.fromarray(noise(12, 12, seed=9)).save(home / "Normal" / "masks" / "Normal-1.png")
    data, through_parent = load_data(home, 8), load_data(tmp_path, 8)
    assert sum(map(len, data.parts().values())) == 48
    assert data.fingerprint == through_parent.fingerprint
    assert data.class_names == tuple(COUNTS)
    assert "COVID 12, Lung_Opacity 12" in data.notes[0] and "Normal 10192" in data.notes[0]


@pytest.mark.parametrize("damage", ["class", "images", "masks"])
def test_half_unpacked_says_what_is_missing_and_how_to_get_it(tmp_path, damage):
    home = database(tmp_path / "COVID-19_Radiography_Dataset")
    if damage == "class":
        (home / "Normal").rename(home / ".Normal")
    elif damage == "images":
        (home / "Normal" / "images").rename(home / "Normal" / "masks")
        (home / "Normal" / "images").mkdir()
    else:
        (home / "Normal" / "masks").mkdir()
        for k in range(13):
            (home / "Normal" / "masks" / f"Normal-{k}.png").touch()
    with pytest.raises(
        InputError, match="Normal.*tawsifurrahman/covid19-radiography-database.*kagglehub"
    ) as refused:
        load_data(home, 8)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("other", ["Tuberculosis", "Covid_"])
def test_folders_of_images_beside_its_classes_are_never_passed_over(tmp_path, other):
    own = database(tmp_path / "own", ".")
    shutil.copytree(own / "COVID", own / other)
    counts = load_data(own, 8)
    assert set(counts.class_names) == {*COUNTS, other}, "classes of somebody's own"
    assert any("spelt alike" in note for note in counts.notes) == (other == "Covid_")
    home = database(tmp_path / radiography.FOLDER)
    (home / other).mkdir()
    assert set(load_data(home, 8).class_names) == set(COUNTS), "it holds no image"
    Image.fromarray(noise(12, 12, seed=3)).save(home / other / "1.png")
    with pytest.raises(InputError, match=f"{other}.*no class of the COVID-19.*move it elsewhere"):
        load_data(home, 8)


def test_an_empty_folder_of_that_name_says_how_to_get_it(tmp_path):
    (tmp_path / radiography.FOLDER).mkdir()
    with pytest.raises(InputError, match="COVID, Lung_Opacity, Normal, Viral Pneumonia.*Kaggle"):
        load_data(tmp_path / radiography.FOLDER)


def test_the_real_sample(shared_data):
    data = load_data(shared_data / "radiography-sample", DataSettings(image_size_px=32))
    assert [part.class_counts(4).tolist() for part in data.parts().values()] == [
        [44] * 4,
        [4] * 4,
        [12] * 4,
    ]
    assert "COVID 60" in data.notes[0]
