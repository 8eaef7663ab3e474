"""One noisy release: the sensitivity in integers, whatever the images; the noise; the account."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import labelled, tiny_network

from medddist.method.augment import NO_AUGMENTATION, AugmentSettings, augment, draw
from medddist.method.fast.derivatives import last_block
from medddist.method.private import release as module
from medddist.method.private.extractors import extractors
from medddist.method.private.fitting import fitted
from medddist.method.private.release import (
    SENSITIVITY,
    certainty,
    clipped_sums,
    epsilon_by_formula,
    epsilon_of,
    guarantee,
    means_of,
    noise_scale,
    noisy,
    released,
)

CLIP, CLASSES = 3.0, 3
VALUES = st.sampled_from([0.0, -0.0, 1.0, -3.0, 1e-30, 1e30, -1e300, math.nan, math.inf, -math.inf])
NUMBERS = st.one_of(VALUES, st.floats(-10, 10))


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """The square of the distance, in integers of any size."""
    return sum((int(x) - int(y)) ** 2 for x, y in zip(a.ravel(), b.ravel()))


@st.composite
def data_sets(draw):
    """(features (N, D), labels, units): several images a unit, of several classes."""
    count, width = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rows = draw(
        st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=count, max_size=count)
    )
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=count, max_size=count))
    units = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return np.array(rows, float), np.array(labels), np.array(units)


@settings(max_examples=300, deadline=None)
@given(data_sets(), st.data())
def test_one_unit_less_moves_the_sums_by_no_more_than_the_sensitivity(given_set, data):
    """Exactly, in integers, also for features that are huge, NaN or infinite."""
    features, labels, units = given_set
    with np.errstate(all="ignore"):
        whole = clipped_sums(features, labels, units, CLASSES, CLIP)
        left = units != data.draw(st.sampled_from(sorted(set(units.tolist()))))
        without = clipped_sums(features[left], labels[left], units[left], CLASSES, CLIP)
    assert distance(whole, without) <= SENSITIVITY**2


@settings(max_examples=100, deadline=None)
@given(data_sets(), st.randoms())
def test_the_order_of_images_does_not_matter(given_set, random):
    features, labels, units = given_set
    order = list(range(len(labels)))
    random.shuffle(order)
    with np.errstate(all="ignore"):
        plain = clipped_sums(features, labels, units, CLASSES, CLIP)
        mixed = clipped_sums(features[order], labels[order], units[order], CLASSES, CLIP)
    single = len(set(units.tolist())) == len(units)
    assert np.array_equal(plain, mixed) or not single
    assert np.abs(plain - mixed).max() <= len(labels)  # sums of one patient may round otherwise


def test_a_patient_of_many_images_counts_as_one():
    features, labels = np.full((50, 4), 100.0), np.arange(50) % CLASSES
    one = clipped_sums(features, labels, np.zeros(50, int), CLASSES, CLIP)
    assert SENSITIVITY * 0.999 < math.sqrt(distance(one, np.zeros_like(one))) <= SENSITIVITY
    many = clipped_sums(features, labels, np.arange(50), CLASSES, CLIP)
    assert np.allclose(means_of(many, CLIP).counts, [17, 17, 16], rtol=1e-6)


def test_without_noise_the_means_are_those_of_the_clipped_features():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(300, 6)), random.integers(0, CLASSES, 300)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    clipped = features * np.minimum(1, CLIP / norms)
    found = means_of(clipped_sums(features, labels, np.arange(300), CLASSES, CLIP), CLIP)
    expected = [clipped[labels == k].mean(0) for k in range(CLASSES)]
    assert np.allclose(found.means, expected, atol=1e-4)


def test_what_a_class_without_images_releases_is_finite():
    found = means_of(np.zeros((CLASSES, 3), np.int64), CLIP)
    assert np.isfinite(found.means).all() and (found.counts == 1).all()


# ---- noise and account ---------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon, expected", [(0.5, 7.667), (1, 4.045), (2, 2.149), (4, 1.158)])
def test_the_noise_of_an_epsilon(epsilon, expected):
    scale = noise_scale(epsilon, 1e-5)
    assert scale / SENSITIVITY == pytest.approx(expected, rel=1e-3)
    assert epsilon * (1 - 1e-6) < epsilon_of(scale, 1e-5) <= epsilon


@pytest.mark.parametrize("noise", [0.3, 0.64, 1.16, 4.05, 20.0, 200.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_a_receiver_finds_the_same_epsilon_without_opendp(noise, delta):
    expected = epsilon_of(noise * SENSITIVITY, delta)
    assert epsilon_by_formula(noise, delta) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 60.0])
def test_the_noise_is_enough_for_any_epsilon(epsilon):
    scale = noise_scale(epsilon, 1e-5)
    assert epsilon_of(scale, 1e-5) <= epsilon < epsilon_of(scale * 0.999, 1e-5)


@pytest.mark.parametrize("epsilon, sure", [(1, 0.747), (4, 0.983)])
def test_how_sure_one_can_become_of_a_unit_at_even_odds(epsilon, sure):
    noise, delta = noise_scale(epsilon, 1e-5) / SENSITIVITY, 1e-3
    random = np.random.default_rng(0)
    seen = 1 + noise * random.standard_normal(10**6)  # with the unit, along its direction
    odds = (seen - 0.5) / noise**2
    bound = certainty(noise, delta)
    assert np.mean(1 / (1 + np.exp(-odds)) > bound) == pytest.approx(delta, rel=0.15)
    assert certainty(noise, 1e-5) == pytest.approx(sure, abs=5e-4)


@pytest.mark.parametrize("clip", [0.0, math.nan, math.inf, -1.0])
def test_a_clip_that_is_no_length_is_refused(clip):
    with pytest.raises(ValueError, match="no length"):
        clipped_sums(np.ones((2, 3)), np.zeros(2, int), np.arange(2), 2, clip)


def test_the_noise_has_the_deviation_that_is_stated_and_never_the_same_values():
    zeros, scale = np.zeros((3, 700), np.int64), noise_scale(1.0, 1e-5)
    first, again = noisy(zeros, scale), noisy(zeros, scale)
    assert not np.array_equal(first, again) and first.dtype == np.int64
    assert first.std() == pytest.approx(scale, rel=0.1)  # 6 standard errors of 2,100 draws
    assert abs(first.mean()) < 6 * scale / math.sqrt(2100)


def test_no_seed_changes_the_noise():
    zeros, drawn = np.zeros((1, 8), np.int64), []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        drawn.append(noisy(zeros, 1e6))
    assert not np.array_equal(*drawn)


def test_what_is_released_is_noisy():
    sums = np.full((CLASSES, 4), SENSITIVITY * 1000, np.int64)
    found, plain = released(sums, CLIP, 1.0, 1e-5), means_of(sums, CLIP)
    assert not np.array_equal(found.means, plain.means)
    assert np.allclose(found.counts, plain.counts, rtol=0.1)


def test_without_opendp_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(module.InputError, match="pip install 'opendp>="):
        noise_scale(1.0, 1e-5)


def test_the_guarantee_that_is_stated():
    told = guarantee(2.0, 1e-6, "patient", 2052)
    assert (told["epsilon"], told["delta"], told["unit"]) == (2.0, 1e-6, "patient")
    follows = epsilon_by_formula(told["noise_scale"] / told["sensitivity"], 1e-6)
    assert follows == pytest.approx(2.0, rel=1e-6) and told["numbers"] == 2052


# ---- public networks and images ------------------------------------------------------------------


@pytest.fixture(scope="module")
def public():
    return extractors(tiny_network(), labelled(30), 3, 5, trained=True)


def test_an_images_features_do_not_depend_on_which_others_are_there(public):
    images = labelled(20, seed=3)[0]
    whole = public.one_by_one(images)
    kept = [k for k in range(20) if k != 7]
    assert np.array_equal(public.one_by_one(images[kept]), whole[kept])
    assert np.array_equal(public.one_by_one(images.flip(0)), whole[::-1])


def test_networks_are_made_again_from_what_is_public(public):
    again = extractors(tiny_network(), labelled(30), 3, 5, trained=True)
    assert again.clip == public.clip
    assert all(torch.equal(a, b) for a, b in zip(again.thetas, public.thetas))
    images = labelled(4, seed=1)[0]
    assert torch.equal(again.features(images), public.features(images))
    untrained = extractors(tiny_network(), labelled(30), 3, 5, trained=False)
    assert not torch.equal(untrained.thetas[0], public.thetas[0])


def test_a_feature_that_never_changes_says_nothing_and_all_numbers_are_finite(monkeypatch):
    def closed(network, theta, x):
        return last_block(network, theta, x) * (torch.arange(16) > 2)

    monkeypatch.setattr("medddist.method.private.extractors.last_block", closed)
    made = extractors(tiny_network(), labelled(30), 2, 5, trained=False)
    for scale in made.scales:
        assert scale.isfinite().all() and (scale[:3] == 0).all() and (scale[3:] > 0).any()


def test_the_last_block_is_the_networks_own(public):
    network, images = public.network, labelled(4, seed=1)[0]
    module_ = network.loaded(public.thetas[0])
    expected = module_.features(images).flatten(1)
    torch.testing.assert_close(last_block(network, public.thetas[0], images), expected)


def test_images_move_until_their_class_means_are_those_released(public):
    real, labels = labelled(60, seed=5)
    features = public.features(real).detach().numpy()
    means = np.stack([features[labels == k].mean(0) for k in range(CLASSES)])
    start, classes = torch.randn(6, 1, 8, 8), torch.arange(6) % CLASSES
    given = public, start, classes, means, 60, 0.1
    images, losses = fitted(*given, NO_AUGMENTATION, torch.Generator())
    assert losses[-1] < 0.2 * losses[0] and images.shape == start.shape
    assert not torch.equal(images, start)
    strong = AugmentSettings(rotation_degrees=30, shift=0.2, cutout=0)
    augmented, _ = fitted(*given, strong, torch.Generator().manual_seed(0))
    assert off(public, augmented, classes, means, strong) < off(
        public, images, classes, means, strong
    )


def off(public, images, classes, means, settings) -> float:
    """How far the class means of augmented images are from those released, on average."""
    random, total = torch.Generator().manual_seed(1), 0.0
    for _ in range(50):
        seen = public.features(augment(images, draw(len(images), random, images), settings))
        for k in range(CLASSES):
            total += (seen[classes == k].mean(0) - torch.from_numpy(means[k])).square().sum().item()
    return total
