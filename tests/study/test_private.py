"""A study's distillation with a guarantee, from data to released set."""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from medddist.base import processes
from medddist.base.errors import InputError
from medddist.base.tensors import load_tensors
from medddist.estimates import estimates
from medddist.method import training
from medddist.method.private import extractors
from medddist.method.private.release import SENSITIVITY, guarantee
from medddist.sharing.hospitals import hospitals
from medddist.sharing.reading import open_package
from medddist.sharing.studies import contents_of
from medddist.sharing.writing import write_package
from medddist.study import private
from medddist.study.profile import load_profile
from medddist.study.store import VERSIONS
from medddist.study.study import Study
from medddist.study.work import distillation_work, release_work, shape_of

SIZE_PX, CLASSES = 16, 3
CHANGES = {
    "distill.method": "private",
    "distill.iterations": 5,
    "data.images": None,
    "data.image_size_px": SIZE_PX,
    "data.channels": 1,
    "network.depth": 2,
}


@pytest.fixture(autouse=True)
def few_phantom_images(monkeypatch):
    """A phantom that is made at once, and no sums of another test."""
    monkeypatch.setattr("medddist.method.private.extractors.PHANTOM_IMAGES", 200)
    private._SUMS.clear()


@pytest.fixture
def source(tmp_path):
    """Write an .npz file of the images of a made-up hospital; by name, without some of them."""
    random = np.random.default_rng(0)
    labels = np.arange(90) % CLASSES
    images = (
        random.integers(0, 255, (90, SIZE_PX, SIZE_PX)) // (1 + labels)[:, None, None]
    ).astype(np.uint8)

    def written(name: str, without: int | None = None, replaced: int | None = None):
        kept = [k for k in range(70) if k != without]
        changed = images.copy()
        if replaced is not None:
            changed[replaced] = 255
        path = tmp_path / f"{name}.npz"
        parts = {"train_images": changed[kept], "train_labels": labels[kept]}
        np.savez(path, test_images=images[70:], test_labels=labels[70:], **parts)
        return path

    return written


def study(source, tmp_path, **changes) -> Study:
    """A private study of few steps."""
    return Study(load_profile("smoke", CHANGES | changes), source, tmp_path / "out", "cpu")


def sums(one: Study) -> np.ndarray:
    """What would be released, but for the noise."""
    return private._sums(one, private.public_networks(one))


def squares(moved: np.ndarray) -> int:
    """The square of a distance, in integers of any size."""
    return sum(int(x) ** 2 for x in moved.ravel())


def train_row(one: Study, source) -> int:
    """The place in the file of some training image."""
    with np.load(source) as file:
        images = file["train_images"]
    first = one.data.train.images[5].squeeze()
    return next(k for k, image in enumerate(images) if (image == first).all())


def test_one_image_less_moves_the_sums_within_the_sensitivity_and_nothing_else(source, tmp_path):
    whole = study(source("whole"), tmp_path)
    row = train_row(whole, source("whole"))
    less = study(source("less", without=row), tmp_path)
    moved = sums(whole) - sums(less)
    assert 0 < squares(moved) <= SENSITIVITY**2
    classes_moved = np.abs(moved).sum(1) > 0
    assert classes_moved.sum() == 1 and classes_moved[row % CLASSES]


def test_it_does_the_work_that_is_counted(source, tmp_path, monkeypatch):
    """Of networks that have to be trained, too."""
    one, done = study(source("one"), tmp_path), Counter()
    real, gradient = extractors.last_block, training.gradient
    each_alone = extractors.last_block_of_each

    def describing(network, theta, x):
        done["move" if x.requires_grad else "features"] += 1 if x.requires_grad else len(x)
        return real(network, theta, x)

    def describing_each(network, theta, x):
        done["features"] += len(x)
        return each_alone(network, theta, x)

    def learning(network, theta, x, *more):
        done["train"] += len(x)
        return gradient(network, theta, x, *more)

    monkeypatch.setattr(extractors, "last_block", describing)
    monkeypatch.setattr(extractors, "last_block_of_each", describing_each)
    monkeypatch.setattr(training, "gradient", learning)
    images = len(private.public_phantom_of(one)[1])
    monkeypatch.setattr("medddist.study.work.TRAINING_IMAGES", images)
    profile, shape = one.profile, shape_of(one.data)
    assert private.public_to_train(one)
    counted = release_work(profile, shape, trained=True) + distillation_work(profile, shape)
    one.distillation()
    expected = Counter()
    for unit, amount in counted.items():
        expected[unit.what] += amount
    assert done == expected and not private.public_to_train(one)


def test_its_time_is_estimated_until_it_is_done(source, tmp_path):
    one = study(source("one"), tmp_path)
    assert estimates(one, ["distill"])[0].seconds > 0
    one.distillation()
    assert estimates(one, ["distill"])[0].seconds == 0


