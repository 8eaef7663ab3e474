from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, f_oneway
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from medddist.base.errors import InputError
from medddist.base.settings import parsed
from medddist.data.phantom.generate import (
    CLASS_NAMES,
    SITE_NAMES,
    PhantomSettings,
    averaged,
    deal,
    fine_size,
    make_phantom,
)

# of 24 images at 32 px; a change of it is a change of everybody's data
GOLDEN = "f9b002c15eb2db607889a4aef46f139ccca7ab4810797cfbf803d17801ea4c97"
MANY = 1500


@pytest.fixture(scope="module")
def many():
    return make_phantom(PhantomSettings(images=MANY, image_size_px=32), masks=True)


def made(images=12, size=32, **more):
    return make_phantom(PhantomSettings(images=images, image_size_px=size, **more))


def first_images(phantom) -> np.ndarray:
    """Where each patient's first image is."""
    return np.unique(phantom.patients, return_index=True)[1]


def test_shapes_and_types(many):
    assert many.images.shape == (MANY, 1, 32, 32) and many.images.dtype == np.uint8
    assert many.masks.shape == (MANY, 32, 32) and many.masks.dtype == bool
    for column in (many.labels, many.patients, many.sites):
        assert column.shape == (MANY,) and column.dtype == np.int64
    assert set(many.labels) == set(range(len(CLASS_NAMES))) and set(many.sites) == set(
        range(len(SITE_NAMES))
    )
    assert made().masks is None


def test_same_seed_same_bytes():
    phantom = make_phantom(PhantomSettings(images=24, image_size_px=32), masks=True)
    content = [
        phantom.images,
        phantom.labels,
        phantom.patients,
        phantom.sites,
        np.packbits(phantom.masks),
    ]
    assert hashlib.sha256(b"".join(array.tobytes() for array in content)).hexdigest() == GOLDEN
    assert (made(24).images == phantom.images).all()


def test_seeds_differ():
    one, two = made(), made(seed=1)
    assert not any(
        (image == other).all() for image, other in zip(one.images, two.images, strict=True)
    )


def test_the_first_images_do_not_depend_on_how_many_are_made():
    few, more = made(9), made(30)
    for name in ("images", "labels", "patients", "sites"):
        assert (getattr(few, name) == getattr(more, name)[:9]).all()


def test_sites_change_the_acquisition_only():
    balanced, confounded = (
        deal(PhantomSettings(images=400, sites=sites)) for sites in ("balanced", "confounded")
    )
    assert [(e.patient, e.number, e.label) for e in balanced] == [
        (e.patient, e.number, e.label) for e in confounded
    ]
    assert [e.site for e in balanced] != [e.site for e in confounded]


@pytest.mark.parametrize("size", [16, 28, 33, 50, 64, 128])
def test_any_size(size):
    phantom = made(4, size)
    assert phantom.images.shape == (4, 1, size, size)
    assert (phantom.images.reshape(4, -1).std(1) > 20).all()


def test_resolutions_show_the_same_chest():
    large = made(8, 128).images.reshape(8, 32, 4, 32, 4).mean((2, 4)).reshape(8, -1)
    small = made(8, 32).images.reshape(8, -1)
    assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(large, small, strict=True)) > 0.9


@pytest.mark.parametrize("size", [32, 64])
def test_averaging_keeps_the_mean_and_the_place(size):
    ramp = np.arange(fine_size(size), dtype=np.float32) + 0.5
    pixels = averaged(np.add.outer(10 * ramp, ramp), size)
    centres = (np.arange(size) + 0.5) * fine_size(size) / size
    np.testing.assert_allclose(
        pixels, np.add.outer(10 * centres, centres), atol=1.0
    )  # a tenth of a sample
    assert abs(pixels.mean() - 11 * ramp.mean()) < 0.01


def test_a_chest_is_dark_in_the_lungs_and_bright_between_and_below():
    mean = made(200).images[:, 0].astype(float).mean(0)
    lungs = (mean[12:17, 7:11].mean() + mean[12:17, 22:26].mean()) / 2
    assert mean[12:17, 15:18].mean() > lungs + 40 and mean[26:30, 10:22].mean() > lungs + 40
    heart_left, heart_right = mean[18:21, 20:22].mean(), mean[18:21, 10:12].mean()
    assert heart_left > heart_right + 20  # the patient's left is the picture's right


def test_classes_are_in_the_database_s_balance(many):
    share = np.array([3616, 6012, 10192, 1345]) / 21165
    assert np.abs(np.bincount(many.labels) - share * MANY).max() <= 4
    for start in range(0, MANY - 300, 300):  # and not sorted
        assert np.abs(np.bincount(many.labels[start : start + 300]) - share * 300).max() <= 8


def test_patients_have_one_class_one_site_and_one_to_three_images(many):
    counts = np.bincount(many.patients)
    assert set(counts) == {1, 2, 3}
    for column in (many.labels, many.sites):
        assert all(len(set(column[many.patients == p])) == 1 for p in range(200))
    assert len(np.unique(many.images.reshape(MANY, -1), axis=0)) == MANY


