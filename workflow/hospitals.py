"""What several hospitals gain by sharing, and what a guarantee costs them.

    python -m workflow.hospitals --profile demo --data phantom --out FOLDER --save results

Each part adds its rows to `results/hospitals-NAME.json`, where rows of the same setting are
replaced. Everything is cached in `--out`, so that a run that was stopped goes on.

    ways     each hospital alone; its package; all packages together; weights whose answers are
             averaged; federated averaging; all data in one place
    private  the same packages with a guarantee, at each epsilon, beside each hospital alone

Every hospital distils its own data alone. All ways are scored on the test images of all hospitals.
In `private`, each image decides its part alone, so that its test images are not those of `ways`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from medddist.base.progress import Bar
from medddist.measure.metrics import paired_differences
from medddist.sharing.reading import Package, open_package
from medddist.sharing.studies import inbox_folder, sent_packages, setup_of
from medddist.sharing.ways import (
    Setup,
    Shared,
    by_data,
    by_federated_averaging,
    by_packages,
    by_weights,
    each_alone,
    scored,
)
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.study import Study
from workflow.records import options, write_rows

BOTH = ("accuracy", "balanced_accuracy")
EPSILONS = (1.0, 4.0)
SETTING = ("part", "epsilon", "way", "hospital")  # of a row
ALONE, PACKAGE, PACKAGES = "alone", "its package", "all packages"
WEIGHTS, FEDERATED, POOLED = "weights, answers averaged", "federated averaging", "pooled real data"


def of_ways(study: Study) -> Iterator[list[dict]]:
    """Measure every way to share, without a guarantee."""
    setup, measured = setup_of(study), Measured(study, "ways", None)
    yield from measured.packages(setup)
    shared = ((WEIGHTS, by_weights), (FEDERATED, by_federated_averaging), (POOLED, by_data))
    for way, share in shared:
        yield measured.add(way, share(setup))


def of_private(study: Study) -> Iterator[list[dict]]:
    """Measure packages with a guarantee, and every hospital alone on the same parts."""
    done: list[dict] = []
    for epsilon in EPSILONS:
        changes = {"distill.method": "private", "distill.epsilon": epsilon}
        one = study.with_(study.profile.changed(changes | {"distill.labels": "hard"}))
        setup, measured = setup_of(one), Measured(one, "private", epsilon)
        for rows in measured.packages(setup):
            yield done + rows
        done += measured.add(POOLED, by_data(setup))
        yield done


class Measured:
    """The rows of one part at one epsilon; all are compared with all packages together."""

    def __init__(self, study: Study, part: str, epsilon: float | None):
        self.study, self.place, self.rows = study, {"part": part, "epsilon": epsilon}, []
        self.setup, self.joint = setup_of(study), None  # answers of all packages together

    def packages(self, setup: Setup) -> Iterator[list[dict]]:
        """Add all packages together, and of each hospital its data and its package alone."""
        paths = sent_packages(self.study, inbox_folder(self.study))
        opened = {name: open_package(path) for name, path in paths.items()}
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        everyone: list[Package] = list(opened.values())
        joint = by_packages(setup, everyone, PACKAGES, sum(sizes.values()))
        self.joint = joint.probabilities
        yield self.add(PACKAGES, joint)
        for name, package in opened.items():
            self.add(ALONE, each_alone(setup, name), name)
            alone = by_packages(setup, [package], f"{PACKAGE}, {name}", sizes[name])
            yield self.add(PACKAGE, alone, name)

    def add(self, way: str, shared: Shared, hospital: str | None = None) -> list[dict]:
        """Add a row: what all packages together are above it, too."""
        found, test = scored(self.setup, shared), self.setup.test
        row = {**self.place, "way": way, "hospital": hospital, "networks": len(self.joint)}
        row |= {"sent_bytes": shared.sent_bytes, "rounds": shared.rounds}
        row |= {metric: found["all"][metric] for metric in BOTH}
        row["per_class"] = found["all"]["per_class"]
        row["by_hospital"] = {
            name: {metric: one[metric] for metric in BOTH}
            for name, one in found["hospitals"].items()
        }
        if way != PACKAGES:
            given = self.joint, [shared.probabilities], test.labels, test.groups, BOTH
            (paired,) = paired_differences(*given, self.study.profile.resamples)
            row["packages_above"] = {
                metric: {key: paired[metric][key] for key in ("difference", "low", "high")}
                for metric in BOTH
            }
        self.rows.append(row)
        return self.rows


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
