"""Writes what the page "Train in your browser" is made of, from a study on the phantom.

    python -m workflow.browser_data                                # of `demo`, the book's own set
    python -m workflow.browser_data --set distill.iterations=20    # a quick trial, marked as such

Three files in book/assets/train/. `about.json` says how the images were made, and what networks of
the library score on the same test images: as wide as the page's, trained by the same recipe.
`data.js` is the same with the pixels, as a script, because a page opened from a file may not read
other files. `phantom-80-images.zip` is the package of the distilled images.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from medddist.base.errors import InputError
from medddist.base.files import write_json
from medddist.base.progress import Bar
from medddist.base.seeds import generator
from medddist.method.evaluate import probabilities, trained_networks, tuned_learning_rate
from medddist.method.evaluate import random_real as drawn
from medddist.method.networks import NetworkSettings
from medddist.sharing.studies import contents_of
from medddist.sharing.writing import write_package
from medddist.study.profile import changes_from, load_profile
from medddist.study.study import Study

FOLDER = Path(__file__).resolve().parent.parent / "book" / "assets" / "train"
WIDTH, DEPTH = 16, 3  # of the page's ConvNet: half of the profile's width is a quarter of the time
TEST_PER_CLASS = 50
SEED = ("browser page",)
# The page takes all images in each step, and so do the library's networks beside it.
AS_ON_THE_PAGE = {"epochs": 200, "batch_size": 256}
CLASSES = {"Lung_Opacity": "Lung opacity", "Viral Pneumonia": "Viral pneumonia"}


class Sets:
    """Two small training sets of a study, equally large, and test images of each class alike.

    Pixels are uint8, (N, S, S), sorted by class.
    """

    def __init__(self, study: Study):
        data, profile = study.data, study.profile
        if not data.is_phantom or data.channels != 1:
            reason = "the page shows its images and gives them away"
            raise InputError("data", reason, "use the phantom")
        if profile.distill.labels != "hard":
            raise InputError("distill.labels", "the page trains on classes", "set it to hard")
        released = study.distillation().distilled
        self.size = len(released.labels)
        self.recipe = profile.evaluate.recipe.model_copy(update=AS_ON_THE_PAGE)
        if self.size > self.recipe.batch_size:
            reason = "the page uses all images in each step"
            raise InputError("distill.images_per_class", reason, "lower it")
        order = released.classes.argsort(stable=True).cpu()
        self.distilled = self._levels(study, released.images.cpu()[order])
        self.labels = released.classes.cpu()[order]
        self.step_size = float(released.step_size)
        self.network = NetworkSettings(width=WIDTH, depth=DEPTH)
        self.random = self._random(study)
        self.test, self.test_labels = self._tested(study)

    def _levels(self, study: Study, images: torch.Tensor) -> np.ndarray:
        return study.data.scaling.levels(images).numpy()[:, 0]

    def _random(self, study: Study) -> np.ndarray:
        """Draw as many real images per class as there are distilled ones."""
        labels = torch.from_numpy(study.data.train.labels)
        asked = study.profile.distill.images_per_class, study.data.classes, "balanced"
        return study.data.train.images[drawn(labels, *asked, generator(*SEED, "random")).numpy(), 0]

    def _tested(self, study: Study) -> tuple[np.ndarray, np.ndarray]:
        """Draw the test images: equally many per class, so that chance is 1 / K."""
        test = study.data.test
        count = min(TEST_PER_CLASS, int(test.class_counts(study.data.classes).min()))
        labels = torch.from_numpy(test.labels)
        asked = count, study.data.classes, "balanced"
        chosen = drawn(labels, *asked, generator(*SEED, "test")).numpy()
        return test.images[chosen, 0], test.labels[chosen]

    def by_the_library(
        self, study: Study, images: np.ndarray, rate: float | None, networks: int
    ) -> dict[str, Any]:
        """Train the library's networks on a set; score them on the page's test images.

        Args:
            study: whose validation images and scaling are used.
            images: (N, S, S) uint8.
            rate: the learning rate; None for the best of the profile's on validation.
            networks: how many.

        Returns:
            The learning rate, and the accuracy of each network.
        """
        scaled = lambda pixels: torch.from_numpy(study.data.scaling.apply(pixels[:, None]))
        given = study.network(self.network), scaled(images).to(study.device)
        given = *given, self.labels.to(study.device)
        recipe, references = self.recipe, study.profile.references
        if rate is None and len(references.learning_rates) == 1:
            rate = references.learning_rates[0]
        if rate is None:
            metric, count = study.profile.distill.selection_metric, references.tuning_networks
            tuned = references.learning_rates, study.tensors("validation"), metric, count
            rate, _ = tuned_learning_rate(*given, recipe, *tuned, SEED)
        recipe = recipe.model_copy(update={"learning_rate": rate})
        trained = trained_networks(*given, recipe, networks, SEED, study.progress)
        answers = probabilities(given[0], trained, scaled(self.test).to(study.device))
        right = (answers.argmax(2) == self.test_labels).mean(1)
        return {"learning_rate": rate, "library_accuracy": [round(float(r), 4) for r in right]}


def about(study: Study, sets: Sets, changes: dict[str, Any], networks: int) -> dict[str, Any]:
    """State how the sets were made, and what the library's networks score."""
    profile, recipe = study.profile, sets.recipe
    if recipe.schedule != "halfway" or recipe.augmentation.flip:
        raise InputError("evaluate.recipe", "the page knows no other schedule", "as in demo")
    return {
        "made_by": "python -m workflow.browser_data",
        "profile": profile.name,
        "changes": changes,  # what differs from the profile; empty for the study of the book
        "distillation": {
            "method": profile.distill.method,
            "iterations": profile.distill.iterations,
            "selected_iteration": study.distillation().selected_iteration,
        },
        "source": study.data.source,
        "class_names": [CLASSES.get(name, name) for name in study.data.class_names],
        "network": sets.network.as_json() | {"size_px": study.data.image_size_px},
        "study_width": profile.network.width,
        "recipe": recipe.as_json(),
        "scaling": {"mean": study.data.scaling.mean[0], "std": study.data.scaling.std[0]},
        "test_images_per_class": int(np.bincount(sets.test_labels)[0]),
        "sets": {
            "distilled": sets.by_the_library(study, sets.distilled, sets.step_size, networks),
            "random": sets.by_the_library(study, sets.random, None, networks),
        },
    }


