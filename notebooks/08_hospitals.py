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
# **Shows** the act that the method is for: each hospital distils its own data and sends a package, and a receiver trains on all of them (hospitals
# are the origins of the data; of the phantom, its sites); beside it, what each hospital reaches alone, with the others' weights, by federated averaging {cite:p}`mcmahan2017`, and with all real
# data in one place. **Costs** a few minutes in the `demo` profile. **Expect** the union of the packages below the pooled data, and one round of
# communication where averaging takes several. Bytes are counted as they are sent.

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
from medddist.sharing.hospitals import by_packages, compare, hospitals, inbox_folder, scored, sent_packages, study_of
from medddist.sharing.reading import open_package
from medddist.sharing.signature import make_keys
from medddist.sharing.writing import write_package

figures.set_style()
metric = study.profile.distill.selection_metric
own = hospitals(study.data)
counts = {
    name: {
        f"{what} {of}": n
        for what, part in one.parts().items()
        for of, n in zip(one.class_names, part.class_counts(one.classes))
    }
    for name, one in own.items()
}
pd.DataFrame(counts)

# %% [markdown]
# ## Each sends a package
#
# Nothing but these files leaves a hospital. A manifest names each file by its SHA-256, and its own is the package's ID.

# %%
inbox = inbox_folder(study)
packages = sent_packages(study, inbox)
opened = {name: open_package(path) for name, path in packages.items()}
pd.DataFrame(
    {
        name: {
            "ID": one.id[:12],
            "images": len(one),
            "step size": f"{one.step_size:.3f}",
            "bytes": packages[name].stat().st_size,
        }
        for name, one in opened.items()
    }
)

# %%
sheet = {
    name: list(own[name].pixels(one.images.numpy())[:: max(1, len(one) // 8)][:8])
    for name, one in opened.items()
}
figures.show(
    figures.sheet(sheet, "Some images of each package"),
    "Distilled images of each hospital's package, a row for each hospital",
)

# %% [markdown]
# ## What a receiver reaches
#
# Every way ends with networks of one kind, scored on every hospital's test part. Those with real data follow one recipe, the packages their own.

# %%
rows = compare(study, packages)
cell = lambda one: (
    "-"
    if one["mean"] is None
    else f"{one['mean']:.3f}"
    + ("" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]")
)
table = {
    row["way"]: {
        "kB sent": round(row["sent_bytes"] / 1000),
        "rounds": row["rounds"],
        "all": cell(row["all"][metric]),
    }
    | {name: cell(of[metric]) for name, of in row["hospitals"].items()}
    for row in rows
}
pd.DataFrame.from_dict(table, orient="index")

# %%
figures.show(
    figures.sharing(rows, metric),
    f"{metric.replace('_', ' ')} on all hospitals' test parts by bytes sent, a point for each way to share",
)

# %% [markdown]
# ## A new version, and one that is withdrawn
#
# A corrected package has another ID, and takes the old one's place. When a hospital withdraws its package, the receiver trains again without
# it: what the package held is then in no network of the receiver's. Where networks are shared and their answers averaged, that
# hospital's are left out; by federated averaging every hospital has to train again. (It is stopped after the profile's few rounds here, and is not at its best.)

# %%
name, *others = packages
before = opened[name].id
stated = {"description": f"Distilled by {name}, second version", "creator": name}
write_package(study_of(study, own[name]), packages[name], stated, measure=False)
after = open_package(packages[name]).id
print(f"{name}: first {before[:12]}, then {after[:12]}")

# %%
sent_bytes = sum(packages[other].stat().st_size for other in others)
left = by_packages(study, own, [opened[other] for other in others], f"without {name}", sent_bytes)
everyone = next(row for row in rows if row["way"] == "all packages")
one = scored(study, own, left)
print(f"all packages {cell(everyone['all'][metric])}; {left.way} {cell(one['all'][metric])}")

# %% [markdown]
# ## Who sent it
#
# A set that was made to mislead networks looks like any other. A receiver who has a sender's key by another way asks for its signature.

# %%
keys = inbox / "keys"
if not (keys / "public.pem").exists():
    make_keys(keys)
write_package(
    study_of(study, own[name]),
    packages[name],
    stated,
    sign_with=keys / "private.pem",
    measure=False,
)
print(
    f"signed, and by the key that the receiver has: {open_package(packages[name], key=keys / 'public.pem').signed}"
)
