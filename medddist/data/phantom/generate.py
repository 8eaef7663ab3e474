"""The built-in data set: simulated radiographs in the classes of the COVID-19 Radiography Database.

Nothing in it comes from a patient. Every patient is a function of the seed and the patient's
number, every image of these and the image's number, so the first patients are the same however many
are made, and so are their anatomy and lesions whatever the sites. The mean brightness of an image
is drawn without regard to its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.ndimage import uniform_filter

from medddist.base.seeds import numpy_generator
from medddist.base.settings import Settings
from medddist.data.phantom.thorax import Thorax, bump, limited, smooth_noise, step

CLASS_NAMES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
SITE_NAMES = ("hospital A", "hospital B", "hospital C")
USUAL_SITE = (0, 1, 2, 1)  # of each class where sites are confounded
CONFOUNDED = 0.85  # of a class's patients come from its usual site then
Positive = Annotated[int, Field(ge=1)]


class PhantomSettings(Settings):
    """What decides the phantom's bytes.

    balance: proportions of the classes, by default the database's images per class
    """

    images: int = Field(5000, ge=1)  # over all parts
    image_size_px: int = Field(32, ge=16, le=512)
    sites: Literal["balanced", "confounded"] = "balanced"  # over classes
    seed: int = Field(0, ge=0)
    balance: tuple[Positive, Positive, Positive, Positive] = (3616, 6012, 10192, 1345)


@dataclass(frozen=True)
class Phantom:
    """Simulated radiographs.

    images: (N, 1, S, S) uint8
    labels, patients, sites: (N,) int64
    masks: (N, S, S) bool, True in a lesion; or None
    """

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    sites: np.ndarray
    masks: np.ndarray | None = None


class Exposure(NamedTuple):
    """One image to be made: its patient, its number among the patient's, its class and site."""

    patient: int
    number: int
    label: int
    site: int


def make_phantom(settings: PhantomSettings, masks: bool = False) -> Phantom:
    """Make all images of `settings`, in the order of patients; with `masks`, those of lesions."""
    exposures, size = deal(settings), settings.image_size_px
    images, lesions = np.empty((len(exposures), 1, size, size), np.uint8), []
    for k, exposure in enumerate(exposures):  # threads would wait for each other at small sizes
        images[k], lesion = expose(exposure, settings.seed, size)
        lesions += [lesion] if masks else []
    patients, _, labels, sites = np.array(exposures, np.int64).T.copy()
    return Phantom(images, labels, patients, sites, np.array(lesions) if masks else None)


def deal(settings: PhantomSettings) -> list[Exposure]:
    """Draw patients, each with one class, one site and one to three images, until images suffice.

    A class is drawn in proportion to the images it still lacks, so the balance holds from the first
    patients on.
    """
    rng = numpy_generator("phantom", settings.seed, "patients")
    share = np.array(settings.balance) / sum(settings.balance)
    have, exposures, patient = np.zeros(len(share)), [], 0
    while len(exposures) < settings.images:
        count, which, usual, other = rng.random(4)
        count = 1 + int(count > 0.6) + int(count > 0.9)
        lacks = np.maximum(share * (len(exposures) + count + 4) - have, 0)
        label = int(np.searchsorted(np.cumsum(lacks / lacks.sum()), which).clip(0, len(share) - 1))
        confounded = settings.sites == "confounded" and usual < CONFOUNDED
        site = USUAL_SITE[label] if confounded else int(other * len(SITE_NAMES))
        exposures += [Exposure(patient, number, label, site) for number in range(count)]
        have[label] += count
        patient += 1
    return exposures[: settings.images]


