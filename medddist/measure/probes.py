"""Linear probes: logistic regression on features, which shows what can be read from them.

    min over W of sum over n of w_n CE(W f_n, y_n) + |W|^2 / (2 C)

Notation: f_n standardised features, y_n classes, w_n weights that make all classes equally heavy,
C the inverse strength of the penalty, chosen on validation.
"""

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
STRENGTHS = (1e-3, 1e-2, 1e-1)  # candidates for C
LabelledRows = tuple[np.ndarray, np.ndarray]  # features (N, D), classes (N,)


def linear_probe(train: LabelledRows, validation: LabelledRows) -> tuple[Pipeline, float, float]:
    """Fit probes of several strengths, and select one on validation.

    Returns:
        The probe, its C, and its balanced accuracy on validation.

    Raises:
        ValueError: by scikit-learn, where training rows have only one class.
    """
    candidates = []
    for strength in STRENGTHS:
        probe = _probe(strength)
        with warnings.catch_warnings():
            # with a weak penalty it converges slowly, and more iterations change little
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(*train)
        score = balanced_accuracy_score(validation[1], probe.predict(validation[0]))
        candidates.append((probe, strength, float(score)))
    return max(candidates, key=lambda candidate: candidate[2])


def _probe(strength: float) -> Pipeline:
    regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=200)
    return make_pipeline(StandardScaler(), regression)


def cross_validated_probe(
    rows: LabelledRows, groups: np.ndarray
) -> tuple[Pipeline, float, float | None]:
    """Select C by cross-validation over `groups` (N,), and fit a probe on all rows.

    Returns:
        The probe, its C, and its balanced accuracy in cross-validation. Where a class has fewer
        than two groups, C is the middle one and the balanced accuracy is None.

    Raises:
        ValueError: by scikit-learn, where there is only one class.
    """
    fewest = min(len(np.unique(groups[rows[1] == k])) for k in np.unique(rows[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # a small class is not in every fold
        middle = STRENGTHS[len(STRENGTHS) // 2]
        if fewest < 2:
            return _probe(middle).fit(*rows), middle, None
        search = GridSearchCV(
            _probe(middle),
            {"logisticregression__C": list(STRENGTHS)},
            scoring="balanced_accuracy",
            cv=StratifiedGroupKFold(min(FOLDS, fewest)),
            error_score=0.0,
        )
        search.fit(*rows, groups=groups)
    strength = search.best_params_["logisticregression__C"]
    return search.best_estimator_, strength, float(search.best_score_)


def probe_probabilities(probe: Pipeline, rows: np.ndarray, classes: int) -> np.ndarray:
    """Compute probabilities (N, classes); 0 for a class that the probe was not trained on."""
    probabilities = np.zeros((len(rows), classes))
    probabilities[:, probe.classes_] = probe.predict_proba(rows)
    return probabilities
