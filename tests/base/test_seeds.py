"""Random numbers by name."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medddist.base.seeds import generator, numpy_generator, seed_of

parts = st.lists(
    st.integers() | st.text(st.characters(exclude_characters="\x1f"), max_size=5), max_size=4
).map(tuple)


@given(parts, parts)
def test_equal_names_and_only_they_have_equal_seeds(a, b):
    assert (seed_of(*a) == seed_of(*b)) == (a == b)
    assert 0 <= seed_of(*a) < 2**63


def test_a_number_is_not_its_text_and_parts_are_not_joined():
    assert (
        len(
            {
                seed_of(1, 2),
                seed_of("1", 2),
                seed_of(12),
                seed_of("1", "2"),
                seed_of("12"),
                seed_of(2, 1),
            }
        )
        == 6
    )


def test_seeds_do_not_depend_on_the_process():
    # printf 'int:0\x1fstr:teacher\x1fint:3' | sha256sum: its first eight bytes, little-endian,
    # halved
    assert seed_of(0, "teacher", 3) == 4772687278389510759
    assert numpy_generator(0, "a").integers(10**9) == np.random.Generator(
        np.random.PCG64(seed_of(0, "a"))
    ).integers(10**9)


def test_a_generator_can_be_asked_for_again_and_leaves_the_global_one_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = torch.rand(4, generator=generator(0, "x"))
    assert torch.equal(first, torch.rand(4, generator=generator(0, "x")))
    assert not torch.equal(first, torch.rand(4, generator=generator(0, "y")))
    assert torch.equal(before, torch.random.get_rng_state())
