"""What 80 images are worth: which images, with which labels, on which networks.

    python -m workflow.beyond --data FOLDER --out FOLDER --save results --part sets

Each part adds its rows to `results/beyond-NAME.json`, where rows of the same setting are replaced.
Everything is cached in `--out`, so that a run that was stopped goes on. The test part is scored
once for each row, after all choices were made on validation.

    sets      random real images, herding, k-means, trajectory matching and the loss on real images,
              each with hard and with soft labels
    networks  the same on networks that the images were not made with
    sizes     the same at other numbers of images per class
    full      all training images
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from medddist.base.progress import Bar
from medddist.comparison.shared import compare_recipe, network_of
from medddist.measure.metrics import paired_difference
from medddist.method.evaluate import probabilities, trained_networks, tuned_learning_rate
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.scores import Scored, SmallSet, scores_path, sets_of
from medddist.study.study import Study

BOTH = ("accuracy", "balanced_accuracy")
SETS = (  # method, labels, storage, and the study's name of it
    ("random", "hard", "uint8", "random_balanced"),
    ("random", "teachers", "uint8", "random_teachers"),
    ("herding", "hard", "uint8", "herding"),
    ("herding", "teachers", "uint8", "herding_teachers"),
    ("kmeans", "hard", "uint8", "kmeans"),
    ("kmeans", "teachers", "uint8", "kmeans_teachers"),
    ("trajectory", "hard", "uint8", "distilled"),
    ("trajectory", "teachers", "uint8", "distilled_teachers"),
    ("trajectory", "hard", "float32", "distilled_float32"),
    ("trajectory", "teachers", "float32", "distilled_float32_teachers"),
    ("real_loss", "hard", "uint8", "distilled_hard"),
    ("real_loss", "teachers", "uint8", "distilled_teachers"),
    ("real_loss", "learned", "float32", "distilled_float32"),
    ("real_loss", "learned", "uint8", "distilled"),
)
BEST = (  # of each method, with soft labels; matching loses by rounding, so it is not rounded here
    ("random", "teachers", "uint8", "random_teachers"),
    ("herding", "teachers", "uint8", "herding_teachers"),
    ("trajectory", "teachers", "float32", "distilled_float32_teachers"),
    ("real_loss", "learned", "uint8", "distilled"),
)
from workflow.records import options, write_rows

METHODS = ("trajectory", "real_loss")  # of distilling
SMALL = (*METHODS, "random", "herding", "kmeans")  # sets of few images
AGAINST = ("random", "herding", "kmeans", "trajectory")
CONVNET, NETWORKS = "convnet", 8  # the study's own network; of each other architecture


class Measured:
    """The rows of one study, and the answers behind them."""

    def __init__(self, study: Study):
        self.study, self.rows = study, []
        self.answers: dict[tuple[str, str], Scored] = {}

    def of_method(self, method: str) -> Study:
        """Return the study that distils by this method."""
        if method not in METHODS:
            return self.study
        return self.study.with_(self.study.profile.changed({"distill.method": method}))

    def add(self, method: str, labels: str, storage: str, name: str) -> None:
        """Score a set on the study's own network."""
        self.keep(method, labels, storage, self.of_method(method).scored(name))

    def keep(
        self, method: str, labels: str, storage: str, scored: Scored, network: str = CONVNET
    ) -> None:
        """Add a row, compared with the sets before it that have the same labels.

        Args:
            method: of the set.
            labels: of the set.
            storage: of its pixels.
            scored: its networks.
            network: their architecture.
        """
        study = self.of_method(method)
        seeds = scored.about.get("seeds", [])
        minutes = [sum(study.seconds(seed).values()) / 60 for seed in seeds]
        row = {
            "method": method,
            "network": network,
            "images_per_class": study.profile.distill.images_per_class,
            "labels": labels,
            "storage": storage,
            "seeds": seeds or list(range(scored.about.get("draws", 1))),
            "iterations": study.profile.distill.iterations if method in METHODS else None,
            "selected_iterations": scored.about.get("selected_iterations"),
            "networks": len(scored.probabilities),
            "minutes_per_seed": round(float(np.mean(minutes)), 1) if minutes else None,
            "learning_rates": scored.about.get("learning_rates"),
            **{metric: scored.scores[metric] for metric in BOTH},
            "per_class": scored.scores["per_class"],
            "differences": list(self.differences(method, labels, scored)),
        }
        self.rows.append(row)
        self.answers[method, labels] = scored

    def differences(self, method: str, labels: str, ours: Scored) -> Iterator[dict]:
        """Compare a set with those of AGAINST: by both accuracies, and by class."""
        soft = "hard" if labels == "hard" else "teachers"
        for other in AGAINST:
            theirs = self.answers.get((other, soft))
            if theirs is None or other == method:
                continue
            for metric, given in self.questions(ours, theirs):
                paired = paired_difference(*given, sets=(ours.sets, theirs.sets))
                kept = {name: paired[name] for name in ("difference", "low", "high")}
                yield {"against": other, "labels": soft, "metric": metric, **kept}

    def questions(self, ours: Scored, theirs: Scored) -> Iterator[tuple[str, tuple]]:
        """Yield what `paired_difference` takes, for both accuracies and each class."""
        test, names = self.study.data.test, self.study.data.class_names
        labels, groups = np.asarray(test.labels), np.asarray(test.groups)
        resamples = self.study.profile.resamples
        both = ours.probabilities, theirs.probabilities
        for metric in BOTH:
            yield metric, (*both, labels, groups, metric, resamples)
        for k, name in enumerate(names):
            for what, among in (("sensitivity", labels == k), ("specificity", labels != k)):
                of_class = [found_or_not(each[:, among], k) for each in both]
                asked = (labels[among] == k).astype(int), groups[among], "accuracy", resamples
                yield f"{what} {name}", (*of_class, *asked)


