"""DP-SGD against its definition, the guarantee against known figures, and every way to undo it
refused.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile

import numpy as np
import pytest
import torch
from scipy import optimize, stats

pytest.importorskip("opacus")

from small import CLASSES, SIZE_PX, labelled, tiny_network, tiny_recipe
from test_study import made_up, tiny_study

from medddist import cli
from medddist.base.errors import InputError
from medddist.base.seeds import generator
from medddist.data.parts import Data, Part
from medddist.data.scaling import Scaling
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import initial_parameters
from medddist.method.private import dp_sgd as privacy
from medddist.method.private.dp_sgd import (
    PrivacySettings,
    epsilon_of,
    fixed_scaling,
    guarantee,
    train_by_dp_sgd,
)
from medddist.method.training import Diverged, TrainingState
from medddist.sharing.hospitals import hospitals as of_hospitals
from medddist.sharing.manifest import CARD, DATA, MANIFEST
from medddist.sharing.reading import open_package
from medddist.sharing.studies import contents_of, hospital_study, measured, sent_packages
from medddist.sharing.writing import write_package
from medddist.study.profile import load_profile

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


# ---- a step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [0.3, 1e6], ids=["clipped", "not clipped"])
def test_a_step_without_noise_is_the_sum_of_clipped_gradients_of_single_images(norm):
    network, (x, labels) = tiny_network(), labelled(7)
    theta, one = (
        initial_parameters(network, 3),
        step(PrivacySettings(noise_multiplier=1e-12, max_grad_norm=norm)),
    )
    alone = torch.stack(
        [gradient(network, theta, x[k : k + 1], labels[k : k + 1])[1] for k in range(7)]
    )
    expected = (alone * (norm / alone.norm(dim=1, keepdim=True)).clamp(max=1)).sum(
        0
    ) / tiny_recipe().batch_size
    for _ in range(2):  # nothing is left of the first
        torch.testing.assert_close(one.gradient(theta, x, labels), expected, rtol=1e-4, atol=1e-6)


def test_the_noise_is_as_large_as_it_says_even_where_no_image_is_drawn():
    settings = PrivacySettings(noise_multiplier=2.0, max_grad_norm=0.5)
    network, one = (
        tiny_network(width=8),
        privacy._Step(tiny_network(width=8), tiny_recipe(batch_size=4), settings, generator(0)),
    )
    theta, (x, labels) = initial_parameters(network, 0), labelled(7)
    empty = torch.stack([one.gradient(theta, x[:0], labels[:0]) for _ in range(20)])
    assert (
        empty.std().item() == pytest.approx(2.0 * 0.5 / 4, rel=0.03)
        and abs(empty.mean().item()) < 0.01
    )


def test_training_by_it_is_gradient_descent_where_every_image_is_drawn_and_nothing_is_clipped():
    """Poisson sampling at almost 1, no noise, no clipping: full-batch descent with momentum, by
    hand.
    """
    network, (x, labels) = tiny_network(), labelled(10)
    recipe = tiny_recipe(
        epochs=2,
        batch_size=10,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=0.01,
        augmentation=NO_AUGMENTATION,
    )
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
    monkeypatch.setattr(
        privacy._Step,
        "gradient",
        lambda self, theta, x, labels: (counts.append(len(x)), theta * 0)[1],
    )
    network, (x, labels) = tiny_network(), labelled(50)
    train_by_dp_sgd(
        network,
        initial_parameters(network, 0),
        x,
        labels,
        tiny_recipe(epochs=40),
        settings,
        random=generator(0),
    )
    assert len(counts) == 400 and np.mean(counts) == pytest.approx(5, abs=0.4)
    assert np.var(counts) == pytest.approx(50 * 0.1 * 0.9, rel=0.25), (
        "binomial: one image's draw is not another's"
    )


def test_the_noise_is_new_each_time_and_theta_goes_on_from_a_state():
    network, (x, labels) = tiny_network(), labelled(12)
    settings, start = PrivacySettings(sample_rate=0.5), initial_parameters(network, 0)
    a, b = (
        train_by_dp_sgd(network, start, x, labels, tiny_recipe(epochs=1), settings)
        for _ in range(2)
    )
    assert not torch.equal(a, b), "who knows a seed could subtract the noise"
    states: list[TrainingState] = []
    resume = TrainingState(2, start, torch.zeros_like(start))
    train_by_dp_sgd(
        network,
        start,
        x,
        labels,
        tiny_recipe(epochs=9),
        settings,
        resume=resume,
        after_epoch=states.append,
        stop_after=4,
    )
    assert [state.epoch for state in states] == [3, 4]


def test_parameters_that_are_no_longer_finite_are_refused():
    network, (x, labels) = tiny_network(), labelled(12)
    with pytest.raises(Diverged, match="^learning_rate: "):
        train_by_dp_sgd(
            network,
            initial_parameters(network, 0),
            x,
            labels,
            tiny_recipe(learning_rate=1e38),
            PrivacySettings(),
        )


# ---- what is guaranteed --------------------------------------------------------------------------


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Of the Gaussian mechanism, exactly (Balle & Wang, ICML 2018)."""
    told = lambda e: (
        stats.norm.cdf(0.5 / sigma - e * sigma)
        - math.exp(e) * stats.norm.cdf(-0.5 / sigma - e * sigma)
        - delta
    )
    return optimize.brentq(told, 0, 100)


