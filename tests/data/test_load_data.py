from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medddist.base.errors import InputError
from medddist.data import DataSettings, load_data, phantom_notice


def test_phantom_is_split_by_patient():
    data = load_data("phantom", 16, images=200)
    parts = data.parts().values()
    assert sum(map(len, parts)) == 200 and data.source == "phantom" and data.notes == ()
    assert data.classes == 4 and data.image_size_px == 16 and data.channels == 1
    groups = [set(part.groups.tolist()) for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert all(
        part.origins is not None and part.origins.max() < len(data.origin_names) for part in parts
    )


def test_phantom_follows_seed_sites_and_channels():
    plain = load_data("phantom", 16, images=120)
    again, other, sites, colour = (
        load_data("phantom", 16, images=120, **more)
        for more in ({}, {"seed": 1}, {"sites": "confounded"}, {"channels": 3})
    )
    assert again.fingerprint == plain.fingerprint
    assert len({plain.fingerprint, other.fingerprint, sites.fingerprint, colour.fingerprint}) == 4
    assert (colour.train.images == plain.train.images).all()


def test_a_folder_called_phantom_is_no_phantom(class_folders, monkeypatch):
    folder = class_folders.rename(class_folders.with_name("phantom"))
    monkeypatch.chdir(folder.parent)
    for source in ("./phantom", str(folder), folder, Path("phantom")):
        data = load_data(source, 16, images=8)
        assert not data.is_phantom and len(data.train) == 8, (
            f"{source!r}: data.images is how many are used"
        )
        assert data.notes[-1].startswith("8 of ")
    assert load_data("phantom", 16, images=100).is_phantom, (
        "the text alone is the built-in one, whatever is here"
    )


def test_a_folder_called_phantom_beside_the_built_in_one_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert phantom_notice("phantom") is None
    (tmp_path / "phantom").mkdir()
    assert "./phantom" in phantom_notice("phantom") and "\n" not in phantom_notice("phantom")
    assert phantom_notice("./phantom") is None


def test_settings_may_be_an_object_a_size_or_names(class_folders):
    by_object = load_data(class_folders, DataSettings(image_size_px=16, seed=3))
    assert load_data(class_folders, 16, seed=3).fingerprint == by_object.fingerprint
    assert (
        load_data(class_folders, DataSettings(seed=3), image_size_px=16).fingerprint
        == by_object.fingerprint
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"channels": 2},
        {"image_size_px": 4},
        {"test_fraction": 1.0},
        {"validation_fraction": 0},
        {"images": 0},
        {"size": 3},
    ],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(InputError, match=f"data: {next(iter(bad))}"):
        load_data("phantom", **bad)


def test_sites_are_for_the_phantom(class_folders):
    with pytest.raises(InputError, match="sites: 'confounded' is for the phantom alone"):
        load_data(class_folders, sites="confounded")


def test_a_subset_leaves_validation_and_test_alone(class_folders):
    whole, some, more = (load_data(class_folders, 16, images=n) for n in (None, 10, 1000))
    assert some.train.class_counts(2).tolist() == [5, 5]
    assert (some.test.images == whole.test.images).all() and (
        some.validation.images == whole.validation.images
    ).all()
    assert some.notes == ("10 of 30 training images are used",) and more.notes == whole.notes
    assert (more.train.images == whole.train.images).all() and more.fingerprint == whole.fingerprint


def test_fingerprint_changes_with_what_results_depend_on(npz_arrays, save_npz):
    seen = {load_data(save_npz(npz_arrays), 16).fingerprint}
    npz_arrays["test_images"][0, 0, 0] ^= 1
    seen.add(load_data(save_npz(npz_arrays), 16).fingerprint)
    npz_arrays["train_labels"][0] = 1
    seen.add(load_data(save_npz(npz_arrays), 16).fingerprint)
    for part, count in {"train": 30, "val": 6, "test": 9}.items():
        npz_arrays[f"{part}_group"] = {"train": 0, "val": 40, "test": 50}[part] + np.arange(
            count
        ) // 2
    seen.add(load_data(save_npz(npz_arrays), 16).fingerprint)
    save_npz(npz_arrays).with_suffix(".json").write_text('{"class_names": ["x", "y", "z"]}')
    seen.add(load_data(save_npz(npz_arrays), 16).fingerprint)
    assert len(seen) == 5


def test_standardising_goes_there_and_back(class_folders):
    data = load_data(class_folders, 20)
    x = data.standardised(data.train.images)
    assert abs(x.mean()) < 1e-5 and abs(x.std() - 1) < 1e-5
    assert np.allclose(data.pixels(x), data.train.images / 255, atol=1e-5)


def test_images_that_show_nothing_are_refused(npz_arrays, save_npz):
    for part in ("train", "val", "test"):
        npz_arrays[f"{part}_images"][:] = {"train": 7, "val": 8, "test": 9}[part]
    with pytest.raises(InputError, match="set.npz: all pixels of the training images are equal"):
        load_data(save_npz(npz_arrays), 16)


def test_progress_reaches_the_total(class_folders):
    seen = []
    load_data(
        class_folders, 16, progress=lambda what, done, total: seen.append((done, total, what))
    )
    assert seen[-1] == (40, 40, "reading images")


def test_the_library_prints_nothing_and_warns_of_nothing(class_folders, capfd):
    Image.new("P", (20, 20)).save(class_folders / "sick" / "odd.png", transparency=b"\0\1")
    load_data(class_folders, 16)
    assert capfd.readouterr() == ("", "")
