"""What a set with a guarantee is worth on real images, and what stands beside it.

    python -m workflow.guarantee --data FOLDER --out FOLDER --save results --part draws

Each part adds its rows to `results/private-NAME.json`, where rows of the same setting are replaced.
The settings are those of the profile `private`, and no part changes one after a look at a score.

    draws      independent releases at each epsilon, and what they start from (epsilon 0)
    beside     random real images; the public networks by themselves; classifiers from the same
               release; the same images without noise
    dp_sgd     the network itself, trained by DP-SGD on the real images and sent
    hospitals  the images dealt to three hospitals, each with a release of its own
    sizes      epsilon by the number of images in the smallest class
    untrained  public networks that are not trained, for data that no phantom resembles

These scores are of private images. They are for whoever has the images, and in no package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from medddist.base.progress import Bar
from medddist.measure.metrics import paired_difference
from medddist.method.evaluate import probabilities, trained_networks
from medddist.method.networks import initial_parameters
from medddist.method.private.distilling import private_distillation
from medddist.method.private.dp_sgd import PrivacySettings, epsilon_of, train_by_dp_sgd
from medddist.method.private.extractors import Extractors
from medddist.method.private.release import Release, clipped_sums, means_of, released
from medddist.method.training import Recipe
from medddist.study.private import public_networks, public_phantom_of, public_set
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.study import Study
from workflow.records import options, write_rows

BOTH = ("accuracy", "balanced_accuracy")
DRAWS = {1.0: 5, 4.0: 5, 0.5: 3, 2.0: 3, 8.0: 3}  # releases at each epsilon
CLASSIFIED = (1.0, 4.0)  # epsilons of the rows beside the sets
HOSPITALS = 3  # to which images are dealt at random
SMALLEST = (100, 300)  # images of the smallest class
EPSILONS, NETWORKS = (0.5, 1.0, 4.0, 8.0), 3  # of `sizes`: epsilons, and networks on each set
# Rate and epochs at which a network learns by DP-SGD, chosen on the phantom (profile `demo`).
DP_SGD = Recipe(epochs=20, batch_size=470, learning_rate=2.0)
SAMPLE_RATE = 0.05


class Measured:
    """The rows of one study, and the answers behind them."""

    def __init__(self, study: Study):
        self.study, self.rows = study, []
        self.random = None  # answers of random real images, which the others are compared with

    def add(self, what: str, answers: np.ndarray, sets=None, **more) -> None:
        """Add the row of networks' answers (R, N, K) for the test part."""
        scores = self.study.score(answers, sets)
        row = {"what": what, **more, **{metric: scores[metric] for metric in BOTH}}
        row |= {"per_class": scores["per_class"], "networks": len(answers)}
        if self.random is not None and what != "random real images":
            row["above_random"] = {
                metric: self.above_random(answers, sets, metric) for metric in BOTH
            }
        self.rows.append(row)

    def above_random(self, answers: np.ndarray, sets, metric: str) -> dict:
        """Compare with random real images: the paired difference and its interval."""
        test, theirs = self.study.data.test, self.random
        given = answers, theirs.probabilities, np.asarray(test.labels), np.asarray(test.groups)
        resamples = self.study.profile.resamples
        found = paired_difference(*given, metric, resamples, sets=(sets, theirs.sets))
        return {name: found[name] for name in ("difference", "low", "high")}

    def add_random(self) -> None:
        """Add random real images with hard labels, whose rate is tuned on validation."""
        scored = self.study.scored("random_balanced")
        rate = scored.about["learning_rates"]
        self.add("random real images", scored.probabilities, scored.sets, learning_rates=rate)
        self.random = scored


def of_draws(study: Study, epsilons: tuple[float, ...] = ()) -> Iterator[list[dict]]:
    """Measure independent releases at each epsilon, as they would be sent, and epsilon 0."""
    measured = Measured(study)
    measured.add_random()
    for epsilon in epsilons or DRAWS:
        draws = DRAWS[epsilon]
        changes = {"distill.epsilon": epsilon, "seeds": list(range(draws))}
        one = study.with_(study.profile.changed(changes))
        if epsilon == 1:
            start = one.scored("initial")
            measured.add("initial", start.probabilities, start.sets, epsilon=0, draws=draws)
        scored = one.scored("distilled")
        measured.add("distilled", scored.probabilities, scored.sets, epsilon=epsilon, draws=draws)
        yield measured.rows


