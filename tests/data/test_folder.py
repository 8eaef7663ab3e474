from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from conftest import noise
from PIL import Image

from medddist.base.errors import InputError
from medddist.data import load_data
from medddist.data.folder import listed
from medddist.data.listing import class_notes
from medddist.data.paths import natural
from medddist.data.radiography import FOLDER


def image(path, seed=0, size_px=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size_px, size_px, seed=seed)).save(path)
    return path


def csv(folder, text: str) -> None:
    (folder / "labels.csv").write_text(text, encoding="utf-8")


def rows(header="file,label", of=lambda name, k, number: f"{name}/{name} {k}.png,{name}") -> str:
    pairs = [(name, k) for name in ("sick", "well") for k in range(1, 21)]
    return (
        "\n".join([header, *(of(name, k, number) for number, (name, k) in enumerate(pairs))]) + "\n"
    )


def test_class_folders_are_dealt_by_class(class_folders):
    data = load_data(class_folders, 20)
    assert data.class_names == ("sick", "well") and data.source == "source" and data.notes == ()
    assert [part.class_counts(2).tolist() for part in data.parts().values()] == [
        [15, 15],
        [1, 1],
        [4, 4],
    ]
    pixels = np.concatenate([part.images for part in data.parts().values()])
    made = np.concatenate([noise(20, 20, 20, seed=k) for k in (0, 1)])
    assert {p.tobytes() for p in pixels} == {p.tobytes() for p in made}


def test_order_is_natural_and_the_same_everywhere():
    names = ["a10", "a2", "a1", "e\u0301 2", "\u00e9 10", "\u00e9 1"]
    assert sorted(names, key=natural) == ["a1", "a2", "a10", "\u00e9 1", "e\u0301 2", "\u00e9 10"]


def test_unicode_spaces_line_breaks_and_foreign_bytes_in_names(class_folders):
    (class_folders / "sick" / "sick 1.png").rename(
        class_folders / "sick" / "Thorax à côté 图像\n1.png"
    )
    os.rename(
        class_folders / "well" / "well 1.png",
        os.fsencode(class_folders / "well") + b"/\xff\xfe.png",
    )
    assert sum(map(len, load_data(class_folders, 20).parts().values())) == 40
    (class_folders / "sick" / "Thorax à côté 图像\n1.png").write_bytes(b"text")
    with pytest.raises(InputError) as refused:
        load_data(class_folders, 20)
    assert "\\n1.png" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_no_image_is_left_alone(class_folders):
    (class_folders / "readme.txt").write_text("x")
    (class_folders / "sick" / "notes.txt").write_text("x")
    (class_folders / "sick" / "Thumbs.db").write_bytes(b"x")
    (class_folders / "sick" / "._sick 1.png").write_bytes(b"x")
    image(class_folders / "sick" / "masks" / "1.png")
    image(class_folders / "__MACOSX" / "1.png")
    image(class_folders / ".hidden" / "1.png")
    assert len(listed(class_folders).files) == 40


@pytest.mark.parametrize(
    "names", [("train", "test"), ("Training", "val", "TEST"), ("train", "valid")]
)
def test_given_train_and_test_folders_are_kept(tmp_path, names):
    for k, part in enumerate(names):
        for label in ("a", "b"):
            for i in range(20):
                image(tmp_path / part / label / f"{i}.png", seed=100 * k + i + 50 * (label == "a"))
    data = load_data(tmp_path, 20)
    counts = [len(part) for part in data.parts().values()]
    assert counts == {"test": [36, 4, 40], "val": [40, 40, 40], "valid": [32, 40, 8]}[names[1]]
    (tmp_path / "extra").mkdir()
    assert "left alone: extra" in load_data(tmp_path, 20).notes[0]


def test_test_without_train_is_refused(tmp_path):
    image(tmp_path / "test" / "a" / "1.png")
    with pytest.raises(InputError, match="has test; a given split needs one train folder"):
        load_data(tmp_path)


def divided(
    home,
    pattern: str,
    names=("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"),
    train=6,
    test=4,
):
    """Images of each class at `pattern`, with {part} and {label} in it, numbered through."""
    for k, label in enumerate(names):
        for part, count in (("train", train), ("test", test)):
            for i in range(count):
                seed = 1000 * k + i + 500 * (part == "test")
                image(
                    home / pattern.format(part=part, label=label) / f"{part} {i}.png",
                    seed=seed,
                    size_px=16,
                )
    return home


DIVIDED = [
    "{part}/{label}",
    "{part}/{label}/images",
    "{label}/{part}",
    "{label}/{part}/images",
    "{label}/images/{part}",
]
DATABASE = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
HOMES = [
    ("mine", ("ill", "well")),
    *((home, DATABASE) for home in ("mine", FOLDER, f"mine/{FOLDER}")),
]


