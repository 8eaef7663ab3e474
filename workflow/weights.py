"""Measure what a receiver can do with the weights of a network, and what with the distilled set.

    python -m workflow.weights --data FOLDER --out FOLDER --save results --part uses

Each part adds its rows to `results/weights-NAME.json`, where rows of the same setting are replaced.
Everything is cached in `--out`, so that a run that was stopped goes on.

    uses       as they are; for another architecture; together with the receiver's own few images
    leaks      what each gives away: the audit's loss attack, with the same controls
    storage    bytes of all training images, of the set, of as many real images, of the weights

The weights are those of the networks on all images by the tuned recipe. The receiver's own images
are drawn from the validation part, which neither was trained on, and the rest of that part tunes.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medddist.base.progress import Bar
from medddist.base.seeds import generator
from medddist.leaks import audit
from medddist.leaks.answers import log_odds
from medddist.leaks.candidates import drawn
from medddist.leaks.shadows import images_asked
from medddist.measure.membership import attacked
from medddist.measure.metrics import paired_differences
from medddist.method.evaluate import mean_validation_scores, probabilities, trained_networks
from medddist.method.training import Diverged, Labelled, train
from medddist.sharing.studies import contents_of
from medddist.sharing.ways import FLOAT_BYTES
from medddist.sharing.writing import write_package
from medddist.study.labels import well_trained
from medddist.study.profile import changes_from, load_profile
from medddist.study.results import source_name
from medddist.study.scores import scores_path, sets_of
from medddist.study.study import Study
from workflow.beyond import on_network
from workflow.records import options, write_rows

BOTH = ("accuracy", "balanced_accuracy")
CONVNET = "convnet"
OWN, DRAWS = 20, 5  # the receiver's own images per class; draws of them, with a network each
FINE_TUNING = (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)  # learning rates; 0 changes nothing
NO_WEIGHTS = "weights fit their own architecture; another one has to be trained on images"
AS_SENT, OTHER, WITH_OWN = "as they are", "another architecture", "with own images"
WEIGHTS, SET, NOTHING = "weights", "set", "nothing"
Answered = tuple[np.ndarray, np.ndarray | None, dict]  # (R, N, K), sets (R,), what was chosen


class Measured:
    """The answers of each use, which later rows of the same use are compared with."""

    def __init__(self, study: Study):
        self.study, self.answers = study, {}
        self.bytes = {WEIGHTS: weight_bytes(study), SET: package_bytes(study), NOTHING: 0}

    def row(self, what: str, received: str, answered: Answered, network: str = CONVNET) -> dict:
        """Score networks (R, N, K), and compare them with the rows of this use before."""
        answers, sets, chosen = answered
        scores, test = self.study.score(answers, sets), self.study.data.test
        before = self.answers.setdefault((what, network), {})
        given = answers, [a for a, _ in before.values()], test.labels, test.groups, BOTH
        theirs = [s for _, s in before.values()]
        paired = paired_differences(*given, self.study.profile.resamples, sets=(sets, theirs))
        differences = [
            {"against": name, "metric": metric}
            | {key: found[metric][key] for key in ("difference", "low", "high")}
            for name, found in zip(before, paired)
            for metric in BOTH
        ]
        before[received] = answers, sets
        return {
            **self.place(what, received, network),
            "status": "measured",
            "networks": len(answers),
            **{metric: scores[metric] for metric in BOTH},
            "per_class": scores["per_class"],
            "differences": differences,
            **chosen,
        }

    def place(self, what: str, received: str, network: str) -> dict:
        """Return what tells a row from others, and the bytes that were sent."""
        place = {"part": "uses", "what": what, "received": received, "network": network}
        return place | {"sent_bytes": self.bytes[received]}


def weight_bytes(study: Study) -> int:
    """Count the bytes of one network's weights."""
    return study.network().parameter_count * FLOAT_BYTES


