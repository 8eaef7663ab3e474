"""Tables and sentences of the notebooks: they follow from the numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from medddist import figures


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.01, 0.09, "better than"),
        (-0.09, -0.01, "worse than"),
        (-0.01, 0.09, "not significantly different from"),
        (0.0, 0.09, "not significantly different from"),
        (None, None, "not significantly different from"),
    ],
)
def test_the_interval_decides_the_verdict(low, high, expected):
    assert figures.verdict({"difference": 0.05, "low": low, "high": high}) == expected


def test_values_come_with_their_intervals():
    score = {"mean": 0.7412, "low": 0.7222, "high": 0.7601}
    assert figures.interval_text(score) == "0.741 [0.722, 0.760]"
    assert figures.interval_text({"auc": 0.5, "low": None}, "auc") == "0.500 (no interval)"
    difference = {"difference": 0.0571, "low": -0.031, "high": 0.083}
    assert figures.difference_text(difference) == "+0.057 [-0.031, +0.083]"


def test_a_table_has_words_numbers_and_a_name_for_its_scrolling():
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    rows = [{"method": "one_way", "macro_f1": score, "images": 5500, "loss": None, "rate": 0.03}]
    shown = figures.table(rows, "How it went", index="method")
    html = shown._repr_html_()
    assert list(shown.frame.columns) == ["macro F1", "images", "loss", "rate"]
    assert shown.frame.loc["one way"].tolist() == ["0.500 [0.400, 0.600]", "5,500", "", "0.030"]
    assert "<caption>How it went</caption>" in html and 'aria-label="How it went"' in html
    whole = figures.table(pd.DataFrame({"train": [3, 4]}, index=["normal", "lung_opacity"]))
    assert whole.frame["train"].tolist() == ["3", "4"] and "lung opacity" in whole.frame.index


def test_a_conclusion_is_one_paragraph():
    shown = figures.conclusion(["First.", "Second."])
    assert shown._repr_markdown_() == "**Conclusion.** First. Second."


def test_rows_that_are_only_counted_are_named_by_their_first_column():
    counted = figures.table([{"site": "north", "images": 3}, {"site": "south", "images": 4}])
    named = figures.table(
        [{"site": "north", "images": 3}, {"site": "south", "images": 4}], index="site"
    )
    assert repr(counted) == repr(named) and "north" in repr(counted)
