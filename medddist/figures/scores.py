"""Figures and tables of scores on the test part, with their 95 % intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_curve

from medddist.figures import style
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, WIDTH_IN, plt
from medddist.figures.tables import interval_text, words

NETWORKS = {"convnet": "ConvNet", "vit": "small ViT", "none": "no network"}
NETWORKS |= dict.fromkeys(("resnet18", "imagenet_resnet18"), "ResNet-18")

LINES = ("-", "--", "-.", ":")
BINS = "quantile"


def score_table(rows: Sequence[Mapping], metrics: Sequence[str]) -> pd.DataFrame:
    """Return a table, a row per method: each metric's mean and 95 % interval as text."""
    columns = {words(name): [interval_text(row[name]) for row in rows] for name in metrics}
    return pd.DataFrame(columns, index=[row["label"] for row in rows])


def intervals(rows: Sequence[Mapping], metrics: Sequence[str], majority_share: float) -> Figure:
    """Draw each method's mean and 95 % interval, a panel per metric.

    Dashed: the accuracy of a classifier that always predicts the majority class.
    """
    size = (WIDTH_IN, len(metrics) * (0.48 * len(rows) + 1))
    figure, axes = plt.subplots(len(metrics), 1, figsize=size, squeeze=False)
    for panel, metric in zip(axes[:, 0], metrics):
        for place, row in enumerate(rows):
            score, colour = row[metric], DISTILLED if row["method"] == "distilled" else REFERENCE
            style.horizontal_interval(panel, place, score, "mean", colour)
            above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
            panel.annotate(f"{score['mean']:.3f}", (score["mean"], place), fontsize=10, **above)
        if metric == "accuracy":
            panel.axvline(majority_share, color="0.3", ls="--", lw=1)
        panel.set(title=f"{words(metric)} on test, 95 % interval")
        style.name_rows(panel, [row["label"] for row in rows])
    figure.tight_layout()
    return figure


