"""Figures, tables and sentences of the comparison: all that they say follows from its rows."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from medddist.baselines.architectures import ARCHITECTURES
from medddist.comparison.contenders import SELF_SUPERVISED
from medddist.comparison.tables import VERDICTS
from medddist.figures.scores import NETWORKS
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, plt
from medddist.figures.tables import difference_text, interval_text, words

GROUPS = {  # what networks learn from
    "released": "Labelled images that leave",
    "inside": "Also all images, unlabelled",
    "full": "All images with all labels",
}
SITES = {"balanced": "balanced over classes", "confounded": "confounded with class"}
CORESETS = ("herding", "k_means")
MOST_NAMED = 6  # methods that a sentence names; more are counted
MARKERS = "osD^"

Point = tuple[str, str, Mapping]  # the line's name, the series, {mean, low, high}


def once(rows: Iterable[Mapping]) -> dict[str, list[Mapping]]:
    """Group the measured rows by what networks learn from, each row once.

    Table (b) repeats the rows of table (a) that do not depend on the table; here they are in (a).
    """
    groups: dict[str, list[Mapping]] = {group: [] for group in GROUPS}
    for row in rows:
        if row["status"] != "measured" or row["table"] not in ("released", "inside"):
            continue
        if row["method"].startswith("full_"):
            groups["full"].append(row)
        elif row["table"] == "released" or row["method"] in SELF_SUPERVISED:
            groups[row["table"]].append(row)
    return {group: members for group, members in groups.items() if members}


def methods(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw every method's score on test with its 95 % interval, a colour per network.

    Dotted: the distilled images. Dashed: a classifier that always predicts the majority class.
    """
    groups, guess = {}, None
    for group, members in once(rows).items():
        points = []
        for row in members:
            if row["method"] == "majority":
                guess = row[metric]["mean"]
            else:
                network = NETWORKS.get(row["network"], row["network"])
                points.append((row["label"], network, row[metric]))
        groups[GROUPS[group]] = points
    networks = dict.fromkeys(network for points in groups.values() for _, network, _ in points)
    figure = _dots(groups, dict(zip(networks, (REFERENCE, *COLOURS[2:]))), metric)
    axes = figure.axes[0]
    if guess is not None:
        axes.axvline(guess, color="0.4", ls="--", lw=1, label="majority class")
    for row in rows:
        if row["method"] == "distilled" and row["table"] == "released":
            axes.axvline(row[metric]["mean"], color=DISTILLED, ls=":", lw=2, label="distilled")
    _legend(axes)
    return figure


