"""The front page's findings are the records' numbers, and say what limits them."""

import json
import re

import pytest

from workflow import front_page
from workflow.words import with_interval

RESULTS = front_page.Path(__file__).resolve().parents[1] / "results"
WORDS = {"english": front_page.ENGLISH, "japanese": front_page.JAPANESE}
in_both_languages = pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)


def numbers(text: str) -> list[str]:
    return re.findall(r"[-+]?\d+\.\d+", text)


@in_both_languages
def test_the_table_of_worth_has_each_sets_score_and_the_limits_beside_it(words):
    record = json.loads((RESULTS / "beyond-cxr64.json").read_text(encoding="utf-8"))
    text = front_page.worth(RESULTS, words)
    best = [
        row
        for row in record["rows"]
        if (row["method"], row["labels"], row["storage"]) == front_page.BEST
        and (row["network"], row["images_per_class"]) == ("convnet", 20)
    ]
    assert with_interval(best[0]["balanced_accuracy"]) in text
    assert "0.750" in text and "COVID" in text


def test_both_languages_give_the_same_numbers():
    for write in (front_page.worth, front_page.guaranteed, front_page.short):
        english, japanese = (write(RESULTS, words) for words in WORDS.values())
        assert sorted(numbers(english)) == sorted(numbers(japanese))


@in_both_languages
def test_a_guarantee_is_stated_with_its_epsilon_and_its_price(words):
    text = front_page.guaranteed(RESULTS, words)
    record = json.loads((RESULTS / "private-cxr64.json").read_text(encoding="utf-8"))
    sets = {row["epsilon"]: row for row in record["rows"] if row["what"] == "distilled"}
    for epsilon in front_page.QUOTED:
        score = with_interval(sets[epsilon]["balanced_accuracy"])
        assert f" {epsilon:g} " in text and score in text
    assert text.index("random real" if words is front_page.ENGLISH else "無作為") < text.index(
        " 4 "
    )


def test_hospitals_have_a_row_for_each_way_with_what_was_sent(tmp_path):
    ways = {  # hospital, sent bytes, rounds, mean, how far all packages together are above it
        "alone": ("hospital A", 0, 0, 0.65, 0.05),
        "its package": ("hospital A", 100_000, 1, 0.6, 0.1),
        "all packages": (None, 200_000, 1, 0.7, None),
        "federated averaging": (None, 3_000_000, 7, 0.8, -0.1),
    }
    rows = []
    for way, (hospital, sent, rounds, mean, above) in ways.items():
        row = {"way": way, "hospital": hospital, "sent_bytes": sent, "rounds": rounds}
        row |= {"epsilon": None, "draws": 5, "networks": 15}
        row["balanced_accuracy"] = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        if above is not None:
            paired = {"difference": above, "low": above - 0.06, "high": above + 0.06}
            row["packages_above"] = {"balanced_accuracy": paired}
        rows.append(row)
    of_private = rows[2] | {"epsilon": 1.0, "balanced_accuracy": {"mean": 0.3}}
    record = {"profile": "demo", "rows": [*rows, of_private]}
    (tmp_path / "hospitals-phantom.json").write_text(json.dumps(record), encoding="utf-8")
    text = front_page.hospitals(tmp_path)
    assert "| all packages | 200 kB | 1 | 0.700 [0.600,\N{NO-BREAK SPACE}0.800] |" in text
    assert "| federated averaging | 3,000 kB | 7 |" in text and "distils its data 5 times" in text
    assert "above the best single package (hospital A, +0.100 [+0.040," in text
    assert "not significantly different from the best hospital alone" in text
    assert "below federated averaging (-0.100" in text and "0.600 [" not in text
    japanese = front_page.hospitals(tmp_path, front_page.JAPANESE)
    assert "| すべてのパッケージ | 200 kB | 1 | 0.700 " in japanese
    assert "| 病院Aのみ |" in japanese and "averaging" not in japanese
    assert set(numbers(japanese)) <= set(numbers(text))
