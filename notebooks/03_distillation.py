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
# **Question.** How can images be learned so that a network trained on them
# ends where a network trained on all real images ends? This is trajectory
# matching {cite:p}`cazenavette2022`, the method of the poster
# {cite:p}`li2022dataset`. **Costs** a few minutes in the `demo` profile,
# seconds in `smoke`. **Expect** a loss that falls, and a released set that
# was selected on *validation*.

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
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from medddist import figures
from medddist.base.seeds import generator
from medddist.figures import lessons
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.distilled import Distilled
from medddist.method.matching import matching_gradient, matching_loss, segment
from medddist.method.networks import (
    NetworkSettings,
    initial_parameters,
)

figures.set_style()
settings = study.profile.distill
lessons.of_method(settings)

# %% [markdown]
# ## Trajectory matching in fifteen lines
#
# A teacher trains on real images. Its parameters after epoch $t$,
# $\theta^*_t$, and $M$ epochs later, $\theta^*_{t+M}$, are kept. A student
# starts at $\theta^*_t$ and takes $N$ steps of gradient descent on a few
# learnable images. The loss is how far it ends from the teacher, relative to
# how far the teacher went:
#
# $$L = \frac{\lVert \theta_N - \theta^*_{t+M} \rVert^2}
# {\lVert \theta^*_t - \theta^*_{t+M} \rVert^2}$$
#
# Automatic differentiation goes back through all steps of the student to its
# images. A tiny network and 64 real images suffice to show it.

# %%
network = study.network(NetworkSettings(width=4, depth=2))
real, labels = (part[:64] for part in study.tensors("train"))


def descend(theta, x, y, rate, steps):
    """Take steps of gradient descent that autograd can go back through."""
    for _ in range(steps):
        loss = cross_entropy(network(theta, x), y)
        (slope,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - rate * slope
    return theta


start = initial_parameters(network, "tiny teacher").to(real).requires_grad_()
target = descend(start, real, labels, rate=0.1, steps=10).detach()
few = real[:16].clone().requires_grad_()  # the learnable images
end = descend(start, few, labels[:16], rate=0.1, steps=5)
loss = (end - target).square().sum() / (start - target).square().sum()
(gradient,) = torch.autograd.grad(loss, few, retain_graph=True)

# %% [markdown]
# Without a step the loss would be 1; below 1 the student has come nearer to
# the teacher, above 1 it went elsewhere. `gradient` says how to change each
# pixel so that the student ends nearer; descending along it, for many
# teachers and starts, is the whole method.
#
# The library must give the same numbers. It does not keep one graph of all
# steps, whose memory grows with $N$, but sweeps back over the steps and keeps
# only the parameters ([method](../method)). In float32 the two differ by
# rounding.

# %%
rate = torch.tensor(0.1, device=real.device)
tiny = Distilled(few.detach(), labels[:16], rate.log())
fixed = start.detach(), target, tiny.images
student = segment(*fixed, 16, 5, generator("tiny student"))
value, gradients = matching_gradient(network, tiny, student, NO_AUGMENTATION)
difference = (gradients["images"] - gradient).norm() / gradient.norm()
assert difference < 0.01
norms = [g.norm().item() for g in (gradient, gradients["images"])]
agreement = pd.DataFrame(
    {"loss": [loss.item(), value], "norm of the gradient": norms},
    index=["by hand", "by the library"],
)
figures.table(agreement, "The same loss and gradient", digits=6)

# %% [markdown]
# ## The loss on real images
#
# `distill.method=real_loss` {cite:p}`feng2024` judges the student by another
# measure when it has taken its steps: not by its distance from a teacher, but
# by its loss on real images. No teacher limits what the images can teach, and
# the gradient goes back through the last steps only, which is cheaper.

# %%
real_loss = cross_entropy(network(end, real), labels)
(other,) = torch.autograd.grad(real_loss, few)
cosine = torch.cosine_similarity(gradient.flatten(), other.flatten(), 0)
questions = pd.DataFrame(
    {
        "value": [loss.item(), real_loss.item()],
        "norm of the gradient": [gradient.norm().item(), other.norm().item()],
        "cosine to the first": [1.0, cosine.item()],
    },
    index=["distance to the teacher", "loss on real images"],
)
figures.table(questions, "Two questions, asked of the same student")

# %% [markdown]
# A cosine near 1 would mean that both losses change the images in the same
# direction.

# %% [markdown]
# ## The course of the distillation
#
# From here on, the notebook uses the profile's own network, images and
# method.

# %%
result = study.distillation()
picture = figures.distillation_course(
    result.losses.numpy(),
    result.step_sizes.numpy(),
    result.candidates,
    result.selected_iteration,
    settings.selection_metric,
    settings.method,
)
figures.show(
    picture,
    "Loss, learned step size and validation scores by iteration; the loss"
    f" goes from {result.losses[0]:.2f} to {result.losses[-1]:.2f}, and"
    f" iteration {result.selected_iteration} is released",
)

# %% [markdown]
# Single iterations are noisy, since each has a student of its own. Every
# candidate trained fresh networks with the recipe of the final evaluation,
# and these were scored on validation; the best one is released. The test part
# was not used.

# %%
figures.table(result.candidates, "Candidates", index="iteration")

# %% [markdown]
# ## Which part of a trajectory is matched
#
# One student per start epoch trains on the initial and on the released
# images; how near does it come to the first teacher? Where the matching loss
# is below 1, the images lead the student towards the teacher. Images that
# were learned by the loss on real images were not optimised for this, so
# their matching loss may well stay above 1.

# %%
teacher, full = study.teachers()[0], study.network()
step = max(1, settings.max_start_epoch // 3)
by_start = {"initial images": {}, "released images": {}}
for epoch in range(0, settings.max_start_epoch, step):
    rows = teacher.rows(epoch, epoch + settings.expert_epochs)
    for name, learned in zip(by_start, (result.initial, result.distilled)):
        ends = (row.to(learned.images) for row in rows)
        sizes = settings.batch_size, settings.student_steps
        random = generator("by start epoch")
        student = segment(*ends, learned.images, *sizes, random)
        given_set = full, learned, student, settings.augmentation
        by_start[name][epoch] = matching_loss(*given_set).item()
early, *_, late = by_start["released images"].values()
figures.show(
    figures.losses_by_start(by_start),
    "Matching loss of one student by start epoch; with the released images it"
    f" is {early:.2f} from the first and {late:.2f} from the last",
)

# %% [markdown]
# The gap between the two lines is what distillation has changed. The notebook
# on [what the images look like](05_images) shows the images themselves.
#
# ## Exercise
#
# Descend: change `few` along its gradient twenty times, and watch the
# matching loss of the tiny student. Does it fall to 0?
#
# ```{admonition} Solution
# :class: dropdown
#
#     for _ in range(20):
#         end = descend(start, few, labels[:16], rate=0.1, steps=5)
#         gone = (start - target).square().sum()
#         loss = (end - target).square().sum() / gone
#         (gradient,) = torch.autograd.grad(loss, few)
#         few = (few - 10 * gradient).detach().requires_grad_()
#         print(loss.item())
#
# It falls, but not to 0: at this rate, five steps of the student hardly
# cover the distance of the teacher's ten.
# This is why the step size is learned too.
# ```
#
# ## Take-away

# %%
lessons.of_course(result, settings)
