"""What a book in the making says about the time it still takes."""

import pytest

from workflow import pace

KEPT = {"01_data": 10.0, "02_teachers": 50.0, "03_distillation": 140.0, "book": 40.0}


def test_before_anything_is_measured_it_is_the_earlier_books_time():
    assert pace.seconds_left(KEPT, {}, "01_data") == 240


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_what_was_measured_so_far_scales_the_rest(slower):
    noted = {"01_data": 10 * slower, "02_teachers": 50 * slower}
    assert pace.seconds_left(KEPT, noted, "03_distillation") == pytest.approx(180 * slower)


def test_of_other_notebooks_nothing_is_said():
    assert pace.told(pace.seconds_left(KEPT, {}, "10_new")) == ""
    assert pace.told(pace.seconds_left({}, {"01_data": 3.0}, "02_teachers")) == ""


def test_kept_results_that_took_no_time_do_not_promise_an_end_at_once():
    kept = {"01_data": 0.2, "02_teachers": 50.0}
    assert pace.seconds_left(kept, {"01_data": 0.01}, "02_teachers") == 50


@pytest.mark.parametrize(
    "seconds, said", [(3, "10 s"), (64, "60 s"), (89, "90 s"), (700, "12 min")]
)
def test_time_is_said_in_round_numbers(seconds, said):
    assert pace.told(seconds) == f"; the book is finished in about {said}"


def test_notes_of_one_notebook_keep_the_others(tmp_path):
    pace.note(tmp_path, "01_data", 10.04)
    pace.note(tmp_path, "02_teachers", 2.0)
    assert pace.read(tmp_path / pace.NOTED) == {"01_data": 10.0, "02_teachers": 2.0}
    assert pace.read(tmp_path / "none.json") == {}


@pytest.mark.parametrize("missing", ["01_data", "book", None])
def test_a_book_of_which_a_part_was_there_already_does_not_replace_the_seconds_on_record(missing):
    noted = {"book": 7.0, "02_teachers": 3.0, "01_data": 2.0}
    noted.pop(missing, None)
    kept = {"demo": {"01_data": 30.0}, "smoke": {"01_data": 1.0}}
    new = pace.taken_over(kept, "demo", noted, ["01_data", "02_teachers"])
    if missing:
        assert new == kept
    else:
        assert list(new["demo"].items()) == [("01_data", 2.0), ("02_teachers", 3.0), ("book", 7.0)]
        assert new["smoke"] == kept["smoke"]


def test_the_seconds_on_record_are_of_the_books_notebooks_in_their_order():
    scripts = sorted(path.stem for path in (pace.ROOT / "notebooks").glob("[0-9]*.py"))
    for profile, seconds in pace.read(pace.KEPT).items():
        assert list(seconds) == [*scripts, pace.PAGES], profile
        assert min(seconds.values()) > 0
