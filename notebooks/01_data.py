# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The data
#
# **Question.** What do the networks of this study see, and does anything
# other than the disease give the class away? **Costs** seconds; making the
# phantom takes about ten. **Expect**, on the phantom, four classes, one of
# them nearly half of all images.
#
# The parameter `data` names the source. `phantom` means simulated chest
# radiographs (no patient data), in place of the COVID-19 Radiography Database
# {cite:p}`chowdhury2020,rahman2021`, which may not be shipped with this book.
# The phantom has the database's class names and class proportions. No medical
# conclusion follows from it.

# %% tags=["parameters"]
profile: str = "demo"  # size of the study: smoke, demo, full, real, paper
data: str = "phantom"  # phantom, a folder of images, or an .npz file
out: str = ""  # folder for cached results; empty: build/artifacts
overrides: str = ""  # settings to change, as in --set, with spaces between
examples_per_class: int = 5  # pictures of each class

# %% tags=["hide-input"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("medddist") is None:  # as in Colab
    repository = "<repository>"
    if not repository.startswith("https://") or "/OWNER/" in repository:
        raise ModuleNotFoundError(
            "medddist: not installed, and the address of its repository is"
            " not set in _config.yml; install it from a clone:"
            " pip install path/to/medddist"
        )
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"git+{repository}"], check=True)

from medddist.study.notebooks import open_study, parameters

given = parameters(locals())
study = open_study(given)

# %%
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from medddist import figures
from medddist.figures import lessons

figures.set_style()
dataset = study.data
facts = {"source": dataset.source, "side in px": dataset.image_size_px}
facts |= {"channels": dataset.channels, "fingerprint": dataset.fingerprint}
facts |= {f"note {k}": note for k, note in enumerate(dataset.notes, 1)}
figures.table(pd.DataFrame({"value": facts}), "The data set")

# %% [markdown]
# ## How many images
#
# The test part is scored once, at the end. Every choice is made on
# validation. All images of one patient are in the same part, where the
# source names patients, and so are identical images.

# %%
counts = pd.DataFrame(
    {
        name: part.class_counts(dataset.classes)
        for name, part in dataset.parts().items()
    },
    index=dataset.class_names,
)
figures.table(counts.assign(all=counts.sum(axis=1)), "Images per class")

# %%
most = counts.sum(axis=1).idxmax()
figures.show(
    figures.class_counts(counts),
    "Images per class in the training, validation and test parts;"
    f" {most} is the largest class",
)

# %% [markdown]
# Where classes are not equally frequent, a network can be right often and
# still miss a disease: accuracy alone misleads.

# %% [markdown]
# ## What they look like

# %%
chosen = {
    name.replace("_", " "): dataset.train.images[
        np.flatnonzero(dataset.train.labels == k)[: given.examples_per_class]
    ]
    / 255
    for k, name in enumerate(dataset.class_names)
}
figures.show(
    figures.sheet(chosen, "Training images"),
    "Training images, one row per class",
)

# %% [markdown]
# At this size a lung is a few hundred pixels. The phantom is easier to
# understand at 64 pixels. Its lesions are simulated, so their outlines are
# known.

# %%
from medddist.data.phantom.generate import (
    CLASS_NAMES,
    PhantomSettings,
    make_phantom,
)

phantom = PhantomSettings(images=60, image_size_px=64)
sample = make_phantom(phantom, masks=True)
shown = [
    i
    for k, count in ((0, 2), (1, 1), (3, 1))  # normal: no lesion
    for i in np.flatnonzero(sample.labels == k)[:count]
]
figures.show(
    figures.overlays(
        list(sample.images[shown] / 255),
        {},
        [CLASS_NAMES[sample.labels[i]] for i in shown],
        list(sample.masks[shown]),
    ),
    "Phantom images at 64 pixels with outlines of their lesions",
)

# %% [markdown]
# ## Shortcuts: what predicts the class too easily
#
# If mean brightness differs between classes, a network can score well without
# looking at the lungs. The further apart the boxes are, the better this
# shortcut works.

# %%
means = dataset.train.images.mean((1, 2, 3)) / 255
middle = pd.Series(means).groupby(dataset.train.labels).median()
figures.show(
    figures.brightness(means, dataset.train.labels, dataset.class_names),
    "Box plots of mean brightness by class; the medians lie between"
    f" {middle.min():.2f} and {middle.max():.2f}",
)

# %% [markdown]
# How much is such a shortcut worth? A simple rule gives the answer: a small
# decision tree that sees one number per image, built on training images and
# scored on validation. Where the source of each image is known, a second rule
# sees only the source. If classes come from different sources, distinguishing
# the sources looks like distinguishing diseases: the class is confounded with
# its source, as in the COVID-19 Radiography Database. By default the
# phantom's sites are spread evenly over the classes.


# %%
def rule_score(train, validation):
    """Score a rule that sees one number (N,) per image on validation."""
    rule = DecisionTreeClassifier(max_leaf_nodes=12, class_weight="balanced")
    rule.set_params(random_state=0)
    rule.fit(train[:, None], dataset.train.labels)
    labels = dataset.validation.labels
    return balanced_accuracy_score(labels, rule.predict(validation[:, None]))


seen = {
    "brightness": (means, dataset.validation.images.mean((1, 2, 3)) / 255)
}
if dataset.train.origins is not None:
    seen["the source"] = (dataset.train.origins, dataset.validation.origins)
rules = [
    {"rule": name, "balanced_accuracy": rule_score(*values)}
    for name, values in seen.items()
]
figures.table(
    [{"rule": "guessing", "balanced_accuracy": 1 / dataset.classes}, *rules],
    "What a rule that sees one number scores on validation",
    index="rule",
)

# %% [markdown]
# A network has to be compared with these rules, not with guessing.
#
# ## Exercise
#
# What are the accuracy and the balanced accuracy of a network that always
# predicts the largest class? Compute both for the test part.
#
# ```{admonition} Solution
# :class: dropdown
#
#     labels = dataset.test.labels
#     always = np.full_like(labels, counts.train.argmax())
#     print((labels == always).mean())
#     print(balanced_accuracy_score(labels, always))
#
# The accuracy is the share of the largest class. The balanced accuracy is the
# mean sensitivity: 1 for one class and 0 for all others, divided by the
# number of classes.
# ```
#
# ## Take-away

# %%
lessons.of_data(counts["test"].to_dict(), rules)
