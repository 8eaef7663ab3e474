"""How often intervals hold a truth that is known: `python tests/coverage_of_intervals.py`.

Simulated networks answer simulated test images. What an answer depends on is drawn anew in each
repetition: how good a network is (and how good the set that it was trained on), how hard an image
is for all networks, and what suits one network and not another. The true score is the mean over all
networks that could be trained on all images that could be drawn. Beside today's interval stands the
former one, the percentile bootstrap of test groups crossed with networks.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from medddist.base.files import write_json
from medddist.base.seeds import numpy_generator
from medddist.base.version import about
from medddist.measure import intervals, resampling

ASKED = (0.93, 0.97)  # what "95 %" has to mean
RESAMPLES = 250
CLASSES = (0.5, 0.25, 0.15, 0.1)  # their shares
NETWORKS, IMAGES, BOTH = (
    (0.35, 0.02),
    (0.02, 0.02),
    (0.12, 0.02),
)  # spreads of networks and sets where those dominate


@dataclass(frozen=True)
class Side:
    """Networks trained on `sets` sets, so many on each; spreads are standard deviations of the
    signal.
    """

    sets: int = 1
    networks_per_set: int = 5
    signal: float = 2.0
    networks_spread: float = 0.12
    sets_spread: float = 0.02

    @property
    def networks(self) -> int:
        return self.sets * self.networks_per_set

    def drawn(self, draw: np.random.Generator) -> np.ndarray:
        """(R,) the signal of each network; of a single set, the interval says nothing of others."""
        sets = draw.normal(0, self.sets_spread if self.sets > 1 else 0, self.sets)
        return (
            self.signal
            + np.repeat(sets, self.networks_per_set)
            + draw.normal(0, self.networks_spread, self.networks)
        )

    @property
    def whole_spread(self) -> float:
        return float(np.hypot(self.networks_spread, self.sets_spread if self.sets > 1 else 0))


@dataclass(frozen=True)
class Scenario:
    """One set's score, or with `other` the paired difference to that."""

    name: str
    side: Side
    other: Side | None = None
    metric: str = "balanced_accuracy"
    images: int = 400
    group_size: int = 1
    shared: float = (
        0.8  # of an answer's noise: the image's, for all networks; the rest is one's own
    )
    of_group: float = 0.0  # share of the image's noise that is its group's


def probabilities(
    signals: np.ndarray, labels: np.ndarray, noise: np.ndarray, own: np.ndarray, shared: float
) -> np.ndarray:
    """(R, N, K): signals (R,), labels (N,), noise (N, K) of the images, own (R, N, K) of each
    network on them.
    """
    logits = np.sqrt(shared) * noise + np.sqrt(1 - shared) * own
    logits[:, np.arange(len(labels)), labels] += signals[:, None]
    odds = np.exp(logits)
    return odds / odds.sum(-1, keepdims=True)


def test_part(
    scenario: Scenario, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), groups (N,) and the noise of the images (N, K); a group has one class, as a
    patient has.
    """
    count, size = scenario.images // scenario.group_size, scenario.group_size
    labels = np.repeat(draw.choice(len(CLASSES), size=count, p=CLASSES), size)
    of_group = np.repeat(draw.normal(size=(count, len(CLASSES))), size, axis=0)
    own = draw.normal(size=of_group.shape)
    noise = np.sqrt(scenario.of_group) * of_group + np.sqrt(1 - scenario.of_group) * own
    return labels, np.repeat(np.arange(count), size), noise


@cache
def curve(metric: str, images: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    """A network's score on all images by its signal, at a row of signals."""
    draw, signals = np.random.default_rng(99), np.linspace(0, 4.5, 46)
    labels, noise = (
        draw.choice(len(CLASSES), size=images, p=CLASSES),
        draw.normal(size=(images, len(CLASSES))),
    )
    scores = []
    for signal in signals:
        said = probabilities(np.array([signal]), labels, noise, np.zeros((1, 1, 1)), shared=1.0)
        test = resampling.checked_answers(said, labels, np.arange(images), len(CLASSES), 2)
        if metric == "auroc":  # one class against the others, by ranks
            ranks, own = (
                stats.rankdata(test.probabilities[0], axis=0),
                np.eye(len(CLASSES), dtype=bool)[labels],
            )
            n = own.sum(0)
            scores.append(np.mean(((ranks * own).sum(0) - n * (n + 1) / 2) / (n * (images - n))))
        else:
            scores.append(float(resampling.wanted_points(test, (metric,))[metric][0]))
    return signals, np.array(scores)


@cache
def truth(side: Side, metric: str) -> float:
    """The mean of `curve` over the normal distribution of signals."""
    at, weights = np.polynomial.hermite_e.hermegauss(31)
    return float(
        np.interp(side.signal + side.whole_spread * at, *curve(metric)) @ weights / weights.sum()
    )


