"""The text and the picture of networks that distil and networks that train, from
results/networks-*.json.
"""

from __future__ import annotations

import textwrap

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from medddist.figures.style import WIDTH_IN, plt
from workflow.across import RANDOM
from workflow.words import data_of, made_by, markdown_table, records_named, with_interval

METRIC = "balanced_accuracy"
MISSING = (
    "Not measured yet. `.venv/bin/python -m workflow.across --data phantom --save results` "
    "measures it, and continues where it was stopped."
)


records = records_named("networks-*")


def text(records: dict[str, dict]) -> str:
    """Write each record's picture, what follows from it, and its table, in MyST."""
    lines = [] if records else [MISSING, ""]
    for name, record in records.items():
        grid, rows = _grid(record), record["rows"]
        networks = sorted({row["networks"] for row in rows})
        lines += [
            f"```{{image}} assets/{name}.png",
            f":alt: Balanced accuracy: sets by rows, networks by columns. {_told(grid)}",
            ":width: 560px",
            "```",
            "",
            f"On {data_of(record)}. {made_by(record['settings'])} The ConvNet has width "
            f"{record['settings']['network']['width']} here; "
            f"{' or '.join(map(str, networks))} networks learn from each set, at a rate that "
            f"validation chose. {_told(grid)}",
            "",
            *markdown_table(("set", *map(_network, grid.columns)), _cells(record, grid)),
            "",
        ]
    return "\n".join(lines)


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw each record as a heat map, by file name."""
    return {name: figures.show(_heat_map(_grid(record)), "") for name, record in records.items()}


def _grid(record: dict) -> pd.DataFrame:
    """Mean balanced accuracy: sets by rows, networks by columns."""
    rows = pd.DataFrame(
        {"set": row["distilled_for"], "network": row["trained"], "mean": row[METRIC]["mean"]}
        for row in record["rows"]
    )
    grid = rows.pivot(index="set", columns="network", values="mean")
    return grid.loc[list(dict.fromkeys(rows["set"])), list(dict.fromkeys(rows["network"]))]


def _told(grid: pd.DataFrame) -> str:
    """Say on how many networks each distilled set is above random images, and where it is best."""
    random, parts = grid.loc[RANDOM], []
    for name, scores in grid.drop(index=RANDOM).iterrows():
        above, best = int((scores > random).sum()), _network(scores.idxmax())
        count = f"above random real images on {above} of {len(random)}"
        parts.append(
            f"the set for the {_network(name)} is {count}, and the {best} scores highest with it"
        )
    return f"By the means alone, {'; '.join(parts)}."


def _cells(record: dict, grid: pd.DataFrame) -> list[list[str]]:
    scores = {(row["distilled_for"], row["trained"]): row[METRIC] for row in record["rows"]}
    return [
        [_set(name), *(with_interval(scores[name, network]) for network in grid.columns)]
        for name in grid.index
    ]


def _heat_map(grid: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.75 * len(grid) + 1.4))
    look = {"annot": True, "fmt": ".2f", "cmap": "viridis", "linewidths": 1, "cbar": False}
    sns.heatmap(grid, ax=axes, **look)
    wrapped = lambda name, width: "\n".join(textwrap.wrap(name, width))
    axes.set_yticklabels([wrapped(_set(name), 22) for name in grid.index], rotation=0)
    axes.set_xticklabels([wrapped(_network(name), 9) for name in grid.columns], rotation=0)
    axes.tick_params(axis="x", labelsize=10)
    axes.set(xlabel="balanced accuracy on test of a", ylabel="")
    figure.tight_layout()
    return figure


def _network(name: str) -> str:
    return ARCHITECTURES[name]


def _set(name: str) -> str:
    return "random real images" if name == RANDOM else f"distilled for: {_network(name)}"
