"""What two looks at two stores tell: whatever happens between them, only what was lost remains."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.compare import Outcome, Reason, compare_pages, compare_rows
from gateway.records import KindSpec, Record, Shape, Text, Time
from gateway.records.row import Key, Row
from gateway.records.stamp import row_of
from gateway.shadow.sights import (
    Sight,
    behind,
    compare_keys,
    explained,
    gone,
    remaining,
    standing,
    wavering,
)


class Item(Record):
    name: Text
    text: Text
    at: Time | None = None


ITEMS = KindSpec("items", Item, key=("name",), shape=Shape.STATE)
AGING = KindSpec(
    "aging_items", type("AgingItem", (Item,), {}), key=("name",), shape=Shape.STATE, time_field="at"
)
KEY: Key = ("a",)


def _item(version: int, text: str = "x", kind: KindSpec = ITEMS) -> Row:
    return row_of(kind, "t", version, ("a", text, None))


def _sight(left: Row | None, right: Row | None) -> Sight:
    return Sight(compare_keys(ITEMS, (KEY,), (left,), (right,)))


def _listing(left: Sequence[Row], right: Sequence[Row], mine: Row | None, theirs: Row | None) -> Sight:
    page = compare_pages(ITEMS, left, right)
    rows = compare_keys(ITEMS, (KEY,), (mine,), (theirs,))
    return Sight(rows, {row.key: row for row in page.rows}, page.misplaced)


def _held(history: Sequence[Row], upto: int) -> Row | None:
    """Return what a store holds of which the first so many rows arrived: the one with the greatest stamp."""
    return max(history[:upto], key=lambda row: row.stamp, default=None)


HISTORIES = st.lists(st.tuples(st.integers(1, 6), st.sampled_from("xyz")), max_size=8)
PLACES = st.integers(0, 8)


@given(HISTORIES, st.tuples(PLACES, PLACES, PLACES, PLACES))
def test_a_store_that_follows_is_never_held_against_it(
    writes: list[tuple[int, str]], places: tuple[int, int, int, int]
) -> None:
    """However far the follower is in each look, nothing remains if it had by the second what the leader had in the first.

    Versions may repeat with other content, as two processes draw them.
    """
    history = [_item(version, text) for version, text in writes]
    leader, later, follower, caught = places
    leads = _held(history, leader), _held(history, max(leader, later))
    follows = _held(history, min(leader, follower)), _held(history, max(leader, caught))
    before, after = _sight(leads[0], follows[0]), _sight(leads[1], follows[1])
    if before.rows[KEY].reason is after.rows[KEY].reason is Reason.CONTENT:
        return  # two collisions in two looks; only a third can tell, and looks go on
    if max(leader, caught) > max(leader, later):
        return  # the leader is asked last, so it is never behind
    assert remaining(before, after) == {}


@given(HISTORIES, PLACES, PLACES)
def test_a_row_that_never_arrives_remains(writes: list[tuple[int, str]], first: int, more: int) -> None:
    """If the follower still has less in the second look than the leader had in the first, that remains."""
    history = [_item(version, text) for version, text in writes]
    mine, later = _held(history, first), _held(history, first + more)
    stale = _held(history, 0)
    found = remaining(_sight(mine, stale), _sight(later, stale))
    assert (KEY in found) == (mine is not None)


def test_what_is_new_in_the_second_look_does_not_remain() -> None:
    """It may be a write under way."""
    assert remaining(_sight(_item(1), _item(1)), _sight(_item(2), _item(1))) == {}
    assert remaining(Sight(), _sight(_item(2), _item(1))) == {}


def test_a_collision_of_versions_is_explained_by_the_next_write() -> None:
    """Other content under one version is what a follower shows that has only one of two colliding writes."""
    rows = sorted((_item(5, text) for text in "xy"), key=lambda row: row.digest)
    before = _sight(rows[1], rows[0])
    assert before.rows[KEY].reason is Reason.CONTENT
    assert remaining(before, _sight(_item(6), rows[1])) == {}
    assert KEY in remaining(before, _sight(_item(6), rows[0]))
    assert KEY in remaining(before, before)


def test_a_damaged_row_remains_whatever_the_versions_do() -> None:
    """Damage is no lag."""
    damaged = _item(1)._replace(digest=7)
    sight = _sight(_item(1), damaged)
    assert remaining(sight, sight)[KEY].reason is Reason.DAMAGED_RIGHT
    assert standing(sight, KEY)
    assert not standing(_sight(_item(2), _item(1)), KEY)


def test_a_row_that_is_not_listed_though_it_is_there_remains_only_if_it_is_at_rest() -> None:
    """The same absence is a fault of a row that nobody writes, and nothing of one that changes all the time."""
    rest = _listing([_item(1)], [], _item(1), _item(1))
    assert remaining(rest, rest)[KEY].reason is Reason.MISSING_RIGHT
    assert standing(rest, KEY)
    moved = _listing([_item(3)], [], _item(3), _item(3))
    assert remaining(rest, moved) == {}
    assert remaining(rest, _listing([_item(1)], [_item(1)], _item(1), _item(1))) == {}


def test_what_is_explained_is_what_differed_before() -> None:
    """A difference that is new is no reason to look on; one that stays, was not seen again, or is in doubt, is."""
    before, other = _sight(_item(2), _item(1)), Sight(compare_keys(ITEMS, (("b",),), (_item(9),), (None,)))
    caught = _sight(_item(3), _item(2))
    both = Sight({**caught.rows, **other.rows})
    assert not both.clear
    assert explained(before, both)
    assert not explained(before, before)
    assert not explained(before, other), "the row was not looked at"
    hidden = _listing([_item(1)], [], _item(1), _item(1))
    moved = _listing([_item(3)], [], _item(3), _item(3))
    assert remaining(hidden, moved) == {}
    assert not explained(hidden, moved), "it is missing in the listing again"
    assert not explained(Sight(misplaced=KEY), Sight(misplaced=KEY))
    assert explained(Sight(misplaced=KEY), Sight())


def test_which_store_has_to_catch_up() -> None:
    """The one with the older row, or none, has to get the version of the other."""
    assert behind(compare_rows(ITEMS, _item(3), _item(2))) == (True, 3)
    assert behind(compare_rows(ITEMS, _item(3), None)) == (True, 3)
    assert behind(compare_rows(ITEMS, _item(2), _item(3))) == (False, 3)
    assert behind(compare_rows(ITEMS, None, _item(3))) == (False, 3)


def test_only_what_has_a_time_can_be_purged() -> None:
    """A row that the leader lacks may be on its way out, if its kind ages."""
    assert gone(compare_rows(AGING, None, _item(1, kind=AGING)))
    assert not gone(compare_rows(AGING, _item(1, kind=AGING), None))
    assert not gone(compare_rows(ITEMS, None, _item(1)))


@pytest.mark.parametrize(
    ("first", "second", "wavers"),
    [
        (_item(1), _item(1), False),
        (_item(1), _item(2), False),
        (None, _item(1), False),
        (_item(2), _item(1), True),
        (_item(1), None, True),
        (_item(1, "x"), _item(1, "y")._replace(digest=_item(1, "x").digest), True),
    ],
)
def test_a_store_wavers_if_its_second_answer_is_no_newer_one(
    first: Row | None, second: Row | None, wavers: bool
) -> None:
    """Going back in time, or giving another row under one stamp, is no answer to compare with."""
    after = _sight(_item(9), None)
    found = dict(after.rows)
    twice = compare_keys(ITEMS, (KEY,), (first,), (second,))
    assert wavering(found, after, None, twice) == ({KEY} if wavers else set())


def test_a_listing_that_gives_a_row_only_sometimes_wavers() -> None:
    """A row at rest that the leader lists once and not twice tells nothing of the follower."""
    after = _listing([_item(1)], [], _item(1), _item(1))
    found = remaining(after, after)
    twice = compare_keys(ITEMS, (KEY,), (_item(1),), (_item(1),))
    assert wavering(found, after, compare_pages(ITEMS, [_item(1)], []), twice) == {KEY}
    assert wavering(found, after, compare_pages(ITEMS, [_item(1)], [_item(1)]), twice) == set()


def test_a_clear_sight_has_no_suspects() -> None:
    """What matches is not suspected, and a listing in another order is not clear."""
    assert _sight(_item(1), _item(1)).clear
    assert _sight(_item(1), None).suspects == (KEY,)
    assert not Sight(misplaced=KEY).clear
    assert _sight(_item(1), _item(1)).rows[KEY].outcome is Outcome.MATCH
