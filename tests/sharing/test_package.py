"""A package is read back as it was written, or refused in one line that says why."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import packages
import pytest
import torch
from packages import (
    KEPT_1,
    KEPT_2,
    PIXELS,
    as_zip,
    files,
    with_header,
    with_manifest,
    with_tensors,
    zip_of,
)
from PIL import Image
from safetensors.torch import load
from small import CLASSES, SIZE_PX

from medddist.base.errors import InputError
from medddist.method.evaluate import trained_networks
from medddist.sharing import archive
from medddist.sharing.manifest import CARD, DATA, MANIFEST, MAX_FILES, SIGNATURE
from medddist.sharing.reading import open_package
from medddist.sharing.signature import make_keys
from medddist.sharing.tensors import MAX_HEADER_BYTES

V1 = "3837d3c566cd5dc6caddd3cc394124138a2eb620ee06f6bc56845c25c87ca207"
V2 = "c9e6b776ccb047484cfe960c78807bc570555b6df48f1b5726e5c9380ea75eed"
# a package, its version, its ID, and the sum of its images as they are trained on
KEPT = [(KEPT_1, 1, V1, 9.66918108984828), (KEPT_2, 2, V2, 1.4993284158408642)]


@pytest.fixture
def zipped(tmp_path):
    return lambda found: as_zip(tmp_path / "x.zip", found)


def refused(path: Path, *texts: str, **asked) -> str:
    with pytest.raises(InputError) as refusal:
        open_package(path, **asked)
    said = str(refusal.value)
    assert said.startswith(f"{path}: ") and said.isprintable() and len(said) < 600
    assert not [text for text in texts if text not in said], said
    return said


# ---- as it was written ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", packages.VERSIONS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_what_is_opened_is_what_was_written(zipped, soft, version):
    one, package = packages.released(soft), open_package(zipped(files(soft, version=version)))
    assert package.manifest.version == version
    assert torch.equal(package.images, one.images) and torch.equal(package.targets, one.targets)
    assert package.step_size == one.step_size.item() == package.recipe.learning_rate
    assert package.class_names == ("a", "b", "c") and not package.signed


def test_it_is_a_torch_data_set(zipped):
    package = open_package(zipped(files()))
    assert (
        len(package) == 2 * CLASSES
        and package[4][0].shape == (1, SIZE_PX, SIZE_PX)
        and package[4][1] == 1
    )
    batches = list(torch.utils.data.DataLoader(package, batch_size=4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 1, 8, 8), (2, 1, 8, 8)]


def test_its_representation_is_one_short_line(zipped):
    text = repr(open_package(zipped(files())))
    assert re.fullmatch(
        r"<Package [0-9a-f]{12}: 6 images of 1 x 8 x 8 in 3 classes, hard labels>", text
    )


def test_a_zip_holds_the_files_and_nothing_else(tmp_path):
    archive.write(tmp_path / "x.zip", files())
    assert set(files()) == set(zipfile.ZipFile(tmp_path / "x.zip").namelist())


def test_equal_sets_are_equal_bytes():
    made = [
        packages.packed(packages.released(), packages.data(), packages.about()) for _ in range(2)
    ]
    assert archive.zipped(made[0]) == archive.zipped(made[1])
    assert files() != files(creator="somebody else")


def test_a_zip_made_by_other_tools_is_read(tmp_path):
    path = zip_of(tmp_path / "x.zip", list(files().items()), zipfile.ZIP_DEFLATED)
    assert open_package(path).id == open_package(as_zip(tmp_path / "y.zip", files())).id


@pytest.mark.parametrize("path, version, name, total", KEPT, ids=["version 1", "version 2"])
def test_a_package_written_today_stays_readable(path, version, name, total):
    package = open_package(path, expect=name)
    assert package.manifest.version == version and package.class_names == (
        "COVID",
        "Lung_Opacity",
        "Normal",
        "Viral Pneumonia",
    )
    assert package.images.shape == (4, 1, 16, 16) and package.targets.tolist() == [0, 1, 2, 3]
    assert package.images.double().sum().item() == pytest.approx(total, rel=1e-9)
    assert path.stat().st_size < 20_000
    assert torch.isfinite(torch.stack(package.train(1, "cpu").parameters)).all()


def test_version_1_gives_the_tensors_that_it_holds():
    package, held = open_package(KEPT_1), load(zipfile.ZipFile(KEPT_1).read(DATA))
    assert held["images"].dtype == package.images.dtype == torch.float32
    assert torch.equal(package.images, held["images"])
    assert torch.equal(package.targets, held["targets"])
    assert package.step_size == held["step_size"].item()
    assert package.manifest.measured[0].accuracy.mean is not None


def test_a_set_takes_as_many_bytes_as_as_many_pictures_and_is_what_was_scored(zipped):
    """80 images of 32 x 32 pixels, whose networks are to the bit those of the sender's set."""
    one = packages.released(count=80, size_px=32)
    found = packages.packed(one, packages.data(32), packages.about())
    pictures, labels = 80 * 32 * 32, 80
    assert pictures < len(found[DATA]) < 1.3 * (pictures + labels)
    package = open_package(zipped(found))
    assert load(found[DATA])["images"].dtype == torch.uint8
    assert torch.equal(package.images, one.images) and torch.equal(package.targets, one.labels)
    seed = package.manifest.training_seed
    scored = trained_networks(package.network(), one.images, one.labels, package.recipe, 1, seed)
    assert torch.equal(package.train(1, "cpu").parameters[0], scored[0])


