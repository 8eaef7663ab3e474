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
# **Question.** With the same few labels, do networks learn more from the
# distilled images than with other methods? **Costs** a few minutes in the
# `demo` profile on two cores.
# **Expect**, in `demo` on the phantom, the distilled images ahead of some
# methods and close to most, and behind a network that has all images and
# labels.
#
# The other methods are self-supervision, transfer, coresets, other ways to
# distil, and random images. (`demo` leaves out k-means, the other ways to
# distil, and self-supervision on the released images alone; `full` has them.)
# Every method has the same labels, the same training and the same tuning
# effort. The test part is scored once.
#
# :::{admonition} The protocol in detail
# :class: dropdown
#
# *What may be used.* The poster's own protocol is unknown, so there are two.
# In one, self-supervision sees only the released images. In the other it also
# sees all training images, without their labels.
#
# *The same data.* Each evaluation seed has its own draw of random images and
# its own initial weights, the same for every method that uses them.
#
# *The same effort.* Every method tries the same learning rates on validation.
# A method with a learning rate of its own also tries the same factors of it.
# A preparation processes a fixed number of images at most, the same for all
# methods. The distilled set may also use the step size that it learned.
#
# *Differences* are paired on test groups and vary over seeds. Their p values
# are corrected by Holm {cite:p}`holm1979` over the comparisons of a protocol.
# "Better" and "worse" mean a corrected p below 0.05, so an interval that
# excludes zero need not be enough.
#
# *Methods.* BYOL {cite:p}`grill2020`, SimSiam {cite:p}`chen2021` and MAE
# {cite:p}`he2022` are small here: one optimiser (AdamW), one schedule, small
# heads, group norm instead of batch norm. Neither code nor the full recipe of
# SKD {cite:p}`li2022self` is public. "SKD-style" is BYOL with batch knowledge
# ensembling {cite:p}`ge2021`, a choice of this study. Gradient matching
# {cite:p}`zhao2021gradient` and distribution matching {cite:p}`zhao2023` use
# one augmentation for real and synthetic images {cite:p}`zhao2021`. Herding
# {cite:p}`welling2009` and k-means use a teacher's features. Transfer from
# one site learns with the labels of that site, which other methods lack.
# :::

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
from medddist import figures
from medddist.comparison.origins import of_origins
from medddist.comparison.tables import comparison_rows
from medddist.figures import comparison as compared
from medddist.study.workers import workers_for

figures.set_style()
metric = "balanced_accuracy"
rows = comparison_rows(study, workers=workers_for(study))

# %% [markdown]
# ## Which method learns most from a few labels?

# %%
sentences = compared.comparison_sentences(rows, metric)
figures.show(compared.methods(rows, metric), " ".join(sentences))

# %% [markdown]
# A method left of the dotted line scores lower than the distilled images.
# (Their own score differs a little from that of the evaluation: here, three
# networks train on them, at a learning rate chosen as for all methods.)
# Compare methods within one colour: networks other than the ConvNet learn
# little in so few training steps, whatever the method.

# %%
compared.download(rows)

# %% [markdown]
# ## What is sent, and what is it worth?
#
# A few real images take few bytes, but they are patients' images. A network
# that was trained in the hospital takes few bytes too, and has seen all
# images; the table shows whether the distilled images keep up with it.

# %%
sent = compared.sent(rows, metric)
figures.table(sent, "Four things that a hospital may send", index="sent")

# %% [markdown]
# ## Do the images also teach other networks?
#
# The images were learned for one ConvNet. Here other networks are trained on
# them, and on an equal number of random real images.

# %%
told = compared.networks_sentence(rows, metric)
figures.show(compared.other_networks(rows, metric), told)

# %% [markdown]
# Where the gap between the two colours closes, the advantage of the distilled
# images is limited to the network that they were made for.
#
# ## Does the source of an image predict its class?
#
# In the real radiographs the class is confounded with its source: a network
# may learn the hospital's scanner instead of the disease. No method on this
# page protects against that. On the phantom, sites can be balanced over the
# classes, as here, or confounded with them. [](../weights.md) compares the
# two, and so does this notebook with the `full` profile.

# %%
origins = of_origins(study, workers=workers_for(study))
shortcut = compared.sites_sentence(origins, study.data.classes)
figures.table(compared.sites(origins), shortcut)

# %% [markdown]
# ## Exercises
#
# **1.** What do fewer labels change? Run this notebook with
# `overrides="distill.images_per_class=5"`, and compare the first figure.
#
# :::{admonition} Solution
# :class: dropdown
#
# Every method that learns from the released images has fewer of them now, the
# distilled images too; a network on all images has as many as before. Watch
# the distance between the dotted line and random real images: what an image
# contains matters most where there are few images.
# [](../results.md) shows the curve
# over images per class on real radiographs.
# :::
#
# **2.** Did self-supervision learn anything at all? Compare its features with
# those of a network with random weights.
#
# :::{admonition} Solution
# :class: dropdown
#
# ```python
# from medddist.comparison.probes import probe_rows
#
# probes = probe_rows(study, workers_for(study))
# figures.show(figures.probed(probes), "Linear probes by network")
# ```
#
# A linear probe on frozen features tells. Random features of a ConvNet are
# already good, since its last maps keep positions; those of the ViT are
# averaged over the image, so there is more to gain.
# [](../comparison.md) has this figure for real radiographs.
# :::
#
# ## Take-away

# %%
figures.conclusion([*sentences, shortcut])
