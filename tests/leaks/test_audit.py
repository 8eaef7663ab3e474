"""What is found against what was planted; the figures against outside references; a broken attack
says that it is broken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from small import CLASSES, SIZE_PX, labelled, tiny_network
from test_study import tiny_study

from medddist import cli
from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.cli import commands
from medddist.cli.output import audit_lines
from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.leaks import answers, audit, shadows
from medddist.leaks.answers import log_odds
from medddist.leaks.audit import broken, candidates_of
from medddist.leaks.shadows import in_shadow
from medddist.measure import membership
from medddist.measure import neighbours as near
from medddist.measure.membership import attacked, auc, is_at_chance, is_found, row, share, threshold
from medddist.measure.neighbours import neighbours
from medddist.method.networks import initial_parameters
from medddist.method.training import Diverged
from medddist.study.settings import AuditSettings
from workflow import audit_page

QUICK = {
    "networks": 2,
    "references": 2,
    "others": 30,
    "false_positives": 0.1,
    "recipe": {"epochs": 60, "batch_size": 6},
}


def puzzling(count: int = 150) -> Data:
    """Noise whose class cannot be seen, so that only who was trained on an image knows it; two
    images a patient.
    """

    def part(count: int, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (count, 1, SIZE_PX, SIZE_PX)).astype(np.uint8)
        return Part(pixels, np.arange(count) // 2 % CLASSES, 1000 * seed + np.arange(count) // 2)

    return Data(
        part(count, 1),
        part(30, 2),
        part(count, 3),
        ("a", "b", "c"),
        "puzzling" * 4,
        "made up",
        scaling=Scaling((0.5,), (0.29,)),
    )


def study(out, **changes):
    quick = {name: value for name, value in changes.items() if name in AuditSettings.model_fields}
    others = {name: value for name, value in changes.items() if name not in quick}
    return tiny_study(
        out,
        puzzling(),
        **{"network.width": 8, "audit": AuditSettings(**QUICK | quick).model_dump(mode="json")}
        | others,
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def told(out) -> dict:
    return audit.audit(study(out))


# ---- the statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize("count, of", [(0, 20), (3, 20), (20, 20), (7, 80)])
def test_a_shares_interval_is_clopper_and_pearsons(count, of):
    told = share(count, of, 0.999)
    low = stats.beta.ppf(0.0005, count, of - count + 1) if count else 0
    high = stats.beta.ppf(0.9995, count + 1, of - count) if count < of else 1
    assert (told["low"], told["high"], told["share"]) == pytest.approx((low, high, count / of))


def test_an_area_is_scikit_learns_and_its_interval_covers(rng=np.random.default_rng(0)):
    ties = rng.integers(0, 5, 40).astype(float), rng.integers(1, 6, 30).astype(float)
    expected = roc_auc_score([0] * 40 + [1] * 30, np.concatenate(ties))
    assert auc(ties[1], ties[0], 0.95)["auc"] == pytest.approx(expected)
    truth, held = stats.norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(400):
        of = auc(rng.normal(1, 1, 40), rng.normal(0, 1, 60), 0.95)
        held += of["low"] <= truth <= of["high"]
    assert 0.91 <= held / 400 <= 0.98


def test_unseen_images_are_found_as_often_as_chance_says(rng=np.random.default_rng(1)):
    """The threshold is itself drawn: the number found is beta-binomial, and its mean at most the
    false positives asked for.
    """
    outside, shares = 0, []
    for _ in range(3000):
        at = threshold(rng.standard_cauchy(99), 0.03)
        found = int((rng.standard_cauchy(50) > at.score).sum())
        low, high = at.by_chance(50, 0.95)
        outside += not low <= found <= high
        shares.append(found / 50)
    assert (
        at.rank == 3
        and np.mean(shares) == pytest.approx(0.03, abs=0.002)
        and 0.005 < outside / 3000 <= 0.05
    )


@pytest.mark.parametrize(
    "unseen, false_positives, rank",
    [(99, 0.01, 1), (199, 0.01, 2), (98, 0.01, None), (9, 0.1, 1), (999, 0.001, 1)],
)
def test_a_threshold_needs_enough_unseen_images(unseen, false_positives, rank):
    scores = np.arange(unseen, dtype=float)
    if rank is None:
        with pytest.raises(
            InputError,
            match=(
                r"^audit.false_positives: 0.01 cannot be seen with 98 unseen images; raise it to "
                "0.01"
            ),
        ):
            threshold(scores, false_positives)
    else:
        assert threshold(scores, false_positives).score == unseen - rank


def test_members_that_score_higher_are_found_and_others_are_not(rng=np.random.default_rng(2)):
    scores = {
        "starting": rng.normal(3, 1, 80),
        "others": rng.normal(0, 1, 200),
        "unseen_a": rng.normal(0, 1, 199),
        "unseen_b": rng.normal(0, 1, 200),
    }
    told = attacked(scores, 0.01)
    assert (
        is_found(told["starting"])
        and not is_found(told["others"])
        and not is_found(told["unseen"])
        and is_at_chance(told["unseen"])
    )
    other = attacked(scores | {"unseen_b": rng.normal(3, 1, 200)}, 0.01)
    assert not is_at_chance(other["unseen"]), (
        "unseen images that can be told from one another are no control"
    )


def test_scores_that_are_not_finite_are_refused(rng=np.random.default_rng(2)):
    """As shadows that all agree would make them; nothing is greater than NaN, so that nothing would
    be found.
    """
    scores = {name: rng.normal(size=200) for name in ("starting", "unseen_a", "unseen_b")}
    scores["starting"][3] = np.nan
    with pytest.raises(
        InputError, match="^audit: .*starting are not finite.*; raise audit.shadows"
    ):
        attacked(scores, 0.1)


def test_log_odds_that_are_not_finite_are_refused():
    network, (images, labels) = tiny_network(), labelled(6)
    huge = 1e37 * initial_parameters(network, "start")
    with pytest.raises(Diverged, match="^learning_rate: "):
        log_odds(network, [huge], images, labels)


def test_log_odds_are_of_the_own_class():
    network, (images, labels) = tiny_network(), labelled(10)
    thetas = [initial_parameters(network, k) for k in range(2)]
    p = torch.stack([network(theta, images).double().softmax(1) for theta in thetas]).gather(
        2, labels.expand(2, -1)[..., None]
    )[..., 0]
    np.testing.assert_allclose(
        log_odds(network, thetas, images, labels), (p / (1 - p)).log().mean(0), rtol=1e-4
    )
    sure = [theta * 1e3 for theta in thetas]
    assert np.isfinite(log_odds(network, sure, images, labels)).all(), (
        "where probabilities round to 1"
    )


# ---- nearest neighbours --------------------------------------------------------------------------


def test_neighbours_are_those_by_hand():
    (train, train_labels), (test, test_labels), (released, labels) = (
        labelled(60, 0),
        labelled(30, 1),
        labelled(9, 2),
    )
    start = torch.tensor([int((train_labels == k).nonzero()[j]) for j, k in enumerate(labels)])
    released[:4] = train[start[:4]] + 0.01
    found = neighbours(
        (released, labels), (train, train_labels), (test, test_labels), start, generator(0)
    )
    for k in range(9):
        distance = lambda others: ((others - released[k]) ** 2).mean((1, 2, 3)).sqrt()
        own, other = distance(train), distance(test)
        own[train_labels != labels[k]], other[test_labels != labels[k]] = 9, 9
        assert (
            found.nearest_training[k] == own.argmin() and found.nearest_unseen[k] == other.argmin()
        )
        assert found.start[k] == pytest.approx(
            own[start[k]].item(), rel=1e-5
        ) and found.start_is_nearest[k] == (own.argmin() == start[k])
        assert found.unseen[k] == pytest.approx(other.min().item(), rel=1e-5), (
            "all ten of a class, against ten training images"
        )
        own[start] = 9
        assert found.training[k] >= own.min() - 1e-6
    assert found.start_is_nearest[:4].all() and found.start[:4].max() < 0.011


def test_a_set_from_noise_has_no_start():
    pair = labelled(30)
    found = neighbours(
        (pair[0][:3], pair[1][:3]),
        pair,
        labelled(30, 1),
        torch.empty(0, dtype=torch.int64),
        generator(0),
    )
    assert found.start is None and found.start_is_nearest is None and found.training.max() < 1e-6


def test_of_an_average_the_nearest_of_its_images_is_its_start():
    (train, train_labels), unseen = labelled(60), labelled(30, 1)
    own = (train_labels == 0).nonzero().flatten()
    start = torch.stack([own[:4], own[4:8]])
    released = train[own[[2, 9]]] + 0.01  # one near an image of its average, one near another
    found = neighbours(
        (released, train_labels[own[:2]]), (train, train_labels), unseen, start, generator(0)
    )
    by_hand = (train[start[1]] - released[1]).square().mean((1, 2, 3)).sqrt().min()
    assert found.start.tolist() == pytest.approx(
        [0.01, by_hand.item()], rel=1e-3
    ) and found.start_is_nearest.tolist() == [True, False]
    assert found.training[0] > 0.1, (
        "images behind any average are not among those that none started from"
    )


def test_an_image_whose_learned_label_names_another_class_keeps_its_start(out):
    one = study(out)
    result, seed = one.distillation(), one.profile.seeds[0]
    other = torch.nn.functional.one_hot((result.distilled.classes + 1) % CLASSES, CLASSES)
    relabelled = dataclasses.replace(result.distilled, labels=9.0 * other)
    learned = dataclasses.replace(result, distilled=relabelled)
    hard, soft = (audit.nearest(one, each, seed)["pixels"] for each in (result, learned))
    assert torch.equal(soft.start, hard.start) and soft.start_is_nearest.all()


# ---- nearest in pixels ---------------------------------------------------------------------------


def parts_of(count: int, seed: int, size_px: int = 6) -> Part:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 1, size_px, size_px), dtype=np.uint8)
    return Part(images, np.arange(count) % 3, np.arange(count))


@pytest.mark.parametrize("chunk_bytes", [1, 2**10, 2**24])
def test_the_nearest_in_pixels_is_the_nearest_by_hand(chunk_bytes, monkeypatch):
    monkeypatch.setattr(near, "CHUNK_BYTES", chunk_bytes)
    real, x = parts_of(50, 0).images, torch.rand(4, 1, 6, 6, generator=generator(1))
    rows = np.arange(3, 50, 2)
    by_hand = ((real[rows, None] / 255 - x.numpy()) ** 2).mean((2, 3, 4)) ** 0.5
    np.testing.assert_allclose(near.nearest_pixels(x, real, rows), by_hand.min(0), rtol=1e-5)
    assert near.nearest_pixels(torch.from_numpy(real[7:8] / 255).float(), real, rows).item() < 1e-7
    assert near.nearest_pixels(x, real, rows[:0]).isinf().all()


def test_memory_stays_small_on_many_images():
    """As single precision, neither the images that are read at once nor their distances take more
    than a chunk.
    """

    class Recorded:
        def __init__(self, images):
            self.images, self.read = images, []

        def __getitem__(self, rows):
            self.read.append(len(rows))
            return self.images[rows]

    for size_px, released in ((32, 5), (8, 500)):
        real = Recorded(
            np.zeros((5 * near.CHUNK_BYTES // (4 * 32 * 32), 1, size_px, size_px), np.uint8)
        )
        near.nearest_pixels(
            torch.rand(released, 1, size_px, size_px), real, np.arange(len(real.images))
        )
        assert (
            sum(real.read) >= len(real.images)
            and max(real.read) * 4 * max(size_px**2, released) <= near.CHUNK_BYTES
        )


def test_as_many_unseen_images_of_the_class_are_asked_as_training_images():
    train, test = parts_of(90, 0), parts_of(30, 1)
    start = torch.tensor([4, 8])  # of classes 1 and 2
    x = torch.from_numpy(np.stack([train.images[4], test.images[9], train.images[8]]) / 255).float()
    classes = torch.tensor([1, 0, 2])
    found = near.nearness(x, classes, train, test, start, generator(0))
    assert found.compared.all() and found.nearer.tolist() == [True, False, True]
    assert found.to_training[[0, 2]].max() < 1e-6 < found.to_training[1]
    none = near.nearness(
        x,
        classes,
        train,
        Part(test.images[:0], test.labels[:0], test.groups[:0]),
        start,
        generator(0),
    )
    assert (
        not none.compared.any()
        and not none.nearer.any()
        and torch.equal(none.to_training, found.to_training)
    )


def test_images_that_know_neither_part_are_nearer_to_each_half_of_the_time():
    x, train, test = (
        torch.rand(300, 1, 6, 6, generator=generator(2)),
        parts_of(600, 3),
        parts_of(120, 4),
    )
    found = near.nearness(
        x, torch.arange(300) % 3, train, test, torch.tensor([], dtype=torch.long), generator(0)
    )
    assert 110 < int(found.nearer.sum()) < 190, (
        "as many of each: the larger part is not nearer by its size"
    )


# ---- who is asked about --------------------------------------------------------------------------


def test_candidates_are_balanced_and_in_one_group_each(tmp_path):
    one = study(tmp_path)
    result = one.distillation()
    asked = candidates_of(one, result)
    groups = [asked.starting, asked.control, asked.others, asked.left]
    assert torch.cat(groups).sort().values.tolist() == list(range(150)) and torch.equal(
        asked.starting, result.initial_indices
    )
    labels = one.data.train.labels
    assert all(len(set(np.bincount(labels[group]))) == 1 for group in groups[:3]) and len(
        asked.control
    ) == len(asked.starting)
    assert (
        set(np.bincount(one.data.test.labels[asked.unseen])) == {50}
        and len(set(asked.unseen.tolist())) == 150
    )
    shared = set(one.data.test.groups[asked.unseen_a]) & set(one.data.test.groups[asked.unseen_b])
    assert len(shared) <= CLASSES, "a patient's images are on one side, but for one a class"
    again = candidates_of(one, result)
    assert all(
        torch.equal(getattr(asked, name), getattr(again, name))
        for name in ("control", "others", "unseen_a")
    )


def test_images_behind_averages_are_asked_about_in_equal_numbers(tmp_path):
    one = study(tmp_path, **{"distill.initial_images": "average", "distill.averaged_images": 4})
    result = one.distillation()
    asked = candidates_of(one, result)
    behind = set(result.initial_indices.flatten().tolist())
    labels = one.data.train.labels
    assert (
        set(asked.starting.tolist()) <= behind
        and len(set(np.bincount(labels[asked.starting]))) == 1
    )
    assert len(asked.starting) > 6 and not behind & set(
        torch.cat([asked.control, asked.others, asked.left]).tolist()
    )
    told = audit.audit(one)
    assert told["membership"]["loss"]["released"]["starting"]["true_positives"]["of"] == len(
        asked.starting
    )
    assert told["neighbours"]["pixels"]["start_is_nearest"]["of"] == 6


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="^audit: the smallest class has too few images"):
        audit.audit(tiny_study(tmp_path, puzzling(16)))


# ---- a study -------------------------------------------------------------------------------------


def test_members_are_found_where_only_membership_can_tell(told):
    assert broken(told) == []
    released, control = (
        told["membership"]["loss"][name] for name in ("released", "positive_control")
    )
    assert (
        is_found(control["control"])
        and is_at_chance(control["unseen"])
        and is_at_chance(released["unseen"])
    )
    assert not is_found(released["others"]) and released["starting"]["true_positives"]["of"] == 6
    assert (
        control["control"]["auc"]["level"] == 0.999 and released["starting"]["auc"]["level"] == 0.95
    )
    assert told["neighbours"]["pixels"]["start_is_nearest"]["count"] == 6
    json.dumps(told, allow_nan=False)


def test_it_is_kept_and_anew_when_something_counts(tmp_path, monkeypatch):
    calls = []
    real = audit.trained_networks
    monkeypatch.setattr(
        audit, "trained_networks", lambda *a, **b: (calls.append(1), real(*a, **b))[1]
    )
    first = audit.audit(study(tmp_path))
    asked = len(calls)
    assert audit.audit(study(tmp_path)) == first and len(calls) == asked
    audit.audit(study(tmp_path, networks=1))
    assert len(calls) == 2 * asked


def test_images_of_the_test_part_that_can_be_told_apart_break_the_attack(tmp_path, monkeypatch):
    """As when half of them are in the training part after all."""
    real = answers.log_odds
    shifted = lambda *a: (lambda of: of + 100 * (np.arange(len(of)) >= len(of) - 75))(
        real(*a)
    )  # unseen_b comes last
    calls = iter(range(100))
    monkeypatch.setattr(audit, "log_odds", lambda *a: shifted(*a) if next(calls) == 0 else real(*a))
    assert any(
        "tells unseen images of the released apart" in reason
        for reason in broken(audit.audit(study(tmp_path)))
    )


# ---- shadows -------------------------------------------------------------------------------------


def test_each_image_is_in_one_shadow_of_a_pair_and_patients_are_not_divided():
    groups = np.random.default_rng(0).integers(0, 50, 200)
    for pair in (0, 2):
        a, b = (in_shadow(groups, 7, pair + k) for k in (0, 1))
        assert (a ^ b).all() and 60 < a.sum() < 140
        assert all(len(set(a[groups == group])) == 1 for group in np.unique(groups))
    assert not np.array_equal(
        in_shadow(groups, 7, 0), in_shadow(groups, 7, 2)
    ) and not np.array_equal(in_shadow(groups, 8, 0), in_shadow(groups, 7, 0))


def test_shadows_have_other_data_are_kept_and_gone_on_with(tmp_path, monkeypatch):
    changes = {"shadows": 2, "shadow_networks": 2, "shadow_changes": {"distill.iterations": 2}}
    one = study(tmp_path, **changes)
    asked = candidates_of(one, one.distillation())
    first, second = (shadows.shadow(one, number, asked) for number in (0, 1))
    assert (
        first.profile.distill.iterations == 2
        and len({one.data.fingerprint, first.data.fingerprint, second.data.fingerprint}) == 3
    )
    assert (
        len(first.data.train) + len(second.data.train) == 300
        and first.data.scaling == one.data.scaling
    )
    inside, scores = shadows.shadow_scores(one, 0, asked, 0)
    assert (
        inside.shape
        == scores["distilled"].shape
        == scores["control"].shape
        == (len(asked.training) + 150,)
    )

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(
            shadows, "scored_by_shadow", interrupted
        )  # the first shadow is there; the second is not
        audit.audit(one)
    calls = []
    real = shadows.scored_by_shadow
    monkeypatch.setattr(shadows, "scored_by_shadow", lambda *a: (calls.append(1), real(*a))[1])
    told = audit.audit(one)
    assert is_found(told["membership"]["lira"]["positive_control"]["control"]), (
        "where only membership can tell"
    )
    assert (
        len(calls) == 1
        and set(told["membership"]) == {"loss", "lira"}
        and told == audit.audit(study(tmp_path, **changes))
    )


@pytest.mark.parametrize("count", [2, 32])
def test_shadows_take_away_how_difficult_an_image_is(
    monkeypatch, count, rng=np.random.default_rng(3)
):
    """Made-up scores with a known answer: difficulty (standard deviation 3) hides membership (2),
    and shadows tell the difficulty.
    """
    sizes = {"control": 80, "unseen_a": 199, "unseen_b": 200}
    difficulty = rng.normal(0, 3, sum(sizes.values()))
    score = lambda inside: difficulty + 2 * inside + rng.normal(0, 0.3, len(difficulty))
    member = np.arange(len(difficulty)) < sizes["control"]
    halves = [rng.random(len(difficulty)) < 0.5 for _ in range(count // 2)]
    told = lambda study, number, *_: (
        lambda inside: (inside, dict.fromkeys(("distilled", "control"), score(inside)))
    )(halves[number // 2] ^ bool(number % 2))
    monkeypatch.setattr(shadows, "shadow_scores", told)
    fake = SimpleNamespace(profile=SimpleNamespace(audit=AuditSettings(shadows=count)))
    out, deviation = shadows.out_of_shadows(fake, None, 0)["control"]
    assert (deviation == 1).all() if count == 2 else np.abs(deviation - 0.3).max() < 0.1, (
        "one value gives no variance"
    )
    assert np.abs(out - difficulty).std() < 0.3 and abs((out - difficulty).mean()) < 0.1, (
        "by shadows that never saw the image"
    )
    split = lambda of: dict(zip(sizes, np.split(of, np.cumsum(list(sizes.values()))[:-1])))
    own = score(member)
    hidden, found = attacked(split(own), 0.01), attacked(split((own - out) / deviation), 0.01)
    assert (
        found["control"]["true_positives"]["share"]
        > 0.95
        > 0.3
        > hidden["control"]["true_positives"]["share"]
    )
    assert is_found(found["control"]) and is_at_chance(found["unseen"])


@pytest.mark.parametrize("prior", [4, 20])
def test_variances_of_few_values_are_drawn_towards_what_they_have_in_common(
    prior, freedom=15, rng=np.random.default_rng(5)
):
    """Made-up variances whose distribution is known: nearer to the true ones than each by itself
    and than one for all.
    """
    true = 2.0 * prior / rng.chisquare(prior, 20_000)
    estimated = true * rng.chisquare(freedom, len(true)) / freedom
    moderated = membership.moderated_deviations(estimated, freedom) ** 2
    best = (prior * 2.0 + freedom * estimated) / (
        prior + freedom
    )  # Smyth's posterior, with the prior that they were drawn from
    np.testing.assert_allclose(moderated, best, rtol=0.1)
    error = lambda found: np.abs(np.log(found / true)).mean()
    assert error(moderated) < error(estimated) and error(moderated) < error(
        np.full(len(true), estimated.mean())
    )


def test_variances_that_differ_by_chance_alone_are_one(freedom=15, rng=np.random.default_rng(6)):
    estimated = 3.0 * rng.beta(200, 200, 500) * 2  # less than chi-squared would have them differ
    moderated = membership.moderated_deviations(estimated, freedom)
    assert np.ptp(moderated) == 0 and moderated[0] ** 2 == pytest.approx(3, rel=0.05)


def test_an_image_that_networks_disagree_on_has_to_stand_out_further():
    """A hundred members, and unseen images of which the last is ten times as uncertain: by one
    variance it stands out most.
    """
    rng, uncertainty = np.random.default_rng(7), np.where(np.arange(300) == 299, 10.0, 1.0)
    scores, own = (
        uncertainty[:, None] * rng.normal(size=(300, 16)),
        np.r_[np.full(100, 4.0), np.zeros(199), 9.0],
    )
    one, moderated = (
        (own - scores.mean(1)) / shadows.deviations(scores, of) for of in ("one", "moderated")
    )
    assert one[299] > one[:100].max() and moderated[299] < np.median(moderated[:100])


def test_a_shadows_scores_are_named_by_the_attack_that_made_them(out):
    """`shadow_changes` may change the attack too."""

    def path(epochs: int) -> Path:
        one = study(out, shadows=2, shadow_changes={"audit.recipe.epochs": epochs})
        asked = candidates_of(one, one.distillation())
        other = shadows.shadow(one, 0, asked)
        return other.store.path("audit", **shadows.shadow_depends_on(other, asked, 0))

    assert path(3) != path(4) and path(3) == path(3)


@pytest.mark.parametrize(
    "attack, helps, does_not",
    [("loss", "audit.references", "audit.shadows"), ("lira", "audit.shadows", "audit.references")],
)
def test_a_broken_attack_is_strengthened_by_what_it_uses(attack, helps, does_not):
    at, scores = threshold(np.arange(100.0), 0.05), np.zeros(20)
    control, unseen = (
        row(scores, np.arange(100.0), at, 0.999),
        row(np.linspace(1, 99, 40), np.arange(100.0), at, 0.999),
    )
    told = {
        "membership": {
            attack: {
                "released": {"unseen": unseen},
                "positive_control": {"control": control, "unseen": unseen},
            }
        }
    }
    assert [(helps in reason, does_not in reason) for reason in broken(told)] == [(True, False)]


@pytest.mark.parametrize(
    "auc, found, high, of, few",
    [
        (0.94, 1, 3, 20, True),  # it tells members apart, but not yet beyond chance
        (0.50, 7, 10, 10, True),  # chance may find all of them: no attack could be found
        (0.51, 5, 10, 60, False),
    ],
)
def test_an_attack_that_fails_for_want_of_images_is_inconclusive_and_not_called_weak(
    auc, found, high, of, few
):
    area = {"auc": auc, "low": 0.2, "high": 0.99, "level": 0.999}
    hits = {"count": found, "of": of}
    control = {"true_positives": hits, "by_chance": [0, high], "auc": area}
    unseen = control | {"true_positives": {"count": 1, "of": 30}, "by_chance": [0, 3]}
    groups = {
        "released": {"unseen": unseen},
        "positive_control": {"control": control, "unseen": unseen},
    }
    (reason,) = broken({"membership": {"loss": groups}})
    assert ("is inconclusive, too few test images: " in reason) == few
    assert ("is too weak to be informative: " in reason) != few
    assert f"of {of} real images that networks were trained on it finds {found}" in reason


def test_the_audit_says_first_how_many_images_are_nearest_to_their_start():
    counted = lambda count: {"count": count, "of": 60, "low": 0.6, "high": 0.9}
    near = {
        "to_start": 0.1,
        "to_training": 0.1,
        "to_unseen": 0.2,
        "training_is_nearer": counted(50),
    }
    started = near | {"start_is_nearest": counted(47)}
    first, *_ = audit_lines(
        {"neighbours": {"pixels": started, "features": started}, "membership": {}}
    )
    told = "47 of 60 distilled images are nearest to the real image that they started from"
    assert first == f"{told} (by pixels; by features, 47 of 60)"
    first, *_ = audit_lines({"neighbours": {"pixels": near}, "membership": {}})
    assert first.startswith("50 of 60 distilled images are nearer to a training image than to any ")


def test_an_odd_number_of_shadows_is_refused():
    with pytest.raises(ValueError, match="multiple of 2"):
        AuditSettings(shadows=3)


# ---- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate, code", [(0.05, 0), (0.0, 1)])
def test_the_command_fails_where_a_control_does(
    capsys, told, out, tmp_path, monkeypatch, rate, code
):
    """Networks that learn nothing are no attack."""
    one = study(out, recipe=QUICK["recipe"] | {"learning_rate": rate})
    monkeypatch.setattr(commands, "opened_study", lambda *a: contextlib.nullcontext(one))
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "--profile", "smoke", "--json", "--save", str(tmp_path)])
    said = capsys.readouterr()
    assert ended.value.code == code, said.err
    assert json.loads(said.out)["membership"]["loss"]["positive_control"]["control"]
    problems = said.err.splitlines()
    assert len(problems) == code and all(
        line.startswith("medddist: the loss attack is too weak to be ") for line in problems
    )
    (record,) = audit_page.records(tmp_path).values()
    assert (
        record["audit"] == json.loads(said.out)
        and len(record["broken"]) == code
        and record["about"]["packages"]
    )
    page = audit_page.text({"audit-x": record})
    assert page.count("| loss | ") == 4 and ("too weak to be informative" in page) == bool(code)


def test_a_rows_figures_are_of_its_scores():
    of = row(np.array([3.0, 1.0]), np.arange(3.0), membership.Threshold(2.5, 1, 3), 0.95)
    assert of["true_positives"]["count"] == 1 and of["auc"]["auc"] == pytest.approx((3 + 1.5) / 6)