def test_pixels_between_two_levels_are_sent_as_the_nearer_one(zipped):
    """And those that are darker than black or brighter than white as black and white."""
    one, scaling = packages.released(), packages.data().scaling
    values = torch.tensor([0.3, 0.7, 100.4, 100.6, 254.4, 254.6, -40.0, 300.0])
    one.images[0, 0, 0] = scaling.apply(values[None, None, None] / 255)[0, 0, 0]
    package = open_package(zipped(packages.packed(one, packages.data(), packages.about())))
    sent = scaling.levels(package.images)
    assert sent[0, 0, 0].tolist() == [0, 1, 100, 101, 254, 255, 0, 255]
    assert torch.equal(package.images, scaling.apply(sent))


def test_the_previews_are_the_pixels_that_are_sent():
    found, levels = files(), packages.data().scaling.levels(packages.released().images)
    sheet = np.asarray(Image.open(io.BytesIO(found["preview_00.png"])))
    first = levels[packages.released().labels == 0, 0].numpy()
    assert np.array_equal(sheet, np.concatenate(list(first), axis=1))


# ---- writing -------------------------------------------------------------------------------------


def test_a_new_version_replaces_the_old(tmp_path):
    archive.write(tmp_path / "x.zip", files())
    archive.write(tmp_path / "x.zip", files(creator="other"))
    assert open_package(tmp_path / "x.zip").manifest.creator == "other"


@pytest.mark.parametrize("name", ["x", "x.tar", "zip"])
def test_a_package_of_another_ending_is_not_written(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: is not the name of a .zip file; let it end in"):
        archive.write(tmp_path / name, files())
    assert not list(tmp_path.iterdir())


def test_a_package_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="x.zip: cannot be written .*No space left"):
        archive.write(tmp_path / "x.zip", files())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640)])
def test_a_package_is_made_to_be_sent_and_has_the_mode_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        archive.write(tmp_path / "x.zip", files())
    finally:
        os.umask(before)
    assert (tmp_path / "x.zip").stat().st_mode & 0o777 == mode


def test_a_killed_writer_leaves_no_package_by_that_name(tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        archive.write(tmp_path / "x.zip", files())
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_no_receiver_would_accept_is_not_written(value):
    one = packages.released()
    one.images[0, 0, 0, 0] = value
    with pytest.raises(InputError, match="images have pixels that are NaN or infinite"):
        packages.packed(one, packages.data(), packages.about())


# ---- refusals: the container ---------------------------------------------------------------------


def test_what_is_not_there_or_nothing_of_the_kind(tmp_path):
    refused(tmp_path / "none.zip", "does not exist; give a package's .zip file")
    (tmp_path / "text.zip").write_text("no zip at all, but a text")
    refused(tmp_path / "text.zip", "is not a .zip file")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "empty.zip", "is not a .zip file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is not a file; give a package's .zip file")
    refused(Path("/dev/null"), "is not a file")
    refused(zip_of(tmp_path / "none.zip", []), "manifest.json: is missing")


