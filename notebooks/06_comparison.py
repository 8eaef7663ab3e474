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
# **Shows** the distilled images beside other ways to learn from few labels:
# self-supervision, transfer, coresets, cheaper distillation, and random
# images. **Costs** about a quarter of an hour in the `demo` profile on two
# cores. **Expect**, in `demo` on the phantom, the distilled images ahead of
# random real ones, and not of every other method. The text below prints where
# they do not win.
#
# ## The protocol
#
# *Two tables*, since the poster's own protocol is unknown. Table **(a)**
# allows only what leaves the hospital: self-supervision sees the released
# images alone. Table **(b)** also allows all training images, without their
# labels.
#
# *The same data for everyone.* The label budget is the profile's number of
# images per class. Each of five evaluation seeds has its own draw of random
# images, the same for every method that uses random images, and its own
# initial weights, the same for every method by network. One recipe and one
# augmentation train every network on these few images. Validation and test
# parts are the same, and the test part is scored once.
#
# *The same effort.* Every method tries the same learning rates of that recipe
# on validation. A method with a learning rate of its own (pretraining, or
# another distillation) also tries the same factors of it, with one
# preparation for each. A preparation may process a fixed number of images,
# the same for all methods of a table, stated below. The distilled set may
# also use the step size that it learned.
#
# *Declared differences.* BYOL {cite:p}`grill2020`, SimSiam {cite:p}`chen2021`
# and MAE {cite:p}`he2022` are small here: one optimiser (AdamW), one
# schedule, small heads, and group norm instead of batch norm in the networks.
# Neither code nor the full recipe of SKD {cite:p}`li2022self` is public.
# "SKD-style" is BYOL's two networks and loss with batch knowledge ensembling
# {cite:p}`ge2021` between target and online network, a choice of this study.
# Gradient matching {cite:p}`zhao2021gradient` and distribution matching
# {cite:p}`zhao2023` use one augmentation for real and synthetic images
# {cite:p}`zhao2021`. Herding {cite:p}`welling2009` and k-means use a
# teacher's features. Inside the hospital one pretraining serves all five
# seeds, so its own variance is not in the intervals. Transfer from one site
# learns with the labels of that site, which the other rows do not have.
#
# *Differences* are paired on test groups and vary over seeds. Their p values
# are corrected by Holm {cite:p}`holm1979` over the comparisons of a table.
# "Better" and "worse" mean a corrected p below 0.05.

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
import textwrap

import pandas as pd

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.origins import of_origins
from medddist.comparison.probes import probe_rows
from medddist.comparison.shared import compare_recipe, image_budget
from medddist.comparison.tables import comparison_rows, verdict_lines
from medddist.study.workers import workers_for

figures.set_style()
settings, recipe = study.profile.compare, compare_recipe(study.profile)
budget = study.profile.distill.images_per_class
rates, factors = (
    ", ".join(map(str, values))
    for values in (settings.learning_rates, settings.grid)
)
print(f"label budget: {budget} images per class")
print(f"evaluation seeds: {settings.evaluation_seeds}")
print(f"recipe: {recipe.epochs} epochs in batches of {recipe.batch_size}")
print(f"learning rates tried: {rates}")
print(f"factors of a method's own learning rate tried: {factors}")
for table, what in (("released", "(a)"), ("inside", "(b)")):
    images = f"{image_budget(settings, table):,} images"
    print(f"a preparation in {what} processes at most {images}")

# %%
workers = workers_for(study)
rows = comparison_rows(study, workers=workers)
tables = {
    table: [row for row in rows if row["table"] == table]
    for table in ("released", "inside", "unseen")
}


def score_text(score):
    """A score with its interval."""
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def difference_text(difference):
    """A paired difference with its interval."""
    low, high = f"{difference['low']:+.3f}", f"{difference['high']:+.3f}"
    return f"{difference['difference']:+.3f} [{low}, {high}]"


def table_row(row):
    """A method's row of a table."""
    named = {"method": row["label"], "network": row["network"]}
    if row["status"] != "measured":
        return named | {"accuracy": f"unavailable: {row['reason']}"}
    lead = row.get("distilled_lead", {}).get("balanced_accuracy")
    verdict = f"{lead['verdict']} ({lead['difference']:+.3f})" if lead else ""
    seconds = row["seconds"]
    return named | {
        "accuracy": score_text(row["accuracy"]),
        "balanced accuracy": score_text(row["balanced_accuracy"]),
        "distilled images are": verdict,
        "released": row["released"],
        "bytes": f"{row['bytes_released']:,}",
        "real images leave": "yes" if row["real_images_leave"] else "no",
        "seconds": "" if seconds is None else f"{seconds:.0f}",
    }


def better_than(rows):
    """How many rows the distilled images are better than, in words."""
    leads = [row["distilled_lead"] for row in rows if "distilled_lead" in row]
    verdicts = [lead["balanced_accuracy"]["verdict"] for lead in leads]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    return (
        "in balanced accuracy the distilled images are better than"
        f" {better} of {len(verdicts)} rows and worse than {worse}"
    )


