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
# **Shows** each distilled image beside its initial image and another real
# image of its class, and how the images change over the iterations. It also
# shows where a network trained on them looks, compared with one trained on
# all images. **Costs** seconds if the distillation is cached. **Expect**
# images that still resemble their initial images. What this reveals about
# patients is a separate question, and looking at images cannot answer it.

# %% tags=["parameters"]
profile: str = "demo"  # size of the study: smoke, demo, real or paper
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
import torch

from medddist import figures
from medddist.measure.saliency import grad_cam
from medddist.method.evaluate import trained_networks

figures.set_style()
dataset, result = study.data, study.distillation()
settings = study.profile.distill
per_class = settings.images_per_class
shown = min(given.examples_per_class, per_class)

# %%
for k, name in enumerate(dataset.class_names):
    members = slice(k * per_class, k * per_class + shown)
    initial = result.initial.images[members].cpu().numpy()
    learned = result.distilled.images[members].cpu().numpy()
    others = np.flatnonzero(dataset.train.labels == k)[-shown:]
    rows = {
        f"{name}\ninitial": dataset.pixels(initial),
        "distilled": dataset.pixels(learned),
        "another real image": dataset.train.images[others] / 255,
    }
    caption = f"{name}: initial images, distilled images, other real images"
    display(figures.show(figures.sheet(rows), caption))

# %% [markdown]
# ## How far each image moved

# %%
change = (result.distilled.images - result.initial.images).cpu()
if settings.initial_images == "real":
    mean, largest = change.abs().mean(), change.abs().max()
    print(f"mean absolute change of a pixel: {mean:.3f} standard deviations")
    print(f"largest: {largest:.2f}")
    rows = {
        name: (0.5 + 0.25 * change[k * per_class : k * per_class + shown])
        .clamp(0, 1)
        .numpy()
        for k, name in enumerate(dataset.class_names)
    }
    sheet = figures.sheet(rows, "Distilled minus initial (grey: unchanged)")
    caption = (
        "Difference of distilled and initial images; the mean absolute change"
        f" is {mean:.2f} standard deviations of a pixel"
    )
    display(figures.show(sheet, caption))

# %% [markdown]
# ## Over the iterations
#
# The animation shows every candidate, from the first to the last.

# %%
frames = {
    iteration: dataset.pixels(images.numpy())
    for iteration, images in result.pictures.items()
}
iterations = ", ".join(map(str, frames))
figures.animation(
    frames, f"Animation of the distilled images at iterations {iterations}"
)

# %% [markdown]
# ## Where networks look
#
# Grad-CAM {cite:p}`selvaraju2017` on test images, for a network trained on
# the distilled images and for a teacher at its last snapshot. At 32 px the
# map of the last block has few pixels. It shows which region matters, nothing
# finer.

# %%
network = study.network()
recipe = study.profile.evaluate.recipe.model_copy(
    update={"learning_rate": result.distilled.step_size.item()}
)
released = result.distilled
(student,) = trained_networks(
    network, released.images, released.targets, recipe, 1, ("saliency",)
)
teacher = study.teachers()[0]
(last,) = (
    row.to(study.device) for row in teacher.rows(teacher.snapshots - 1)
)

labels = dataset.test.labels
chosen = np.concatenate(
    [np.flatnonzero(labels == k)[:2] for k in range(dataset.classes)]
)
rows = torch.from_numpy(chosen).to(study.device)
images, targets = (tensor[rows] for tensor in study.tensors("test"))
maps = {
    name: list(grad_cam(network.loaded(theta), images, targets).cpu().numpy())
    for name, theta in (("distilled", student), ("teacher", last))
}
names = [dataset.class_names[k] for k in labels[chosen]]
pictures = list(dataset.test.images[chosen] / 255)
figures.show(
    figures.overlays(pictures, maps, names),
    "Grad-CAM heat maps over test images, for a network trained on distilled"
    " images and for a teacher",
)
