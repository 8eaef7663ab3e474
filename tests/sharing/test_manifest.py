"""The manifest and its schema, which `python tests/sharing/test_manifest.py` publishes anew."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from medddist.base.errors import InputError
from medddist.base.files import write_json
from medddist.sharing.card import card
from medddist.sharing.manifest import MANIFEST, Manifest, manifest_from, schema
from medddist.sharing.reading import open_package

PUBLISHED = resources.files("medddist.sharing") / "manifest.schema.json"


@pytest.fixture(scope="module")
def content() -> bytes:
    import packages  # not above: the command that publishes the schema does without

    return packages.files()[MANIFEST]


@pytest.fixture
def refused(tmp_path):
    """The message that a package with this manifest is refused with, after the package's name."""
    import packages

    def open_with(content: bytes) -> str:
        path = packages.as_zip(tmp_path / "x.zip", packages.files() | {MANIFEST: content})
        with pytest.raises(InputError) as refusal:
            open_package(path)
        text = str(refusal.value)
        assert text.isprintable() and len(text) <= 600 and text.startswith(f"{path}: ")
        return text.removeprefix(f"{path}: ")

    return open_with


def changed(content: bytes, where: str, value) -> bytes:
    values = json.loads(content)
    *parents, last = where.split(".")
    inner = values
    for parent in parents:
        inner = inner[int(parent) if isinstance(inner, list) else parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(values).encode()


def test_the_published_schema_is_the_models(content):
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert published == schema(), "run: python tests/sharing/test_manifest.py"
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(content), published)


def test_a_manifest_is_read_as_it_was_written(content):
    manifest = manifest_from(content)
    assert manifest.to_bytes() == content and manifest_from(manifest.to_bytes()) == manifest
    assert manifest.shape == (6, 1, 8, 8) and manifest.training_seed == (0, "distilled", 0)


REFUSED = [
    ("format", "zip", "is not the manifest of a medddist package"),
    ("format", ..., "is not the manifest of a medddist package"),
    ("version", 3, "has version 3, and only 1 and 2 are known"),
    ("version", 0, "has version 0"),
    ("version", [2], "has version [2]"),
    ("version", {"a": 2}, "has version {'a': 2}"),
    ("version", ..., "has version None"),
    ("version", True, "has version True"),
    ("version", "2", "has version '2'"),
    ("version", 1, "storage: version 1 has float32, not uint8"),
    ("storage", "float32", "storage: version 2 has uint8, not float32"),
    ("storage", ..., "storage: version 2 has uint8, not float32"),
    ("storage", "uint16", "storage: "),
    ("more", 1, "more is not a setting"),
    ("creator", "two\nlines", "creator: holds characters that do not print"),
    ("creator", "\x1b[31mred", "creator: holds characters that do not print"),
    ("creator", "x" * 3000, "creator: "),
    ("licence", ..., "licence: "),
    ("class_names", ["a", "b", "a"], "class_names: a name is there twice"),
    ("class_names", ["a"], "class_names: "),
    ("class_names", ["a", "b"], "images: each of the 2 classes needs one number"),
    ("images", [0, 0, 0], "images: 0 are not between 1 and"),
    ("images", [2, 2, -1], "images.2: "),
    ("images", [2**22, 1, 1], f"images: {2**22 + 2} are not between 1 and {2**22}"),
    ("step_size", 0, "step_size: "),
    ("step_size", "fast", "step_size: "),
    ("pixels.std", [0.0], "pixels.std.0: "),
    ("pixels.mean", [0.1, 0.1], "pixels: mean and std need 1 values"),
    ("pixels.image_size_px", 100_000, "pixels.image_size_px: "),
    ("pixels.channels", True, "pixels.channels: should be a number"),
    ("settings.network.width", 100_000, "settings.network: wider than 1024"),
    ("settings.network.depth", 5, "settings.network: wider than 1024, or too deep for 8 px"),
    ("settings.evaluation.recipe.epochs", 10**9, "settings.evaluation: more than 100000 epochs"),
    ("settings.evaluation.networks", 10**6, "settings.evaluation: more than"),
    ("source.fingerprint", "x", "source.fingerprint: "),
    ("source.images.train", [1], "images: each of the 3 classes needs one number"),
    ("measured", "very good", "measured"),
    ("files", {}, "files: data.safetensors and README.md must be listed"),
    ("files.data", {"bytes": 1, "sha256": "0" * 64}, None),
    ("files.manifest", {"bytes": 1, "sha256": "0" * 64}, None),
]