def test_the_order_of_patients_tells_no_class(many):
    labels = many.labels[first_images(many)]
    table = np.zeros((4, 4), int)
    np.add.at(table, (labels[:-1:2], labels[1::2]), 1)
    assert chi2_contingency(table).pvalue > 0.01
    assert f_oneway(*(np.flatnonzero(labels == k) for k in range(4))).pvalue > 0.01


def test_masks_are_where_lesions_are(many):
    area = many.masks.reshape(MANY, -1).mean(1)
    assert (area[many.labels == 2] == 0).all()
    assert (area[many.labels != 2] > 0).mean() > 0.9
    diffuse, focal = (np.median(area[many.labels == k]) for k in (3, 1))
    assert 0.01 < focal < diffuse < 0.5


def test_ground_glass_is_bilateral_and_peripheral_consolidation_is_not(many):
    halves = np.stack([many.masks[:, :, :16].any((1, 2)), many.masks[:, :, 16:].any((1, 2))])
    both = halves.all(0)
    assert both[many.labels == 0].mean() > 0.9 and both[many.labels == 1].mean() < 0.4
    columns = np.abs(np.arange(32) - 15.5)
    off_centre = [
        (many.masks[many.labels == k] * columns).sum() / many.masks[many.labels == k].sum()
        for k in (0, 1)
    ]
    assert off_centre[0] > off_centre[1] + 1


def test_mean_brightness_tells_no_class(many):
    first = first_images(many)
    brightness, labels = many.images[first].reshape(len(first), -1).mean(1), many.labels[first]
    assert f_oneway(*(brightness[labels == k] for k in range(4))).pvalue > 0.01
    tree = DecisionTreeClassifier(min_samples_leaf=20, class_weight="balanced", random_state=0)
    guessed = cross_val_predict(tree, brightness[:, None], labels, cv=5)
    assert balanced_accuracy_score(labels, guessed) < 0.25 + 0.06


@pytest.mark.parametrize(("sites", "dependent"), [("balanced", False), ("confounded", True)])
def test_sites_and_classes(sites, dependent):
    patients = {e.patient: e for e in deal(PhantomSettings(images=5000, sites=sites))}.values()
    table = np.zeros((4, 3), int)
    np.add.at(table, ([e.label for e in patients], [e.site for e in patients]), 1)
    assert (table > 0).all()  # never certain
    assert (chi2_contingency(table).pvalue < 1e-12) == dependent
    largest = (table / table.sum(1, keepdims=True)).max(1)
    assert (largest > 0.8).all() if dependent else (largest < 0.42).all()


def test_sites_look_different(many):
    edges = np.stack([many.images[:, 0, :, 0].mean(1), many.images[:, 0, 0].mean(1)], 1)
    means = np.array([edges[many.sites == k].mean(0) for k in range(3)])
    assert means[1, 0] < 1 and means[2, 1] < 1 and means[0].min() > 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 0),
        ("image_size_px", 8),
        ("image_size_px", 1024),
        ("sites", "mixed"),
        ("seed", -1),
        ("size", 3),
        ("balance", (0, 0, 0, 0)),
        ("balance", (1, 1, 1, -1)),
    ],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        parsed(PhantomSettings, {name: value}, "phantom")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_it_is_a_real_task():
    """A well-trained ConvNet of width 32: 0.80 to 0.95 balanced accuracy from 4,000 images, 0.10
    less from 80.
    """
    phantom = made(6000)
    known = phantom.patients < phantom.patients[4000]
    full = trained_accuracy(phantom, np.flatnonzero(known), ~known, epochs=20, learning_rate=0.03)
    few = []
    for seed in range(3):
        choose = np.random.default_rng(seed).choice
        some = [
            choose(np.flatnonzero(known & (phantom.labels == k)), 20, replace=False)
            for k in range(4)
        ]
        few.append(
            trained_accuracy(phantom, np.concatenate(some), ~known, epochs=400, learning_rate=0.01)
        )
    assert 0.80 <= full <= 0.95 and max(few) <= full - 0.10


def trained_accuracy(phantom, chosen, test, epochs: int, learning_rate: float) -> float:
    """Balanced accuracy on `test` of a network trained on the chosen images."""
    from medddist.method.networks import NetworkSettings, convnet, initial_parameters
    from medddist.method.training import Recipe, predict, train

    x = torch.tensor(phantom.images.astype(np.float32))
    x = (x - x[chosen].mean()) / x[chosen].std()
    network = convnet(NetworkSettings(width=32, depth=3), 1, 4, 32)
    recipe = Recipe(
        epochs=epochs,
        batch_size=128,
        learning_rate=learning_rate,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        sampling="balanced",
    )
    start = initial_parameters(network, "phantom test")
    theta = train(
        network, start, x[chosen], torch.tensor(phantom.labels[chosen]), recipe, ("phantom test",)
    )
    return balanced_accuracy_score(phantom.labels[test], predict(network, theta, x[test]).argmax(1))
