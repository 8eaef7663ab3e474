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
# # One point of a sweep
#
# **Shows** one method with one number of images per class and one seed. It is
# computed if it is not cached yet. **Costs** what the profile says.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, real or paper, or the path of a .yaml file
data: str = "phantom"  # phantom, a folder of images, or an .npz file
out: str = ""  # folder for cached results; empty: build/artifacts
overrides: str = ""  # settings to change, as in --set, with spaces between
method: str = "distilled"  # a method of the study's table
images_per_class: int = 1  # 0 for a method that takes none
seed: int = 0  # of everything random at this point

# %% tags=["hide-input"]
from medddist.study.notebooks import open_study, parameters
from medddist.study.sweep import changes_at

given = parameters(locals())
study = open_study(given, changes_at(given.seed, given.images_per_class))

# %%
from medddist import figures

figures.set_style()
scored = study.scored(given.method)
figures.score_table(
    [{"label": given.method, **scored.scores}],
    ("accuracy", "balanced_accuracy", "macro_f1", "auroc"),
)

# %%
if given.method == "distilled":
    result, metric = study.distillation(), study.profile.distill.selection_metric
    course = figures.distillation_course(
        result.losses,
        result.step_sizes,
        result.candidates,
        result.selected_iteration,
        metric,
        study.profile.distill.method,
    )
    display(figures.show(course, "Loss, step size and validation score by iteration"))
scored.about
