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
# **Question.** What do networks trained on all real images learn, epoch by
# epoch, and how far do their parameters move? These trajectories are what
# trajectory matching follows. **Costs** one or two minutes in the `demo`
# profile on two cores. **Expect** validation scores that rise over the epochs
# that are used for matching. A student that only imitates teachers can hardly
# learn more than the teachers know in these epochs.

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

from medddist import figures
from medddist.figures import lessons

figures.set_style()
settings, matching = study.profile.teachers, study.profile.distill
trajectories = study.teachers()
recipe = settings.recipe.model_dump(exclude={"augmentation"})
recipe |= {"snapshots": settings.snapshots, "teachers": settings.teachers}
figures.table(pd.DataFrame({"value": recipe}), "Teacher training")

# %% [markdown]
# Teachers use the recipe of matching training trajectories
# {cite:p}`cazenavette2022`: plain stochastic gradient descent at a constant
# learning rate. With `sampling` set to `balanced`, each class is drawn
# equally often. On unbalanced data a distilled set otherwise learns the class
# proportions along with the appearance. With `snapshots` set to `mean`, a
# snapshot is the mean of the parameters over the steps of an epoch. At a
# constant learning rate, the last mini-batches of an epoch add noise that no
# student can follow.
#
# ## What they score

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
# Where a curve is steep, the teacher learns much in one epoch. A student that
# reaches the teacher's later parameters has learned the same from a few
# images. Where the curve is flat, matching an epoch gains little.
#
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
# The matching loss divides by this distance, so a long segment and a short
# one count the same.
#
# ## What is kept
#
# Each teacher is one file with one float32 row per snapshot. To load a start
# and a target, only those two rows are read.

# %%
figures.table(
    pd.DataFrame(
        [
            {
                "snapshots": trajectory.snapshots,
                "parameters": trajectory.parameter_count,
                "MB": trajectory.path.stat().st_size / 1e6,
                "balanced_accuracy": curve[-1]["balanced_accuracy"],
            }
            for trajectory, curve in zip(trajectories, curves)
        ]
    ).rename_axis("teacher"),
    "Each teacher's file, and its last score on validation",
)

# %% [markdown]
# ## Exercise
#
# Do teachers that start from different initial parameters end in the same
# place? Compare the distance between the last snapshots of two teachers with
# the distance that one of them has covered from its own start.
#
# ```{admonition} Solution
# :class: dropdown
#
#     ends = [x.rows(x.snapshots - 1)[0] for x in trajectories[:2]]
#     print((ends[0] - ends[1]).norm())
#     print((ends[0] - trajectories[0].rows(0)[0]).norm())
#
# They stay apart: two networks with equal scores have different parameters.
# A student can therefore only follow a teacher from that teacher's own start.
# ```
#
# ## Take-away

# %%
lessons.of_teachers(curves, moves, matching.last_epoch_read)
