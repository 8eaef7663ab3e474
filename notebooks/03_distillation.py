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
# # The distillation
#
# **Shows** images being learned: a student trained on them for a few steps is to end where a teacher ended after epochs on the real
# images. **Costs** a few minutes in the `demo` profile, seconds in `smoke`. **Expect** the matching loss to fall well below 1, the loss of a
# student that stays where it is, and the released set to be the candidate that did best on *validation*.

# %% tags=["parameters"]
profile: str = "demo"  # smoke, demo, real or paper: how large the study is
data: str = (
    "phantom"  # phantom, a radiography folder, a folder of class folders, or a MedMNIST-style .npz
)
out: str = ""  # folder for what is computed; "" is build/artifacts of the clone
overrides: str = ""  # settings to change in the profile: name and value joined by an equals sign, separated by spaces

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
from functools import partial

import pandas as pd
import torch

from medddist import figures
from medddist.base.seeds import generator
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.matching import matching_gradient, matching_loss, segment, unrolled_gradient

figures.set_style()
settings = study.profile.distill
result = study.distillation()
pd.Series(settings.model_dump(exclude={"augmentation"}), name="distillation").astype(str).to_frame()

# %% [markdown]
# ## The loss, once by hand
#
# $L = \lVert \theta_N - \theta^*_{t+M} \rVert^2 / \lVert \theta^*_t - \theta^*_{t+M} \rVert^2$: here for one student that takes a single
# step on the released images, first written out, then by the library.

# %%
network = study.network()
one = result.distilled
start, target = (row.to(one.images) for row in study.teachers()[0].rows(0, settings.expert_epochs))
run = segment(
    start,
    target,
    one.images,
    batch_size=len(one.images),
    student_steps=1,
    random=generator("by hand"),
)

theta = start.clone().requires_grad_()
(gradient,) = torch.autograd.grad(
    torch.nn.functional.cross_entropy(network(theta, one.images), one.targets), theta
)
arrived = start - one.step_size * gradient
by_hand = ((arrived - target) ** 2).sum() / ((start - target) ** 2).sum()
by_library = matching_loss(network, one, run, NO_AUGMENTATION)
print(f"by hand {by_hand.item():.6f}, by the library {by_library.item():.6f}, without a step 1")

# %% [markdown]
# ## The gradient, three ways
#
# The library sweeps back over the student's steps and keeps parameters
# alone; one graph through all steps gives the same gradient and needs memory
# for each of them. In float64 the two agree to the last digits. In float32
# both deviate from it, the more so the more steps: rounding moves a ReLU's
# kink, and later steps amplify it. Finite differences of first derivatives
# with frozen ReLUs ({eq}`difference`) are faster: over one step they keep
# half of the digits, over many they deviate hardly more than float32 does
# anyway. The page on performance compares their time, and TESLA's direction
# {cite:p}`cui2023`.


# %%
def image_gradient(of, dtype, steps):
    released = one.to(dtype)
    along = segment(
        start.to(dtype),
        target.to(dtype),
        released.images,
        settings.batch_size,
        steps,
        generator("three ways"),
    )
    return of(network, released, along, settings.augmentation)[1]["images"].double().flatten()


rows = {}
for steps in sorted({1, 5, settings.student_steps}):
    exact = image_gradient(unrolled_gradient, torch.float64, steps)
    apart = lambda found: f"{(found - exact).norm() / exact.norm():.0e}"  # noqa: B023
    rows[steps] = {
        "sweep, float64": apart(image_gradient(matching_gradient, torch.float64, steps)),
        "sweep, float32": apart(image_gradient(matching_gradient, torch.float32, steps)),
        "differences, float32": apart(
            image_gradient(partial(matching_gradient, way="difference"), torch.float32, steps)
        ),
        "graph, float32": apart(image_gradient(unrolled_gradient, torch.float32, steps)),
    }
print("relative difference to the graph in float64")
pd.DataFrame.from_dict(rows, orient="index").rename_axis("student steps")

# %% [markdown]
# ## How it went

# %%
picture = figures.distillation_course(
    result.losses.numpy(),
    result.step_sizes.numpy(),
    result.candidates,
    result.selected_iteration,
    settings.selection_metric,
)
figures.show(
    picture,
    "Matching loss, learned step size and validation scores over the iterations of the distillation",
)

# %% [markdown]
# Every candidate trained fresh networks by the recipe of the final evaluation, scored on validation. The test part was not looked at.

# %%
pd.DataFrame(result.candidates).set_index("iteration").round(4)

# %% [markdown]
# ## Before and after

# %%
per_class = min(6, settings.images_per_class)
rows = {}
for k, name in enumerate(study.data.class_names):
    members = slice(k * settings.images_per_class, k * settings.images_per_class + per_class)
    rows[f"{name}\nbefore"] = study.data.pixels(result.initial.images[members].cpu().numpy())
    rows[f"{name}\nafter"] = study.data.pixels(result.distilled.images[members].cpu().numpy())
figures.show(
    figures.sheet(rows, "Before and after distillation"),
    "Initial and distilled images of each class",
)
