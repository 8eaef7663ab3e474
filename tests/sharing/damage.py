"""Packages spoilt at random, and what became of each: `python tests/sharing/damage.py --count
10000` prints the counts.

Each kind of damage is a function of a `random.Random`, so that hypothesis can look for a bad case
and make it small, and the command can repeat a long run. Opened under watch: nothing may be
written, run, connected to or imported, and little may be allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # tests/small.py, where this is the command

import jsonschema
import packages
import torch
from packages import with_manifest, zip_of

from medddist.base.errors import InputError
from medddist.sharing.manifest import CARD, DATA, MANIFEST, schema
from medddist.sharing.reading import open_package

SCHEMA = jsonschema.Draft202012Validator(schema())
FILES = {
    (version, soft): packages.files(soft, version=version)
    for version in packages.VERSIONS
    for soft in (False, True)
}
NASTY = [
    "../x",
    "/x",
    "a/b",
    "",
    ".",
    "..",
    "x" * 300,
    "\0",
    "\x1b[2J",
    "con",
    "名",
    MANIFEST,
    DATA,
    "README.MD",
    "a\\b",
    "-rf",
]
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**64,
    10**40,
    1e-320,
    1e300,
    -0.5,
    "",
    "0",
    "x" * 5000,
    "\x00",
    "\ud7ff",
    [],
    {},
    [[]],
    [1] * 9,
]
WORST_BYTES = 5_000_000  # that opening a package of 12 kB may allocate


# ---- kinds of damage: a package to open, made in `folder` ----------------------------------------


def _bytes(r: random.Random, content: bytes) -> bytes:
    """Somewhere some bytes are flipped, cut out, put in, moved, repeated, or zeroed."""
    content = bytearray(content)
    at, length = r.randrange(len(content) + 1), r.choice([1, 1, 2, 4, 8, 100])
    piece = content[at : at + length]
    how = r.randrange(7)
    if how == 0:
        for _ in range(length):
            content[r.randrange(len(content))] ^= 1 << r.randrange(8)
    elif how == 1:
        del content[at : at + length]
    elif how == 2:
        content[at:at] = bytes(r.randrange(256) for _ in range(length))
    elif how == 3:
        other = r.randrange(len(content) + 1)
        content[other : other + length] = piece
    elif how == 4:
        content[at:at] = piece
    elif how == 5:
        content[at : at + length] = bytes([r.choice([0, 255])]) * len(piece)
    else:
        del content[at:]
    return bytes(content)


def zips_bytes(r, files, folder) -> Path:
    path = packages.as_zip(folder / "x.zip", files)
    content = path.read_bytes()
    for _ in range(r.choice([1, 1, 1, 3])):
        content = _bytes(r, content) or b"x"
    path.write_bytes(content)
    return path


def zips_directory(r, files, folder) -> Path:
    """A field of an entry's or of the last record: flags, method, time, check sum, sizes,
    attributes, offsets.
    """
    path = packages.as_zip(folder / "x.zip", files)
    content = bytearray(path.read_bytes())
    mark = r.choice([b"PK\1\2", b"PK\3\4", b"PK\5\6"])
    places = [k for k in range(len(content)) if content.startswith(mark, k)]
    at, width = (
        r.choice(places) + r.randrange(4, {b"PK\1\2": 46, b"PK\3\4": 30, b"PK\5\6": 22}[mark]),
        r.choice([1, 2, 4]),
    )
    content[at : at + width] = r.choice(
        [bytes(width), b"\xff" * width, r.randrange(256**width).to_bytes(width, "little")]
    )
    path.write_bytes(content)
    return path


def files_bytes(r, files, folder) -> Path:
    """A file is damaged and the manifest is as it was."""
    name = r.choice(sorted(files))
    return _written(files | {name: _bytes(r, files[name])}, folder)


def files_mixed(r, files, folder) -> Path:
    """Files are exchanged, lost, added, or taken from another package."""
    found, other = dict(files), FILES[r.choice(sorted(FILES))]
    for _ in range(r.choice([1, 1, 2])):
        a, b = r.choice(sorted(files)), r.choice(sorted(files))
        how = r.randrange(4)
        if how == 0 and a in found and b in found:
            found[a], found[b] = found[b], found[a]
        elif how == 1:
            found.pop(a, None)
        elif how == 2:
            found[r.choice(["more.txt", "manifest.sig", "preview_77.png"])] = bytes(r.randrange(80))
        elif a in other:
            found[a] = other[a]
    return _written(found, folder)


def tensors_bytes(r, files, folder) -> Path:
    """The numbers are damaged by somebody who lists them anew."""
    return _written(with_manifest(files | {DATA: _bytes(r, files[DATA])}), folder)


def tensors_header(r, files, folder) -> Path:
    """Any value in the header is another, and its length fits."""
    content = files[DATA]
    length = int.from_bytes(content[:8], "little")
    text = json.dumps(_changed(r, json.loads(content[8 : 8 + length]))).encode(
        "utf-8", "surrogatepass"
    )
    made = (
        r.choice([len(text), len(text), r.randrange(2**64)]).to_bytes(8, "little")
        + text
        + content[8 + length :]
    )
    return _written(with_manifest(files | {DATA: made}), folder)


def tensors_values(r, files, folder) -> Path:
    """Numbers that are none, or too large, anywhere behind the header."""
    content = bytearray(files[DATA])
    start = 8 + int.from_bytes(content[:8], "little")
    at = r.randrange(start, len(content) - 3, 4) if (len(content) - start) % 4 == 0 else start
    content[at : at + 4] = r.choice(
        [
            b"\0\0\xc0\x7f",
            b"\0\0\x80\x7f",
            b"\0\0\x80\xff",
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\xff\xff\x7f\x7f",
        ]
    )
    return _written(with_manifest(files | {DATA: bytes(content)}), folder)


def manifests_values(r, files, folder) -> Path:
    """Any value of the manifest is another, and the rest fits."""
    values = json.loads(files[MANIFEST])
    for _ in range(r.choice([1, 1, 1, 2])):
        values = _changed(r, values)
    return _written(
        files | {MANIFEST: json.dumps(values, indent=1).encode("utf-8", "surrogatepass")}, folder
    )


def manifests_bytes(r, files, folder) -> Path:
    return _written(files | {MANIFEST: _bytes(r, files[MANIFEST])}, folder)


def entries(r, files, folder) -> Path:
    """Entries of a .zip with other names, kinds and methods; some twice."""
    found = []
    hit = r.choice(sorted(files))
    for name, content in files.items():
        info = zipfile.ZipInfo(r.choice(NASTY) or "x" if name == hit else name)
        info.create_system, kind = (
            r.choice([0, 3]),
            r.choice([0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO]),
        )
        info.external_attr = ((kind if name == hit else stat.S_IFREG) | 0o777) << 16
        info.compress_type = (
            r.choice(
                [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
            )
            if name == hit
            else 0
        )
        found += [(info, content)] * (2 if name == hit and r.random() < 0.2 else 1)
    return zip_of(folder / "x.zip", found)


def bombs(r, files, folder) -> Path:
    """Much from little, with or without a list that says so."""
    size = r.choice([10**5, 10**6])
    name = r.choice(["preview_00.png", CARD, DATA])
    found = files | {name: bytes(size)}
    found = with_manifest(found) if r.random() < 0.5 else found
    path = zip_of(folder / "x.zip", list(found.items()), zipfile.ZIP_DEFLATED)
    if r.random() < 0.5:
        content = bytearray(path.read_bytes())
        at = content.rfind(name.encode()) - 46 + 24
        content[at : at + 4] = r.choice([len(files[name]), 0, 2**31, 2**32 - 1]).to_bytes(
            4, "little"
        )
        path.write_bytes(content)
    return path


KINDS = [
    zips_bytes,
    zips_directory,
    files_bytes,
    files_mixed,
    tensors_bytes,
    tensors_header,
    tensors_values,
    manifests_values,
    manifests_bytes,
    entries,
    bombs,
]


def _written(files: dict[str, bytes], folder: Path) -> Path:
    return packages.as_zip(folder / "x.zip", files)


def _changed(r: random.Random, value, depth: int = 0):
    """A JSON value with one of its parts replaced, lost, doubled or put deeper."""
    if isinstance(value, dict) and value and (depth == 0 or r.random() < 0.8):
        value = dict(value)
        key = r.choice(sorted(value))
        how = r.randrange(8)
        if how == 0:
            del value[key]
        elif how == 1:
            value[r.choice(NASTY)] = value[key]
        else:
            value[key] = _changed(r, value[key], depth + 1)
        return value
    if isinstance(value, list) and value and r.random() < 0.7:
        at = r.randrange(len(value))
        return r.choice(
            [
                value[:at],
                [*value, value[at]],
                [*value[:at], _changed(r, value[at], depth + 1), *value[at + 1 :]],
            ]
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool) and r.random() < 0.5:
        return r.choice([value + 1, -value, value * 2, value / 3, float(value), str(value)])
    return r.choice([*VALUES, {"a": value}, [value]])


# ---- what became of it ---------------------------------------------------------------------------

FORBIDDEN = {
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.truncate",
    "exec",
    "ctypes.dlopen",
}
_seen: list[str] | None = None  # while something is watched
most_bytes = 0  # that were allocated while something was watched, where tracemalloc runs


def _watch(event: str, arguments: tuple) -> None:
    if _seen is None:
        return
    writes = event == "open" and (arguments[2] or 0) & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    )
    if event in FORBIDDEN or writes:
        _seen.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_watch)


@contextmanager
def watched():
    """Fail if anything was written, run or connected to, or more allocated than it should be."""
    global _seen, most_bytes
    if tracemalloc.is_tracing():
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
    _seen = seen = []
    try:
        yield
    finally:
        _seen = None
        if tracemalloc.is_tracing():
            most_bytes = max(most_bytes, tracemalloc.get_traced_memory()[1] - held)
    assert not seen, seen
    assert most_bytes <= WORST_BYTES, most_bytes


def outcome(path: Path, files: dict[str, bytes]) -> str:
    """`refused: why` or `read right`; an AssertionError for anything else."""
    given = _manifest_of(path)
    try:
        with watched():
            package = open_package(path)
    except InputError as reason:
        said = str(reason)
        assert said.startswith(f"{path}: ") and said.isprintable() and len(said) < 600, said
        return "refused"
    assert package.id == hashlib.sha256(given).hexdigest(), (
        "the manifest that was read is the one that is there"
    )
    values = json.loads(given)
    SCHEMA.validate(values)
    assert (
        package.images.isfinite().all()
        and 0 < package.step_size == values["step_size"]
        and len(package) == sum(values["images"])
    )
    if (
        values["files"] == json.loads(files[MANIFEST])["files"]
    ):  # not listed anew: then the numbers are those that were written
        original = packages.released("soft" in values["labels"])
        images = original.images
        if values["version"] == 2:  # they are scaled by what the manifest says of pixels
            levels = packages.data().scaling.levels(images)
            images = package.manifest.pixels.scaling.apply(levels)
        assert torch.equal(package.images, images)
        assert torch.equal(package.targets, original.targets)
    return "read right"


def _manifest_of(path: Path) -> bytes:
    """What Python's reader finds there."""
    try:
        return zipfile.ZipFile(path).read(MANIFEST)
    except Exception:
        return b""


