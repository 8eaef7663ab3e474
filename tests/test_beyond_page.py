"""The pages on what a few images are worth and on what was tried: every sentence is computed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from medddist import figures
from workflow import beyond_page, overview, tried_page
from workflow.words import corrected, method_of

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("COVID", "Lung_Opacity")


def score(mean: float) -> dict:
    return {"mean": mean, "std": 0.0, "low": mean - 0.1, "high": mean + 0.1}


def against(other: str, low: float, high: float, classes: tuple[float, float]) -> list[dict]:
    """The differences to other images: both accuracies, and COVID's sensitivity from `classes`."""
    every = [("accuracy", low, high), ("balanced_accuracy", low, high)]
    every += [
        (f"{what} {name}", *(classes if (what, name) == ("sensitivity", "COVID") else (-0.5, 0.5)))
        for name in CLASSES
        for what in ("sensitivity", "specificity")
    ]
    return [
        {"against": other, "labels": "x", "metric": metric}
        | {"difference": (low + high) / 2, "low": low, "high": high}
        for metric, low, high in every
    ]


def row(method: str, labels: str, mean: float, differences=(), **changes) -> dict:
    return {
        "method": method,
        "network": "convnet",
        "images_per_class": 20,
        "labels": labels,
        "storage": "uint8",
        "seeds": [0, 1, 2],
        "minutes_per_seed": 12.5 if method == "real_loss" else None,
        "learning_rates": [0.05],
        "accuracy": score(mean + 0.02),
        "balanced_accuracy": score(mean),
        "per_class": {
            name: {"sensitivity": score(mean), "specificity": score(0.9)} for name in CLASSES
        },
        "differences": list(differences),
    } | changes


def record() -> dict:
    recipe = {"epochs": 200}
    settings = {
        "distill": {
            "images_per_class": 20,
            "method": "real_loss",
            "iterations": 700,
            "window_steps": 40,
            "horizon_steps": 160,
            "real_batch_size": 1024,
            "initial_images": "herding",
        },
        "evaluate": {"networks": 5, "recipe": recipe},
        "references": {
            "draws": 5,
            "full_networks": 2,
            "good_recipe": {"epochs": 16},
            "label_temperatures": [1.0, 2.0],
        },
        "seeds": [0, 1, 2],
    }
    ours = [*against("random", 0.02, 0.06, (-0.3, -0.1)), *against("herding", -0.02, 0.06, (0, 1))]
    ours += against("trajectory", -0.09, -0.03, (0, 1))
    return {
        "source": "cxr64.npz",
        "settings": settings,
        "interval": "i",
        "about": {"commit": "c"},
        "rows": [
            row("random", "hard", 0.6),
            row("random", "teachers", 0.65),
            row("real_loss", "hard", 0.62, against("random", -0.01, 0.05, (0.1, 0.3))),
            row("real_loss", "learned", 0.7, ours),
            row("full", "hard", 0.9),
        ],
    }


def page(given: dict) -> str:
    return beyond_page.text({"beyond-x": given}).replace("\N{NO-BREAK SPACE}", " ")


def test_the_verdicts_are_those_of_the_intervals():
    text = page(record())
    assert (
        "- **Distilled by the loss on real images (learned soft labels)**: balanced accuracy above "
        "random real images (+0.040 [+0.020, +0.060]); not significantly different from real "
        "images by herding (+0.020 [-0.020, +0.060]); below distilled by trajectory matching "
        "(-0.060 [-0.090, -0.030])."
    ) in text
    assert "(hard labels)**: balanced accuracy not significantly different from random" in text


@pytest.mark.parametrize(
    "interval, says",
    [
        ((0.01, 0.2), "above random real images (+0.105 [+0.010, +0.200])"),
        ((-0.2, -0.01), "below random real images (-0.105 [-0.200, -0.010])"),
        ((0.0, 0.2), "not significantly different from random real images"),
        ((-0.2, 0.0), "not significantly different from random real images"),
    ],
)
def test_the_sensitivity_for_covid_says_what_its_interval_allows(interval, says):
    given = record()
    given["rows"][3]["differences"] = against("random", 0.1, 0.2, interval)
    sentence = "**COVID sensitivity, distilled by the loss on real images (learned soft labels)**: "
    assert sentence + says in page(given)