@pytest.mark.parametrize("name", [DATA, CARD, "preview_00.png"])
def test_a_flipped_byte(zipped, name):
    found = files()
    found[name] = found[name][:-9] + bytes([found[name][-9] ^ 1]) + found[name][-8:]
    refused(zipped(found), f"{name}: is not the file that the manifest lists")


def test_a_flipped_byte_of_the_manifest_is_another_package(tmp_path):
    found = files()
    name = open_package(as_zip(tmp_path / "x.zip", found)).id
    found[MANIFEST] = found[MANIFEST].replace(b'"seed": 0', b'"seed": 1', 1)
    path = as_zip(tmp_path / "x.zip", found)
    assert open_package(path).id != name
    refused(path, "its ID is", "not the expected", expect=name)
    assert open_package(as_zip(path, files()), expect=name.upper()).id == name


@pytest.mark.parametrize("name", [MANIFEST, DATA, CARD])
def test_a_missing_file(zipped, name):
    others = {n: c for n, c in files().items() if n != name}
    refused(zipped(others), f"{name}: is missing")


def test_a_stranger(zipped):
    refused(zipped(files() | {"run.sh": b"#!/bin/sh"}), "run.sh: is not in the manifest")


@pytest.mark.parametrize("length", [0, -1, 1])
def test_a_file_of_another_length(zipped, length):
    found = files()
    found[DATA] = {0: b"", -1: found[DATA][:-1], 1: found[DATA] + b"\0"}[length]
    refused(zipped(found), f"{DATA}: has {len(found[DATA])} bytes")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "C:\\x", "..", "sub/x", "sub/", ".x", "\x1b[2J", "名前"],
)
def test_a_path_that_climbs_out_or_leads_anywhere(tmp_path, name):
    said = refused(zip_of(tmp_path / "x.zip", [*files().items(), (name, b"x")]))
    assert "is not in the manifest" in said or "is not a plain file" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip"]


def test_a_name_that_is_there_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zip_of(tmp_path / "x.zip", [*files().items(), (DATA, b"other")])
    refused(path, f"{DATA}: is in the .zip twice")


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFSOCK]
)
def test_an_entry_that_is_no_plain_file(tmp_path, kind):
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    refused(
        zip_of(tmp_path / "x.zip", [*files().items(), (entry, b"/etc/passwd")]),
        "link: is not a plain file",
    )


