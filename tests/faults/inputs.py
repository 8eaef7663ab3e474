"""Damaged inputs: each function spoils one, opens it under watch, and says what came of it,
"refused" or "right".

Under watch nothing may be written, run or connected to (`damage.watched`). An AssertionError is a
fault of ours.
"""

from __future__ import annotations

import contextlib
import encodings.cp437  # noqa: F401  zipfile imports it late, and under watch nothing is imported
import functools
import io
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / name) for name in ("", "sharing")
]  # damage.py, packages.py, small.py

import damage
import numpy as np
import packages
import torch
import yaml
from PIL import Image
from safetensors.torch import load
from small import tiny_network, walk

from medddist import cli
from medddist.base.errors import InputError
from medddist.base.tensors import load_tensors, save_tensors
from medddist.data import cache, load_data
from medddist.data.images import MAX_PIXELS, decoded
from medddist.method.trajectories import open_trajectory, write_trajectory
from medddist.sharing.manifest import DATA, MANIFEST
from medddist.sharing.signature import make_keys
from medddist.study.profile import load_profile, profile_names


def _spoilt(r: random.Random, content: bytes) -> bytes:
    for _ in range(r.choice([1, 1, 1, 3])):
        content = damage._bytes(r, content) or b"x"
    return content


def _refused(reason: InputError, name: str | Path) -> str:
    said = str(reason)
    assert str(name) in said and "\n" not in said, said
    return "refused"


def damaged_packages(r: random.Random, folder: Path) -> str:
    outcome = damage.tried(r, r.choice(damage.KINDS))
    return "right" if outcome == "read right" else outcome


# ---- what the study keeps ------------------------------------------------------------------------


@functools.cache
def _kept(name: str) -> bytes:
    """A teacher's trajectory, or a file of several tensors, as written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if name == "trajectory.safetensors":
            write_trajectory(path, _rows(), {"index": 0, "validation": [{"accuracy": 0.5}]})
        else:
            save_tensors(path, _tensors(), {"iteration": 7, "losses": [0.25, 0.125]})
        return path.read_bytes()


def _rows() -> torch.Tensor:
    return walk(tiny_network(), 5)


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "images": torch.linspace(-2, 2, 300).view(3, 1, 10, 10),
        "labels": torch.arange(3),
        "step": torch.tensor(0.01),
    }


def damaged_trajectories(r: random.Random, folder: Path) -> str:
    path = folder / "trajectory.safetensors"
    path.write_bytes(_spoilt(r, _kept(path.name)))
    try:
        with damage.watched():
            found = open_trajectory(path)
            rows = found.rows(*range(found.snapshots))
    except InputError as reason:
        return _refused(reason, path)
    assert torch.equal(torch.stack(rows), _rows()) and found.about == {
        "index": 0,
        "validation": [{"accuracy": 0.5}],
    }
    return "right"


def damaged_results(r: random.Random, folder: Path) -> str:
    """A step's result or checkpoint."""
    path = folder / "result.safetensors"
    path.write_bytes(_spoilt(r, _kept(path.name)))
    try:
        with damage.watched():
            found, about = load_tensors(path)
    except InputError as reason:
        return _refused(reason, path)
    expected = _tensors()
    assert found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )
    assert about == {"iteration": 7, "losses": [0.25, 0.125]}
    return "right"


@functools.cache
def _cache() -> tuple[Path, str]:
    """A folder with one entry in it, and the fingerprint of the data."""
    folder = Path(tempfile.mkdtemp(prefix="medddist-cache."))
    return folder, load_data("phantom", 16, folder, images=80).fingerprint


def damaged_caches(r: random.Random, folder: Path) -> str:
    """A spoilt entry is as good as none: it is found out, and made anew."""
    whole, fingerprint = _cache()
    shutil.copytree(whole, folder / "cache")
    (entry,) = (folder / "cache").iterdir()
    for name in r.sample(sorted(path.name for path in entry.iterdir()), r.choice([1, 1, 2])):
        how = r.random()
        if how < 0.7:
            (entry / name).write_bytes(_spoilt(r, (entry / name).read_bytes()))
        elif how < 0.85:
            (entry / name).unlink()
        else:
            (entry / name).write_bytes(
                (entry / r.choice(sorted(p.name for p in entry.iterdir()))).read_bytes()
            )
    with damage.watched():
        found = cache.opened(entry)
    if found is None and r.random() < 0.9:  # making the images takes a while
        return "refused"
    assert load_data("phantom", 16, folder / "cache", images=80).fingerprint == fingerprint
    return "refused" if found is None else "right"


@functools.cache
def _profile(name: str) -> str:
    return yaml.safe_dump(load_profile(name).model_dump(mode="json"))