def package_bytes(study: Study) -> int:
    """Count the bytes of the first seed's package, as it would be sent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.zip"
        write_package(path, contents_of(study), allow_copies=True)  # it stays here
        return path.stat().st_size


# ---- uses --------------------------------------------------------------------------------------


def of_uses(study: Study) -> Iterator[list[dict]]:
    """Measure each use of the weights and of the set."""
    measured = Measured(study)
    for received, method in ((WEIGHTS, "full_good"), (SET, "distilled")):
        scored = study.scored(method)
        rates = {"learning_rates": scored.about["learning_rates"]}
        answered = scored.probabilities, scored.sets, rates
        yield [measured.row(AS_SENT, received, answered)]
    for received in (NOTHING, WEIGHTS, SET):
        yield [measured.row(WITH_OWN, received, with_own_images(study, received))]
    for network in study.profile.compare.unseen_networks:
        impossible = {"status": "not possible", "reason": NO_WEIGHTS}
        yield [measured.place(OTHER, WEIGHTS, network) | impossible]
        scored = on_network(study, network, "distilled")
        rates = {"learning_rates": scored.about["learning_rates"]}
        yield [measured.row(OTHER, SET, (scored.probabilities, None, rates), network)]


def own_images(study: Study, draw: int) -> tuple[Labelled, Labelled]:
    """Draw the receiver's images of a draw from validation, and return what is left to tune on.

    They are OWN of each class, or half of the smallest class. No group is in both.
    """
    part, classes = study.data.validation, study.data.classes
    per_class = max(1, min(OWN, int(part.class_counts(classes).min()) // 2))
    random = generator(study.profile.evaluate.seed, "own images", draw)
    everything = np.ones(len(part), bool)
    chosen = drawn(part.labels, part.groups, everything, per_class, classes, random)
    left = np.flatnonzero(~np.isin(part.groups, part.groups[chosen]))
    images, labels = study.tensors("validation")
    own, rest = (torch.from_numpy(at).to(study.device) for at in (chosen, left))
    return (images[own], labels[own]), (images[rest], labels[rest])


def with_own_images(study: Study, received: str) -> Answered:
    """Score networks that also know own images: of each draw, a network of its own.

    Weights are trained further on the own images. A set is joined with them, and networks are
    trained on both from scratch. Validation chooses the rate, the same for all draws.
    """
    evaluate, references = study.profile.evaluate, study.profile.references
    method = {WEIGHTS: "full_good", SET: "distilled", NOTHING: "random_balanced"}[received]
    rates = list(FINE_TUNING if received == WEIGHTS else references.learning_rates)
    if received == SET:
        rates = sorted({*rates, sets_of(study, "distilled")[0].learning_rate})

    def compute() -> tuple[dict[str, Tensor], dict]:
        trained, rate, tried = tuned(study, received, rates)
        answers = probabilities(study.network(), trained, study.tensors("test")[0])
        chosen = {"learning_rates": [rate], "tried_on_validation": tried}
        return {"probabilities": torch.from_numpy(answers)}, chosen

    depends_on = {"with_own_images": received, "own": OWN, "draws": DRAWS, "rates": rates}
    depends_on |= {"of": scores_path(study, method).parent.name, "evaluate": evaluate.as_json()}
    depends_on |= {"metric": study.profile.distill.selection_metric}
    tensors, chosen = study.store.tensors("compare", compute, **depends_on)
    return tensors["probabilities"].numpy(), None, chosen


def tuned(study: Study, received: str, rates: list[float]) -> tuple[list[Tensor], float, dict]:
    """Train a network for each draw at each rate; return those of the best one on validation."""
    metric, trained, tried = study.profile.distill.selection_metric, {}, {}
    training, draws = training_on(study, received), [own_images(study, k) for k in range(DRAWS)]
    for number, rate in enumerate(rates):
        try:
            trained[rate] = [training(k, own, rate) for k, (own, _) in enumerate(draws)]
            scores = [
                mean_validation_scores(study.network(), [theta], left)[metric]
                for theta, (_, left) in zip(trained[rate], draws)
            ]
        except Diverged:
            scores = [-1.0]  # never chosen where another rate does not diverge
        tried[f"{rate:g}"] = float(np.mean(scores))
        study.progress(f"own images, and {received}", number + 1, len(rates))
    best = max(rates, key=lambda rate: tried[f"{rate:g}"])
    return trained[best], best, tried


def training_on(study: Study, received: str) -> Callable[[int, Labelled, float], Tensor]:
    """Return the function that trains draw k's network on its own images at a rate."""
    network, evaluate = study.network(), study.profile.evaluate
    recipe = lambda rate: evaluate.recipe.model_copy(update={"learning_rate": rate})
    seed = lambda k: (evaluate.seed, "with own images", received, k)
    if received == WEIGHTS:
        starts = well_trained(study)
        return lambda k, own, rate: train(
            network, starts[k % len(starts)], *own, recipe(rate), seed(k)
        )
    sets = sets_of(study, "distilled") if received == SET else []

    def from_scratch(k: int, own: Labelled, rate: float) -> Tensor:
        given = joined(sets[k % len(sets)], own, study.data.classes) if sets else own
        return trained_networks(network, *given, recipe(rate), 1, seed(k))[0]

    return from_scratch


