"""Draws figures that only the book's pages show: the overview, and how costs grow."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from medddist.figures import COLOURS, DISTILLED, REFERENCE, mosaic, plt
from medddist.figures.style import WIDTH_IN


def overview(pictures: Mapping[str, np.ndarray], rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw the study in one figure: images of each kind, and scores of networks trained on them.

    Args:
        pictures: (N, C, H, W) in [0, 1] by name, N a square.
        rows: of `Study.table`.
        metric: which of a row's scores is drawn.
    """
    figure = plt.figure(figsize=(WIDTH_IN, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.6, 1])
    axes = above.subplots(1, len(pictures), squeeze=False)[0]
    for panel, (name, images) in zip(axes, pictures.items()):
        panel.imshow(mosaic(images, round(len(images) ** 0.5)), cmap="gray", vmin=0, vmax=255)
        panel.set_title(_wrapped(name), fontsize=11)
        panel.axis("off")
    scores, bars = [row[metric] for row in rows], below.subplots()
    means = [score["mean"] for score in scores]
    colours = [DISTILLED if row["method"] == "distilled" else REFERENCE for row in rows]
    drawn = bars.barh([_wrapped(row["label"]) for row in rows], means, color=colours)
    below = [score["mean"] - score["low"] for score in scores]
    above = [score["high"] - score["mean"] for score in scores]
    errors = np.clip([below, above], 0, None)
    bars.errorbar(means, range(len(rows)), xerr=errors, fmt="none", color="0.2", capsize=3)
    texts = [f"{mean:.2f}" for mean in means]
    bars.bar_label(drawn, texts, label_type="center", color="white", fontsize=10)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1))
    bars.set_title(f"{metric.replace('_', ' ')} on test", fontsize=11)
    return figure


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 22))


def growth(rows: Sequence[Mapping], base: Mapping[str, int]) -> Figure:
    """Draw how time and memory of an iteration grow with one setting: ratios to `base`.

    `rows` come from `python -m benchmarks growth`; both axes are in powers of two.
    """
    figure, panels = plt.subplots(2, 1, figsize=(WIDTH_IN, 7.4), sharex=True)
    for panel, what in zip(panels, ("seconds per iteration", "peak MiB")):
        for colour, (name, start) in zip(COLOURS, base.items()):
            own = [row for row in rows if row["what"] == what and list(row["setting"]) == [name]]
            x = [1, *(row["setting"][name] / start for row in own)]
            label = f"{name.replace('_', ' ')} (1 is {start})"
            panel.plot(x, [1, *(row["ratio"] for row in own)], "o-", color=colour, label=label)
            low, high = ([row[f"ratio_{end}"] for row in own] for end in ("low", "high"))
            panel.vlines(x[1:], low, high, color=colour, lw=2, alpha=0.5)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set(title=what, ylabel="cost, relative to its base")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
    panels[0].legend(fontsize=10)
    panels[1].set_xlabel("setting, relative to its base")
    figure.tight_layout()
    return figure
