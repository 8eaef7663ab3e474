"""Figures of what a set gives away, and of what hospitals gain by sharing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from medddist.figures import style
from medddist.figures.findings import groups_of, way_label, way_rows
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, plt
from medddist.figures.tables import words

MARKERS = "osD^v"


def membership(attacks: Mapping[str, Mapping], false_positives: float) -> Figure:
    """Draw the share of images that an attack finds, and its AUC, by attack and group of images.

    Grey: what chance explains of the share.

    Args:
        attacks: attack -> what it found, as `leaks.audit.audit` returns it.
        false_positives: the rate at which the attack's threshold was set.
    """
    lines = {}
    for attack, groups in groups_of(attacks).items():
        several = f" ({attack})" if len(attacks) > 1 else ""
        lines |= {f"{group}{several}".replace(": ", ":\n"): row for group, row in groups.items()}
    size = (5.4, 2 * (0.5 * len(lines) + 1.1))
    figure, (top, low) = plt.subplots(2, 1, figsize=size)
    for place, (group, row) in enumerate(lines.items()):
        colour, hits = (
            DISTILLED if group.startswith("initial") else REFERENCE,
            row["true_positives"],
        )
        chance = [count / hits["of"] for count in row["by_chance"]]
        top.barh(place, chance[1] - chance[0], left=chance[0], height=0.6, color="0.85", zorder=0)
        style.horizontal_interval(top, place, hits, "share", colour)
        style.horizontal_interval(low, place, row["auc"], "auc", colour)
    low.axvline(0.5, color="0.3", ls="--", lw=1)
    share = f"share found at {100 * false_positives:g} % false positives (grey: chance)"
    for panel, xlabel in ((top, share), (low, "area under the ROC curve (dashed: chance)")):
        style.name_rows(panel, list(lines))
        panel.set_xlabel(xlabel, fontsize=11)
        panel.grid(axis="y", visible=False)
    figure.tight_layout()
    return figure


def leakage(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw a metric on test against the attack's AUC, both with intervals.

    Filled: on the images that the set started from, or that were sent. Hollow: other training
    images. `rows` are those of `leaks.leakage.leakage`.
    """
    names = list(dict.fromkeys(leakage_name(row) for row in rows))
    sizes = sorted({row["images_per_class"] for row in rows})
    figure, axes = plt.subplots(figsize=(5.6, 4.6))
    for row in rows:
        colour, score = COLOURS[names.index(leakage_name(row))], row[metric]
        marker = MARKERS[sizes.index(row["images_per_class"]) % len(MARKERS)]
        for group, found in row["found"].items():
            area = found["auc"]
            fill = "white" if group == "others" else colour
            errors = _errors(score, "mean"), _errors(area, "auc")
            look = {"color": colour, "alpha": 0.8, "lw": 1, "ms": 8, "mfc": fill, "marker": marker}
            axes.errorbar(area["auc"], score["mean"], *errors, **look)
    axes.axvline(0.5, color="0.3", ls="--", lw=1)
    mark = lambda label, **look: plt.Line2D([], [], ls="none", label=label, **look)
    legend = [mark(name, marker="o", color=COLOURS[k]) for k, name in enumerate(names)]
    for marker, size in zip(MARKERS, sizes):
        legend.append(mark(f"{size} images per class", marker=marker, color="0.4"))
    hollow = "hollow: training images not used as initial images"
    legend.append(mark(hollow, marker="o", color="0.4", mfc="white"))
    where = {"loc": "lower left", "bbox_to_anchor": (-0.1, 1), "frameon": False}
    axes.legend(handles=legend, fontsize=11, **where)
    xlabel = "area under the attack's ROC curve (0.5: chance)"
    ylabel = f"{metric.replace('_', ' ')} on test"
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def _errors(interval: Mapping, value: str) -> np.ndarray:
    """(2, 1) distances from the value down to `low` and up to `high`."""
    below, above = interval[value] - interval["low"], interval["high"] - interval[value]
    return np.clip([[below], [above]], 0, None)


def guarantee(rows: Sequence[Mapping], lines: Mapping[str, Mapping], metric: str) -> Figure:
    """Draw a metric on test against epsilon, with its 95 % intervals.

    Args:
        rows: with `epsilon`, `name` of the curve, and the metric's {mean, low, high}.
        lines: by name, what has no epsilon; drawn as horizontal lines.
        metric: of both.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = plt.subplots(figsize=(5.6, 4.6))
    for place, name in enumerate(names):
        own = sorted((row for row in rows if row["name"] == name), key=lambda row: row["epsilon"])
        x = [row["epsilon"] * 1.04 ** (place - (len(names) - 1) / 2) for row in own]
        errors = np.hstack([_errors(row[metric], "mean") for row in own])
        look = {"color": COLOURS[(place + 1) % 10], "marker": MARKERS[place % 5], "capsize": 3}
        axes.errorbar(x, [row[metric]["mean"] for row in own], errors, label=name, **look)
    first = sorted(lines.items(), key=lambda named: not named[0].startswith("random"))
    for place, (name, line) in enumerate(first):  # random images look the same in every figure
        style_of = ("--", ":", "-.", (0, (1, 4)))[place % 4]
        axes.axhline(line[metric]["mean"], color="0.3", ls=style_of, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="epsilon (smaller: a stronger guarantee)")
    axes.set(ylabel=f"{words(metric)} on test")
    axes.legend(fontsize=11, loc="lower left", bbox_to_anchor=(0, 1), ncols=1, frameon=False)
    return figure


def leakage_name(row: Mapping) -> str:
    """Return a row's label, with the guarantee's epsilon where there is one."""
    return row["label"] + (f", ε = {row['privacy']['epsilon']:.2g}" if row["privacy"] else "")


def sharing(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw each way's score on all hospitals' test parts, with the bytes that it sends.

    `rows` are those of `sharing.ways.compare`.
    """
    figure, axes = plt.subplots(figsize=(5.4, 0.55 * len(rows) + 1))
    for place, row in enumerate(rows):
        score, colour = row["all"][metric], DISTILLED if "package" in row["way"] else REFERENCE
        style.horizontal_interval(axes, place, score, "mean", colour)
    style.name_rows(axes, [way_label(row) for row in rows])
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"{words(metric)} on test, 95 % interval")
    figure.tight_layout()
    return figure


def by_hospital(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw each way's mean score on the test part of each hospital, as a heat map: ways by rows.

    `rows` are those of `sharing.ways.compare`.
    """
    scores = pd.DataFrame(way_rows(rows, metric)).set_index("way").astype(float)
    figure, axes = plt.subplots(figsize=(5.4, 0.5 * len(rows) + 1.2))
    look = {"annot": True, "fmt": ".2f", "cmap": "viridis", "linewidths": 1, "cbar": False}
    sns.heatmap(scores, ax=axes, **look)
    names = ["\n".join(textwrap.wrap(way, 26)) for way in scores.index]
    axes.set_yticklabels(names, rotation=0)
    axes.set_xticklabels(["\n".join(textwrap.wrap(name, 9)) for name in scores.columns])
    axes.set(xlabel=f"{words(metric)} on test images of", ylabel="")
    axes.tick_params(axis="x", rotation=0)
    figure.tight_layout()
    return figure
