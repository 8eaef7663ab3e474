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
# # Sharing with a guarantee
#
# **Question**: how useful is a distilled set if it is proved that the set
# reveals little about any one patient? **Costs** a few minutes in the `demo`
# profile. **Expect** scores well below that of random real images, which rise
# with epsilon: the phantom has few images here, and the public networks are
# not trained. On real radiographs both are otherwise, and so are the scores
# ([](../guarantee.md)).
#
# Distilled images that start from real ones stay close to them, as
# [](07_audit.ipynb) shows. An attack that finds nothing does not prove that
# they reveal nothing. Differential privacy gives a proof: its epsilon limits
# what any attack can learn {cite:p}`dwork2014`. The price is accuracy, and
# this notebook shows how much.
#
# ```{image} ../assets/guarantee.svg
# :alt: Public networks sum up radiographs with noise; images follow from it.
# :width: 100%
# ```
#
# In this notebook the phantom takes the place of the private data. Public
# networks that are trained on such images would know too much: they are
# random here, images start from smooth noise, and the scale of the features
# comes from other simulated patients. On other data, the networks are trained
# on the phantom and images start from phantom images, which gave better sets
# so far.

# %% tags=["parameters"]
profile: str = "demo"  # size of the study: smoke, demo, real or paper
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
import numpy as np
import pandas as pd

from medddist import figures
from medddist.study.private import public_networks, stated_guarantee

figures.set_style()
epsilons = (0.5, 1.0, 4.0)


def with_epsilon(epsilon):
    """The study whose set has a guarantee with this epsilon."""
    changes = {"distill.method": "private", "distill.epsilon": epsilon}
    return study.with_(study.profile.changed(changes))


studies = {epsilon: with_epsilon(epsilon) for epsilon in epsilons}
private = studies[1.0]
public = public_networks(private)
pd.Series(
    {
        "public networks": len(public.thetas),
        "numbers of each image": public.projections[0].shape[1]
        * len(public.thetas),
        "largest length of these numbers": round(public.clip, 1),
        "training images": len(private.data.train.labels),
    },
    name="what is added up",
).to_frame()

# %% [markdown]
# ## One image more or less
#
# The guarantee rests on one number, the *sensitivity*: the most by which a
# single image can change the released sums. The sums are integers, so this
# can be checked exactly. The next cell adds up the first hundred images, with
# and without the first, whose features are replaced by extreme values. Even
# then the sums differ by at most the sensitivity. The standard deviation of
# the noise is proportional to it.

# %%
from medddist.method.private.release import (
    SENSITIVITY,
    clipped_sums,
    noise_scale,
)

images, labels = (part[:100] for part in private.tensors("train"))
features, classes = public.one_by_one(images), private.data.classes
features[0] = 1e30  # an image as unusual as can be
units = np.arange(len(features))


def sums_of(rows):
    """Sums of some of the images, in integers."""
    parts = features[rows], labels.numpy()[rows], units[rows]
    return clipped_sums(*parts, classes, public.clip)


moved = sums_of(slice(0, None)) - sums_of(slice(1, None))
distance = np.sqrt((moved.astype(float) ** 2).sum()) / SENSITIVITY
assert distance <= 1
spreads = {e: noise_scale(e, 1e-5) / SENSITIVITY for e in epsilons}
rows = {"one image": distance}
rows |= {f"noise at epsilon {e:g}": spread for e, spread in spreads.items()}
pd.Series(rows, name="in units of the sensitivity").round(2).to_frame()

# %% [markdown]
# ## What is it worth?
#
# Sets are made at several epsilons, and networks are trained on each. The
# lines show two other sets: random real images, which have no guarantee, and
# the initial images, which were made without the private data.

# %%
rows = []
for epsilon, one in studies.items():
    scored = one.scored("distilled").scores
    rows.append({"name": "with a guarantee", "epsilon": epsilon, **scored})
lines = {
    "random real images": private.scored("random_balanced").scores,
    "initial images": private.scored("initial").scores,
}
metric = "balanced_accuracy"
score = {row["epsilon"]: row[metric]["mean"] for row in rows}
score |= {name: line[metric]["mean"] for name, line in lines.items()}
alt = "; ".join(f"{name}: {value:.3f}" for name, value in score.items())
figures.show(
    figures.guarantee(rows, lines, metric),
    f"Balanced accuracy on test, by epsilon and of other sets: {alt}",
)

# %% [markdown]
# ## The images
#
# The initial images were changed until the public networks' mean features in
# each class came close to the released class means. The results are not
# radiographs, and nobody should read them as such.

# %%
result = private.distillation()
per_class = private.profile.distill.images_per_class
shown = [k * per_class + j for k in range(classes) for j in range(2)]
pictures = {
    name: list(private.data.pixels(images[shown].cpu().numpy()))
    for name, images in (
        ("initial", result.initial.images),
        ("with a guarantee", result.distilled.images),
    )
}
names = [private.data.class_names[k // per_class] for k in shown]
figures.show(
    figures.sheet(pictures, columns=[n.replace("_", " ") for n in names]),
    "Public initial images, and images with a guarantee made from them",
)

# %% [markdown]
# ## What is promised
#
# A package states the guarantee, and `medddist verify` computes epsilon again
# from the stated noise.

# %%
pd.Series(stated_guarantee(private), name="stated").astype(str).to_frame()

# %%
start = score["initial images"]
gains = {f"release at epsilon {e:g}": score[e] - start for e in epsilons}
gains["random real images"] = score["random real images"] - start
title = "balanced accuracy above the initial images"
pd.Series(gains, name=title).map("{:+.3f}".format).to_frame()

# %% [markdown]
# **What this means.** Whoever receives the set can hardly tell whether any
# one patient's images were used, whatever else they know or will ever know.
# Suppose an observer considers it an even chance. At epsilon 1 and delta
# 0.00001, the set makes the observer at most about 75 % sure, but for a
# chance of about one in 100,000. The class of the patient is protected in the
# same way.
#
# **What this does not mean.** What is learned about the *group* is not
# protected: the set is meant to show what opacities look like. What is
# published beside the set, such as scores, is not covered, and the epsilon of
# a second set adds to that of the first. The set is not promised to be good
# enough for a purpose. And the images of one patient are protected together
# only where the data say which images belong to one patient.
#
# ## Exercise
#
# Set `distill.extractor_numbers=256` in the first cell (`overrides`). More
# numbers describe each class in more detail, but each number gets the same
# noise. What happens at epsilon 0.5, and why? The results on real radiographs
# are in [](../guarantee.md).
