"""README.md of a package:

a datasheet (Gebru et al. 2021) filled in from the manifest and from nothing else.
"""

from __future__ import annotations

import html
from importlib import resources
from string import Template

from medddist.sharing.manifest import COPY_LEVELS, NOT_COMPARED, NOT_MEASURED, Manifest, Score

GROUPS = {
    "starting": "those it started from",
    "others": "other training images",
    "unseen": "unseen ones (negative control)",
}
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")


def card(manifest: Manifest) -> str:
    """Markdown. Depends on everything in the manifest but `files`, of which the card is one."""
    template = Template(
        resources.files("medddist.sharing").joinpath("card.md").read_text(encoding="utf-8")
    )
    return template.substitute(_texts(manifest) | _tables(manifest))


def _texts(manifest: Manifest) -> dict[str, str]:
    pixels, recipe = manifest.pixels, manifest.settings.evaluation.recipe
    scaling = (
        f"mean {mean:.4f}, standard deviation {std:.4f}"
        for mean, std in zip(pixels.mean, pixels.std)
    )
    said = {
        name: plain(getattr(manifest, name))
        for name in ("description", "creator", "licence", "intended_use")
    }
    return (
        said
        | _origin(manifest)
        | _source(manifest)
        | {
            "total": str(sum(manifest.images)),
            "classes": str(len(manifest.class_names)),
            "size": (
                f"{pixels.image_size_px} x {pixels.image_size_px} pixels in "
                f"{'grey' if pixels.channels == 1 else 'colour'}"
            ),
            "label_kind": "one class"
            if manifest.labels == "hard"
            else "a probability for each class",
            "test_images": _test_images(manifest),
            "collection": (
                "The images that it came from were calculated by a simulation, and are of no "
                "patient."
            )
            if manifest.simulated
            else "How the real images were collected is not part of this package; ask the creator.",
            "scaling": "; ".join(scaling),
            "depth": str(manifest.settings.network.depth),
            "width": str(manifest.settings.network.width),
            "epochs": str(recipe.epochs),
            "step_size": f"{manifest.step_size:.4g}",
            "balance": "equally large"
            if len(set(manifest.images)) == 1
            else "as large as the table says",
            "first_preview": min(name for name in manifest.files if name.endswith(".png")),
            "made_with": ", ".join(
                f"{plain(name)} {plain(version or 'of no version')}"
                for name, version in manifest.made_with.items()
            ),
        }
    )


def _origin(manifest: Manifest) -> dict[str, str]:
    """What the images are, how near to real ones they began, and how near they are."""
    total, compared = sum(manifest.images), manifest.copies != NOT_COMPARED
    copies = manifest.copies.images if compared else 0
    within = (
        f"unchanged or nearly so (within {COPY_LEVELS}/255 of one of them, root mean square "
        "over pixels)"
    )
    if manifest.simulated:
        nature = (
            f"Simulated images, {copies} of {total} {within}"
            if copies
            else "Images that were learned from simulated ones"
        )
        return {
            "nature": nature,
            "confidential": (
                f"No: it came from simulated images, of no patient.{_near(manifest, 'simulated')}"
            ),
        }
    if copies:
        return {
            "nature": f"**{copies} of {total} are real images, {within}**",
            "confidential": (
                f"Yes: those are images of the data set it came from.{_near(manifest, 'real')}"
            ),
        }
    if manifest.copies_real_images:
        return {
            "nature": (
                "**Real images, unchanged**: the distillation's start was the best on validation"
            ),
            "confidential": "Yes: the images are those of the data set it came from.",
        }
    start = {
        "noise": "They started from noise",
        "real": "Each started as a copy of a real image",
        "average": "Each started as an average of real images",
    }
    known = start.get(
        str(manifest.settings.distillation.get("initial_images")), "How they started is not stated"
    )
    return {
        "nature": "The images that distillation started from, unchanged"
        if manifest.unchanged
        else "Images that were learned",
        "confidential": (
            f"{known}, were calculated from real images, and may resemble "
            f"them.{_near(manifest, 'real')}"
        ),
    }


