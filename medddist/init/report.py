"""Write a survey as one HTML file that holds its pictures, for those who may see the images."""

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
MOST_ROWS = 50  # of a table
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}
.warning{border-left:.3rem solid #c60;padding-left:1rem}
"""
WARNING = "This page shows images. If they are of patients, it may go only where the images may."
EXPLANATION = """
Each number is the balanced accuracy with which a property alone predicts the class, on images that
its rule was not made from. A network that sees such a property can predict the class without a look
at the disease. The border is the outer eighth of the image at each side."""


def write_report(survey: Survey, path: Path, further: Sequence[str] = ()) -> None:
    """Write the page at `path`, whole or not at all, with `further` lines below the findings.

    Its owner alone may read it (0600): it shows images of the source.
    """
    text = page(survey, further)
    write_bytes(path, text.encode("utf-8", "backslashreplace"), private=True)


def page(survey: Survey, further: Sequence[str] = ()) -> str:
    """Return the page's HTML."""
    title = f"What is in {html.escape(survey.source)}"
    rows_of = lambda k: np.flatnonzero(survey.labels == k)
    random, classes = numpy_generator(0, "examples"), list(enumerate(survey.class_names))
    examples = {name: random.permutation(rows_of(k))[:EXAMPLES] for k, name in classes}
    pictures = {name: [survey.pictures[k][None] / 255 for k in examples[name]] for name in examples}
    means = {name: [survey.pictures[rows_of(k)].mean(0)[None] / 255] for k, name in classes}
    brightness = survey.pictures.reshape(len(survey.labels), -1).mean(1) / 255
    counts = pd.DataFrame({"images": survey.counts})
    drawn = figures.sheet(pictures, "Some of each class, drawn at random")
    by_class = figures.brightness(brightness, survey.labels, survey.class_names)
    parts = [
        f'<h1>{title}</h1><p class="warning">{WARNING}</p>',
        _list(survey_lines(survey)) + _list(further),
        "<h2>Classes</h2>",
        _picture(figures.class_counts(counts), "Bars: images of each class"),
        _picture(drawn, "Images drawn at random, a row for each class"),
        _picture(figures.sheet(means, "The mean of each class"), "The mean image of each class"),
        f"<h2>What predicts the class other than the disease (shortcuts)</h2><p>{EXPLANATION}</p>",
        _shortcut_table(survey),
        _picture(by_class, "Brightness by class"),
    ]
    if survey.origins:
        table = pd.DataFrame.from_dict(survey.origins, orient="index", columns=survey.class_names)
        parts += ["<h2>Sites</h2>", _table(table.rename_axis("site").reset_index())]
    tables = {"Sizes": pd.DataFrame(survey.sizes.items(), columns=["size", "images"])}
    tables["Formats"] = pd.DataFrame(survey.kinds.items(), columns=["format", "images"])
    tables["Unreadable files"] = pd.DataFrame(survey.unreadable, columns=["file", "reason"])
    for heading, table in tables.items():
        if len(table):
            parts += [f"<h2>{heading}</h2>", _table(table)]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f"{head}<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"


def _shortcut_table(survey: Survey) -> str:
    names = {"what": "property", "tells_the_class": "balanced accuracy"}
    table = pd.DataFrame(survey.traits).drop(columns="values").rename(columns=names)
    return _table(table.assign(suspected=table["suspected"].map({True: "yes", False: "no"})))


def _picture(figure, alt: str) -> str:
    return f"<p>{figures.show(figure, alt)._repr_html_()}</p>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _table(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):
        return table.head(MOST_ROWS).to_html(index=False, border=0, float_format="{:.2f}".format)