def joined(one, own: Labelled, classes: int) -> Labelled:
    """Join a small set with own images; hard labels become probabilities where the set has them."""
    images, labels = own
    if one.targets.ndim == 2:
        labels = torch.nn.functional.one_hot(labels, classes).to(one.targets)
    return torch.cat([one.images, images]), torch.cat([one.targets, labels])


# ---- what each gives away ----------------------------------------------------------------------


def of_leaks(study: Study) -> Iterator[list[dict]]:
    """Attack the networks of all images, and networks on the first seed's set, alike.

    The candidates, the reference networks and the positive control are the audit's. `references`
    says whether the reference networks' log-odds are subtracted.
    """
    seed, false_positives = study.profile.seeds[0], study.profile.audit.false_positives
    result, network, trained = study.distillation(seed), study.network(), well_trained(study)
    asked = audit.candidates_of(study, result)
    own, control, reference = audit._loss_scores(study, result, asked, seed)
    on_all = lambda networks: log_odds(network, networks, *images_asked(study, asked))
    scores = {WEIGHTS: on_all(trained[:1]), "weights of all networks": on_all(trained)}
    scores |= {SET: own, "as many real images": control}
    for received, score in scores.items():
        rows = []
        for calibrated in (True, False):
            groups = asked.split(score - reference if calibrated else score)
            left_out = ("starting", "others") if score is control else ("control",)
            kept = {name: values for name, values in groups.items() if name not in left_out}
            place = {"part": "leaks", "received": received, "references": calibrated}
            rows.append(place | {"groups": attacked(kept, false_positives)})
        yield rows


# ---- storage -----------------------------------------------------------------------------------


def of_storage(study: Study) -> Iterator[list[dict]]:
    """Count bytes: in 8 bits, as PNG, and as sent."""
    data, scaling = study.data, study.data.scaling
    levels = lambda images: scaling.levels(images).cpu().numpy()
    distilled = levels(study.distillation().distilled.images)
    real = levels(sets_of(study, "random_balanced")[0].images)
    yield [
        stored("all training images", data.train.images),
        stored("distilled images", distilled, package_bytes(study)),
        stored("an equal number of real images", real),
        {"part": "storage", "what": "weights of one network", "sent": weight_bytes(study)},
    ]


def stored(what: str, images: np.ndarray, sent: int | None = None) -> dict:
    """Count the bytes of (N, C, H, W) uint8 images."""
    bits = {"images": len(images), "raw": int(images.size), "png": sum(map(png_bytes, images))}
    return {"part": "storage", "what": what, **bits, "sent": sent}


def png_bytes(image: np.ndarray) -> int:
    """Count the bytes of an image (C, H, W) as a PNG file."""
    file = io.BytesIO()
    pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return file.tell()


# ---- the record --------------------------------------------------------------------------------


SETTING = ("part", "what", "received", "network", "references")  # of a row
PARTS = {"uses": of_uses, "leaks": of_leaks, "storage": of_storage}


@click.command()
@options("real", PARTS)
def main(profile, data, out, save, part, changes) -> None:
    """Measure one part, and add its rows to the record."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, progress=progress)
        path = Path(save) / f"weights-{Path(source_name(data)).stem}.json"
        for rows in PARTS[part](study):
            write_rows(study, path, rows, SETTING, own_images_per_class=OWN, draws=DRAWS)


if __name__ == "__main__":
    main(prog_name="python -m workflow.weights")