def leads(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw the paired difference, distilled minus each other method, with its 95 % interval."""
    others = [row for row in rows if "distilled_lead" in row]
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.48 * len(others) + 1.2))
    for place, row in enumerate(others):
        lead = row["distilled_lead"][metric]
        colour = COLOURS[2] if lead["low"] > 0 else COLOURS[3] if lead["high"] < 0 else "0.5"
        style.horizontal_interval(axes, place, lead, "difference", colour)
    axes.axvline(0, color="0.3", lw=1)
    style.name_rows(axes, [row["label"] for row in others])
    title = f"Paired difference of {words(metric)}"
    axes.set(xlabel="distilled minus the other (right of 0: distilled is better)", title=title)
    return figure


def confusions(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Draw confusion matrices (K, K): rows are true classes, shown as shares of the row."""
    figure, axes = plt.subplots(len(matrices), 1, figsize=(4.6, 4 * len(matrices)), squeeze=False)
    short = [name.replace("_", " ").replace(" ", "\n") for name in class_names]
    look = {"annot": True, "fmt": ".2f", "cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False}
    look |= {"square": True, "xticklabels": short, "yticklabels": short}
    for panel, (name, matrix) in zip(axes.flat, matrices.items()):
        share = matrix / np.maximum(np.sum(matrix, 1, keepdims=True), 1e-12)
        sns.heatmap(share, ax=panel, annot_kws={"fontsize": 11}, **look)
        panel.tick_params(labelsize=10, rotation=0)
        panel.set_title("\n".join(textwrap.wrap(name, 40)), fontsize=11)
        panel.set(xlabel="predicted", ylabel="true")
    figure.tight_layout()
    return figure


def roc_and_calibration(answers: Mapping[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Draw ROC curves, and how often a network is right by how confident it is.

    Args:
        answers: class probabilities (R, N, K) of R networks, by the name of their training set.
        labels: (N,) classes.

    Returns:
        Top: one class against the others, the mean curve over classes and networks. Below: the
        images of all networks in ten bins of equal size by the probability of the predicted class.
    """
    figure, (top, below) = plt.subplots(2, 1, figsize=(4.6, 8.6))
    colours, rates = [DISTILLED, REFERENCE, *COLOURS[2:]], np.linspace(0, 1, 201)
    for (name, given), colour, line in zip(answers.items(), colours, LINES):
        curves, areas = [], []
        for network in given:
            for k in np.unique(labels):
                false, true, _ = roc_curve(labels == k, network[:, k])
                curves.append(np.interp(rates, false, true))
                areas.append(auc(false, true))
        mean, look = np.mean(curves, 0), {"color": colour, "ls": line, "lw": 2}
        top.plot(rates, mean, label=f"{name}, area {np.mean(areas):.3f}", **look)
        right_answer = (given.argmax(2) == labels).ravel()
        binned = calibration_curve(right_answer, given.max(2).ravel(), n_bins=10, strategy=BINS)
        below.plot(binned[1], binned[0], marker="o", ms=5, **look)
    for panel in (top, below):
        panel.plot([0, 1], [0, 1], color="0.5", lw=1, ls=":")
        panel.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    top.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    below.set(xlabel="mean confidence", ylabel="share right", title="Calibration")
    figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), fontsize=11)
    figure.tight_layout()
    return figure


def images_per_class(
    table: pd.DataFrame, metric: str, published: Mapping[str, Mapping[int, float]] | None = None
) -> Figure:
    """Draw each method's score by images per class, all seeds together, with 95 % intervals.

    Small points are single seeds; a method without a number of images is a horizontal line.
    `table` is `study.sweep.table` of one data source. Squares are scores that others published, by
    a text and the number of images per class.
    """
    rows = table[table["metric"] == metric]
    together = rows[rows["seeds"] == max(rows["seeds"], key=len)]
    sized = together.dropna(subset="images_per_class")
    colours = [DISTILLED, REFERENCE, COLOURS[2], COLOURS[4], COLOURS[3]]
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 4.4))
    for place, (label, method) in enumerate(sized.groupby("label", sort=False)):
        colour, x = colours[place % 5], method["images_per_class"].astype(float)
        axes.plot(x, method["mean"], "o-", color=colour, label=label)
        axes.fill_between(x, method["low"], method["high"], color=colour, alpha=0.2, lw=0)
        single = rows[(rows["label"] == label) & ~rows["seeds"].str.contains(" ")]
        x = single["images_per_class"].astype(float)
        axes.plot(x, single["mean"], ".", color=colour, ms=5, alpha=0.7)
    constant = together[together["images_per_class"].isna()]
    for place, (label, method) in enumerate(constant.groupby("label", sort=False)):
        score = method.iloc[0]
        axes.axhline(score["mean"], color="0.3", ls=("--", ":", "-.")[place % 3], label=label)
        axes.axhspan(score["low"], score["high"], color="0.3", alpha=0.12, lw=0)
    ticks = set(sized["images_per_class"].astype(int))
    for label, scores in (published or {}).items():
        axes.plot(*zip(*scores.items()), "s", color="0.35", mfc="none", label=label)
        ticks |= set(scores)
    ticks = sorted(ticks)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    ylabel = f"{metric.replace('_', ' ')} on test"
    axes.set(xlabel="images per class", ylabel=ylabel, title="What more images are worth")
    axes.legend(fontsize=10, loc="upper left", bbox_to_anchor=(0, -0.16), frameon=False)
    return figure


def compared(rows: Sequence[Mapping], metrics: Sequence[str]) -> Figure:
    """Draw mean and 95 % interval on test: a line per method, a colour per network.

    Dotted: the distilled images, where they come first. Rows without scores are left out.
    """
    measured = [row for row in rows if row["status"] == "measured"]
    frame = pd.DataFrame({"method": [row["label"] for row in measured]})
    frame["network"] = [NETWORKS.get(row["network"], row["network"]) for row in measured]
    names, networks = list(frame["method"].unique()), list(frame["network"].unique())
    palette = dict(zip(networks, COLOURS))
    apart = frame["network"].map(networks.index) / len(networks) - 0.5 + 0.5 / len(networks)
    frame["place"] = frame["method"].map(names.index) + 0.7 * apart
    size = (WIDTH_IN, len(metrics) * (0.4 * len(names) + 1.2))
    figure, axes = plt.subplots(len(metrics), 1, figsize=size, squeeze=False)
    for panel, metric in zip(axes[:, 0], metrics):
        scores = frame.join(pd.DataFrame(row[metric] for row in measured))
        colours = scores["network"].map(palette).tolist()
        panel.hlines(scores["place"], scores["low"], scores["high"], colors=colours, lw=2)
        look = {"palette": palette, "s": 45, "legend": panel is axes[-1, 0]}
        sns.scatterplot(scores, x="mean", y="place", hue="network", ax=panel, **look)
        panel.grid(axis="y", visible=False)
        if measured[0]["method"] == "distilled":
            panel.axvline(measured[0][metric]["mean"], color="0.4", ls=":", lw=1)
        panel.set(xlabel=f"{words(metric)} on test, 95 % interval", ylabel="")
        style.name_rows(panel, names)
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    axes[-1, 0].legend_.remove()
    look = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "frameon": False}
    figure.tight_layout()
    if len(networks) > 1:
        figure.legend(handles, labels, fontsize=11, **look)
    return figure


def probed(rows: Sequence[Mapping]) -> Figure:
    """Draw linear probes' balanced accuracy, a panel per network; dashed: random features."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    size = (WIDTH_IN, 0.42 * len(rows) + 1.1 * len(networks))
    figure, axes = plt.subplots(len(networks), 1, figsize=size, sharex=True, squeeze=False)
    for panel, network in zip(axes[:, 0], networks):
        own = [row for row in rows if row["network"] == network]
        for place, row in enumerate(own):
            score = row["balanced_accuracy"]
            style.horizontal_interval(panel, place, score, "mean", REFERENCE)
        panel.axvline(own[0]["balanced_accuracy"]["mean"], color="0.3", ls="--", lw=1)
        panel.set(title=NETWORKS.get(network, network))
        style.name_rows(panel, [row["label"] for row in own])
    axes[-1, 0].set(xlabel="balanced accuracy on test, 95 % interval")
    figure.tight_layout()
    return figure
