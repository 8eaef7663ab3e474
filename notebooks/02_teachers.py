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
# # The teachers
#
# **Shows** the networks trained on the real images. Their parameters after
# every epoch are the trajectories that distillation follows. **Costs** under
# a minute in the `demo` profile on two cores. **Expect** validation scores
# that rise over the epochs that matching reads: a distilled set can hardly
# teach more than the teachers knew there.

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

figures.set_style()
settings, matching = study.profile.teachers, study.profile.distill
trajectories = study.teachers()
recipe = settings.recipe.model_dump(exclude={"augmentation"})
recipe |= {"snapshots": settings.snapshots}
pd.Series(recipe, name=f"{settings.teachers} teachers").to_frame()

# %% [markdown]
# Teachers use the recipe of matching training trajectories
# {cite:p}`cazenavette2022`: plain stochastic gradient descent at a constant
# learning rate. With `sampling` set to `balanced`, each class is drawn
# equally often. On unbalanced data a distilled set otherwise learns the class
# proportions along with the appearance. With `snapshots` set to `mean`, a
# snapshot is the mean of the parameters over the steps of an epoch. At a
# constant rate the last mini-batches leave noise that no student can follow.

# %%
curves = [trajectory.about["validation"] for trajectory in trajectories]
picture = figures.teacher_curves(curves, 0, matching.last_epoch_read)
last = np.mean([curve[-1]["balanced_accuracy"] for curve in curves])
figures.show(
    picture,
    "Validation accuracy and balanced accuracy of the teachers by epoch; the"
    " epochs that matching reads are shaded. Balanced accuracy ends at"
    f" {last:.2f} on average",
)

# %% [markdown]
# ## How far they move
#
# A student starts where a teacher was after epoch $t$, and should arrive
# where the teacher was $M$ epochs later. The distance between the two is the
# denominator of the matching loss.

# %%
starts, epochs = range(matching.max_start_epoch), matching.expert_epochs


def distance(trajectory, start):
    """How far a teacher moves in the epochs that a student stands for."""
    first, last = trajectory.rows(start, start + epochs)
    return float((first - last).norm())


moves = np.array(
    [[distance(trajectory, t) for t in starts] for trajectory in trajectories]
)
early, late = moves[:, 0].mean(), moves[:, -1].mean()
figures.show(
    figures.teacher_moves(moves, epochs),
    "Distance that a teacher covers from each start epoch: on average"
    f" {early:.2f} from the first and {late:.2f} from the last",
)

# %% [markdown]
# ## What is kept
#
# Each teacher is one file with one float32 row per snapshot. Reading a start
# and a target reads only those two rows.

# %%
pd.DataFrame(
    [
        {
            "snapshots": trajectory.snapshots,
            "parameters": trajectory.parameter_count,
            "MB": round(trajectory.path.stat().st_size / 1e6, 1),
            "final balanced accuracy": round(
                trajectory.about["validation"][-1]["balanced_accuracy"], 3
            ),
        }
        for trajectory in trajectories
    ]
).rename_axis("teacher")