@pytest.mark.parametrize("pattern", DIVIDED)
@pytest.mark.parametrize("home, names", HOMES)
def test_train_and_test_folders_are_a_given_split_at_any_place_of_any_folder(
    tmp_path, pattern, home, names
):
    divided(tmp_path / home, pattern, names)
    data = load_data(tmp_path / home.split("/")[0], 16)
    assert data.class_names == names
    assert data.test.class_counts(len(names)).tolist() == [4] * len(names)
    assert (
        data.train.class_counts(len(names)) + data.validation.class_counts(len(names))
    ).tolist() == [6] * len(names)
    assert any(
        "the split is the one given by the folders test, train" in note for note in data.notes
    )


def test_a_copy_of_the_database_with_its_metadata_keeps_its_given_split(tmp_path):
    divided(tmp_path, "{part}/{label}/images")
    (tmp_path / "COVID.metadata.xlsx").touch()
    assert load_data(tmp_path, 16).test.class_counts(4).tolist() == [4] * 4


def test_a_given_split_beside_the_databases_folders_is_used_and_the_others_are_named(tmp_path):
    divided(tmp_path, "{part}/{label}")
    divided(tmp_path, "{label}/images", train=3, test=0)
    data = load_data(tmp_path, 16)
    assert data.test.class_counts(4).tolist() == [4] * 4
    assert any(
        "left alone: COVID, Lung_Opacity, Normal, Viral Pneumonia" in note for note in data.notes
    )


def test_labels_csv_without_a_split_takes_that_of_the_folders(tmp_path):
    divided(tmp_path, "{part}/{label}", ("a", "b"))
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    csv(
        tmp_path,
        "\n".join(["file,label,patient", *(f"{path},{path.split('/')[1]}," for path in paths)]),
    )
    data = load_data(tmp_path, 16)
    assert data.test.class_counts(2).tolist() == [4, 4]
    assert any(
        "the split is the one given by the folders test, train" in note for note in data.notes
    )
    stated = [f"{path},{path.split('/')[1]},{'test' if '0' in path else 'train'}" for path in paths]
    csv(tmp_path, "\n".join(["file,label,split", *stated]))
    data = load_data(tmp_path, 16)  # a split that it states takes precedence
    assert data.test.class_counts(2).tolist() == [2, 2] and not any(
        "given by the folders" in note for note in data.notes
    )


@pytest.mark.parametrize(
    "change, told",
    [
        (
            lambda home: image(home / "a" / "loose.png"),
            "some images are in test or train and others, such as a/loose.png, in none of them",
        ),
        (
            lambda home: image(home / "a" / "train" / "test" / "x.png"),
            "a/train/test/x.png is in train and in test",
        ),
        (
            lambda home: [shutil.rmtree(home / label / "train") for label in "ab"],
            "has test and no train folder",
        ),
    ],
)
def test_a_split_by_folders_that_is_not_clear_is_refused_in_one_line(tmp_path, change, told):
    divided(tmp_path, "{label}/{part}", ("a", "b"))
    change(tmp_path)
    with pytest.raises(InputError) as refused:
        load_data(tmp_path, 16)
    assert (
        told in str(refused.value) and "; " in str(refused.value) and "\n" not in str(refused.value)
    )
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    csv(tmp_path, "\n".join(["file,label", *(f"{path},{path.split('/')[0]}" for path in paths)]))
    with pytest.raises(InputError, match="^labels.csv: ") as refused:
        load_data(tmp_path, 16)
    assert told in str(refused.value) and "the column split" in str(refused.value)


@pytest.mark.parametrize(
    "counts, told",
    [
        (
            {"COVID": 40, "Covid-": 8, "Normal": 40},
            ["the classes 'COVID' (40 images) and 'Covid-' (8) are spelt alike"],
        ),
        (
            {"Pneumonia": 30, "Pnuemonia": 30, "Normal": 30},
            ["the classes 'Pneumonia' (30 images) and 'Pnuemonia' (30) are spelt alike"],
        ),
        (
            {"healthy": 200, "ill": 150, "New folder": 4},
            ["the class 'New folder' has only 4 images"],
        ),
        (
            {
                "Normal": 30,
                "Abnormal": 30,
                "stage 1": 30,
                "stage 2": 30,
                "type A": 30,
                "type B": 30,
                "COVID": 30,
            },
            [],
        ),
        ({"rare": 25, "frequent": 600}, []),
        (
            {
                "Bacterial Pneumonia": 30,
                "Viral Pneumonia": 30,
                "with_mask": 30,
                "without_mask": 30,
                "0": 20,
                "1": 20,
                "10": 20,
            },
            [],
        ),
        ({"a": 6, "b": 6}, []),
    ],
)
def test_a_misspelt_class_folder_is_noted_and_different_classes_are_not(counts, told):
    notes = class_notes(counts)
    assert len(notes) == len(told) and all(
        line in note and "; " in note for line, note in zip(told, notes)
    ), notes


