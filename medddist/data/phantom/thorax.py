"""The anatomy of one simulated chest radiograph, as line integrals of attenuation.

Coordinates of the patient: u from -1 to 1 across (positive towards the patient's left, the right of
the picture), v from -1 to 1 downwards. Arrays are (S, S) float32. Attenuations are dimensionless.
Per pixel only + - * / and square roots are used, which every x86-64 processor rounds alike, and
float64 exponentials and logarithms that are rounded to float32 at once: the same seed gives the
same bytes.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

# name: (lowest, highest) of a uniform draw per patient
ANATOMY = {
    "width": (0.88, 1.08), "height": (0.90, 1.08),  # of the thorax
    "lung_width": (0.74, 0.82), "apex": (-0.84, -0.74), "apex_round": (0.42, 0.60),
    "waist": (0.0, 0.07), "mediastinum": (0.105, 0.155),
    "heart_width": (0.26, 0.37), "heart_height": (0.24, 0.32), "heart_tilt": (0.25, 0.6),
    "knob": (0.05, 0.085),
    "diaphragm": (0.40, 0.54), "dome": (0.5, 1.0), "tilt": (0.01, 0.07), "bubble": (0.0, 1.0),
    "rib_spacing": (0.150, 0.185), "rib_start": (0.0, 1.0), "rib_slope": (0.20, 0.36),
    "rib_bone": (0.15, 0.27), "front_start": (0.0, 1.0), "front_slope": (0.30, 0.50),
    "spine": (0.12, 0.28), "clavicle": (-0.70, -0.56), "clavicle_slope": (0.02, 0.16),
    "tissue": (1.5, 2.0), "fat": (0.10, 0.24),
    "breast": (-0.22, 0.26), "breast_height": (0.15, 0.35),
    "vessel": (0.10, 0.22), "vessel_turn": (0.0, 1.0), "hilum": (-0.10, 0.02),
    "shoulder": (-1.12, -0.90), "scapula": (0.05, 0.16),
}  # fmt: skip
# the same, per image
ACQUISITION = {
    "shift_u": (-0.08, 0.08), "shift_v": (-0.08, 0.08), "turn": (-0.09, 0.09), "zoom": (1.00, 1.16),
    "twist": (-0.04, 0.04), "inspiration": (-0.07, 0.05),
    "scatter": (0.25, 0.5), "noise": (0.004, 0.016),
    "window_low": (0.25, 0.5), "window_width": (1.9, 2.6), "brightness": (0.36, 0.60),
    "mark": (0.0, 1.0), "shutter": (0.0, 1.0),
}  # fmt: skip
BRANCHES = ((3.5, 0.0, 0.50, 0.034), (6.3, 0.12, 0.75, 0.024), (11.3, 0.30, 1.0, 0.017))


def drawn(table: dict[str, tuple[float, float]], rng: np.random.Generator) -> SimpleNamespace:
    """Draw one uniform number for each name of the table, as float32-exact Python floats."""
    low, high = np.array(list(table.values())).T
    values = (low + (high - low) * rng.random(len(table))).astype(np.float32)
    return SimpleNamespace(**dict(zip(table, values.tolist(), strict=True)))


def limited(t: np.ndarray) -> np.ndarray:
    """Cut to [0, 1]."""
    return np.minimum(np.maximum(t, 0), 1)


def step(distance: np.ndarray, width: float) -> np.ndarray:
    """Rise smoothly from 0 at a distance of -width/2 to 1 at width/2."""
    t = limited(distance * (1 / width) + 0.5)
    return t * t * (3 - t - t)


def bump(distance: np.ndarray, width: float) -> np.ndarray:
    """Fall smoothly from 1 at distance 0 to 0 at `width`."""
    t = distance * (1 / width)
    t = np.maximum(1 - t * t, 0)
    return t * t


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Draw (size, size) noise of variance near 1, smooth over 1/cells of the side."""
    knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32) * 1.8
    at = (np.arange(size) + 0.5) / size * cells
    first = at.astype(np.intp)
    f = (at - first).astype(np.float32)
    weights = (0.5 * (1 - f) ** 2, 0.5 + f - f * f, 0.5 * f * f)  # quadratic B-spline
    rows = sum(knots[first + k] * w[:, None] for k, w in enumerate(weights))
    return sum(np.take(rows, first + k, axis=1) * w for k, w in enumerate(weights))


def periodic(phase: np.ndarray) -> np.ndarray:
    """Return the distance of the phase to the nearest whole number, at most 0.5."""
    return np.abs(phase - np.rint(phase))


