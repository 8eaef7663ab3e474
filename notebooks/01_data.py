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
# **Shows** the images that the study learns from: how many there are of each
# class, what they look like, and how they are split into training, validation
# and test parts. It also shows whether something as simple as brightness or
# source already predicts the class. **Costs** seconds; making the phantom
# takes about ten. **Expect**, on the phantom, four classes of chest
# radiographs, one of them nearly half of all images.
#
# The parameter `data` names the source. `phantom` means simulated chest
# radiographs (no patient data), in place of the COVID-19 Radiography Database
# {cite:p}`chowdhury2020,rahman2021`, which may not be shipped with this book.
# The phantom has the database's class names and class proportions. No medical
# conclusion follows from it.

# %% tags=["parameters"]
profile: str = "demo"  # size of the study: smoke, demo, real or paper
data: str = "phantom"  # phantom, a folder of images, or an .npz file
out: str = ""  # folder for cached results; empty: build/artifacts
overrides: str = ""  # settings to change, as in --set, with spaces between
examples_per_class: int = 8  # pictures of each class

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

from medddist import figures

figures.set_style()
dataset = study.data
size, channels = dataset.image_size_px, dataset.channels
print(f"{dataset.source}: {size} px, {channels} channel(s)")
print(f"fingerprint {dataset.fingerprint}")
print("\n".join(dataset.notes) or "reading found nothing unusual")

# %% [markdown]
# ## How many images
#
# The test part is scored once, at the end. Every choice is made on
# validation. No patient that the source names, and no pair of identical
# images, is in two parts.

# %%
counts = pd.DataFrame(
    {
        name: part.class_counts(dataset.classes)
        for name, part in dataset.parts().items()
    },
    index=dataset.class_names,
)
counts.assign(all=counts.sum(axis=1))

# %%
most = counts.sum(axis=1).idxmax()
figures.show(
    figures.class_counts(counts),
    "Images per class in the training, validation and test parts;"
    f" {most} is the largest class",
)

# %% [markdown]
# A network that always predicts the largest class has the share of that class
# as its accuracy, and one in four as its balanced accuracy. Here is the first
# number computed by hand; the evaluation notebook takes it from the library.

# %%
largest = counts.train.argmax()
share = (dataset.test.labels == largest).mean()
print(f"always {dataset.class_names[largest]}:")
print(f"accuracy {share:.3f} on the test part")

# %% [markdown]
# ## What they look like

# %%
chosen = {
    name: dataset.train.images[
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
# On the phantom the position of the disease is known. The outlines show the
# simulated lesions; normal images have none.

# %%
if given.data == "phantom":
    from medddist.data.phantom.generate import PhantomSettings, make_phantom

    phantom = PhantomSettings(images=200, image_size_px=64)
    sample = make_phantom(phantom, masks=True)
    shown = [
        i for k in (0, 1, 3) for i in np.flatnonzero(sample.labels == k)[:3]
    ]
    picture = figures.overlays(
        list(sample.images[shown] / 255),
        {},
        [dataset.class_names[sample.labels[i]] for i in shown],
        list(sample.masks[shown]),
    )
    caption = "Phantom images at 64 pixels with outlines of their lesions"
    display(figures.show(picture, caption))
else:
    print("this source has no lesion masks")

# %% [markdown]
# ## Shortcuts: what predicts the class too easily
#
# If mean brightness differs between classes, a network can score well without
# looking at the lungs. The wider apart the boxes, the easier this shortcut.

# %%
means = dataset.train.images.mean((1, 2, 3)) / 255
figures.show(
    figures.brightness(means, dataset.train.labels, dataset.class_names),
    "Box plots of mean brightness by class",
)

# %% [markdown]
# If classes come from different sources, distinguishing the sources looks
# like distinguishing diseases: the class is confounded with its source. The
# COVID-19 Radiography Database is such a case, since most of its classes have
# a source of their own. By default the phantom's sites are spread evenly over
# the classes.

# %%
if dataset.train.origins is not None and dataset.origin_names:
    origins = pd.Categorical.from_codes(
        dataset.train.origins, dataset.origin_names
    )
    classes = pd.Categorical.from_codes(
        dataset.train.labels, dataset.class_names
    )
    table = pd.crosstab(classes, origins, normalize="index").round(2)
    table.index.name, table.columns.name = "share of class", "source"
    display(table)
else:
    print("this data set does not name the sources of its images")