@pytest.mark.parametrize("where, value, told", REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_named_in_one_line(content, where, value, told, refused):
    if told is None:
        assert manifest_from(changed(content, where, value))
        return
    text = refused(changed(content, where, value))
    assert text.startswith(MANIFEST) and told in text


@pytest.mark.parametrize("field", ["sha256", "bytes"])
def test_a_file_without_hash_or_size_is_refused(content, field):
    values = json.loads(content)
    del values["files"]["data.safetensors"][field]
    with pytest.raises(
        InputError, match=rf"^manifest.json: files.data.safetensors.{field}: field required"
    ):
        manifest_from(json.dumps(values).encode())


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".hidden",
        "",
        "a\nb",
        "a" * 101,
        "manifest.json",
        "manifest.sig",
    ],
)
def test_a_listed_name_may_not_lead_anywhere(content, name, refused):
    values = json.loads(content)
    values["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    assert refused(json.dumps(values).encode()).startswith("manifest.json: ")


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "not plain JSON"),
        (b"\xff\xfe", "not plain JSON"),
        (b"[1", "not plain JSON"),
        (b"[" * 100_000, "not plain JSON"),
        (b'{"version": NaN}', "NaN is not a finite number"),
        (b'{"version": 1e999}', "not a finite number"),
        (b'{"a": 1, "a": 2}', "there twice"),
        (b"1" * 10_000, "not plain JSON"),
        (b"[]", "is not the manifest"),
        (b"null", "is not the manifest"),
        (b"{}", "is not the manifest"),
    ],
)
def test_what_is_not_plain_json_is_refused(content, told, refused):
    text = refused(content)
    assert text.startswith(MANIFEST) and told in text


# ---- a guarantee ---------------------------------------------------------------------------------

GUARANTEE = {
    "epsilon": 3.83,
    "delta": 1e-5,
    "unit": "training image",
    "composed": {"teachers": 2, "steps": 40},
    "noise_multiplier": 1.0,
    "max_grad_norm": 1.0,
    "sample_rate": 0.2,
    "sampling": "Poisson",
    "accountant": "by hand",
}
HOLDS = {
    "privacy": GUARANTEE,
    "source": {"fingerprint": "withheld", "images": {}},
    "pixels.mean": [0.5],
    "pixels.std": [0.25],
    "settings.distillation.initial_images": "noise",
    "settings.distillation.selection": "last",
    "settings.distillation.iterations": 7,
    "selected_iteration": 7,
}


def guaranteed(content: bytes, **changes) -> bytes:
    for where, value in (HOLDS | changes).items():
        content = changed(content, where, value)
    return content


BESIDE = [
    ("pixels.mean", [0.47387], "pixels.mean has to be 0.5 and pixels.std 0.25"),
    ("pixels.std", [0.2501], "pixels.mean has to be 0.5 and pixels.std 0.25"),
    ("source", {"fingerprint": "0" * 32, "images": {}}, "beside exact figures of the real images"),
    (
        "source",
        {"fingerprint": "withheld", "images": {"train": [1, 1, 1]}},
        "beside exact figures of the real images",
    ),
    ("audit", {"membership": {}}, "beside exact figures of the real images"),
    ("settings.distillation.initial_images", "real", "did not start from noise"),
    ("settings.distillation.selection", "validation", "did not start from noise, or was chosen"),
    ("selected_iteration", 3, "not that of the last iteration"),
]


@pytest.mark.parametrize("where, value, told", BESIDE, ids=lambda value: str(value)[:40])
def test_a_guarantee_is_refused_beside_what_it_does_not_cover(content, where, value, told, refused):
    """When verified, in a package made by hand, and when written."""
    assert manifest_from(guaranteed(content)).privacy.epsilon == 3.83
    spoilt = guaranteed(content, **{where: value})
    text = refused(spoilt)
    assert text.startswith("manifest.json: ") and "privacy: is stated" in text and told in text
    with pytest.raises(ValueError, match="privacy: is stated"):
        Manifest.model_validate(json.loads(spoilt))


