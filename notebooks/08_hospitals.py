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
# **Shows** the purpose of the method: each hospital distils its own data and
# sends a package, and a receiver trains on all packages. (Hospitals are the
# sources of the data; on the phantom, its sites.) For comparison it shows
# each hospital alone, networks that are shared instead of images, federated
# averaging {cite:p}`mcmahan2017`, and all real data in one place. **Costs** a
# few minutes in the `demo` profile. **Expect** all packages together to score
# below the pooled data, with one round of communication where averaging takes
# several. Bytes are counted as they are sent.

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
own = setup.hospitals
counts = {
    hospital: {
        f"{part_name} {class_name}": count
        for part_name, part in data.parts().items()
        for class_name, count in zip(
            data.class_names, part.class_counts(data.classes)
        )
    }
    for hospital, data in own.items()
}
pd.DataFrame(counts)

# %% [markdown]
# ## Each hospital sends a package
#
# Nothing except these files leaves a hospital. A manifest lists the SHA-256
# of each file. The SHA-256 of the manifest is the package's ID.

# %%
inbox = inbox_folder(study)
packages = sent_packages(study, inbox)
opened = {hospital: open_package(path) for hospital, path in packages.items()}
pd.DataFrame(
    {
        hospital: {
            "ID": package.id[:12],
            "images": len(package),
            "step size": f"{package.step_size:.3f}",
            "bytes": packages[hospital].stat().st_size,
        }
        for hospital, package in opened.items()
    }
)

# %%
sheet = {}
for hospital, package in opened.items():
    pixels = own[hospital].pixels(package.images.numpy())
    sheet[hospital] = list(pixels[:: max(1, len(package) // 8)][:8])
figures.show(
    figures.sheet(sheet, "Some images of each package"),
    "Distilled images of each hospital's package, one row per hospital",
)

# %% [markdown]
# ## What a receiver reaches
#
# Every way to share ends with networks of the same kind, scored on the test
# part of every hospital. Ways with real data use one recipe, packages use
# their own.

# %%
rows = compare(setup, packages)


def score_text(score):
    """A score with its interval, if there is one."""
    if score["mean"] is None:
        return "-"
    if score["low"] is None:
        return f"{score['mean']:.3f}"
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


table = {}
for row in rows:
    table[row["way"]] = {
        "kB sent": round(row["sent_bytes"] / 1000),
        "rounds": row["rounds"],
        "all": score_text(row["all"][metric]),
    }
    for hospital, scores in row["hospitals"].items():
        table[row["way"]][hospital] = score_text(scores[metric])
pd.DataFrame.from_dict(table, orient="index")

# %%
best = max(rows, key=lambda row: row["all"][metric]["mean"] or 0)
figures.show(
    figures.sharing(rows, metric),
    f"{metric.replace('_', ' ')} on the test parts of all hospitals by bytes"
    f" sent, one point per way to share; the highest is {best['way']}",
)

# %% [markdown]
# ## A corrected package, and a withdrawn one
#
# A corrected package has a new ID and replaces the old one. When a hospital
# withdraws its package, the receiver trains again without it; then no network
# of the receiver contains anything from it. Where networks are shared and
# their answers averaged, that hospital's networks are left out. With
# federated averaging, every hospital has to train again. (Its rounds go on
# until validation stops rising.)

# %%
hospital, *others = packages
before = opened[hospital].id
stated = {
    "description": f"Distilled by {hospital}, second version",
    "creator": hospital,
}
contents = contents_of(hospital_study(study, own[hospital]))
write_package(packages[hospital], contents, stated=stated)
after = open_package(packages[hospital]).id
print(f"{hospital}: first {before[:12]}, then {after[:12]}")

# %%
sent_bytes = sum(packages[other].stat().st_size for other in others)
remaining = by_packages(
    setup,
    [opened[other] for other in others],
    f"without {hospital}",
    sent_bytes,
)
everyone = next(row for row in rows if row["way"] == "all packages")
without = scored(setup, remaining)
print(f"all packages: {score_text(everyone['all'][metric])}")
print(f"{remaining.way}: {score_text(without['all'][metric])}")

# %% [markdown]
# ## Who sent it
#
# A set that was made to mislead networks looks like any other. A receiver who
# got a sender's public key by another way can check its signature.

# %%
keys = inbox / "keys"
if not (keys / "public.pem").exists():
    make_keys(keys)
private, public = keys / "private.pem", keys / "public.pem"
write_package(packages[hospital], contents, stated=stated, sign_with=private)
signed = open_package(packages[hospital], key=public).signed
print(f"signature valid for the key that the receiver has: {signed}")
