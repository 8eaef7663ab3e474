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
# # What the distilled images give away
#
# **Shows** whether it can be told from the distilled images which real ones they were made from: by their nearest neighbours, and by an
# attack on membership with two controls. **Costs** a few minutes in the `demo` profile, most of them for networks that the attack trains.
# **Expect** both controls as they have to be, and the images that distillation started from found more often than chance gives.
#
# Nothing here shows that a set is safe to send. An attack that finds nothing is one attack; a stronger one may find more. A guarantee takes
# differential privacy, which only teachers with `teachers.privacy` have.

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
from medddist.leaks.audit import audit, broken, candidates_of, nearest

figures.set_style()
dataset, settings, seed = study.data, study.profile.audit, study.profile.seeds[0]
result = study.distillation()
told = audit(study)
pd.Series(settings.model_dump(exclude={"recipe"}), name="audit").astype(str).to_frame()

# %% [markdown]
# ## Nearest neighbours
#
# Of each distilled image: how far it is from the image that it started from, from the nearest of other training images of its class, and from
# the nearest of as many images that nobody trained on. If training images were no nearer than unseen ones, they would be the nearer ones half
# of the time. Distances are root mean squares, over pixels and over a teacher's features: neither is what a radiologist sees.

# %%
rows = {}
for space, of in told["neighbours"].items():
    cell = lambda one: (
        "-"
        if one is None
        else f"{one['count']} of {one['of']} [{one['low']:.2f}, {one['high']:.2f}]"
    )
    rows[space] = {
        "to its start": "-" if of["to_start"] is None else f"{of['to_start']:.3f}",
        "to other training images": f"{of['to_training']:.3f}",
        "to unseen images": f"{of['to_unseen']:.3f}",
        "a training image is nearer": cell(of["training_is_nearer"]),
        "its start is nearest of all": cell(of.get("start_is_nearest")),
    }
pd.DataFrame(rows)

# %% [markdown]
# The same, to look at: a distilled image of each class, and the nearest by pixels.

# %%
found = nearest(study, result, seed)["pixels"]
per_class = study.profile.distill.images_per_class
shown = [k * per_class + j for k in range(dataset.classes) for j in range(min(2, per_class))]
pictures = {"distilled": list(dataset.pixels(result.distilled.images[shown].cpu().numpy()))}
if result.initial_indices.ndim == 1 and len(result.initial_indices):
    pictures["started from"] = list(
        dataset.train.images[result.initial_indices[shown].numpy()] / 255
    )
pictures["nearest training"] = list(
    dataset.train.images[found.nearest_training[shown].numpy()] / 255
)
pictures["nearest unseen"] = list(dataset.test.images[found.nearest_unseen[shown].numpy()] / 255)
names = [dataset.class_names[k // per_class].replace("_", " ") for k in shown]
figures.show(
    figures.sheet(pictures, columns=names),
    "Distilled images, those they started from, the nearest training and the nearest unseen images",
)

# %% [markdown]
# One distance by hand: from the first image to its start.

# %%
if found.start is not None and result.initial_indices.ndim == 1:
    image, start = result.distilled.images[0], study.tensors("train")[0][result.initial_indices[0]]
    print(
        f"by hand {(image - start).square().mean().sqrt().item():.4f}, by the library {found.start[0].item():.4f}"
    )

# %% [markdown]
# ## Membership
#
# Networks are trained on the distilled images, without augmentation so that they remember, and asked how sure they are of the class of an
# image; from that is taken how sure networks are that have nothing to do with it {cite:p}`watson2022,carlini2022lira`. An image counts as found
# where it scores higher than all but a small share of unseen images.
#
# - **Positive control**: as many random real images as there are distilled ones, and networks trained on them. They have to be found, or the attack
#   is broken.
# - **Negative control**: unseen images that did not set the threshold. They have to be found as often as chance has it.


# %%
def line(attack, group, one):
    hits, area = one["true_positives"], one["auc"]
    return {
        "attack": attack,
        "images": group,
        "found": f"{hits['count']} of {hits['of']}",
        "share": f"{hits['share']:.3f} [{hits['low']:.3f}, {hits['high']:.3f}]",
        "by chance": f"{one['by_chance'][0]} to {one['by_chance'][1]}",
        "AUC": f"{area['auc']:.3f} [{area['low']:.3f}, {area['high']:.3f}]",
        "interval": f"{area['level']:.1%}",
    }


names = {
    "starting": "started from",
    "others": "other training images",
    "unseen": "unseen: negative control",
}
table = []
for attack, of in told["membership"].items():
    table.append(line(attack, "trained on: positive control", of["positive_control"]["control"]))
    table += [line(attack, names[group], one) for group, one in of["released"].items()]
pd.DataFrame(table).set_index(["attack", "images"])

# %%
reasons = broken(told)
print(
    "\n".join(reasons)
    or f"both controls are as they have to be, at a threshold for {100 * settings.false_positives:g} % false positives"
)

# %%
drawn = {
    attack: {"trained on": of["positive_control"]["control"]}
    | {names[group].split(":")[0]: one for group, one in of["released"].items()}
    for attack, of in told["membership"].items()
}
picture = figures.membership(drawn, settings.false_positives)
figures.show(
    picture,
    "Share of images found and area under the curve, by group of images and attack, with intervals; dashed: what chance gives",
)

# %% [markdown]
# LiRA takes from an image's score the mean of its scores under shadow sets that were distilled from random halves of the data without it, and divides
# by their deviation. It is a setting, `audit.shadows`: two short shadows did not find the positive control here, so it takes more of them, and a
# finding at 0.1 % false positives takes at least a thousand unseen images. Each shadow is kept when it is done.

# %%
asked = candidates_of(study, result)
print(
    f"asked about: {len(asked.starting)} images started from, {len(asked.others)} others, {len(asked.control)} for the control, {len(asked.unseen)} unseen"
)