RELEASE = {
    "epsilon": 1.0,
    "delta": 1e-5,
    "unit": "patient",
    "neighbours": "one more or one less",
    "mechanism": "discrete Gaussian noise on clipped sums, released once",
    "noise_scale": 4.0452 * 2**20,
    "sensitivity": 2**20,
    "numbers": 2052,
    "accountant": "by hand",
}
RELEASED = {
    "privacy": RELEASE,
    "source": {"fingerprint": "withheld", "images": {}},
    "pixels.mean": [0.5],
    "pixels.std": [0.25],
    "settings.distillation.method": "private",
    "settings.distillation.epsilon": 1.0,
    "settings.distillation.delta": 1e-5,
}


def released(content: bytes, **changes) -> bytes:
    for where, value in (RELEASED | changes).items():
        content = changed(content, where, value)
    return content


@pytest.mark.parametrize(
    "where, value, told",
    [
        ("privacy.epsilon", 0.5, "epsilon 0.5 does not follow from noise_scale and sensitivity"),
        ("privacy.noise_scale", 2.0**20, "which give 4.7"),
        ("privacy.delta", 1e-9, "does not follow"),
        ("privacy.mechanism", "noise from a seed", "privacy"),
        ("privacy.neighbours", "one image replaced", "privacy"),
        ("privacy.noise_seed", 3, "noise_seed"),
        ("pixels.mean", [0.47387], "pixels.mean has to be 0.5"),
        ("settings.distillation.method", "real_loss", "method has to be private"),
        ("settings.distillation.epsilon", 8.0, "not those of settings.distillation"),
        ("source", {"fingerprint": "0" * 32, "images": {}}, "beside exact figures"),
        ("audit", {"membership": {}}, "beside exact figures"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_release_whose_guarantee_does_not_follow_is_refused(content, where, value, told, refused):
    assert manifest_from(released(content)).privacy.unit == "patient"
    text = refused(released(content, **{where: value}))
    assert text.startswith("manifest.json: ") and told in text and "\n" not in text


def test_the_card_says_what_a_release_guarantees(content):
    text = card(manifest_from(released(content)))
    assert "Differential privacy for one patient, with epsilon 1 and delta 1e-05" in text
    assert "no ledger was used" in text and "numbers of images are covered" in " ".join(
        text.split()
    )
    kept = card(manifest_from(released(content, **{"privacy.ledger": True})))
    assert "The owner keeps a ledger" in kept


# ---- the card ------------------------------------------------------------------------------------


def test_the_card_asks_the_questions_of_a_datasheet(content):
    text = card(manifest_from(content))
    for section in (
        "Motivation",
        "Composition",
        "Collection process",
        "Preprocessing",
        "Uses",
        "Distribution",
        "Maintenance",
        "Audit",
    ):
        assert f"\n## {section}\n" in text
    assert (
        "anonym" not in text.lower()
        and "$" not in text
        and "Not measured." in text
        and "| a | 2 | 8 | 3 | 6 |" in text
    )


def of_start(content: bytes, iteration: int, initial: str, copies: object) -> str:
    content = changed(content, "selected_iteration", iteration)
    content = changed(content, "settings.distillation.initial_images", initial)
    return card(manifest_from(changed(content, "copies", copies)))


def test_the_card_says_when_images_are_real_ones_unchanged(content):
    none, all_six = ({"images": count, "nearer_to_training": 3, "compared": 6} for count in (0, 6))
    learned = of_start(content, 3, "real", none)
    copied = of_start(content, 0, "real", all_six)
    noise = of_start(content, 0, "noise", "not compared")
    assert "6 of 6 are real images, unchanged" in copied
    assert "are real images, unchanged" not in learned + noise
    assert "Each started as a copy of a real image" in learned
    assert "They started from noise" in noise and "The initial images" in noise
    assert "Images that were learned" in learned and "Images that were learned" not in noise


def test_the_senders_words_stay_words(content):
    text = card(
        manifest_from(
            changed(content, "creator", "A <script>|b| [x](javascript:y) $total ${total}")
        )
    )
    assert "<script>" not in text and "[x](" not in text and "A &lt;script&gt;\\|b\\|" in text


def test_no_name_of_a_setting_is_lost(content):
    assert set(json.loads(content)) == set(Manifest.model_fields)


if __name__ == "__main__":
    write_json(Path(str(PUBLISHED)), schema())
    print(f"{PUBLISHED.name} written", file=sys.stderr)
