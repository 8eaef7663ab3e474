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
# # What the distilled images reveal
#
# **Shows** whether the distilled images reveal which real images they were
# made from. Two methods look for this: nearest neighbours, and a membership
# attack with two controls. **Costs** a few minutes in the `demo` profile,
# most of them for networks that the attack trains. **Expect** both controls
# to behave as expected, and the initial images to be found more often than by
# chance.
#
# Nothing here shows that a set is safe to send. An attack that finds nothing
# is one attack; a stronger one may find more. A guarantee needs differential
# privacy, which only teachers with `teachers.privacy` have.

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

from medddist import figures
from medddist.leaks.audit import audit, broken, candidates_of, nearest

figures.set_style()
dataset, settings = study.data, study.profile.audit
seed = study.profile.seeds[0]
result = study.distillation()
findings = audit(study)
shown = settings.model_dump(exclude={"recipe"})
pd.Series(shown, name="audit").astype(str).to_frame()

# %% [markdown]
# ## Nearest neighbours
#
# For each distilled image, this measures its distance from its initial image,
# from the nearest of other training images of its class, and from the nearest
# of an equal number of images that nobody trained on. If training images were
# no nearer than unseen ones, they would be the nearer ones half of the time.
# Distances are root mean squares, over pixels and over a teacher's features.
# Neither is what a radiologist sees.


# %%
def share_text(share):
    """A count with its share's interval."""
    if share is None:
        return "-"
    interval = f"[{share['low']:.2f}, {share['high']:.2f}]"
    return f"{share['count']} of {share['of']} {interval}"


rows = {}
for space, distances in findings["neighbours"].items():
    start = distances["to_start"]
    rows[space] = {
        "to its initial image": "-" if start is None else f"{start:.3f}",
        "to other training images": f"{distances['to_training']:.3f}",
        "to unseen images": f"{distances['to_unseen']:.3f}",
        "a training image is nearer": share_text(
            distances["training_is_nearer"]
        ),
        "its initial image is nearest of all": share_text(
            distances.get("start_is_nearest")
        ),
    }
pd.DataFrame(rows)

# %% [markdown]
# The next figure shows distilled images of each class with their nearest
# images by pixels.

# %%
neighbours = nearest(study, result, seed)["pixels"]
per_class = study.profile.distill.images_per_class
shown = [
    k * per_class + j
    for k in range(dataset.classes)
    for j in range(min(2, per_class))
]


def images_at(part, indices):
    """Images of a part, in [0, 1]."""
    return list(part.images[indices[shown].numpy()] / 255)


distilled = result.distilled.images[shown].cpu().numpy()
initial = result.initial_indices
pictures = {"distilled": list(dataset.pixels(distilled))}
if initial.ndim == 1 and len(initial):
    pictures["initial"] = images_at(dataset.train, initial)
pictures["nearest training"] = images_at(
    dataset.train, neighbours.nearest_training
)
pictures["nearest unseen"] = images_at(
    dataset.test, neighbours.nearest_unseen
)
names = [dataset.class_names[k // per_class].replace("_", " ") for k in shown]
figures.show(
    figures.sheet(pictures, columns=names),
    "Distilled images, their initial images, the nearest training images and"
    " the nearest unseen images",
)

# %% [markdown]
# This cell computes one distance by hand: from the first distilled image to
# its initial image.

# %%
if neighbours.start is not None and initial.ndim == 1:
    image = result.distilled.images[0]
    start = study.tensors("train")[0][initial[0]]
    by_hand = (image - start).square().mean().sqrt().item()
    by_library = neighbours.start[0].item()
    print(f"by hand {by_hand:.4f}, by the library {by_library:.4f}")

# %% [markdown]
# ## Membership
#
# The attack trains networks on the distilled images, without augmentation so
# that they memorise. It asks how confident they are of the class of an image,
# and subtracts the confidence of networks trained on unrelated images
# {cite:p}`watson2022,carlini2022lira`. An image counts as found if it scores
# higher than all but a small share of unseen images.
#
# - **Positive control**: networks trained on an equal number of random real
#   images. The attack must find these images, or it is too weak to be
#   informative.
# - **Negative control**: unseen images that did not set the threshold. The
#   attack must find them only as often as chance.


# %%
def table_row(attack, group, measured):
    """One row of the table of the attack's findings."""
    hits, area = measured["true_positives"], measured["auc"]
    low, high = measured["by_chance"]
    share = f"{hits['share']:.3f} [{hits['low']:.3f}, {hits['high']:.3f}]"
    auc = f"{area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
    return {
        "attack": attack,
        "images": group,
        "found": f"{hits['count']} of {hits['of']}",
        "share": share,
        "by chance": f"{low} to {high}",
        "AUC": auc,
        "interval": f"{area['level']:.1%}",
    }


names = {
    "starting": "initial images",
    "others": "other training images",
    "unseen": "unseen: negative control",
}
table = []
for attack, measured in findings["membership"].items():
    control = measured["positive_control"]["control"]
    table.append(table_row(attack, "trained on: positive control", control))
    for group, row in measured["released"].items():
        table.append(table_row(attack, names[group], row))
pd.DataFrame(table).set_index(["attack", "images"])

# %%
rate = f"{100 * settings.false_positives:g} %"
print(
    "\n".join(broken(findings))
    or f"both controls behaved as expected, at {rate} false positives"
)

# %%
groups = {}
for attack, measured in findings["membership"].items():
    control = measured["positive_control"]["control"]
    groups[attack] = {"trained on": control} | {
        names[group].split(":")[0]: row
        for group, row in measured["released"].items()
    }
figures.show(
    figures.membership(groups, settings.false_positives),
    "Share of images found and area under the curve, by group of images and"
    " attack, with intervals; dashed: chance",
)

# %% [markdown]
# LiRA subtracts from an image's score the mean of its scores under shadow
# sets, which were distilled from random halves of the data without this
# image, and divides by their standard deviation. The setting `audit.shadows`
# turns it on. Two short shadows did not find the positive control here, so it
# needs more of them. A finding at 0.1 % false positives needs at least a
# thousand unseen images. Each shadow is cached when it is done.

# %%
images = candidates_of(study, result)
print(f"images attacked: {len(images.starting)} initial images,")
print(f"{len(images.others)} other training images,")
print(f"{len(images.control)} for the positive control,")
print(f"{len(images.unseen)} unseen")
