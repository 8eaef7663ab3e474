"""README.md of a package: a datasheet (Gebru et al. 2021), filled in from the manifest alone.

Its text is in card.md, and the sentences that depend on the manifest are in card.yaml.
"""

from __future__ import annotations

import html
import math
import string
from importlib import resources
from typing import Any

import yaml

from medddist.method.private.release import certainty
from medddist.sharing.guarantees import Guarantee, Released
from medddist.sharing.manifest import (
    COPY_LEVELS,
    NOT_COMPARED,
    NOT_MEASURED,
    Manifest,
    Score,
)

LEDGER = {  # whether the owner adds releases up
    True: "The owner keeps a ledger that adds it to the other releases that were entered there.",
    False: "Other releases from the same data add to it; no ledger was used.",
}
UNNAMED = "An image for which the data name no patient counts as a patient of its own. "
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")


class _Texts(string.Formatter):
    """Fills in texts: `{manifest.step_size:.4g}`, and `{manifest.creator!p}` for plain words."""

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        return plain(str(value)) if conversion == "p" else super().convert_field(value, conversion)


def card(manifest: Manifest) -> str:
    """Return README.md. It depends on all of the manifest but the files' sizes and digests."""
    folder = resources.files("medddist.sharing")
    read = lambda name: folder.joinpath(name).read_text(encoding="utf-8")
    text, sentences, fill = read("card.md"), yaml.safe_load(read("card.yaml")), _Texts().vformat
    values = _values(manifest, sentences["images"])
    for subject, case in _cases(manifest).items():
        values[subject] = fill(sentences[subject][case], (), values)
    return fill(text, (), values)


def _cases(manifest: Manifest) -> dict[str, Any]:
    """Which of the sentences about each subject is true."""
    made, origin = manifest.settings.distillation, "simulated" if manifest.simulated else "real"
    is_compared, is_balanced = manifest.copies != NOT_COMPARED, len(set(manifest.images)) == 1
    if is_compared and manifest.copies.images:
        nature = f"{origin} copies"
    elif manifest.simulated:
        nature = "simulated"
    else:
        unchanged = manifest.selected_iteration == 0 or made.get("learning_rate_images") == 0
        nature = "initial" if unchanged else "learned"
    is_open = manifest.simulated or nature == "real copies"
    source = "withheld" if manifest.privacy else "stated"
    start = made["initial_images"]
    start = "real" if start in ("herding", "kmeans") else start
    is_release = isinstance(manifest.privacy, Released)
    return {
        "method": made.get("method", "trajectory"),  # the only one before version 2
        "nature": nature,
        "confidential": origin if is_open else f"from {'a release' if is_release else start}",
        "nearness": "withheld" if manifest.privacy else "measured" if is_compared else "unknown",
        "collection": origin,
        "colour": manifest.pixels.channels,
        "label": manifest.labels,
        "balance": "equal" if is_balanced else "unequal",
        **dict.fromkeys(("sample", "identity", "tests"), source),
        "guarantee": "released" if is_release else source,
    }


def _values(manifest: Manifest, groups: dict[str, str]) -> dict[str, Any]:
    """The manifest, and what the texts say of it in words, sums and tables."""
    pixels, privacy, source = manifest.pixels, manifest.privacy, manifest.source.images
    scaling = (f"mean {m:.4f}, standard deviation {s:.4f}" for m, s in zip(pixels.mean, pixels.std))
    versions = (f"{name} {version or '?'}" for name, version in manifest.made_with.items())
    composed = privacy.composed.items() if isinstance(privacy, Guarantee) else ()
    return {
        "manifest": manifest,
        "total": sum(manifest.images),
        "classes": len(manifest.class_names),
        "size": f"{pixels.image_size_px} x {pixels.image_size_px} pixels",
        "class_table": _class_table(manifest),
        "scaling": "; ".join(scaling),
        "first_preview": min(name for name in manifest.files if name.endswith(".png")),
        "made_with": ", ".join(versions),
        "measured": _measured(manifest),
        "audit": _audit(manifest.audit, groups),
        "source_total": sum(map(sum, source.values())),
        "test_total": sum(source.get("test", ())),
        "composed": ", ".join(f"{count} {name}" for name, count in composed),
        "certainty": _certainty(privacy),
        "unnamed": UNNAMED if getattr(privacy, "unit", "") == "patient" else "",
        "ledger": LEDGER[isinstance(privacy, Released) and privacy.ledger],
        "levels": COPY_LEVELS,
        "kind": "simulated" if manifest.simulated else "real",
    }


def _certainty(privacy: object) -> str:
    """In percent, rounded up; "" without a release."""
    if not isinstance(privacy, Released):
        return ""
    sure = certainty(privacy.noise_scale / privacy.sensitivity, privacy.delta)
    return f"{math.ceil(1000 * sure) / 10:g}"


def _class_table(manifest: Manifest) -> str:
    parts = manifest.source.images
    head = ["class", "images here", *(f"{part} images it stands for" for part in parts)]
    columns = map(plain, manifest.class_names), manifest.images, *parts.values()
    return _table(head, zip(*columns))


def _measured(manifest: Manifest) -> str:
    if manifest.measured == NOT_MEASURED:
        return "Not measured."
    scores = lambda row: [_interval(getattr(row, name)) for name in METRICS]
    rows = ([plain(row.label), *scores(row)] for row in manifest.measured)
    return _table(["trained on", *(name.replace("_", " ") for name in METRICS)], rows)


def _interval(score: Score) -> str:
    if score.mean is None:
        return "not defined"
    interval = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.mean:.3f}{interval}"


def _audit(audit: dict | str, groups: dict[str, str]) -> str:
    """The figures of an audit, and whether its controls let them be believed."""
    if audit == NOT_MEASURED:
        return "Not measured."
    rows = []
    for attack, results in audit["membership"].items():
        attacked = {"control": results["positive_control"]["control"], **results["released"]}
        rows += [[attack, groups[group], *_found(hits)] for group, hits in attacked.items()]
    head = ["attack", "images", "found", "of them, interval", "by chance", "area under the curve"]
    verdict = plain("; ".join(audit["broken"]) or "Both controls behaved as expected")
    share = audit["settings"]["false_positives"]
    about = f"{verdict}. Membership in the training images, at {share:.2g} false positives:"
    return f"{about}\n\n{_table(head, rows)}"


def _found(figures: dict) -> list[str]:
    hits, area, (low, high) = figures["true_positives"], figures["auc"], figures["by_chance"]
    between = lambda interval: f"[{interval['low']:.3f}, {interval['high']:.3f}]"
    share = f"{hits['count']} of {hits['of']}"
    return [share, between(hits), f"{low} to {high}", f"{area['auc']:.3f} {between(area)}"]


def _table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def plain(text: str) -> str:
    """Return text that cannot become a tag, a table's border or a link of its own."""
    return html.escape(text, quote=False).translate(str.maketrans({c: f"\\{c}" for c in "|[]`*_"}))
