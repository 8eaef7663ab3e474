"""The comparison's figures, table and sentences: they follow from the rows."""

from __future__ import annotations

import base64
import io

import pandas as pd
import pytest

from medddist import figures
from medddist.figures import comparison as compared

METRIC = "balanced_accuracy"


def row(table, method, score, verdict=None, network="convnet", **more) -> dict:
    """A row as `comparison_rows` returns it."""
    scores = {"mean": score, "low": score - 0.02, "high": score + 0.02}
    lead = {"difference": 0.7 - score, "low": 0.6 - score, "high": 0.8 - score, "p_holm": 0.01}
    found = {"table": table, "method": method, "network": network, "label": f"{method} images"}
    found |= {"status": "measured", "accuracy": scores, METRIC: scores, "seconds": 1.0}
    found |= {"released": "images", "bytes_released": 328_000, "real_images_leave": False}
    if verdict:
        both = {"accuracy": lead | {"verdict": verdict}, METRIC: lead | {"verdict": verdict}}
        found["distilled_lead"] = both
    return found | more


@pytest.fixture
def rows() -> list[dict]:
    network = {"released": "network", "bytes_released": 84_000}
    return [
        row("released", "distilled", 0.7),
        row("released", "random_real", 0.6, "better", real_images_leave=True),
        row("released", "herding", 0.68, "not significantly different"),
        row("released", "k_means", 0.65, "better"),
        row("released", "byol", 0.5, "better"),
        row("released", "transfer_phantom", 0, status="unavailable"),
        row("released", "majority", 0.25, "better", network="none"),
        row("inside", "distilled", 0.7),
        row("inside", "random_real", 0.6, "better"),
        row("inside", "byol", 0.71, "not significantly different"),
        row("inside", "full_good", 0.9, "worse", **network),
        row("unseen", "distilled", 0.5, network="mlp"),
        row("unseen", "random_real", 0.4, "better", network="mlp"),
    ]


def test_a_row_of_both_tables_is_shown_once(rows):
    groups = compared.once(rows)
    names = {group: [row["method"] for row in members] for group, members in groups.items()}
    assert names["inside"] == ["byol"] and names["full"] == ["full_good"]
    assert names["released"].count("random_real") == 1
    assert "transfer_phantom" not in names["released"]


def test_the_figure_has_a_line_per_method_and_marks_the_distilled_images(rows):
    axes = compared.methods(rows, METRIC).axes[0]
    lines = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert lines.count("byol images") == 2 and lines.count("distilled images") == 1
    assert not [line for line in lines if "majority" in line or "transfer" in line]
    vertical = {line.get_label(): line.get_xdata()[0] for line in axes.get_lines()}
    assert (vertical["distilled"], vertical["majority class"]) == (0.7, 0.25)
    figures.plt.close(axes.figure)


def test_other_networks_stand_below_the_networks_own(rows):
    axes = compared.other_networks(rows, METRIC).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["ConvNet (its own)", "MLP"]
    figures.plt.close(axes.figure)


def test_sentences_change_with_the_verdicts(rows):
    told = " ".join(compared.comparison_sentences(rows, METRIC))
    assert "better than 4 of 5" in told
    assert "not significantly different from 1 of 5 (herding images)" in told
    assert "worse than 1 of 1 (full_good images)" in told
    assert "better than random real images in 1 of 1 (MLP)" in told
    assert "takes 84 kB, the distilled images 328 kB" in told
    for each in rows:
        if "distilled_lead" in each:
            each["distilled_lead"][METRIC]["verdict"] = "worse"
    told = " ".join(compared.comparison_sentences(rows, METRIC))
    assert "better than" not in told and "worse than 5 of 5" in told


def test_what_is_sent_has_the_better_coreset_and_a_network(rows):
    sent = compared.sent(rows, METRIC)
    assert [line["kB"] for line in sent] == ["328", "328", "328", "84"]
    assert sent[2]["sent"] == "herding images" and sent[3]["sent"].startswith("network trained on")
    assert [line["after Holm's correction"] for line in sent][1:] == [
        "better",
        "not significantly different",
        "worse",
    ]
    assert sent[1]["real images leave"] == "yes" and figures.table(sent, index="sent")


def test_the_download_has_every_row(rows):
    html = compared.download(rows, "all.csv")._repr_html_()
    content = base64.b64decode(html.split("base64,")[1].split('"')[0])
    frame = pd.read_csv(io.BytesIO(content))
    assert 'download="all.csv"' in html and len(frame) == len(rows)
    assert frame["balanced_accuracy mean"].iloc[0] == 0.7
    assert frame["distilled minus this, accuracy verdict"].iloc[1] == "better"


@pytest.mark.parametrize("known, text", [(None, "do not say"), (0.5, "accuracy of 0.500")])
def test_sources_are_spoken_of_where_they_are_known(known, text):
    origins = {"class_from_origin": known, "confounding": [], "by_origin": {}}
    assert text in compared.sites_sentence(origins, 4) and compared.sites(origins) == []


def test_what_a_shortcut_costs_is_said():
    lost = {METRIC: {"difference": 0.4, "low": 0.3, "high": 0.5}}
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    pair = {"trained_on": "confounded", "tested_on": "balanced", METRIC: score, "lost": lost}
    origins = {"class_from_origin": 0.25, "confounding": [pair], "by_origin": {}}
    assert "lose +0.400 [+0.300, +0.500]" in compared.sites_sentence(origins, 4)
    (line,) = compared.sites(origins)
    assert line["trained where sites are"] == "confounded with class"
    sensitivity = {"class": "COVID", "origin": "A", "images": 12, "sensitivity": score}
    origins = origins | {
        "confounding": [],
        "by_origin": {"one": [sensitivity], "two": [sensitivity]},
    }
    (line,) = compared.sites(origins)
    assert line["one"] == line["two"] == score and line["images"] == 12
