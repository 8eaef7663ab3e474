"""Settings of a distillation: which of them a method reads."""

import itertools

import pytest

from medddist.method.settings import OF_METHOD, DistillSettings


def test_what_one_method_alone_reads_are_settings_and_of_one_method():
    names = list(itertools.chain(*OF_METHOD.values()))
    assert len(names) == len(set(names)) and set(names) <= set(DistillSettings.model_fields)


@pytest.mark.parametrize("method", OF_METHOD)
def test_a_method_reads_its_own_settings_and_the_common_ones(method):
    read = set(DistillSettings(method=method).read())
    others = set(itertools.chain(*OF_METHOD.values())) - set(OF_METHOD[method])
    assert read == set(DistillSettings.model_fields) - others


def test_a_student_that_starts_where_a_teacher_was_reads_how_far_that_may_be():
    by = {
        start: DistillSettings(method="real_loss", student_start=start).read() for start in STARTS
    }
    assert "max_start_epoch" in by["teacher"] and "max_start_epoch" not in by["fresh"]


STARTS = "fresh", "teacher"
