"""Numbers that are done are told as stretches: exactly those numbers, and as few stretches as can be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.intents import Stretch, stretches_of

NUMBERS = st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.integers(0, 30)))


@given(NUMBERS)
def test_stretches_hold_exactly_the_numbers(numbers: list[tuple[str, int]]) -> None:
    """In order, none twice, and no two that follow one another could have been one."""
    found = stretches_of(numbers)
    assert all(isinstance(one, Stretch) for one in found)
    held = [(one.owner, number) for one in found for number in range(one.first, one.last + 1)]
    assert held == sorted(set(numbers))
    for one, other in pairwise(found):
        assert one.owner != other.owner or one.last + 1 < other.first
