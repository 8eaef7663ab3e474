"""Pictures as markup: what is shown, what is said of it, and that no network is needed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from medddist import figures
from medddist.figures.pictures import NO_EVIDENCE

IMAGES = np.linspace(0, 1, 4 * 8 * 8, dtype=np.float32).reshape(4, 1, 8, 8)
LABELS = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.05, 0.95]])


def test_the_sheet_has_all_images_with_the_probability_of_their_own_class():
    markup = figures.labelled_sheet(IMAGES, [0, 0, 1, 1], ["Normal", "Lung_Opacity"], LABELS)
    shown = markup._repr_html_()
    assert shown.count("<img ") == 4 and "https:" not in shown
    assert 'alt="Normal 2, its label gives Normal 0.30 (Lung Opacity)"' in shown
    assert "<div>0.95</div>" in shown
    hard = figures.labelled_sheet(IMAGES, [0, 0, 1, 1], ["Normal", "Lung_Opacity"])._repr_html_()
    assert "probability" not in hard and 'alt="Lung Opacity 1"' in hard


def test_the_slider_shows_one_iteration_and_names_it():
    frames = {0: IMAGES, 25: IMAGES / 2, 50: IMAGES / 3}
    texts = {0: "0, score 0.5", 25: "25, score 0.6", 50: "50, score 0.7"}
    shown = figures.slider(frames, texts, "Distilled images", 2)._repr_html_()
    assert shown == figures.slider(frames, texts, "Distilled images", 2)._repr_html_()
    (name,) = re.findall(r'<input id="([\w-]+)" type="range" min="0" max="2"', shown)
    assert f'<label for="{name}">' in shown and 'aria-valuetext="50, score 0.7"' in shown
    assert re.findall(r"display:(\w+)", re.sub(r"oninput=\"[^\"]*\"", "", shown)) == [
        "none",
        "none",
        "block",
    ]
    assert re.findall(r'alt="([^"]*)"', shown)[1] == "Distilled images, iteration 25"
    assert "http" not in shown and "<script" not in shown


def test_a_panel_without_evidence_says_so():
    heat = np.zeros((8, 8))
    drawn = figures.overlays(
        list(IMAGES[:2]), {"teacher": [heat, heat + np.eye(8)]}, ["Normal", "Lung_Opacity"]
    )
    empty, full = drawn.axes[2:]
    assert [text.get_text() for text in empty.texts] == [NO_EVIDENCE] and not full.texts
    assert len(empty.images) == 1 and len(full.images) == 2
    figures.plt.close(drawn)


def test_roc_and_calibration_are_those_of_the_answers():
    labels = np.array([0, 1] * 20)
    right = np.stack([np.eye(2)[labels] * 0.8 + 0.1] * 2)
    drawn = figures.roc_and_calibration({"right": right, "wrong": 1 - right}, labels)
    named = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert named == ["right, area 1.000", "wrong, area 0.000"]
    points = [line.get_xydata() for line in drawn.axes[1].lines[:2]]
    assert points[0][0] == pytest.approx([0.9, 1.0]) and points[1][0] == pytest.approx([0.9, 0.0])
    figures.plt.close(drawn)
