"""The text on sending weights or images, from results/weights-*.json.

Weights or images are said to win only where the interval of a paired difference excludes zero.
"""

from __future__ import annotations

from medddist import figures
from medddist.baselines.architectures import ARCHITECTURES
from workflow.words import (
    data_of,
    difference,
    made_by,
    mark,
    markdown_table,
    records_named,
    with_interval,
)

METRIC = "balanced_accuracy"
COMMAND = "`.venv/bin/python -m workflow.weights --data my_images --save results --part {}`"
MISSING = f"Not measured yet. {COMMAND.format('uses')} measures it; the other parts are `leaks` and"
MISSING += " `storage`."
PARTS = {"uses": "uses", "leaks": "what each gives away", "storage": "bytes"}
RECEIVED = {
    "weights": "the weights",
    "set": "the distilled set",
    "nothing": "nothing, own images alone",
    "weights of all networks": "the weights of all networks",
    "as many real images": "an equal number of real images (positive control)",
}
USES = {
    "as they are": "used as they are",
    "with own images": "together with the receiver's own images",
    "another architecture": "for another architecture",
}
GROUPS = {
    "starting": "initial images",
    "others": "other training images",
    "control": "the real images that were sent",
    "unseen": "unseen images (negative control)",
}


records = records_named("weights-*")


def pictures(records: dict[str, dict]) -> dict[str, figures.Shown]:
    """Draw nothing: this page has tables alone."""
    return {}


def text(records: dict[str, dict]) -> str:
    """Write each record's sentences and tables, in MyST."""
    lines = [] if records else [MISSING, ""]
    for record in records.values():
        lines += [f"### On {data_of(record)}", "", made_by(record["settings"]), ""]
        lines += mark(record)
        for part, name in PARTS.items():
            rows = [row for row in record["rows"] if row["part"] == part]
            written = {"uses": _uses, "leaks": _leaks, "storage": _storage}[part]
            absent = f"**Not measured yet:** {name}. {COMMAND.format(part)} measures it."
            lines += [*(written(rows, record) if rows else [absent]), ""]
    return "\n".join(lines)


# ---- uses --------------------------------------------------------------------------------------


def _uses(rows: list[dict], record: dict) -> list[str]:
    settings = record["settings"]
    head = ["use", "received", "bytes sent", "balanced accuracy", "accuracy"]
    cells = []
    for row in rows:
        scores = [row.get("reason", ""), ""]
        if row["status"] == "measured":
            scores = [with_interval(row[name]) for name in (METRIC, "accuracy")]
        else:
            scores[0] = f"not possible: {scores[0]}"
        sent = f"{row['sent_bytes']:,}"
        cells.append([_use(row), RECEIVED[row["received"]], sent, *scores])
    return [
        f"The receiver's own images: up to {record['own_images_per_class']} per class, drawn "
        f"{record['draws']} "
        "times from the validation part, which neither the weights nor the set were trained on. "
        "The learning rate was tuned on the rest of that part; a rate of 0, which leaves the "
        "weights unchanged, was among those tried. Networks for each set: "
        f"{settings['evaluate']['networks']}; commit `{record['about']['commit']}`.",
        "",
        *(f"- {sentence}" for sentence in _sentences(rows)),
        "",
        *markdown_table(head, cells),
        "",
        *_classes(rows),
    ]


def _use(row: dict) -> str:
    network = ARCHITECTURES.get(row["network"], row["network"])
    return f"{USES[row['what']]}: {network}" if row["network"] != "convnet" else USES[row["what"]]


def verdict(paired: dict) -> str:
    """Say who wins by the paired difference of the set minus the weights."""
    if paired["low"] is None or paired["low"] <= 0 <= paired["high"]:
        return "the two are not significantly different"
    return "the distilled set wins" if paired["low"] > 0 else "the weights win"


