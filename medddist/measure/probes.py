"""Linear probes on features."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 3


STRENGTHS = (1e-3, 1e-2, 1e-1)  # scikit-learn's C, the inverse of the penalty; chosen on validation


LabelledRows = tuple[np.ndarray, np.ndarray]  # features (N, D), classes (N,)


def linear_probe(train: LabelledRows, validation: LabelledRows) -> tuple[Pipeline, float, float]:
    """(logistic regression on standardised features, its C, its balanced accuracy on validation), C
    chosen by the latter.

    Classes weigh equally. Raises ValueError, scikit-learn's, where the training rows have one class
    alone.
    """
    found = []
    for strength in STRENGTHS:
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=200)
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # a weak penalty may need longer, and then hardly matters
            probe.fit(*train)
        found.append(
            (
                probe,
                strength,
                float(balanced_accuracy_score(validation[1], probe.predict(validation[0]))),
            )
        )
    return max(found, key=lambda one: one[2])


def cross_validated_probe(
    rows: LabelledRows, groups: np.ndarray
) -> tuple[Pipeline, float, float | None]:
    """As `linear_probe` without validation rows: C by cross-validation over `groups` (N,), then a
    fit on all rows.

    The balanced accuracy is None, and C the middle one, where a class has fewer than two groups.
    Raises ValueError, scikit-learn's, where there is one class alone.
    """
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=200)
    )
    fewest = min(len(np.unique(groups[rows[1] == k])) for k in np.unique(rows[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # of a small class that is not in every fold
        if fewest < 2:
            middle = STRENGTHS[len(STRENGTHS) // 2]
            return probe.set_params(logisticregression__C=middle).fit(*rows), middle, None
        search = GridSearchCV(
            probe,
            {"logisticregression__C": list(STRENGTHS)},
            scoring="balanced_accuracy",
            cv=StratifiedGroupKFold(min(FOLDS, fewest)),
            error_score=0.0,
        )
        search.fit(*rows, groups=groups)
    return (
        search.best_estimator_,
        search.best_params_["logisticregression__C"],
        float(search.best_score_),
    )


def said_by(probe: Pipeline, rows: np.ndarray, classes: int) -> np.ndarray:
    """(N, classes) probabilities; 0 for a class that the probe never saw."""
    said = np.zeros((len(rows), classes))
    said[:, probe.classes_] = probe.predict_proba(rows)
    return said