def script(stated: dict[str, Any], sets: Sets) -> str:
    """Return data.js: what is stated, with each set's pixels and classes in base 64."""
    text = lambda array: base64.b64encode(np.asarray(array, np.uint8).tobytes()).decode()
    labelled = {"distilled": sets.distilled, "random": sets.random}
    pixels = {
        name: {"pixels": text(images), "labels": text(sets.labels)}
        for name, images in labelled.items()
    }
    pixels["test"] = {"pixels": text(sets.test), "labels": text(sets.test_labels)}
    lines = [f"  {name}: {json.dumps(value)}," for name, value in pixels.items()]
    return "\n".join(
        [
            "// Simulated radiographs (no patient data). Written by workflow/browser_data.py.",
            f"const TRAINING_ABOUT = {json.dumps(stated)};",
            "const TRAINING_IMAGES = {",
            *lines,
            "};\n",
        ]
    )


@click.command()
@click.option("--profile", default="demo", show_default=True)
@click.option("--artifacts", default="build/artifacts", show_default=True, help="Cached results.")
@click.option("--out", default=str(FOLDER), help="Folder for the page's files.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a setting.")
@click.option("--networks", default=5, show_default=True, help="Of the library, on each set.")
def main(profile, artifacts, out, changes, networks) -> None:
    """Write the page's files."""
    changed, folder = changes_from(changes), Path(out)
    progress = Bar()
    try:
        study = Study(load_profile(profile, changed), "phantom", artifacts, progress=progress)
        sets = Sets(study)
        stated = about(study, sets, changed, networks)
        stated_by_hand = {"description": "80 distilled images of simulated radiographs"}
        package = folder / "phantom-80-images.zip"
        # nearly copies of the phantom's images, which are no one's
        write_package(package, contents_of(study), stated=stated_by_hand, allow_copies=True)
    finally:
        progress.close()
    write_json(folder / "about.json", stated)
    (folder / "data.js").write_text(script(stated, sets), encoding="utf-8")
    for name, row in stated["sets"].items():
        click.echo(f"{name}: {np.mean(row['library_accuracy']):.3f} by the library's networks")


if __name__ == "__main__":
    main(prog_name="python -m workflow.browser_data")
