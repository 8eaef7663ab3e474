"""Pictures of images: sheets, heat maps over images, their features, and a slider of iterations."""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medddist.figures.style import COLOURS, WIDTH_IN, Html, plt

NO_EVIDENCE = "no evidence\nfor this class"
SLIDE = (  # shows the picture whose place the slider has, and says so
    "const b=this.parentNode,t=this.dataset.texts.split('|')[this.value];"
    "b.querySelectorAll('img').forEach((i,k)=>i.style.display=k==this.value?'block':'none');"
    "b.querySelector('output').textContent=t;this.setAttribute('aria-valuetext',t)"
)


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
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
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
        heats: heat maps in [0, 1] for each image, by the row's name; one that is 0 everywhere is
            replaced by a text.
        names: headings of the columns.
        outlines: (H, W) bool for each image, drawn as a contour; None draws none.
    """
    rows = {"image": None} | dict(heats)
    size = (1.5 * len(pictures) + 1.2 * bool(heats), 1.6 * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(pictures), figsize=size, squeeze=False)
    for line, (name, maps) in zip(axes, rows.items()):
        for column, cell in enumerate(line):
            _bare(cell)
            _draw(cell, pictures[column])
            if maps is not None and np.any(maps[column] > 0):
                cell.imshow(maps[column], cmap="inferno", alpha=0.45, vmin=0, vmax=1)
            elif maps is not None:
                look = {"ha": "center", "va": "center", "transform": cell.transAxes, "fontsize": 9}
                box = {"facecolor": "white", "alpha": 0.85, "lw": 0}
                cell.text(0.5, 0.5, NO_EVIDENCE, bbox=box, color="black", **look)
            if outlines is not None and outlines[column] is not None and outlines[column].any():
                cell.contour(outlines[column], levels=[0.5], colors=[COLOURS[9]], linewidths=1.2)
        if heats:
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    _head(axes[0], [name.replace("_", " ").replace(" ", "\n") for name in names], fontsize=11)
    figure.tight_layout(pad=0.3)
    return figure


def labelled_sheet(
    images: np.ndarray,
    classes: Sequence[int],
    class_names: Sequence[str],
    labels: np.ndarray | None = None,
) -> Html:
    """Return all images of a set, class by class, each with a hint of its soft label.

    Args:
        images: (N, C, H, W) in [0, 1].
        classes: (N,) that the images were made for.
        class_names: K names.
        labels: (N, K) probabilities; None where labels are the classes.

    Returns:
        A group per class, whose images wrap to the page's width. Below an image stands the label's
        probability of its own class, and the most probable class where that is another.
    """
    names, groups = [name.replace("_", " ") for name in class_names], []
    for k, name in enumerate(names):
        tiles = []
        for number, place in enumerate(np.flatnonzero(np.asarray(classes) == k), start=1):
            hint, alt = "", f"{name} {number}"
            if labels is not None:
                most = int(np.argmax(labels[place]))
                hint = f"{labels[place, k]:.2f}" + (f" ({names[most]})" if most != k else "")
                alt += f", its label gives {name} {hint}"
            tile = _img(images[place : place + 1], 1, alt, "width:64px;height:64px")
            inside = f"{tile}<div>{html.escape(hint)}</div>"
            tiles.append(f'<div style="width:64px;text-align:center">{inside}</div>')
        title = html.escape(name)
        if labels is not None:
            title += f" (below each image: probability of {title} in its label)"
        row = "display:flex;flex-wrap:wrap;gap:6px;font-size:0.85rem"
        head = f'<p style="margin:0.8em 0 0.3em"><b>{title}</b></p>'
        groups.append(f'{head}<div style="{row}">{"".join(tiles)}</div>')
    return Html(f"<div>{''.join(groups)}</div>", f"{len(images)} images of {len(names)} classes")


def slider(
    frames: Mapping[int, np.ndarray], texts: Mapping[int, str], alt: str, per_class: int
) -> Html:
    """Return pictures of a distillation's iterations, one at a time, chosen by a slider.

    It needs no library and no network. Keys move the slider. Without scripts the last is shown.

    Args:
        frames: images (N, C, H, W) in [0, 1] by iteration, class by class.
        texts: what the slider's label says of each iteration.
        alt: describes what is shown, without the iteration.
        per_class: images of a class; rows end where a class ends.
    """
    columns = next(n for n in range(10, 0, -1) if per_class % n == 0)
    last, pictures = len(frames) - 1, []
    for place, (iteration, images) in enumerate(frames.items()):
        look = f"width:100%;max-width:640px;display:{'block' if place == last else 'none'}"
        pictures.append(_img(images, columns, f"{alt}, iteration {iteration}", look))
    said = [texts[iteration] for iteration in frames]
    name = "slider-" + hashlib.sha256("".join(pictures).encode()).hexdigest()[:8]
    bar = f'id="{name}" type="range" min="0" max="{last}" step="1" value="{last}"'
    bar += f' aria-valuetext="{html.escape(said[-1])}" style="width:100%;max-width:640px"'
    bar += f' data-texts="{html.escape("|".join(said))}" oninput="{SLIDE}"'
    label = f'<label for="{name}">Iteration:&nbsp;</label>'
    label += f'<output for="{name}" style="font-weight:bold">{html.escape(said[-1])}</output>'
    return Html(f"<div>{label}<br><input {bar}>{''.join(pictures)}</div>", alt)


def embedding(
    points: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> Figure:
    """Draw images as points: a colour per class, a marker per kind, a line from start to end.

    Args:
        points: `real` (M, 2), `initial` (N, 2) and `distilled` (N, 2), the last two paired.
        classes: (M,), (N,) and (N,), of the same names.
        class_names: K names.
    """
    figure, axes = plt.subplots(figsize=(WIDTH_IN, 5.8))
    initial, distilled = points["initial"], points["distilled"]
    ends = np.stack([initial, distilled], 1)
    axes.plot(ends[:, :, 0].T, ends[:, :, 1].T, color="0.55", lw=0.7, zorder=1)
    looks = {"real": {"marker": ".", "s": 60, "alpha": 0.5, "linewidths": 0}}
    looks["initial"] = {"marker": "o", "s": 36, "facecolors": "white", "linewidths": 1.5}
    looks["distilled"] = {"marker": "*", "s": 150, "edgecolors": "black", "linewidths": 0.6}
    for kind, look in looks.items():
        colours = [COLOURS[k] for k in classes[kind]]
        side = "edgecolors" if kind == "initial" else "c"
        axes.scatter(*points[kind].T, **{side: colours} | look, zorder=2)
    mark = lambda label, **own: plt.Line2D([], [], ls="none", label=label, **own)
    named = [name.replace("_", " ") for name in class_names]
    legend = [mark(name, marker="s", color=COLOURS[k]) for k, name in enumerate(named)]
    legend += [mark("real", marker=".", color="0.5", ms=10)]
    legend += [mark("initial", marker="o", color="0.4", mfc="white")]
    legend += [mark("distilled", marker="*", color="0.4", ms=13)]
    axes.legend(handles=legend, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=11)
    axes.set(xticks=[], yticks=[], title="t-SNE of a network's features")
    return figure


def mosaic(images: np.ndarray, columns: int, zoom: int = 1) -> np.ndarray:
    """Join images (N, C, H, W) in [0, 1] row by row: (rows H zoom, columns W zoom) uint8, grey."""
    grey = images.mean(1)
    padding = np.ones((-len(grey) % columns, *grey.shape[1:]), grey.dtype)
    grey = np.concatenate([grey, padding]).reshape(-1, columns, *grey.shape[1:])
    joined = grey.transpose(0, 2, 1, 3).reshape(-1, columns * grey.shape[3])
    return (np.kron(joined, np.ones((zoom, zoom))) * 255).astype(np.uint8)


def _img(images: np.ndarray, columns: int, alt: str, style: str) -> str:
    """Images (N, C, H, W) side by side as one PNG that is part of the page."""
    drawn = io.BytesIO()
    Image.fromarray(mosaic(images, columns)).save(drawn, format="PNG", optimize=True)
    data = base64.b64encode(drawn.getvalue()).decode()
    look = f"image-rendering:pixelated;padding:0;{style}"
    return f'<img alt="{html.escape(alt)}" style="{look}" src="data:image/png;base64,{data}">'


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
