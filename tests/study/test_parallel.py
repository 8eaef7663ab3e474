"""Pieces of a study in processes of their own."""

from __future__ import annotations

import pytest

from medddist.base.errors import InputError
from medddist.study.profile import load_profile
from medddist.study.study import Study
from medddist.study.workers import ahead, workers_for

STEPS = ["compare", "pretrain", "audit"]


def study(out, source="phantom") -> Study:
    return Study(
        load_profile("smoke", {"data.images": 120, "data.image_size_px": 16}), source, out, "cpu"
    )


def write_marker(one: Study, step: str) -> None:
    one.store.values(step, dict)


def folders(out) -> set[str]:
    return {path.parent.parent.name for path in out.rglob("depends_on.json")} & set(STEPS)


def test_every_piece_is_done_by_a_worker_and_its_result_is_found_here(tmp_path):
    one, told = study(tmp_path), []
    one.progress = lambda *said: told.append(said)
    ahead(one, write_marker, STEPS, 2, "folders")
    assert folders(tmp_path) == set(STEPS)
    assert told == [("folders", done, 3) for done in range(4)]
    assert {one.store.path(step).parent.name for step in STEPS} == {
        path.parent.name for path in tmp_path.rglob("depends_on.json")
    }


@pytest.mark.parametrize(("workers", "items"), [(1, STEPS), (2, STEPS[:1]), (2, [])])
def test_alone_nothing_is_done_ahead(tmp_path, workers, items):
    ahead(study(tmp_path), write_marker, items, workers, "folders")
    assert not folders(tmp_path)


def test_a_workers_mistake_is_raised_as_it_was(tmp_path):
    with pytest.raises(InputError, match="nowhere.npz"):
        ahead(study(tmp_path, tmp_path / "nowhere.npz"), write_marker, STEPS, 2, "folders")


def test_a_gpu_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    one = study(tmp_path)
    assert workers_for(one) == 3
    one.device = type(one.device)("cuda:0")
    assert workers_for(one) == 1