def other_networks(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draw what networks learn from distilled and from as many random real images, by network.

    First comes the network that the images were distilled for.
    """
    own = [row for row in rows if row["table"] == "released" and row["network"] == "convnet"]
    own = [row for row in own if row["method"] in ("distilled", "random_real")]
    others = [row for row in rows if row["table"] == "unseen"]
    series = {"distilled": "distilled images", "random_real": "random real images"}
    groups: dict[str, list[Point]] = {"": []}
    for row in (*own, *others):
        if row["status"] == "measured":
            name = ARCHITECTURES[row["network"]] + (" (its own)" if row in own else "")
            groups[""].append((name, series[row["method"]], row[metric]))
    colours = dict(zip(series.values(), (DISTILLED, REFERENCE)))
    figure = _dots(groups, colours, metric)
    _legend(figure.axes[0])
    return figure


def _dots(groups: Mapping[str, Sequence[Point]], colours: Mapping[str, object], metric: str):
    """Draw points with intervals, a line per name under its group's heading, a colour per series.

    The figure is narrow and its letters large, so that it can be read on a phone.
    """
    labels, bold, places = [], [], []
    for heading, points in groups.items():
        if heading:
            bold.append(len(labels))
            labels.append(heading)
        for name in dict.fromkeys(name for name, _, _ in points):
            own = [point for point in points if point[0] == name]
            for k, (_, series, score) in enumerate(own):
                apart = 0.7 * ((k + 0.5) / len(own) - 0.5)
                places.append((len(labels) + apart, series, score))
            labels.append(textwrap.fill(name, 24))
    figure, axes = plt.subplots(figsize=(5.4, 0.4 * len(labels) + 1.2))
    for number, (series, colour) in enumerate(colours.items()):
        own = [(place, score) for place, name, score in places if name == series]
        at, scores = zip(*own) if own else ((), ())
        low, high, mean = ([score[end] for score in scores] for end in ("low", "high", "mean"))
        axes.hlines(at, low, high, color=colour, lw=2)
        axes.plot(mean, at, MARKERS[number % 4], color=colour, ms=6, label=series)
    axes.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    for place in bold:
        axes.get_yticklabels()[place].set_fontweight("bold")
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"{words(metric)} on test, 95 % interval")
    return figure


def _legend(axes) -> None:
    figure = axes.figure
    figure.tight_layout()
    look = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "frameon": False}
    figure.legend(*axes.get_legend_handles_labels(), fontsize=11, **look)


# ---- tables ------------------------------------------------------------------------------------


def sent(rows: Sequence[Mapping], metric: str) -> list[dict]:
    """List four things that a hospital may send, what they cost, and what they are worth.

    They are the distilled images, as many random real images, the better of the two coresets, and
    a network that was well trained on all images.
    """
    groups = once(rows)
    chosen = [row for row in groups["released"] if row["method"] in ("distilled", "random_real")]
    chosen = [row for row in chosen if row["network"] == "convnet"]
    cores = [row for row in groups["released"] if row["method"] in CORESETS]
    chosen += sorted(cores, key=lambda row: row[metric]["mean"])[-1:]
    chosen += [row for row in groups.get("full", ()) if row["method"] == "full_good"]
    return [_sent(row, metric) for row in chosen]


def _sent(row: Mapping, metric: str) -> dict:
    lead, network = row.get("distilled_lead"), row["released"] == "network"
    return {
        "sent": f"network trained on {row['label'].split(',')[0]}" if network else row["label"],
        "kB": f"{row['bytes_released'] / 1000:,.0f}",
        "real images leave": "yes" if row["real_images_leave"] else "no",
        words(metric): row[metric],
        "distilled minus this": lead[metric] if lead else "",
        "after Holm's correction": lead[metric]["verdict"] if lead else "",
    }


def sites(origins: Mapping, metric: str = "balanced_accuracy") -> list[dict]:
    """List how networks score where sites are balanced over classes and where they are confounded.

    On other data than the phantom: how well each class is recognised by source. `origins` is what
    `comparison.origins.of_origins` returns.
    """
    if origins["confounding"]:
        return [
            {
                "trained where sites are": SITES[row["trained_on"]],
                "tested where sites are": SITES[row["tested_on"]],
                words(metric): row[metric],
                "loss against own version": row.get("lost", {}).get(metric, ""),
            }
            for row in origins["confounding"]
        ]
    by_source: dict[tuple, dict] = {}
    for method, sensitivities in origins["by_origin"].items():
        for row in sensitivities:
            named = {"class": words(row["class"]), "source": row["origin"]}
            line = by_source.setdefault(tuple(named.values()), named | {"images": row["images"]})
            line[method] = row["sensitivity"]
    return list(by_source.values())


class Download:
    """A file as a link that is part of the page, so that it works without a network."""

    def __init__(self, frame: pd.DataFrame, name: str):
        self.name, self.content = name, frame.to_csv(index=False).encode()

    def __repr__(self) -> str:
        """Text for where links are not shown."""
        return f"[download: {self.name}]"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.content).decode()
        link = f'<a download="{self.name}" href="data:text/csv;base64,{data}">{self.name}</a>'
        return f"Every row with its intervals, its cost and its verdict: {link}"


def download(rows: Iterable[Mapping], name: str = "comparison.csv") -> Download:
    """Return a link to all rows as a table: scores, differences, bytes and seconds."""
    return Download(pd.DataFrame(map(_flat, rows)), name)


def _flat(row: Mapping) -> dict:
    keys = ("table", "label", "network", "status", "released", "bytes_released")
    keys += ("real_images_leave", "seconds")
    flat = {key: row.get(key) for key in keys}
    for metric in ("accuracy", "balanced_accuracy"):
        for end in ("mean", "low", "high"):
            flat[f"{metric} {end}"] = row.get(metric, {}).get(end)
        lead = row.get("distilled_lead", {}).get(metric, {})
        for key in ("difference", "low", "high", "p_holm", "verdict"):
            flat[f"distilled minus this, {metric} {key}"] = lead.get(key)
    return flat


# ---- sentences ---------------------------------------------------------------------------------


def comparison_sentences(rows: Sequence[Mapping], metric: str) -> list[str]:
    """Say which rows the distilled images are better than, worse than, or neither of the two."""
    groups, told = once(rows), []
    (ours,) = (row for row in groups["released"] if row["method"] == "distilled")
    told.append(f"Networks on the distilled images reach {interval_text(ours[metric])}.")
    begins = {
        "released": "With only labelled images that leave the hospital, they are",
        "inside": "Compared with networks that also learned from all unlabelled images, they are",
        "full": "Compared with networks on all images and labels, they are",
    }
    for group, members in groups.items():
        others = [row for row in members if "distilled_lead" in row]
        if others:
            told.append(f"{begins[group]} {_counted(others, metric)}.")
    networks = networks_sentence(rows, metric)
    return [*told, *([networks] if networks else []), *_weights(groups, metric)]


def networks_sentence(rows: Sequence[Mapping], metric: str) -> str:
    """Say in which networks distilled images are better than random real ones; "" for none."""
    unseen = [row for row in rows if row["table"] == "unseen" and "distilled_lead" in row]
    named = [row | {"label": ARCHITECTURES[row["network"]], "network": ""} for row in unseen]
    counted = _counted(named, metric, "random real images in ")
    begin = "In networks that they were not distilled for, the distilled images are"
    return f"{begin} {counted}." if unseen else ""


def _counted(rows: Sequence[Mapping], metric: str, what: str = "") -> str:
    """Say how many rows each verdict has, and name these rows where they are few."""
    parts = []
    for verdict, phrase in VERDICTS.items():
        those = [row for row in rows if row["distilled_lead"][metric]["verdict"] == verdict]
        names = [_name(row) for row in those]
        listed = f" ({', '.join(names)})" if 0 < len(names) <= MOST_NAMED else ""
        if those:
            parts.append(f"{phrase} {what}{len(those)} of {len(rows)}{listed}")
    return "; ".join(parts)


def _name(row: Mapping) -> str:
    network = NETWORKS.get(row["network"], row["network"])
    plain = row["network"] in ("", "none", "convnet")
    return row["label"] if plain else f"{row['label']} with {network}"


def _weights(groups: Mapping[str, Sequence[Mapping]], metric: str) -> list[str]:
    """Compare with sending the weights of a network that was trained on all images."""
    full = [row for row in groups.get("full", ()) if row["method"] == "full_good"]
    if not full:
        return []
    lead, (ours, *_) = full[0]["distilled_lead"][metric], groups["released"]
    sizes = [f"{row['bytes_released'] / 1000:,.0f} kB" for row in (full[0], ours)]
    begin = f"A network trained on all images takes {sizes[0]}, the distilled images {sizes[1]}"
    return [f"{begin}; distilled minus this network: {difference_text(lead)}."]


def sites_sentence(origins: Mapping, classes: int, metric: str = "balanced_accuracy") -> str:
    """Say what the source of an image tells about its class, and what a shortcut costs."""
    known = origins["class_from_origin"]
    if known is None:
        return "These data do not say where an image comes from."
    told = f"Knowing only the source gives a balanced accuracy of {known:.3f}"
    told += f" (guessing: {1 / classes:.3f})."
    for row in origins["confounding"]:
        if "lost" in row and row["trained_on"] == "confounded":
            lost = difference_text(row["lost"][metric])
            told += " Networks trained where sites are confounded with classes lose"
            told += f" {lost} where they are not."
    return told
