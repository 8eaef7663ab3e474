"""The book's pictures. Every function takes results and returns a matplotlib figure; nothing is computed here but the drawing."""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

COLOURS = sns.color_palette("colorblind")
DISTILLED, REFERENCE = COLOURS[1], COLOURS[0]


def set_style() -> None:
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
        }
    )


class Shown:
    """A picture with alternative text, as notebooks and the book show it."""

    def __init__(self, content: bytes, alt: str, kind: str = "png", width_px: int | None = None):
        self.content, self.alt, self.kind, self.width_px = content, alt, kind, width_px

    def __repr__(self) -> str:
        """What is shown where pictures are not, and the same each time."""
        return f"[picture: {self.alt}]"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.content).decode()
        width = f' width="{self.width_px}"' if self.width_px else ""
        return f'<img alt="{html.escape(self.alt)}" style="max-width:100%"{width} src="data:image/{self.kind};base64,{data}">'


def show(figure: Figure, alt: str) -> Shown:
    """The figure as a PNG with alternative text; closed, so that it is drawn once."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return Shown(drawn.getvalue(), alt)


def sheet(
    rows: Mapping[str, Sequence[np.ndarray]], title: str = "", columns: Sequence[str] = ()
) -> Figure:
    """Grey or colour pictures (C, H, W) in [0, 1], one named row each."""
    width = max(map(len, rows.values()))
    figure, axes = plt.subplots(
        len(rows),
        width,
        figsize=(1.15 * width + 1.2, 1.2 * len(rows) + 0.5 * bool(title)),
        squeeze=False,
    )
    for line, (name, pictures) in zip(axes, rows.items()):
        for column, cell in enumerate(line):
            cell.set(xticks=[], yticks=[])
            cell.grid(False)
            sns.despine(ax=cell, left=True, bottom=True)
            if column < len(pictures):
                cell.imshow(
                    _shown(pictures[column]), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
                )
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    for cell, name in zip(axes[0], columns):
        cell.set_title(name, fontsize=9, fontweight="normal", loc="center")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight() * bool(title)))
    return figure


def _shown(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) as imshow takes it."""
    return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)


def class_counts(counts: pd.DataFrame) -> Figure:
    """counts: a row a class, a column a part."""
    figure, axes = plt.subplots(figsize=(7, 2.8))
    counts.plot.barh(ax=axes, stacked=True, color=COLOURS[: len(counts.columns)], edgecolor="white")
    axes.invert_yaxis()
    axes.set(
        xlabel="images",
        ylabel="",
        title=f"{counts.sum(axis=1).idxmax()} is {counts.sum(axis=1).max() / counts.values.sum():.0%} of all images",
    )
    return figure


