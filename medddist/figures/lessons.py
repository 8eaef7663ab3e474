"""What a lesson concludes: sentences computed from the results of its run, for any data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medddist.figures.tables import Text, conclusion, difference_text, interval_text, verdict, words
from medddist.method.distill import Distillation, DistillSettings

CLEARLY = 0.1  # balanced accuracy above chance at which a simple rule is a shortcut
DISTILLS = {
    "trajectory": "matches the teachers' trajectories (`distill.method=trajectory`)",
    "real_loss": "lowers the students' loss on real images (`distill.method=real_loss`)",
    "private": "moves public images to one noisy release (`distill.method=private`)",
}
LEARNS = {
    "hard": "Labels are the classes.",
    "teachers": "Labels are the probabilities that well-trained networks give.",
    "learned": "Labels start as probabilities that well-trained networks give, and are learned.",
}


def of_method(settings: DistillSettings) -> Text:
    """Say by what method a study distils, and with which labels."""
    return conclusion([f"Here it {DISTILLS[settings.method]}.", LEARNS[settings.labels]], "Method")


def of_data(counts: Mapping[str, int], rules: Sequence[Mapping]) -> Text:
    """Conclude what the numbers of images, and rules that see no lung, say about scores.

    Args:
        counts: images of the test part by class.
        rules: each `rule`, in words, and its `balanced_accuracy`.
    """
    total, chance = sum(counts.values()), 1 / len(counts)
    largest = max(counts, key=counts.get)
    said = [
        f"Always predicting {words(largest)} is right for {counts[largest] / total:.0%} of the"
        f" test images, at a balanced accuracy of {chance:.2f}: accuracy alone would flatter a"
        " network that has learned nothing, so this study selects by balanced accuracy."
    ]
    for rule in rules:
        score = rule["balanced_accuracy"]
        is_shortcut = score > chance + CLEARLY
        means = (
            "a shortcut that scores must be compared with" if is_shortcut else "no clear shortcut"
        )
        said.append(f"A rule that sees {rule['rule']} alone reaches {score:.2f}: {means}.")
    return conclusion(said)


def of_teachers(curves: Sequence[Sequence[Mapping]], moves: np.ndarray, last: int) -> Text:
    """Conclude whether the teachers improve over the epochs that matching reads.

    Args:
        curves: validation scores of each teacher by epoch.
        moves: (teachers, start epochs) distances.
        last: the last epoch that matching reads.
    """
    at = lambda epoch: np.mean([curve[epoch]["balanced_accuracy"] for curve in curves])
    last = min(last, *(len(curve) - 1 for curve in curves))
    gain, ratio = at(last) - at(0), moves[:, -1].mean() / moves[:, 0].mean()
    rises = f"rises by {gain:.2f} to" if gain > 0 else f"does not rise: it goes from {at(0):.2f} to"
    return conclusion(
        [
            f"Over the {last} epochs that matching reads, the teachers' balanced accuracy on"
            f" validation {rises} {at(last):.2f}.",
            f"The last segment is {ratio:.2f} times as long as the first: a student that starts"
            f" {'early has more' if ratio < 1 else 'late has as much or more'} to learn.",
        ]
    )


def of_course(result: Distillation, settings: DistillSettings) -> Text:
    """Conclude what a distillation did to its loss and to the score on validation."""
    said, metric = [], settings.selection_metric
    name = "matching loss" if settings.method == "trajectory" else "loss on real images"
    losses = np.asarray(result.losses)
    if len(losses):
        count = max(1, len(losses) // 5)
        first, last = losses[:count].mean(), losses[-count:].mean()
        falls = "falls" if last < first else "does not fall: it goes"
        said.append(
            f"The {name} {falls} from {first:.2f} to {last:.2f} (means of the first and of the last"
            f" fifth of the iterations)."
        )
    scores = {row["iteration"]: row[metric] for row in result.candidates if metric in row}
    chosen = result.selected_iteration
    if {0, chosen} <= scores.keys():
        gain = scores[chosen] - scores[0]
        said.append(
            f"Iteration {chosen} is released: {scores[chosen]:.3f} {words(metric)} on validation,"
            f" {gain:+.3f} against the initial images."
            if chosen
            else "On validation no candidate beats the initial images, so these are released."
        )
    said.append("Selection makes this score optimistic; the next notebook measures on test.")
    return conclusion(said)


def of_scores(rows: Sequence[Mapping], metric: str = "balanced_accuracy") -> Text:
    """Conclude whom the distilled images beat, whom they do not, and which class they miss.

    `rows` are those of `Study.table`.
    """
    own = next(row for row in rows if row["method"] == "distilled")
    size = own["per_class"]
    said = [f"Distilled images reach a {words(metric)} of {interval_text(own[metric])} on test."]
    others = [row for row in rows if "distilled_lead" in row]
    leads = {row["label"]: row["distilled_lead"][metric] for row in others}
    for how in ("better than", "not significantly different from", "worse than"):
        compared = [label for label, lead in leads.items() if verdict(lead) == how]
        if compared:
            said.append(f"They are {how}: {'; '.join(compared)}.")
    for row in others:
        if row["method"] in ("random_balanced", "full_good"):
            difference = difference_text(row["distilled_lead"][metric])
            said.append(f"Paired difference to {row['label']}: {difference}.")
    missed = min(size, key=lambda name: size[name]["sensitivity"]["mean"])
    of_all = next((row for row in rows if row["method"] == "full_good"), own)
    theirs = of_all["per_class"][missed]["sensitivity"]
    said.append(
        f"The class that they recognise least is {words(missed)}, with a sensitivity of"
        f" {interval_text(size[missed]['sensitivity'])}; with all images it is"
        f" {interval_text(theirs)}."
    )
    return conclusion(said)


def of_confidence(answers: Mapping[str, np.ndarray], labels: np.ndarray) -> Text:
    """Say how much more confident than right networks are; `answers` are (R, N, K) by name."""
    said = []
    for name, given in answers.items():
        excess = given.max(2).mean() - (given.argmax(2) == labels).mean()
        how = "more confident than right" if excess > 0 else "less confident than right"
        said.append(f"{name}: {abs(excess):.2f} {how}")
    return Text(f"Mean confidence minus accuracy, by what networks trained on: {'; '.join(said)}.")


def of_images(own: int, change: float, known: Mapping[str, float], count: int) -> Text:
    """Conclude how far images moved from their start, and what a network sees in them.

    Args:
        own: images nearest to their own initial image.
        change: mean absolute change of a pixel, in standard deviations.
        known: by set, the share of images whose nearest real images have their class.
        count: images in all.
    """
    far = "still" if own > count / 2 else "no longer"
    shares = listed([f"{share:.0%} of the {name} images" for name, share in known.items()])
    return conclusion(
        [
            f"{own} of {count} distilled images are nearest to their own initial image, and a"
            f" pixel changed by {change:.2f} standard deviations on average: most images {far}"
            " resemble the image that they started from.",
            f"In the network's features, the nearest real images have the class of {shares}.",
            "Whether a patient can be recognised is not a question for the eye: see the audit.",
        ]
    )


def listed(parts: Sequence[str]) -> str:
    """Join parts as in a sentence: `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
