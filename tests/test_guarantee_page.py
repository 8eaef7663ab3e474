"""The page about sets with a guarantee, and what its script keeps."""

import copy

import numpy as np
import pytest

from medddist import figures
from workflow import guarantee, guarantee_page
from workflow.records import merged


def scored(what: str, mean: float, **more) -> dict:
    """A row as the record holds it."""
    score = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    above = {"difference": mean - 0.65, "low": mean - 0.68, "high": mean - 0.62}
    row = {"what": what, "accuracy": score, "balanced_accuracy": score, "networks": 5, **more}
    return (
        row if what.startswith("random") else row | {"above_random": {"balanced_accuracy": above}}
    )


@pytest.fixture
def record() -> dict:
    """A small record of every part."""
    settings = {"delta": 1e-5, "extractor_networks": 8, "extractor_numbers": 64}
    return {
        "source": "cxr64.npz",
        "settings": {
            "distill": settings | {"images_per_class": 20},
            "evaluate": {"networks": 5},
        },
        "training_images": [30, 20],
        "unit": "patient",
        "interval": "i",
        "about": {"commit": "c"},
        "rows": [
            scored("random real images", 0.65),
            scored("initial", 0.31, epsilon=0, draws=5),
            scored("distilled", 0.6, epsilon=1.0, draws=5),
            scored("distilled", 0.7, epsilon=4.0, draws=5),
            scored("nearest class mean", 0.66, epsilon=1.0, draws=5),
            scored("distilled without noise", 0.71, epsilon=None, draws=1),
            scored("by size", 0.5, epsilon=1.0, smallest_class=10, draws=1),
            scored("by size", 0.6, epsilon=1.0, smallest_class=20, draws=1),
        ],
    }


def page(given: dict) -> str:
    """Its text."""
    return guarantee_page.text({"private-x": given}).replace("\N{NO-BREAK SPACE}", " ")


def test_the_sentences_follow_from_the_intervals(record):
    text = page(record)
    assert "- Epsilon 1: balanced accuracy 0.600, below an equal number of random real" in text
    assert "- Epsilon 4: balanced accuracy 0.700, above an equal number of random real" in text
    record["rows"][2]["above_random"]["balanced_accuracy"]["high"] = 0.01
    assert "0.600, not significantly different from an equal number" in page(record)


def test_the_protocol_says_what_is_protected_and_that_releases_add_up(record):
    text = page(record)
    assert "see [](#not-promised)) is in the data; delta 1e-05; 50 training images, 20 in" in text
    assert "all releases together would be larger" in text


def test_what_has_no_guarantee_is_called_so(record):
    text = page(record)
    assert "| distilled images without noise, no guarantee | no guarantee | 5 | 0.710" in text
    assert "| nearest class mean of the same release | 1 | 5 | 0.660" in text
    assert "| epsilon | 10 in the smallest class | 20 in the smallest class |" in text


def test_a_record_of_the_first_part_is_a_page_with_a_picture(record):
    record["rows"] = record["rows"][:4]
    assert "Alternatives" not in page(record)
    assert "**Not measured yet:** alternatives, such as classifiers" in page(record)
    assert guarantee_page.pictures({"private-x": record})["private-x"].content
    figures.plt.close("all")


def test_without_a_record_the_page_says_how_to_make_it():
    assert "python -m workflow.guarantee" in guarantee_page.text({})


def test_a_part_that_is_measured_again_replaces_its_rows_alone(record):
    before, again = record["rows"], copy.deepcopy(record["rows"][2:4])
    again[0]["networks"] = 7
    kept = merged(before, again, guarantee.SETTING)
    assert kept == [*before[:2], again[0], *before[3:]]


def test_a_share_of_each_class_keeps_the_proportions():
    labels = np.repeat([0, 1, 2], [100, 10, 50])
    chosen = guarantee.proportional(labels, 5, 0)
    assert np.bincount(labels[chosen]).tolist() == [50, 5, 25]
    assert len(np.unique(chosen)) == len(chosen)


def test_a_classifier_answers_with_the_nearest_mean_in_its_metric():
    means, features = np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[0.0, 3.0], [0.5, 0.0]])
    assert guarantee.by_distance(features, means, None).argmax(1).tolist() == [1, 0]
    first_alone = np.diag([1.0, 0.0])
    assert guarantee.by_distance(features, means, first_alone).argmax(1).tolist() == [0, 0]


def test_the_noise_of_dp_sgd_is_the_least_for_its_epsilon():
    settings = guarantee.dp_sgd_settings(4.0, 1e-5)
    steps = guarantee.DP_SGD.epochs * settings.steps_per_epoch
    assert 3.9 < guarantee.epsilon_of(settings, steps) <= 4.0