def tried(r: random.Random, kind) -> str:
    """One package spoilt in this way, and what became of it; its folder has nothing in it that was
    not there before.
    """
    files = FILES[r.choice([1, 2, 2]), r.random() < 0.3]
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of zipfile, that a name is written twice
        path = kind(r, files, Path(name))
        before = sorted(str(found) for found in Path(name).rglob("*"))
        result = outcome(path, files)
        assert sorted(str(found) for found in Path(name).rglob("*")) == before
        return result


def counts(count: int, seed: int = 0) -> dict:
    """`count` packages, dealt over the kinds: {kind: {refused, read right}}, the longest time and
    the most memory that one took.
    """
    found = {kind.__name__: Counter() for kind in KINDS}
    r, longest_seconds = random.Random(seed), 0.0
    tried(random.Random(1), files_mixed)  # what is imported late is imported now
    tracemalloc.start()
    for number in range(count):
        kind, began = KINDS[number % len(KINDS)], time.monotonic()
        found[kind.__name__][tried(r, kind)] += 1
        longest_seconds = max(longest_seconds, time.monotonic() - began)
    tracemalloc.stop()
    return {
        "packages": count,
        "kinds": {name: dict(of) for name, of in found.items()},
        "longest_seconds": round(longest_seconds, 3),
        "most_bytes": most_bytes,
    }


if __name__ == "__main__":
    import argparse

    asked = argparse.ArgumentParser(
        description=(
            "Spoil packages at random, open each under watch, and print what became of them."
        )
    )
    asked.add_argument("--count", type=int, default=10_000)
    asked.add_argument("--seed", type=int, default=0)
    print(json.dumps(counts(**vars(asked.parse_args())), indent=1))