def expose(exposure: Exposure, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make one picture (size, size) uint8 and its lesion mask, on a finer grid that is averaged."""
    patient = numpy_generator("phantom", seed, "patient", exposure.patient)
    image = numpy_generator("phantom", seed, "image", exposure.patient, exposure.number)
    thorax = Thorax(patient, image, fine_size(size))
    lesion = LESIONS[exposure.label](thorax, patient)
    vessels = thorax.a.vessel * thorax.vessels * thorax.lung
    crossed = thorax.attenuation() + vessels + 0.55 * lesion * thorax.lung
    beam = averaged(np.exp(-crossed.astype(np.float64)).astype(np.float32), size)
    picture = display(detect(beam, thorax.q, image), exposure.site, thorax.q)
    return picture, averaged(lesion * thorax.field, size) > 0.12


def fine_size(size: int) -> int:
    """Return the side, in samples, of the grid that a picture of `size` pixels is averaged from."""
    return 2 * size if size <= 48 or size % 2 else 3 * size // 2


def averaged(fine: np.ndarray, size: int) -> np.ndarray:
    """Average over each pixel's area: two samples per side, or one and a half."""
    for _ in range(2):  # rows, then columns
        if len(fine) == 2 * size:
            fine = (fine[0::2] + fine[1::2]) * 0.5
        else:
            first, shared, last = fine[0::3], 0.5 * fine[1::3], fine[2::3]
            fine = (np.stack([first + shared, shared + last], 1) * (2 / 3)).reshape(size, -1)
        fine = fine.T
    return np.ascontiguousarray(fine)


def detect(beam: np.ndarray, q: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    """Return the log signal of a detector with scattered radiation and quantum noise."""
    wide = max(len(beam) // 5, 1)
    scattered = uniform_filter(uniform_filter(beam, wide, mode="nearest"), wide, mode="nearest")
    signal = (1 - q.scatter) * beam + q.scatter * scattered
    grain = rng.standard_normal(beam.shape, dtype=np.float32) * (q.noise * (len(beam) / 64) ** 0.5)
    signal = np.maximum(signal + grain * np.sqrt(signal), 1e-3)
    return -np.log(signal.astype(np.float64)).astype(np.float32)


def display(log_signal: np.ndarray, site: int, q: SimpleNamespace) -> np.ndarray:
    """Apply the site's contrast curve, border and marker, and the exposure's mean brightness.

    Returns (S, S) uint8.
    """
    t = np.clip((log_signal - q.window_low) * (1 / q.window_width), 0, 1)
    if site == 0:  # soft S-curve
        t = t * t * (3 - 2 * t)
    elif site == 1:  # bright, flat
        t = t * (1.5 - 0.5 * t)
    else:  # hard, edges enhanced
        wide = max(len(t) // 16, 1) * 2 + 1
        t = np.clip(t + 0.4 * (t - uniform_filter(t, wide, mode="nearest")), 0, 1)
    _mark(t, site, q.mark, q.shutter)
    for _ in range(3):  # a monotonic tone curve that leaves black and white alone
        mean, room = float(t.mean(dtype=np.float64)), float((t * (1 - t)).mean(dtype=np.float64))
        bend = min(max((q.brightness - mean) / room, -0.9), 0.9)
        t = t + round(bend, 6) * t * (1 - t)
    return np.clip(np.rint(t * 255), 0, 255).astype(np.uint8)


def _mark(t: np.ndarray, site: int, first: float, second: float) -> None:
    """Draw the site's collimation and side marker onto the picture."""

    def paint(*edges: float, value: float) -> None:
        top, bottom, left, right = (round(edge * len(t) / 32) for edge in edges)
        t[top:bottom, left:right] = value

    if site == 0:  # a letter L
        down, across = 2 + round(2 * first), 26 + round(2 * second)
        paint(down, down + 3, across, across + 1, value=1)
        paint(down + 2, down + 3, across, across + 2, value=1)
    elif site == 1:  # shutters left and right, a line of text
        paint(0, 32, 0, 1 + first, value=0)
        paint(0, 32, 31 - first, 32, value=0)
        for letter in range(3 + round(2 * second)):
            paint(2, 3.5, 3 + 2 * letter, 4 + 2 * letter, value=1)
    else:  # shutters above and below
        paint(0, 1 + 0.7 * first, 0, 32, value=0)
        paint(31 - 0.7 * second, 32, 0, 32, value=0)


def _ground_glass(thorax: Thorax, rng: np.random.Generator) -> np.ndarray:
    """Hazy patches at the periphery of both lungs, mostly low."""
    total, severity = np.zeros_like(thorax.u), rng.uniform(0.3, 1.0)
    texture = 1 + 0.35 * smooth_noise(rng, thorax.size, 14)
    for side in (-1, 1):
        for _ in range(int(rng.integers(2, 5))):
            depth, radius, pull = rng.uniform((0.35, 0.14, 0.02), (0.88, 0.28, 0.16)).tolist()
            total = np.maximum(total, _patch(thorax, side, depth, pull, radius, 1.3))
    return total * np.maximum(texture, 0) * severity


def _patch(
    thorax: Thorax, side: int, depth: float, pull: float, radius: float, tall: float
) -> np.ndarray:
    """A soft spot at a depth of one lung, `pull` inside its outer border."""
    v = depth * (0.66 - thorax.a.apex) + thorax.a.apex
    u = side * (thorax.a.lung_width - pull - 0.25 * max(0.3 - depth, 0) * 3)
    dx, dy = (thorax.u - u) * (1 / radius), (thorax.v - v) * (1 / (radius * tall))
    return bump(np.sqrt(dx * dx + dy * dy), 1.0)


def _consolidation(thorax: Thorax, rng: np.random.Generator) -> np.ndarray:
    """One or two dense, rather sharp opacities anywhere in the lungs."""
    total, severity = np.zeros_like(thorax.u), rng.uniform(0.6, 1.1)
    rough = thorax.warp + smooth_noise(rng, thorax.size, 12)
    for _ in range(1 + int(rng.random() < 0.3)):
        side = 1 if rng.random() < 0.5 else -1
        depth, radius, pull = rng.uniform((0.2, 0.16, 0.12), (0.8, 0.28, 0.48)).tolist()
        spot = _patch(thorax, side, depth, pull, radius * 1.5, rng.uniform(0.7, 1.2))
        total = np.maximum(total, step(spot + 0.10 * rough - 0.35, 0.5) * limited(spot * 6))
    return total * severity


def _interstitial(thorax: Thorax, rng: np.random.Generator) -> np.ndarray:
    """A net of fine lines through both lungs, with haze around the hila."""
    severity = rng.uniform(0.4, 1.0)
    lines = sum(bump(smooth_noise(rng, thorax.size, cells), 0.55) for cells in (18, 27))
    dx, dy = thorax.au - 0.2, thorax.v + 0.05
    haze = np.maximum(1 - (dx * dx * 3 + dy * dy * 2.2), 0)
    return ((0.7 * lines + 0.5 * thorax.vessels) * (0.4 + 0.6 * haze) + 0.25 * haze) * severity


def _nothing(thorax: Thorax, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(thorax.u)


LESIONS = (_ground_glass, _consolidation, _nothing, _interstitial)