def test_a_misspelt_class_is_in_the_notes_of_a_folder_and_of_labels_csv(class_folders):
    for k in range(5):
        image(class_folders / "Sick " / f"{k}.png", seed=100 + k)
    assert any(
        "'Sick ' (5 images) and 'sick' (20)" in note for note in load_data(class_folders, 20).notes
    )
    misspelt = lambda name, k, number: f"{name}/{name} {k}.png,{'wel' if k == 3 else name}"
    csv(class_folders, rows(of=misspelt) + "".join(f"Sick /{k}.png,wel\n" for k in range(3)))
    assert any(
        "'wel' (5 images) and 'well' (19)" in note for note in load_data(class_folders, 20).notes
    )


def test_duplicates_stay_in_one_part(class_folders):
    for k in range(1, 9):
        shutil.copy(
            class_folders / "sick" / f"sick {k}.png", class_folders / "sick" / f"copy {k}.bmp"
        )
        picture = Image.open(class_folders / "sick" / f"sick {k}.png").convert("RGB")
        picture.save(class_folders / "sick" / f"colour {k}.png")
    for seed in range(4):
        data = load_data(class_folders, 20, seed=seed)
        seen = [{image.tobytes() for image in part.images} for part in data.parts().values()]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert "16 of 56 images are exact copies" in data.notes[0]


def test_grey_copies_of_colour_are_found_when_colour_is_kept(class_folders):
    for k in range(1, 9):
        picture = Image.open(class_folders / "sick" / f"sick {k}.png").convert("RGB")
        picture.save(class_folders / "sick" / f"colour {k}.png")
    data = load_data(class_folders, 20, channels=3)
    assert sum(len(set(part.groups.tolist())) for part in data.parts().values()) == 40


def test_unreadable_images_stop_or_are_left_out(class_folders):
    (class_folders / "sick" / "sick 3.png").write_text("text, no image")
    whole = (class_folders / "well" / "well 5.png").read_bytes()
    (class_folders / "well" / "well 5.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="sick 3.png: cannot be read as an image"):
        load_data(class_folders, 20)
    data = load_data(class_folders, 20, skip_unreadable=True)
    assert sum(map(len, data.parts().values())) == 38
    assert data.notes == ("2 of 40 images could not be read and were left out",)


def test_too_few_are_left_after_leaving_out(class_folders):
    for path in list((class_folders / "sick").iterdir())[2:]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="class 'sick' has 2 images, 3 are needed"):
        load_data(class_folders, 20, skip_unreadable=True)


def test_too_small_a_class_stops_before_decoding(class_folders):
    (class_folders / "sick" / "sick 3.png").write_text("never looked at")
    with pytest.raises(InputError, match="class 'sick' has 20 images, 21 are needed"):
        load_data(class_folders, 20, minimum_images_per_class=21)


def test_empty_and_missing_folders(tmp_path, class_folders):
    for path, message in (
        (tmp_path / "none", "no such folder or .npz file"),
        (image(tmp_path / "loose" / "1.png").parent, "1 images without a class folder"),
    ):
        with pytest.raises(InputError, match=message):
            load_data(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="class folders: none"):
        load_data(tmp_path / "empty")
    (class_folders / "third").mkdir()
    with pytest.raises(InputError, match="class 'third' has 0 images"):
        load_data(class_folders)
    shutil.rmtree(class_folders / "sick"), shutil.rmtree(class_folders / "third")
    with pytest.raises(InputError, match="class folders: well; give a folder with one folder"):
        load_data(class_folders)


def test_odd_shapes_are_reported(class_folders):
    Image.fromarray(noise(30, 40, seed=7)).save(class_folders / "sick" / "wide.png")
    notes = load_data(class_folders, 24).notes
    assert notes == (
        "1 image is not square and was stretched",
        "40 images are smaller than 24 px and were enlarged",
    )


def test_labels_csv_rules(class_folders):
    def row(name, k, n):
        label, site = "odd" if k % 2 else "even", "north" if k < 9 else ""
        split = "test" if k < 9 else "train"
        return f"{label},p{(k - 1) // 4},{site},{name}/{name} {k}.png,{split}"

    text = rows("Label,patient, site ,file,split", row)
    csv(class_folders, "\ufeff" + text)
    image(class_folders / "sick" / "unlisted.png")
    data = load_data(class_folders, 20)
    assert data.class_names == ("even", "odd") and data.origin_names == ("north", "unknown")
    assert [len(part) for part in data.parts().values()] == [
        16,
        8,
        16,
    ]  # validation: one patient's images, the fewest there are
    assert (data.test.origins == 0).all() and (data.train.origins == 1).all()
    assert len(set(data.test.groups.tolist())) == 2
    assert "left out: 1 image that labels.csv does not name" in data.notes


