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
# **Shows** the main result: fresh networks are trained from scratch on the
# distilled images and scored on the test part. Beside them stand networks
# trained on an equal number of random real images, networks trained on all
# images, and the majority-class baseline. **Costs** a few minutes in the
# `demo` profile. **Expect**, in `demo` on the phantom, the distilled images
# above random real ones by at least 0.05 balanced accuracy, and below all
# images; `smoke` learns nothing.
#
# One recipe trains every small set; all training images have two recipes of
# their own, teacher training and tuned training. The distilled set brings its
# learned step size; the learning rate for random images is tuned on
# validation. Intervals are 95 %, over test groups and networks.

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
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from medddist import figures

figures.set_style()
rows = study.table()
by_method = {row["method"]: row for row in rows}
metric = study.profile.distill.selection_metric
metrics = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
figures.score_table(rows, metrics)

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
# ## Paired differences
#
# Each difference is taken on the same resampled test groups: what makes an
# image easy for both methods cancels.

# %%
display(
    figures.show(
        figures.leads(rows, "balanced_accuracy"),
        "Balanced accuracy of the distilled images minus that of each other"
        " method, with intervals",
    )
)
for row in rows:
    if "distilled_lead" not in row:
        continue
    difference = row["distilled_lead"]["balanced_accuracy"]
    low, high = difference["low"], difference["high"]
    if low > 0:
        verdict = "better than"
    elif high < 0:
        verdict = "WORSE than"
    else:
        verdict = "not significantly different from"
    print(f"distilled images are {verdict} {row['label']}:")
    print(f"    {difference['difference']:+.3f} [{low:+.3f}, {high:+.3f}]")

# %% [markdown]
# ## One number by hand
#
# The mean over networks, computed here and by the library, is the same.

# %%
scored = study.scored("distilled")
labels = study.data.test.labels
scores = [
    balanced_accuracy_score(labels, probabilities.argmax(1))
    for probabilities in scored.probabilities
]
print(f"networks: {', '.join(f'{score:.3f}' for score in scores)}")
print(f"mean {sum(scores) / len(scores):.4f}")
print(f"library: {scored.scores['balanced_accuracy']['mean']:.4f}")

# %% [markdown]
# ## Class by class

# %%
shown = {
    by_method[method]["label"]: by_method[method]["confusion"]
    for method in ("distilled", "random_balanced", "full_good")
}
figures.show(
    figures.confusions(shown, study.data.class_names),
    "Confusion matrices of three methods as shares of the true class; the"
    " table below has the sensitivities of their diagonals",
)

# %%
pd.DataFrame(
    {
        row["label"]: {
            f"{name} {what}": round(scores[what]["mean"], 3)
            for name, scores in row["per_class"].items()
            for what in ("sensitivity", "specificity")
        }
        for row in rows
    }
)

# %% [markdown]
# ## More or fewer images per class
#
# A profile measures other sizes if it lists them in `images_per_class`.

# %%
methods = {"distilled": "distilled", "random_balanced": "random real"}
sizes = {
    f"{size} per class": {
        label: f"{study.scored(method, size).scores[metric]['mean']:.3f}"
        for method, label in methods.items()
    }
    for size in study.profile.images_per_class
}
nothing = "this profile lists no other sizes; set images_per_class"
pd.DataFrame(sizes) if sizes else print(nothing)
