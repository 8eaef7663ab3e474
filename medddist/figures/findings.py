"""Table rows and sentences on leaks, hospitals and guarantees, computed from results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from medddist.figures.tables import difference_text, interval_text, verdict, words

PACKAGE_OF = "the package of "  # how the name of a single package's way begins
GROUPS = {  # of images that an attack on membership asks about
    "control": "trained on: must be found",
    "starting": "initial images",
    "others": "other training images",
    "unseen": "unseen: must not be found",
}


# ---- leaks -------------------------------------------------------------------------------------


def nearest_sentence(distances: Mapping) -> str:
    """Say how many distilled images are nearest to a real image that they started from.

    `distances` are those of one space, as `leaks.audit.audit` returns them.
    """
    starts = distances.get("start_is_nearest")
    if starts is not None:
        return (
            f"{starts['count']} of {starts['of']} distilled images are nearer to the real image "
            "that they started from than to any other training image of their class."
        )
    nearer = distances["training_is_nearer"]
    return (
        "The distilled images did not start from real images. A training image is nearer than an "
        f"unseen one for {nearer['count']} of {nearer['of']}; by chance, half would be."
    )


def nearest_rows(neighbours: Mapping[str, Mapping]) -> list[dict]:
    """List median distances from distilled images to real ones, a row per space."""
    rows = []
    for space, distances in neighbours.items():
        nearer = distances["training_is_nearer"]
        row = {"measured over": space} | (
            {} if distances["to_start"] is None else {"to its initial image": distances["to_start"]}
        )
        rows.append(
            row
            | {
                "to other training images": distances["to_training"],
                "to unseen images": distances["to_unseen"],
                "training image nearer": f"{nearer['count']} of {nearer['of']}",
            }
        )
    return rows


def groups_of(attacks: Mapping[str, Mapping]) -> dict[str, dict[str, Mapping]]:
    """Return attack -> named group of images -> what was found, the positive control first."""
    named = {}
    for attack, measured in attacks.items():
        groups = {"control": measured["positive_control"]["control"]} | measured["released"]
        named[attack] = {GROUPS[group]: groups[group] for group in GROUPS if group in groups}
    return named


def audit_rows(attacks: Mapping[str, Mapping]) -> list[dict]:
    """List what each attack finds in each group of images."""
    rows = []
    for attack, groups in groups_of(attacks).items():
        for group, row in groups.items():
            hits, (low, high) = row["true_positives"], row["by_chance"]
            several = {"attack": attack} if len(attacks) > 1 else {}
            rows.append(
                {"images": group}
                | several
                | {"found": f"{hits['count']} of {hits['of']}", "by chance": f"{low} to {high}"}
                | {"AUC": interval_text(row["auc"], "auc")}
            )
    return rows


def audit_sentences(
    attacks: Mapping[str, Mapping], reasons: Sequence[str], false_positives: float
) -> list[str]:
    """Say what each attack finds, or why that means nothing.

    Args:
        attacks: attack -> what it found, as `leaks.audit.audit` returns it.
        reasons: why attacks show nothing, as `leaks.audit.broken` returns them.
        false_positives: the share of unseen images that an attack takes for members.
    """
    if reasons:
        return [f"The attack shows nothing here: {reason}." for reason in reasons]
    told = ["Both controls behaved as expected."]
    for attack, groups in groups_of(attacks).items():
        for group in ("starting", "others"):
            row = groups.get(GROUPS[group])
            if row is not None:
                hits, (low, high) = row["true_positives"], row["by_chance"]
                more = "more than" if hits["count"] > high else "no more than"
                area = row["auc"]
                tells = "above" if area["low"] > 0.5 else "not above"
                told.append(
                    f"At {100 * false_positives:g} % false positives the {attack} attack finds "
                    f"{hits['count']} of {hits['of']} {GROUPS[group]}: {more} by chance "
                    f"({low} to {high}); its area under the curve of "
                    f"{interval_text(area, 'auc')} is {tells} chance."
                )
    return told


# ---- hospitals ---------------------------------------------------------------------------------


def way_label(row: Mapping) -> str:
    """Name a way to share, with what it sends."""
    rounds = f", {row['rounds']} rounds" if row["rounds"] > 1 else ""
    kilobytes = f"{row['sent_bytes'] / 1000:,.0f} kB"
    name = row["way"].removesuffix(rounds)
    return f"{name}\n({kilobytes if row['sent_bytes'] else 'nothing'}{rounds})"


def way_rows(rows: Iterable[Mapping], metric: str) -> list[dict]:
    """List each way's score on the test images of each hospital, without intervals."""
    return [
        {"way": row["way"]} | {name: scores[metric]["mean"] for name, scores in _each(row)}
        for row in rows
    ]


def _each(row: Mapping) -> list[tuple[str, Mapping]]:
    return [*row["hospitals"].items(), ("all hospitals", row["all"])]


def sharing_sentences(rows: Sequence[Mapping], metric: str) -> list[str]:
    """Compare all packages with the best hospital, the best package and other ways to share."""
    by_way = {row["way"]: row for row in rows}
    ours = by_way["all packages"]
    best = lambda chosen: max(chosen, key=lambda row: row["all"][metric]["mean"])
    others = {
        "the best hospital by itself": best([row for row in rows if not row["sent_bytes"]]),
        "the best package alone": best([row for row in rows if row["way"].startswith(PACKAGE_OF)]),
    }
    others |= {way: by_way[way] for way in by_way if way.startswith(("weights", "federated"))}
    others["pooled real data"] = by_way["pooled real data"]
    each = [f"{name}, {_reached(row, metric)}" for name, row in others.items()]
    told = [
        f"Networks on all packages reach a {words(metric)} of {_reached(ours, metric)}.",
        f"In comparison: {'; '.join(each)}.",
    ]
    sides = {"higher": [], "lower": []}
    for name, row in others.items():
        if _apart(ours["all"][metric], row["all"][metric]):
            above = row["all"][metric]["mean"] > ours["all"][metric]["mean"]
            sides["higher" if above else "lower"].append(name)
    told += [
        f"Clearly {side}, with an interval that does not overlap: {', '.join(names)}."
        for side, names in sides.items()
        if names
    ]
    if sum(map(len, sides.values())) < len(others):
        rest = "The other" if any(sides.values()) else "All these"
        told.append(
            f"{rest} intervals overlap with that of all packages, so their order is not certain."
        )
    return told


def _reached(row: Mapping, metric: str) -> str:
    """A way's score, and what was sent for it."""
    sent = f" for {row['sent_bytes'] / 1000:,.0f} kB" if row["sent_bytes"] else ""
    return f"{interval_text(row['all'][metric])}{sent}"


def _apart(one: Mapping, other: Mapping) -> bool:
    """Whether two scores have intervals that do not overlap."""
    if one["low"] is None or other["low"] is None:
        return False
    return one["low"] > other["high"] or one["high"] < other["low"]


# ---- guarantees --------------------------------------------------------------------------------


def guarantee_sentences(
    against: Mapping[float, Mapping[str, Mapping]], metric: str = "balanced_accuracy"
) -> list[str]:
    """Say how sets with a guarantee compare with others, a sentence per epsilon.

    Args:
        against: epsilon -> name of another set -> paired difference, this set minus the other.
        metric: of the differences.
    """
    told = []
    for epsilon, differences in sorted(against.items()):
        each = [
            f"{verdict(difference)} {name} ({difference_text(difference)})"
            for name, difference in differences.items()
        ]
        told.append(f"At epsilon {epsilon:g} the set is {', and '.join(each)}.")
    return [f"Measured by {words(metric)} on the test images:", *told] if told else []
