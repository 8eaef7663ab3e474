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
# **Shows** each distilled image beside the image it started from and another real one of its class, their change over the iterations, and where a
# network trained on them looks, against one trained on all images. **Costs** seconds once the distillation is there. **Expect** images
# that still resemble their start: what that gives away about the patient is a question of its own, and looking is no answer to it.

# %% tags=["parameters"]
profile: str = "demo"  # smoke, demo, real or paper: how large the study is
data: str = (
    "phantom"  # phantom, a radiography folder, a folder of class folders, or a MedMNIST-style .npz
)
out: str = ""  # folder for what is computed; "" is build/artifacts of the clone
overrides: str = ""  # settings to change in the profile: name and value joined by an equals sign, separated by spaces
examples_per_class: int = 5  # pictures of each class

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
import torch

from medddist import figures
from medddist.measure.saliency import grad_cam
from medddist.method.evaluate import trained_networks

figures.set_style()
dataset, result, settings = study.data, study.distillation(), study.profile.distill
shown = min(given.examples_per_class, settings.images_per_class)

# %%
rows = {}
for k, name in enumerate(dataset.class_names):
    members = slice(k * settings.images_per_class, k * settings.images_per_class + shown)
    rows[f"{name}\nstarted from"] = dataset.pixels(result.initial.images[members].cpu().numpy())
    rows["distilled"] = dataset.pixels(result.distilled.images[members].cpu().numpy())
    rows["another real one"] = (
        dataset.train.images[np.flatnonzero(dataset.train.labels == k)[-shown:]] / 255
    )
    picture = figures.sheet(rows)
    display(
        figures.show(picture, f"{name}: images started from, distilled images, other real images")
    )
    rows = {}

# %% [markdown]
# ## How far each image moved

# %%
change = (result.distilled.images - result.initial.images).cpu()
if settings.initial_images == "real":
    print(
        f"mean absolute change {change.abs().mean():.3f} standard deviations of a pixel; largest {change.abs().max():.2f}"
    )
    rows = {
        name: (
            0.5
            + 0.25 * change[k * settings.images_per_class : k * settings.images_per_class + shown]
        )
        .clamp(0, 1)
        .numpy()
        for k, name in enumerate(dataset.class_names)
    }
    display(
        figures.show(
            figures.sheet(rows, "Distilled minus start (grey: unchanged)"),
            "Difference of distilled and initial images",
        )
    )

# %% [markdown]
# ## Over the iterations
#
# Every candidate, from the start to the last.

# %%
frames = {
    iteration: dataset.pixels(images.numpy()) for iteration, images in result.pictures.items()
}
figures.animation(
    frames, f"Animation of the distilled images at iterations {', '.join(map(str, frames))}"
)

# %% [markdown]
# ## Where networks look
#
# Grad-CAM {cite:p}`selvaraju2017` on test images: a student trained on the distilled images, and a teacher at its last snapshot.
# At 32 px the map of the last block has few pixels: it says which region counts, no more.

# %%
network = study.network()
recipe = study.profile.evaluate.recipe.model_copy(
    update={"learning_rate": result.distilled.step_size.item()}
)
(student,) = trained_networks(
    network, result.distilled.images, result.distilled.targets, recipe, 1, ("saliency",)
)
teacher = study.teachers()[0]
(taught,) = (row.to(study.device) for row in teacher.rows(teacher.snapshots - 1))

chosen = np.concatenate(
    [np.flatnonzero(dataset.test.labels == k)[:2] for k in range(dataset.classes)]
)
images, labels = (
    tensor[torch.from_numpy(chosen).to(study.device)] for tensor in study.tensors("test")
)
maps = {
    name: list(grad_cam(network.loaded(theta), images, labels).cpu().numpy())
    for name, theta in (("student", student), ("teacher", taught))
}
names = [dataset.class_names[k] for k in dataset.test.labels[chosen]]
picture = figures.overlays(list(dataset.test.images[chosen] / 255), maps, names)
figures.show(picture, "Grad-CAM heat maps of a student and a teacher over test images")