def found_or_not(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Turn probabilities (R, N, K) into answers (R, N, 2): whether class k is the most probable."""
    found = probabilities.argmax(2) == k
    return np.stack([~found, found], 2).astype(float)


def of_sets(study: Study, methods: tuple[str, ...] = SMALL) -> list[dict]:
    """Measure the sets of these methods with every kind of labels."""
    measured = Measured(study)
    for one in SETS:
        if one[0] in methods:
            measured.add(*one)
    return measured.rows


def of_sizes(study: Study, sizes: tuple[int, ...]) -> list[dict]:
    """Measure sets with soft labels at other numbers of images per class, of one seed."""
    rows = []
    for size in sizes:
        one = {"distill.images_per_class": size, "seeds": [study.profile.seeds[0]]}
        measured = Measured(study.with_(study.profile.changed(one)))
        for one in BEST:
            measured.add(*one)
        rows += measured.rows
    return rows


def of_networks(study: Study) -> list[dict]:
    """Train other networks on each set with soft labels, of the first seed.

    Every set has its learning rate tuned on validation for every network, among the same ones.
    """
    measured = Measured(study)
    for network in study.profile.compare.unseen_networks:
        measured.answers.clear()
        for method, labels, storage, name in BEST:
            scored = on_network(measured.of_method(method), network, name)
            measured.keep(method, labels, storage, scored, network)
    return measured.rows


def on_network(study: Study, name: str, method: str) -> Scored:
    """Score NETWORKS networks of an architecture, trained on the first set of a method."""
    compare = study.profile.compare
    compute = lambda: trained_on(study, name, sets_of(study, method)[0], f"{method}, {name}")
    depends_on = {"of": str(scores_path(study, method).parent.name), "compare": compare.as_json()}
    depends_on |= {"network_name": name, "networks": NETWORKS}
    tensors, about = study.store.tensors("compare", compute, **depends_on)
    answers = tensors["probabilities"].numpy()
    return Scored(method, answers, about, study.score(answers))


def trained_on(study: Study, name: str, one: SmallSet, what: str) -> tuple[dict[str, Tensor], dict]:
    """Train networks of an architecture on a set, at a rate that validation chose, and ask them.

    Args:
        study: whose recipe, rates and images for validation and test are used.
        name: of the architecture.
        one: the set.
        what: is trained, for the progress.

    Returns:
        {"probabilities": (R, N, K)} on the test part, and how the rate was chosen.
    """
    compare, network = study.profile.compare, network_of(study, name)
    recipe, metric = compare_recipe(study.profile), study.profile.distill.selection_metric
    training, seed = (
        (network, one.images, one.targets),
        (study.profile.evaluate.seed, "network", name),
    )
    judged = study.tensors("validation"), metric, compare.tuning_networks, seed
    rate, tried = tuned_learning_rate(*training, recipe, compare.learning_rates, *judged)
    recipe = recipe.model_copy(update={"learning_rate": rate})
    trained = trained_networks(*training, recipe, NETWORKS, seed, study.progress, what)
    answers = probabilities(network, trained, study.tensors("test")[0])
    about = {"learning_rates": [rate], "tried_on_validation": tried}
    return {"probabilities": torch.from_numpy(answers)}, about


def of_all_images(study: Study) -> list[dict]:
    """Measure all training images by the tuned recipe."""
    measured = Measured(study)
    measured.add("full", "hard", "uint8", "full_good")
    return measured.rows


SETTING = ("method", "network", "images_per_class", "labels", "storage")  # of a row
PARTS = ("sets", "networks", "sizes", "full")


@click.command()
@options("real", PARTS)
@click.option("--method", "methods", multiple=True, default=SMALL, help="Of the part sets.")
@click.option("--size", "sizes", type=int, multiple=True, default=(1, 5, 10, 50))
def main(profile, data, out, save, part, methods, sizes, changes) -> None:
    """Measure one part, and add its rows to the record."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, progress=progress)
        rows = {
            "sets": lambda: of_sets(study, methods),
            "networks": lambda: of_networks(study),
            "sizes": lambda: of_sizes(study, sizes),
            "full": lambda: of_all_images(study),
        }[part]()
    write_rows(study, Path(save) / f"beyond-{Path(source_name(data)).stem}.json", rows, SETTING)
    for row in rows:
        score = row["balanced_accuracy"]
        click.echo(f"{row['method']}, {row['labels']}: {score['mean']:.3f}")


if __name__ == "__main__":
    main(prog_name="python -m workflow.beyond")
