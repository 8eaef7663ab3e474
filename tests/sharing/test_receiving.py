"""From one clone to another with nothing but the .zip: packed, verified, trained on, and the
networks kept.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import packages
import pytest
import torch
from safetensors.torch import load_file
from test_cli import TINY, options, run
from test_study import made_up, tiny_study

from medddist.base.errors import InputError
from medddist.data.scaling import Scaling
from medddist.measure import metrics
from medddist.sharing import receiving
from medddist.sharing.reading import open_package
from medddist.sharing.receiving import own_data
from medddist.sharing.studies import contents_of, measured
from medddist.sharing.writing import write_package
from medddist.study.profile import changes_from, load_profile
from medddist.study.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(
        load_profile("smoke", changes_from(TINY)),
        "phantom",
        tmp_path_factory.mktemp("artifacts"),
        "cpu",
    )


@pytest.fixture(scope="module")
def sent(study) -> Path:
    path = study.out / "sent.zip"
    stated = {"creator": "A hospital"}
    write_package(path, contents_of(study), stated=stated, measured=measured(study))
    return path


def command(study: Study, *words: str) -> list[str]:
    return [*words, *("--artifacts" if word == "--out" else word for word in options(study.out))]


def test_the_same_study_is_the_same_zip(capsys, study, sent, tmp_path):
    code, out, _ = run(
        capsys,
        *command(study, "package", "--out", str(tmp_path / "x.zip"), "--creator", "A hospital"),
        "--json",
    )
    said = json.loads(out)
    assert code == 0 and (tmp_path / "x.zip").read_bytes() == sent.read_bytes()
    assert (
        said["id"] == open_package(sent).id
        and said["images"] == [2, 2, 2, 2]
        and not said["signed"]
    )


@pytest.mark.parametrize("option, step", [("--measure", "evaluate"), ("--no-measure", "distill")])
def test_a_package_is_announced_by_what_it_computes(option, step, study, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("medddist.estimates.announcement", lambda _, to: asked.append(to) or "x")
    monkeypatch.setattr("medddist.sharing.studies.contents_of", lambda _: pytest.fail("too early"))
    with pytest.raises(pytest.fail.Exception):
        run(capsys, *command(study, "package", "--out", "x.zip", option))
    assert asked == [step] and "package: x" in capsys.readouterr().err


def test_it_says_what_the_set_is_worth(study, sent):
    manifest = open_package(sent).manifest
    assert [row.label for row in manifest.measured][0] == "distilled images" and len(
        manifest.measured
    ) == 4
    assert (
        manifest.measured[0].accuracy.mean == study.scored("distilled").scores["accuracy"]["mean"]
    )
    assert (
        manifest.source.fingerprint == study.data.fingerprint
        and sum(map(sum, manifest.source.images.values())) == 240
    )
    assert torch.__version__.startswith(manifest.made_with["torch"])


def test_of_several_seeds_the_firsts_set_is_sent_and_measured(study, sent):
    both = Study(
        load_profile("smoke", changes_from([*TINY, "seeds=[0,1]"])), "phantom", study.out, "cpu"
    )
    stated = {"creator": "A hospital"}
    path = study.out / "both.zip"
    write_package(path, contents_of(both), stated=stated, measured=measured(both))
    assert (study.out / "both.zip").read_bytes() == sent.read_bytes()


def test_the_receivers_networks_are_the_senders(study, sent):
    trained = open_package(sent).train(device="cpu")
    assert np.array_equal(
        trained.probabilities(study.data.test.images), study.scored("distilled").probabilities
    )
    assert (
        trained.scores(study.data, resamples=200)["accuracy"]
        == study.scored("distilled").scores["accuracy"]
    )


def test_another_seed_is_another_package(study, sent, tmp_path):
    other = Study(
        load_profile("smoke", changes_from([*TINY, "seeds=[1]"])), "phantom", study.out, "cpu"
    )
    write_package(tmp_path / "x.zip", contents_of(other), stated={"creator": "A hospital"})
    assert (
        open_package(tmp_path / "x.zip").manifest.seed == 1
        and open_package(tmp_path / "x.zip").manifest.measured == "not measured"
    )


def test_verify_and_train_from_the_command_line(capsys, sent, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    here.mkdir()
    (here / "it.zip").write_bytes(sent.read_bytes())
    monkeypatch.chdir(here)
    code, out, _ = run(capsys, "verify", "it.zip", "--json")
    assert code == 0 and json.loads(out)["id"] == open_package(sent).id
    words = [
        "train",
        "it.zip",
        "--data",
        "phantom",
        "--set",
        "data.images=240",
        "--networks",
        "2",
        "--out",
        "mine",
        "--device",
        "cpu",
    ]
    code, out, err = run(capsys, *words, "--json")
    said = json.loads(out)
    assert (
        code == 0
        and {"accuracy", "balanced_accuracy", "per_class", "confusion"} <= said.keys()
        and said["networks"] == 2
    )
    weights = load_file("mine/network_1.safetensors")
    network = open_package("it.zip").network()
    network.module.load_state_dict(weights)
    assert json.loads(Path("mine/about.json").read_text())["package"] == said["package"]
    assert set(said["files"]) == {f"mine/{path.name}" for path in Path("mine").iterdir()}


def test_what_is_kept_gives_the_same_answers(sent, tmp_path, study):
    trained = open_package(sent).train(1, "cpu")
    (tmp_path / "network_7.safetensors").write_bytes(b"of an earlier training")
    not_ours = [tmp_path / "network_notes.txt", tmp_path / "network_best.onnx"]
    for path in not_ours:
        path.write_text("somebody's own")
    trained.save(tmp_path)
    assert not (tmp_path / "network_7.safetensors").exists()
    assert all(path.exists() for path in not_ours)
    network = open_package(sent).network()
    network.module.load_state_dict(load_file(tmp_path / "network_0.safetensors"))
    pixels = study.data.test.images[:7]
    with torch.no_grad():
        said = network.module(torch.from_numpy(study.data.standardised(pixels))).softmax(1).numpy()
    np.testing.assert_allclose(said, trained.probabilities(pixels)[0], atol=1e-5)


def test_onnx_gives_torchs_answers(sent, tmp_path, study):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: the exported network is not run"
    )
    pytest.importorskip("onnx", reason="onnx is not installed: no network is exported")
    trained = open_package(sent).train(1, "cpu")
    trained.save(tmp_path)
    session = onnxruntime.InferenceSession(
        tmp_path / "network_0.onnx", providers=["CPUExecutionProvider"]
    )
    for pixels in (study.data.test.images[:1], study.data.test.images[:9]):
        (said,) = session.run(None, {"pixels": pixels.astype(np.float32) / 255})
        np.testing.assert_allclose(said, trained.probabilities(pixels)[0], atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(study.data.class_names)
    assert about["package"] == open_package(sent).id


def test_without_onnx_the_weights_are_kept_alone(sent, tmp_path, monkeypatch):
    monkeypatch.setattr(receiving.importlib.util, "find_spec", lambda name: None)
    open_package(sent).train(1, "cpu").save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"network_0.safetensors", "about.json"}


# ---- refusals ------------------------------------------------------------------------------------


def named(monkeypatch, *names: str):
    """The receiver's data with these class names."""
    data = dataclasses.replace(packages.data(), class_names=names)
    monkeypatch.setattr(receiving, "load_data", lambda *_, **__: data)
    return data