class Features:
    """The real images' features, in memory alone, and the sets that follow from their sums."""

    def __init__(self, study: Study):
        self.study, self.public = study, public_networks(study)
        images, labels = study.tensors("train")
        self.rows, self.labels = self.public.one_by_one(images, study.progress), labels.numpy()
        self.units = np.asarray(study.data.train.groups)

    @functools.cached_property
    def test(self) -> np.ndarray:
        """Features of the test images, for classifiers without images."""
        return self.public.one_by_one(self.study.tensors("test")[0], self.study.progress)

    def sums(self, chosen=slice(None)) -> np.ndarray:
        """Add up the clipped features of the chosen images."""
        parts = self.rows[chosen], self.labels[chosen], self.units[chosen]
        return clipped_sums(*parts, self.study.data.classes, self.public.clip)

    def release(self, sums: np.ndarray, epsilon: float | None) -> Release:
        """Release sums with the noise of epsilon, or with none."""
        delta = self.study.profile.distill.delta
        if epsilon is None:
            return means_of(sums, self.public.clip)
        return released(sums, self.public.clip, epsilon, delta)

    def distilled(self, release: Release, draw: int) -> tuple[Tensor, Tensor]:
        """Make a set of 8-bit images from a release: (N, C, S, S), and their classes."""
        study, scaling = self.study, self.study.data.scaling
        settings = study.profile.distill.model_copy(update={"seed": draw})
        given = self.public, public_set(study, settings), release, settings, study.progress
        made = private_distillation(*given).distilled
        return scaling.apply(scaling.levels(made.images)), made.targets

    def answers(self, sets: Sequence[tuple[Tensor, Tensor]], draw: int, networks: int):
        """Train networks on one set, or on several together: (R, N, K)."""
        study, network = self.study, self.study.network()
        rate = {"learning_rate": study.profile.distill.step_size}
        recipe = study.profile.evaluate.recipe.model_copy(update=rate)
        images, targets = map(torch.cat, zip(*sets))
        given = network, images, targets, recipe, networks, (draw, "guarantee")
        return probabilities(network, trained_networks(*given), study.tensors("test")[0])

    def of_release(self, release: Release, draw: int, networks: int) -> np.ndarray:
        """Train networks on a set made from a release: (R, N, K)."""
        return self.answers([self.distilled(release, draw)], draw, networks)


def of_hospitals(study: Study) -> Iterator[list[dict]]:
    """Measure what hospitals gain by joining sets that each has made with a guarantee.

    The images are dealt at random, all of a patient to one hospital. So each image is in one
    release, and the sets together have the guarantee of one.
    """
    measured, features = Measured(study), Features(study)
    units, place = np.unique(features.units, return_inverse=True)
    dealt = (np.random.default_rng(0).permutation(len(units)) % HOSPITALS)[place]
    for epsilon in CLASSIFIED:
        sums = [features.sums(dealt == k) for k in range(HOSPITALS)]
        sets = [features.distilled(features.release(own, epsilon), k) for k, own in enumerate(sums)]
        alone = [features.answers([one], k, NETWORKS) for k, one in enumerate(sets)]
        number = np.repeat(range(HOSPITALS), NETWORKS)
        measured.add("set of one hospital of three", np.concatenate(alone), number, epsilon=epsilon)
        together = features.answers(sets, 0, NETWORKS)
        measured.add("sets of three hospitals", together, epsilon=epsilon)
        yield measured.rows


def of_sizes(study: Study) -> Iterator[list[dict]]:
    """Measure sets by epsilon and by how many images the smallest class has."""
    measured, features = Measured(study), Features(study)
    for smallest in SMALLEST:
        for epsilon in EPSILONS:
            chosen = proportional(features.labels, smallest, 0)
            release = features.release(features.sums(chosen), epsilon)
            answers = features.of_release(release, 0, NETWORKS)
            measured.add("by size", answers, epsilon=epsilon, smallest_class=smallest, draws=1)
            yield measured.rows


def proportional(labels: np.ndarray, smallest: int, draw: int) -> np.ndarray:
    """Choose images at random, the same share of each class: `smallest` of the smallest one."""
    random, counts = np.random.default_rng(draw), np.bincount(labels)
    share = smallest / counts.min()
    members = (np.flatnonzero(labels == k) for k in range(len(counts)))
    return np.concatenate([random.permutation(m)[: round(share * len(m))] for m in members])


def of_others(study: Study) -> Iterator[list[dict]]:
    """Measure what a critic asks for beside the sets."""
    measured, features = Measured(study), Features(study)
    measured.add_random()
    public, network = features.public, study.network()
    test = study.tensors("test")[0]
    trained = probabilities(network, list(public.thetas), test)
    measured.add("networks trained on the phantom", trained, epsilon=0)
    noiseless = features.release(features.sums(), None)
    answers = features.of_release(noiseless, 0, NETWORKS)
    measured.add("distilled without noise", answers, epsilon=None, draws=1)
    classifiers: dict[str, Callable] = {
        "nearest class mean": lambda release: by_distance(features.test, release.means, None),
        "linear classifier": lambda release: by_distance(
            features.test, release.means, inverse_covariance(study, public)
        ),
    }
    for name, classify in classifiers.items():
        for epsilon in (*CLASSIFIED, None):
            draws = DRAWS[epsilon] if epsilon else 1
            releases = [features.release(features.sums(), epsilon) for _ in range(draws)]
            found = np.stack([classify(release) for release in releases])
            measured.add(name, found, np.arange(draws), epsilon=epsilon, draws=draws)
    yield measured.rows


