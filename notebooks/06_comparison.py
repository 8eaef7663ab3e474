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
# # The comparison
#
# **Shows** the distilled images beside other ways to learn from few labels: self-supervision, transfer, coresets, cheaper distillation, and
# random images. **Costs** about a quarter of an hour in the `demo` profile on two cores. **Expect** in `demo` on the phantom the distilled images ahead
# of random real ones, and not of every other method; where they do not win is printed below.
#
# ## The protocol
#
# *Two tables*, since the poster's own protocol is not known. In **(a)** only what leaves the hospital may be used: self-supervision
# sees the released images alone. In **(b)** it may see all training images, without their labels.
#
# *The same for everyone.* The labelled budget is the profile's images a class. Each of five evaluation seeds has its own draw of random images, the
# same for every method that takes random ones, and its own initial weights, the same for every method by network. One recipe and one
# augmentation train every network on so few images; validation and test parts are the same, and the test part is scored once.
#
# *The same effort.* Every method tries the same learning rates of that recipe on validation; one that has a learning rate of its own (pretraining,
# the images of another distillation) also tries the same factors of it, one preparation a point. A preparation may process a fixed number
# of images, the same for all in a table, stated below. The distilled set may also take the step size that it learned.
#
# *What is declared.* BYOL {cite:p}`grill2020`, SimSiam {cite:p}`chen2021`, MAE {cite:p}`he2022` are small here: one optimiser (AdamW), one schedule, small heads,
# group norm for batch norm in the networks. Of SKD {cite:p}`li2022self` neither code nor full recipe is public; "SKD-style" is BYOL's two networks and loss with
# batch knowledge ensembling {cite:p}`ge2021` between target and online network, which is a choice of this study. Gradient matching
# {cite:p}`zhao2021gradient` and distribution matching {cite:p}`zhao2023` use one augmentation for real and synthetic images {cite:p}`zhao2021`; herding
# {cite:p}`welling2009` and k-means look at a teacher's features. Inside the hospital one pretraining serves all five seeds, so its own
# variance is not in the intervals. Transfer from one site learns with that site's labels, which the other rows do not have.
#
# *Differences* are paired on test groups and crossed with seeds (bootstrap), and their p values corrected by Holm {cite:p}`holm1979` over the comparisons of a table:
# "ahead" and "behind" mean a corrected p below 0.05.

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

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.origins import of_origins
from medddist.comparison.probes import probe_rows
from medddist.comparison.tables import Comparison, verdict_lines
from medddist.study.workers import workers_for

figures.set_style()
comparison = Comparison(study)
settings = comparison.settings
print(
    f"labelled budget: {study.profile.distill.images_per_class} images a class; {settings.evaluation_seeds} evaluation seeds"
)
print(
    f"recipe: {comparison.recipe.epochs} epochs in batches of {comparison.recipe.batch_size}, learning rates tried: {', '.join(map(str, settings.learning_rates))}"
)
print(f"factors of a method's own learning rate tried: {', '.join(map(str, settings.grid))}")
for table, what in (("released", "(a)"), ("inside", "(b)")):
    print(f"a preparation in {what} processes at most {comparison.budget(table):,} images")

# %%
workers = workers_for(study)
rows = comparison.rows(workers=workers)
tables = {
    table: [row for row in rows if row["table"] == table]
    for table in ("released", "inside", "unseen")
}


def told(row):
    """A line of a table."""
    if row["status"] != "measured":
        return {
            "method": row["label"],
            "network": row["network"],
            "accuracy": f"unavailable: {row['reason']}",
        }
    cell = lambda score: f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    lead = row.get("distilled_lead", {}).get("balanced_accuracy")
    return {
        "method": row["label"], "network": row["network"], "accuracy": cell(row["accuracy"]), "balanced accuracy": cell(row["balanced_accuracy"]),
        "distilled images are": f"{lead['verdict']} ({lead['difference']:+.3f})" if lead else "", "released": row["released"],
        "bytes": f"{row['bytes_released']:,}", "real images leave": "yes" if row["real_images_leave"] else "no",
        "seconds": "" if row["seconds"] is None else f"{row['seconds']:.0f}",
    }


# %% [markdown]
# ## (a) What may leave the hospital
#
# Dotted: the distilled images.

# %%
display(pd.DataFrame(map(told, tables["released"])).fillna(""))
picture = figures.compared(tables["released"], ("accuracy", "balanced_accuracy"))
figures.show(
    picture,
    "Accuracy and balanced accuracy with intervals of every method that uses released images alone, by network",
)

