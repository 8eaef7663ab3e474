"""Tables and sentences for notebooks: what they say is computed from the results of the run."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

import pandas as pd

from medddist.measure.metrics import excludes_zero

WORDS = {"auroc": "AUROC", "macro_f1": "macro F1"}  # names that are not their own words


class Table:
    """A table as notebooks and the book show it: it scrolls by itself where a page is narrow."""

    def __init__(self, frame: pd.DataFrame, caption: str = ""):
        self.frame, self.caption = frame, caption

    def __repr__(self) -> str:
        """Text for where tables are not shown."""
        return self.frame.to_string()

    def _repr_html_(self) -> str:
        table = self.frame.to_html(border=0, classes="table lesson", na_rep="")
        name = html.escape(self.caption or "Table")
        caption = f"<caption>{name}</caption>" if self.caption else ""
        table = table.replace("<thead>", f"{caption}<thead>", 1)
        focus = f'role="region" aria-label="{name}" tabindex="0"'
        return f'<div class="lesson-table" style="overflow-x:auto" {focus}>{table}</div>'


class Text:
    """Markdown that a cell displays."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def words(name: str) -> str:
    """Return a name of a result, such as `balanced_accuracy`, as people write it."""
    return WORDS.get(name, name.replace("_", " "))


def table(
    rows: pd.DataFrame | Iterable[Mapping], caption: str = "", digits: int = 3, index: str = ""
) -> Table:
    """Return a table for people.

    Args:
        rows: a frame, or a mapping per row.
        caption: of the table.
        digits: after the decimal point of every number that is not whole.
        index: the column that names the rows; with "", a frame's own index does, or the first
            column where that only counts.

    Returns:
        What a cell displays: columns in words, numbers rounded, and a score {mean, low, high} or a
        difference {difference, low, high} as its value and 95 % interval.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if not index and isinstance(frame.index, pd.RangeIndex) and len(frame.columns):
        index = frame.columns[0]
    frame = frame.set_index(index) if index else frame
    shown = frame.astype(object).map(lambda value: _cell(value, digits))
    named = lambda labels: [words(str(label)) for label in labels]
    shown.columns, shown.index = named(frame.columns), named(frame.index)
    shown.columns.name = words(str(index or frame.index.name or "")) or None
    return Table(shown, caption)


def interval_text(score: Mapping, value: str = "mean") -> str:
    """Return a score with its 95 % interval, such as `0.741 [0.722, 0.760]`."""
    if score.get("low") is None:
        return f"{score[value]:.3f} (no interval)"
    return f"{score[value]:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def difference_text(difference: Mapping) -> str:
    """Return a paired difference with its 95 % interval, such as `+0.057 [+0.031, +0.083]`."""
    if difference["low"] is None:
        return f"{difference['difference']:+.3f} (no interval)"
    ends = f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
    return f"{difference['difference']:+.3f} {ends}"


def verdict(difference: Mapping) -> str:
    """Say how the first of a paired difference compares: its interval decides."""
    if not excludes_zero(difference):
        return "not significantly different from"
    return "better than" if difference["low"] > 0 else "worse than"


def conclusion(sentences: str | Iterable[str], title: str = "Conclusion") -> Text:
    """Return sentences, computed from results, as the paragraph that ends a notebook."""
    text = sentences if isinstance(sentences, str) else " ".join(sentences)
    return Text(f"**{title}.** {text}")


def _cell(value: object, digits: int) -> str:
    if isinstance(value, Mapping):
        return difference_text(value) if "difference" in value else interval_text(value)
    if isinstance(value, float) and pd.notna(value):
        return f"{value:.{digits}f}"
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
