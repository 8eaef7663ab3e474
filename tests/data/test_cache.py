from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import noise
from PIL import Image

from medddist import data as data_module
from medddist.base.errors import InputError
from medddist.data import cache, listing, load_data
from medddist.data.collection import Collection


@pytest.fixture
def decodings(monkeypatch):
    """A list that grows by one each time a folder is decoded."""
    seen, real = [], listing.read
    monkeypatch.setattr(
        listing, "read", lambda *args, **kwargs: seen.append(1) or real(*args, **kwargs)
    )
    return seen


def only_entry(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def same(a, b) -> bool:
    return a.fingerprint == b.fingerprint and all(
        (p.images == q.images).all()
        and (p.labels == q.labels).all()
        and (p.groups == q.groups).all()
        for p, q in zip(a.parts().values(), b.parts().values())
    )


def test_decoded_once_and_memory_mapped(class_folders, tmp_path, decodings):
    plain = load_data(class_folders, 16)
    first, second = (
        load_data(class_folders, 16, cache_folder=tmp_path / "cache") for _ in range(2)
    )
    assert (
        len(decodings) == 2
        and same(plain, first)
        and same(first, second)
        and plain.notes == second.notes
    )
    kept = cache.opened(only_entry(tmp_path / "cache"))
    assert isinstance(kept.images, np.memmap) and not kept.images.flags.writeable
    assert not plain.train.images.flags.writeable  # what would fail with a cache fails without


def test_nothing_is_written_without_a_cache_folder(class_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    load_data(class_folders, 16)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_split_needs_no_decoding(class_folders, tmp_path, decodings):
    one, other = (
        load_data(class_folders, 16, cache_folder=tmp_path / "cache", seed=seed) for seed in (1, 2)
    )
    assert len(decodings) == 1 and one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "change", [{"channels": 3}, {"image_size_px": 12}, {"skip_unreadable": True}]
)
def test_settings_that_decide_pixels_have_entries_of_their_own(
    class_folders, tmp_path, decodings, change
):
    for more in ({}, change, change):
        load_data(class_folders, cache_folder=tmp_path / "cache", **({"image_size_px": 16} | more))
    assert len(decodings) == 2


def test_a_changed_file_is_seen_even_with_its_old_time(class_folders, tmp_path):
    path = class_folders / "sick" / "one.bmp"  # of one size whatever it shows
    Image.fromarray(noise(20, 20, seed=76)).save(path)
    before, status = load_data(class_folders, 16, cache_folder=tmp_path / "cache"), path.stat()
    time.sleep(0.02)
    Image.fromarray(noise(20, 20, seed=77)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (
        load_data(class_folders, 16, cache_folder=tmp_path / "cache").fingerprint
        != before.fingerprint
    )


def test_the_fingerprint_knows_no_paths_or_times(class_folders, tmp_path):
    before = load_data(class_folders, 16).fingerprint
    moved = class_folders.rename(tmp_path / "elsewhere")
    for path in moved.rglob("*.png"):
        os.utime(path, (1, 1))
    assert load_data(moved, 16, cache_folder=tmp_path / "cache").fingerprint == before
    assert len(before) == 32 and int(before, 16) >= 0


@pytest.mark.parametrize("name", [f"{name}.npy" for name in cache.ARRAYS] + ["collection.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_entry_is_rebuilt(class_folders, tmp_path, decodings, name, damage):
    whole = load_data(class_folders, 16, cache_folder=tmp_path / "cache")
    path = only_entry(tmp_path / "cache") / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"cut": content[:-3], "empty": b""}.get(damage, content))
    if damage == "remove":
        path.unlink()
    assert same(load_data(class_folders, 16, cache_folder=tmp_path / "cache"), whole)
    assert len(decodings) == 2
    assert (
        same(load_data(class_folders, 16, cache_folder=tmp_path / "cache"), whole)
        and len(decodings) == 2
    )
    assert cache.opened(only_entry(tmp_path / "cache")) is not None  # and nothing else lies about


def test_a_kill_while_writing_leaves_no_entry(class_folders, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            load_data(class_folders, 16, cache_folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    load_data(class_folders, 16, cache_folder=tmp_path / "cache")


def test_another_process_may_be_faster(tmp_path):
    made = Collection(
        images=noise(4, 1, 8, 8),
        labels=np.arange(4),
        groups=np.arange(4),
        hashes=np.zeros((4, 2), np.uint64),
        units=np.zeros(4, np.uint64),
        parts=np.zeros(4, np.int8),
        origins=np.zeros(4, np.int64),
        class_names=("a", "b"),
    )

    def build():
        cache.cached(tmp_path, {"x": 1}, lambda: made)
        return made

    assert (cache.cached(tmp_path, {"x": 1}, build).images == made.images).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(class_folders, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(
        InputError, match=r"cache: cannot be written \(File exists\); choose another folder"
    ):
        load_data(class_folders, 16, cache_folder=tmp_path / "cache")


def test_decoded_images_are_their_owners_alone(class_folders, tmp_path):
    before = os.umask(0)
    try:
        load_data(class_folders, 16, cache_folder=tmp_path / "cache")
    finally:
        os.umask(before)
    folders = [tmp_path / "cache", only_entry(tmp_path / "cache")]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700, 0o700]


def test_an_edit_of_the_code_empties_the_cache(tmp_path, monkeypatch):
    package = Path(data_module.__file__).parent
    for path in package.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    before = cache.code_digest()
    (tmp_path / "phantom.py").write_text("# changed")
    assert cache.code_digest() != before


def test_no_pickle_is_ever_loaded(class_folders, tmp_path, decodings):
    load_data(class_folders, 16, cache_folder=tmp_path / "cache")
    entry = only_entry(tmp_path / "cache")
    np.save(entry / "labels.npy", np.array([print], object), allow_pickle=True)
    content = json.loads((entry / "collection.json").read_text())
    content["sha256"]["labels"] = cache.file_digest(entry / "labels.npy")
    (entry / "collection.json").write_text(json.dumps(content))
    load_data(class_folders, 16, cache_folder=tmp_path / "cache")
    assert len(decodings) == 2
