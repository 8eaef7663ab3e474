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
# # What the distilled images are worth
#
# **Shows** the answer: fresh networks trained from scratch on the distilled images, scored on the test part, beside networks trained on as
# many random real images, on all images, and the majority class. **Costs** a few minutes in the `demo` profile. **Expect** in `demo` on the
# phantom the distilled images above random real ones by at least 0.05 balanced accuracy, and below all images; `smoke` learns nothing.
#
# Every small set has the same recipe; all training images have two of their own. The distilled set brings its learned step size; the random images have theirs tuned on validation.
# Intervals are 95 %, by bootstrap over test groups crossed with networks.

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
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from medddist import figures

figures.set_style()
rows = study.table()
by_method = {row["method"]: row for row in rows}
metric = study.profile.distill.selection_metric
figures.score_table(rows, ("accuracy", "balanced_accuracy", "macro_f1", "auroc"))

# %%
majority = by_method["majority"]["accuracy"]["mean"]
picture = figures.intervals(rows, ("accuracy", "balanced_accuracy"), majority)
figures.show(
    picture,
    "Accuracy and balanced accuracy of every method on test with intervals; dashed: the majority class",
)

# %% [markdown]
# ## The lead
#
# Each difference is taken on the same resampled test groups, so that what makes an image easy for both cancels.

# %%
display(
    figures.show(
        figures.leads(rows, "balanced_accuracy"),
        "Lead of the distilled images in balanced accuracy over each other method",
    )
)
for row in rows:
    if "distilled_lead" in row:
        lead = row["distilled_lead"]["balanced_accuracy"]
        verdict = (
            "ahead of"
            if lead["low"] > 0
            else "BEHIND"
            if lead["high"] < 0
            else "not told apart from"
        )
        print(
            f"distilled images are {verdict} {row['label']}: {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]"
        )

# %% [markdown]
# ## One number by hand

# %%
scored = study.scored("distilled")
each = [
    balanced_accuracy_score(study.data.test.labels, said.argmax(1)) for said in scored.probabilities
]
print(f"networks: {', '.join(f'{value:.3f}' for value in each)}; mean {sum(each) / len(each):.4f}")
print(f"the library: {scored.scores['balanced_accuracy']['mean']:.4f}")

# %% [markdown]
# ## Class by class

# %%
shown = {
    by_method[m]["label"]: by_method[m]["confusion"]
    for m in ("distilled", "random_balanced", "full_good")
}
figures.show(
    figures.confusions(shown, study.data.class_names),
    "Confusion matrices of three methods as shares of the true class",
)

# %%
pd.DataFrame(
    {
        row["label"]: {
            f"{name} {what}": round(of[what]["mean"], 3)
            for name, of in row["per_class"].items()
            for what in ("sensitivity", "specificity")
        }
        for row in rows
    }
)

# %% [markdown]
# ## More or fewer images a class
#
# Only where the profile asks for it (`images_per_class`).

# %%
sizes = {
    f"{size} a class": {
        label: f"{study.scored(method, size).scores[metric]['mean']:.3f}"
        for method, label in (("distilled", "distilled"), ("random_balanced", "random real"))
    }
    for size in study.profile.images_per_class
}
pd.DataFrame(sizes) if sizes else print("this profile asks for one size alone")
