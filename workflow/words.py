"""How pages write what was measured."""

from __future__ import annotations

FORMER = (
    "*These intervals are of the former kind (percentile bootstrap) until they are measured "
    "anew: where networks vary more than test"
    " images, they hold the truth in 87 to 90 % of cases with five networks, in fewer with "
    "three networks or seeds, instead of 95 %.*"
)
FORMER_JA = (
    "*この区間は以前の方法（パーセンタイル・ブートストラップ法）によるもので、再測定までそのまま示します。ネットワーク間のばらつきが"
    "テスト画像によるばらつきより大きい場合、被覆率は95%ではなく、ネットワーク五つで87〜90%、三つまたはシード三つではさらに低くなります。*"
)


def mark(record: dict, words: str = FORMER) -> list[str]:
    """Lines that say so where a record's intervals are of the former kind: it does not name its
    kind.
    """
    return [] if "interval" in record else [words, ""]


def with_interval(score: dict) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f},\N{NO-BREAK SPACE}{score['high']:.3f}]"
