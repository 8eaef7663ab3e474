"""Trajectories on disk: whole or refused, and read a row at a time."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import struct

import pytest
import torch
from safetensors.torch import save_file

from medddist.base import tensors as base_tensors
from medddist.base.errors import InputError
from medddist.base.tensors import CHECKED, load_tensors, save_tensors, sum_of
from medddist.method.trajectories import open_trajectory, write_trajectory


@pytest.fixture
def path(tmp_path):
    parameters = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    write_trajectory(
        tmp_path / "teacher_000.safetensors",
        parameters,
        {"index": 0, "name": "Größe", "curve": [0.1, 0.25]},
    )
    return tmp_path / "teacher_000.safetensors"


def header_bytes(path) -> int:
    """How long a safetensors file's header is, its own length included."""
    return 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_written_rows_are_read_back(path):
    trajectory = open_trajectory(path)
    parameters = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    assert (trajectory.snapshots, trajectory.parameter_count) == (6, 50)
    assert trajectory.about == {"index": 0, "name": "Größe", "curve": [0.1, 0.25]}
    start, target = trajectory.rows(2, 5)
    assert (
        torch.equal(start, parameters[2])
        and torch.equal(target, parameters[5])
        and start.dtype == torch.float32
    )
    assert trajectory.rows() == [] and torch.equal(trajectory.rows(0)[0], parameters[0])


def test_a_view_is_written_as_what_it_shows(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    write_trajectory(tmp_path / "t.safetensors", whole[:, ::2], {})
    assert torch.equal(
        torch.stack(open_trajectory(tmp_path / "t.safetensors").rows(0, 1, 2, 3)), whole[:, ::2]
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_kept(tmp_path, value):
    path, tensor = tmp_path / "t.safetensors", torch.tensor([[1.0, value]])
    writes = [
        lambda: write_trajectory(path, tensor, {}),
        lambda: save_tensors(path, {"probabilities": tensor, "indices": torch.arange(2)}, {}),
        lambda: save_tensors(path, {"indices": torch.arange(2)}, {"scores": [value]}),
    ]
    for write in writes:
        with pytest.raises(InputError, match="t.safetensors: .*not finite.*; "):
            write()
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_version_kept_though_it_is_not_finite_is_refused(tmp_path, monkeypatch):
    path, tensor = tmp_path / "t.safetensors", torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    with monkeypatch.context() as earlier:
        earlier.setattr(base_tensors, "_finite", lambda *given: True)
        write_trajectory(path, tensor, {})
        save_tensors(tmp_path / "r.safetensors", {"probabilities": tensor}, {})
        save_tensors(tmp_path / "a.safetensors", {}, {"scores": [float("nan")]})
    with pytest.raises(
        InputError, match="t.safetensors: .*not finite.*delete it and run its step again"
    ):
        open_trajectory(path).rows(0)
    for name in ("r", "a"):
        with pytest.raises(
            InputError, match=f"{name}.safetensors: .*not finite.*delete it and run its step again"
        ):
            load_tensors(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("epoch", [-1, 6, 100])
def test_a_snapshot_that_is_not_there(path, epoch):
    with pytest.raises(IndexError, match="the last is 5"):
        open_trajectory(path).rows(0, epoch)


def test_other_rows_are_not_looked_at(path):
    expected, whole, row = open_trajectory(path).rows(1, 3), bytearray(path.read_bytes()), 50 * 4
    for other in (0, 2, 4, 5):
        at = header_bytes(path) + other * row
        whole[at : at + row] = b"\xff" * row
    path.write_bytes(whole)
    assert all(torch.equal(a, b) for a, b in zip(open_trajectory(path).rows(1, 3), expected))


def test_two_rows_of_a_large_file_cost_two_rows(tmp_path):
    """A sparse file of 1 GB: what is read of it would be in memory."""
    path, snapshots, count = tmp_path / "large.safetensors", 250, 1_000_000
    size = snapshots * count * 4
    parameters = {"dtype": "F32", "shape": [snapshots, count], "data_offsets": [0, size]}
    sums = {"about": hashlib.sha256(b"{}").hexdigest()[:16]}
    sums["tensors"] = [sum_of(torch.zeros(count))] * snapshots
    checked = {CHECKED: json.dumps({"about": {}, "sums": sums})}
    header = json.dumps({"__metadata__": checked, "parameters": parameters}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, target = open_trajectory(path).rows(120, 249)
    assert not start.any() and not target.any() and start.shape == (count,)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    )  # KiB; two rows are 8 MB


def test_a_row_outlives_its_file(path):
    """What was read must not change when a new file takes the name."""
    start, target = open_trajectory(path).rows(0, 1)
    copies = start.clone(), target.clone()
    write_trajectory(path, torch.zeros(6, 50), {})
    assert torch.equal(start, copies[0]) and torch.equal(target, copies[1])


def refused(path, *texts):
    with pytest.raises(InputError) as error:
        open_trajectory(path).rows(0, 1)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert all(text in message for text in texts), message


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "teacher_000.safetensors", "missing", "run its step again")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, 100, -1, -200])
def test_a_truncated_file_is_refused(path, length):
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    refused(path, "delete it")