def test_an_encrypted_entry(tmp_path):
    path = as_zip(tmp_path / "x.zip", files())
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.find(mark) + offset] |= 1
    path.write_bytes(content)
    refused(path, "manifest.json: is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_is_not_read(tmp_path, method):
    refused(zip_of(tmp_path / "x.zip", list(files().items()), method), "is compressed by method")


def test_a_bomb(tmp_path):
    found = with_manifest(files() | {"preview_09.png": bytes(10**7)})
    refused(
        zip_of(tmp_path / "x.zip", list(found.items()), zipfile.ZIP_DEFLATED),
        "preview_09.png: unpacks",
        "zip bomb",
    )


def test_a_bomb_that_lies_about_its_size(tmp_path):
    """Its list says 100 bytes: no more are unpacked than that, whatever comes."""
    found = with_manifest(
        files() | {"preview_09.png": bytes(10**7)},
        lambda m: m["files"]["preview_09.png"].update(bytes=100),
    )
    path = zip_of(tmp_path / "x.zip", list(found.items()), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    place = content.rfind(b"preview_09.png") - 46
    assert content[place : place + 4] == b"PK\1\2"
    content[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(content)
    refused(path, "preview_09.png: cannot be read (Bad CRC-32")


def test_more_files_than_a_package_has(tmp_path):
    refused(
        zip_of(tmp_path / "x.zip", [(f"f{k}", b"") for k in range(MAX_FILES + 1)]),
        f"{MAX_FILES} files are read",
    )


@pytest.mark.parametrize(
    "entries, length, before",
    [(65_535, 100, b""), (10, 2**20, b""), (10, 100, b"PK\6\7" + bytes(16))],
)
def test_a_long_list_is_refused_before_it_is_read(tmp_path, monkeypatch, entries, length, before):
    """By the last record; the third has 64-bit numbers elsewhere, which Python's reader would take
    instead.
    """
    path = tmp_path / "x.zip"
    path.write_bytes(
        bytes(200)
        + before
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, length, 100, 0)
    )
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the list was read"))
    refused(path, "files are read")


def test_sizes_are_bounded_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    path = zip_of(tmp_path / "x.zip", list(files().items()), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive.Archive, "read", lambda *_: pytest.fail("it was read"))
    refused(path, "1000 bytes")


def test_a_sparse_file_of_a_terabyte(tmp_path):
    with open(tmp_path / "x.zip", "wb") as file:
        file.truncate(2**40)
    refused(tmp_path / "x.zip", f"has {2**40} bytes")


def test_a_comment_and_a_tail(tmp_path):
    path = as_zip(tmp_path / "x.zip", files())
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b"hello"
    refused(path, "without a comment")
    path.write_bytes(as_zip(path, files()).read_bytes() + b"tail")
    refused(path, "is not a .zip file that ends")


# ---- refusals: what is inside, where the manifest fits the damage --------------------------------


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_in_place_of_safetensors(tmp_path, how):
    content = pickle.dumps(Touch(tmp_path / "ran"))
    if how == "torch":
        saved = io.BytesIO()
        torch.save(Touch(tmp_path / "ran"), saved)
        content = saved.getvalue()
    refused(
        as_zip(tmp_path / "x.zip", files() | {DATA: content}), f"{DATA}: has {len(content)} bytes"
    )
    fits = with_manifest(files() | {DATA: content})
    refused(as_zip(tmp_path / "x.zip", fits), f"{DATA}: is not a safetensors file")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value, told",
    [
        (float("nan"), "NaN or infinite"),
        (float("inf"), "NaN or infinite"),
        (float("-inf"), "NaN or infinite"),
        (2e4, "standard deviations"),
    ],
)
def test_pixels_that_are_none(zipped, value, told):
    """8-bit pixels are always numbers: only version 1 can hold others."""
    images = packages.released().images.clone()
    images[3, 0, 5, 5] = value
    refused(zipped(with_tensors(1, images=images)), f"{DATA}: images have pixels", told)


def test_a_scaling_that_makes_pixels_none_is_refused(zipped):
    """A standard deviation that is 0 in single precision, which divides 8-bit pixels."""
    found = with_manifest(files(), lambda m: m["pixels"].update(std=[1e-300]))
    refused(zipped(found), f"{DATA}: images have pixels that are NaN or infinite")


@pytest.mark.parametrize("version, held, other", [(1, "float32", "uint8"), (2, "uint8", "float32")])
def test_images_of_the_other_version_are_refused(zipped, version, held, other):
    """Whether the manifest is silent about it or says so."""
    images = load(files(version=3 - version)[DATA])["images"]
    kind = "of shape [6, 1, 8, 8]"
    reason = f"images is {other} {kind}, and the manifest announces {held} {kind}"
    refused(zipped(with_tensors(version, images=images)), f"{DATA}: {reason}; ask the sender")
    said = with_manifest(with_tensors(version, images=images), lambda m: m.update(storage=other))
    reason = f"version {version} has {held}, not {other}"
    refused(zipped(said), f"manifest.json: settings: storage: {reason}; ask the sender")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"targets": torch.tensor([0, 0, 1, 1, 2, 3])}, "not classes from 0 to 2"),
        ({"targets": torch.tensor([0, 0, 1, 1, 2, -1])}, "not classes from 0 to 2"),
        ({"targets": torch.tensor([0, 0, 0, 1, 2, 2])}, "number of images per class"),
        ({"targets": torch.zeros(6, dtype=torch.int32)}, "targets is int32 of shape [6]"),
        ({"targets": torch.full((6, 3), 1 / 3)}, "targets is float32 of shape [6, 3]"),
        ({"targets": None}, "does not hold exactly"),
        ({"more": torch.zeros(1)}, "does not hold exactly"),
        ({"images": torch.zeros(6, 1, 8, 9).byte()}, "images is uint8 of shape [6, 1, 8, 9]"),
        ({"images": torch.zeros(5, 1, 8, 8).byte()}, "images is uint8 of shape [5, 1, 8, 8]"),
        ({"images": torch.zeros(6, 1, 8, 8).char()}, "images is int8"),
        ({"images": torch.zeros(6, 1, 8, 8).half()}, "images is float16"),
        ({"images": torch.zeros(6, 1, 8, 8).bool()}, "images is bool"),
        ({"step_size": torch.tensor(0.06)}, "step_size is not the manifest's"),
        ({"step_size": torch.tensor(float("nan"))}, "step_size is not the manifest's"),
        ({"step_size": torch.tensor([0.05])}, "step_size is float32 of shape [1]"),
    ],
)
def test_tensors_that_do_not_fit(zipped, changes, told):
    refused(zipped(with_tensors(**changes)), DATA, told)


