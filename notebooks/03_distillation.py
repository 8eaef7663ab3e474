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
# **Shows** how images are learned: a student trained on them for a few steps
# should end where a teacher ended after epochs on the real images. **Costs**
# a few minutes in the `demo` profile, seconds in `smoke`. **Expect** the
# matching loss to fall below 1, the loss of a student that does not move. The
# released set is the candidate with the best score on *validation*.

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
from functools import partial

import pandas as pd
import torch

from medddist import figures
from medddist.base.seeds import generator
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.matching import (
    matching_gradient,
    matching_loss,
    segment,
    unrolled_gradient,
)

figures.set_style()
settings = study.profile.distill
result = study.distillation()
shown = settings.model_dump(exclude={"augmentation"})
pd.Series(shown, name="distillation").astype(str).to_frame()

# %% [markdown]
# ## The loss, once by hand
#
# $L = \lVert \theta_N - \theta^*_{t+M} \rVert^2 / \lVert \theta^*_t -
# \theta^*_{t+M} \rVert^2$. This cell computes it for one student that takes a
# single step on the released images, first by hand, then with the library.
# The two agree.

# %%
network = study.network()
distilled = result.distilled
rows = study.teachers()[0].rows(0, settings.expert_epochs)
start, target = (row.to(distilled.images) for row in rows)
one_step = segment(
    start,
    target,
    distilled.images,
    batch_size=len(distilled.images),
    student_steps=1,
    random=generator("by hand"),
)

theta = start.clone().requires_grad_()
logits = network(theta, distilled.images)
loss = torch.nn.functional.cross_entropy(logits, distilled.targets)
(gradient,) = torch.autograd.grad(loss, theta)
end = start - distilled.step_size * gradient
by_hand = ((end - target) ** 2).sum() / ((start - target) ** 2).sum()
by_library = matching_loss(network, distilled, one_step, NO_AUGMENTATION)
print(f"by hand {by_hand.item():.6f}, by the library {by_library.item():.6f}")
print("without a step: 1")

# %% [markdown]
# ## The gradient, three ways
#
# The library sweeps back over the student's steps and keeps only the
# parameters. One graph through all steps gives the same gradient, but needs
# memory for each step. In float64 the two agree to the last digits. In
# float32 both deviate from it, and more with more steps: rounding moves the
# kink of a ReLU, and later steps amplify this. Finite differences of first
# derivatives with frozen ReLU masks ({eq}`difference`) are faster. Over one
# step they keep half of the digits; over many steps they deviate hardly more
# than float32 does anyway. The page on performance compares their time, and
# the direction of TESLA {cite:p}`cui2023`.


# %%
def image_gradient(method, dtype, steps):
    """The gradient in the released images, flattened, in float64."""
    released = distilled.to(dtype)
    student = segment(
        start.to(dtype),
        target.to(dtype),
        released.images,
        settings.batch_size,
        steps,
        generator("three ways"),
    )
    _, gradients = method(network, released, student, settings.augmentation)
    return gradients["images"].double().flatten()


differences = partial(matching_gradient, way="difference")
methods = {
    "sweep, float64": (matching_gradient, torch.float64),
    "sweep, float32": (matching_gradient, torch.float32),
    "finite differences, float32": (differences, torch.float32),
    "graph, float32": (unrolled_gradient, torch.float32),
}
table = {}
for steps in sorted({1, 5, settings.student_steps}):
    exact = image_gradient(unrolled_gradient, torch.float64, steps)
    table[steps] = {}
    for name, (method, dtype) in methods.items():
        error = image_gradient(method, dtype, steps) - exact
        table[steps][name] = f"{error.norm() / exact.norm():.0e}"
print("relative difference from the graph in float64")
pd.DataFrame.from_dict(table, orient="index").rename_axis("student steps")

# %% [markdown]
# ## The course of the distillation

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
    "Matching loss, learned step size and validation scores by iteration; the"
    f" loss goes from {result.losses[0]:.2f} to {result.losses[-1]:.2f}, and"
    f" iteration {result.selected_iteration} is released",
)

# %% [markdown]
# Every candidate trained fresh networks with the recipe of the final
# evaluation, and these were scored on validation. The test part was not used.

# %%
pd.DataFrame(result.candidates).set_index("iteration").round(4)

# %% [markdown]
# ## Before and after

# %%
per_class = settings.images_per_class
rows = {}
for k, name in enumerate(study.data.class_names):
    members = slice(k * per_class, k * per_class + min(6, per_class))
    initial = result.initial.images[members].cpu().numpy()
    learned = distilled.images[members].cpu().numpy()
    rows[f"{name}\nbefore"] = study.data.pixels(initial)
    rows[f"{name}\nafter"] = study.data.pixels(learned)
figures.show(
    figures.sheet(rows, "Before and after distillation"),
    "Initial and distilled images of each class",
)