@pytest.mark.parametrize("sigma, steps", [(1.0, 1), (4.0, 16), (20.0, 100)])
def test_without_sampling_epsilon_bounds_the_gaussian_mechanisms_closely(sigma, steps):
    """k steps at sigma are one at sigma over the square root of k; a rate of almost 1 is no
    sampling.
    """
    told = epsilon_of(
        PrivacySettings(noise_multiplier=sigma, sample_rate=1 - 1e-12, delta=1e-5), steps
    )
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
    assert (
        told["composed"] == {"teachers": 3, "steps": 3 * 5 * 34}
        and told["unit"] == "training image"
    )
    assert told["epsilon"] == epsilon_of(settings, 510) > guarantee(settings, 1, 5)["epsilon"]
    json.dumps(told, allow_nan=False)


# ---- what would undo it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"teachers.recipe.sampling": "balanced"}, "teachers.recipe.sampling"),
        ({"distill.initial_images": "real"}, "distill.initial_images: real"),
        ({"distill.initial_images": "average"}, "distill.initial_images: average"),
        ({"distill.selection": "validation"}, "distill.selection"),
        ({"distill.method": "real_loss"}, "distill.method: real_loss"),
        ({"distill.labels": "teachers"}, "labels: teachers"),
        ({"distill.labels": "learned"}, "labels: learned"),
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
    with pytest.raises(
        InputError, match=r"^teachers.privacy: needs Opacus; pip install 'opacus>=1.5,<2'"
    ):
        epsilon_of(PrivacySettings(), 1)


def test_pixels_are_scaled_by_constants_under_another_fingerprint():
    data = made_up(fingerprint=NAME)
    fixed = fixed_scaling(data)
    assert fixed.scaling == Scaling((0.5,), (0.25,)) and fixed.train is data.train
    assert len(fixed.fingerprint) == 32 and fixed.fingerprint != data.fingerprint


# ---- a study -------------------------------------------------------------------------------------


def test_the_distilled_set_depends_on_the_images_through_the_teachers_alone(tmp_path):
    """Other images, other numbers of them, the same trajectories: the same set."""
    first = study(tmp_path / "a")
    theirs = made_up()
    half = type(theirs.train)(
        theirs.train.images[::2] // 2, theirs.train.labels[::2], theirs.train.groups[::2]
    )
    second = study(
        tmp_path / "b",
        Data(half, theirs.test, theirs.validation, ("a", "b", "c"), "other", "made up"),
    )
    for teacher, target in zip(first.teachers(), second.teacher_paths()):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(teacher.path.read_bytes())
    ours, others = first.distillation(), second.distillation()
    assert (
        torch.equal(ours.distilled.images, others.distilled.images)
        and ours.distilled.step_size == others.distilled.step_size
    )
    assert len(ours.initial_indices) == 0 and ours.selected_iteration == 4