def _squared(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Squared distance from the middle of an ellipse: 1 on it."""
    x, y = x * (1 / half_width), y * (1 / half_height)
    return x * x + y * y


def _tube(distance: np.ndarray, width: float) -> np.ndarray:
    """A bone of round section: brighter along its two edges than in its marrow."""
    t = distance * (1 / width)
    b = np.maximum(1 - t * t, 0)
    return np.sqrt(b) * (1.25 - 0.6 * b)


class Thorax:
    """The anatomy of one patient on one exposure's grid.

    a, q: draws from ANATOMY and ACQUISITION
    """

    def __init__(self, patient: np.random.Generator, image: np.random.Generator, size: int):
        self.a, self.q = a, q = drawn(ANATOMY, patient), drawn(ACQUISITION, image)
        self.size = size
        axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
        x, y = axis[None, :] - q.shift_u, axis[:, None] - q.shift_v
        self.u = (x + q.turn * y) * (1 / (q.zoom * a.width))
        self.v = (y - q.turn * x) * (1 / (q.zoom * a.height))
        self.au = np.abs(self.u)
        self.mid = self.u - q.twist  # a turned patient's midline is beside the thorax's middle
        # 0 at the apex, 1 at the costophrenic angle
        self.depth = (self.v - a.apex) * (1 / (0.66 - a.apex))
        self.warp = smooth_noise(patient, size, 8)
        self.lung = self._lung()
        self.vessels = self._vessels(smooth_noise(patient, size, 5))

    def _lung(self) -> np.ndarray:
        """Air along the ray, 0 outside the lungs, up to 1."""
        a, depth = self.a, limited(self.depth)
        rest = np.maximum(1 - depth * (1 / a.apex_round), 0)
        arc = np.sqrt(1 - rest * rest)
        low = np.maximum(depth - 0.55, 0)
        outer = 0.27 + (a.lung_width - 0.27) * arc - (a.waist * 2.5) * low * low
        within = outer - self.au
        rest = np.maximum(1 - depth * 8, 0)
        inner = 0.27 - (0.27 - a.mediastinum) * np.sqrt(1 - rest * rest)
        e = (self.au - 0.36) * (1 / 0.42)
        arch = (0.13 * a.dome) * e * e * (1 + np.maximum(e, 0))
        self.dome = a.diaphragm + self.q.inspiration + arch + a.tilt * self.u
        wall = np.sqrt(limited(within * 9)) * step(within, 0.03)
        side = step(np.abs(self.mid) - inner, 0.025) * step(self.depth - 0.005, 0.02)
        self.cage = step(within + 0.03, 0.04) * step(self.depth + 0.02, 0.04)
        # The lungs, with what lies behind the heart.
        self.field = wall * side * step(self.dome - self.v, 0.025)
        return self.field * (1 - 0.88 * self._heart())

    def _heart(self) -> np.ndarray:
        """The silhouette of heart and great vessels, 0 to 1."""
        a = self.a
        x, y = self.mid - 0.13, self.v - (self.dome - a.heart_height * 0.75)
        s, t = x - (a.heart_tilt * 0.55) * y, y - (a.heart_tilt * 0.4) * x
        body = _squared(s, t, a.heart_width, a.heart_height)
        knob = _squared(self.mid - (a.mediastinum - 0.015), self.v + 0.38, a.knob, a.knob)
        artery = _squared(self.mid - 0.09, self.v + 0.16, 0.085, 0.17)
        self.heart_edge = 1 - body
        joined = 1 / (body * body + 0.01) + 1 / (knob * knob + 0.01) + 1 / (artery * artery + 0.01)
        return step(np.sqrt(joined) - 1, 0.4)

    def attenuation(self) -> np.ndarray:
        """Add up what the ray crosses, without lesions and vessels."""
        body = self._body()
        air = self.lung * 0.62 * body
        soft = body - air + self._breast() + 0.22 * np.sqrt(limited(self.heart_edge))
        belly = step(self.v - self.dome, 0.03) * 0.18
        return np.maximum(soft + belly + self._bones() - self._airways(), 0)

    def _body(self) -> np.ndarray:
        """Soft tissue of trunk, neck and shoulders."""
        a, flare = self.a, np.maximum(-0.25 - self.v, 0)
        half = a.lung_width + a.fat + flare * flare * 4
        across = self.au / half
        line = a.shoulder + np.maximum(self.au - 0.22, 0) * 0.30  # neck, then sloping shoulders
        inside = step(self.v - line, 0.10) * step(half - self.au, 0.05)
        return inside * (0.30 + np.sqrt(np.maximum(1 - across * across, 0)) * (a.tissue - 0.30))

    def _breast(self) -> np.ndarray | int:
        """Soft shadows over the lower lungs, in about half of the patients."""
        x, y = self.au - 0.46, self.v - self.a.breast_height
        inside = 1 - x * x * 7 - y * y * (6.5 + np.copysign(2.5, y))  # flatter above
        return self.a.breast * np.sqrt(limited(inside * 1.6)) if self.a.breast > 0.02 else 0

    def _bones(self) -> np.ndarray:
        """Ribs, from behind and from the front, and the other bones."""
        a, across = self.a, self.au * (1 / 0.8)
        bend = a.rib_slope * across * across * (1.15 - self.v * 0.35)
        back = _tube(periodic((self.v - bend) * (1 / a.rib_spacing) + a.rib_start), 0.23)
        fall = self.v + a.front_slope * (0.8 - self.au) * (0.6 + self.au)
        front = _tube(periodic(fall * (1 / (a.rib_spacing * 1.12)) + a.front_start), 0.26)
        front = front * step(self.au - 0.30, 0.25) * 0.55
        below = 0.4 + 0.6 * step(self.dome - self.v, 0.1)  # fainter below the diaphragm
        ribs = (back * step(self.au - 0.06, 0.05) + front) * self.cage * below
        return a.rib_bone * ribs + self._spine() + self._shoulders()

    def _spine(self) -> np.ndarray:
        """Vertebrae, the discs between them, their spinous processes."""
        a, x = self.a, np.abs(self.mid)
        disc = step(periodic(self.v * (1 / (a.rib_spacing * 0.95)) + a.rib_start) - 0.40, 0.12)
        column = step(0.085 - x, 0.02) * (1 - 0.45 * disc)
        return a.spine * (column + 0.35 * bump(x, 0.03) * (1 - disc))

    def _shoulders(self) -> np.ndarray:
        """Clavicles, the heads of the arms, the inner edge of the shoulder blades."""
        a, x = self.a, np.abs(self.mid)
        curve = a.clavicle - a.clavicle_slope * x + 0.9 * (x - 0.12) * (x - 0.45) * (x - 0.8)
        clavicle = _tube(self.v - curve, 0.040) * step(x - 0.07, 0.03) * step(0.90 - x, 0.1)
        dx, dy = self.au - 1.02, self.v - (a.clavicle + 0.08)
        head = np.sqrt(limited(1 - (dx * dx * 34 + dy * dy * 26)))
        dx = self.au - 0.80 + (self.v + 0.35) * 0.22
        blade = step(dx, 0.03) * step(0.14 - np.abs(self.v + 0.37) * 0.5 - dx * 0.3, 0.1)
        return 0.36 * clavicle + 0.4 * head + a.scapula * blade

    def _airways(self) -> np.ndarray:
        """Air outside the lungs: trachea, main bronchi, gastric bubble."""
        down = self.v + 0.30
        fork = np.abs(np.abs(self.mid) - np.maximum(down, 0) * 0.9)
        pipe = bump(fork, 0.055) * step(0.14 - down, 0.1)
        x, y = self.u - 0.38, self.v - self.dome - 0.12
        bubble = np.maximum(1 - (x * x * 50 + y * y * 130), 0)
        return 0.32 * pipe + (0.5 * max(self.a.bubble - 0.5, 0)) * np.sqrt(bubble)

    def _vessels(self, noise: np.ndarray) -> np.ndarray:
        """Branches that leave the hilum, thinner and more with distance; 0 to about 1."""
        dx, dy = np.abs(self.mid) - 0.15, self.v - self.a.hilum
        r = np.sqrt(dx * dx + dy * dy) + 1e-3
        angle = dy / (np.abs(dx) + np.abs(dy) + 1e-3) + 0.03 * self.warp + 0.09 * noise
        angle = angle + np.copysign(0.155, self.u) + self.a.vessel_turn  # the two sides differ
        total = 1.1 * bump(r, 0.12)
        for branches, near, far, width in BRANCHES:
            across = periodic(angle * branches) * (r * (1.4 / branches))
            total = total + bump(across, width) * np.maximum(far - r, 0) * (1 / far) * (r > near)
        return total * np.maximum(1 + 0.5 * self.warp, 0)
