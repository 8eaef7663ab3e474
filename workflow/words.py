"""How pages write what was measured."""

from __future__ import annotations


def with_interval(score: dict) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f},\N{NO-BREAK SPACE}{score['high']:.3f}]"
