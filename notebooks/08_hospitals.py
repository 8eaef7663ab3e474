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
# # Several hospitals
#
# **Question.** Does it help a hospital to receive the distilled images of
# others? **Costs** a few minutes in the `demo` profile. **Expect** all
# packages together to score below the pooled data.
#
# Each hospital distils its own data and sends a package; a receiver trains on
# all packages. (Hospitals are the sources of the data; on the phantom, its
# sites.) The alternatives: a hospital uses only its own data; hospitals share
# networks instead of images; they pool all real data in one place, which is
# usually forbidden. Federated averaging {cite:p}`mcmahan2017` takes many
# rounds, and longest to compute. Its scores are on [](../weights.md), and in
# this notebook with the `full` profile.

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
from medddist.figures import findings
from medddist.sharing.reading import open_package
from medddist.sharing.signature import make_keys
from medddist.sharing.studies import (
    contents_of,
    hospital_study,
    inbox_folder,
    sent_packages,
    setup_of,
)
from medddist.sharing.ways import by_packages, compare, scored
from medddist.sharing.writing import write_package

figures.set_style()
metric = study.profile.distill.selection_metric
setup = setup_of(study)

# %% [markdown]
# ## Each hospital sends a package
#
# Nothing except these files leaves a hospital. A manifest lists the SHA-256
# of each file. The SHA-256 of the manifest is the package's ID.

# %%
inbox = inbox_folder(study)
packages = sent_packages(study, inbox)
opened = {hospital: open_package(path) for hospital, path in packages.items()}
rows = [
    {
        "hospital": hospital,
        "training images": len(setup.hospitals[hospital].train),
        "distilled images": len(package),
        "bytes": packages[hospital].stat().st_size,
        "ID": package.id[:12],
    }
    for hospital, package in opened.items()
]
figures.table(rows, "One package per hospital", index="hospital")

# %% [markdown]
# ## What does a receiver reach?
#
# Every way to share ends with networks of the same kind, scored on the test
# images of all hospitals. In brackets: what is sent.

# %%
ways = compare(setup, packages)
told = findings.sharing_sentences(ways, metric)
figures.show(figures.sharing(ways, metric), " ".join(told))

# %% [markdown]
# Compare the packages (orange) with each hospital alone, and with the pooled
# data: that shows what sharing brings, and what it falls short of. An
# interval is wide where the few networks of a way to share differ much.
#
# One draw is not enough to tell. Each hospital distilled once here, and the
# intervals cover the networks, not other draws of the distilled images. These
# vary more: [](../weights.md) repeats the comparison with five draws, and its
# means differ from the scores here.
#
# Which hospital's patients benefit from sharing? A hospital's own network may
# work worse on the images of others: read along the rows.

# %%
means = findings.way_rows(ways, metric)
scores = [f"{row['way']} {row['all hospitals']:.2f}" for row in means]
figures.show(
    figures.by_hospital(ways, metric),
    "Score of each way on the test images of each hospital, as a heat map;"
    f" on all images: {', '.join(scores)}",
)

# %% [markdown]
# ## Later: a correction and a withdrawal
#
# A corrected package has a new ID and replaces the old one. When a hospital
# withdraws its package, the receiver trains again without it; then no network
# of the receiver contains anything from it. With federated averaging, every
# hospital would have to train again.

# %%
hospital, *others = packages
size = sum(packages[other].stat().st_size for other in others)
left = [opened[other] for other in others]
remaining = scored(setup, by_packages(setup, left, "one withdrawn", size))
everyone = next(row for row in ways if row["way"] == "all packages")
rows = [
    {"packages": row["way"], metric: row["all"][metric]}
    for row in (everyone, remaining)
]
figures.table(rows, "Before and after a withdrawal", index="packages")

# %% [markdown]
# ## Who sent it?
#
# A set that was made to mislead networks looks like any other. A receiver who
# has the sender's public key from another channel can check the package's
# signature. Here the
# first hospital corrects the description of its package, and signs it.

# %%
keys = inbox / "keys"
if not (keys / "public.pem").exists():
    make_keys(keys)
contents = contents_of(hospital_study(study, setup.hospitals[hospital]))
stated = {"description": "Second version", "creator": hospital}
private, public = keys / "private.pem", keys / "public.pem"
write_package(packages[hospital], contents, stated=stated, sign_with=private)
corrected = open_package(packages[hospital], key=public)
rows = [
    {"version": "first", "ID": opened[hospital].id[:12], "signature": "none"},
    {
        "version": "second",
        "ID": corrected.id[:12],
        "signature": "valid" if corrected.signed else "none",
    },
]
figures.table(rows, "A corrected package is another package", index="version")

# %% [markdown]
# ## Exercises
#
# **1.** What does a receiver reach with the packages of two hospitals? Train
# on every pair.
#
# :::{admonition} Solution
# :class: dropdown
#
# ```python
# from itertools import combinations
#
# for pair in combinations(packages, 2):
#     chosen = [opened[name] for name in pair]
#     shared = by_packages(setup, chosen, " and ".join(pair), 0)
#     print(shared.way, scored(setup, shared)["all"][metric]["mean"])
# ```
#
# If a pair without one hospital does as well as all three, that hospital's
# package adds little.
# :::
#
# **2.** Change one byte of a package and open it again. What happens?
#
# :::{admonition} Solution
# :class: dropdown
#
# ```python
# damaged = bytearray(packages[hospital].read_bytes())
# damaged[len(damaged) // 2] ^= 1
# (inbox / "damaged.zip").write_bytes(damaged)
# open_package(inbox / "damaged.zip")
# ```
#
# It is refused with a message that names the file that was changed. Remove
# `damaged.zip` afterwards.
# :::
#
# ## Take-away

# %%
figures.conclusion(told)
