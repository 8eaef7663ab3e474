"""What whole distillations are worth by a fast way to the matching gradient, beside exact ones from the same teachers."""

from __future__ import annotations

from typing import Any

from medddist.method.matching import Way
from medddist.study.study import Study


def worth(study: Study, way: Way = "difference") -> list[dict[str, Any]]:
    """A row a metric: means over the networks of all seeds on the test part, and the paired difference with its interval."""
    by_way, by_exact = (by_gradient(study, kind).scored("distilled") for kind in (way, "exact"))
    return [
        {
            "metric": metric,
            "way": way,
            "by_way": by_way.scores[metric]["mean"],
            "by_exact": by_exact.scores[metric]["mean"],
            **study.difference(by_way, by_exact, metric),
        }
        for metric in ("accuracy", "balanced_accuracy")
    ]


def by_gradient(study: Study, way: Way) -> Study:
    """The same study on the same data, distilled by this gradient."""
    return study.with_(study.profile.changed({"distill.gradient": way}))


def lines(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['metric'].replace('_', ' ')}: {row['by_way']:.3f} by {row['way']}, {row['by_exact']:.3f} by the exact gradient,"
        f" difference {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        for row in rows
    ]