def test_what_is_public_does_not_depend_on_the_images(source, tmp_path):
    one = study(source("one"), tmp_path)
    other = study(source("other", replaced=3), tmp_path)
    a, b = private.public_networks(one), private.public_networks(other)
    assert a.clip == b.clip and all(map(torch.equal, a.thetas, b.thetas))
    assert one.data.scaling == other.data.scaling
    settings = one.profile.distill
    starts = (private.public_set(s, settings).images for s in (one, other))
    assert torch.equal(*starts)


def test_where_the_phantom_is_the_data_the_public_one_has_other_patients(tmp_path):
    one = study("phantom", tmp_path, **{"data.images": 300})
    public = private.public_phantom_of(one)[0].numpy()
    own = one.data.standardised(one.data.train.images)
    apart = np.abs(public[:, None] - own[None]).max((2, 3, 4))
    assert apart.min() > 0.05


def test_the_sums_are_kept_in_memory_alone_and_the_release_is_drawn_once(source, tmp_path):
    one = study(source("kept"), tmp_path, seeds=[0, 1])
    released = [one.distillation(seed).distilled.images for seed in (0, 1)]
    assert not torch.equal(*released)  # other noise, other initial images
    clean = sums(one)
    again = study(source("kept"), tmp_path, seeds=[0, 1]).distillation(0)
    assert torch.equal(again.distilled.images, released[0])
    for path in (tmp_path / "out").rglob("*.safetensors"):
        for value in load_tensors(path)[0].values():
            same = value.numel() == clean.size and np.allclose(value.reshape(clean.shape), clean)
            assert not same, path


def test_data_whose_parts_look_at_all_images_are_refused(source, tmp_path):
    one = study(source("drawn"), tmp_path)
    one.data = dataclasses.replace(one.data, split="drawn")
    with pytest.raises(InputError, match="drawn by a look at all images.*data.split=hashed"):
        one.distillation()


def test_a_statement_is_of_the_release_that_the_set_was_made_of(source, tmp_path):
    one = study(source("stated"), tmp_path)
    one.distillation()
    for kept in (tmp_path / "out" / "release").rglob("result.safetensors"):
        kept.unlink()
    with pytest.raises(InputError, match="is missing, and a new one would not be the one"):
        contents_of(one)


def test_processes_at_the_same_time_draw_one_release(source, tmp_path):
    one, settings = study(source("race"), tmp_path), None
    settings, public = one.profile.distill, private.public_networks(one)
    draw = lambda _: private.release_of(one, settings, public)[0].means
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(draw, range(2))
    assert np.array_equal(first, second)


def test_an_image_of_one_hospital_less_moves_no_other_image_to_another_part(tmp_path):
    random, count = np.random.default_rng(1), 400
    columns = {
        "images": random.integers(0, 255, (count, SIZE_PX, SIZE_PX)).astype(np.uint8),
        "labels": np.arange(count) % CLASSES,
        "origin": np.arange(count) // CLASSES % 2,
    }

    def parts(without: int) -> dict[bytes, str]:
        kept = [k for k in range(300) if k != without]
        path = tmp_path / f"{without}.npz"
        train = {f"train_{name}": values[kept] for name, values in columns.items()}
        test = {f"test_{name}": values[300:] for name, values in columns.items()}
        np.savez(path, **train, **test)
        one = study(path, tmp_path)
        return {
            (name, image.tobytes()): part
            for name, own in hospitals(one.data).items()
            for part, images in own.parts().items()
            for image in images.images
        }

    whole, less = parts(-1), parts(7)
    gone = whole.keys() - less.keys()
    assert len(gone) == 1 and all(whole[key] == less[key] for key in less)


@pytest.mark.parametrize("step", ["public", "release"])
def test_a_set_depends_on_how_its_release_and_the_public_networks_are_made(
    source, tmp_path, monkeypatch, step
):
    before = study(source("again"), tmp_path).distillation_path()
    monkeypatch.setitem(VERSIONS, step, VERSIONS[step] + 1)
    assert study(source("again"), tmp_path).distillation_path() != before


def test_several_processes_are_refused_since_each_would_release(source, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    one = study(source("two"), tmp_path)
    with pytest.raises(InputError, match="private releases once.*start one process"):
        private.distilled_privately(one, one.profile.distill)


def test_a_package_from_another_folder_is_verified_and_trained_on(source, tmp_path):
    one = study(source("sent"), tmp_path, **{"distill.epsilon": 2.0})
    path = tmp_path / "elsewhere" / "set.zip"
    path.parent.mkdir()
    write_package(path, contents_of(one))
    package = open_package(path)
    stated = package.manifest.privacy.as_json()
    assert stated == guarantee(2.0, 1e-5, "image", 3 * (2 * 8 + 1)) | {"ledger": False}
    assert package.train(networks=1)
