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
# # What the distilled images look like
#
# **Question.** What has distillation written into the images, how far have
# they moved from the images that they started from, and where do networks
# trained on them look? **Costs** seconds if the distillation is cached.
# **Expect** images that still resemble their initial images. What this
# reveals about patients is a separate question, which looking at images
# cannot answer.

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
import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

from medddist import figures
from medddist.baselines.distribution_matching import all_features
from medddist.figures import lessons
from medddist.measure.saliency import grad_cam
from medddist.method.evaluate import trained_networks
from medddist.method.training import predict

figures.set_style()
dataset, result = study.data, study.distillation()
settings, released = study.profile.distill, result.distilled
names, per_class = dataset.class_names, settings.images_per_class
classes = np.repeat(np.arange(dataset.classes), per_class)
lessons.of_method(settings)

# %% [markdown]
# ## All images
#
# This is the whole set that would be sent, with its labels and one number,
# the step size.

# %%
soft = released.targets.cpu().numpy() if settings.labels != "hard" else None
pixels = dataset.pixels(released.images.cpu().numpy())
figures.labelled_sheet(pixels, classes, names, soft)

# %% [markdown]
# ## Over the iterations
#
# Move the slider, with the mouse or the arrow keys, from the initial images
# (left) to the last candidate (right).
# Rows are in the order of the classes above.

# %%
frames = {
    iteration: dataset.pixels(images.numpy())
    for iteration, images in result.pictures.items()
}
metric = settings.selection_metric
scores = {row["iteration"]: row.get(metric) for row in result.candidates}
texts = {
    iteration: f"{iteration}, {figures.words(metric)} {score:.3f}"
    if score is not None
    else f"{iteration}"
    for iteration, score in scores.items()
}
figures.slider(frames, texts, "Distilled images", per_class)

# %% [markdown]
# The score is that of the candidate on validation. What the first and the
# last frame share comes from the initial images; what differs was learned.
#
# ## How far each image moved

# %%
learned = released.images.cpu().flatten(1)
initial = result.initial.images.cpu().flatten(1)
change = (learned - initial).abs().mean(1).numpy()  # standard deviations
nearest = torch.cdist(learned, initial).argmin(1).numpy()
is_own = nearest == np.arange(len(classes))
figures.table(
    pd.DataFrame({"class": [names[k] for k in classes], "change": change})
    .assign(own=is_own)
    .groupby("class", sort=False)
    .agg(
        images=("own", "size"),
        nearest_to_their_own_start=("own", "sum"),
        mean_change=("change", "mean"),
        largest_change=("change", "max"),
    ),
    "Change of a pixel, in standard deviations, averaged over an image",
)

# %% [markdown]
# ## What a network sees
#
# t-SNE {cite:p}`vandermaaten2008` draws real, initial and distilled images so
# that those with similar features lie close together. The features are those
# of a teacher at its last snapshot. Distances between groups mean nothing.
# What matters is which images lie close together.

# %%
teacher, network = study.teachers()[0], study.network()
(last,) = (
    row.to(study.device) for row in teacher.rows(teacher.snapshots - 1)
)
images, targets = study.tensors("train")
some = np.concatenate(
    [
        np.flatnonzero(dataset.train.labels == k)[:50]
        for k in range(len(names))
    ]
)
sets = {
    "real": images[torch.from_numpy(some).to(study.device)],
    "initial": result.initial.images,
    "distilled": released.images,
}
features = {
    name: all_features(network, last, part) for name, part in sets.items()
}
places = TSNE(random_state=0).fit_transform(np.vstack([*features.values()]))
ends = np.cumsum([len(part) for part in sets.values()])[:-1]
points = dict(zip(sets, np.split(places, ends)))
real_labels = dataset.train.labels[some]
labels = {"real": real_labels, "initial": classes, "distilled": classes}

near = KNeighborsClassifier(5).fit(features["real"], real_labels)
known = {
    name: near.score(features[name], classes)
    for name in ("initial", "distilled")
}
figures.show(
    figures.embedding(points, labels, names),
    "t-SNE of real, initial and distilled images in a teacher's features; the"
    f" nearest real images have the class of {known['initial']:.0%} of the"
    f" initial and {known['distilled']:.0%} of the distilled images",
)

# %% [markdown]
# Each line leads from an initial image to the distilled image made from it.
# Where distilled images leave the region of real ones, they show a network
# more of a class than any real image does.
#
# ## Where networks look
#
# Grad-CAM {cite:p}`selvaraju2017` marks what raises the logit of an image's
# class, for a network trained on the distilled images and for a teacher. It
# keeps positive evidence only. A map can be empty even where a network is
# right: then no region raises the logit of the class, and it is still the
# highest. The images here are, where possible, ones that both networks
# classify correctly. At 32 px the map has few pixels: it shows a region,
# nothing finer.

# %%
recipe = study.profile.evaluate.recipe.model_copy(
    update={"learning_rate": released.step_size.item()}
)
(student,) = trained_networks(
    network, released.images, released.targets, recipe, 1, ("saliency",)
)
thetas = {"distilled": student, "teacher": last}
images, targets = study.tensors("test")
right = torch.stack(
    [
        predict(network, t, images).argmax(1) == targets
        for t in thetas.values()
    ]
)
order = torch.argsort(-right.sum(0), stable=True)  # both right come first
chosen = torch.stack(
    [order[targets[order] == k][0] for k in range(dataset.classes)]
)
maps = {
    name: list(
        grad_cam(network.loaded(theta), images[chosen], targets[chosen])
        .cpu()
        .numpy()
    )
    for name, theta in thetas.items()
}
pictures = list(dataset.test.images[chosen.cpu().numpy()] / 255)
both = int(right.all(0)[chosen].sum())
figures.show(
    figures.overlays(pictures, maps, names),
    "Grad-CAM heat maps over one test image per class, for a network trained"
    f" on distilled images and for a teacher; both are right in {both} of"
    f" {len(chosen)}",
)

# %% [markdown]
# ## Exercise
#
# Comparing pixels is one way to find the initial image of a distilled image.
# Is each distilled image also nearest to its own initial image in the
# teacher's features?
#
# ```{admonition} Solution
# :class: dropdown
#
#     apart = np.linalg.norm(
#         features["distilled"][:, None] - features["initial"], axis=2
#     )
#     print((apart.argmin(1) == np.arange(len(classes))).mean())
#
# Features and pixels need not agree: the loss changes an image through its
# features. A search for the initial image has to try both.
# ```
#
# ## Take-away

# %%
lessons.of_images(is_own.sum(), change.mean(), known, len(classes))
