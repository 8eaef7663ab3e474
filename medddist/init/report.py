"""A survey as one HTML file with its pictures inside, for the eyes of those who may see the images."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medddist import figures
from medddist.base.files import write_bytes
from medddist.base.seeds import numpy_generator
from medddist.init.survey import Survey, survey_lines

EXAMPLES = 8  # pictures of each class
MOST_FILES = 50  # unreadable files that are named
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}.warning{border-left:.3rem solid #c60;padding-left:1rem}"""


def write_report(found: Survey, path: Path, further: Sequence[str] = ()) -> None:
    """The page at `path`, whole or not at all; `further` lines stand below what was found, such as
    how long a run will take.

    Its owner alone may read it (0600): it shows images of the source.
    """
    write_bytes(path, page(found, further).encode("utf-8", "backslashreplace"), private=True)


def page(found: Survey, further: Sequence[str] = ()) -> str:
    title = f"What is in {html.escape(found.source)}"
    parts = [
        f"<h1>{title}</h1>",
        '<p class="warning">This page shows images. If they are of patients, it may go only where the images may.</p>',
        _list(survey_lines(found)),
        *([_list(further)] if further else []),
        "<h2>Classes</h2>",
        _picture(
            figures.class_counts(pd.DataFrame({"images": found.counts})),
            "Bars: images of each class",
        ),
        _picture(
            figures.sheet(_examples(found), "Some of each class, drawn at random"),
            "Images drawn at random, a row for each class",
        ),
        _picture(
            figures.sheet(_means(found), "The mean of each class"), "The mean image of each class"
        ),
        "<h2>What gives the class away too easily</h2>",
        "<p>How well each property alone tells the class, as balanced accuracy on images "
        "that the rule was not made from. Classes, once told"
        " by such a property, can be told by a network without a look at the disease. The "
        "frame is the outer eighth of the image at each side.</p>",
        _table(
            [_trait_row(trait) for trait in found.traits],
            ["property", "tells the class", "chance", "suspected"],
        ),
        _picture(
            figures.brightness(
                found.pictures.reshape(len(found.labels), -1).mean(1) / 255,
                found.labels,
                found.class_names,
            ),
            "Brightness by class",
        ),
    ]
    if found.origins:
        rows = [
            [origin, *(counts[name] for name in found.class_names)]
            for origin, counts in found.origins.items()
        ]
        parts += ["<h2>Origins</h2>", _table(rows, ["origin", *found.class_names])]
    for what, counts in (("Sizes", found.sizes), ("Formats", found.kinds)):
        if counts:
            parts += [
                f"<h2>{what}</h2>",
                _table(list(counts.items())[:MOST_FILES], [what.lower(), "images"]),
            ]
    if found.unreadable:
        parts += [
            "<h2>Files that cannot be read</h2>",
            _table(list(found.unreadable)[:MOST_FILES], ["file", "why"]),
        ]
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><body>{"".join(parts)}</body></html>\n'


def _examples(found: Survey) -> dict[str, list[np.ndarray]]:
    random = numpy_generator(0, "examples")
    return {
        name: [
            found.pictures[i][None] / 255
            for i in random.permutation(np.flatnonzero(found.labels == k))[:EXAMPLES]
        ]
        for k, name in enumerate(found.class_names)
    }


def _means(found: Survey) -> dict[str, list[np.ndarray]]:
    return {
        name: [found.pictures[found.labels == k].mean(0)[None] / 255]
        for k, name in enumerate(found.class_names)
    }


def _trait_row(trait: dict) -> list[str]:
    return [
        trait["what"],
        f"{trait['tells_the_class']:.2f}",
        f"{trait['chance']:.2f}",
        "yes" if trait["suspected"] else "no",
    ]


def _picture(figure, alt: str) -> str:
    return f"<p>{figures.show(figure, alt)._repr_html_()}</p>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _table(rows: Sequence[Sequence], header: Sequence[str]) -> str:
    cell = lambda kind, value: f"<{kind}>{html.escape(str(value))}</{kind}>"
    lines = [("th", header), *(("td", row) for row in rows)]
    return (
        "<table>"
        + "".join(
            "<tr>" + "".join(cell(kind, value) for value in row) + "</tr>" for kind, row in lines
        )
        + "</table>"
    )