@pytest.mark.parametrize(
    "images, told",
    [
        (torch.zeros(6, 1, 8, 9), "images is float32 of shape [6, 1, 8, 9]"),
        (torch.zeros(5, 1, 8, 8), "images is float32 of shape [5, 1, 8, 8]"),
        (torch.zeros(6, 1, 8, 8).double(), "images is float64"),
        (torch.zeros(6, 1, 8, 8).half(), "images is float16"),
    ],
)
def test_images_of_version_1_that_do_not_fit(zipped, images, told):
    refused(zipped(with_tensors(1, images=images)), DATA, told)


@pytest.mark.parametrize("row", [[0.5, 0.2, 0.2], [1.2, -0.1, -0.1], [float("nan"), 0.5, 0.5]])
def test_soft_labels_that_are_no_probabilities(zipped, row):
    targets = packages.released(soft=True).targets.clone()
    targets[0] = torch.tensor(row)
    refused(zipped(with_tensors(soft=True, targets=targets)), "targets are not probabilities")


def header(**changes) -> dict:
    images, targets, step_size = 6 * PIXELS, 6 * PIXELS + 48, 6 * PIXELS + 52
    return {
        "images": {"dtype": "U8", "shape": [6, 1, 8, 8], "data_offsets": [0, images]},
        "targets": {"dtype": "I64", "shape": [6], "data_offsets": [images, targets]},
        "step_size": {"dtype": "F32", "shape": [], "data_offsets": [targets, step_size]},
    } | changes


BODY = bytes(6 * PIXELS + 52)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": {"dtype": "U8", "shape": [6, 1, 8, 8], "data_offsets": [0, 2**62]}},
        {"images": {"dtype": "U8", "shape": [6, 1, 8, 8], "data_offsets": [-4, 380]}},
        {"images": {"dtype": "U8", "shape": [2**40, 1, 8, 8], "data_offsets": [0, 2**46]}},
        {"images": {"dtype": "U8", "shape": [2**62, 4, 8, 8], "data_offsets": [0, 384]}},
        {"images": {"dtype": "U8", "shape": [6, 1, 8, 8]}},
        {"images": {"dtype": "U8", "shape": [6, 1, 8, 8], "data_offsets": "ab"}},
        {"images": {"dtype": "U8", "shape": [6, 1, 8, 8], "data_offsets": [False, 384]}},
        {"images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": [0, 384]}},
        {"images": {"dtype": "F4", "shape": [6, 1, 8, 8], "data_offsets": [0, 192]}},
        {"images": 5},
        {"targets": {"dtype": "I64", "shape": [6], "data_offsets": [0, 48]}},
    ],
)
def test_a_header_that_lies(zipped, changes):
    refused(zipped(with_header(header(**changes), BODY)), f"{DATA}: cannot be read")


def test_the_header_by_hand_is_the_librarys(zipped):
    """What the tests above change is otherwise right: it fails later, at the values."""
    refused(zipped(with_header(header(), BODY)), "number of images per class")
    refused(zipped(with_header(header(), BODY + b"\0")), f"{DATA}: cannot be read")
    refused(zipped(with_header(header(), BODY[:-1])), f"{DATA}: cannot be read")


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES + 1, 2**32, 2**63, 2**64 - 1])
def test_a_headers_length_is_bounded(zipped, length):
    body = length.to_bytes(8, "little") + b" " * (2 * MAX_HEADER_BYTES)
    told = "cannot be read" if length < 2 else "is not a safetensors file with a header of at most"
    refused(zipped(with_manifest(files() | {DATA: body})), f"{DATA}: {told}")