def damaged_profiles(r: random.Random, folder: Path) -> str:
    """Spoilt bytes, or valid YAML with a value that is another; read right is what is read back as
    itself.
    """
    path, whole = folder / "mine.yaml", _profile(r.choice(profile_names()))
    if r.random() < 0.5:
        path.write_bytes(_spoilt(r, whole.encode()))
    else:
        path.write_text(
            json.dumps(damage._changed(r, yaml.safe_load(whole))),
            encoding="utf-8",
            errors="surrogatepass",
        )
    try:
        with damage.watched():
            found = load_profile(str(path))
    except InputError as reason:
        return _refused(reason, "mine.yaml")
    path.write_text(yaml.safe_dump(found.model_dump(mode="json")))
    assert load_profile(str(path)) == found
    return "right"


# ---- image folders -------------------------------------------------------------------------------

NAMES = ["plain", "with some spaces", "胸部 X線 画像", "ünï", "a'b\"c", "#1 %20", "-rf", "x" * 100]
GREY = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)


def _png(image: Image.Image, kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    image.save(made, format=kind)
    return made.getvalue()


def _with_alpha() -> Image.Image:
    image = Image.fromarray(GREY).convert("LA")
    image.putalpha(Image.fromarray(np.full((16, 16), 255, np.uint8)))
    return image


@functools.cache
def _bomb() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return _png(Image.new("1", (20_000, MAX_PIXELS // 20_000 + 1)))


READ = {  # name's ending, content, what is read of it
    "grey": (".png", lambda: _png(Image.fromarray(GREY)), GREY),
    "sixteen bits": (
        ".png",
        lambda: _png(Image.fromarray((GREY.astype(np.uint16) - GREY.min()) * 200)),
        None,
    ),
    "palette": (".png", lambda: _png(Image.fromarray(GREY).convert("P")), GREY),
    "alpha": (".png", lambda: _png(_with_alpha()), GREY),
    "CMYK": (".tif", lambda: _png(Image.fromarray(GREY).convert("CMYK"), "TIFF"), GREY),
    "BMP named .png": (".png", lambda: _png(Image.fromarray(GREY), "BMP"), GREY),
}
REFUSED = {
    "bomb": (".png", _bomb),
    "text named .png": (".png", lambda: b"patient,label\n1,COVID\n" * 20),
    "empty": (".png", lambda: b""),
    "DICOM named .png": (".png", lambda: bytes(128) + b"DICM" + bytes(400)),
    "DICOM that is none": (".dcm", lambda: bytes(128) + b"DICM" + b"\x02\0\0\0UL\4\0" + bytes(60)),
    "cut": (".png", lambda: _png(Image.fromarray(GREY))[:90]),
    "PostScript": (".png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "film": (".tif", lambda: _film()),
}


@functools.cache
def _film() -> bytes:
    made, frames = io.BytesIO(), [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(made, format="TIFF", save_all=True, append_images=frames[1:])
    return made.getvalue()


@functools.cache
def _decoders_are_imported() -> None:
    """Some are when first used, which is no fault of what is read."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ending, make, *_ in (*READ.values(), *REFUSED.values()):
            path = Path(folder) / f"x{ending}"
            path.write_bytes(make())
            with contextlib.suppress(InputError):
                decoded(path)


def image_folders(r: random.Random, folder: Path) -> str:
    """Two classes of eight images, one of them odd: read as it is meant, refused by name, or left
    out where that is asked for.
    """
    odd, others = (
        r.choice([*READ, *REFUSED, "damaged"]),
        np.random.default_rng(r.randrange(2**32)).integers(0, 256, (16, 16, 16), np.uint8),
    )
    classes = r.sample(NAMES, 2)
    for k, pixels in enumerate(others):
        path = folder / "source" / classes[k % 2] / f"{r.choice(NAMES)} {k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    ending, make, *_ = (
        READ.get(odd) or REFUSED.get(odd) or (r.choice([".png", ".tif", ".bmp"]), lambda: b"")
    )
    path = path.with_name(f"{r.choice(NAMES)} odd{ending}")
    kinds = {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}
    path.write_bytes(
        _spoilt(r, _png(Image.fromarray(GREY), kinds[ending])) if odd == "damaged" else make()
    )
    skip = r.random() < 0.5
    _decoders_are_imported()
    try:
        with damage.watched():
            data = load_data(folder / "source", 16, skip_unreadable=skip)
    except InputError as reason:
        assert odd not in READ and not skip, f"{odd}: {reason}"
        return _refused(reason, path.name)
    images = {image.tobytes() for part in data.parts().values() for image in part.images}
    assert {pixels.tobytes() for pixels in others} <= images, "the other images are what they were"
    assert odd not in REFUSED or (
        skip and len(images) == 16 and any("left out" in note for note in data.notes)
    ), odd
    assert odd not in READ or READ[odd][2] is None or GREY.tobytes() in images, odd
    return "right"


# ---- what `verify` has to refuse -----------------------------------------------------------------


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def _a_flipped_byte(r, folder) -> list[str]:
    found = packages.files()
    name = r.choice(sorted(found))
    content = bytearray(found[name])
    content[r.randrange(len(content))] ^= 1 << r.randrange(8)
    # Of the manifest itself, or of a label in it, only its ID tells: the sender says it, and
    # --expect takes it.
    identity = damage.hashlib.sha256(found[MANIFEST]).hexdigest()
    return [
        str(packages.as_zip(folder / "x.zip", found | {name: bytes(content)})),
        "--expect",
        identity,
    ]


def _a_pickle(r, folder) -> list[str]:
    saved = io.BytesIO()
    torch.save({"images": torch.zeros(2, 2)}, saved)
    content = r.choice([pickle.dumps(_Runs()), saved.getvalue()])
    return [
        str(
            packages.as_zip(
                folder / "x.zip", packages.with_manifest(packages.files() | {DATA: content})
            )
        )
    ]


def _a_path_that_climbs_out(r, folder) -> list[str]:
    name = r.choice(
        ["../x.png", "/tmp/x.png", "a/../../x.png", "..\\x.png", "..", "C:\\x.png", "./x.png"]
    )
    found = packages.with_manifest(packages.files() | {name: b"x"})
    if r.random() < 0.5:  # listed by the manifest alone
        found.pop(name)
    return [str(packages.zip_of(folder / "x.zip", list(found.items())))]


def _a_manifest_without_a_hash(r, folder) -> list[str]:
    def change(manifest: dict) -> None:
        name = r.choice(sorted(manifest["files"]))
        if r.random() < 0.5:
            manifest["files"][name].pop("sha256")
        else:
            manifest["files"][name]["sha256"] = r.choice(["", None, "0" * 63, "G" * 64])

    return [
        str(packages.as_zip(folder / "x.zip", packages.with_manifest(packages.files(), change)))
    ]


def _nan_pixels(r, folder) -> list[str]:
    images = load(packages.files(version=1)[DATA])["images"].clone()  # 8-bit pixels are numbers
    images.view(-1)[r.randrange(images.numel())] = r.choice(
        [float("nan"), float("inf"), -float("inf")]
    )
    return [str(packages.as_zip(folder / "x.zip", packages.with_tensors(1, images=images)))]


@functools.cache
def _keys() -> tuple[Path, Path]:
    """The sender's keys, and somebody else's."""
    folder = Path(tempfile.mkdtemp(prefix="medddist-keys."))
    make_keys(folder / "sender"), make_keys(folder / "other")
    return folder / "sender", folder / "other"


def _a_wrong_signature(r, folder) -> list[str]:
    sender, other = _keys()
    found = packages.files(sign_with=sender / "private.pem")
    how, key = r.randrange(4), sender
    if how == 0:
        key = other
    elif how == 1:
        content = bytearray(found["manifest.sig"])
        content[r.randrange(64)] ^= 1 << r.randrange(8)
        found |= {"manifest.sig": bytes(content)}
    elif how == 2:
        found |= {MANIFEST: packages.files(creator="somebody else")[MANIFEST]}
    else:
        del found["manifest.sig"]
    return [str(packages.as_zip(folder / "x.zip", found)), "--key", str(key / "public.pem")]


def _an_unknown_version(r, folder) -> list[str]:
    version = r.choice([0, 1, 3, 99, -1, "2", 1.5, None, True, [2]])  # 1 is another one's
    return [
        str(
            packages.as_zip(
                folder / "x.zip",
                packages.with_manifest(packages.files(), lambda m: m.update(version=version)),
            )
        )
    ]


SPOILT = {
    "a flipped byte": _a_flipped_byte,
    "a pickle in place of safetensors": _a_pickle,
    "a path that climbs out": _a_path_that_climbs_out,
    "a manifest without a hash": _a_manifest_without_a_hash,
    "NaN pixels": _nan_pixels,
    "a wrong signature": _a_wrong_signature,
    "an unknown version": _an_unknown_version,
}


def refused_by_verify(what: str, r: random.Random, folder: Path) -> str:
    """Exit code 2 and one line; a package that is read would be a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        words = SPOILT[what](r, folder)
    before, out, err = sorted(folder.rglob("*")), io.StringIO(), io.StringIO()
    with damage.watched(), redirect_stdout(out), redirect_stderr(err):
        code = cli.exit_code(["verify", *words])
    assert code == 2 and not out.getvalue(), f"{what}: exit code {code}"
    assert (
        err.getvalue().startswith(f"medddist: error: {words[0]}: ")
        and err.getvalue().count("\n") == 1
    ), err.getvalue()
    assert sorted(folder.rglob("*")) == before and not Path("it-ran").exists()
    return "refused"


KINDS = [
    damaged_packages,
    damaged_trajectories,
    damaged_results,
    damaged_caches,
    damaged_profiles,
    image_folders,
]
