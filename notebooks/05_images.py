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
# # What the distilled images look like
#
# What it shows, what it costs, what to expect.

# %% tags=["parameters"]
profile: str = "demo"  # smoke, demo, real or paper: how large the study is
data: str = "phantom"  # phantom, a radiography folder, a folder of class folders, or a MedMNIST-style .npz
out: str = ""  # folder for what is computed; "" is build/artifacts of the clone
overrides: str = ""  # settings to change in the profile: name and value joined by an equals sign, separated by spaces

# %% tags=["hide-input"]
import importlib.util, subprocess, sys

if importlib.util.find_spec("medddist") is None:  # in Colab, where nothing is installed yet
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "git+<repository>"], check=True)

from medddist.notebooks import artifacts_folder, parameters

given = parameters(locals())
folder = artifacts_folder(given.out)