def test_the_protocol_has_the_settings_of_the_second_method():
    given = record()
    told = "700 iterations; the last 40 of up to 160 student steps; 1,024 real images per iteration"
    assert told in page(given) and "initial images: herding." in page(given)
    given["settings"]["distill"]["method"] = "trajectory"  # then they are not this record's
    assert told not in page(given)


def test_other_classes_have_no_sentence_of_their_own():
    text = page(json.loads(json.dumps(record()).replace("COVID", "ill")))
    assert "COVID" not in text and "sensitivity, distilled" not in text


def test_shares_are_plain_and_corrected_for_chance():
    assert corrected(0.7, 0.9, 0.5) == pytest.approx(0.5)
    assert corrected(0.25, 0.8, 0.25) == 0
    text = page(record())
    assert (
        "| distilled by the loss on real images | soft, learned | 0.500 | 0.778 | 0.783 |" in text
    )
    given = record()
    given["rows"][-1] = row("full", "hard", 0.5)  # no better than chance
    assert "there is no corrected share" in page(given)


def test_the_two_scores_of_dd_ranking():
    """HLR from hard labels in both rows of a set, IOR from the labels of the row."""
    text = page(record())
    own = "| distilled by the loss on real images |"
    assert f"{own} hard | +0.280 | +0.280 | +0.020 [-0.010, +0.050] |" in text
    assert f"{own} soft, learned | +0.280 | +0.280 | +0.040 [+0.020, +0.060] |" in text


def test_tables_have_minutes_and_each_class():
    text = page(record())
    line = "| distilled by the loss on real images | soft, learned | 0.700 [0.600, 0.800] | "
    assert line + "0.720 [0.620, 0.820] | 3 | 12.5 |" in text
    assert "| images | labels | COVID | Lung Opacity |" in text
    assert "| distilled by the loss on real images | hard | +0.200 [+0.100, +0.300] |" in text


def test_what_is_not_measured_yet_is_named():
    text = page(record())
    missing = [line for line in text.splitlines() if line.startswith("**Not measured yet:**")]
    sets = missing[0]
    assert "real images by k-means (soft labels by networks)" in sets
    assert sets.count("(learned") == sets.count("not rounded (learned") == 1
    assert "random real" not in sets
    assert "**Not measured yet:** networks that the images were not made with." in text
    assert "--part sizes" in text and "--part full" not in text
    given = record()
    given["rows"] += [row("random", "teachers", 0.5, network="vit")]
    given["rows"] += [row("random", "teachers", 0.5, images_per_class=1)]
    assert "--part" not in page(given)


def test_networks_and_sizes_are_counted_by_their_intervals():
    given = record()
    for network, low, high in (("vit", 0.01, 0.1), ("mlp", -0.1, 0.1), ("vgg11", 0.1, 0.2)):
        ours = against("random", low, high, (0, 1))
        given["rows"] += [row("random", "teachers", 0.5, network=network)]
        given["rows"] += [row("real_loss", "learned", 0.6, ours, network=network)]
    ours = against("random", -0.2, -0.1, (0, 1))
    given["rows"] += [row("random", "teachers", 0.5, images_per_class=1)]
    given["rows"] += [row("real_loss", "learned", 0.4, ours, images_per_class=1)]
    text = page(given)
    assert "On 3 networks, the images distilled by the loss on real images are above on 2" in text
    assert "and not significantly different on 1." in text
    assert "| small ViT | 0.500 [0.400, 0.600] | 0.600 [0.500, 0.700] | +0.055 [" in text
    assert "below at 1 (-0.150 [-0.200, -0.100]); above at 20 (+0.040" in text
    assert "| images | labels | 1 per class | 20 per class |" in text


def test_another_number_of_iterations_is_said_where_it_was_used():
    given = record()
    given["rows"] += [row("real_loss", "learned", 0.6, network="vit", iterations=300)]
    given["rows"] += [row("real_loss", "learned", 0.6, images_per_class=50, iterations=700)]
    assert page(given).count("had 300 iterations, not 700.") == 1


