"""What two looks at two stores tell of a difference: whether anything but a fault can explain it. Pure.

A look asks both stores the same and compares the answers. Rows that differ are then read by key as well, because a
listing alone does not tell why a row is not in it: it may be missing, or may not be chosen any more. The second look is
compared with the first one. A difference is explained if each store has, by the second look, what the other one had in
the first; then nothing was lost between them, though the row may have been written again since. One is also explained
if its row was written at all between the looks of a listing, since listings of two moments differ. What is left has no
innocent explanation but that a store is behind, and whoever looks must know that it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.compare import Outcome, PageComparison, Reason, RowComparison, caught_up, compare_rows
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = [
    "CLEAR",
    "Direction",
    "Sight",
    "behind",
    "compare_keys",
    "explained",
    "gone",
    "remaining",
    "standing",
    "wavering",
]

_DAMAGED: Final = frozenset({Reason.DAMAGED_LEFT, Reason.DAMAGED_RIGHT})


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look found.

    Attributes:
        rows: What comparing by key came to, for every key that was asked for or is under suspicion.
        listed: What comparing two listings came to, for the keys that differ there. Empty for reads by key.
        misplaced: The first key at which two listings part in their order.
    """

    rows: Mapping[Key, RowComparison] = field(default_factory=dict)
    listed: Mapping[Key, RowComparison] = field(default_factory=dict)
    misplaced: Key | None = None

    @property
    def suspects(self) -> tuple[Key, ...]:
        """The keys that differ in either way."""
        differing = (key for key, row in self.rows.items() if row.outcome is not Outcome.MATCH)
        return tuple(dict.fromkeys((*self.listed, *differing)))

    @property
    def clear(self) -> bool:
        """Whether nothing differs."""
        return not self.suspects and self.misplaced is None


CLEAR: Final = Sight()
"""Nothing differs, and nothing more is said of it."""


class Direction(NamedTuple):
    """What has to happen for a difference to vanish.

    Attributes:
        to_right: Whether the row on the left has to reach the store on the right; otherwise the other way.
        version: The version that has to arrive.
    """

    to_right: bool
    version: int


def compare_keys(
    kind: KindSpec, keys: Sequence[Key], left: Sequence[Row | None], right: Sequence[Row | None]
) -> dict[Key, RowComparison]:
    """Compare the rows that two stores gave for keys."""
    answers = zip(keys, left, right, strict=True)
    return {key: compare_rows(kind, mine, theirs) for key, mine, theirs in answers}


def remaining(before: Sight, after: Sight) -> dict[Key, RowComparison]:
    """Return the differences of the second look that were there in the first, and that nothing in between explains.

    One that is new in the second look may be a write under way; only a further look can tell.
    """
    found: dict[Key, RowComparison] = {}
    for key in after.suspects:
        was, now = before.rows.get(key), after.rows.get(key)
        if was is None or now is None:
            continue
        if was.outcome is not Outcome.MATCH and now.outcome is not Outcome.MATCH:
            if not caught_up(was, now):
                found[key] = now
        elif key in before.listed and key in after.listed and _at_rest(was, now):
            # Both stores hold the row, and hold it alike, all the time from one look to the other.
            found[key] = after.listed[key]
    return found


def explained(before: Sight, after: Sight) -> bool:
    """Tell whether the second look explains every difference of the first, whatever else it finds by then.

    Where rows are written all the time there is something new in each look, and never one without a difference.
    """
    if remaining(before, after) or None not in (before.misplaced, after.misplaced):
        return False
    return not any(_undecided(before, after, key) for key in before.suspects)


def _undecided(before: Sight, after: Sight, key: Key) -> bool:
    """Tell whether the second look did not see a row, or saw it missing in a listing again, though it was written."""
    was, now = before.rows.get(key), after.rows.get(key)
    if was is None or now is None:
        return True
    alike = was.outcome is now.outcome is Outcome.MATCH
    return alike and key in before.listed and key in after.listed


def _at_rest(was: RowComparison, now: RowComparison) -> bool:
    alike = was.outcome is now.outcome is Outcome.MATCH
    return alike and (was.left_stamp, was.right_stamp) == (now.left_stamp, now.right_stamp)


def standing(after: Sight, key: Key) -> bool:
    """Tell whether a remaining difference is none that catching up could end.

    That is so of a damaged row, and of one that both stores hold alike but one of them does not list as it should.
    """
    now = after.rows[key]
    return now.outcome is Outcome.MATCH or now.reason in _DAMAGED


def behind(found: RowComparison) -> Direction:
    """Return which row has to reach which store for two rows of a key to become one."""
    to_right = found.left_stamp >= found.right_stamp
    version = found.left_version if to_right else found.right_version
    return Direction(to_right, version or 0)


def gone(found: RowComparison) -> bool:
    """Tell whether the store on the left may have removed the row by age, and the other not yet.

    Nothing in a store tells of that: rows that were purged leave no trace.
    """
    return found.reason is Reason.MISSING_LEFT and found.kind.time_field is not None


def wavering(
    found: Mapping[Key, RowComparison],
    after: Sight,
    listed: PageComparison | None,
    rows: Mapping[Key, RowComparison],
) -> set[Key]:
    """Return the keys of differences that mean nothing, since one store gave two answers that cannot both be true.

    Args:
        found: The differences that remained.
        after: The look in which they did.
        listed: What comparing two listings of one store came to, the earlier on the left; None for reads by key.
        rows: What comparing two answers by key of that store came to, likewise.
    """
    unlike = {row.key for row in listed.rows} if listed is not None else set[Key]()
    by_listing = {key for key in found if after.rows[key].outcome is Outcome.MATCH}
    return (by_listing & unlike) | {key for key in found.keys() - by_listing if _wavers(rows[key])}


def _wavers(row: RowComparison) -> bool:
    """Tell whether a second answer of one store is neither what the first was nor newer."""
    if row.outcome is Outcome.MATCH:
        return False
    if row.left_stamp == row.right_stamp:
        return bool(row.differences)  # damaged alike is damaged; in two ways, the store cannot be asked
    return row.right_stamp < row.left_stamp