# %% [markdown]
# ## (a) With images that may leave the hospital
#
# The dotted line marks the distilled images.

# %%
display(pd.DataFrame(map(table_row, tables["released"])).fillna(""))
metrics = ("accuracy", "balanced_accuracy")
figures.show(
    figures.compared(tables["released"], metrics),
    "Accuracy and balanced accuracy of every method that uses only released"
    f" images, by network: {better_than(tables['released'])}",
)

# %% [markdown]
# ## (b) With all training images inside the hospital

# %%
display(pd.DataFrame(map(table_row, tables["inside"])).fillna(""))
figures.show(
    figures.compared(tables["inside"], metrics),
    "Accuracy and balanced accuracy of every method that may use all training"
    f" images, by network: {better_than(tables['inside'])}",
)

# %% [markdown]
# ## Where distillation wins, and where it does not

# %%
for line in verdict_lines(rows):
    print(textwrap.fill(line, 78, subsequent_indent="    "))

# %% [markdown]
# ## Networks that never saw the distillation
#
# The images were learned for one ConvNet. Here other networks are trained on
# them and on an equal number of random real images, each with its learning
# rate tuned. All use group norm instead of batch norm.

# %%
by_network = [
    row
    | {
        "label": ARCHITECTURES[row["network"]],
        "network": row["label"],
        "method": "",
    }
    for row in tables["unseen"]
]
figures.show(
    figures.compared(by_network, metrics),
    "Accuracy and balanced accuracy of other networks on distilled and on"
    f" random real images: {better_than(tables['unseen'])}",
)

# %% [markdown]
# ## What self-supervision learned
#
# A logistic regression is trained on frozen features of all training images,
# with all labels: on random features (dashed) and on features learned without
# labels. Random features of a ConvNet are already good, since its last maps
# keep positions. Those of ResNet-18 and the ViT are averaged over the image.

# %%
probes = probe_rows(study, workers)
display(
    figures.show(
        figures.probed(probes),
        "Balanced accuracy of linear probes on random and on self-supervised"
        " features, by network",
    )
)
for row in probes:
    if "lead_over_random" not in row:
        continue
    difference = row["lead_over_random"]["balanced_accuracy"]
    if difference["low"] > 0:
        verdict = "above"
    elif difference["high"] < 0:
        verdict = "BELOW"
    else:
        verdict = "not significantly different from"
    spread = row["chosen"]["spread_of_outputs"]
    collapsed = row["chosen"]["collapsed"]
    print(f"{row['label']}, {row['network']}: {verdict} random features")
    print(f"    {difference_text(difference)};")
    print(f"    {'COLLAPSED' if collapsed else 'no collapse'}, spread of")
    print(f"    outputs {spread['start']:.2f} to {spread['end']:.2f}")

# %% [markdown]
# ## Does the source of an image predict its class?
#
# In the real radiographs the class is confounded with its source. Three views
# of this: how well each class is recognised by source; how well a linear
# probe on 16 px thumbnails distinguishes the sources within a class, where no
# disease can help; and, on the phantom, how networks trained on one version
# score on the other. The phantom's sites can be balanced over the classes or
# confounded with them.

# %%
origins = of_origins(study)
if origins["class_from_origin"] is not None:
    chance = 1 / study.data.classes
    print("balanced accuracy of knowing only the source:")
    print(f"    {origins['class_from_origin']:.3f} (chance {chance:.3f})")
for probe in origins["probes"]:
    print(f"sources distinguished in {probe['class']}:")
    print(f"    {score_text(probe['balanced_accuracy'])},")
    print(f"    chance {probe['chance']:.3f} ({', '.join(probe['origins'])})")
by_source = {}
for method, sensitivities in origins["by_origin"].items():
    for row in sensitivities:
        name = f"{row['class']}, {row['origin']} ({row['images']})"
        mean = f"{row['sensitivity']['mean']:.3f}"
        by_source.setdefault(name, {})[method] = mean
nothing = "this data set names no class with several sources"
table = pd.DataFrame.from_dict(by_source, orient="index")
table if by_source else print(nothing)

# %%
for row in origins["confounding"]:
    lost = row.get("lost", {}).get("balanced_accuracy")
    trained, tested = row["trained_on"], row["tested_on"]
    print(f"trained on {trained} sites, tested on {tested} sites:")
    print(f"    {score_text(row['balanced_accuracy'])}")
    if lost:
        print(f"    loss against its own version {difference_text(lost)}")

# %% [markdown]
# ## The poster's bars
#
# Five bars can be read on the poster. Their methods are not legible, at least
# one bar is missing, and its images are different ones. They are shown for
# completeness and compared with nothing.

# %%
bars = figures.unnamed_bars(
    (74.2, 66.8, 62.3, 53.9, 28.4),
    "As read on the poster; methods not legible",
)
figures.show(
    bars, "Five bars of 74.2, 66.8, 62.3, 53.9 and 28.4 percent without names"
)