def test_how_many_networks_and_which_candidate_are_said_where_they_are_on_record():
    given = record()
    given["rows"] += [row("real_loss", "learned", 0.6, network="mlp")]
    given["rows"] += [row("real_loss", "learned", 0.6, network="vgg11")]
    given["rows"] += [row("real_loss", "learned", 0.6, network="vit", networks=8)]
    ours, own = against("random", 0.1, 0.2, (0, 1)), {"images_per_class": 50}
    given["rows"] += [row("random", "teachers", 0.5, **own)]
    given["rows"] += [row("real_loss", "learned", 0.6, ours, **own, selected_iterations=[0])]
    text = page(given)
    assert "3 networks learn from each, 8 on small ViT." in text
    assert (
        "At 50 per class, distilling brought no gain on validation, which chose the initial" in text
    )


def test_a_record_of_one_part_is_a_page():
    given = record()
    for rows in ([], given["rows"][:1], given["rows"][-1:]):
        assert "Not measured yet" in page(copy.deepcopy(given) | {"rows": rows})


def test_without_a_record_the_page_says_how_to_make_it():
    assert beyond_page.text({}).startswith("Not measured yet. `.venv/bin/python -m workflow.beyond")
    assert "No trials" in tried_page.text({})


def test_the_picture_has_a_line_for_the_images_and_a_colour_for_the_labels(tmp_path):
    (tmp_path / "beyond-x.json").write_text(json.dumps(record()))
    found = beyond_page.records(tmp_path)
    drawn = beyond_page.pictures(found)
    assert list(drawn) == ["beyond-x-sets"] and drawn["beyond-x-sets"].content
    assert "assets/beyond-x-sets.png" in beyond_page.text(found)
    assert beyond_page.pictures({"beyond-x": record() | {"rows": []}}) == {}
    figures.plt.close("all")


def test_published_scores_stand_beside_those_of_the_same_database_alone():
    given = record()
    given["rows"] += [row("random", "teachers", 0.5, images_per_class=1)]
    given["rows"] += [row("real_loss", "learned", 0.4, images_per_class=50)]
    for other in (False, True):
        if other:
            for one in given["rows"]:
                one["per_class"] = {"benign": one["per_class"]["COVID"]}
        text, drawn = page(given), beyond_page.pictures({"beyond-x": given})
        assert "assets/beyond-x-sizes.png" in text
        assert "in the end: random real images 0.670 at 20; distilled by" in text
        assert ("not comparable" in text) == (not other)
        assert drawn["beyond-x-sizes"].content
    assert "-sizes.png" not in page(record())
    figures.plt.close("all")


def test_results_say_how_images_were_distilled():
    settings = {"distill": {}, "teachers": {"teachers": 2}}
    assert method_of(settings) == "trajectory matching on 2 teachers"  # as records of 0.1.0
    settings["distill"] = {"method": "real_loss", "labels": "learned"}
    assert method_of(settings) == "the loss on real images with learned soft labels"


def test_trials_are_tables_by_part_without_empty_columns(tmp_path):
    head = "part,what,settings,iterations,minutes,validation,test,further,verdict,source"
    lines = [head, 'A,"x, y",s,10,,0.7,,,kept,v', "B,z,,,,,0.5,,worse,t", "A,w,,,,,,,no gain,v"]
    (tmp_path / "trials.csv").write_text("\n".join(lines))
    text = tried_page.text(tried_page.records(tmp_path))
    assert text.startswith("3 rows. kept: 1; no gain: 1; worse: 1.")
    assert "| what | settings | iterations | validation | verdict | source |" in text
    assert "| x, y | s | 10 | 0.7 | kept | v |\n| w |  |  |  | no gain | v |" in text
    assert "## B\n\n| what | test | verdict | source |" in text


def test_the_trials_on_record_are_complete():
    (trials,) = tried_page.records(ROOT / "results").values()
    assert list(trials) == ["part", *tried_page.COLUMNS]
    assert set(trials["verdict"]) <= set(tried_page.VERDICTS) and (trials["source"] != "").all()
    assert (trials["what"] != "").all() and not trials.map(lambda cell: "|" in cell).any(axis=None)


@pytest.mark.parametrize("name", ["beyond", "tried"])
def test_the_committed_text_is_that_of_the_committed_results(name):
    module = overview.PAGES[name]
    committed = (ROOT / "book" / f"{name}_measured.txt").read_text(encoding="utf-8")
    assert committed == module.text(module.records(ROOT / "results"))