@pytest.fixture
def small(tmp_path):
    return open_package(packages.as_zip(tmp_path / "x.zip", packages.files()))


def test_classes_that_are_others_are_refused(small, monkeypatch):
    named(monkeypatch, "a", "b", "d")
    reason = "its classes are a, b, d, the package's are a, b, c"
    with pytest.raises(InputError, match=f"^mine: {reason}; give both the same names$"):
        own_data(small.manifest, "mine")


def test_classes_in_another_order_are_put_in_the_packages(small, monkeypatch):
    theirs = named(monkeypatch, "c", "a", "b")
    mine = own_data(small.manifest, "mine")
    assert mine.class_names == ("a", "b", "c")
    assert [mine.class_names[k] for k in mine.test.labels] == [
        theirs.class_names[k] for k in theirs.test.labels
    ]


def test_pixels_are_scaled_as_the_package_says_and_not_as_the_receivers(small):
    trained = small.train(1, "cpu")
    brighter = dataclasses.replace(packages.data(), scaling=Scaling((0.9,), (0.5,)))
    assert np.array_equal(
        trained.scores(brighter, 100)["confusion"],
        trained.scores(packages.data(), 100)["confusion"],
    )
    ours = metrics.score(
        trained.probabilities(brighter.test.images),
        brighter.test.labels,
        brighter.test.groups,
        "abc",
        resamples=100,
    )
    assert ours == trained.scores(brighter, 100)


