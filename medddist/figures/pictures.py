"""Pictures of images: sheets, heat maps over images, and the animation of a distillation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medddist.figures.style import COLOURS, Shown, plt

MILLISECONDS = 700  # of a frame


def sheet(
    rows: Mapping[str, Sequence[np.ndarray]], title: str = "", columns: Sequence[str] = ()
) -> Figure:
    """Draw images (C, H, W) in [0, 1], one named row each; `columns` are headings."""
    width, titled = max(map(len, rows.values())), bool(title)
    size = (1.15 * width + 1.2, 1.2 * len(rows) + 0.5 * titled)
    figure, axes = plt.subplots(len(rows), width, figsize=size, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        for column, cell in enumerate(line):
            _bare(cell)
            sns.despine(ax=cell, left=True, bottom=True)
            if column < len(pictures):
                _draw(cell, pictures[column], interpolation="nearest")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    _head(axes[0], columns, fontsize=9)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight() * titled))
    return figure


def overlays(
    pictures: Sequence[np.ndarray],
    heats: Mapping[str, Sequence[np.ndarray]],
    names: Sequence[str],
    outlines: Sequence[np.ndarray | None] | None = None,
) -> Figure:
    """Draw images (C, H, W) in [0, 1], and below them once more for each row of heat maps (H, W).

    Args:
        pictures: the images, left to right.
        heats: heat maps in [0, 1] for each image, by the row's name.
        names: headings of the columns.
        outlines: (H, W) bool for each image, drawn as a contour; None draws none.
    """
    rows = {"image": None} | dict(heats)
    size = (1.35 * len(pictures) + 1.2, 1.45 * len(rows))
    figure, axes = plt.subplots(len(rows), len(pictures), figsize=size, squeeze=False)
    for line, (name, maps) in zip(axes, rows.items()):
        for column, cell in enumerate(line):
            _bare(cell)
            _draw(cell, pictures[column])
            if maps is not None:
                cell.imshow(maps[column], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
            if outlines is not None and outlines[column] is not None and outlines[column].any():
                cell.contour(outlines[column], levels=[0.5], colors=[COLOURS[9]], linewidths=1.2)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    _head(axes[0], [name.replace("_", " ") for name in names], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure


def animation(frames: Mapping[int, np.ndarray], alt: str) -> Shown:
    """Return a GIF that is part of the page; its last frame stays three times as long.

    Args:
        frames: images (N, C, H, W) in [0, 1] by iteration.
        alt: describes it to those who do not see it.
    """
    mosaics = [Image.fromarray(mosaic(images, columns=10, zoom=2)) for images in frames.values()]
    durations = [MILLISECONDS] * (len(mosaics) - 1) + [3 * MILLISECONDS]
    drawn = io.BytesIO()
    further = {"save_all": True, "append_images": mosaics[1:], "loop": 0}
    mosaics[0].save(drawn, format="GIF", duration=durations, **further)
    return Shown(drawn.getvalue(), alt, "gif", width_px=mosaics[0].width)


def mosaic(images: np.ndarray, columns: int, zoom: int = 1) -> np.ndarray:
    """Join images (N, C, H, W) in [0, 1] row by row: (rows H zoom, columns W zoom) uint8, grey."""
    grey = images.mean(1)
    padding = np.ones((-len(grey) % columns, *grey.shape[1:]), grey.dtype)
    grey = np.concatenate([grey, padding]).reshape(-1, columns, *grey.shape[1:])
    joined = grey.transpose(0, 2, 1, 3).reshape(-1, columns * grey.shape[3])
    return (np.kron(joined, np.ones((zoom, zoom))) * 255).astype(np.uint8)


def _bare(cell: Axes) -> None:
    cell.set(xticks=[], yticks=[])
    cell.grid(False)


def _draw(cell: Axes, picture: np.ndarray, **how: str) -> None:
    """Draw one image (C, H, W), C 1 or 3."""
    shown = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
    cell.imshow(shown, cmap="gray", vmin=0, vmax=1, **how)


def _head(cells: Sequence[Axes], names: Sequence[str], fontsize: int) -> None:
    for cell, name in zip(cells, names):
        cell.set_title(name, fontsize=fontsize, fontweight="normal", loc="center")
