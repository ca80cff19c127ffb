"""Which intents a relay tries, and which it leaves for later."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.intents import Intent
from gateway.mirror.acknowledging import joined
from gateway.mirror.patience import LONGEST, Patience
from gateway.records import TRADES


def intent(number: int, part: int = 0, version: int = 10, owner: str = "me") -> Intent:
    """Return an intent."""
    return Intent(owner, number, part, TRADES, "t", (f"{owner}{number}.{part}",), version, "")


def numbers(intents: list[Intent]) -> list[tuple[str, int]]:
    """Return what intents are about."""
    return [(one.owner, one.number) for one in intents]


def test_what_the_feed_holds_is_left_alone() -> None:
    """Numbers in the feed's hands are not tried; the same numbers of another owner are."""
    page = [intent(at, owner=owner) for owner in ("me", "you") for at in range(1, 8)]
    due = Patience(1, 10).due(page, 0.0, None, "me", [(2, 3), (6, 6)])
    assert numbers(due) == [("me", 1), ("me", 4), ("me", 5), ("me", 7), *(("you", at) for at in range(1, 8))]


def test_a_number_is_tried_with_all_its_parts_or_not_at_all() -> None:
    """If one part of a number is too young, none of it is tried: it would be acknowledged as a whole."""
    page = [intent(1, 0, 5), intent(1, 1, 9), intent(2, 0, 5), intent(2, 1, 6)]
    assert numbers(Patience(1, 10).due(page, 0.0, 8)) == [("me", 2), ("me", 2)]


def test_a_refused_number_waits_longer_each_time() -> None:
    """The pause of a refused row doubles, up to a bound; it never ends for good."""
    patience, now, pauses = Patience(1, 10), 0.0, []
    for _ in range(14):
        patience.refuse([("me", 1)], now)
        assert patience.waits([intent(1)], now)
        pause = next(
            at for at in (2.0**n for n in range(12)) if patience.due([intent(1)], now + min(at, LONGEST))
        )
        pauses.append(min(pause, LONGEST))
        now += pauses[-1]
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, *[LONGEST] * 5]


def test_what_the_journal_does_not_have_any_more_is_forgotten() -> None:
    """After going through all of it, only what was met is remembered."""
    patience = Patience(1, 10)
    patience.refuse([("me", 1), ("me", 2)], 0.0)
    patience.begin()
    patience.due([intent(2)], 0.0)
    patience.end()
    assert patience.refused == 1
    assert not patience.waits([intent(1)], 0.0)


def test_memory_is_bounded() -> None:
    """Beyond the bound a refused row is not remembered, and so is tried each time."""
    patience = Patience(1, 3)
    patience.refuse([("me", at) for at in range(10)], 0.0)
    assert patience.refused == 3
    assert len(patience.due([intent(at) for at in range(10)], 0.0)) == 7


def test_a_missing_row_is_waited_for_from_when_it_was_missed() -> None:
    """How old the version is does not matter; how long this process has known it does."""
    patience = Patience(600, 10)
    assert patience.expired([("me", 1)], 1_000.0) == set()
    assert patience.expired([("me", 1), ("me", 2)], 1_599.0) == set()
    assert patience.expired([("me", 1), ("me", 2)], 1_600.0) == {("me", 1)}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=20))
def test_joined_spans_hold_the_same_numbers(drawn: list[tuple[int, int]]) -> None:
    """Whatever spans are joined, the result has the same numbers, in order, with a gap between any two."""
    spans = [(first, first + more) for first, more in drawn]
    found = joined(spans)
    assert {at for first, last in found for at in range(first, last + 1)} == {
        at for first, last in spans for at in range(first, last + 1)
    }
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))
