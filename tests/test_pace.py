"""What a book in the making says about the time it still takes."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from workflow import pace

KEPT = {"01_data": 1.0, "02_teachers": 50.0, "03_distillation": 140.0, "book": 200.0}
KEPT |= {"finished": 240.0}


def test_before_anything_is_measured_it_is_the_earlier_books_time():
    assert pace.seconds_left(KEPT, {"01_data": 3.0}, "01_data") == 239


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_how_late_a_notebook_begins_scales_the_rest(slower):
    noted = {"started": 1e9, "03_distillation": 140 * slower}
    assert pace.seconds_left(KEPT, noted, "03_distillation") == pytest.approx(100 * slower)


def test_of_other_notebooks_nothing_is_said():
    assert pace.told(pace.seconds_left(KEPT, {"10_new": 3.0}, "10_new")) == ""
    assert pace.told(pace.seconds_left({}, {"02_teachers": 3.0}, "02_teachers")) == ""
    assert pace.told(pace.seconds_left(KEPT, {}, "02_teachers")) == ""


@pytest.mark.parametrize(
    "seconds, said", [(3, "10 s"), (64, "60 s"), (89, "90 s"), (700, "12 min")]
)
def test_time_is_said_in_round_numbers(seconds, said):
    assert pace.told(seconds) == f"; the book is finished in about {said}"


def test_notes_count_from_the_start_of_this_book(tmp_path, monkeypatch):
    clock = iter([100.0, 104.04, 150.0, 500.0, 507.0])
    monkeypatch.setattr(pace.time, "time", lambda: next(clock))
    pace.start(tmp_path / "new")
    pace.note(tmp_path / "new", "01_data")
    noted = pace.note(tmp_path / "new", "02_teachers")
    assert noted == {"started": 100.0, "01_data": 4.0, "02_teachers": 50.0}
    pace.start(tmp_path / "new")
    assert pace.note(tmp_path / "new", "01_data") == {"started": 500.0, "01_data": 7.0}


def test_notebooks_that_begin_at_once_keep_each_others_notes(tmp_path):
    pace.start(tmp_path)
    names = [f"{number:02d}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda name: pace.note(tmp_path, name), names))
    assert all(name in noted for name, noted in zip(names, seen))
    assert set(pace.notes(tmp_path)) == {"started", *names}


def test_a_notebook_outside_of_a_book_notes_nothing(tmp_path):
    assert pace.note(tmp_path, "01_data") == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["01_data", "book", "finished", None])
def test_a_book_of_which_a_part_was_there_already_does_not_replace_the_seconds_on_record(missing):
    noted = {"started": 1e9, "finished": 9.0, "book": 7.0, "02_teachers": 3.0, "01_data": 2.0}
    noted.pop(missing, None)
    kept = {"demo": {"01_data": 30.0}, "smoke": {"01_data": 1.0}}
    new = pace.taken_over(kept, "demo", noted, ["01_data", "02_teachers"])
    if missing:
        assert new == kept
    else:
        wanted = [("01_data", 2.0), ("02_teachers", 3.0), ("book", 7.0), ("finished", 9.0)]
        assert list(new["demo"].items()) == wanted
        assert new["smoke"] == kept["smoke"]


def test_the_seconds_on_record_are_of_the_books_notebooks_and_end_with_the_last():
    scripts = sorted(path.stem for path in (pace.ROOT / "notebooks").glob("[0-9]*.py"))
    for profile, seconds in pace.read(pace.KEPT).items():
        assert list(seconds) == [*scripts, pace.PAGES, pace.FINISHED], profile
        assert max(seconds, key=seconds.get) == pace.FINISHED
