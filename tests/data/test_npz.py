from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from conftest import noise

from medddist.base.errors import InputError
from medddist.data import load_data
from medddist.data.images import resized

PARTS = {"train": "train", "val": "validation", "test": "test"}


def test_equal_size_is_untouched_byte_for_byte(npz_arrays, save_npz):
    data = load_data(save_npz(npz_arrays), 16)
    for prefix, name in PARTS.items():
        part = data.parts()[name]
        assert (
            part.images[:, 0] == npz_arrays[f"{prefix}_images"]
        ).all() and part.images.dtype == np.uint8
        assert (
            part.labels == npz_arrays[f"{prefix}_labels"][:, 0]
        ).all() and part.labels.dtype == np.int64
        assert part.origins is None
    assert data.class_names == ("0", "1", "2") and data.notes == () and data.source == "set.npz"


def test_another_size_is_resized_like_any_image(npz_arrays, save_npz):
    data = load_data(save_npz(npz_arrays), 8)
    assert (
        data.train.images[:, 0] == [resized(image, 8) for image in npz_arrays["train_images"]]
    ).all()
    assert "enlarged to 32 px" in load_data(save_npz(npz_arrays), 32).notes[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_grey_and_colour_layouts(npz_arrays, save_npz, shape, channels):
    arrays = {
        name: np.repeat(a[..., None], shape[0], -1) if shape and name.endswith("images") else a
        for name, a in npz_arrays.items()
    }
    data = load_data(save_npz(arrays), 16, channels=channels)
    assert data.channels == channels
    assert (
        data.test.images == npz_arrays["test_images"][:, None]
    ).all()  # luma of equal channels is their value


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
@pytest.mark.parametrize("colours", [(), (3,)])
def test_other_number_types_are_scaled(npz_arrays, save_npz, kind, colours):
    arrays = dict(npz_arrays)
    for part in PARTS:
        pixels = npz_arrays[f"{part}_images"].copy()
        pixels[:, 0, 0], pixels[:, 0, 1] = 0, 255  # so that each image's own range is the whole
        wide = pixels * 257.0 if kind == np.uint16 else pixels / 255
        arrays[f"{part}_images"] = (
            np.repeat(wide[..., None], 3, -1).astype(kind) if colours else wide.astype(kind)
        )
        npz_arrays[f"{part}_images"] = pixels
    data = load_data(save_npz(arrays), 16)
    assert (data.train.images[:, 0] == npz_arrays["train_images"]).all()


def test_names_groups_and_origins(npz_arrays, save_npz, tmp_path):
    for k, (part, count) in enumerate({"train": 30, "val": 6, "test": 9}.items()):
        npz_arrays[f"{part}_group"] = 1000 * k + np.arange(count) // 2
        npz_arrays[f"{part}_origin"] = np.arange(count) % 2
    names = {"class_names": ["x", "y", "z"], "origins": {"0": "north", "1": "south"}}
    (tmp_path / "set.json").write_text(json.dumps(names))
    data = load_data(save_npz(npz_arrays), 16)
    assert data.class_names == ("x", "y", "z") and data.origin_names == ("north", "south")
    assert data.test.origins.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert (data.train.groups.reshape(15, 2) == np.arange(15)[:, None]).all()


def test_without_validation_it_comes_out_of_training(npz_arrays, save_npz):
    arrays = {name: a for name, a in npz_arrays.items() if not name.startswith("val")}
    data = load_data(save_npz(arrays), 16)
    assert [len(part) for part in data.parts().values()] == [27, 3, 9]


def test_a_leaking_given_split_drops_copies_and_keeps_test(npz_arrays, save_npz):
    npz_arrays["train_images"][4] = npz_arrays["test_images"][1]
    npz_arrays["train_images"][7] = npz_arrays["val_images"][1]
    npz_arrays["val_images"][5] = npz_arrays["test_images"][2]
    data = load_data(save_npz(npz_arrays), 16)
    assert [len(part) for part in data.parts().values()] == [28, 5, 9]
    assert any(note.startswith("3 images were left out") for note in data.notes)
    seen = [{image.tobytes() for image in part.images} for part in data.parts().values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_groups_in_two_given_parts_are_kept_in_the_later_one(npz_arrays, save_npz):
    for part, count in {"train": 30, "val": 6, "test": 9}.items():
        npz_arrays[f"{part}_group"] = np.arange(count) + {"train": 0, "val": 29, "test": 100}[part]
    data = load_data(save_npz(npz_arrays), 16)
    assert [len(part) for part in data.parts().values()] == [29, 6, 9]


def test_contradictory_labels_are_reported(npz_arrays, save_npz):
    npz_arrays["train_images"][1] = npz_arrays["train_images"][0]
    notes = load_data(save_npz(npz_arrays), 16).notes
    assert any(
        "2 images have the same pixels as an image of another class" in note for note in notes
    )


def change(name, value):
    return lambda arrays: arrays.__setitem__(
        name, value(arrays[name]) if callable(value) else value
    )


def with_pixel(value):
    def changed(images):
        images = (images / 255).astype(np.float32)
        images[1, 2, 3] = value
        return images

    return lambda arrays: [change(f"{part}_images", changed)(arrays) for part in PARTS]


BAD = {
    "missing images": (lambda a: a.pop("test_images"), "test_images is missing"),
    "missing labels": (lambda a: a.pop("val_labels"), "val_labels is missing"),
    "flat images": (
        change("train_images", noise(30, 256)),
        r"train_images has the shape \(30, 256\)",
    ),
    "five dimensions": (
        change("train_images", noise(30, 4, 4, 4, 4)),
        "train_images has the shape",
    ),
    "two channels": (
        change("train_images", noise(30, 16, 16, 2)),
        r"train_images has the shape \(30, 16, 16, 2\)",
    ),
    "no pixels": (
        change("train_images", noise(30, 0, 16)),
        r"train_images has the shape \(30, 0, 16\)",
    ),
    "sizes unlike": (
        change("test_images", noise(9, 8, 8)),
        "test_images has images of .* all parts need one shape",
    ),
    "NaN": (with_pixel(np.nan), r"train_images has NaN or values outside \[0, 1\]"),
    "infinite": (with_pixel(np.inf), "train_images has NaN or values outside"),
    "above one": (with_pixel(1.5), "train_images has NaN or values outside"),
    "below zero": (with_pixel(-0.1), "train_images has NaN or values outside"),
    "signed integers": (
        change("train_images", lambda x: x.astype(np.int64)),
        "train_images has the type int64",
    ),
    "complex": (
        change("train_images", lambda x: x.astype(complex)),
        "train_images has the type complex128",
    ),
    "fewer labels": (
        change("train_labels", lambda x: x[:-1]),
        r"train_labels has the shape \(29, 1\); .*\(30,\)",
    ),
    "several labels": (
        change("train_labels", noise(30, 14)),
        r"train_labels has the shape \(30, 14\)",
    ),
    "float labels": (
        change("train_labels", lambda x: x.astype(float)),
        "train_labels has the type float64",
    ),
    "negative label": (
        change("train_labels", lambda x: x.astype(int) - 1),
        "train_labels has labels from -1",
    ),
    "huge label": (
        change("test_labels", lambda x: x.astype(np.uint64) + 2**63),
        "test_labels has labels from 92233",
    ),
    "text labels": (change("train_labels", np.array(["a"] * 30)), "train_labels holds text"),
    "pickled labels": (
        change("train_labels", np.array([[0]] * 30, object)),
        "train_labels cannot be read .*allow_pickle",
    ),
    "pickled images": (
        change("train_images", np.array([None] * 30)),
        "train_images cannot be read .*allow_pickle",
    ),
    "a gap in the labels": (
        change("train_labels", lambda x: x * 2),
        "class '3' has 0 images, 3 are needed",
    ),
    "groups of one part": (change("train_group", np.arange(30)), "val_group is missing"),
    "origins unlike": (
        lambda a: a.update({f"{p}_origin": np.zeros(6, int) for p in PARTS}),
        "train_origin has the shape",
    ),
    "no images": (change("train_images", noise(0, 16, 16)), "train_labels has the shape"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_field_is_named(npz_arrays, save_npz, what):
    damage, message = BAD[what]
    damage(npz_arrays)
    with pytest.raises(InputError, match=message) as refused:
        load_data(save_npz(npz_arrays), 16)
    assert "\n" not in str(refused.value) and "set.npz" in str(refused.value)


def test_a_class_absent_from_a_given_part_is_named(npz_arrays, save_npz):
    npz_arrays["test_labels"][:] = 0
    with pytest.raises(
        InputError,
        match="class '1' has 12 images in 12 groups and none of them is in the test part",
    ):
        load_data(save_npz(npz_arrays), 16)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"class_names": ["a", "a", "b"]}',
        '{"class_names": "abc"}',
        '{"class_names": ["a", 2, "c"]}',
        '{"origins": {"1": "x"}}',
    ],
)
def test_bad_names_beside_it_are_refused(npz_arrays, save_npz, tmp_path, text):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(InputError, match="set.json: cannot be read"):
        load_data(save_npz(npz_arrays), 16)


def test_labels_beyond_the_names_are_refused(npz_arrays, save_npz, tmp_path):
    (tmp_path / "set.json").write_text('{"class_names": ["a", "b"]}')
    with pytest.raises(InputError, match=r"labels go from 0 to 2, set.json names 2 \(a, b\)"):
        load_data(save_npz(npz_arrays), 16)


def header(shape, descr="|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def rewritten(path, name: str, content: bytes, how=zipfile.ZIP_DEFLATED):
    """The same .npz with other bytes for one member."""
    with zipfile.ZipFile(path) as old:
        members = {member: old.read(member) for member in old.namelist()}
    with zipfile.ZipFile(path, "w", how) as new:
        for member, kept in members.items():
            new.writestr(member, content if member == f"{name}.npy" else kept)
    return path


@pytest.mark.parametrize("name", ["train_images", "train_labels"])
def test_headers_that_ask_for_more_than_there_is_are_refused(npz_arrays, save_npz, name):
    path = rewritten(save_npz(npz_arrays), name, header((2**40, 1024, 1024)) + bytes(100))
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        load_data(path, 16)


def test_directory_sizes_beyond_what_deflate_can_do_are_refused(npz_arrays, save_npz):
    declared = 10_000_000
    head = header((declared,))
    path = rewritten(save_npz(npz_arrays), "train_labels", head)
    whole = bytearray(path.read_bytes())
    at = whole.find(b"PK\x01\x02")
    while whole[at + 46 : at + 46 + len("train_labels.npy")] != b"train_labels.npy":
        at = whole.find(b"PK\x01\x02", at + 4)
    whole[at + 24 : at + 28] = (len(head) + declared).to_bytes(
        4, "little"
    )  # the uncompressed size, with a lie in it
    path.write_bytes(whole)
    with pytest.raises(InputError, match="train_labels cannot be read"):
        load_data(path, 16)


@pytest.mark.parametrize(
    "content", [b"", b"no array", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(99)]
)
def test_members_that_are_no_arrays_are_refused(npz_arrays, save_npz, content):
    path = rewritten(save_npz(npz_arrays), "val_images", content)
    with pytest.raises(InputError, match="val_images cannot be read"):
        load_data(path, 16)


def test_fortran_order_is_read_like_any_other(npz_arrays, save_npz):
    expected = load_data(save_npz(npz_arrays), 16).fingerprint
    npz_arrays["train_images"] = np.asfortranarray(npz_arrays["train_images"])
    assert load_data(save_npz(npz_arrays), 16).fingerprint == expected


def test_an_array_that_unpacks_a_hundredfold_is_refused(npz_arrays, save_npz, monkeypatch):
    monkeypatch.setattr("medddist.data.npz.SUSPICIOUS_BYTES", 1000)
    path = rewritten(save_npz(npz_arrays), "val_labels", bytes(10**6))
    with pytest.raises(InputError, match="val_labels would unpack .* to 1000000; .* zip bomb"):
        load_data(path, 16)


def test_truncation_and_flipped_bytes_are_noticed(npz_arrays, save_npz):
    path = save_npz(npz_arrays)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="set.npz: is not a readable .npz file"):
        load_data(path, 16)
    expected = _fingerprint_of(path, whole)
    for at in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            assert (
                _fingerprint_of(path, damaged) == expected
            )  # a byte that decides nothing, such as a time
        except InputError as refused:
            assert "set.npz" in str(refused)


def _fingerprint_of(path, content: bytes) -> str:
    path.write_bytes(content)
    return load_data(path, 16).fingerprint


def test_the_real_radiographs(shared_data):
    data = load_data(shared_data / "cxr64.npz", 32)
    assert [part.class_counts(4).tolist() for part in data.parts().values()] == [
        [2058, 653, 5911, 777],
        [226, 67, 612, 80],
        [560, 180, 1630, 214],
    ]
    assert (
        data.class_names == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
        and len(data.origin_names) == 3
    )
    groups = [set(part.groups.tolist()) for part in data.parts().values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
