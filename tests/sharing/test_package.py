"""A package is read back as it was written, or refused in one line that says why."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import zipfile
from pathlib import Path

import packages
import pytest
import torch
from packages import (
    KEPT,
    PIXELS,
    as_folder,
    as_zip,
    files,
    with_header,
    with_manifest,
    with_tensors,
    zip_of,
)
from small import CLASSES, SIZE_PX

from medddist.base.errors import InputError
from medddist.sharing import archive as container
from medddist.sharing.manifest import CARD, DATA, MANIFEST, MAX_FILES, SIGNATURE
from medddist.sharing.reading import open_package
from medddist.sharing.signature import make_keys
from medddist.sharing.tensors import MAX_HEADER_BYTES

KEPT_ID, KEPT_SUM = (
    "3837d3c566cd5dc6caddd3cc394124138a2eb620ee06f6bc56845c25c87ca207",
    9.66918108984828,
)


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


@pytest.mark.parametrize("kind", [as_zip, as_folder])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_what_is_opened_is_what_was_written(tmp_path, kind, soft):
    one, package = packages.released(soft), open_package(kind(tmp_path / "x.zip", files(soft)))
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


def test_a_folder_and_a_zip_are_one_package(tmp_path):
    found = files()
    container.write(tmp_path / "x.zip", found)
    container.write(tmp_path / "x", found)
    assert open_package(tmp_path / "x.zip").id == open_package(tmp_path / "x").id
    assert (
        {path.name for path in (tmp_path / "x").iterdir()}
        == set(found)
        == set(zipfile.ZipFile(tmp_path / "x.zip").namelist())
    )


def test_equal_sets_are_equal_bytes():
    made = [
        packages.packed(packages.released(), packages.data(), packages.about()) for _ in range(2)
    ]
    assert container.zipped(made[0]) == container.zipped(made[1])
    assert files() != files(creator="somebody else")


def test_a_zip_made_by_other_tools_is_read(tmp_path):
    path = zip_of(tmp_path / "x.zip", list(files().items()), zipfile.ZIP_DEFLATED)
    assert open_package(path).id == open_package(as_zip(tmp_path / "y.zip", files())).id


def test_a_package_written_today_stays_readable():
    package = open_package(KEPT, expect=KEPT_ID)
    assert package.manifest.version == 1 and package.class_names == (
        "COVID",
        "Lung_Opacity",
        "Normal",
        "Viral Pneumonia",
    )
    assert package.images.shape == (4, 1, 16, 16) and package.targets.tolist() == [0, 1, 2, 3]
    assert package.images.double().sum().item() == pytest.approx(KEPT_SUM, rel=1e-9)
    assert KEPT.stat().st_size < 20_000 and package.manifest.measured[0].accuracy.mean is not None


# ---- writing -------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "x").mkdir()
    container.write(tmp_path / "x", files())
    before = (tmp_path / "x" / MANIFEST).read_bytes()
    with pytest.raises(InputError, match="x: is there already"):
        container.write(tmp_path / "x", files(creator="other"))
    assert (tmp_path / "x" / MANIFEST).read_bytes() == before
    container.write(tmp_path / "x.zip", files())
    container.write(tmp_path / "x.zip", files(creator="other"))  # a new version replaces the old
    assert open_package(tmp_path / "x.zip").manifest.creator == "other"


@pytest.mark.parametrize("name", ["x", "x.zip"])
def test_a_package_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, name):
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == (1 if name.endswith("zip") else 3):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=f"{name}: cannot be written .*No space left"):
        container.write(tmp_path / name, files())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "mask, of_files, of_folders", [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)]
)
def test_a_package_is_made_to_be_sent_and_has_the_modes_of_the_umask(
    tmp_path, mask, of_files, of_folders
):
    before = os.umask(mask)
    try:
        container.write(tmp_path / "x", files())
        container.write(tmp_path / "x.zip", files())
    finally:
        os.umask(before)
    mode = lambda path: path.stat().st_mode & 0o777
    assert {mode(path) for path in [tmp_path / "x.zip", *(tmp_path / "x").iterdir()]} == {of_files}
    assert mode(tmp_path / "x") == of_folders


@pytest.mark.parametrize("name", ["x", "x.zip"])
def test_a_killed_writer_leaves_no_package_by_that_name(tmp_path, monkeypatch, name):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename" if name == "x" else "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        container.write(tmp_path / name, files())
    assert not (tmp_path / name).exists()


def test_what_no_receiver_would_accept_is_not_written():
    one = packages.released()
    one.images[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        packages.packed(one, packages.data(), packages.about())


# ---- refusals: the container ---------------------------------------------------------------------


def test_what_is_not_there_or_nothing_of_the_kind(tmp_path):
    refused(tmp_path / "none.zip", "is not there")
    (tmp_path / "text.zip").write_text("no zip at all, but a text")
    refused(tmp_path / "text.zip", "is not a .zip file")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "empty.zip", "is not a .zip file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "manifest.json: is missing")
    refused(Path("/dev/null"), "neither a folder nor a file")
    refused(zip_of(tmp_path / "none.zip", []), "manifest.json: is missing")


@pytest.mark.parametrize("kind", [as_zip, as_folder])
@pytest.mark.parametrize("name", [DATA, CARD, "preview_00.png"])
def test_a_flipped_byte(tmp_path, kind, name):
    found = files()
    found[name] = found[name][:-9] + bytes([found[name][-9] ^ 1]) + found[name][-8:]
    refused(kind(tmp_path / "x.zip", found), f"{name}: is not the file that the manifest describes")


def test_a_flipped_byte_of_the_manifest_is_another_package(tmp_path):
    found = files()
    name = open_package(as_zip(tmp_path / "x.zip", found)).id
    found[MANIFEST] = found[MANIFEST].replace(b'"seed": 0', b'"seed": 1', 1)
    path = as_zip(tmp_path / "x.zip", found)
    assert open_package(path).id != name
    refused(path, "its ID is", "not the expected", expect=name)
    assert open_package(as_zip(path, files()), expect=name.upper()).id == name


@pytest.mark.parametrize("kind", [as_zip, as_folder])
@pytest.mark.parametrize("name", [MANIFEST, DATA, CARD])
def test_a_missing_file(tmp_path, kind, name):
    refused(
        kind(tmp_path / "x.zip", {n: c for n, c in files().items() if n != name}),
        f"{name}: is missing",
    )


@pytest.mark.parametrize("kind", [as_zip, as_folder])
def test_a_stranger(tmp_path, kind):
    refused(
        kind(tmp_path / "x.zip", files() | {"run.sh": b"#!/bin/sh"}),
        "run.sh: is not in the manifest",
    )


@pytest.mark.parametrize("kind", [as_zip, as_folder])
@pytest.mark.parametrize("length", [0, -1, 1])
def test_a_file_of_another_length(tmp_path, kind, length):
    found = files()
    found[DATA] = {0: b"", -1: found[DATA][:-1], 1: found[DATA] + b"\0"}[length]
    refused(kind(tmp_path / "x.zip", found), f"{DATA}: has {len(found[DATA])} bytes")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "C:\\x", "..", "sub/x", "sub/", ".x", "\x1b[2J", "名前"],
)
def test_a_path_that_climbs_out_or_leads_anywhere(tmp_path, name):
    said = refused(zip_of(tmp_path / "x.zip", [*files().items(), (name, b"x")]))
    assert "no name of a file in a package" in said or "is no plain file" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip"]


def test_a_name_that_is_there_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zip_of(tmp_path / "x.zip", [*files().items(), (DATA, b"other")])
    refused(path, f"{DATA}: is there twice")


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFSOCK]
)
def test_an_entry_that_is_no_plain_file(tmp_path, kind):
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    refused(
        zip_of(tmp_path / "x.zip", [*files().items(), (entry, b"/etc/passwd")]),
        "link: is no plain file",
    )


def test_links_pipes_and_folders_in_a_folder(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(files()[CARD])
    spoils = (
        lambda path: path.symlink_to(secret),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
        os.mkfifo,
    )
    for number, spoil in enumerate(spoils):
        folder = as_folder(tmp_path / str(number), files())
        (folder / CARD).unlink()
        spoil(folder / CARD)
        refused(folder, f"{CARD}: is no plain file")


def test_a_link_that_took_a_files_place_is_not_followed(tmp_path):
    folder = as_folder(tmp_path / "x", files())
    with container.opened(folder) as box:
        (folder / CARD).rename(tmp_path / "elsewhere")
        (folder / CARD).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=f"^{CARD}: cannot be read"):
            container.read(box, CARD, 10**6)


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
        f"{MAX_FILES} files are the most",
    )
    refused(
        as_folder(tmp_path / "x", {f"f{k}": b"" for k in range(MAX_FILES + 1)}),
        f"holds more than {MAX_FILES} files",
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
        bytes(200) + before + container.END.pack(b"PK\5\6", 0, 0, entries, entries, length, 100, 0)
    )
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the list was read"))
    refused(path, "files are the most")


def test_sizes_are_bounded_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MAX_BYTES", 1000)
    path = as_folder(tmp_path / "x", files())
    monkeypatch.setattr(container.Folder, "read", lambda *_: pytest.fail("it was read"))
    refused(path, "1000 bytes")


def test_a_sparse_file_of_a_terabyte(tmp_path):
    folder = as_folder(tmp_path / "x", files())
    with open(folder / DATA, "r+b") as file:
        file.truncate(2**40)
    refused(folder, "holds more than")
    with open(tmp_path / "x.zip", "wb") as file:
        file.truncate(2**40)
    refused(tmp_path / "x.zip", f"has {2**40} bytes")


def test_a_comment_and_a_tail(tmp_path):
    path = as_zip(tmp_path / "x.zip", files())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
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
    images = packages.released().images.clone()
    images[3, 0, 5, 5] = value
    refused(zipped(with_tensors(images=images)), f"{DATA}: images have pixels", told)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"targets": torch.tensor([0, 0, 1, 1, 2, 3])}, "not classes from 0 to 2"),
        ({"targets": torch.tensor([0, 0, 1, 1, 2, -1])}, "not classes from 0 to 2"),
        ({"targets": torch.tensor([0, 0, 0, 1, 2, 2])}, "number of images of each class"),
        ({"targets": torch.zeros(6, dtype=torch.int32)}, "targets is I32 of shape [6]"),
        ({"targets": torch.full((6, 3), 1 / 3)}, "targets is F32 of shape [6, 3]"),
        ({"targets": None}, "does not hold just"),
        ({"more": torch.zeros(1)}, "does not hold just"),
        ({"images": torch.zeros(6, 1, 8, 9)}, "images is F32 of shape [6, 1, 8, 9]"),
        ({"images": torch.zeros(5, 1, 8, 8)}, "images is F32 of shape [5, 1, 8, 8]"),
        ({"images": torch.zeros(6, 1, 8, 8).double()}, "images is F64"),
        ({"images": torch.zeros(6, 1, 8, 8).half()}, "images is F16"),
        ({"step_size": torch.tensor(0.06)}, "step_size is not the manifest's"),
        ({"step_size": torch.tensor(float("nan"))}, "step_size is not the manifest's"),
        ({"step_size": torch.tensor([0.05])}, "step_size is F32 of shape [1]"),
    ],
)
def test_tensors_that_do_not_fit(zipped, changes, told):
    refused(zipped(with_tensors(**changes)), DATA, told)


@pytest.mark.parametrize("row", [[0.5, 0.2, 0.2], [1.2, -0.1, -0.1], [float("nan"), 0.5, 0.5]])
def test_soft_labels_that_are_no_probabilities(zipped, row):
    found, one = files(soft=True), packages.released(soft=True)
    targets = one.targets.clone()
    targets[0] = torch.tensor(row)
    found[DATA] = packages.save(
        {"images": one.images, "targets": targets, "step_size": one.step_size}
    )
    refused(zipped(with_manifest(found)), "targets are not probabilities")


def header(**changes) -> dict:
    images, targets, step_size = 6 * PIXELS, 6 * PIXELS + 48, 6 * PIXELS + 52
    return {
        "images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": [0, images]},
        "targets": {"dtype": "I64", "shape": [6], "data_offsets": [images, targets]},
        "step_size": {"dtype": "F32", "shape": [], "data_offsets": [targets, step_size]},
    } | changes


BODY = bytes(6 * PIXELS + 52)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"__metadata__": {"a": "b"}}, "does not hold just"),
        (
            {"images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": [0, 2**62]}},
            "images does not lie where",
        ),
        (
            {"images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": [-4, 1532]}},
            "images does not lie where",
        ),
        (
            {"images": {"dtype": "F32", "shape": [2**40, 1, 8, 8], "data_offsets": [0, 2**48]}},
            "images is F32 of shape",
        ),
        ({"images": {"dtype": "F32", "shape": [6, 1, 8, 8]}}, "images has no place"),
        (
            {"images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": "ab"}},
            "images has no place",
        ),
        (
            {"images": {"dtype": "F32", "shape": [6, 1, 8, 8], "data_offsets": [False, 1536]}},
            "images has no place",
        ),
        ({"images": 5}, "images has no place"),
        (
            {"targets": {"dtype": "I64", "shape": [6], "data_offsets": [0, 48]}},
            "does not lie where",
        ),
    ],
)
def test_a_header_that_lies(zipped, changes, told):
    refused(zipped(with_header(header(**changes), BODY)), DATA, told)


def test_the_header_by_hand_is_the_librarys(zipped):
    """What the tests above change is otherwise right: it fails later, at the values."""
    refused(zipped(with_header(header(), BODY)), "number of images of each class")
    refused(
        zipped(with_header(header(), BODY + b"\0")),
        "its tensors take 1588 bytes and 1589 are there",
    )
    refused(
        zipped(with_header(header(), BODY[:-1])), "its tensors take 1588 bytes and 1587 are there"
    )


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES + 1, 2**32, 2**63, 2**64 - 1])
def test_a_headers_length_is_bounded(zipped, length):
    body = length.to_bytes(8, "little") + b" " * (2 * MAX_HEADER_BYTES)
    refused(
        zipped(with_manifest(files() | {DATA: body})),
        "is not a safetensors file with a header of 2 to",
    )


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
            lambda m: m.update(version=2),
            "has version 2, and 1 is known here; install a newer medddist",
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
    refused(
        as_folder(tmp_path / "x", found),
        "manifest.json: has",
        f"{2**20} were announced or are the most",
    )


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
    refused(path, "its signature is not by the key in", key=keys / "other" / "public.pem")


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
    refused(path, "its signature is not by the key in", key=keys / "mine" / "public.pem")


def test_a_long_signature_is_not_read(keys, zipped):
    path = zipped(files() | {SIGNATURE: bytes(65)})
    refused(path, f"{SIGNATURE}: has 65 bytes", key=keys / "mine" / "public.pem")


def test_keys_are_the_owners_and_are_not_replaced(keys):
    assert stat.S_IMODE((keys / "mine" / "private.pem").stat().st_mode) == 0o600
    before = (keys / "mine" / "private.pem").read_bytes()
    with pytest.raises(InputError, match="private.pem: is there already"):
        make_keys(keys / "mine")
    assert (keys / "mine" / "private.pem").read_bytes() == before


@pytest.mark.parametrize(
    "name, told",
    [
        ("none.pem", ("cannot be read as a key (No such file or directory)")),
        ("text.pem", "no key in PEM"),
        ("mine/private.pem", "no key in PEM"),
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
    assert told in said and "give public.pem of the sender's" in said


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