def test_a_teachers_file_tells_what_was_composed(tmp_path):
    two, three = study(tmp_path), study(tmp_path, **{"teachers.teachers": 3})
    told = two.teachers()[1].about["privacy"]
    assert told == guarantee(two.profile.teachers.privacy, 2, 4) and told["composed"] == {
        "teachers": 2,
        "steps": 2 * 4 * 5,
    }
    assert three.teachers()[0].path != two.teachers()[0].path, (
        "of three together less is guaranteed"
    )


def test_a_package_states_it_and_withholds_what_it_does_not_cover(tmp_path):
    one = study(tmp_path / "artifacts")
    with pytest.raises(
        InputError, match="^package: scores and the audit are exact figures .* --no-measure"
    ):
        write_package(tmp_path / "refused.zip", contents_of(one), measured=measured(one))
    write_package(tmp_path / "x.zip", contents_of(one))
    manifest = open_package(tmp_path / "x.zip").manifest
    assert manifest.privacy.model_dump() == one.teachers()[0].about["privacy"]
    assert (manifest.source.fingerprint, manifest.source.images) == (
        "withheld",
        {},
    ) and manifest.pixels.mean == (0.5,)
    assert NAME[:16] not in manifest.to_bytes().decode()
    card = (zipfile.ZipFile(tmp_path / "x.zip").read("README.md")).decode()
    assert (
        "Differential privacy for one training image, with epsilon" in card
        and "withheld" in card
        and "| class | images here |" in card
    )


def test_a_package_without_it_claims_nothing(tmp_path):
    one = tiny_study(tmp_path / "artifacts", made_up(fingerprint=NAME))
    write_package(tmp_path / "x.zip", contents_of(one), allow_copies=True)
    assert open_package(tmp_path / "x.zip").manifest.privacy is None


# ---- what leaves: nothing but the guarantee's own ------------------------------------------------


def private_set(
    counts=(60, 24, 36), seed=0, channels=1, dark=1.0, rare=False, name="a", notes=()
) -> Data:
    """Images of two hospitals; every class is in every part of both, whatever else differs from one
    such set to another.
    """

    def part(count: int, number: int) -> Part:
        random = np.random.default_rng([seed, number])
        labels = np.arange(count) % CLASSES
        if rare:
            labels[4 * CLASSES :] = 0
        pixels = random.integers(
            0, int(255 * dark) + 1, (count, channels, SIZE_PX, SIZE_PX)
        ).astype(np.uint8)
        groups = 1000 * number + (np.arange(count) if seed % 2 else np.arange(count) // 2)
        return Part(pixels, labels, groups, np.arange(count) // CLASSES % 2)

    parts = [part(count, number) for number, count in enumerate(counts)]
    own = {"scaling": Scaling((0.4 * dark,) * channels, (0.1 + seed / 100,) * channels)}
    named = {"origin_names": ("north", "south"), "notes": notes}
    return Data(*parts, ("a", "b", "c"), f"{seed:032x}", name, **named, **own)


SETS = {
    "other pixels": private_set(seed=1),
    "ten times as many": private_set((600, 240, 360), 2),
    "few": private_set((24, 12, 12), 3),
    "one class rules": private_set((120, 60, 60), 4, rare=True),
    "all but black, with notes": private_set(
        seed=5, dark=0.05, name="st-mary", notes=("12 files were left out",)
    ),
}


def as_if_told_by_equal_trajectories(monkeypatch) -> None:
    """Teachers whose trajectories are equal whatever the images are: what is left to differ would
    be told past them.
    """

    def train(
        network, theta, images, labels, recipe, settings, *, after_epoch, stop_after, resume=None
    ):
        for epoch in range(stop_after):
            theta = theta + 0.02 * torch.randn(len(theta), generator=generator("a step", epoch))
            after_epoch(TrainingState(epoch + 1, theta, torch.zeros_like(theta), theta))
        return theta

    monkeypatch.setattr("medddist.method.teachers.train_by_dp_sgd", train)


def package_of(out, data, **changes) -> dict[str, bytes]:
    one = tiny_study(out, data, **PROTECTED | changes)
    write_package(out / "sent" / "x.zip", contents_of(one))
    return contents(out / "sent")


def hospitals_of(out, data, **changes) -> dict[str, bytes]:
    changes = {"hospitals.changes": {"distill.iterations": 2, "teachers.teachers": 1}} | changes
    sent_packages(tiny_study(out, data, **PROTECTED | changes), out / "sent")
    return contents(out / "sent")


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


WAYS = {"package": package_of, "hospitals": hospitals_of}


@pytest.fixture(scope="module")
def sent_of_the_first_set(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        as_if_told_by_equal_trajectories(patch)
        return {
            name: way(tmp_path_factory.mktemp(name), private_set()) for name, way in WAYS.items()
        }


@pytest.mark.parametrize("sent_by", WAYS)
@pytest.mark.parametrize("other", SETS)
def test_no_byte_of_a_package_depends_on_the_private_images_but_through_the_trajectories(
    sent_by, other, sent_of_the_first_set, tmp_path, monkeypatch
):
    """For any sizes and contents of two private sets with equal class names and image format."""
    as_if_told_by_equal_trajectories(monkeypatch)
    ours, theirs = sent_of_the_first_set[sent_by], WAYS[sent_by](tmp_path, SETS[other])
    assert (
        list(ours)
        == list(theirs)
        == (["x.zip"] if sent_by == "package" else ["north.zip", "south.zip"])
    )
    for name, content in ours.items():
        told = [json.loads(opened(one)[MANIFEST]) for one in (content, theirs[name])]
        assert told[0] == told[1], name
        assert content == theirs[name], name


@pytest.mark.parametrize(
    "changes, given",
    [
        ({}, {"channels": 3}),
        ({"seeds": [3, 4]}, {}),
    ],
    ids=["colour", "other seeds"],
)
@pytest.mark.parametrize("sent_by", WAYS)
def test_nor_where_images_are_coloured_or_seeds_are_others(
    sent_by, changes, given, tmp_path, monkeypatch
):
    as_if_told_by_equal_trajectories(monkeypatch)
    pair = private_set(**given), private_set((90, 48, 48), 7, **given)
    ours, theirs = (
        WAYS[sent_by](tmp_path / str(k), data, **changes) for k, data in enumerate(pair)
    )
    assert ours == theirs


@pytest.mark.parametrize("sent_by", WAYS)
def test_with_real_noise_only_images_labels_and_step_size_differ(sent_by, tmp_path):
    """The same with DP-SGD itself: what is left, once images, labels, step size and what follows
    from them are masked.
    """
    few = {
        "teachers.privacy": PROTECTED["teachers.privacy"] | {"sample_rate": 0.5},
        "teachers.teachers": 1,
        "distill.iterations": 1,
    }
    pair = private_set(), SETS["one class rules"]
    ours, theirs = (WAYS[sent_by](tmp_path / str(k), data, **few) for k, data in enumerate(pair))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] != theirs[name], "the noise is new"
        assert masked(ours[name]) == masked(theirs[name])


def opened(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def masked(content: bytes) -> dict:
    """A package without its images and step size, and without sizes and digests of the files that
    hold them.
    """
    files = opened(content)
    manifest = json.loads(files[MANIFEST])
    step_size = manifest.pop("step_size")
    manifest["files"] = list(manifest["files"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [
            (one.date_time, one.create_system, one.external_attr, one.extra, one.comment)
            for one in archive.infolist()
        ]
    header = files[DATA][: 8 + int.from_bytes(files[DATA][:8], "little")]
    text = files[CARD].decode()
    assert f"{step_size:.4g}" in text
    return {
        "files": list(files),
        "entries": entries,
        "manifest": manifest,
        "header": header,
        "card": text.replace(f"{step_size:.4g}", ""),
    }


def test_the_command_says_no_more_of_files_of_other_names_and_sizes(tmp_path, monkeypatch, capsys):
    as_if_told_by_equal_trajectories(monkeypatch)
    monkeypatch.chdir(tmp_path)
    small = {
        "data.image_size_px": 16,
        "network.width": 4,
        "distill.iterations": 2,
        "distill.images_per_class": 2,
        "teachers.recipe.sampling": "natural",
        "teachers.privacy.sample_rate": 0.2,
    } | {name: value for name, value in PROTECTED.items() if name != "teachers.privacy"}
    settings = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    found = []
    for name, count in (("a", 90), ("st-mary", 300)):
        random = np.random.default_rng(count)
        columns = {
            f"{part}_images": random.integers(0, 256, (count // share, 16, 16), dtype=np.uint8)
            for part, share in (("train", 1), ("val", 3), ("test", 3))
        }
        columns |= {
            what.replace("images", "labels"): np.arange(len(of))[:, None] % 3
            for what, of in columns.items()
        }
        np.savez(f"{name}.npz", **columns)
        words = [
            "package",
            "--profile",
            "smoke",
            "--data",
            f"{name}.npz",
            "--artifacts",
            f"artifacts-{name}",
            "--device",
            "cpu",
        ]
        assert cli.exit_code([*words, "--out", f"{name}.zip", "--no-measure", *settings]) == 0, (
            capsys.readouterr().err
        )
        found.append((tmp_path / f"{name}.zip").read_bytes())
    assert found[0] == found[1]


# ---- the scaling is public, whoever derives the study --------------------------------------------


def test_whoever_derives_a_study_gets_the_public_scaling(tmp_path):
    one = tiny_study(tmp_path, private_set(), **PROTECTED)
    public = Scaling((0.5,), (0.25,))
    scaling = lambda study: study.data.scaling
    assert (
        scaling(one)
        == scaling(one.with_(data=SETS["few"]))
        == scaling(one.with_(one.profile))
        == public
    )
    assert scaling(hospital_study(one, of_hospitals(private_set())["north"])) == public
    assert all(own.scaling == public for own in of_hospitals(one.data).values()), (
        "pictures are drawn by it"
    )
    one.data = SETS["few"]
    assert scaling(one) == public
    assert np.array_equal(
        one.tensors("train")[0].numpy(),
        (SETS["few"].train.images / 255 - 0.5).astype(np.float32) / 0.25,
    )
    plain = tiny_study(tmp_path, private_set())
    assert scaling(plain) == Scaling((0.4,), (0.1,)) and scaling(plain.with_(one.profile)) == public


def test_the_public_scaling_is_chosen_once():
    """A study derived from a derived study keeps its results under one name."""
    fixed = fixed_scaling(private_set())
    assert fixed_scaling(fixed) == fixed


def test_hospitals_do_not_take_the_guarantee_away(tmp_path):
    one = tiny_study(
        tmp_path, private_set(), **PROTECTED, **{"hospitals.changes": {"teachers.privacy": None}}
    )
    with pytest.raises(InputError, match="^hospitals.changes: teachers.privacy .*; take it out"):
        sent_packages(one, tmp_path / "sent")
    assert not (tmp_path / "sent").exists()


def test_what_is_kept_is_marked_as_local(tmp_path, monkeypatch):
    as_if_told_by_equal_trajectories(monkeypatch)
    package_of(tmp_path, private_set())
    marker = (tmp_path / "KEEP-LOCAL.txt").read_text()
    assert (
        "medddist package" in marker
        and "keep" in marker
        and all(len(line) <= 100 for line in marker.splitlines())
    )
    assert {path.name for path in (tmp_path / "sent").iterdir()} == {"x.zip"}
    tiny_study(tmp_path / "plain", private_set()).train_teachers()
    assert not (tmp_path / "plain" / "KEEP-LOCAL.txt").exists()


def test_a_record_of_scores_is_marked_as_local(tmp_path):
    from medddist.study.results import write_record

    one, plain = (
        tiny_study(tmp_path, private_set(), **PROTECTED),
        tiny_study(tmp_path, private_set()),
    )
    told, nothing = (
        json.loads(write_record("leakage", of, "cpu", tmp_path, rows=[]).read_text())
        for of in (one, plain)
    )
    assert "not covered by the guarantee" in told["local"] and "local" not in nothing


def test_a_command_under_privacy_says_what_is_local(tmp_path, capsys):
    words = [
        "prepare",
        "--out",
        str(tmp_path),
        "--profile",
        "smoke",
        "--set",
        "data.images=120",
        "--set",
        "data.image_size_px=16",
    ]
    protected = [
        "teachers.recipe.sampling=natural",
        "distill.initial_images=noise",
        "distill.selection=last",
        "teachers.privacy.noise_multiplier=1",
    ]
    assert cli.exit_code([*words, *(word for one in protected for word in ("--set", one))]) == 0
    assert "not covered by the guarantee" in capsys.readouterr().err
    assert cli.exit_code(words) == 0 and "teachers.privacy" not in capsys.readouterr().err
