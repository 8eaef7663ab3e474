"""Augmentation: nothing when switched off, each image by itself, differentiable, and geometrically
what it says.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from medddist.base.seeds import generator
from medddist.method.augment import (
    NO_AUGMENTATION,
    AugmentSettings,
    Draws,
    augment,
    draw,
    moved,
)

EVERYTHING = AugmentSettings(
    shift=0.1, scale=0.2, rotation_degrees=20, brightness=0.5, contrast=0.4, cutout=0.3, flip=True
)
ANGLE, ZOOM, ACROSS, DOWN, MIRROR, CONTRAST, BRIGHTNESS, CUT_DOWN, CUT_ACROSS = range(9)


def images(count=4, channels=1, size=12, dtype=torch.float64, seed=0) -> Tensor:
    return torch.randn(
        count, channels, size, size, generator=generator("images", seed), dtype=dtype
    )


def drawn(count=1, dtype=torch.float64, **columns: float) -> Draws:
    """Draws that are zero but for the named columns."""
    uniform = torch.zeros(count, 9, dtype=dtype)
    for name, value in columns.items():
        uniform[:, globals()[name]] = value
    return Draws(uniform)


def only(**strength) -> AugmentSettings:
    return NO_AUGMENTATION.model_copy(update=strength)


def smooth(size=64) -> Tensor:
    """(1, 1, size, size) a few blurred blobs, so that interpolation errors are small."""
    return (
        torch.from_numpy(ndimage.gaussian_filter(images(1, 1, size).numpy()[0, 0], 4))[None, None]
        * 10
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_zero_strength_is_the_identity_to_the_bit(dtype, seed):
    x = images(3, 2, 7, dtype, seed)
    assert torch.equal(augment(x, draw(3, generator(seed), x), NO_AUGMENTATION), x)


def test_zero_strength_is_the_identity_also_where_there_is_nothing_finite():
    x = torch.tensor([math.inf, -math.inf, math.nan, -0.0]).reshape(1, 1, 2, 2)
    assert torch.equal(
        augment(x, draw(1, generator(0), x), NO_AUGMENTATION).view(torch.int32), x.view(torch.int32)
    )


def test_flip_is_off_unless_asked_for():
    assert AugmentSettings().flip is False and not only().moves
    ramp = torch.linspace(0, 1, 8).expand(40, 1, 8, 8)
    still = AugmentSettings(brightness=0, contrast=0, cutout=0)
    assert (augment(ramp, draw(40, generator(0), ramp), still).diff(dim=3) >= -1e-6).all(), (
        "left stays left"
    )


def test_flip_mirrors_left_and_right_about_half_of_the_images():
    x = images(200)
    draws = draw(200, generator(1), x)
    out = augment(x, draws, only(flip=True))
    mirrored = draws.uniform[:, MIRROR] < 0
    torch.testing.assert_close(out[mirrored], x[mirrored].flip(3))
    torch.testing.assert_close(out[~mirrored], x[~mirrored])
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize(
    "strength",
    [EVERYTHING, AugmentSettings(), only(cutout=0.5), only(contrast=0.5), only(shift=0.2)],
)
def test_an_image_does_not_depend_on_its_neighbours(strength):
    x = images(6, 3)
    draws = draw(6, generator(2), x)
    together = augment(x, draws, strength)
    for k in range(6):
        alone = augment(x[k : k + 1], Draws(draws.uniform[k : k + 1]), strength)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-13, atol=1e-13)
    changed = x.clone()
    changed[1:] = 100.0
    assert torch.equal(augment(changed, draws, strength)[0], together[0])


def test_each_image_is_changed_in_a_way_of_its_own():
    x = images(1).repeat(8, 1, 1, 1)
    out = augment(x, draw(8, generator(3), x), AugmentSettings())
    assert all((out[i] - out[j]).abs().max() > 1e-3 for i in range(8) for j in range(i))


@pytest.mark.parametrize("channels", [1, 3])
def test_derivatives_against_finite_differences(channels):
    x = images(2, channels, 6).requires_grad_()
    draws = draw(2, generator(4), x)
    assert torch.autograd.gradcheck(lambda images: augment(images, draws, EVERYTHING), x)
    assert torch.autograd.gradgradcheck(lambda images: augment(images, draws, EVERYTHING).pow(3), x)


@pytest.mark.parametrize("across, down", [(0.5, 0.0), (0.0, -1.0), (-0.25, 0.75)])
def test_shift_against_scipy(across, down):
    """A shift of whole pixels: 16 px of 64 at the largest; positive draws look further right and
    down.
    """
    x = smooth()
    out = augment(x, drawn(ACROSS=across, DOWN=down), only(shift=0.25))[0, 0]
    expected = ndimage.shift(x[0, 0].numpy(), (-16 * down, -16 * across), order=1, mode="nearest")
    torch.testing.assert_close(out, torch.from_numpy(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("angle", [1.0, -0.4])
def test_rotation_against_scipy(angle):
    x = smooth()
    out = augment(x, drawn(ANGLE=angle), only(rotation_degrees=10))[0, 0]
    expected = torch.from_numpy(
        ndimage.rotate(x[0, 0].numpy(), 10 * angle, reshape=False, order=1, mode="nearest")
    )
    inner = slice(8, -8)
    torch.testing.assert_close(out[inner, inner], expected[inner, inner], rtol=0, atol=1e-9)
    assert (x[0, 0] - out)[inner, inner].abs().max() > 0.1


@pytest.mark.parametrize("zoom", [1.0, -1.0])
def test_scale_against_scipy(zoom):
    """A positive draw makes what is shown larger: pixels are looked up nearer to the centre."""
    x, factor = smooth(), 1 + 0.2 * zoom
    out = augment(x, drawn(ZOOM=zoom), only(scale=0.2))[0, 0]
    centre = (64 - 1) / 2
    expected = ndimage.affine_transform(
        x[0, 0].numpy(), [1 / factor] * 2, offset=centre * (1 - 1 / factor), order=1, mode="nearest"
    )
    torch.testing.assert_close(out, torch.from_numpy(expected), rtol=0, atol=1e-9)


def test_beyond_the_border_its_last_pixel_goes_on():
    out = augment(images(), drawn(4, ACROSS=1.0), only(shift=0.5))
    torch.testing.assert_close(out[..., 6:], out[..., 6:7].expand(-1, -1, -1, 6))


def test_brightness_and_contrast_by_hand():
    x = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
    out = augment(
        x,
        drawn(dtype=torch.float32, CONTRAST=0.5, BRIGHTNESS=-1.0),
        only(contrast=0.4, brightness=0.3),
    )
    torch.testing.assert_close(out.flatten(), torch.tensor([2 - 1.2 - 0.3, 2 + 1.2 - 0.3]))


def test_cutout_by_hand():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    out = augment(x, drawn(dtype=torch.float32, CUT_DOWN=-0.5, CUT_ACROSS=0.25), only(cutout=0.25))
    # The centre is a quarter down and 5/8 across; the square is 2 px: rows 1 and 2, columns 4 and
    # 5.
    expected = x.clone()
    expected[..., 1:3, 4:6] = 31.5
    assert torch.equal(out, expected)


@given(cutout=st.floats(0.05, 1), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_cutout_takes_one_rectangle_no_larger_than_asked_for(cutout, seed):
    x = images(1, 2, 16)
    changed = (augment(x, draw(1, generator(seed), x), only(cutout=cutout)) != x)[0].any(0)
    rows, columns = (changed.any(axis).sum().item() for axis in (1, 0))
    assert changed.sum() == rows * columns
    assert max(rows, columns) <= math.floor(16 * cutout) + 1


def test_draws_are_uniform_independent_and_of_the_images_type():
    x = images(20_000, 1, 1, torch.float64)
    uniform = draw(20_000, generator(5), x).uniform
    assert uniform.shape == (20_000, 9) and uniform.dtype == torch.float64
    assert -1 <= uniform.min() < -0.999 and 0.999 < uniform.max() < 1
    assert uniform.mean(0).abs().max() < 0.02
    assert (torch.corrcoef(uniform.T) - torch.eye(9)).abs().max() < 0.03


def test_single_and_double_precision_see_the_same_draws():
    single, double = (
        draw(4, generator(6), torch.zeros(1, dtype=dtype)).uniform
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize("strength", [AugmentSettings(), EVERYTHING])
def test_nothing_larger_than_asked_for(strength):
    """A constant image can only change by the brightness; the others keep it."""
    x = torch.full((50, 1, 8, 8), 2.0, dtype=torch.float64)
    out = augment(x, draw(50, generator(7), x), strength)
    assert (out - 2).abs().max() <= strength.brightness + 1e-9
    assert out.flatten(1).std(1).max() < 1e-9


def test_pixels_move_as_torchs_affine_grid_says():
    x = torch.randn(6, 2, 9, 12, generator=generator("moved"), dtype=torch.float64)
    changes = AugmentSettings(shift=0.2, scale=0.3, rotation_degrees=40, flip=True)
    draws = draw(6, generator("moved draws"), x)
    angle = torch.deg2rad(40 * draws.column(0))
    zoom, mirror = 1 / (1 + 0.3 * draws.column(1)), torch.where(draws.column(4) < 0, -1.0, 1.0)
    across, down = 0.4 * draws.column(2), 0.4 * draws.column(3)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False)
    how = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    expected = F.grid_sample(x, grid, **how)
    torch.testing.assert_close(moved(x, draws, changes), expected)
