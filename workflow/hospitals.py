"""What several hospitals gain by sharing, and what a guarantee costs them.

    python -m workflow.hospitals --profile demo --data phantom --out FOLDER --save results

Each part adds its rows to `results/hospitals-NAME.json`, where rows of the same setting are
replaced. Everything is cached in `--out`, so that a run that was stopped goes on.

    ways     each hospital alone; its package; all packages together; weights whose answers are
             averaged; federated averaging; all data in one place
    private  the same packages with a guarantee, at each epsilon, beside each hospital alone

Every hospital distils its own data alone, by five seeds, and intervals cover these draws. All ways
are scored on the test images of all hospitals.
In `private`, each image decides its part alone, so that its test images are not those of `ways`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from medddist.base.progress import Bar
from medddist.measure.metrics import paired_differences, score
from medddist.sharing.reading import open_package
from medddist.sharing.studies import inbox_folder, sent_packages, setup_of
from medddist.sharing.ways import (
    Shared,
    by_data,
    by_federated_averaging,
    by_packages,
    by_weights,
    each_alone,
)
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.study import Study
from workflow.records import options, write_rows

BOTH = ("accuracy", "balanced_accuracy")
EPSILONS = (1.0, 4.0)
DRAWS = 5  # of every hospital's distilled set, whose scores vary much
SETTING = ("part", "epsilon", "way", "hospital")  # of a row
ALONE, PACKAGE, PACKAGES = "alone", "its package", "all packages"
WEIGHTS, FEDERATED, POOLED = "weights, answers averaged", "federated averaging", "pooled real data"


def of_ways(study: Study) -> Iterator[list[dict]]:
    """Measure every way to share, without a guarantee."""
    measured = Measured(study, "ways", None)
    yield from measured.packages()
    shared = ((WEIGHTS, by_weights), (FEDERATED, by_federated_averaging), (POOLED, by_data))
    for way, share in shared:
        yield measured.add(way, Answers.of(share(measured.setup)))


def of_private(study: Study) -> Iterator[list[dict]]:
    """Measure packages with a guarantee, and every hospital alone on the same parts."""
    done: list[dict] = []
    for epsilon in EPSILONS:
        changes = {"distill.method": "private", "distill.epsilon": epsilon}
        one = study.with_(study.profile.changed(changes | {"distill.labels": "hard"}))
        measured = Measured(one, "private", epsilon)
        for rows in measured.packages():
            yield done + rows
        done += measured.add(POOLED, Answers.of(by_data(measured.setup)))
        yield done


class Measured:
    """The rows of one part at one epsilon; all are compared with all packages together."""

    def __init__(self, study: Study, part: str, epsilon: float | None):
        self.study, self.place, self.rows = study, {"part": part, "epsilon": epsilon}, []
        self.setup, self.joint = setup_of(study), None

    def packages(self) -> Iterator[list[dict]]:
        """Add all packages together, and of each hospital its data and its package alone."""
        sent = [self.sent(seed) for seed in range(DRAWS)]
        everyone = [self.trained(packages, range(len(packages))) for packages in sent]
        self.joint = joined(everyone)
        yield self.add(PACKAGES, self.joint)
        for k, name in enumerate(self.setup.hospitals):
            self.add(ALONE, Answers.of(each_alone(self.setup, name)), name)
            alone = joined([self.trained(packages, [k]) for packages in sent])
            yield self.add(PACKAGE, alone, name)

    def sent(self, seed: int) -> list[Path]:
        """Let every hospital distil its data with this seed, and send the package."""
        one = self.study.with_(self.study.profile.changed({"seeds": [seed]}))
        return list(sent_packages(one, inbox_folder(one)).values())

    def trained(self, packages: Sequence[Path], chosen: Sequence[int]) -> Shared:
        """Train networks on some hospitals' packages together."""
        paths = [packages[k] for k in chosen]
        size = sum(path.stat().st_size for path in paths)
        opened = [open_package(path) for path in paths]
        return by_packages(self.setup, opened, f"packages {', '.join(map(str, chosen))}", size)

    def add(self, way: str, answers: Answers, hospital: str | None = None) -> list[dict]:
        """Add a row: its cost, its scores, and what all packages together are above it."""
        test, draws = self.setup.test, self.study.profile.resamples
        names = self.setup.data.class_names
        given = answers.probabilities, test.labels, test.groups, names
        scores = score(*given, resamples=draws, sets=answers.sets)
        row = {**self.place, "way": way, "hospital": hospital}
        row |= {"networks": len(answers.probabilities), "draws": len(set(answers.sets))}
        row |= {"sent_bytes": answers.sent_bytes, "rounds": answers.rounds}
        row |= {metric: scores[metric] for metric in BOTH}
        row["per_class"] = scores["per_class"]
        if way != PACKAGES:
            ours = self.joint
            pair = ours.probabilities, [answers.probabilities], test.labels, test.groups, BOTH
            (paired,) = paired_differences(*pair, draws, sets=(ours.sets, [answers.sets]))
            row["packages_above"] = {
                metric: {key: paired[metric][key] for key in ("difference", "low", "high")}
                for metric in BOTH
            }
        self.rows.append(row)
        return self.rows


@dataclass(frozen=True)
class Answers:
    """What networks answer for all hospitals' test images, and what was sent to train them.

    probabilities: (R, N, K)
    sets: (R,) which draw of the packages each network was trained on
    """

    probabilities: np.ndarray
    sets: np.ndarray
    sent_bytes: int
    rounds: int

    @staticmethod
    def of(shared: Shared, draw: int = 0) -> Answers:
        """Take the networks of one draw."""
        given = shared.probabilities, np.full(len(shared.probabilities), draw)
        return Answers(*given, shared.sent_bytes, shared.rounds)


def joined(shared: Sequence[Shared]) -> Answers:
    """Put the networks of several draws together; bytes are the mean's."""
    every = [Answers.of(each, draw) for draw, each in enumerate(shared)]
    sent = round(np.mean([each.sent_bytes for each in every]))
    sets = np.concatenate([each.sets for each in every])
    return Answers(np.concatenate([e.probabilities for e in every]), sets, sent, every[0].rounds)


PARTS = {"ways": of_ways, "private": of_private}


@click.command()
@options("demo", PARTS)
def main(profile, data, out, save, part, changes) -> None:
    """Measure one part, and add its rows to the record."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, progress=progress)
        path = Path(save) / f"hospitals-{Path(source_name(data)).stem}.json"
        for rows in PARTS[part](study):
            write_rows(study, path, rows, SETTING)
    for row in rows:
        name = f"{row['way']} {row['hospital'] or ''}".strip()
        click.echo(f"{name}, epsilon {row['epsilon']}: {row['balanced_accuracy']['mean']:.3f}")


if __name__ == "__main__":
    main(prog_name="python -m workflow.hospitals")
