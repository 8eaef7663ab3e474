"""Figures of the data, of teachers, and of how a distillation went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, WIDTH_IN, plt


def class_counts(counts: pd.DataFrame) -> Figure:
    """Draw how many images each class has: a row per class, a column per part."""
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 2.8))
    counts.plot.barh(ax=axes, stacked=True, color=COLOURS[: len(counts.columns)], edgecolor="white")
    axes.invert_yaxis()
    totals = counts.sum(axis=1)
    largest = f"{totals.idxmax()} is {totals.max() / totals.sum():.0%} of all images"
    axes.set(xlabel="images", ylabel="", title=largest)
    return figure


def brightness(means: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw mean pixel values (N,) of images by class."""
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 2.8))
    named = [class_names[k] for k in labels]
    order = {"order": class_names, "hue": named, "hue_order": class_names, "legend": False}
    sns.boxplot(x=means, y=named, fliersize=1, ax=axes, **order)
    xlabel = "mean pixel value of an image (0 black, 1 white)"
    axes.set(xlabel=xlabel, ylabel="", title="Brightness by class")
    return figure


def teacher_curves(
    curves: Sequence[Sequence[Mapping[str, float]]], first_epoch: int, last_epoch: int
) -> Figure:
    """Draw each teacher's validation scores by epoch; the epochs that matching reads are shaded."""
    epochs = pd.concat([pd.DataFrame(curve) for curve in curves]).rename_axis("epoch").reset_index()
    rows = epochs.melt("epoch", var_name="metric", value_name="score")
    rows["metric"] = rows["metric"].str.replace("_", " ")
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.4))
    axes.axvspan(first_epoch, last_epoch, color="0.9", zorder=0, label="read by matching")
    spread = {"hue": "metric", "style": "metric", "errorbar": ("pi", 100)}
    sns.lineplot(rows, x="epoch", y="score", ax=axes, **spread)
    title = f"{len(curves)} teachers: mean, and lowest to highest"
    axes.set(xlabel="epoch", ylabel="validation score", title=title)
    axes.legend(title="")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def teacher_moves(moves: np.ndarray, expert_epochs: int) -> Figure:
    """Draw how far each teacher moves in `expert_epochs` epochs from each start epoch.

    Args:
        moves: (teachers, start epochs) distances between parameters.
        expert_epochs: M, the epochs between start and target.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 2.8))
    frame = pd.DataFrame(moves).melt(var_name="start epoch", value_name="distance")
    sns.lineplot(frame, x="start epoch", y="distance", errorbar=("pi", 100), marker="o", ax=axes)
    distance = f"|θ(t) − θ(t+{expert_epochs})|"
    axes.set(xlabel="start epoch t", ylabel=distance, title="How far the student has to move")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def distillation_course(
    losses: np.ndarray,
    step_sizes: np.ndarray,
    candidates: Sequence[Mapping],
    selected: int,
    metric: str,
    method: str = "trajectory",
) -> Figure:
    """Draw the loss, the learned step size and the candidates' validation scores by iteration.

    Args:
        losses: (I,) of each iteration.
        step_sizes: (I,) of each iteration.
        candidates: with `iteration` and `score`.
        selected: the iteration that was selected.
        metric: that `score` is.
        method: of the distillation.
    """
    figure, (top, middle, low) = plt.subplots(3, 1, figsize=(WIDTH_IN, 6.4), sharex=True)
    window = max(1, len(losses) // 20)
    smooth = pd.Series(losses).rolling(window, center=True, min_periods=1).mean()
    top.plot(losses, color="0.75", lw=0.8, label="each iteration")
    top.plot(smooth, color=DISTILLED, label=f"mean of {window}")
    if method == "trajectory":
        top.axhline(1, color="0.3", ls=":", lw=1)
        top.set(ylabel="matching loss", title="A student that does not move has a loss of 1")
    else:
        title = "Cross-entropy of students on real images"
        top.set(ylabel="loss on real images", title=title)
    top.legend()
    middle.plot(step_sizes, color=REFERENCE)
    middle.set(ylabel="step size α", title="The learned step size")
    scored = {row["iteration"]: row[metric] for row in candidates if metric in row}
    low.plot(list(scored), list(scored.values()), "o-", color=REFERENCE)
    if selected in scored:  # not where the last candidate was taken without validation
        low.plot([selected], [scored[selected]], "o", ms=13, mfc="none", mec=DISTILLED, mew=2.5)
    title = f"Validation score of each candidate; selected: iteration {selected}"
    low.set(xlabel="iteration", ylabel=metric.replace("_", " "), title=title)
    figure.tight_layout()
    return figure


def losses_by_start(losses: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draw the matching loss of students by the teacher's epoch that they start from.

    `losses` are, by the name of the set that students train on, the loss by start epoch.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 3.2))
    colours = [REFERENCE, DISTILLED, *COLOURS[2:]]
    for (name, by_start), colour, marker in zip(losses.items(), colours, "so^D"):
        axes.plot(*zip(*by_start.items()), marker=marker, color=colour, label=name)
    axes.axhline(1, color="0.3", ls=":", lw=1)
    title = "Matching loss by start epoch (1: a student that stays)"
    axes.set(xlabel="start epoch t", ylabel="matching loss", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure
