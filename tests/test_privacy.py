"""DP-SGD against its definition, the guarantee against known figures, and every way to undo it refused."""

from __future__ import annotations

import json
import math
import sys
import zipfile

import numpy as np
import pytest
import torch
from scipy import optimize, stats

pytest.importorskip("opacus")

from medddist import privacy
from medddist.augment import NO_AUGMENTATION
from medddist.derivatives import gradient
from medddist.errors import InputError
from medddist.networks import initial_parameters
from medddist.package import open_package, write_package
from medddist.privacy import PrivacySettings, epsilon_of, fixed_scaling, guarantee, train_by_dp_sgd
from medddist.profile import load_profile
from medddist.seeds import generator
from medddist.teachers import TeacherSettings
from medddist.training import Diverged, TrainingState
from small import CLASSES, labelled, tiny_network, tiny_recipe
from test_study import made_up, tiny_study

NAME = "0123456789abcdef" * 2
PROTECTED = {
    "teachers.privacy": {"noise_multiplier": 1.0, "sample_rate": 0.2, "delta": 1e-3},
    "distill.initial_images": "noise",
    "distill.selection": "last",
}


def study(out, data=None, **changes):
    return tiny_study(out, fixed_scaling(data or made_up(fingerprint=NAME)), **PROTECTED | changes)


def step(settings: PrivacySettings, seed: int = 0, **recipe) -> privacy._Step:
    return privacy._Step(tiny_network(), tiny_recipe(**recipe), settings, generator(seed))


# ---- a step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [0.3, 1e6], ids=["clipped", "not clipped"])
def test_a_step_without_noise_is_the_sum_of_clipped_gradients_of_single_images(norm):
    network, (x, labels) = tiny_network(), labelled(7)
    theta, one = initial_parameters(network, 3), step(PrivacySettings(noise_multiplier=1e-12, max_grad_norm=norm))
    alone = torch.stack([gradient(network, theta, x[k : k + 1], labels[k : k + 1])[1] for k in range(7)])
    expected = (alone * (norm / alone.norm(dim=1, keepdim=True)).clamp(max=1)).sum(0) / tiny_recipe().batch_size
    for _ in range(2):  # nothing is left of the first
        torch.testing.assert_close(one.gradient(theta, x, labels), expected, rtol=1e-4, atol=1e-6)


def test_the_noise_is_as_large_as_it_says_even_where_no_image_is_drawn():
    settings = PrivacySettings(noise_multiplier=2.0, max_grad_norm=0.5)
    network, one = tiny_network(width=8), privacy._Step(tiny_network(width=8), tiny_recipe(batch_size=4), settings, generator(0))
    theta, (x, labels) = initial_parameters(network, 0), labelled(7)
    empty = torch.stack([one.gradient(theta, x[:0], labels[:0]) for _ in range(20)])
    assert empty.std().item() == pytest.approx(2.0 * 0.5 / 4, rel=0.03) and abs(empty.mean().item()) < 0.01


def test_training_by_it_is_gradient_descent_where_every_image_is_drawn_and_nothing_is_clipped():
    """Poisson sampling at almost 1, no noise, no clipping: full-batch descent with momentum, by hand."""
    network, (x, labels) = tiny_network(), labelled(10)
    recipe = tiny_recipe(epochs=2, batch_size=10, learning_rate=0.1, momentum=0.9, weight_decay=0.01, augmentation=NO_AUGMENTATION)
    settings = PrivacySettings(noise_multiplier=1e-12, max_grad_norm=1e6, sample_rate=1 - 1e-9)
    start = initial_parameters(network, 1)
    theta, velocity = start, torch.zeros_like(start)
    for _ in range(2 * settings.steps_per_epoch):
        velocity = 0.9 * velocity + gradient(network, theta, x, labels)[1] + 0.01 * theta
        theta = theta - 0.1 * velocity
    reached = train_by_dp_sgd(network, start, x, labels, recipe, settings, random=generator(0))
    torch.testing.assert_close(reached, theta, rtol=1e-4, atol=1e-5)


def test_images_are_drawn_by_themselves_at_the_rate(monkeypatch):
    counts, settings = [], PrivacySettings(sample_rate=0.1)
    monkeypatch.setattr(privacy._Step, "gradient", lambda self, theta, x, labels: (counts.append(len(x)), theta * 0)[1])
    network, (x, labels) = tiny_network(), labelled(50)
    train_by_dp_sgd(network, initial_parameters(network, 0), x, labels, tiny_recipe(epochs=40), settings, random=generator(0))
    assert len(counts) == 400 and np.mean(counts) == pytest.approx(5, abs=0.4)
    assert np.var(counts) == pytest.approx(50 * 0.1 * 0.9, rel=0.25), "binomial: one image's draw is not another's"


def test_the_noise_is_new_each_time_and_theta_goes_on_from_a_state():
    network, (x, labels) = tiny_network(), labelled(12)
    settings, start = PrivacySettings(sample_rate=0.5), initial_parameters(network, 0)
    a, b = (train_by_dp_sgd(network, start, x, labels, tiny_recipe(epochs=1), settings) for _ in range(2))
    assert not torch.equal(a, b), "who knows a seed could subtract the noise"
    states: list[TrainingState] = []
    resume = TrainingState(2, start, torch.zeros_like(start))
    train_by_dp_sgd(network, start, x, labels, tiny_recipe(epochs=9), settings, resume=resume, after_epoch=states.append, stop_after=4)
    assert [state.epoch for state in states] == [3, 4]


def test_parameters_that_are_no_longer_finite_are_refused():
    network, (x, labels) = tiny_network(), labelled(12)
    with pytest.raises(Diverged, match="^learning_rate: "):
        train_by_dp_sgd(network, initial_parameters(network, 0), x, labels, tiny_recipe(learning_rate=1e38), PrivacySettings())


# ---- what is guaranteed ----------------------------------------------------------------------------------------------


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Of the Gaussian mechanism, exactly (Balle & Wang, ICML 2018)."""
    told = lambda e: stats.norm.cdf(0.5 / sigma - e * sigma) - math.exp(e) * stats.norm.cdf(-0.5 / sigma - e * sigma) - delta
    return optimize.brentq(told, 0, 100)


@pytest.mark.parametrize("sigma, steps", [(1.0, 1), (4.0, 16), (20.0, 100)])
def test_without_sampling_epsilon_bounds_the_gaussian_mechanisms_closely(sigma, steps):
    """k steps at sigma are one at sigma over the square root of k; a rate of almost 1 is no sampling."""
    told = epsilon_of(PrivacySettings(noise_multiplier=sigma, sample_rate=1 - 1e-12, delta=1e-5), steps)
    exact = gaussian_epsilon(sigma / math.sqrt(steps), 1e-5)
    assert exact <= told <= 1.25 * exact


def test_epsilon_is_no_less_than_the_tighter_accountants():
    from opacus.accountants import PRVAccountant

    settings, tight = PrivacySettings(noise_multiplier=1.0, sample_rate=0.02), PRVAccountant()
    tight.history = [(1.0, 0.02, 400)]
    told, found = epsilon_of(settings, 400), tight.get_epsilon(1e-5)
    assert found - 0.02 <= told <= 1.3 * found


@pytest.mark.parametrize("noise, rate", [(0.1, 0.5), (100.0, 1e-4)])
def test_epsilon_is_a_number_at_the_edges_and_warns_of_nothing(noise, rate):
    assert 0 < epsilon_of(PrivacySettings(noise_multiplier=noise, sample_rate=rate), 100) < math.inf


def test_the_steps_of_all_teachers_are_counted():
    settings = PrivacySettings(sample_rate=0.03)
    told = guarantee(settings, teachers=3, epochs=5)
    assert told["composed"] == {"teachers": 3, "steps": 3 * 5 * 34} and told["unit"] == "training image"
    assert told["epsilon"] == epsilon_of(settings, 510) > guarantee(settings, 1, 5)["epsilon"]
    json.dumps(told, allow_nan=False)


# ---- what would undo it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"teachers.recipe.sampling": "balanced"}, "teachers.recipe.sampling"),
        ({"distill.initial_images": "real"}, "distill.initial_images: real"),
        ({"distill.initial_images": "average"}, "distill.initial_images: average"),
        ({"distill.selection": "validation"}, "distill.selection"),
    ],
)
def test_what_would_undo_it_is_refused(changes, named):
    protected = PROTECTED | {"teachers.recipe.sampling": "natural"}
    assert load_profile("smoke", protected).teachers.privacy.delta == 1e-3
    with pytest.raises(InputError, match=named) as refused:
        load_profile("smoke", protected | changes)
    assert "\n" not in str(refused.value)


def test_without_opacus_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(InputError, match=r"^teachers.privacy: needs Opacus; pip install 'medddist\[privacy\]'"):
        epsilon_of(PrivacySettings(), 1)


def test_a_profile_without_it_names_its_results_as_before():
    """The names that results were kept under before there was such a setting."""
    assert "privacy" not in TeacherSettings().what() and "privacy" in TeacherSettings(privacy=PrivacySettings()).what()
    one = load_profile("demo")
    assert privacy.digest(one.teachers.what()) == "0c2bc82f53b8c855" and privacy.digest(one.distill.what()) == "edf5675058ebe657"


def test_pixels_are_scaled_by_constants_under_another_fingerprint():
    data = made_up(fingerprint=NAME)
    fixed = fixed_scaling(data)
    assert (fixed.pixel_mean, fixed.pixel_std) == ((0.5,), (0.25,)) and fixed.train is data.train
    assert len(fixed.fingerprint) == 32 and fixed.fingerprint != data.fingerprint


# ---- a study ---------------------------------------------------------------------------------------------------------


def test_the_distilled_set_depends_on_the_images_through_the_teachers_alone(tmp_path):
    """Other images, other numbers of them, the same trajectories: the same set."""
    from medddist.data.parts import Data

    first = study(tmp_path / "a")
    theirs = made_up()
    half = type(theirs.train)(theirs.train.images[::2] // 2, theirs.train.labels[::2], theirs.train.groups[::2])
    second = study(tmp_path / "b", Data(half, theirs.test, theirs.validation, ("a", "b", "c"), "other", "made up"))
    for path in (one.path for one in first.teachers()):
        target = second._teachers_folder(second._teacher_settings(0)) / path.name
        target.write_bytes(path.read_bytes())
    ours, others = first.distillation(), second.distillation()
    assert torch.equal(ours.distilled.images, others.distilled.images) and ours.distilled.step_size == others.distilled.step_size
    assert len(ours.initial_indices) == 0 and ours.selected_iteration == 4


def test_a_teachers_file_tells_what_was_composed(tmp_path):
    two, three = study(tmp_path), study(tmp_path, **{"teachers.teachers": 3})
    told = two.teachers()[1].about["privacy"]
    assert told == guarantee(two.profile.teachers.privacy, 2, 4) and told["composed"] == {"teachers": 2, "steps": 2 * 4 * 5}
    assert three.teachers()[0].path != two.teachers()[0].path, "of three together less is guaranteed"


def test_a_package_states_it_and_withholds_what_it_does_not_cover(tmp_path):
    one = study(tmp_path / "artifacts")
    with pytest.raises(InputError, match="^package: scores and the audit are exact figures .* --no-measure"):
        write_package(one, tmp_path / "refused.zip")
    write_package(one, tmp_path / "x.zip", measure=False)
    manifest = open_package(tmp_path / "x.zip").manifest
    assert manifest.privacy.model_dump() == one.teachers()[0].about["privacy"]
    assert (manifest.source.fingerprint, manifest.source.images) == ("withheld", {}) and manifest.pixels.mean == (0.5,)
    assert NAME[:16] not in manifest.to_bytes().decode()
    card = (zipfile.ZipFile(tmp_path / "x.zip").read("README.md")).decode()
    assert "Differential privacy for one training image, with epsilon" in card and "withheld" in card and "| class | images here |" in card


def test_a_package_without_it_claims_nothing(tmp_path):
    write_package(tiny_study(tmp_path / "artifacts", made_up(fingerprint=NAME)), tmp_path / "x.zip", measure=False, allow_copies=True)
    assert open_package(tmp_path / "x.zip").manifest.privacy is None