def test_a_lengthened_file_is_refused(path):
    path.write_bytes(path.read_bytes() + b"\0" * 64)
    refused(path, "delete it")


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 not this kind of file at all", b"\xff" * 64, b"{}"]
)
def test_another_kind_of_file_is_refused(path, content):
    path.write_bytes(content)
    refused(path, "delete it")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "teacher_000.safetensors").mkdir()
    refused(tmp_path / "teacher_000.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"images": torch.zeros(2, 3)},
        {"parameters": torch.zeros(5)},
        {"parameters": torch.zeros(2, 3).double()},
    ],
)
def test_a_file_without_a_trajectory_is_refused(tmp_path, tensors):
    save_file(tensors, tmp_path / "t.safetensors")
    refused(tmp_path / "t.safetensors", "delete it")


@pytest.mark.parametrize("about", ["not JSON", "", '{"half": '])
def test_damaged_words_are_refused(tmp_path, about):
    save_file(
        {"parameters": torch.zeros(2, 3)}, tmp_path / "t.safetensors", metadata={"about": about}
    )
    refused(tmp_path / "t.safetensors", "delete it")


def test_every_damaged_byte_of_the_header_is_refused_or_harmless(path):
    """Whatever a flipped bit makes of the header: an InputError, or rows of the right length."""
    whole = path.read_bytes()
    for at in range(header_bytes(path)):
        for bit in (0, 6):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                trajectory = open_trajectory(path)
                rows = trajectory.rows(0) if trajectory.snapshots else []
            except InputError:
                continue
            assert all(row.shape == (trajectory.parameter_count,) for row in rows)


def test_tensors_of_any_layout_and_sharing_are_kept(tmp_path):
    """A checkpoint may hold the same tensor twice, views of one, empty ones and single numbers."""
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "a": base,
        "b": base,
        "c": base[1],
        "d": base.T,
        "e": torch.zeros(0),
        "f": base[:0],
        "g": torch.tensor(2.5),
        "h": torch.tensor([1, 2]),
        "i": base.clone().requires_grad_(),
    }
    save_tensors(tmp_path / "x.safetensors", tensors, {"n": [1.5]})
    found, about = load_tensors(tmp_path / "x.safetensors")
    assert about == {"n": [1.5]} and found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype


def test_loaded_tensors_can_be_saved_over_their_own_file(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.arange(5.0), "b": torch.ones(3)}, {})
    tensors, about = load_tensors(tmp_path / "x.safetensors")
    save_tensors(tmp_path / "x.safetensors", tensors, about)
    assert torch.equal(load_tensors(tmp_path / "x.safetensors")[0]["a"], torch.arange(5.0))


@pytest.mark.parametrize("length", [0, 7, 30, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, length):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.arange(5.0)}, {})
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:length])
    with pytest.raises(InputError, match="delete it"):
        load_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("at", [-1, -200, -1000])
def test_a_flipped_bit_of_a_number_is_found_when_its_row_is_read(path, at):
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1
    path.write_bytes(whole)
    damaged = 5 - (-at - 1) // 200  # a row is 200 bytes, and the last one is 5
    trajectory = open_trajectory(path)
    assert all(len(row) == 50 for row in trajectory.rows(*(set(range(6)) - {damaged})))
    with pytest.raises(InputError, match="check sums.*delete it"):
        trajectory.rows(damaged)


@pytest.mark.parametrize(
    "old, new", [(b'"n', b'"m'), (b"F32", b"I32"), (b'"sums', b'"sumz'), (b'"a":', b'"q":')]
)
def test_other_words_types_and_names_in_a_results_header_are_found(tmp_path, old, new):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.arange(5.0)}, {"n": 1})
    header = path.read_bytes()
    old, new = (word.replace(b'"n', b'\\"n').replace(b'"m', b'\\"m') for word in (old, new))
    assert old in header
    path.write_bytes(header.replace(old, new, 1))
    with pytest.raises(InputError, match="delete it"):
        load_tensors(path)


def test_files_without_sums_are_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    save_file({"parameters": torch.ones(2, 3)}, path, metadata={"about": "{}"})
    for read in (open_trajectory, load_tensors):
        with pytest.raises(InputError, match="does not say what it was made with; delete it"):
            read(path)


def test_a_full_disk_is_named(tmp_path):
    """By the limit on a file's size, which is refused as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(
            InputError,
            match=r"x.safetensors: cannot be written \(File too large\); choose another folder",
        ):
            save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
