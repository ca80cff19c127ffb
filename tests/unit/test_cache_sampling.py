"""Asking a sample of the reads: it begins and ends by what was found, and never keeps hits from being found."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.sampling import LOOKS, RATE, Sampling


def scanned(reads: int, seed: int = 0) -> tuple[Sampling, int]:
    """Return what decides after so many reads that found nothing, and how many of them asked."""
    chance, sampling, asked = random.Random(seed), Sampling(), 0
    for _ in range(reads):
        if sampling.asks(chance.getrandbits(60)):
            asked += 1
            sampling.saw(hit=False)
    return sampling, asked


def test_a_walk_through_cold_rows_asks_for_few_of_them() -> None:
    """After some hundreds of questions in vain, about a sixteenth of the reads asks."""
    sampling, asked = scanned(LOOKS)
    assert asked == LOOKS
    assert sampling.sparse
    _, asked = scanned(LOOKS + 32_000)
    assert 0.05 < (asked - LOOKS) / 32_000 < 0.075


@settings(max_examples=25, deadline=None)
@given(key=st.integers(0, 2**60), seed=st.integers(0, 1000))
def test_hits_that_come_back_are_noticed_within_a_bounded_number_of_reads(key: int, seed: int) -> None:
    """Also where every read is of one key, and that is none of those that are always asked for."""
    sampling, _ = scanned(LOOKS + seed, seed)
    for _ in range(7 * RATE):
        if sampling.asks(key):
            sampling.saw(hit=True)
    assert not sampling.sparse


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), every=st.integers(1, 7), seed=st.integers(0, 1000))
def test_all_are_asked_for_as_long_as_enough_is_found(share: float, every: int, seed: int) -> None:
    """One hit in seven questions is enough, however the others come out."""
    sampling, chance = Sampling(), random.Random(seed)
    for at in range(3 * LOOKS):
        assert sampling.asks(at)
        sampling.saw(hit=chance.random() < share or at % every == 0)


def test_rows_that_are_read_again_and_again_are_found_however_many_they_are() -> None:
    """A fixed share of the keys is always asked for, so a second round over all of them shows that it is worth it."""
    sampling, cached = Sampling(), set[int]()
    chance = random.Random(1)
    keys = [chance.getrandbits(60) for _ in range(20_000)]

    def sparse_after(key: int) -> bool:
        if sampling.asks(key):
            sampling.saw(hit=key in cached)
            cached.add(key)
        return sampling.sparse

    assert [sparse_after(key) for key in keys][-1]
    second_round = [sparse_after(key) for key in keys]
    assert second_round.index(False) < 1_000
