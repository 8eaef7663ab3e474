"""Measure whether anything other than the disease predicts the class (shortcuts).

No disease changes an image's size, file format, site, file name or border. Each of these
properties is scored by how well it alone predicts the class, on images that its rule was not made
from. A network sees sizes, formats and borders in the pixels. Where they predict the class better
than the disease does, it learns them instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from medddist.base.seeds import numpy_generator
from medddist.data import splits
from medddist.measure.probes import cross_validated_probe

Rule = Callable[[np.ndarray], np.ndarray | int]  # guesses for all but the rows it was made from
THUMBNAIL_PX = 16
BORDER_PX = 2  # of a thumbnail: an eighth of the image at each side, where there is no lung
MOST_PROBED = 4000  # images, drawn at random: enough for two digits
CLEARLY = 0.1  # balanced accuracy above chance that makes a property a suspect


def shortcuts(
    properties: Mapping[str, Sequence], pictures: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> list[dict]:
    """Score how well each property alone predicts the class, the best predictor first.

    Args:
        properties: by name, each image's value of a property.
        pictures: (N, S, S) uint8, S a multiple of `THUMBNAIL_PX`; their borders are scored too.
        labels: (N,) class positions.
        groups: (N,); a group is never on both sides of a rule.

    Returns:
        `{what, tells_the_class, chance, values, suspected}` of the border and of each property with
        two or more values: a balanced accuracy, that of guessing, and the number of values.
    """
    scores = []
    for what, values in properties.items():
        if len(set(values)) > 1:
            scores.append(_score_of_values(what, np.array(values, object), labels, groups))
    scores.append(_score_of_border(pictures, labels, groups))
    return sorted(scores, key=lambda score: -score["tells_the_class"])


def repeats_the_class(values: Sequence[str], labels: np.ndarray) -> bool:
    """Tell whether a name is only the class in other words, as COVID-12.png in the folder COVID.

    No network sees such a name, and it names no source.
    """
    pairs = set(zip(values, labels.tolist()))
    return len(pairs) == len(set(values)) == len(np.unique(labels))


def _score_of_values(what: str, values: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict:
    """Score a property's values, each of which predicts the class most common with it, classes
    weighted equally.
    """
    values = splits.numbered(values)

    def predicted(known: np.ndarray) -> np.ndarray:
        counts = np.zeros((values.max() + 1, labels.max() + 1))
        np.add.at(counts, (values[known], labels[known]), 1)
        return (counts / np.maximum(counts.sum(0), 1)).argmax(1)[values[~known]]

    return _score(what, labels, groups, predicted, int(values.max()) + 1)


def _score_of_border(pictures: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict:
    """Score a linear probe on the borders of thumbnails."""
    probed = np.sort(numpy_generator(0, "survey").permutation(len(labels))[:MOST_PROBED])
    labels, groups = labels[probed], groups[probed]
    side = pictures.shape[1] // THUMBNAIL_PX
    tiles = pictures[probed].reshape(len(probed), THUMBNAIL_PX, side, THUMBNAIL_PX, side)
    inside = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), bool)
    inside[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    borders = tiles.mean((2, 4))[:, ~inside]

    def predicted(known: np.ndarray) -> np.ndarray | int:
        if len(np.unique(labels[known])) == 1:
            return -1  # one class teaches a probe nothing
        probe, *_ = cross_validated_probe((borders[known], labels[known]), groups[known])
        return probe.predict(borders[~known])

    return _score("border of the image", labels, groups, predicted, 0)


def _score(what: str, labels: np.ndarray, groups: np.ndarray, predicted: Rule, values: int) -> dict:
    """Score each half of the groups by the rule made from the other.

    A property is a suspect where its balanced accuracy exceeds chance by `CLEARLY` and by three of
    its standard errors.
    """
    names = np.unique(groups)
    chosen = numpy_generator(0, "halves").permutation(len(names)) < len(names) // 2
    first = chosen[np.searchsorted(names, groups)]
    guess = np.full(len(labels), -1)
    for known in (first, ~first):
        guess[~known] = predicted(known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a guess may be no class at all
        score = float(balanced_accuracy_score(labels, guess))
    _, counts = np.unique(labels, return_counts=True)
    chance = 1 / len(counts)
    error = float(np.sqrt((score * (1 - score) / counts).sum()) / len(counts))
    suspected = bool(score - chance > max(CLEARLY, 3 * error))
    told = {"what": what, "tells_the_class": score, "chance": chance}
    return told | {"values": values, "suspected": suspected}
