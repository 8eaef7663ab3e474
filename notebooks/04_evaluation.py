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
# # Scores of networks trained on the distilled images
#
# **Question.** Fresh networks are trained from scratch on the distilled
# images and scored on the test part. Are they better than networks trained on
# an equal number of random real images, and how far do they fall short of
# networks trained on all? **Costs** a few minutes in the `demo` profile.
# **Expect**, in `demo` on the phantom, the distilled images to score clearly
# above random real ones and below all images; `smoke` learns nothing.
#
# One recipe trains every small set; all training images have two recipes of
# their own, teacher training and tuned training. The distilled set brings its
# learned step size; the learning rate for random images is tuned on
# validation. Intervals are 95 %, over test groups and networks.

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

from medddist import figures
from medddist.figures import lessons

figures.set_style()
rows = study.table()
by_method = {row["method"]: row for row in rows}
labels, names = study.data.test.labels, study.data.class_names
lessons.of_method(study.profile.distill)

# %% [markdown]
# ## All methods

# %%
metrics = ["accuracy", "balanced_accuracy", "macro_f1", "auroc"]
figures.table(
    pd.DataFrame(rows).set_index("label")[metrics].rename_axis(None),
    "Scores on test, each with its 95 % interval",
)

# %%
majority = by_method["majority"]["accuracy"]["mean"]
picture = figures.intervals(rows, ("accuracy", "balanced_accuracy"), majority)
value = {
    name: f"{by_method[name]['balanced_accuracy']['mean']:.2f}"
    for name in ("distilled", "random_balanced", "full_good")
}
figures.show(
    picture,
    "Accuracy and balanced accuracy of every method on test with intervals;"
    " dashed: the majority-class baseline. Balanced accuracy:"
    f" distilled {value['distilled']},"
    f" random real {value['random_balanced']}, all {value['full_good']}",
)

# %% [markdown]
# Images by herding were chosen, not learned. Their labels are of the same
# kind as those of the distilled images, so the difference between the two
# rows is what learning the images is worth. The majority class shows why
# accuracy is not enough where classes are not equally frequent.
#
# ## Paired differences
#
# Each difference is taken on the same resampled test groups: what makes an
# image easy for both methods cancels. Overlapping intervals of two scores say
# less than the interval of their difference.

# %%
figures.show(
    figures.leads(rows, "balanced_accuracy"),
    "Balanced accuracy of the distilled images minus that of each other"
    " method, with intervals",
)

# %%
leads = {
    row["label"]: {
        figures.words(metric): figures.difference_text(lead)
        for metric, lead in row["distilled_lead"].items()
    }
    | {"verdict": figures.verdict(row["distilled_lead"]["balanced_accuracy"])}
    for row in rows
    if "distilled_lead" in row
}
figures.table(
    pd.DataFrame.from_dict(leads, orient="index"),
    "Distilled images minus the other; the verdict is on balanced accuracy",
)

# %% [markdown]
# ## Class by class

# %%
shown = ("distilled", "random_balanced", "full_good")
figures.show(
    figures.confusions(
        {by_method[k]["label"]: by_method[k]["confusion"] for k in shown},
        names,
    ),
    "Confusion matrices of three methods as shares of the true class; the"
    " table below has the sensitivities of their diagonals",
)

# %%
figures.table(
    pd.DataFrame(
        {
            by_method[k]["label"]: {
                name: scores["sensitivity"]
                for name, scores in by_method[k]["per_class"].items()
            }
            for k in shown
        }
    ),
    "Sensitivity of each class",
)

# %% [markdown]
# A mean over classes hides which disease is missed. In each row, read the
# diagonal first, then see which other classes the rest of the row goes to.
#
# ## Ranking and confidence
#
# A receiver operating characteristic shows how well the predicted probability
# of a class separates its images from the others. A reliability diagram shows
# whether predictions with a confidence of 0.8 are right in 80 % of the cases:
# below the dotted diagonal, networks are overconfident.

# %%
answers = {
    by_method[method]["label"]: study.scored(method).probabilities
    for method in shown
}
area = {
    name: by_method[method]["auroc"]["mean"]
    for name, method in zip(answers, shown)
}
figures.show(
    figures.roc_and_calibration(answers, labels),
    "ROC curves, with areas of "
    + ", ".join(f"{value:.2f} for {name}" for name, value in area.items())
    + "; and the share of right answers by confidence",
)

# %%
lessons.of_confidence(answers, labels)

# %% [markdown]
# ## Exercises
#
# 1. With scikit-learn, compute the balanced accuracy of each network that was
#    trained on the distilled images, and compare the mean with the table.
# 2. How do the scores change with fewer images? Run the notebooks again with
#    `overrides` set to `distill.images_per_class=5`.
#
# ```{admonition} Solution of the first
# :class: dropdown
#
#     from sklearn.metrics import balanced_accuracy_score
#
#     scored = study.scored("distilled")
#     each = [
#         balanced_accuracy_score(labels, network.argmax(1))
#         for network in scored.probabilities
#     ]
#     print(each, sum(each) / len(each))
#     print(scored.scores["balanced_accuracy"]["mean"])
#
# The two means are the same. The networks differ, although they saw the same
# images: each starts from its own initial weights. This is one of the two
# sources of variation in the interval; the test images are the other.
# ```
#
# ## Take-away

# %%
lessons.of_scores(rows)
