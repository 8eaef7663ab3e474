"""Colours, style, and how a figure becomes a picture with alternative text."""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = sns.color_palette("colorblind")
DISTILLED, REFERENCE = COLOURS[1], COLOURS[0]
WIDTH_IN = 5.6  # of a figure: on a phone, its text is then still legible


def set_style() -> None:
    """Set the style of all figures that follow."""
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update({"figure.dpi": 110, "axes.titlesize": 12, "axes.titleweight": "bold"})
    plt.rcParams["axes.titlelocation"] = "left"


class Shown:
    """A picture with alternative text, as notebooks and the book show it."""

    def __init__(self, content: bytes, alt: str, kind: str = "png", width_px: int | None = None):
        self.content, self.alt, self.kind, self.width_px = content, alt, kind, width_px

    def __repr__(self) -> str:
        """Text for where pictures are not shown; the same in every run."""
        return f"[picture: {self.alt}]"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.content).decode()
        width = f' width="{self.width_px}"' if self.width_px else ""
        source = f'src="data:image/{self.kind};base64,{data}"'
        return f'<img alt="{html.escape(self.alt)}" style="max-width:100%"{width} {source}>'


class Html:
    """Markup of pictures that a page shows as it is, and a text for where it is not shown."""

    def __init__(self, markup: str, alt: str):
        self.markup, self.alt = markup, alt

    def __repr__(self) -> str:
        """Text for where pictures are not shown; the same in every run."""
        return f"[pictures: {self.alt}]"

    def _repr_html_(self) -> str:
        return self.markup


def show(figure: Figure, alt: str) -> Shown:
    """Return the figure as a PNG with alternative text, and close it, so that it is drawn once."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return Shown(drawn.getvalue(), alt)


def horizontal_interval(axes: Axes, place: float, row: Mapping, value: str, colour) -> None:
    """Draw a value with its interval as a horizontal line.

    Args:
        axes: to draw on.
        place: the height.
        row: with the interval's ends `low` and `high`.
        value: the name of the point in `row`.
        colour: of both.
    """
    ends = [row["low"], row["high"]]
    axes.plot(ends, [place, place], color=colour, lw=2.5, solid_capstyle="round")
    axes.plot(row[value], place, "o", color=colour, ms=8)


def name_rows(axes: Axes, names: list[str]) -> None:
    """Label heights 0, 1, ... from top to bottom; long names take two lines."""
    wrapped = [
        "\n".join(part for line in name.splitlines() for part in textwrap.wrap(line, 26))
        for name in names
    ]
    axes.set(yticks=range(len(names)), yticklabels=wrapped, ylim=(len(names) - 0.5, -0.6))