@pytest.mark.parametrize(
    "words, told",
    [
        (["verify", "none.zip"], "none.zip: does not exist"),
        (["verify", "{sent}", "--expect", "0" * 64], "not the expected"),
        (["verify", "{sent}", "--key", "none.pem"], "is not signed"),
        (["train", "{sent}", "--data", "no/such/folder"], "no/such/folder"),
        (
            ["train", "{sent}", "--data", "phantom", "--set", "evaluate.networks=1"],
            "change only how the data are read",
        ),
        (
            ["train", "{sent}", "--data", "phantom", "--set", "data.colour=1"],
            "colour is not a setting",
        ),
        (
            ["train", "{sent}", "--data", "phantom", "--set", "data.channels=3"],
            "data.channels: is the package's, 1",
        ),
        (["train", "{sent}"], "--data"),
        (["train", "{sent}", "--data", "phantom", "--device", "abacus"], "abacus"),
        (["package"], "--out"),
        (["package", "--out", "x.tar"], "x.tar: is not the name of a .zip file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(capsys, sent, words, told):
    code, out, err = run(capsys, *(word.format(sent=sent) for word in words))
    assert (
        (code, out) == (2, "")
        and told in err.splitlines()[-1]
        and err.splitlines()[-1].startswith("medddist: error: ")
    )


def test_a_set_that_diverges_is_named(tmp_path):
    one = packages.released()
    wild = packages.Distilled(one.images, one.labels, torch.tensor(1e30).log())
    path = packages.as_zip(
        tmp_path / "x.zip", packages.packed(wild, packages.data(), packages.about())
    )
    with pytest.raises(InputError, match="training on it diverges at its step size 1e"):
        open_package(path).train(1, "cpu")


NAME = "0123456789abcdef" * 2


# ---- copies of real images -----------------------------------------------------------------------


def opened(path: Path):
    """A package's manifest, and the text of its card."""
    return open_package(path).manifest, zipfile.ZipFile(path).read("README.md").decode()


LEARNS_NOTHING = {
    "distill.learning_rate_images": 0.0,
    "distill.selection": "last",
    "distill.iterations": 2,
}


def test_initial_images_that_validation_chose_are_refused_with_a_way_that_works(tmp_path):
    one = tiny_study(tmp_path / "artifacts", made_up(fingerprint=NAME), **LEARNS_NOTHING)
    contents = contents_of(one)
    chosen = dataclasses.replace(contents.distillation, selected_iteration=0)
    contents = dataclasses.replace(contents, distillation=chosen)
    with pytest.raises(InputError, match="validation chose the initial images.*selection=last"):
        write_package(tmp_path / "x.zip", contents)


def test_real_images_are_not_sent_by_mistake_whatever_the_iteration(tmp_path):
    """Pixels decide: here nothing was learned of the images, and the last iteration is what is
    released.
    """
    one = tiny_study(tmp_path / "artifacts", made_up(fingerprint=NAME), **LEARNS_NOTHING)
    with pytest.raises(
        InputError,
        match="^package: 6 of 6 images are real ones, unchanged or nearly so .*--allow-copies",
    ):
        write_package(tmp_path / "x.zip", contents_of(one))
    assert not (tmp_path / "x.zip").exists()
    write_package(tmp_path / "x.zip", contents_of(one), allow_copies=True)
    manifest, text = opened(tmp_path / "x.zip")
    assert manifest.selected_iteration == 2 and manifest.copies.images == 6
    assert "6 of 6 are real images, unchanged or nearly so" in text and "Yes: " in text
    assert "Images that were learned" not in text and "an equal number of unseen images" in text


def moved(one, levels: float, first: int = 0):
    """A package's contents as if each image from `first` on were a training image with every pixel
    changed by so many of 255 levels.
    """
    contents = contents_of(one)
    result, data = contents.distillation, contents.data
    real = data.train.images[:6].astype(np.float32)
    others = np.where(real > 127, real - levels, real + levels)
    images = torch.from_numpy((others / 255 - data.scaling.mean[0]) / data.scaling.std[0]).float()
    images[:first] = torch.randn(images[:first].shape, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(data.train.labels[:6])
    released = dataclasses.replace(result.distilled, images=images, labels=labels)
    result = dataclasses.replace(result, distilled=released, selected_iteration=4)
    return dataclasses.replace(contents, distillation=result)


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Study:
    return tiny_study(tmp_path_factory.mktemp("copied"), made_up(fingerprint=NAME))


@pytest.mark.parametrize(
    "levels, first, count", [(0, 0, 6), (2, 0, 6), (3, 0, 0), (2, 5, 1), (30, 0, 0)]
)
def test_an_image_within_two_levels_of_a_real_one_is_a_copy(copied, tmp_path, levels, first, count):
    contents = moved(copied, levels, first)
    if count:
        with pytest.raises(InputError, match=f"^package: {count} of 6 images are real ones"):
            write_package(tmp_path / "x.zip", contents)
    write_package(tmp_path / "x.zip", contents, allow_copies=bool(count))
    manifest, text = opened(tmp_path / "x.zip")
    assert manifest.copies.images == count
    assert ("Images that were learned" in text) == (not count) and (
        f"{count} of 6 are real" in text
    ) == bool(count)
    near, compared = manifest.copies.nearer_to_training, manifest.copies.compared
    assert f"Of {compared} compared, {near} " in text


def test_the_phantom_is_of_no_patient_and_its_card_says_so(tmp_path):
    """Its images may be sent as they are."""
    data = dataclasses.replace(made_up(fingerprint=NAME), source="phantom")
    one = tiny_study(tmp_path / "artifacts", data, **LEARNS_NOTHING)
    contents = contents_of(one)
    with pytest.raises(InputError, match="--allow-copies"):
        write_package(tmp_path / "x.zip", contents)  # a folder of that name is not the phantom
    simulated = dataclasses.replace(contents, data=dataclasses.replace(data, is_phantom=True))
    write_package(tmp_path / "x.zip", simulated)
    manifest, text = opened(tmp_path / "x.zip")
    assert manifest.simulated and manifest.copies.images == 6
    assert "no patient data" in text and "Simulated images, 6 of 6 unchanged" in text
    assert "real images" not in text


def test_under_a_guarantee_nothing_is_compared(tmp_path, monkeypatch):
    """Whether a package is written would itself tell of a single image, and the guarantee does not
    cover it.
    """
    pytest.importorskip("opacus")
    from test_privacy import PROTECTED, as_if_told_by_equal_trajectories

    as_if_told_by_equal_trajectories(monkeypatch)
    one = tiny_study(tmp_path / "artifacts", **PROTECTED)
    write_package(tmp_path / "x.zip", moved(one, 0))
    manifest, text = opened(tmp_path / "x.zip")
    assert manifest.copies == "not compared"
    assert "How near they are to real images is withheld" in text
    assert "unseen images" not in text and "the 0 test images" not in text


def test_what_cannot_be_stated_is_refused(study, tmp_path):
    with pytest.raises(InputError, match="^package: creator: holds characters that do not print"):
        write_package(tmp_path / "x.zip", contents_of(study), stated={"creator": "two\nlines"})


def test_keys_from_the_command_line(capsys, study, tmp_path):
    code, out, _ = run(capsys, "package-key", str(tmp_path / "keys"), "--json")
    assert code == 0 and Path(json.loads(out)["public"]).is_file()
    signing = ["--sign-with", str(tmp_path / "keys" / "private.pem"), "--no-measure"]
    code, _, _ = run(capsys, *command(study, "package", "--out", str(tmp_path / "x.zip"), *signing))
    assert code == 0
    code, out, _ = run(
        capsys, "verify", str(tmp_path / "x.zip"), "--key", str(tmp_path / "keys" / "public.pem")
    )
    assert (
        code == 0
        and json.loads(run(capsys, "package-key", str(tmp_path / "more"), "--json")[1])[
            "fingerprint"
        ]
        not in out
    )
    code, _, err = run(
        capsys, "verify", str(tmp_path / "x.zip"), "--key", str(tmp_path / "more" / "public.pem")
    )
    assert code == 2 and "manifest.sig: is not by the key" in err


def test_an_audit_is_told_as_it_was_measured(study, tmp_path):
    low, high = {"low": 0.1, "high": 0.4, "level": 0.95}, {"low": 0.4, "high": 0.7, "level": 0.95}
    row = {
        "true_positives": {"count": 2, "of": 8, "share": 0.25, **low},
        "by_chance": [0, 3],
        "auc": {"auc": 0.55, **high},
    }
    told = {
        "seed": 0,
        "settings": {"false_positives": 0.01},
        "neighbours": {},
        "membership": {
            "loss": {
                "released": {"starting": row, "unseen": row},
                "positive_control": {"control": row, "unseen": row},
            }
        },
    }
    told["broken"] = ["the loss attack is too weak"]
    write_package(tmp_path / "x.zip", contents_of(study), audit=told)
    manifest, text = opened(tmp_path / "x.zip")
    assert manifest.audit == told
    assert (
        "the loss attack is too weak. Membership" in text
        and "| loss | those it started from | 2 of 8 | [0.100, 0.400] | 0 to 3 |" in text
    )
