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
# # What the distilled images reveal
#
# **Question.** Can somebody who has the distilled images tell which real
# images they were made from? **Costs** a minute in the `demo` profile, most
# of it for networks that an attack trains. **Expect** nearly every
# distilled image to be nearest to the real image that it started from. The
# attack here is a quick one: it may find none of these images even where a
# longer one finds some ([](../leakage.md)).

# %% tags=["parameters"]
profile: str = "demo"  # size of the study: smoke, demo, full, real, paper
data: str = "phantom"  # phantom, a folder of images, or an .npz file
out: str = ""  # folder for cached results; empty: build/artifacts
overrides: str = ""  # settings to change, as in --set, with spaces between

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
from medddist import figures
from medddist.figures import findings
from medddist.leaks.audit import audit, broken, nearest

figures.set_style()
settings, seed = study.profile.audit, study.profile.seeds[0]
found = audit(study)
closest = findings.nearest_sentence(found["neighbours"]["pixels"])
figures.conclusion(closest, "The finding that matters most")

# %% [markdown]
# ## Nearest neighbours
#
# Here is one distilled image of each class. Below it are the nearest training
# image and the nearest unseen image,
# which no network was trained on.

# %%
result = study.distillation()
near = nearest(study, result, seed)["pixels"]
per_class = study.profile.distill.images_per_class
shown = [k * per_class for k in range(study.data.classes)]
train, test = study.data.train.images, study.data.test.images
images = result.distilled.images[shown].cpu()
rows = {
    "distilled": study.data.pixels(images.numpy()),
    "training": train[near.nearest_training[shown].numpy()] / 255,
    "unseen": test[near.nearest_unseen[shown].numpy()] / 255,
}
names = [figures.words(name) for name in study.data.class_names]
figures.show(figures.sheet(rows, columns=names), closest)

# %% [markdown]
# An image that stays close to a patient's image may show that patient,
# however unusual it looks.
#
# The table has medians over the set. Distances are root mean squares, over
# pixels and over a teacher's features; neither is what a radiologist sees.
# Training and unseen images are compared in equal numbers: if the set
# revealed nothing else, each would be the nearer one half of the time.

# %%
distances = findings.nearest_rows(found["neighbours"])
figures.table(
    distances, "Distance of distilled images", index="measured over"
)

# %% [markdown]
# ## Membership
#
# A stronger observer attacks. The attack trains networks on the distilled
# images, and asks how confident they are of the class of a real image. From
# this it subtracts the confidence of networks that were trained on unrelated
# images {cite:p}`watson2022,carlini2022lira`. An image counts as found if it
# scores higher than all but a small share of unseen images.
#
# An attack needs two controls:
#
# - **Positive**: networks trained on real images. The attack must find these
#   images, or it is too weak to be informative.
# - **Negative**: unseen images other than those that set the threshold. The
#   attack must find them no more often than by chance.

# %%
attacks, rate = found["membership"], settings.false_positives
told = findings.audit_sentences(attacks, broken(found), rate)
figures.show(figures.membership(attacks, rate), " ".join(told))

# %% [markdown]
# Points right of the grey bar, or right of the dashed line, are found more
# often than by chance.

# %%
figures.table(
    findings.audit_rows(attacks), "What the attack finds", index="images"
)

# %% [markdown]
# :::{admonition} A stronger attack
# :class: dropdown
#
# LiRA compares an image's score with its scores under shadow sets, which were
# distilled from random halves of the data without this image. The setting
# `audit.shadows` turns it on. It needs dozens of shadows: two did not find
# the positive control here. [](../leakage.md) has a long audit with 32.
# :::
#
# An attack that finds nothing is no proof: a stronger one may find more.
# Only differential privacy gives a guarantee ([](09_guarantee.ipynb)).
#
# ## Exercises
#
# **1.** Compute the distance between the first distilled image and its
# initial image by hand. Does the library agree (`near.start[0]`)?
#
# :::{admonition} Solution
# :class: dropdown
#
# ```python
# image = result.distilled.images[0]
# start = study.tensors("train")[0][result.initial_indices[0]]
# (image - start).square().mean().sqrt(), near.start[0]
# ```
#
# Both numbers are the same. Pixels are standardised: 1 is the standard
# deviation of all pixels.
# :::
#
# **2.** Start from noise instead of real images:
# `overrides="distill.initial_images=noise"`. What can the attack still find,
# and how does the accuracy change?
#
# :::{admonition} Solution
# :class: dropdown
#
# No image is near a real one any more, and there are no initial images to
# find. What remains to be attacked is what the pixels learned from all
# training images. The price is accuracy: [](../leakage.md) shows both for
# several ways to start.
# :::
#
# ## Take-away

# %%
figures.conclusion([closest, *told])
