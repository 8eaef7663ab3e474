from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import noise
from PIL import Image

from medddist.base.errors import InputError
from medddist.data.images import MAX_PIXELS, decoded, is_image, prepared, resized

GREY = noise(24, 24, seed=1)
COLOUR = noise(24, 24, 3, seed=2)


def luma(colour: np.ndarray) -> np.ndarray:
    return colour.astype(float) @ [0.299, 0.587, 0.114]


def saved(path, image, **how):
    image.save(path, **how)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "a.pgm", "a.PNG"])
def test_lossless_grey_is_read_as_it_is(tmp_path, name):
    assert (decoded(saved(tmp_path / name, Image.fromarray(GREY))) == GREY).all()


def test_colour_becomes_luma_or_stays(tmp_path):
    pixels = decoded(saved(tmp_path / "a.png", Image.fromarray(COLOUR)))
    assert (pixels == COLOUR).all()
    assert np.abs(prepared(pixels, 24, 1).pixels[0] - luma(COLOUR)).max() <= 1
    assert (prepared(pixels, 24, 3).pixels == COLOUR.transpose(2, 0, 1)).all()
    assert (prepared(GREY, 24, 3).pixels == GREY).all()


def test_palette_is_looked_up(tmp_path):
    image = Image.fromarray(noise(24, 24, seed=3) // 16).convert("L")
    image.putpalette([v for k in range(256) for v in (255 - k, 255 - k, 255 - k)])
    pixels = decoded(saved(tmp_path / "a.png", image))
    assert (prepared(pixels, 24, 1).pixels[0] == 255 - np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_is_black(tmp_path, mode):
    image = Image.fromarray(GREY).convert(mode)
    alpha = np.full((24, 24), 255, np.uint8)
    alpha[:12] = 0
    image.putalpha(Image.fromarray(alpha))
    pixels = prepared(decoded(saved(tmp_path / "a.png", image)), 24, 1).pixels[0]
    assert (pixels[:12] == 0).all() and (pixels[12:] == GREY[12:]).all()


def test_cmyk_and_one_bit_are_read(tmp_path):
    image = Image.fromarray(COLOUR).convert("CMYK")
    assert (decoded(saved(tmp_path / "a.tif", image)) == np.asarray(image.convert("RGB"))).all()
    bits = Image.fromarray(GREY).convert("1")
    assert set(np.unique(decoded(saved(tmp_path / "b.png", bits)))) == {0, 255}


@pytest.mark.parametrize("bits", [12, 16])
def test_sixteen_bit_is_scaled_by_its_own_range(tmp_path, bits):
    wide = (np.arange(24 * 24).reshape(24, 24) * ((2**bits - 1) / (24 * 24 - 1))).astype(np.uint16)
    pixels = prepared(decoded(saved(tmp_path / "a.png", Image.fromarray(wide))), 24, 1).pixels[0]
    assert np.abs(pixels - wide / (2**bits - 1) * 255).max() <= 0.51
    assert pixels.min() == 0 and pixels.max() == 255


def test_float_tiff_is_read_and_nan_is_refused(tmp_path):
    values = np.linspace(-3, 5, 24 * 24, dtype=np.float32).reshape(24, 24)
    pixels = prepared(decoded(saved(tmp_path / "a.tif", Image.fromarray(values))), 24, 1).pixels[0]
    assert np.abs(pixels - (values + 3) / 8 * 255).max() <= 0.51
    values[3, 3] = np.nan
    with pytest.raises(InputError, match="b.tif: has pixels that are NaN"):
        decoded(saved(tmp_path / "b.tif", Image.fromarray(values)))


def test_resizing_averages_over_the_area():
    fine = noise(64, 64, seed=5)
    small = resized(fine, 8).astype(float)
    weights = _triangle_weights(64, 8)
    assert (
        np.abs(small - weights @ fine @ weights.T).max() <= 1.01
    )  # PIL rounds after each of two passes
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert (
        np.abs(resized(checkerboard, 16).astype(float) - 127.5).max() <= 2
    )  # without antialiasing: 0 or 255


def _triangle_weights(fine: int, coarse: int) -> np.ndarray:
    """(coarse, fine) of a triangle filter as wide as two coarse pixels: what antialiased bilinear
    reduction is.
    """
    ratio = fine / coarse
    centre = (np.arange(coarse) + 0.5) * ratio
    weights = np.maximum(1 - np.abs((np.arange(fine) + 0.5 - centre[:, None]) / ratio), 0)
    return weights / weights.sum(1, keepdims=True)


def test_the_right_size_passes_unchanged_and_oblong_is_stretched():
    assert resized(GREY, 24) is GREY
    assert prepared(noise(10, 30), 16, 1).pixels.shape == (1, 16, 16)
    assert prepared(noise(10, 30, 3), 16, 3).pixels.shape == (3, 16, 16)


def test_hashes_tell_pixels_and_shapes_apart():
    same, other, turned = GREY.copy(), GREY.copy(), GREY.reshape(12, 48)
    other[0, 0] ^= 1
    hashes = [prepared(pixels, 8, 1).hashes[0] for pixels in (GREY, same, other, turned)]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


BAD = {
    "text.png": b"this is no image\n" * 100,
    "empty.png": b"",
    "nul.jpg": bytes(1000),
    # never handed to ghostscript
    "page.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(
        InputError, match=rf"{name}: cannot be read as an image.*skip_unreadable"
    ) as refused:
        decoded(tmp_path / name)
    assert "\n" not in str(refused.value) and "(no image format is recognised in it)" in str(
        refused.value
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif", "a.webp", "a.jp2"])
def test_truncated_images_are_named(tmp_path, name):
    if name == "a.jp2" and ".jp2" not in Image.registered_extensions():
        pytest.skip("this PIL has no JPEG 2000")
    path = saved(tmp_path / name, Image.fromarray(noise(200, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{name}: cannot be read as an image"):
        decoded(path)


def test_damaged_bytes_never_end_in_another_exception(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "a.jpg", "a.tif", "a.gif", "a.bmp", "a.webp"):
        whole = saved(tmp_path / name, Image.fromarray(GREY)).read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for at in rng.integers(0, len(whole), 6):
                damaged[at] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(damaged)
            try:
                decoded(tmp_path / name)
            except InputError:
                pass


def test_bombs_and_several_frames_are_refused(tmp_path):
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(InputError, match="bomb.png: has 10001 x 10001 pixels"),
    ):
        decoded(tmp_path / "bomb.png")
    frames = [Image.fromarray(noise(9, 9, seed=k)) for k in range(3)]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="film.tif: has 3 frames"):
        decoded(tmp_path / "film.tif")


def dicom(path, stored: np.ndarray, photometric: str = "MONOCHROME2", **more):
    pydicom = pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation
    )
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PhotometricInterpretation = photometric
    dataset.PixelData = stored.astype("<u2").tobytes()
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_dicom_is_shown_as_meant(tmp_path):
    stored = (np.arange(24 * 24).reshape(24, 24) * 7) % 4096
    expected = stored / stored.max() * 255
    for name in ("a.dcm", "without ending"):
        plain = prepared(decoded(dicom(tmp_path / name, stored)), 24, 1).pixels[0]
        assert np.abs(plain - expected).max() <= 0.51
    inverted = prepared(decoded(dicom(tmp_path / "b.dcm", stored, "MONOCHROME1")), 24, 1).pixels[0]
    assert np.abs(inverted - (255 - expected)).max() <= 0.51
    window = {"WindowCenter": 1000, "WindowWidth": 1000}
    windowed = prepared(decoded(dicom(tmp_path / "c.dcm", stored, **window)), 24, 1).pixels[0]
    assert (windowed[stored <= 500] == 0).all() and (windowed[stored >= 1500] == 255).all()


def test_damaged_dicom_is_named(tmp_path):
    path = dicom(tmp_path / "a.dcm", noise(24, 24))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="a.dcm: cannot be read as an image"):
        decoded(path)


@pytest.mark.parametrize("missing", ["PixelData", "Columns"])
def test_dicom_without_an_image_is_called_so(tmp_path, missing):
    path = dicom(tmp_path / "report.dcm", noise(24, 24))
    dataset = pytest.importorskip("pydicom").dcmread(path)
    del dataset[missing]
    dataset.save_as(path)
    with pytest.raises(InputError) as refused:
        decoded(path)
    assert str(refused.value) == (
        f"{path}: is a DICOM file without an image (a report, an index, or incomplete); "
        "remove it, or set data.skip_unreadable=true to leave it out"
    )


@pytest.mark.parametrize(
    "name", ["1.2.840.113619.2.5.1762583153", "scan.ima", "named otherwise.png"]
)
def test_dicom_is_known_by_its_mark_whatever_its_name(tmp_path, name):
    stored = (np.arange(24 * 24).reshape(24, 24) * 7) % 4096
    path = dicom(tmp_path / name, stored)
    assert is_image(path)
    assert (
        np.abs(prepared(decoded(path), 24, 1).pixels[0] - stored / stored.max() * 255).max() <= 0.51
    )


def test_a_picture_that_is_also_marked_as_dicom_is_read_as_the_picture(tmp_path):
    """A file may be both, TIFF by its beginning and DICOM by its mark at byte 128."""
    path = saved(tmp_path / "a.tif", Image.fromarray(GREY))
    content = bytearray(path.read_bytes())
    content[128:132] = b"DICM"
    path.write_bytes(content)
    assert decoded(path).shape == GREY.shape


def test_what_is_named_dicom_and_is_not_says_so(tmp_path):
    saved(tmp_path / "a.dcm", Image.fromarray(GREY), format="PNG")
    with pytest.raises(
        InputError, match=r"a.dcm: is named as DICOM and is not a DICOM file \(no mark DICM\); "
    ) as refused:
        decoded(tmp_path / "a.dcm")
    assert "force" not in str(refused.value)


def without_pydicom(script: str) -> str:
    """What a script prints in a Python that cannot import pydicom."""
    hidden = "import sys; sys.modules['pydicom'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hidden + script], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "1.2.840.1"])
def test_without_pydicom_a_dicom_file_is_named_as_one_with_what_to_install(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    said = without_pydicom(
        "from pathlib import Path; from medddist.data.images import decoded\n"
        f"try: decoded(Path({str(tmp_path / name)!r}))\nexcept ValueError as refused: "
        "print(refused)"
    )
    assert said.endswith(
        f"{name}: is a DICOM file, and pydicom, which reads it, is not installed; pip install "
        "'pydicom>=3'\n"
    )


def test_without_pydicom_dicom_files_are_never_left_out_silently(tmp_path):
    """Neither skip_unreadable nor init takes a missing library for damaged files."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for k in range(6):
            saved(tmp_path / label / f"{k}.png", Image.fromarray(noise(24, 24, seed=k)))
        (tmp_path / label / "scan.dcm").write_bytes(bytes(128) + b"DICM")
    said = without_pydicom(
        "from medddist.data import load_data; from medddist.init.survey import surveyed\n"
        f"for look in (lambda: load_data({str(tmp_path)!r}, 16, skip_unreadable=True), "
        f"lambda: surveyed({str(tmp_path)!r})):\n"
        "    try: print(look())\n    except ValueError as refused: print(refused)"
    )
    assert [
        line.endswith(
            "scan.dcm: is a DICOM file, and pydicom, which reads it, is not installed; pip "
            "install 'pydicom>=3'"
        )
        for line in said.splitlines()
    ] == [True, True], said