@pytest.mark.parametrize(
    "text", [b"[" * 3000, b'{"a":NaN}', b'{"images":1,"images":2}', b"\xff\xfe", b"[]", b"null"]
)
def test_a_header_that_is_no_plain_json(zipped, text):
    refused(zipped(with_manifest(files() | {DATA: len(text).to_bytes(8, "little") + text})), DATA)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda m: m["files"][DATA].pop("sha256"), "files.data.safetensors.sha256: field required"),
        (lambda m: m.pop("files"), "files: field required"),
        (
            lambda m: m.update(version=3),
            "has version 3, and only 1 and 2 are known; install a newer medddist",
        ),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "files"),
        (lambda m: m["files"].update({"y": {"bytes": 1, "sha256": "0" * 64}}), "y: is missing"),
        (lambda m: m["files"][DATA].update(bytes=2**40), "files.data.safetensors.bytes"),
    ],
)
def test_a_manifest_that_does_not_fit(zipped, change, told):
    refused(
        zipped(with_manifest(files(), change)),
        "manifest.json" if "missing" not in told else "",
        told,
    )


def test_a_huge_manifest(tmp_path):
    found = files()
    found[MANIFEST] += b" " * 2**20
    path = zip_of(tmp_path / "x.zip", list(found.items()))
    refused(path, "manifest.json: has", f"at most {2**20} are expected")


# ---- signatures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        make_keys(folder / name)
    return folder


def test_a_signed_package_is_by_its_key_and_no_other(keys, zipped):
    path = zipped(files(sign_with=keys / "mine" / "private.pem"))
    package = open_package(path, key=keys / "mine" / "public.pem")
    assert package.signed and len(package.signed_by) == 64
    assert open_package(path).signed and open_package(path).signed_by is None
    refused(path, "manifest.sig: is not by the key in", key=keys / "other" / "public.pem")


def test_an_unsigned_package_is_refused_where_a_key_is_given(keys, zipped):
    refused(zipped(files()), "is not signed", key=keys / "mine" / "public.pem")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found | {MANIFEST: found[MANIFEST] + b" "},
        lambda found: found | {SIGNATURE: bytes(64)},
        lambda found: found | {SIGNATURE: found[SIGNATURE][:-1]},
        lambda found: found | {SIGNATURE: b""},
    ],
)
def test_a_signature_is_over_every_byte_of_the_manifest(keys, zipped, spoil):
    path = zipped(spoil(files(sign_with=keys / "mine" / "private.pem")))
    refused(path, "manifest.sig: is not by the key in", key=keys / "mine" / "public.pem")


def test_a_long_signature_is_not_read(keys, zipped):
    path = zipped(files() | {SIGNATURE: bytes(65)})
    refused(path, f"{SIGNATURE}: has 65 bytes", key=keys / "mine" / "public.pem")


def test_keys_are_the_owners_and_are_not_replaced(keys):
    assert stat.S_IMODE((keys / "mine" / "private.pem").stat().st_mode) == 0o600
    before = (keys / "mine" / "private.pem").read_bytes()
    with pytest.raises(InputError, match="private.pem: already exists"):
        make_keys(keys / "mine")
    assert (keys / "mine" / "private.pem").read_bytes() == before


@pytest.mark.parametrize(
    "name, told",
    [
        ("none.pem", "cannot be read as a key (No such file or directory)"),
        ("text.pem", "not in PEM"),
        ("mine/private.pem", "not in PEM"),
        ("rsa.pem", "is another kind of key"),
    ],
)
def test_what_is_no_public_key(keys, zipped, name, told):
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    (keys / "text.pem").write_text("no key")
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    (keys / "rsa.pem").write_bytes(
        rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    said = refused(zipped(files(sign_with=keys / "mine" / "private.pem")), key=keys / name)
    assert told in said and "give public.pem of the sender" in said


def test_a_public_key_signs_nothing(keys):
    with pytest.raises(
        InputError, match="public.pem: cannot be read as a key .*give private.pem of"
    ):
        files(sign_with=keys / "mine" / "public.pem")


def test_the_manifest_is_the_first_entry_and_lists_the_others():
    found = files()
    assert next(iter(found)) == MANIFEST and json.loads(found[MANIFEST])[
        "files"
    ].keys() == found.keys() - {MANIFEST}
