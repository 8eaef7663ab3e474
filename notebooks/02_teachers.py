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
# **Shows** the networks trained on the real images, whose parameters after every epoch are the trajectories that distillation follows.
# **Costs** under a minute in the `demo` profile on two cores. **Expect** validation scores that climb through the epochs that matching reads:
# a distilled set can hardly teach more than the teachers knew there.

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
import numpy as np
import pandas as pd

from medddist import figures

figures.set_style()
settings, matching = study.profile.teachers, study.profile.distill
trajectories = study.teachers()
recipe = settings.recipe.model_dump(exclude={"augmentation"}) | {"snapshots": settings.snapshots}
pd.Series(recipe, name=f"{settings.teachers} teachers").to_frame()

# %% [markdown]
# Teachers learn by the recipe of matching training trajectories {cite:p}`cazenavette2022`: plain stochastic gradient descent at a constant
# rate. With `sampling` at `balanced`, each class is drawn equally often; on unbalanced data a distilled set otherwise learns the
# prior of the classes along with their looks. With `snapshots` at `mean`, what is kept of an epoch is the mean of the parameters over its
# steps: at a constant rate the last mini-batches leave noise behind, which no student could follow.

# %%
curves = [trajectory.about["validation"] for trajectory in trajectories]
picture = figures.teacher_curves(curves, 0, matching.last_epoch_read)
figures.show(
    picture,
    "Accuracy and balanced accuracy of the teachers on validation by epoch; the epochs that matching reads are shaded",
)

# %% [markdown]
# ## How far they go
#
# A student starts where a teacher was after epoch $t$ and is to arrive where it was $M$ epochs later. The distance it has to cover is
# the denominator of the matching loss.

# %%
starts = range(matching.max_start_epoch)
moves = np.array(
    [
        [
            float((a - b).norm())
            for a, b in (one.rows(t, t + matching.expert_epochs) for t in starts)
        ]
        for one in trajectories
    ]
)
figures.show(
    figures.teacher_moves(moves, matching.expert_epochs),
    "Distance a teacher covers from each start epoch",
)

# %% [markdown]
# ## What is kept
#
# One file a teacher, a row of float32 a snapshot; reading a start and a target touches those two rows alone.

# %%
pd.DataFrame(
    [
        {
            "snapshots": one.snapshots,
            "parameters": one.parameter_count,
            "MB": round(one.path.stat().st_size / 1e6, 1),
            "balanced accuracy at the end": round(
                one.about["validation"][-1]["balanced_accuracy"], 3
            ),
        }
        for one in trajectories
    ]
).rename_axis("teacher")
