"""Files are whole or absent, and equal values have equal names."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medddist.base import files
from medddist.base.errors import InputError, NotWritable
from medddist.base.files import (
    digest,
    file_names,
    private_folder,
    read_json,
    replaced_atomically,
    require_place,
    write_bytes,
    write_json,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value):
    """The same value with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(values)
def test_digest_is_of_the_value_not_of_the_order_of_keys(value):
    assert digest(value) == digest(shuffled(value)) == digest(json.loads(json.dumps(value)))
    assert len(digest(value)) == 16 and int(digest(value), 16) >= 0


@given(values, values)
def test_digest_tells_values_apart(a, b):
    assert (digest(a) == digest(b)) == (
        json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    )


def test_digest_is_the_same_in_every_process():
    # printf '{"a":"ä","b":[1,2.5,null]}' | sha256sum | cut -c1-16
    assert digest({"b": [1, 2.5, None], "a": "ä"}) == "324d0f98e8e7b390"


def test_a_place_is_tried_without_leaving_or_changing_a_file(tmp_path, monkeypatch):
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        require_place(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotWritable, match="new: cannot be written"):
        require_place(tmp_path / "new")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_json_cannot_say_is_refused(value, tmp_path):
    with pytest.raises(ValueError):
        digest(value)
    with pytest.raises(ValueError):
        write_json(tmp_path / "file.json", value)
    assert list(tmp_path.iterdir()) == []


def test_written_json_is_read_back(tmp_path):
    value = {"name": "Größe", "list": [1, 2.5e-300, None, True]}
    write_json(tmp_path / "deep" / "folder" / "file.json", value)
    assert read_json(tmp_path / "deep" / "folder" / "file.json") == value


def test_an_exception_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), replaced_atomically(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_the_file_system_refuses_is_named(tmp_path, monkeypatch, call):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, refuse)
    with pytest.raises(
        InputError, match=r"file: cannot be written \(No space left on device\); free some space"
    ):
        write_bytes(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"file/inside: cannot be written"):
        write_bytes(tmp_path / "file" / "inside", b"content")


def test_the_name_appears_only_when_the_content_is_flushed(tmp_path, monkeypatch):
    """At the moment of the rename the temporary file is whole and synced; until then nobody sees
    the name.
    """
    path, events = tmp_path / "file", []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda handle: (events.append(("sync", path.exists())), sync(handle))
    )

    def watched(source, target):
        events.append(("rename", Path(source).read_bytes(), Path(source).parent == target.parent))
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", watched)
    write_bytes(path, b"content")
    assert events == [("sync", False), ("rename", b"content", True)]
    assert path.read_bytes() == b"content"


@pytest.fixture
def umask():
    """Set the process's umask; the old one comes back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask, expected", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_written_file_has_the_mode_that_the_umask_gives_it_however_it_was_written(
    tmp_path, umask, mask, expected
):
    umask(mask)
    write_bytes(tmp_path / "file", b"")
    with replaced_atomically(
        tmp_path / "replaced"
    ) as temporary:  # as safetensors writes: another file in its place, of mode 0600
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT, 0o600))
    assert mode(tmp_path / "file") == mode(tmp_path / "replaced") == expected


def test_a_private_file_is_readable_by_its_owner_alone_whatever_the_umask_and_from_the_beginning(
    tmp_path, umask
):
    umask(0)
    with replaced_atomically(tmp_path / "file", private=True) as temporary:
        assert mode(temporary) == 0o600
    assert mode(tmp_path / "file") == 0o600


def test_a_private_folder_is_made_for_its_owner_alone_and_one_that_exists_keeps_its_mode(
    tmp_path, umask
):
    umask(0o022)
    private_folder(tmp_path / "above" / "private")
    assert (mode(tmp_path / "above"), mode(tmp_path / "above" / "private")) == (0o755, 0o700)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o770)
    private_folder(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o770


@pytest.mark.parametrize(
    "number, remedy",
    [
        (errno.EACCES, "choose another folder or make it writable"),
        (errno.EROFS, "choose another folder or make it writable"),
        (errno.ENOSPC, "free some space there, or choose another folder"),
        (errno.ENOTDIR, "choose another folder"),
    ],
)
def test_the_remedy_for_a_place_that_cannot_be_written_to_fits_the_reason(
    tmp_path, monkeypatch, number, remedy
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(InputError) as refused:
        write_bytes(tmp_path / "file", b"content")
    assert str(refused.value).endswith(f"cannot be written ({os.strerror(number)}); {remedy}")


# ---- names of files ------------------------------------------------------------------------------


def test_readable_names_stay_readable():
    names = ["north", "St Mary", "Zürich", "東京 病院", "site-2_a.b"]
    assert list(file_names(names).values()) == [
        "north",
        "St-Mary",
        "Zürich",
        "東京-病院",
        "site-2_a.b",
    ]


NAMES = [
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    " ",
    ".hidden",
    "a/b",
    "a\\b",
    "C:x",
    "x" * 300,
    "病" * 300,
    "a\nb",
    "a\0b",
    "CON",
    "nul.a",
    "St A",
    "St-A",
    "st a",
    "St A ",
    "-rf",
    "e\u0301",
    "\u00e9",
    "\ud800",
    "x.",
    "a*b?",
]


def test_whatever_the_names_each_is_one_file_of_its_own_in_the_folder(tmp_path):
    found = file_names(NAMES)
    assert list(found) == NAMES
    for name in found.values():
        (tmp_path / f"{name}.zip").write_text(name)
        assert (
            name[0].isalnum()
            and len(f"{name}.zip".encode()) <= 255
            and name.isprintable()
            and not name.endswith(".")
        )
        assert name.partition(".")[0].casefold() not in ("con", "nul")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.zip" for name in found.values()}
    assert len({name.casefold() for name in found.values()}) == len(NAMES), (
        "also where letters' case does not tell names apart"
    )


def test_a_name_does_not_depend_on_the_order_of_the_others():
    assert file_names(NAMES) == file_names(NAMES[::-1])


@given(st.lists(st.text() | st.sampled_from(NAMES), unique=True, max_size=6))
def test_no_two_names_share_a_file(names):
    once = file_names(names)
    again = file_names(
        list({*names, *once.values()})
    )  # names that somebody chose to clash with the first ones' files
    for found in (once, again):
        assert len({name.casefold() for name in found.values()}) == len(found)
        assert all(
            name == Path(name).name and name not in ("", ".", "..") for name in found.values()
        )