def _near(manifest: Manifest, kind: str) -> str:
    """How many are nearer to a training image than unseen ones are; nothing of older packages."""
    if manifest.privacy:
        return " How near they are to real images is not told: no guarantee covers exact figures."
    if manifest.copies == NOT_COMPARED:
        return ""
    near, compared = manifest.copies.nearer_to_training, manifest.copies.compared
    return (
        f" Of {compared} compared, {near} are nearer to a {kind} image that they may have "
        "been learned from than to any of as many"
        " unseen ones of the class; by chance it would be half."
    )


def _test_images(manifest: Manifest) -> str:
    if manifest.privacy:
        return "the test images"
    return f"the {sum(manifest.source.images.get('test', ()))} test images"


def _source(manifest: Manifest) -> dict[str, str]:
    """The data set that it came from, as far as that is told, and what is guaranteed for its
    images.
    """
    source, told = manifest.source, manifest.privacy
    if told is None:
        total = sum(map(sum, source.images.values()))
        return {
            "sample": (
                f"It stands for a data set of {total} images, whose number by part and class is "
                "in the table."
            ),
            "identity": f"`source.fingerprint` is a digest (`{source.fingerprint}`). No image can be calculated from it, but it is not\n"
            "  salted: whoever has the same data set, prepared in the same way, can "
            "recognise it.",
            "guarantee": "No: nothing bounds what can be learned of a real image.",
        }
    composed = ", ".join(f"{count} {plain(name)}" for name, count in told.composed.items())
    return {
        "sample": (
            "It stands for a larger data set, whose size is withheld: the guarantee below does "
            "not cover exact numbers."
        ),
        "identity": "It does not: the data set's digest is withheld.",
        "guarantee": f"Differential privacy for one {plain(told.unit)}, with epsilon {told.epsilon:.3g} and delta {told.delta:.3g}, of everything\n"
        f"  in this package: composed over {composed} of DP-SGD (noise multiplier "
        f"{told.noise_multiplier:g}, {plain(told.sampling)} sampling at\n"
        f"  {told.sample_rate:g}; {plain(told.accountant)}). For n images of one patient "
        "epsilon is n times as large. Other sets made from the same\n"
        "  images, and settings that were tried on them, are not counted.",
    }


def _tables(manifest: Manifest) -> dict[str, str]:
    parts = manifest.source.images
    counts = [
        [plain(name), str(manifest.images[k]), *(str(of_part[k]) for of_part in parts.values())]
        for k, name in enumerate(manifest.class_names)
    ]
    measured = manifest.measured
    if measured != NOT_MEASURED:
        scores = [
            [plain(row.label), *(_interval(getattr(row, name)) for name in METRICS)]
            for row in measured
        ]
        measured = table(["trained on", *(name.replace("_", " ") for name in METRICS)], scores)
    return {
        "class_table": table(
            ["class", "images here", *(f"{part} images it stands for" for part in parts)], counts
        ),
        "measured": measured,
        "audit": "Not measured." if manifest.audit == NOT_MEASURED else _audit(manifest.audit),
    }


def _audit(audit: dict) -> str:
    """`audit.audit`'s figures, and whether its controls let them be believed."""
    rows = []
    for attack, of in audit["membership"].items():
        groups = {
            "real ones, networks trained on them (positive control)": of["positive_control"][
                "control"
            ]
        } | {GROUPS[group]: row for group, row in of["released"].items()}
        rows += [[attack, group, *_found(row)] for group, row in groups.items()]
    head = table(
        ["attack", "images", "found", "of them, interval", "by chance", "area under the curve"],
        rows,
    )
    verdict = "; ".join(audit["broken"]) or "Both controls are as they have to be"
    share = audit["settings"]["false_positives"]
    return (
        f"{plain(verdict)}. Membership in the training images, {share:.2g} false "
        f"positives:\n\n{head}"
    )


def _found(row: dict) -> list[str]:
    hits, area = row["true_positives"], row["auc"]
    between = lambda of: f"[{of['low']:.3f}, {of['high']:.3f}]"
    return [
        f"{hits['count']} of {hits['of']}",
        between(hits),
        "{} to {}".format(*row["by_chance"]),
        f"{area['auc']:.3f} {between(area)}",
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _interval(score: Score) -> str:
    if score.mean is None:
        return "not defined"
    return f"{score.mean:.3f}" + (
        "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    )


def plain(text: str) -> str:
    """Text that cannot become a tag, a table's border or a link of its own."""
    return html.escape(text, quote=False).translate(str.maketrans({c: f"\\{c}" for c in "|[]`*_"}))