def of_dp_sgd(study: Study) -> Iterator[list[dict]]:
    """Measure networks that are sent themselves; DP-SGD protects one image, not one patient."""
    measured = Measured(study)
    measured.add_random()
    for epsilon in CLASSIFIED:
        answers = by_dp_sgd(study, epsilon)
        measured.add("network trained by DP-SGD", answers, epsilon=epsilon)
        yield measured.rows


def of_untrained(study: Study) -> Iterator[list[dict]]:
    """Measure sets by untrained public networks, for data that no phantom resembles."""
    one = study.with_(study.profile.changed({"distill.extractors": "random"}))
    measured, features = Measured(one), Features(one)
    for epsilon in CLASSIFIED:
        answers = features.of_release(features.release(features.sums(), epsilon), 0, NETWORKS)
        measured.add("distilled by untrained networks", answers, epsilon=epsilon, draws=1)
        yield measured.rows


def by_distance(features: np.ndarray, means: np.ndarray, inverse: np.ndarray | None) -> np.ndarray:
    """Answer with the nearest class mean: probabilities (N, K), which are 0 or 1."""
    apart = features[:, None] - means[None]
    along = apart if inverse is None else apart @ inverse
    return np.eye(len(means))[(along * apart).sum(2).argmin(1)]


def inverse_covariance(study: Study, public: Extractors) -> np.ndarray:
    """Estimate how features scatter within a class of the phantom: the metric of a linear probe."""
    images, labels = public_phantom_of(study)
    with torch.no_grad():
        rows = torch.cat([public.features(x) for x in images.split(256)]).numpy().astype(float)
    centred = [rows[labels.numpy() == k] for k in labels.unique().tolist()]
    centred = np.concatenate([part - part.mean(0) for part in centred])
    return np.linalg.inv(ledoit_wolf(centred, assume_centered=True)[0])


def by_dp_sgd(study: Study, epsilon: float) -> np.ndarray:
    """Train the network itself by DP-SGD at an epsilon: answers (2, N, K), each of one network."""
    network, trained = study.network(), []
    settings = dp_sgd_settings(epsilon, study.profile.distill.delta)
    for number in range(2):
        start = initial_parameters(network, "guarantee", number)
        trained.append(train_by_dp_sgd(network, start, *study.tensors("train"), DP_SGD, settings))
        study.progress(f"DP-SGD at epsilon {epsilon:g}", number + 1, 2)
    return probabilities(network, trained, study.tensors("test")[0])


def dp_sgd_settings(epsilon: float, delta: float) -> PrivacySettings:
    """Find the least noise of DP-SGD that keeps within epsilon."""
    low, high = 0.3, 50.0
    while True:
        settings = PrivacySettings(noise_multiplier=high, sample_rate=SAMPLE_RATE, delta=delta)
        if high / low < 1.001:
            return settings
        middle = (low * high) ** 0.5
        tried = settings.model_copy(update={"noise_multiplier": middle})
        if epsilon_of(tried, DP_SGD.epochs * tried.steps_per_epoch) > epsilon:
            low = middle
        else:
            high = middle


SETTING = ("what", "epsilon", "smallest_class")  # of a row
PARTS = {"draws": of_draws, "beside": of_others, "dp_sgd": of_dp_sgd}
PARTS |= {"hospitals": of_hospitals, "sizes": of_sizes, "untrained": of_untrained}


@click.command()
@options("private", PARTS)
@click.option("--epsilon", "epsilons", type=click.Choice(list(DRAWS)), multiple=True)
def main(profile, data, out, save, part, epsilons, changes) -> None:
    """Measure one part, and add its rows to the record."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, progress=progress)
        path = Path(save) / f"private-{Path(source_name(data)).stem}.json"
        given = (study, epsilons) if part == "draws" else (study,)
        for rows in PARTS[part](*given):
            write_rows(study, path, rows, SETTING, **of_private_data(study))
    for row in rows:
        what, epsilon = row["what"], row.get("epsilon", "-")
        click.echo(f"{what}, epsilon {epsilon}: {row['balanced_accuracy']['mean']:.3f}")


def of_private_data(study: Study) -> dict:
    """Say how many images the release is of, and what one unit of them is."""
    counts = np.bincount(study.data.train.labels).tolist()
    return {"training_images": counts, "unit": "patient" if study.data.patients else "image"}


if __name__ == "__main__":
    main(prog_name="python -m workflow.guarantee")
