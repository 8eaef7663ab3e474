"""Which networks learn well from a set that was distilled for which network?

    python -m workflow.across --profile demo --data phantom --out FOLDER --save results

Writes `results/networks-NAME.json`: a row for each network that distils, and for random real
images, with each network that trains. Everything is cached in `--out`. The profile's own ConvNet
is the narrow one here, so that a wider one takes little time too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import click
from torch import Tensor

from medddist.base.progress import Bar
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.scores import SmallSet, sets_of
from medddist.study.study import Study
from workflow.beyond import NETWORKS, trained_on
from workflow.records import options, write_rows

NARROW = {"network.width": 16}
DISTIL = {  # the ConvNet that distils, and its settings
    "convnet": {},
    "convnet_wide": {"network.width": 32},
    "convnet_shallow": {"network.depth": 2},
}
TRAIN = ("convnet", "convnet_wide", "convnet_shallow", "vit", "mlp")
RANDOM = "random"
SETTING = ("distilled_for", "trained")  # of a row


def measured(study: Study) -> Iterator[list[dict]]:
    """Yield all rows so far, after each set; `study` has the narrow ConvNet."""
    rows = []
    for name, one, key in sets(study):
        for network in TRAIN:
            compute = functools.partial(trained_on, study, network, one, f"{name}, {network}")
            depends_on = {"across": key, "network_name": network, "networks": NETWORKS}
            tensors, _ = study.store.tensors("compare", compute, **depends_on)
            rows.append(row(study, name, network, tensors["probabilities"]))
        yield rows


def sets(study: Study) -> Iterator[tuple[str, SmallSet, str]]:
    """Yield random real images, then a set distilled for each network: name, set, cache key."""
    yield RANDOM, sets_of(study, "random_balanced")[0], "random real images"
    for name, changes in DISTIL.items():
        own = study.with_(study.profile.changed(changes))
        seed = own.profile.seeds[0]
        yield name, sets_of(own, "distilled")[0], own.distillation_name(seed)


def row(study: Study, name: str, network: str, answers: Tensor) -> dict:
    """Score the networks trained on one set."""
    scores = study.score(answers.numpy())
    both = {metric: scores[metric] for metric in ("accuracy", "balanced_accuracy")}
    return {"distilled_for": name, "trained": network, "networks": len(answers)} | both


@click.command()
@options("demo", ["all"])
def main(profile, data, out, save, part, changes) -> None:
    """Measure the grid, and write the record."""
    with Bar() as progress:
        given = load_profile(profile, NARROW | changes_from(changes))
        study = Study(given, data, out, progress=progress)
        path = Path(save) / f"networks-{Path(source_name(data)).stem}.json"
        for rows in measured(study):
            write_rows(study, path, rows, SETTING)
    for each in rows:
        score = each["balanced_accuracy"]["mean"]
        click.echo(f"{each['distilled_for']}, {each['trained']}: {score:.3f}")


if __name__ == "__main__":
    main(prog_name="python -m workflow.across")
