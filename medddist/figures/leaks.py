"""Figures of what a set gives away, and of what hospitals gain by sharing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from medddist.figures import style
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, plt

MARKERS = "osD^v"


def membership(attacks: Mapping[str, Mapping[str, Mapping]], false_positives: float) -> Figure:
    """Draw the share of images that an attack finds, and its AUC, by attack and group of images.

    Args:
        attacks: attack -> group -> a row of `audit`.
        false_positives: the rate at which the attack's threshold was set.
    """
    lines = {}
    for attack, groups in attacks.items():
        lines |= {f"{group} ({attack})": row for group, row in groups.items()}
    size = (9.2, 0.42 * len(lines) + 1.3)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True)
    for place, (group, row) in enumerate(lines.items()):
        colour = DISTILLED if group.startswith("started") else REFERENCE
        style.horizontal_interval(left, place, row["true_positives"], "share", colour)
        style.horizontal_interval(right, place, row["auc"], "auc", colour)
    left.axvline(false_positives, color="0.3", ls="--", lw=1)
    right.axvline(0.5, color="0.3", ls="--", lw=1)
    style.name_rows(left, list(lines))
    left.set(xlabel="share found", title="Images found")
    right.set(xlabel="area under the ROC curve", title="Against unseen images")
    figure.tight_layout()
    return figure


def leakage(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw a metric on test against the attack's AUC, both with intervals.

    Filled: on the images that the set started from, or that were sent. Hollow: other training
    images. `rows` are those of `leaks.leakage.leakage`.
    """
    names = list(dict.fromkeys(leakage_name(row) for row in rows))
    sizes = sorted({row["images_per_class"] for row in rows})
    figure, axes = plt.subplots(figsize=(8, 4.6))
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
    axes.legend(handles=legend, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    xlabel = "area under the attack's ROC curve (0.5: chance)"
    ylabel = f"{metric.replace('_', ' ')} on test"
    axes.set(xlabel=xlabel, ylabel=ylabel, title="Accuracy against leakage")
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
    figure, axes = plt.subplots(figsize=(7.4, 4.2))
    for place, name in enumerate(names):
        own = sorted((row for row in rows if row["name"] == name), key=lambda row: row["epsilon"])
        x = [row["epsilon"] * 1.04 ** (place - (len(names) - 1) / 2) for row in own]
        errors = np.hstack([_errors(row[metric], "mean") for row in own])
        look = {"color": COLOURS[(place + 1) % 10], "marker": MARKERS[place % 5], "capsize": 3}
        axes.errorbar(x, [row[metric]["mean"] for row in own], errors, label=name, **look)
    for place, (name, line) in enumerate(lines.items()):
        style_of = ("--", ":", "-.", (0, (1, 4)))[place % 4]
        axes.axhline(line[metric]["mean"], color="0.3", ls=style_of, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="epsilon (smaller: a stronger guarantee)")
    axes.set(ylabel=f"{metric.replace('_', ' ')} on test", title="What a guarantee costs")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def leakage_name(row: Mapping) -> str:
    """Return a row's label, with the guarantee's epsilon where there is one."""
    return row["label"] + (f", ε = {row['privacy']['epsilon']:.2g}" if row["privacy"] else "")


def sharing(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw a metric on all hospitals' test parts against the bytes sent.

    `rows` are those of `sharing.hospitals.compare`.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for row in rows:
        score, kilobytes = row["all"][metric], max(row["sent_bytes"], 1000) / 1000
        colour = DISTILLED if "package" in row["way"] else REFERENCE
        look = {"fmt": "o", "color": colour, "capsize": 3}
        axes.errorbar(kilobytes, score["mean"], _errors(score, "mean"), **look)
        place = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(row["way"], (kilobytes, score["mean"]), **place)
    axes.set(xscale="log", xlabel="kB sent (nothing is drawn at 1)")
    axes.set(ylabel=metric.replace("_", " "), title="What is reached, by what is sent")
    return figure
