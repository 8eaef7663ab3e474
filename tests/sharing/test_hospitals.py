"""Hospitals that share: who has which images, what goes over the wire, and what is left when a
package is withdrawn.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import packages as small_ones
import pytest
import torch
from small import CLASSES, labelled
from test_study import tiny_study

from medddist.base.errors import InputError
from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.measure import metrics
from medddist.method.networks import initial_parameters
from medddist.method.training import train, validation_scores
from medddist.sharing import federated, ways
from medddist.sharing.hospitals import hospitals, union
from medddist.sharing.reading import open_package
from medddist.sharing.studies import inbox_folder, sent_packages, setup_of
from medddist.sharing.ways import by_federated_averaging, by_packages, compare, scored
from medddist.study.settings import HospitalSettings

NAMES = ("north", "south")


def of_two(counts=(60, 24, 36), origins=NAMES) -> Data:
    """Images of two hospitals in turn; every class at both."""

    def part(count: int, seed: int) -> Part:
        images, labels = labelled(count, seed)
        pixels = (images * 40 + 100).clamp(0, 255).to(torch.uint8).numpy()
        return Part(
            pixels,
            labels.numpy(),
            1000 * seed + np.arange(count),
            np.arange(count) // CLASSES % len(origins),
        )

    parts = [part(count, seed) for seed, count in enumerate(counts)]
    return Data(
        *parts,
        ("a", "b", "c"),
        "two of them " * 2,
        "made up",
        origin_names=origins,
        scaling=Scaling((0.4,), (0.16,)),
    )


def study(out, **changes):
    settings = HospitalSettings(
        networks=2,
        rounds=2,
        federated_rates=(1.0,),
        local_epochs=1,
        changes={"distill.iterations": 2, "teachers.teachers": 1},
    )
    data = dataclasses.replace(of_two(), is_phantom=True)  # whose images may be sent as they are
    return tiny_study(out, data, hospitals=settings.model_dump(mode="json"), **changes)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return study(tmp_path_factory.mktemp("hospitals"))


@pytest.fixture(scope="module")
def packages(one):
    return sent_packages(one, one.out / "inbox")


# ---- who has what --------------------------------------------------------------------------------


def test_every_image_is_at_its_hospital_and_test_images_stay_test_images():
    data = of_two()
    own = hospitals(data)
    assert list(own) == list(NAMES)
    for k, mine in enumerate(own.values()):
        for learned in (mine.train, mine.validation):
            assert set(learned.groups) <= set(data.train.groups[data.train.origins == k]) | set(
                data.validation.groups[data.validation.origins == k]
            )
        assert set(mine.test.groups) == set(data.test.groups[data.test.origins == k])
        assert len(mine.train) + len(mine.validation) == 42 and not set(mine.train.groups) & set(
            mine.validation.groups
        )
        assert (mine.validation.class_counts(CLASSES) > 0).all() and mine.scaling != data.scaling
    assert len({mine.fingerprint for mine in own.values()} | {data.fingerprint}) == 3


def test_what_cannot_be_dealt_to_hospitals_is_refused():
    data = of_two()
    for nameless in (
        dataclasses.replace(data, origin_names=()),
        dataclasses.replace(data, train=dataclasses.replace(data.train, origins=None)),
    ):
        with pytest.raises(InputError, match="does not say which of two or more hospitals"):
            hospitals(nameless)
    labels = np.where((data.train.origins == 1) & (data.train.labels == 2), 0, data.train.labels)
    without = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, labels=labels),
        validation=dataclasses.replace(data.validation, origins=np.zeros(24, np.int64)),
    )
    with pytest.raises(
        InputError,
        match="^south: has no train image of class c; leave the hospital or the class out$",
    ):
        hospitals(without)
    with pytest.raises(InputError, match="^third: has no test image"):
        hospitals(dataclasses.replace(data, origin_names=(*NAMES, "third")))


# ---- packages ------------------------------------------------------------------------------------


def test_each_sends_what_its_own_data_made(one, packages):
    own = hospitals(one.data)
    for name, path in packages.items():
        package = open_package(path)
        assert (
            package.manifest.creator == name
            and package.manifest.source.fingerprint == own[name].fingerprint
        )
        assert package.manifest.settings.distillation["iterations"] == 2
    before = {name: path.read_bytes() for name, path in packages.items()}
    assert {
        name: path.read_bytes() for name, path in sent_packages(one, one.out / "inbox").items()
    } == before


def test_a_union_is_all_images_in_one_scaling(packages):
    opened = [open_package(path) for path in packages.values()]
    both = union(opened)
    assert (
        len(both.images) == sum(map(len, opened)) and both.recipe.epochs == opened[0].recipe.epochs
    )
    for part, package in zip(both.images.split([len(package) for package in opened]), opened):
        pixels = package.manifest.pixels
        torch.testing.assert_close(
            part * both.scaling.std[0] + both.scaling.mean[0],
            package.images * pixels.std[0] + pixels.mean[0],
            atol=1e-5,
            rtol=0,
        )
    assert both.recipe.learning_rate == pytest.approx(
        np.sqrt(opened[0].step_size * opened[1].step_size)
    )
    assert torch.equal(union(opened[:1]).images, opened[0].images) and union(
        opened[:1]
    ).recipe.learning_rate == pytest.approx(opened[0].step_size)
    uint8 = np.full((1, 1, 2, 2), 51, np.uint8)
    torch.testing.assert_close(
        both.standardised(uint8),
        torch.full((1, 1, 2, 2), (0.2 - both.scaling.mean[0]) / both.scaling.std[0]),
    )


@pytest.mark.parametrize("version", [1, 2])
def test_a_union_is_of_any_scalings_and_versions(tmp_path, version):
    """The first hospital's set is in its own scaling; the second one's is of either version."""
    own, one = Scaling((0.55,), (0.21,)), small_ones.released()
    levels = small_ones.SCALING.levels(one.images)
    theirs = dataclasses.replace(one, images=own.apply(levels))
    made = small_ones.packed(theirs, small_ones.data(scaling=own), small_ones.about())
    first = open_package(small_ones.as_zip(tmp_path / "x.zip", made))
    other = small_ones.files(version=version)
    second = open_package(small_ones.as_zip(tmp_path / "y.zip", other))
    assert not torch.equal(first.images, second.images)
    both = union([first, second])
    assert (*both.scaling.mean, *both.scaling.std) == pytest.approx((0.475, 0.185))
    for images in both.images.split(len(levels)):
        assert torch.equal(both.scaling.levels(images), levels)
        torch.testing.assert_close(images, both.scaling.apply(levels), atol=1e-5, rtol=0)
    alone = union([second])
    assert torch.equal(alone.standardised(levels.numpy()), alone.images)


def test_hard_and_soft_labels_go_together(packages):
    hard, other = (open_package(path) for path in packages.values())
    soft = dataclasses.replace(other, targets=torch.full((len(other), CLASSES), 1 / CLASSES))
    targets = union([hard, soft]).targets
    assert targets.shape == (len(hard) + len(soft), CLASSES) and torch.equal(
        targets[: len(hard)].argmax(1), hard.targets
    )
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))


def test_packages_that_do_not_go_together_are_refused(packages):
    first, second = (open_package(path) for path in packages.values())
    other = dataclasses.replace(
        second, manifest=second.manifest.model_copy(update={"class_names": ("a", "b", "x")})
    )
    with pytest.raises(InputError, match=f"^package {second.id[:12]}: its classes or the shape"):
        union([first, other])
    with pytest.raises(InputError, match="there are none"):
        union([])


def test_a_withdrawn_package_leaves_nothing_behind(one, packages, tmp_path):
    setup, (first, second) = setup_of(one), (open_package(path) for path in packages.values())
    without = by_packages(setup, [second], "without", 1)
    disturbed = dataclasses.replace(first, images=first.images + 1, id="0" * 64)
    again = by_packages(setup_of(study(tmp_path)), [second], "never had it", 1)
    assert np.array_equal(without.probabilities, again.probabilities)
    both, other = (
        by_packages(setup, [a, second], "both", 2).probabilities for a in (first, disturbed)
    )
    assert not np.array_equal(both, other) and not np.array_equal(both, without.probabilities)


def test_whatever_an_origin_is_called_its_package_stays_in_the_folder_and_is_its_own(
    tmp_path, monkeypatch
):
    names = ("../../x", "St A", "St-A")
    one = study(tmp_path / "artifacts")
    one.data = of_two((90, 36, 54), origins=names)
    written = []
    monkeypatch.setattr("medddist.sharing.studies.contents_of", lambda study: None)
    monkeypatch.setattr(
        "medddist.sharing.studies.write_package", lambda path, *_, **__: written.append(path)
    )
    paths = sent_packages(one, tmp_path / "inbox" / "here")
    assert (
        list(paths) == list(names)
        and list(paths.values()) == written
        and len({str(path).casefold() for path in written}) == 3
    )
    assert {path.parent for path in written} == {tmp_path / "inbox" / "here"} and all(
        ".." not in path.parts for path in written
    )


def test_the_inbox_is_one_for_each_study(tmp_path):
    """Of a profile and its data: another study's packages are not replaced, nor taken for this
    one's.
    """
    one = study(tmp_path)
    others = [
        one.with_(one.profile.changed({"distill.iterations": 9})),
        one.with_(data=dataclasses.replace(of_two(), fingerprint="of others")),
    ]
    assert inbox_folder(one) == inbox_folder(study(tmp_path))
    found = [inbox_folder(each) for each in (one, *others)]
    assert len(set(found)) == 3 and {folder.parent for folder in found} == {tmp_path / "inbox"}
    odd = one.with_(one.profile.model_copy(update={"name": "../../x"}))
    assert inbox_folder(odd).parent == tmp_path / "inbox"


# ---- ways to share -------------------------------------------------------------------------------


def test_federated_averaging_of_one_hospital_is_training(tmp_path):
    setup = setup_of(study(tmp_path))
    north = setup.hospitals["north"]
    setup = dataclasses.replace(setup, hospitals={"north": north})
    recipe = setup.recipe.model_copy(update={"epochs": 1, "schedule": "constant"})
    theta, after = initial_parameters(setup.network, 0, "federated", 1), []
    for number in range(setup.settings.rounds):
        seed = (0, "federated", 1, "round", number, "north")
        theta = train(setup.network, theta, *setup.tensors(north.train), recipe, seed)
        score = validation_scores(setup.network, theta, setup.tensors(north.validation))
        after.append((score["balanced_accuracy"], theta))
    expected = setup.answers([max(after, key=lambda pair: pair[0])[1]])[0]
    np.testing.assert_allclose(by_federated_averaging(setup).probabilities[1], expected, atol=1e-6)


@pytest.fixture
def courses(tmp_path, monkeypatch):
    """Run federated averaging whose validation scores are given, by learning rate."""

    def run(scores: dict[float, list[float]], **settings):
        setup = setup_of(study(tmp_path))
        asked = iter([score for row in scores.values() for score in row])
        monkeypatch.setattr(federated, "_score", lambda *_: next(asked))
        steps = lambda network, theta, images, labels, recipe, seed: theta + recipe.learning_rate
        monkeypatch.setattr(federated, "train", steps)
        values = {"networks": 1, "federated_rates": tuple(scores), **settings}
        recipe = setup.recipe.model_copy(update={"learning_rate": 1.0})
        parts = {
            name: (setup.tensors(own.train), setup.tensors(own.validation))
            for name, own in setup.hospitals.items()
        }
        start = initial_parameters(setup.network, 0, "federated", 0)
        chosen = setup.settings.model_copy(update=values)
        found = federated.federated(setup.network, parts, recipe, chosen)
        return start, found

    return run


def test_federated_averaging_ends_where_validation_stops_rising_and_keeps_the_best(courses):
    start, (course,) = courses({1.0: [0.3, 0.6, 0.5, 0.6]}, rounds=9, patience=2)
    assert course.scores == (0.3, 0.6, 0.5, 0.6) and course.best == 0.6
    torch.testing.assert_close(course.theta, start + 2)  # after two rounds of rate 1


def test_federated_averaging_chooses_its_learning_rate_on_validation(courses):
    scores = {1.0: [0.3, 0.4], 3.0: [0.5, 0.2]}
    start, (course,) = courses(scores, rounds=2, patience=5)
    assert course.learning_rate == 3.0
    torch.testing.assert_close(course.theta, start + 3)


def test_federated_averaging_weighs_hospitals_by_their_images(tmp_path, monkeypatch):
    setup = setup_of(study(tmp_path))
    own = dict(setup.hospitals)
    few = dataclasses.replace(
        own["south"].train,
        **{name: getattr(own["south"].train, name)[:10] for name in ("images", "labels", "groups")},
    )
    own["south"] = dataclasses.replace(own["south"], train=few)
    many, seen = len(own["north"].train), []
    monkeypatch.setattr(
        federated, "train", lambda network, theta, images, *_: theta * 0 + float(len(images))
    )
    monkeypatch.setattr(
        ways.Setup, "answers", lambda _, trained: seen.append(trained) or np.zeros((2, 1, 3))
    )
    by_federated_averaging(dataclasses.replace(setup, hospitals=own))
    torch.testing.assert_close(seen[0][0][:3], torch.full((3,), (many**2 + 100) / (many + 10)))


def test_a_row_for_each_way_with_its_cost(one, packages):
    rows = {row["way"]: row for row in compare(setup_of(one), packages)}
    own, parameters = hospitals(one.data), one.network().parameter_count
    assert list(rows) == [
        "north alone",
        "south alone",
        "the package of north alone",
        "the package of south alone",
        "all packages",
        "weights, answers averaged",
        "federated averaging, 2 rounds",
        "pooled real data",
    ]
    cost = {way: (row["sent_bytes"], row["rounds"]) for way, row in rows.items()}
    assert cost["north alone"] == (0, 0) and cost["all packages"] == (
        sum(path.stat().st_size for path in packages.values()),
        1,
    )
    assert cost["weights, answers averaged"] == (2 * parameters * 4, 1)
    assert cost["federated averaging, 2 rounds"] == (2 * 2 * 2 * parameters * 4, 2)
    assert cost["pooled real data"] == (
        sum(len(data.train) for data in own.values()) * (8 * 8 + 1),
        1,
    )
    for row in rows.values():
        assert row["hospitals"].keys() == set(NAMES) and 0 <= row["all"]["accuracy"]["mean"] <= 1


def test_federated_averaging_can_be_left_out(tmp_path, packages):
    rows = compare(setup_of(study(tmp_path, left_out=["federated_averaging"])), packages)
    assert not [row for row in rows if row["rounds"] > 1] and rows[-1]["way"] == "pooled real data"


def test_what_was_trained_is_read_when_asked_again(one, packages, monkeypatch):
    rows = compare(setup_of(one), packages)

    def refuse(*given):
        raise AssertionError("trained anew")

    monkeypatch.setattr(federated, "train", refuse)
    monkeypatch.setattr(ways, "trained_networks", refuse)
    assert json.dumps(compare(setup_of(one), packages)) == json.dumps(rows)


def test_each_hospitals_scores_are_of_its_own_test_images(one):
    own = hospitals(one.data)
    said = np.random.default_rng(0).dirichlet(np.ones(CLASSES), (2, 36))
    row = scored(setup_of(one), ways.Shared("made up", 5, 1, said))
    north, south = own["north"].test, own["south"].test
    direct = metrics.score(
        said[:, len(north) :], south.labels, south.groups, "abc", resamples=one.profile.resamples
    )
    assert row["hospitals"]["south"]["accuracy"] == direct["accuracy"]
    right = (said.argmax(-1) == np.concatenate([north.labels, south.labels])).mean()
    assert row["all"]["accuracy"]["mean"] == pytest.approx(right)


def test_a_signed_package_is_asked_for_by_its_key(one, packages, tmp_path):
    from medddist.sharing.signature import make_keys

    make_keys(tmp_path)
    with pytest.raises(InputError, match="is not signed"):
        compare(setup_of(one), packages, {"north": tmp_path / "public.pem"})
