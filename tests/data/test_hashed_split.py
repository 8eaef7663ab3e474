"""The split in which no image has a say in another's part: data.split hashed.

Sources are written, read, and read again with one image or one patient more or less.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medddist import data as data_module
from medddist.base.errors import InputError
from medddist.data import Data, load_data, splits
from medddist.data.collection import TEST, TRAIN, VALIDATION
from medddist.data.phantom.generate import PhantomSettings, make_phantom

CLASSES = ("sick", "well")
PARTS = {"train": "train", "validation": "val", "test": "test"}  # folders and arrays of each part
SHARES = {"test_fraction": 0.3, "validation_fraction": 0.3}
SIDE = 8


@dataclass(frozen=True)
class Row:
    """One image: the number of its pixels, its class, its patient and its given part."""

    pixels: int
    label: int
    patient: str = ""
    part: str = "train"

    @property
    def image(self) -> np.ndarray:
        return noise(SIDE, SIDE, seed=self.pixels)


# ---- sources -------------------------------------------------------------------------------------


def png(row: Row, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(row.image).save(path)


def folder(rows: list[Row], at: Path) -> Path:
    for k, row in enumerate(rows):
        png(row, at / CLASSES[row.label] / f"{k}.png")
    return at


def split_folder(rows: list[Row], at: Path) -> Path:
    for k, row in enumerate(rows):
        png(row, at / PARTS[row.part] / CLASSES[row.label] / f"{k}.png")
    return at


def labels_csv(rows: list[Row], at: Path, columns=("patient",)) -> Path:
    lines = [",".join(("file", "label", *columns))]
    for k, row in enumerate(rows):
        png(row, at / f"{k}.png")
        known = {"patient": row.patient, "split": PARTS[row.part]}
        lines.append(",".join((f"{k}.png", CLASSES[row.label], *(known[c] for c in columns))))
    (at / "labels.csv").write_text("\n".join(lines))
    return at


def npz(rows: list[Row], at: Path, groups=False, parts=tuple(PARTS)) -> Path:
    arrays = {}
    for part in parts:
        mine, name = [row for row in rows if row.part == part], PARTS[part]
        arrays[f"{name}_images"] = np.array([row.image for row in mine])
        arrays[f"{name}_labels"] = np.array([row.label for row in mine])
        if groups:
            arrays[f"{name}_group"] = np.array([row.patient for row in mine])
    np.savez(at / "set.npz", **arrays)
    return at / "set.npz"


Write = Callable[[list[Row], Path], Path]
# The npz has no validation part of its own: the hash takes it from training.
OPEN: dict[str, Write] = {
    "folder": folder,
    "labels.csv": labels_csv,
    "npz": functools.partial(npz, parts=("train", "test")),
    "npz with groups": functools.partial(npz, groups=True, parts=("train", "test")),
}
GIVEN: dict[str, Write] = {
    "folder": split_folder,
    "labels.csv": functools.partial(labels_csv, columns=("patient", "split")),
    "npz": npz,
    "npz with groups": functools.partial(npz, groups=True),
}


def read(write: Write, rows: list[Row], split: str = "hashed", **changes) -> Data:
    with tempfile.TemporaryDirectory() as at:
        return load_data(write(rows, Path(at)), SIDE, split=split, **SHARES, **changes)


Listed = dict[str, list[tuple[bytes, int]]]


def listed(data: Data) -> Listed:
    """Pixels and class of each row of each part, in order."""
    return {
        name: [(image.tobytes(), int(k)) for image, k in zip(part.images, part.labels)]
        for name, part in data.parts().items()
    }


def without(after: Listed, rows: list[Row]) -> Listed:
    gone = {(row.image.tobytes(), row.label) for row in rows}
    return {name: [row for row in part if row not in gone] for name, part in after.items()}


def home_of_one_more(before: Listed, after: Listed) -> str:
    """The part that has one row more, if nothing else changed; "" otherwise."""
    changed = [name for name in after if after[name] != before[name]]
    for name in changed if len(changed) == 1 else ():
        rows = after[name]
        if any(rows[:k] + rows[k + 1 :] == before[name] for k in range(len(rows))):
            return name
    return ""


def base(copies: bool = False) -> list[Row]:
    """80 images of 1 to 3 per patient; every tenth has no patient; a fifth is given for test."""
    patients = np.repeat(np.arange(80), np.arange(80) % 3 + 1)[:80].tolist()
    names = ["" if k % 10 == 0 else f"p{patient}" for k, patient in enumerate(patients)]
    part = {3: "test"}
    rows = [
        Row(k, patients[k] % 2, names[k], part.get(patients[k] % 5, "train")) for k in range(80)
    ]
    if copies:
        rows += [replace(rows[k], patient=f"q{k}") for k in (1, 2, 7, 8)]
    return rows


@functools.cache
def base_parts(kind: str) -> Listed:
    return listed(read(OPEN[kind], base()))


new_rows = st.builds(
    Row,
    pixels=st.integers(1000, 10**6),
    label=st.integers(0, 1),
    patient=st.sampled_from(["", "p1", "p2", "p79", "a new one", "p" * 40]),
    part=st.sampled_from(["train", "test"]),
)


# ---- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPEN)
@settings(max_examples=12)
@given(new=new_rows, at=st.integers(0, 80))
def test_an_added_image_changes_no_other_images_part_or_place(kind, new, at):
    rows = base()
    after = listed(read(OPEN[kind], [*rows[:at], new, *rows[at:]]))
    assert sum(map(len, after.values())) == 81
    assert without(after, [new]) == base_parts(kind)


@pytest.mark.parametrize("kind", OPEN)
@settings(max_examples=12)
@given(at=st.integers(0, 79))
def test_a_removed_image_changes_no_other_images_part_or_place(kind, at):
    rows = base()
    after = listed(read(OPEN[kind], rows[:at] + rows[at + 1 :]))
    assert after == without(base_parts(kind), [rows[at]])


@pytest.mark.parametrize("kind", ["labels.csv", "npz with groups"])
@settings(max_examples=12)
@given(patient=st.sampled_from(sorted({row.patient for row in base()} - {""})))
def test_a_removed_patient_changes_no_other_patients_part_or_place(kind, patient):
    rows = base()
    mine = [row for row in rows if row.patient == patient]
    after = listed(read(OPEN[kind], [row for row in rows if row.patient != patient]))
    assert after == without(base_parts(kind), mine)


@pytest.mark.parametrize("kind", ["labels.csv", "npz with groups"])
@settings(max_examples=12)
@given(
    pixels=st.lists(st.integers(1000, 10**6), min_size=1, max_size=4, unique=True),
    places=st.lists(st.integers(0, 80), min_size=4, max_size=4),
)
def test_an_added_patient_changes_no_other_patients_part_or_place(kind, pixels, places):
    rows, new = base(), [Row(k, k % 2, "a new one") for k in pixels]
    for row, at in zip(new, places):
        rows.insert(at, row)
    data = read(OPEN[kind], rows)
    assert without(listed(data), new) == base_parts(kind)
    gone = {row.image.tobytes() for row in new}
    homes = {name for name, part in listed(data).items() for pixels, _ in part if pixels in gone}
    assert len(homes) == 1, "a patient is in one part"


@functools.cache
def phantom_of_240():
    return make_phantom(PhantomSettings(images=240, image_size_px=16))


@settings(max_examples=12)
@given(patient=st.integers(0, 130))
def test_a_phantom_of_other_patients_keeps_the_parts_of_the_rest(patient):
    made = phantom_of_240()
    rest = made.patients != patient
    columns = ("images", "labels", "patients", "sites")
    fewer = replace(made, **{name: getattr(made, name)[rest] for name in columns})
    load = lambda: load_data("phantom", 16, split="hashed", **SHARES)
    with mock.patch.object(data_module, "make_phantom", lambda _: made):
        before = listed(load())
    with mock.patch.object(data_module, "make_phantom", lambda _: fewer):
        after = listed(load())
    gone = {image.tobytes() for image in made.images[~rest]}
    kept = {k: [row for row in part if row[0] not in gone] for k, part in before.items()}
    assert after == kept and sum(map(len, before.values())) == 240


def test_a_larger_phantom_keeps_the_parts_of_a_smaller_one():
    small, large = (
        load_data("phantom", 16, images=n, split="hashed", **SHARES) for n in (150, 151)
    )
    for name, part in listed(large).items():
        assert part[: len(listed(small)[name])] == listed(small)[name]


@pytest.mark.parametrize("kind", OPEN)
@settings(max_examples=12)
@given(at=st.integers(0, 80), data=st.data())
def test_an_exact_copy_stays_and_changes_nothing_else(kind, at, data):
    rows, before = base(), base_parts(kind)
    train = [row for row in rows if (row.image.tobytes(), row.label) in before["train"]]
    copy = replace(data.draw(st.sampled_from(train)), patient="a new one")
    after = listed(read(OPEN[kind], [*rows[:at], copy, *rows[at:]]))
    part = home_of_one_more(before, after)
    assert part
    if kind in ("folder", "npz"):
        assert part == "train", "without patients, equal pixels decide alike"


@pytest.mark.parametrize("kind", OPEN)
def test_a_drawn_split_would_fail_these_tests(kind):
    rows = base()
    before = listed(read(OPEN[kind], rows, "drawn"))
    news = [Row(1000 + k, k % 2, "a new one") for k in range(6)]
    after = [listed(read(OPEN[kind], [*rows, new], "drawn")) for new in news]
    assert any(without(parts, [new]) != before for new, parts in zip(news, after))
    copies = [replace(row, part="train", patient="a new one") for row in rows if row.part == "test"]
    after = [listed(read(OPEN[kind], [*rows, copy], "drawn")) for copy in copies[:6]]
    assert not all(home_of_one_more(before, parts) for parts in after)


# ---- a given split -------------------------------------------------------------------------------


def given_rows() -> list[Row]:
    """Patients and copies in all parts, in an order that mixes the parts."""
    part = ("train", "train", "validation", "test")
    rows = [replace(row, part=part[k // 2 % 4]) for k, row in enumerate(base())]
    return rows + [replace(row, part=part[(k + 1) % 4]) for k, row in enumerate(rows[:12])]


@pytest.mark.parametrize("kind", GIVEN)
def test_a_given_split_is_kept_row_by_row(kind):
    rows = given_rows()
    ordered = sorted(rows, key=lambda row: row.label) if kind == "folder" else rows
    expected = {
        part: [(row.image.tobytes(), row.label) for row in ordered if row.part == part]
        for part in PARTS
    }
    data = read(GIVEN[kind], rows)
    assert listed(data) == expected
    assert any("are kept, with their patient or a copy in a later part" in n for n in data.notes)
    assert sum(map(len, listed(read(GIVEN[kind], rows, "drawn")).values())) < len(rows)


def test_the_validation_part_that_an_npz_leaves_open_comes_out_of_training_alone():
    rows = base()
    parts = base_parts("npz")
    given_test = [(row.image.tobytes(), row.label) for row in rows if row.part == "test"]
    assert parts["test"] == given_test and len(parts["validation"]) > 5


@pytest.mark.parametrize("kind", ["folder", "labels.csv"])
def test_a_split_given_without_validation_is_refused_and_not_completed(kind):
    """An image given for validation would otherwise decide where the others go."""
    with pytest.raises(InputError, match="none of them is in the validation part.* given split"):
        read(GIVEN[kind], base())
    assert len(read(GIVEN[kind], base(), "drawn").validation)


# ---- the hash ------------------------------------------------------------------------------------


@pytest.mark.parametrize("test, validation", [(0.2, 0.1), (0.5, 0.5), (0, 0.1), (0.05, 0.9)])
def test_fractions_are_about_right(test, validation):
    count = 20_000
    units, parts = splits.named(np.arange(count)), np.zeros(count, np.int8)
    for seed in range(3):
        dealt = splits.hashed(units, parts, test, validation, seed)
        for part, p in ((TEST, test), (VALIDATION, (1 - test) * validation)):
            deviation = (count * p * (1 - p)) ** 0.5
            assert abs((dealt == part).sum() - count * p) <= 5 * deviation


def test_fractions_of_a_source_are_about_right():
    data = load_data("phantom", 16, images=900, split="hashed")
    counts = [len(np.unique(part.groups)) for part in data.parts().values()]
    total = sum(counts)
    for count, p in zip(counts, (0.72, 0.08, 0.2)):
        assert abs(count - total * p) <= 4 * (total * p * (1 - p)) ** 0.5


def test_another_seed_gives_another_split_and_the_same_one_the_same():
    units, parts = splits.named(np.arange(2000)), np.zeros(2000, np.int8)
    first, again, other = (splits.hashed(units, parts, 0.5, 0.5, seed) for seed in (0, 0, 10**30))
    assert (first == again).all()
    both = ((first == TEST) & (other == TEST)).sum()
    assert abs(both - 500) <= 5 * (2000 * 0.25 * 0.75) ** 0.5, "as of independent draws"
    one, two = (listed(read(folder, base(), seed=seed)) for seed in (0, 1))
    assert one == base_parts("folder") != two


def test_given_parts_are_not_touched_by_the_hash():
    units = splits.named(np.arange(300))
    parts = np.repeat([TRAIN, VALIDATION, TEST], 100).astype(np.int8)
    dealt = splits.hashed(units, parts, 0.3, 0.3, 0)
    assert (dealt[100:] == parts[100:]).all() and set(dealt[:100]) == {TRAIN, VALIDATION, TEST}


@given(st.lists(st.text(max_size=6) | st.just("x" * 30), min_size=1, max_size=12))
def test_the_number_of_a_name_does_not_depend_on_the_other_names(names):
    alone = [int(splits.named(np.array([name]))[0]) for name in names]
    assert splits.named(np.array(names)).tolist() == alone


def test_the_number_of_a_patients_number_does_not_depend_on_its_type():
    kinds = [splits.named(np.array([1, 200], kind)).tolist() for kind in ("u1", "i8", "U3")]
    assert kinds[0] == kinds[1] == kinds[2] and len(set(kinds[0])) == 2


# ---- what a source says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write, patients",
    [
        (folder, False),
        (functools.partial(labels_csv, columns=()), False),
        (labels_csv, True),
        (OPEN["npz"], False),
        (OPEN["npz with groups"], True),
    ],
    ids=["folder", "labels.csv", "labels.csv with patients", "npz", "npz with groups"],
)
@pytest.mark.parametrize("split", ["hashed", "drawn"])
def test_whether_patients_are_named_is_a_matter_of_columns_not_of_rows(
    tmp_path, write, patients, split
):
    for k, rows in enumerate((base(), [replace(row, patient="") for row in base()])):
        if write is OPEN["npz with groups"] and k:
            rows = [replace(row, patient=str(n)) for n, row in enumerate(rows)]
        (tmp_path / f"{k}").mkdir()
        source = write(rows, tmp_path / f"{k}")
        for _ in range(2):  # decoded, then from the cache
            loaded = load_data(source, SIDE, tmp_path / "cache", split=split, **SHARES)
            assert loaded.patients is patients


def test_the_phantom_names_its_patients(tmp_path):
    for _ in range(2):
        assert load_data("phantom", 16, tmp_path, images=100).patients


def test_renamed_patients_are_seen_in_spite_of_the_cache(tmp_path):
    source = labels_csv(base(), tmp_path)
    load = lambda *cache: listed(load_data(source, SIDE, *cache, split="hashed", **SHARES))
    assert load(tmp_path / "cache") == load() == base_parts("labels.csv")
    names = (source / "labels.csv").read_text()
    (source / "labels.csv").write_text(re.sub(",(p[0-9])", r",another \1", names))
    assert load(tmp_path / "cache") == load() != base_parts("labels.csv")


def test_copies_are_not_one_group():
    """The groups are patients, or single images; drawn unites copies."""
    for write in (folder, labels_csv):
        rows = base(copies=True)
        units = len(rows) if write is folder else len({row.patient or row for row in rows})
        for split, count in (("hashed", units), ("drawn", units - 4)):
            parts = read(write, rows, split).parts().values()
            groups = np.concatenate([part.groups for part in parts])
            assert len(np.unique(groups)) == count


def test_copies_are_counted_and_not_said_to_stay_together():
    notes = read(labels_csv, base(copies=True)).notes
    assert "4 of 84 images are exact copies of another" in notes


def test_a_choice_of_images_is_refused_except_of_the_phantom(tmp_path):
    source = folder(base(), tmp_path)
    reason = "data.images: with data.split hashed, images are not chosen"
    with pytest.raises(InputError, match=f"{reason}.*leave data.images out"):
        load_data(source, SIDE, split="hashed", images=20)
    assert len(load_data(source, SIDE, images=20).train) == 20
    assert load_data("phantom", 16, split="hashed", images=100)


def test_a_class_that_the_hash_leaves_out_of_a_part_is_named():
    rows = [row for row in base() if row.label] + [Row(k, 0) for k in range(500, 503)]
    with pytest.raises(InputError, match="class 'sick' has 3 images .* images of many groups"):
        read(folder, rows, seed=1)