# %% [markdown]
# ## (b) Inside the hospital

# %%
display(pd.DataFrame(map(told, tables["inside"])).fillna(""))
picture = figures.compared(tables["inside"], ("accuracy", "balanced_accuracy"))
figures.show(
    picture,
    "Accuracy and balanced accuracy with intervals of every method that may see all training images, by network",
)

# %% [markdown]
# ## Where distillation wins, and where it does not

# %%
print("\n\n".join(verdict_lines(rows)))

# %% [markdown]
# ## Networks that never saw the distillation
#
# The images were learned for one ConvNet. Other networks are trained on them here, and on as many random real images, each with its learning
# rate tuned. Batch norm is replaced by group norm in all of them.

# %%
picture = figures.compared(
    [
        row | {"label": ARCHITECTURES[row["network"]], "network": row["label"], "method": ""}
        for row in tables["unseen"]
    ],
    ("accuracy", "balanced_accuracy"),
)
figures.show(
    picture,
    "Accuracy and balanced accuracy of other networks on distilled and on random real images with intervals",
)

# %% [markdown]
# ## What self-supervision learned
#
# A logistic regression on frozen features of all training images, with all labels: on random features (dashed) and on those learned without labels.
# A random ConvNet's features are good already, since its last maps keep where things are; ResNet-18's and the ViT's are averaged over the image.

# %%
probes = probe_rows(comparison, workers)
display(
    figures.show(
        figures.probed(probes),
        "Balanced accuracy of linear probes on random and on self-supervised features, by network",
    )
)
for row in probes:
    if "lead_over_random" in row:
        lead = row["lead_over_random"]["balanced_accuracy"]
        word = (
            "above" if lead["low"] > 0 else "BELOW" if lead["high"] < 0 else "not told apart from"
        )
        told_of = f"{word} random features: {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]"
        spread = row["chosen"]["spread_of_outputs"]
        collapse = "COLLAPSED" if row["chosen"]["collapsed"] else "no collapse"
        print(
            f"{row['label']}, {row['network']}: {told_of}; {collapse}, spread of outputs {spread['start']:.2f} to {spread['end']:.2f}"
        )

# %% [markdown]
# ## Is it the class, or where the image comes from?
#
# In the radiographs class follows source. Three views: how a class fares by origin; how well a linear probe on 16 px thumbnails tells origins apart within a
# class, where no disease can help; and, on the phantom, whose sites can be balanced over classes or confounded with them, what networks
# trained on one version are worth on the other.

# %%
origins = of_origins(comparison)
if origins["class_from_origin"] is not None:
    print(
        f"balanced accuracy of knowing the origin alone: {origins['class_from_origin']:.3f} (chance {1 / study.data.classes:.3f})"
    )
for probe in origins["probes"]:
    score = probe["balanced_accuracy"]
    interval = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    print(
        f"origins told apart in {probe['class']}: {interval}, chance {probe['chance']:.3f} ({', '.join(probe['origins'])})"
    )
by_origin = {
    f"{found['class']}, {found['origin']} ({found['images']})": {method: f"{one['sensitivity']['mean']:.3f}" for method, each in origins["by_origin"].items() for one in each
        if (one["class"], one["origin"]) == (found["class"], found["origin"])}
    for found in next(iter(origins["by_origin"].values()))
}
pd.DataFrame.from_dict(by_origin, orient="index") if by_origin else print(
    "this data does not name several origins of a class"
)

# %%
for row in origins["confounding"]:
    score, lost = row["balanced_accuracy"], row.get("lost", {}).get("balanced_accuracy")
    change = (
        f"; {lost['difference']:+.3f} [{lost['low']:+.3f}, {lost['high']:+.3f}] lost against its own version"
        if lost
        else ""
    )
    print(
        f"trained where sites are {row['trained_on']}, tested where they are {row['tested_on']}: {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]{change}"
    )

# %% [markdown]
# ## The poster's bars
#
# Five bars can be read on the poster; which method each belongs to is not legible, at least one bar is missing, and the images are others. They are
# shown for completeness and compared with nothing.

# %%
bars = figures.unnamed_bars(
    (74.2, 66.8, 62.3, 53.9, 28.4), "As read on the poster; owners not legible"
)
figures.show(bars, "Five bars of 74.2, 66.8, 62.3, 53.9 and 28.4 percent without names")
