"""Damaged packages: each is refused with a reason or read right; nothing is written, run or
allocated past its bound.
"""

from __future__ import annotations

import damage
import hypothesis
import pytest
from hypothesis import strategies as st

steady = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.__name__)
@steady
@hypothesis.given(r=st.randoms(use_true_random=False))
def test_a_damaged_package_is_refused_or_read_right(kind, r):
    assert damage.tried(r, kind) in ("refused", "read right")


@pytest.mark.parametrize("version, soft", damage.FILES)
def test_an_undamaged_one_is_read(tmp_path, version, soft):
    path = damage.packages.as_zip(tmp_path / "x.zip", damage.FILES[version, soft])
    assert damage.outcome(path, damage.FILES[version, soft]) == "read right"


def test_the_watch_sees_what_it_forbids(tmp_path):
    with pytest.raises(AssertionError, match="open .*seen.txt"), damage.watched():
        (tmp_path / "seen.txt").write_text("x")
    with pytest.raises(AssertionError, match="os.mkdir"), damage.watched():
        (tmp_path / "folder").mkdir()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_damaged_packages():
    found = damage.counts(10_000)
    assert sum(sum(of.values()) for of in found["kinds"].values()) == 10_000
    assert (
        all(of.get("refused", 0) > 0 for of in found["kinds"].values())
        and found["longest_seconds"] < 20
    )