def brightness(means: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Mean pixel value (N,) of images by class."""
    figure, axes = plt.subplots(figsize=(7, 2.8))
    named = [class_names[k] for k in labels]
    sns.boxplot(
        x=means,
        y=named,
        hue=named,
        order=class_names,
        hue_order=class_names,
        fliersize=1,
        legend=False,
        ax=axes,
    )
    axes.set(
        xlabel="mean pixel value of an image (0 black, 1 white)",
        ylabel="",
        title="Brightness by class",
    )
    return figure


def teacher_curves(
    curves: Sequence[Sequence[Mapping[str, float]]], first_epoch: int, last_epoch: int
) -> Figure:
    """Validation scores of each teacher by epoch; the epochs that matching reads are shaded."""
    rows = [
        {"epoch": epoch, "score": value, "metric": metric.replace("_", " ")}
        for curve in curves
        for epoch, scores in enumerate(curve)
        for metric, value in scores.items()
    ]
    figure, axes = plt.subplots(figsize=(7, 3.4))
    axes.axvspan(first_epoch, last_epoch, color="0.9", zorder=0, label="read by matching")
    sns.lineplot(
        pd.DataFrame(rows),
        x="epoch",
        y="score",
        hue="metric",
        style="metric",
        errorbar=("pi", 100),
        ax=axes,
    )
    axes.set(
        xlabel="epoch",
        ylabel="on validation",
        title=f"{len(curves)} teachers: mean, and lowest to highest",
    )
    axes.legend(title="")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def teacher_moves(moves: np.ndarray, expert_epochs: int) -> Figure:
    """Moves (teachers, starts): how far each teacher goes in `expert_epochs` epochs from each start."""
    figure, axes = plt.subplots(figsize=(7, 2.8))
    frame = pd.DataFrame(moves).melt(var_name="start epoch", value_name="distance")
    sns.lineplot(frame, x="start epoch", y="distance", errorbar=("pi", 100), marker="o", ax=axes)
    axes.set(
        xlabel="start epoch t",
        ylabel=f"|θ(t) − θ(t+{expert_epochs})|",
        title="What the student has to travel",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def distillation_course(
    losses: np.ndarray,
    step_sizes: np.ndarray,
    candidates: Sequence[Mapping],
    selected: int,
    metric: str,
) -> Figure:
    """The matching loss, the learned step size and the candidates' validation scores over iterations."""
    figure, (top, middle, low) = plt.subplots(3, 1, figsize=(7, 6.4), sharex=True)
    window = max(1, len(losses) // 20)
    top.plot(losses, color="0.75", lw=0.8, label="each iteration")
    top.plot(
        pd.Series(losses).rolling(window, center=True, min_periods=1).mean(),
        color=DISTILLED,
        label=f"mean of {window}",
    )
    top.axhline(1, color="0.3", ls=":", lw=1)
    top.set(ylabel="matching loss", title="1 is a student that does not move")
    top.legend()
    middle.plot(step_sizes, color=REFERENCE)
    middle.set(ylabel="step size α", title="The learned step size")
    scored = {
        candidate["iteration"]: candidate[metric] for candidate in candidates if metric in candidate
    }
    low.plot(list(scored), list(scored.values()), "o-", color=REFERENCE)
    if selected in scored:  # not where the last was taken without validation
        low.plot([selected], [scored[selected]], "o", ms=13, mfc="none", mec=DISTILLED, mew=2.5)
    low.set(
        xlabel="iteration",
        ylabel=metric.replace("_", " "),
        title=f"On validation; released: iteration {selected}",
    )
    figure.tight_layout()
    return figure


def intervals(rows: Sequence[Mapping], metrics: Sequence[str], majority_share: float) -> Figure:
    """A point and its 95 % interval a method; the majority class's accuracy dashed, since it costs nothing."""
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(4.6 * len(metrics), 0.42 * len(rows) + 1.3),
        sharey=True,
        squeeze=False,
    )
    for panel, metric in zip(axes[0], metrics):
        for place, row in enumerate(rows):
            score, colour = row[metric], DISTILLED if row["method"] == "distilled" else REFERENCE
            panel.plot(
                [score["low"], score["high"]],
                [place, place],
                color=colour,
                lw=2.5,
                solid_capstyle="round",
            )
            panel.plot(score["mean"], place, "o", color=colour, ms=8)
            panel.annotate(
                f"{score['mean']:.3f}",
                (score["mean"], place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        if metric == "accuracy":
            panel.axvline(majority_share, color="0.3", ls="--", lw=1)
        panel.set(title=metric.replace("_", " "), xlabel="on test, 95 % interval")
    axes[0, 0].set(
        yticks=range(len(rows)),
        yticklabels=[row["label"] for row in rows],
        ylim=(len(rows) - 0.5, -0.7),
    )
    figure.tight_layout()
    return figure


def leads(rows: Sequence[Mapping], metric: str) -> Figure:
    """The distilled images' lead over each other method, with its paired 95 % interval."""
    others = [row for row in rows if "distilled_lead" in row]
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(others) + 1.2))
    for place, row in enumerate(others):
        lead = row["distilled_lead"][metric]
        colour = COLOURS[2] if lead["low"] > 0 else COLOURS[3] if lead["high"] < 0 else "0.5"
        axes.plot(
            [lead["low"], lead["high"]],
            [place, place],
            color=colour,
            lw=2.5,
            solid_capstyle="round",
        )
        axes.plot(lead["difference"], place, "o", color=colour, ms=8)
    axes.axvline(0, color="0.3", lw=1)
    axes.set(
        yticks=range(len(others)),
        yticklabels=[row["label"] for row in others],
        ylim=(len(others) - 0.5, -0.5),
        xlabel=f"{metric.replace('_', ' ')}: distilled minus the other (right: distilled is better)",
        title="The lead, paired",
    )
    return figure


def confusions(matrices: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Rows of each matrix are true classes; shown as shares of the row."""
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(3.9 * len(matrices), 3.5), sharey=True, squeeze=False
    )
    short = [name.replace("_", " ").replace(" ", "\n") for name in class_names]
    for panel, (name, matrix) in zip(axes[0], matrices.items()):
        matrix = np.asarray(matrix)
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-12)
        sns.heatmap(
            share,
            annot=True,
            fmt=".2f",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            square=True,
            ax=panel,
            xticklabels=short,
            yticklabels=short,
            annot_kws={"fontsize": 9},
        )
        panel.tick_params(labelsize=8, rotation=0)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("predicted")
    axes[0, 0].set_ylabel("true")
    figure.tight_layout()
    return figure


def images_a_class(table: pd.DataFrame, metric: str) -> Figure:
    """A sweep's table (see `sweep.table`) of one data source: each method's score by images a class, seeds together, with 95 % intervals.

    Small points are the seeds alone; a method without a number of images is a line across.
    """
    rows = table[table["metric"] == metric]
    together = rows[rows["seeds"] == max(rows["seeds"], key=len)]
    figure, axes = plt.subplots(figsize=(7, 4))
    sizes = together.dropna(subset="images_per_class")
    for place, (label, of_method) in enumerate(sizes.groupby("label", sort=False)):
        x, y = of_method["images_per_class"].astype(float), of_method["mean"]
        colour = [DISTILLED, REFERENCE, COLOURS[2], COLOURS[4], COLOURS[3]][place % 5]
        axes.plot(x, y, "o-", color=colour, label=label)
        axes.fill_between(x, of_method["low"], of_method["high"], color=colour, alpha=0.2, lw=0)
        alone = rows[(rows["label"] == label) & ~rows["seeds"].str.contains(" ")]
        axes.plot(
            alone["images_per_class"].astype(float),
            alone["mean"],
            ".",
            color=colour,
            ms=5,
            alpha=0.7,
        )
    for place, (label, of_method) in enumerate(
        together[together["images_per_class"].isna()].groupby("label", sort=False)
    ):
        value = of_method.iloc[0]
        axes.axhline(value["mean"], color="0.3", ls=("--", ":", "-.")[place % 3], label=label)
        axes.axhspan(value["low"], value["high"], color="0.3", alpha=0.12, lw=0)
    ticks = sorted(set(sizes["images_per_class"].astype(int)))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set(
        xlabel="images a class",
        ylabel=f"{metric.replace('_', ' ')} on test",
        title="What more images are worth",
    )
    axes.legend(fontsize=9)
    return figure


def growth(rows: Sequence[Mapping], base: Mapping[str, int]) -> Figure:
    """How time and memory of an iteration grow with one setting alone: ratios to `base`, both axes in powers of two; `bench scaling`'s rows."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for panel, what in zip(panels, ("seconds an iteration", "peak MiB")):
        for colour, (name, start) in zip(COLOURS, base.items()):
            own = [row for row in rows if row["what"] == what and list(row["setting"]) == [name]]
            x, y = (
                [1, *(row["setting"][name] / start for row in own)],
                [1, *(row["ratio"] for row in own)],
            )
            panel.plot(x, y, "o-", color=colour, label=f"{name.replace('_', ' ')} (1 is {start})")
            panel.vlines(
                x[1:],
                [row["ratio_low"] for row in own],
                [row["ratio_high"] for row in own],
                color=colour,
                lw=2,
                alpha=0.5,
            )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set(title=what, xlabel="times the setting")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("times the cost")
    panels[1].legend(fontsize=8)
    figure.tight_layout()
    return figure


def overlays(
    pictures: Sequence[np.ndarray],
    heats: Mapping[str, Sequence[np.ndarray]],
    names: Sequence[str],
    outlines=None,
) -> Figure:
    """Pictures (C, H, W) in [0, 1] and heat maps (H, W) over them by row; outlines: (H, W) bool or None for each."""
    rows = {"image": None} | dict(heats)
    figure, axes = plt.subplots(
        len(rows),
        len(pictures),
        figsize=(1.35 * len(pictures) + 1.2, 1.45 * len(rows)),
        squeeze=False,
    )
    for line, (name, maps) in zip(axes, rows.items()):
        for column, cell in enumerate(line):
            cell.set(xticks=[], yticks=[])
            cell.grid(False)
            cell.imshow(_shown(pictures[column]), cmap="gray", vmin=0, vmax=1)
            if maps is not None:
                cell.imshow(maps[column], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
            if outlines is not None and outlines[column] is not None and outlines[column].any():
                cell.contour(outlines[column], levels=[0.5], colors=[COLOURS[9]], linewidths=1.2)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for cell, name in zip(axes[0], names):
        cell.set_title(name.replace("_", " "), fontsize=8, fontweight="normal", loc="center")
    figure.tight_layout(pad=0.3)
    return figure


def animation(
    frames: Mapping[int, np.ndarray],
    alt: str,
    columns: int = 10,
    zoom: int = 2,
    seconds_a_frame: float = 0.7,
) -> Shown:
    """A GIF that needs no network: images (N, C, H, W) in [0, 1] by iteration, as one mosaic a frame."""
    mosaics = [Image.fromarray(_mosaic(images, columns, zoom)) for images in frames.values()]
    drawn = io.BytesIO()
    durations = [int(1000 * seconds_a_frame)] * (len(mosaics) - 1) + [int(3000 * seconds_a_frame)]
    mosaics[0].save(
        drawn, format="GIF", save_all=True, append_images=mosaics[1:], duration=durations, loop=0
    )
    return Shown(drawn.getvalue(), alt, "gif", width_px=mosaics[0].width)


def _mosaic(images: np.ndarray, columns: int, zoom: int) -> np.ndarray:
    """(rows H zoom, columns W zoom) uint8, grey; images row by row."""
    grey = images.mean(1)
    padding = -len(grey) % columns
    grey = np.concatenate([grey, np.ones((padding, *grey.shape[1:]), grey.dtype)])
    rows = (
        grey.reshape(-1, columns, *grey.shape[1:])
        .transpose(0, 2, 1, 3)
        .reshape(-1, columns * grey.shape[2])
    )
    return (np.kron(rows, np.ones((zoom, zoom))) * 255).astype(np.uint8)


def score_table(rows: Sequence[Mapping], metrics: Sequence[str]) -> pd.DataFrame:
    """A row a method: each metric's mean and 95 % interval as text."""
    cell = lambda s: f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"
    table = {
        row["label"]: {metric.replace("_", " "): cell(row[metric]) for metric in metrics}
        for row in rows
    }
    return pd.DataFrame.from_dict(table, orient="index")


def overview(pictures: Mapping[str, np.ndarray], rows: Sequence[Mapping], metric: str) -> Figure:
    """The study in one picture: some images of each kind, (N, C, H, W) in [0, 1], N a square; and what each is worth."""
    figure, axes = plt.subplots(
        1,
        len(pictures) + 1,
        figsize=(2.9 * len(pictures) + 4.6, 3.2),
        width_ratios=[1] * len(pictures) + [1.1],
        layout="constrained",
    )
    for panel, (name, images) in zip(axes, pictures.items()):
        panel.imshow(_mosaic(images, round(len(images) ** 0.5), 1), cmap="gray", vmin=0, vmax=255)
        panel.set_title(_wrapped(name), fontsize=11)
        panel.axis("off")
    means = [row[metric]["mean"] for row in rows]
    bars = axes[-1].barh(
        [_wrapped(row["label"]) for row in rows],
        means,
        color=[DISTILLED if row["method"] == "distilled" else REFERENCE for row in rows],
    )
    errors = np.array(
        [
            [row[metric]["mean"] - row[metric]["low"], row[metric]["high"] - row[metric]["mean"]]
            for row in rows
        ]
    ).clip(0)
    axes[-1].errorbar(means, range(len(rows)), xerr=errors.T, fmt="none", color="0.2", capsize=3)
    axes[-1].bar_label(
        bars, [f"{mean:.2f}" for mean in means], label_type="center", color="white", fontsize=10
    )
    axes[-1].invert_yaxis()
    axes[-1].set(xlim=(0, 1))
    axes[-1].set_title(f"{metric.replace('_', ' ')} on test", fontsize=11)
    return figure


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 22))


NETWORKS = {
    "convnet": "ConvNet",
    "resnet18": "ResNet-18",
    "imagenet_resnet18": "ResNet-18",
    "vit": "small ViT",
    "none": "no network",
}


def compared(rows: Sequence[Mapping], metrics: Sequence[str]) -> Figure:
    """A line a method, a colour a network: mean and 95 % interval on test; distilled images that come first dotted, rows without figures left out."""
    measured = [row for row in rows if row["status"] == "measured"]
    names = list(dict.fromkeys(row["label"] for row in measured))
    networks = list(dict.fromkeys(NETWORKS.get(row["network"], row["network"]) for row in measured))
    palette = dict(zip(networks, COLOURS))
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(4.8 * len(metrics) + 2, 0.36 * len(names) + 1.2),
        sharey=True,
        squeeze=False,
    )
    for panel, metric in zip(axes[0], metrics):
        frame = pd.DataFrame(
            {"network": NETWORKS.get(row["network"], row["network"]), **row[metric]}
            for row in measured
        )
        apart = frame["network"].map(networks.index) / len(networks) - 0.5 + 0.5 / len(networks)
        frame["place"] = [names.index(row["label"]) for row in measured] + 0.7 * apart
        panel.hlines(
            frame["place"],
            frame["low"],
            frame["high"],
            colors=[palette[name] for name in frame["network"]],
            lw=2,
        )
        sns.scatterplot(
            frame,
            x="mean",
            y="place",
            hue="network",
            palette=palette,
            s=45,
            ax=panel,
            legend=panel is axes[0, -1],
        )
        if measured[0]["method"] == "distilled":
            panel.axvline(measured[0][metric]["mean"], color="0.4", ls=":", lw=1)
        panel.set(title=metric.replace("_", " "), xlabel="on test, 95 % interval", ylabel="")
        panel.grid(axis="y", visible=False)
    axes[0, 0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    sns.move_legend(axes[0, -1], "center left", bbox_to_anchor=(1, 0.5), title="")
    figure.tight_layout()
    return figure


def probed(rows: Sequence[Mapping]) -> Figure:
    """Linear probes: a panel a network, random features dashed."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(
        1, len(networks), figsize=(3.4 * len(networks), 3.4), sharey=True, squeeze=False
    )
    for panel, network in zip(axes[0], networks):
        own = [row for row in rows if row["network"] == network]
        frame = pd.DataFrame({"method": row["label"], **row["balanced_accuracy"]} for row in own)
        sns.pointplot(frame, x="method", y="mean", linestyle="none", ax=panel)
        panel.vlines(range(len(frame)), frame["low"], frame["high"], color=COLOURS[0], lw=2.5)
        panel.axhline(frame["mean"].iloc[0], color="0.3", ls="--", lw=1)
        panel.set(
            title=NETWORKS.get(network, network), xlabel="", ylabel="balanced accuracy on test"
        )
        panel.tick_params(axis="x", rotation=90)
        panel.margins(x=0.2)
    figure.tight_layout()
    return figure


def unnamed_bars(percent: Sequence[float], title: str) -> Figure:
    """Bars that nobody is named for."""
    figure, axes = plt.subplots(figsize=(5, 1.8))
    sns.barplot(
        x=list(percent), y=[f"bar {k + 1}" for k in range(len(percent))], color="0.7", ax=axes
    )
    axes.bar_label(
        axes.containers[0], [f"{value} %" for value in percent], label_type="center", fontsize=9
    )
    axes.set(xlim=(0, 100), xlabel="accuracy as read, %", ylabel="", title=title)
    return figure


def membership(attacks: Mapping[str, Mapping[str, Mapping]], false_positives: float) -> Figure:
    """By attack and group of images: the share that is found, and the area under the curve, with intervals (`audit`'s rows)."""
    lines = [
        (f"{group} ({attack})", one)
        for attack, groups in attacks.items()
        for group, one in groups.items()
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 0.42 * len(lines) + 1.3), sharey=True)
    for place, (group, one) in enumerate(lines):
        colour = DISTILLED if group.startswith("started") else REFERENCE
        for panel, of, value in (
            (left, one["true_positives"], "share"),
            (right, one["auc"], "auc"),
        ):
            panel.plot(
                [of["low"], of["high"]],
                [place, place],
                color=colour,
                lw=2.5,
                solid_capstyle="round",
            )
            panel.plot(of[value], place, "o", color=colour, ms=8)
    left.axvline(false_positives, color="0.3", ls="--", lw=1)
    right.axvline(0.5, color="0.3", ls="--", lw=1)
    left.set(
        xlabel="share found",
        title="Images found",
        yticks=range(len(lines)),
        yticklabels=[name for name, _ in lines],
        ylim=(len(lines) - 0.5, -0.5),
    )
    right.set(xlabel="area under the ROC curve", title="Against unseen images")
    figure.tight_layout()
    return figure


def leakage(rows: Sequence[Mapping], metric: str) -> Figure:
    """A metric on test by the attack's area under the curve, with intervals (`leakage.leakage`'s rows).

    Filled: on the images that the set started from, or that were sent. Hollow: on other training images.
    """
    names = list(dict.fromkeys(leakage_name(row) for row in rows))
    sizes = sorted({row["images_per_class"] for row in rows})
    figure, axes = plt.subplots(figsize=(8, 4.6))
    for row in rows:
        score, colour = row[metric], COLOURS[names.index(leakage_name(row))]
        for group, of in row["found"].items():
            area = of["auc"]
            errors = (
                [[area["auc"] - area["low"]], [area["high"] - area["auc"]]],
                [[score["mean"] - score["low"]], [score["high"] - score["mean"]]],
            )
            axes.errorbar(
                area["auc"], score["mean"], xerr=np.clip(errors[0], 0, None), yerr=np.clip(errors[1], 0, None), color=colour, alpha=0.8, lw=1,
                marker="osD^v"[sizes.index(row["images_per_class"]) % 5], ms=8, mfc="white" if group == "others" else colour,
            )  # fmt: skip
    axes.axvline(0.5, color="0.3", ls="--", lw=1)
    mark = lambda **look: plt.Line2D([], [], ls="none", **look)
    legend = [mark(marker="o", color=COLOURS[k], label=name) for k, name in enumerate(names)]
    legend += [
        mark(marker="osD^v"[k % 5], color="0.4", label=f"{size} images a class")
        for k, size in enumerate(sizes)
    ]
    legend += [
        mark(marker="o", color="0.4", mfc="white", label="hollow: training images not started from")
    ]
    axes.legend(handles=legend, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(
        xlabel="area under the attack's ROC curve (0.5: chance)",
        ylabel=f"{metric.replace('_', ' ')} on test",
        title="Accuracy against leakage",
    )
    return figure


def leakage_name(row: Mapping) -> str:
    """A row's label, with the guarantee where there is one."""
    return row["label"] + (f", ε = {row['privacy']['epsilon']:.2g}" if row["privacy"] else "")


def sharing(rows: Sequence[Mapping], metric: str) -> Figure:
    """A metric on all hospitals' test parts by what each way to share sends; `hospitals.compare`'s rows."""
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for row in rows:
        of, sent = row["all"][metric], max(row["sent_bytes"], 1000) / 1000
        colour = DISTILLED if "package" in row["way"] else REFERENCE
        axes.errorbar(
            sent,
            of["mean"],
            [[of["mean"] - of["low"]], [of["high"] - of["mean"]]],
            fmt="o",
            color=colour,
            capsize=3,
        )
        axes.annotate(
            row["way"], (sent, of["mean"]), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.set(
        xscale="log",
        xlabel="kB sent (nothing is drawn at 1)",
        ylabel=metric.replace("_", " "),
        title="What is reached, by what is sent",
    )
    return figure