@pytest.mark.parametrize("separator", [";", "\t"])
def test_labels_csv_as_spreadsheets_save_it(class_folders, separator):
    whole = rows("file,label,patient", lambda name, k, n: f"{name}/{name} {k}.png,x{name},{n // 3}")
    csv(class_folders, whole)
    expected = load_data(class_folders, 20).fingerprint
    csv(class_folders, "\ufeff" + whole.replace(",", separator).replace("\n", "\r\n"))
    assert load_data(class_folders, 20).fingerprint == expected


@pytest.mark.parametrize("pattern", ["{label}", "{label}/images", "{part}/{label}"])
def test_labels_csv_without_a_label_takes_the_class_from_the_folder(tmp_path, pattern):
    divided(tmp_path, f"{pattern}", ("ill", "well"))
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    csv(
        tmp_path,
        "\n".join(["file;patient", *(f"{path};p{k // 2}" for k, path in enumerate(paths))]),
    )
    data = load_data(tmp_path, 16)
    assert data.class_names == ("ill", "well")
    assert sum(part.class_counts(2) for part in data.parts().values()).tolist() == [10, 10]
    note = "the classes are the folders ill, well: labels.csv has no column label"
    assert note in data.notes


def test_patients_are_never_divided(class_folders):
    csv(
        class_folders,
        rows(
            "file,label,patient",
            lambda name, k, n: f"{name}/{name} {k}.png,{name},{n // 3 if n % 5 else ''}",
        ),
    )
    for seed in range(5):
        data = load_data(class_folders, 20, seed=seed)
        groups = [set(part.groups.tolist()) for part in data.parts().values()]
        assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


BAD = {
    "empty file": ("", "column file is missing, there are: none"),
    "no rows": ("file,label\n\n", "has no rows"),
    "no label column": (
        "file,class\nsick/sick 1.png,a\n",
        "column label is missing, there are: file, class",
    ),
    "no label and loose": (
        "file\nloose.png\n",
        "line 2: file 'loose.png' has no label and is in no class folder; add the column label",
    ),
    "no file column": ("image,label\nsick/sick 1.png,a\n", "column file is missing"),
    "column twice": ("file,label,label\nx,a,b\n", "a column is there twice"),
    "not there": (rows() + "sick/none.png,sick\n", "line 42: file 'sick/none.png' is not there"),
    "a folder": (rows() + "sick,sick\n", "line 42: file 'sick' is not there"),
    "twice": (rows() + "sick/sick 1.png,well\n", "file 'sick/sick 1.png' is named twice"),
    "absolute": (
        rows() + "/etc/hostname,sick\n",
        "line 42: file '/etc/hostname' is not a path below",
    ),
    "upwards": (rows() + "sick/../../x.png,sick\n", "line 42: .* is not a path below"),
    "empty label": (rows() + "sick/sick 1.png,\n", "line 42: label is empty"),
    "too many cells": (rows() + "sick/sick 1.png,a,b\n", "line 42 has 3 cells and the header 2"),
    "open quote": (rows() + '"sick/sick 1.png,a\n', "cannot be read"),
    "unknown split": (
        rows(
            "file,label,split", lambda n, k, i: f"{n}/{n} {k}.png,{n},{'dev' if i == 5 else 'test'}"
        ),
        "line 7: split 'dev' is unknown",
    ),
    "split half filled": (
        rows("file,label,split", lambda n, k, i: f"{n}/{n} {k}.png,{n},{'' if i else 'train'}"),
        "line 3: split is empty",
    ),
    "no training": (
        rows("file,label,split", lambda n, k, i: f"{n}/{n} {k}.png,{n},test"),
        "split never says train",
    ),
    "one class": (rows(of=lambda n, k, i: f"{n}/{n} {k}.png,same"), "label has one value, 'same'"),
}


@pytest.mark.parametrize("what", BAD)
def test_mistakes_in_labels_csv_are_named(class_folders, what):
    text, message = BAD[what]
    image(class_folders / "loose.png")
    csv(class_folders, text)
    with pytest.raises(InputError, match=message) as refused:
        load_data(class_folders, 20)
    assert str(refused.value).startswith("labels.csv") and "\n" not in str(refused.value)


def test_labels_csv_of_other_text_is_refused(class_folders):
    (class_folders / "labels.csv").write_bytes("file,label\nsick/é.png,a\n".encode("latin-1"))
    with pytest.raises(InputError, match="labels.csv: cannot be read"):
        load_data(class_folders, 20)