def former(sides: list[intervals.Estimate], draw: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap, which draws networks (not sets) and test groups."""
    means = []
    for side in sides:
        resamples, networks = side.draws.shape
        picks = draw.integers(networks, size=(resamples, networks))
        means.append(np.take_along_axis(side.draws, picks, axis=1).mean(1))
    return tuple(np.nanpercentile(means[0] - sum(means[1:]), [2.5, 97.5]))


def holds(scenario: Scenario, *seed: int | str) -> tuple[bool, bool]:
    """Whether today's and the former interval of one repetition hold the truth."""
    draw, metric = numpy_generator(*seed), scenario.metric
    labels, groups, noise = test_part(scenario, draw)
    sides, apart, true, resampled = [], [], 0.0, int(draw.integers(2**31))
    for sign, side in zip((1, -1), filter(None, (scenario.side, scenario.other))):
        own = draw.normal(size=(side.networks, *noise.shape))
        said = probabilities(side.drawn(draw), labels, noise, own, scenario.shared)
        sets = np.repeat(np.arange(side.sets), side.networks_per_set)
        test = resampling.checked_answers(said, labels, groups, len(CLASSES), RESAMPLES, sets=sets)
        points = resampling.wanted_points(test, (metric,))[metric]
        draws = resampling.replicates(test, RESAMPLES, resampled, [metric])[metric]
        sides.append(intervals.Estimate.of(points, draws, test.shares))
        apart.append(intervals.Estimate(points, draws, np.ones(side.networks)))
        true += sign * truth(side, metric)
    value = sides[0].mean - sum(side.mean for side in sides[1:])
    now = intervals.interval_around(
        value, intervals.combined_error(sides, test.group_count), (-1, 1)
    )
    return tuple(bool(low <= true <= high) for low, high in (now, former(apart, draw)))


def scenarios() -> list[Scenario]:
    """Scores and paired differences of 3, 5 and 15 networks, also nested in seeds or draws."""
    found = []
    for what, (networks, sets) in {
        "networks dominate": NETWORKS,
        "images dominate": IMAGES,
        "both matter": BOTH,
    }.items():
        for count in (3, 5, 15):
            side = Side(1, count, networks_spread=networks, sets_spread=sets)
            found.append(Scenario(f"one set, {what}", side))
            found.append(Scenario(f"difference, {what}", side, replace(side, signal=1.7)))
    both = Side(1, 5)
    grouped = {"images": 800, "group_size": 4, "of_group": 0.8}  # 20 groups of the rarest class
    found += [
        Scenario("one set, groups of 4 images", Side(1, count), **grouped) for count in (3, 5, 15)
    ]
    found.append(
        Scenario("difference, groups of 4 images", both, replace(both, signal=1.7), **grouped)
    )
    seeds, draws = Side(3, 5, 2.0, 0.08, 0.2), Side(5, 1, 1.7, 0.08, 0.2)
    found += [
        Scenario("3 seeds of 5 networks", seeds),
        Scenario("3 seeds of 5 networks, seeds alike", replace(seeds, sets_spread=0.02)),
    ]
    found += [
        Scenario(f"{n} draws of random real images", replace(draws, sets=n)) for n in (3, 5, 15)
    ]
    found += [Scenario("5 draws of 2 networks", replace(draws, networks_per_set=2))]
    found += [Scenario("difference, 3 seeds of 5 networks to 5 draws", seeds, draws)]
    found += [Scenario("difference, 1 seed of 5 networks to 5 draws", Side(1, 5, 2.0, 0.08), draws)]
    found += [Scenario("difference of equals, 5 networks each", both, both)]
    found += [
        Scenario("one set, both matter", both, metric=metric) for metric in ("accuracy", "macro_f1")
    ]
    few = Scenario("one set, both matter", both, metric="auroc", images=200)  # takes longest
    found += [few, replace(few, name="difference, both matter", other=replace(both, signal=1.7))]
    return found


def measure(scenario: Scenario, repetitions: int, seed: int = 0) -> dict:
    """Coverage of both intervals, each with its own exact 95 % interval."""
    named = seed, scenario.name, scenario.side.networks, scenario.metric
    held = np.array([holds(scenario, *named, i) for i in range(repetitions)])
    row = {
        "scenario": scenario.name,
        "metric": scenario.metric,
        "repetitions": repetitions,
        "settings": asdict(scenario),
    }
    for name, count in zip(("now", "former"), held.sum(0).tolist()):
        exact = stats.binomtest(count, repetitions).proportion_ci(0.95, method="exact")
        row[name] = {
            "coverage": count / repetitions,
            "low": float(exact.low),
            "high": float(exact.high),
        }
    return row


def main() -> int:
    """0 where every scenario's coverage is as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--save", metavar="FOLDER", help="write interval-coverage.json there")
    asked, rows, began = parser.parse_args(), [], time.monotonic()
    for scenario in (one for one in scenarios() if asked.only in one.name):
        rows.append(measure(scenario, asked.repetitions, asked.seed))
        now, before, sides = (
            rows[-1]["now"]["coverage"],
            rows[-1]["former"]["coverage"],
            (scenario.side, scenario.other),
        )
        counts = " to ".join(str(side.networks) for side in sides if side)
        print(
            f"{scenario.name}, {counts} networks, {scenario.metric}: {now:.3f} (former "
            f"{before:.3f})",
            file=sys.stderr,
        )
    if asked.save:
        record = {
            "asked": ASKED,
            "interval": intervals.INTERVAL,
            "former": intervals.FORMER,
            "resamples": RESAMPLES,
            "seed": asked.seed,
            "rows": rows,
            "seconds": round(time.monotonic() - began),
            "about": about("cpu"),
        }
        write_json(Path(asked.save) / "interval-coverage.json", record)
    return int(not all(ASKED[0] <= row["now"]["coverage"] <= ASKED[1] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