def _sentences(rows: list[dict]) -> list[str]:
    """Say where weights win and where images win, in both accuracies."""
    lines = []
    for row in rows:
        for paired in row.get("differences", []):
            name = paired["metric"].replace("_", " ")
            if paired["low"] is None:
                continue
            if (row["received"], paired["against"]) == ("set", "weights"):
                lines.append(
                    f"**{_capital(_use(row))}**: in {name}, {verdict(paired)} (set minus weights "
                    f"{difference(paired)})."
                )
            elif paired["against"] == "nothing":
                lines.append(
                    f"**{_capital(RECEIVED[row['received']])}, with own images**: in {name} "
                    f"{_above(paired)} own images alone ({difference(paired)})."
                )
    lines += _joined(rows)
    others = [row for row in rows if row["what"] == "another architecture"]
    if any(row["status"] != "measured" for row in others):
        lines.append(
            "**For another architecture**: weights alone do not allow it. The table gives the "
            "scores of networks of other architectures that were trained on the distilled set."
        )
    return lines


def _joined(rows: list[dict]) -> list[str]:
    """Say whether own images add to the set, by the means."""
    means = {row["what"]: row[METRIC]["mean"] for row in rows if row["received"] == "set"}
    alone, both = means.get("as they are"), means.get("with own images")
    if alone is None or both is None:
        return []
    says = "adds to the set" if both > alone else "adds nothing to the set"
    return [
        f"**Training on the set and on own images together** {says}, by the means: {both:.3f}, "
        f"compared with {alone:.3f} for the set alone, in balanced accuracy. Own images have hard "
        "labels, and count in training as the set's do."
    ]


def _above(paired: dict) -> str:
    if paired["low"] > 0:
        return "above"
    return "below" if paired["high"] < 0 else "not significantly different from"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _classes(rows: list[dict]) -> list[str]:
    measured = [row for row in rows if row["status"] == "measured"]
    if not measured:
        return []
    names, lines = list(measured[0]["per_class"]), []
    for what in ("sensitivity", "specificity"):
        cells = [
            [_use(row), RECEIVED[row["received"]]]
            + [with_interval(row["per_class"][name][what]) for name in names]
            for row in measured
        ]
        head = ["use", "received", *(name.replace("_", " ") for name in names)]
        lines += [f"**{_capital(what)}:**", "", *markdown_table(head, cells), ""]
    return lines[:-1]


# ---- what each gives away, and bytes -----------------------------------------------------------


def is_recognised(group: dict) -> bool:
    """Say whether more is found than by chance: at the threshold, and over the whole curve."""
    above = group["true_positives"]["count"] > group["by_chance"][1]
    return above and group["auc"]["low"] > 0.5


def beyond_chance(group: dict) -> str:
    """Say what of a group is found beyond chance: at the threshold, over the whole curve, both."""
    above = group["true_positives"]["count"] > group["by_chance"][1]
    if above == (group["auc"]["low"] > 0.5):
        return "more than chance" if above else "no more than chance"
    if above:
        return "more than chance at the threshold (but not over the whole curve)"
    return "no more than chance at the threshold (but more over the whole curve)"


def _leaks(rows: list[dict], record: dict) -> list[str]:
    head = ["sent", "reference networks", "images", "found", "by chance at most", "AUC"]
    cells = [
        [
            RECEIVED[row["received"]],
            "yes" if row["references"] else "no",
            GROUPS[name],
            _hits(group["true_positives"]),
            str(group["by_chance"][1]),
            with_interval(group["auc"] | {"mean": group["auc"]["auc"]}),
        ]
        for row in rows
        for name, group in row["groups"].items()
    ]
    share = record["settings"]["audit"]["false_positives"]
    return [
        "**What each gives away.** The audit's loss attack asks how confident networks are of an "
        f"image's class. Its threshold is set so that {share:g} of unseen images are found "
        "wrongly; the column *by chance at most* has the largest number that chance would "
        "plausibly find. "
        "The AUC is the area under the whole curve; chance is 0.5. The weights were "
        "trained on all training images, so initial and other training images are both members "
        "there. The attacker trains networks on the distilled set; *the weights of all networks* "
        "are those of several networks, whose answers the attacker averages. Intervals of the "
        "controls are at 99.9 %, the others at 95 %.",
        "",
        *(f"- {sentence}" for sentence in _recognised(rows)),
        "",
        *markdown_table(head, cells),
    ]


