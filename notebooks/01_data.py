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
# **Shows** what the study learns from: how many images of each class, what they look like, how they were dealt into training,
# validation and test parts, and whether something as dull as brightness or origin already gives the class away.
# **Costs** seconds; making the phantom takes about ten. **Expect**, of the phantom, four classes of chest radiographs, one of them nearly half of all.
#
# The source is the parameter `data`. With `phantom` it is made by calculation: chest radiographs of no patient, in place of the COVID-19
# Radiography Database {cite:p}`chowdhury2020,rahman2021`, which may not be shipped with this book. The phantom's classes have the database's
# names and balance, and nothing medical follows from it.

# %% tags=["parameters"]
profile: str = "demo"  # smoke, demo, real or paper: how large the study is
data: str = (
    "phantom"  # phantom, a radiography folder, a folder of class folders, or a MedMNIST-style .npz
)
out: str = ""  # folder for what is computed; "" is build/artifacts of the clone
overrides: str = ""  # settings to change in the profile: name and value joined by an equals sign, separated by spaces
examples_per_class: int = 8  # pictures of each class

# %% tags=["hide-input"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("medddist") is None:  # as in Colab
    repository = "<repository>"
    if not repository.startswith("https://") or "/OWNER/" in repository:
        raise ModuleNotFoundError(
            "medddist: is not installed, and the address of its repository is"
            " not set in _config.yml; install it from a copy of the repository:"
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
print(
    f"{dataset.source}: {dataset.image_size_px} px, {dataset.channels} channel(s), fingerprint {dataset.fingerprint}"
)
print("\n".join(dataset.notes) or "nothing unusual was noted while reading")

# %% [markdown]
# ## How many
#
# The test part is scored once, at the end; everything that is chosen is chosen on validation. No patient that the source names, and no pair of identical
# images, is in two parts.

# %%
counts = pd.DataFrame(
    {name: part.class_counts(dataset.classes) for name, part in dataset.parts().items()},
    index=dataset.class_names,
)
counts.assign(all=counts.sum(axis=1))

# %%
figures.show(
    figures.class_counts(counts),
    "Bars: images of each class in the training, validation and test parts",
)

# %% [markdown]
# A network that always answers with the largest class reaches that class's share in plain accuracy, and one in four in balanced
# accuracy. Here is the first number by hand; the evaluation notebook has it from the library.

# %%
largest = counts.train.argmax()
print(
    f"always {dataset.class_names[largest]}: accuracy {(dataset.test.labels == largest).mean():.3f} on the test part"
)

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
figures.show(figures.sheet(chosen, "Training images"), "Training images, a row for each class")

# %% [markdown]
# Of a phantom it is known where the disease is. The outlines are the lesions that were put in; normal images have none.

# %%
if given.data == "phantom":
    from medddist.data.phantom.generate import PhantomSettings, make_phantom

    sample = make_phantom(PhantomSettings(images=200, image_size_px=64), masks=True)
    shown = [i for k in (0, 1, 3) for i in np.flatnonzero(sample.labels == k)[:3]]
    picture = figures.overlays(
        list(sample.images[shown] / 255),
        {},
        [dataset.class_names[sample.labels[i]] for i in shown],
        list(sample.masks[shown]),
    )
    display(
        figures.show(
            picture, "Phantom images at 64 pixels with the outlines of the lesions that were put in"
        )
    )
else:
    print("no lesion masks with this source")

# %% [markdown]
# ## What gives the class away too easily
#
# If mean brightness differed between classes, a network could win without looking at the lungs.

# %%
means = dataset.train.images.mean((1, 2, 3)) / 255
figures.show(
    figures.brightness(means, dataset.train.labels, dataset.class_names),
    "Box plots of mean brightness by class",
)

# %% [markdown]
# And if classes came from different places, telling the places apart would look like telling diseases apart. In the COVID-19 Radiography
# Database that is so: most classes have a source to themselves. The phantom's default has its sites spread evenly over the classes.

# %%
if dataset.train.origins is not None and dataset.origin_names:
    origins = pd.Categorical.from_codes(dataset.train.origins, dataset.origin_names)
    classes = pd.Categorical.from_codes(dataset.train.labels, dataset.class_names)
    table = pd.crosstab(classes, origins, normalize="index").round(2)
    table.index.name, table.columns.name = "share of class", "origin"
    display(table)
else:
    print("this source does not say where its images come from")
