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
# **Question**: what is a set worth of which it is proved how little it says
# about any one patient? **Costs** two minutes in the `demo` profile.
# **Expect** scores that depend little on epsilon, below those of sets without
# a guarantee.
#
# Distilled images that start from real ones stay close to them, as
# [](07_audit.ipynb) shows, and no attack that fails proves anything. A
# guarantee does {cite:p}`dwork2014`. The price is paid in accuracy, and this
# notebook shows how much.
#
# ```{image} ../assets/guarantee.svg
# :alt: Public networks sum up radiographs with noise; images follow from it.
# :width: 100%
# ```
#
# Here the phantom plays the private data. So the public networks must not be
# trained on it: they are random, and images start from smooth noise. On other
# data the networks are trained on the phantom, and images start from phantom
# images, which is worth more.

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
# The guarantee rests on one number: how far a single image can move what is
# released. Sums are of integers, so this can be checked exactly. The next
# cell adds up the first hundred images, then leaves out one. However unusual
# that image is, the sums differ by less than the sensitivity; the noise is
# drawn with a spread in proportion to it.

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
# Sets are made at several epsilons, and networks are trained on each. Lines
# show what has no guarantee: random real images, and the images that the sets
# started from, which have seen nothing private.

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
# Nobody draws these images: they are what public networks see the released
# class means in. They are not radiographs, and are not meant to be looked at.

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
# from the noise.

# %%
pd.Series(stated_guarantee(private), name="stated").astype(str).to_frame()

# %%
start = score["initial images"]
gains = {f"release at epsilon {e:g}": score[e] - start for e in epsilons}
gains["random real images"] = score["random real images"] - start
title = "balanced accuracy above the initial images"
pd.Series(gains, name=title).map("{:+.3f}".format).to_frame()

# %% [markdown]
# **What this means.** Whoever receives the set, and whatever they know or
# will ever know, can hardly tell whether any one patient's images were used.
# At epsilon 1 and delta 0.00001, an observer who thought that it was even
# odds can be sure to about 73 % at most, but for a chance of about one in
# 100,000. It also covers the patient's class.
#
# **What this does not mean.** It does not promise that nothing about the
# *group* is learned: that opacities look the way they do is what the set is
# for. It does not cover what is published beside the set, such as scores or
# a second set: epsilons add up. It does not say that the set is good enough
# for a purpose. And the images of one patient are protected together only
# where the data say which images are theirs.
#
# ## Exercise
#
# Set `distill.extractor_numbers=256` in the first cell (`overrides`). More
# numbers say more of each class, and each gets the same noise. What happens
# at epsilon 0.5, and why? What is measured on real radiographs is on
# [](../guarantee.md).
