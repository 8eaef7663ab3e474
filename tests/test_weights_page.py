"""The page on weights and shortcuts: every claim is one that its interval supports."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow import confounding_page, overview, weights_page

ROOT = Path(__file__).resolve().parent.parent


def score(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def differs(against: str, low: float | None, high: float | None, **more) -> dict:
    middle = 0.0 if low is None else (low + high) / 2
    return {"against": against, "difference": middle, "low": low, "high": high, **more}


def used(what: str, received: str, differences=(), network: str = "convnet") -> dict:
    each = {"sensitivity": score(0.5), "specificity": score(0.9)}
    return {
        "part": "uses",
        "what": what,
        "received": received,
        "network": network,
        "sent_bytes": 84240,
        "status": "measured",
        "accuracy": score(0.7),
        "balanced_accuracy": score(0.6),
        "per_class": {"Lung_Opacity": each},
        "differences": list(differences),
    }


def attack(count: int, area: float) -> dict:
    hits = {"count": count, "of": 80, "share": count / 80, "low": 0.0, "high": 0.5}
    area = {"auc": area, "low": area - 0.04, "high": area + 0.04}
    return {"true_positives": hits, "by_chance": [0, 3], "auc": area}


def leak(received: str, **groups) -> dict:
    return {"part": "leaks", "received": received, "references": True, "groups": groups}


def record(*rows: dict) -> dict:
    settings = {"evaluate": {"networks": 5}, "audit": {"false_positives": 0.01}}
    settings |= {"data": {"image_size_px": 32}, "seeds": [0]}
    settings["distill"] = {"iterations": 3, "method": "real_loss", "labels": "learned"}
    settings["distill"] |= {"window_steps": 2, "horizon_steps": 4}
    shared = {"source": "cxr64.npz", "settings": settings, "interval": "i"}
    own = {"own_images_per_class": 20, "draws": 5, "about": {"commit": "c"}}
    return {**shared, **own, "rows": list(rows)}


def page(*rows: dict) -> str:
    return weights_page.text({"weights-x": record(*rows)}).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    "low, high, says",
    [
        (0.1, 0.2, "the distilled set wins"),
        (-0.2, -0.1, "the weights win"),
        (0.0, 0.2, "the two are not significantly different"),
        (-0.2, 0.0, "the two are not significantly different"),
    ],
)
def test_who_wins_is_what_the_interval_says(low, high, says):
    paired = differs("weights", low, high, metric="balanced_accuracy")
    text = page(used("as they are", "weights"), used("as they are", "set", [paired]))
    assert f"- **Used as they are**: in balanced accuracy, {says} (set minus weights" in text
    assert "| used as they are | the weights | 84,240 | 0.600 [0.500, 0.700] |" in text


def test_nothing_is_said_without_an_interval():
    paired = differs("weights", None, None, metric="accuracy")
    assert "win" not in page(used("as they are", "set", [paired]))


def test_own_images_alone_are_what_both_are_compared_with():
    paired = differs("nothing", 0.1, 0.2, metric="accuracy")
    text = page(used("with own images", "weights", [paired]))
    assert "**The weights, with own images**: in accuracy above own images alone (+0.150" in text


def test_whether_own_images_add_to_the_set_is_said():
    text = page(used("as they are", "set"), used("with own images", "set"))
    assert "together** adds nothing to the set, by the means: 0.600, compared with 0.600" in text
    assert "together**" not in page(used("with own images", "set"))


def test_weights_do_not_make_another_architecture():
    row = {"part": "uses", "what": "another architecture", "received": "weights"}
    row |= {"network": "vit", "status": "not possible", "reason": "none", "sent_bytes": 1}
    text = page(row, used("another architecture", "set", network="vit"))
    assert "| for another architecture: small ViT | the weights | 1 | not possible: none |" in text
    assert "weights alone do not allow it" in text


def test_what_gives_more_away_is_said_where_intervals_are_apart():
    weights = leak("weights", starting=attack(9, 0.7), others=attack(2, 0.55))
    images = leak("set", starting=attack(2, 0.52), others=attack(2, 0.5))
    text = page(weights, images)
    assert (
        "- Initial images: the attack with reference networks finds more than chance from the "
        "weights and no more than chance from the distilled set; the weights give more away."
    ) in text
    assert "the intervals of the two AUCs overlap." in text
    control = leak("as many real images", control=attack(2, 0.6), unseen=attack(1, 0.5))
    assert "of its positive control, no more than chance at the threshold" in page(weights, control)
    assert "| the weights | yes | initial images | 9 of 80, 0.113 [0.000, 0.500] | 3 |" in text


def test_a_negative_control_above_chance_is_said():
    unseen = leak("weights", unseen=attack(2, 0.57)), leak("set", unseen=attack(2, 0.5))
    text = page(*unseen)
    assert (
        "tells the negative control apart over the whole curve, from the weights, although" in text
    )


def test_bytes_are_a_table_and_missing_parts_are_named():
    row = {"part": "storage", "what": "weights of one network", "sent": 84240}
    text = page(row)
    assert "| weights of one network |  |  |  | 84,240 |" in text
    assert text.count("**Not measured yet:**") == 2 and "--part leaks" in text


def lost(method: str, against=(), part: str = "origins", **more) -> dict:
    means = {"usual": score(0.8), "independent": score(0.6), "lost": score(0.2)}
    return {"part": part, "method": method, "against": list(against), **means, **more}


@pytest.mark.parametrize(
    "low, high, says",
    [
        (0.1, 0.2, "stronger than"),
        (-0.2, -0.1, "weaker than"),
        (-0.1, 0.2, "not significantly different from that"),
        (0.0, 0.2, "not significantly different from that"),
    ],
)
def test_the_shortcut_is_as_strong_as_the_interval_allows(low, high, says):
    rows = [lost("origin_alone"), lost("full_good")]
    rows += [lost("distilled", [differs("full_good", low, high)])]
    text = confounding_page.text({"confounding-x": record(*rows)})
    assert f"**With distilled images the shortcut is** {says} with all training images (" in text
    assert "| knowing the source alone | 0.800 [" in text


def test_versions_of_the_phantom_and_origins_have_tables_of_their_own():
    own = {"origin": "A", "images": {"x": 20}, "accuracy": score(0.5), "chance": 0.5}
    own |= {"balanced_accuracy": score(0.5), "restricted": score(0.6)}
    own |= {"part": "within", "method": "distilled", "sensitivity": {"x": score(0.5)}}
    rows = [lost("distilled", part="phantom", trained_on=v) for v in ("confounded", "balanced")]
    text = confounding_page.text({"confounding-x": record(own, *rows)})
    assert "**Trained on the confounded phantom" in text and "**Control: trained on" in text
    assert "**Within A** (x 20 test images)" in text and "chance is 0.500" in text


@pytest.mark.parametrize("name", ["weights", "confounding"])
def test_the_committed_text_is_that_of_the_committed_results(name):
    module = overview.PAGES[name]
    committed = (ROOT / "book" / f"{name}_measured.txt").read_text(encoding="utf-8")
    assert committed == module.text(module.records(ROOT / "results"))
    assert module.text({}).startswith("Not measured yet. `.venv/bin/python -m workflow.")
    assert module.pictures({}) == {}


@pytest.mark.parametrize(
    "count, low, says",
    [
        (11, 0.6, "more than chance"),
        (10, 0.4, "no more than chance"),
        (11, 0.4, "more than chance at the threshold (but not over the whole curve)"),
        (10, 0.6, "no more than chance at the threshold (but more over the whole curve)"),
    ],
)
def test_what_is_found_at_the_threshold_is_not_hidden_by_the_whole_curve(count, low, says):
    group = {"true_positives": {"count": count}, "by_chance": [0, 10], "auc": {"low": low}}
    assert weights_page.beyond_chance(group) == says