def _hits(share: dict) -> str:
    interval = f"[{share['low']:.3f},\N{NO-BREAK SPACE}{share['high']:.3f}]"
    return f"{share['count']} of {share['of']}, {share['share']:.3f} {interval}"


def _recognised(rows: list[dict]) -> list[str]:
    """Say what is found, and compare weights and set where their intervals are apart."""
    lines, by_place = [], {(row["received"], row["references"]): row["groups"] for row in rows}
    for calibrated in (True, False):
        attack = f"The attack with{'' if calibrated else 'out'} reference networks"
        control = by_place.get(("as many real images", calibrated))
        if control and not is_recognised(control["control"]):
            lines.append(f"{attack} finds, of its positive control, ")
            lines[-1] += f"{beyond_chance(control['control'])}, so a low number does not show that"
            lines[-1] += " anything is safe."
        lines += _unseen_above_chance(attack, by_place, calibrated)
        for group in ("starting", "others"):
            found = {
                name: by_place[name, calibrated][group]
                for name in ("weights", "set")
                if group in by_place.get((name, calibrated), {})
            }
            says = [f"{beyond_chance(each)} from {RECEIVED[name]}" for name, each in found.items()]
            if len(says) == 2 and len({beyond_chance(each) for each in found.values()}) == 1:
                both = f"from {RECEIVED['weights']} and from {RECEIVED['set']}"
                says = [f"{beyond_chance(found['set'])}, {both} alike"]
            if says:
                lines.append(f"{_capital(GROUPS[group])}: {attack[0].lower()}{attack[1:]} finds ")
                lines[-1] += f"{' and '.join(says)}{_apart(found)}."
    return lines


def _unseen_above_chance(attack: str, by_place: dict, calibrated: bool) -> list[str]:
    """Warn where images that nothing was trained on are told apart."""
    unseen = {
        received: groups["unseen"]["auc"]["low"]
        for (received, references), groups in by_place.items()
        if references == calibrated and "unseen" in groups
    }
    shown = [RECEIVED[received] for received, low in unseen.items() if low > 0.5]
    if not shown:
        return []
    return [
        f"{attack} tells the negative control apart over the whole curve, from "
        f"{' and from '.join(shown)}, although nothing was trained on it. An AUC slightly above "
        "0.5 therefore says nothing here."
    ]


def _apart(found: dict[str, dict]) -> str:
    """Say whose AUC is larger, where the two intervals do not overlap; "" for one of the two."""
    if len(found) < 2:
        return ""
    weights, images = found["weights"]["auc"], found["set"]["auc"]
    if weights["low"] > images["high"]:
        return "; the weights give more away"
    if images["low"] > weights["high"]:
        return "; the distilled set gives more away"
    return "; the intervals of the two AUCs overlap"


def _storage(rows: list[dict], record: dict) -> list[str]:
    number = lambda value: "" if value is None else f"{value:,}"
    cells = [
        [row["what"], *(number(row.get(name)) for name in ("images", "raw", "png", "sent"))]
        for row in rows
    ]
    size = record["settings"]["data"]["image_size_px"]
    head = ["what", "images", "bytes in 8 bits", "bytes as PNG", "bytes as sent"]
    return [
        f"**Bytes**, at {size} pixels. A package holds the images in 8 bits, labels, settings and "
        "a description; weights are counted as four bytes per number.",
        "",
        *markdown_table(head, cells),
    ]
