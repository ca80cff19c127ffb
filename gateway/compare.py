"""Comparison of rows and listings from two stores. Pure.

Two rows are in step when they have the same version and the same content. A row that is older on one side may
still be on its way there: that is a candidate for `lagging`, and whoever compares looks again before
believing it. Anything else (another content under the same version, a row whose values do not give its
digest) cannot be explained by time and is `diverged` at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = [
    "REDACTED",
    "FieldDifference",
    "Outcome",
    "PageComparison",
    "Reason",
    "RowComparison",
    "alike",
    "caught_up",
    "compare_pages",
    "compare_rows",
    "shown_key",
]

REDACTED: Final = "(redacted)"
"""Stands for a value that the kind declares private."""

_SHOWN: Final = 200
_BEFORE: Final = 40
"""Characters shown before the first one that differs, of texts too long to be shown whole."""


class Outcome(StrEnum):
    """How one comparison ended."""

    MATCH = "match"
    """Both stores gave the same."""
    LAGGING = "lagging"
    """One was behind and caught up (or, before a second look, may still do so)."""
    DIVERGED = "diverged"
    """They differ, and time does not explain it."""
    UNSTABLE = "unstable"
    """The store that leads gave two answers to one question, so a difference to another store tells nothing."""
    FAILED = "failed"
    """One of them could not answer, so nothing is known."""
    TIMED_OUT = "timed_out"
    """One of them did not answer in time, so nothing is known."""


class Reason(StrEnum):
    """Why two rows of one key are not in step."""

    MISSING_LEFT = "missing on the left"
    MISSING_RIGHT = "missing on the right"
    OLDER_LEFT = "older on the left"
    OLDER_RIGHT = "older on the right"
    DELETED_LEFT = "deleted on the left only"
    DELETED_RIGHT = "deleted on the right only"
    CONTENT = "same version, other content"
    DAMAGED_LEFT = "damaged on the left: its values do not give its digest"
    DAMAGED_RIGHT = "damaged on the right: its values do not give its digest"
    REPEATED_LEFT = "listed twice on the left"
    REPEATED_RIGHT = "listed twice on the right"


_STANDING: Final = frozenset(
    {Reason.DAMAGED_LEFT, Reason.DAMAGED_RIGHT, Reason.REPEATED_LEFT, Reason.REPEATED_RIGHT}
)
"""What time does not explain, whatever the versions."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field that differs, in canonical values, fit to be shown.

    Attributes:
        field: Its name.
        left: The value on the left, redacted where the kind says so, and shortened.
        right: The value on the right, treated likewise.
    """

    field: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class RowComparison:
    """What comparing two rows of one key came to.

    Attributes:
        kind: Their kind.
        key: Their key, as it is; show `shown_key` instead.
        outcome: `match`, `lagging` or `diverged`.
        reason: Why they are not in step; None for a match.
        differences: The fields that differ. Empty where one row is missing or deleted.
        left_version: Version on the left, None where there is no row.
        right_version: Version on the right, None where there is no row.
        left_digest: Digest stored on the left, None where there is no row.
        right_digest: Digest stored on the right, None where there is no row.
    """

    kind: KindSpec
    key: Key = field(repr=False)
    outcome: Outcome
    reason: Reason | None = None
    differences: tuple[FieldDifference, ...] = ()
    left_version: int | None = None
    right_version: int | None = None
    left_digest: int | None = None
    right_digest: int | None = None

    @property
    def left_stamp(self) -> tuple[int, int]:
        """What decides between versions of the row on the left; smaller than every stamp where there is no row."""
        return _stamp(self.left_version, self.left_digest)

    @property
    def right_stamp(self) -> tuple[int, int]:
        """The same of the row on the right."""
        return _stamp(self.right_version, self.right_digest)

    @property
    def shown_key(self) -> Key:
        """The key, with private fields redacted."""
        return shown_key(self.kind, self.key)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that differ."""
        return tuple(difference.field for difference in self.differences)


@dataclass(frozen=True, slots=True)
class PageComparison:
    """What comparing two answers to one listing came to.

    Attributes:
        outcome: The worst of its rows' outcomes; `diverged` if only the order differs.
        rows: The rows that are not in step.
        misordered: Whether the rows that both gave, and that are in step, come in different orders.
        misplaced: The first key at which the orders part, as it is; show `shown_key` of it.
    """

    outcome: Outcome
    rows: tuple[RowComparison, ...] = ()
    misordered: bool = False
    misplaced: Key | None = field(default=None, repr=False)


def shown_key(kind: KindSpec, key: Key) -> Key:
    """Return a key fit to be shown: private fields redacted, long text shortened."""
    return tuple(_shown(kind, name, value) for name, value in zip(kind.key, key, strict=True))


def _shown(kind: KindSpec, name: str, value: Value) -> Value:
    # None is shown even of a private field: that a value is missing tells nothing of what it was.
    if value is not None and name in kind.comparison.redact:
        return REDACTED
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]}... ({len(value)} characters)"
    return value


def _shown_pair(kind: KindSpec, name: str, left: Value, right: Value) -> tuple[Value, Value]:
    """Return two values that differ, fit to be shown; of long texts the part in which they do."""
    if isinstance(left, str) and isinstance(right, str) and name not in kind.comparison.redact:
        pairs = zip(left, right, strict=False)
        at = next(
            (at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(left), len(right))
        )
        start = at - _BEFORE
        if start > 0 and max(len(left), len(right)) > _SHOWN:
            return _part(left, start), _part(right, start)
    return _shown(kind, name, left), _shown(kind, name, right)


def _part(text: str, start: int) -> str:
    end = start + _SHOWN
    rest = f"... ({len(text)} characters)" if len(text) > end else ""
    return f"[from character {start + 1}] {text[start:end]}{rest}"


def compare_rows(kind: KindSpec, left: Row | None, right: Row | None) -> RowComparison:
    """Compare the rows that two stores hold under one key.

    Args:
        kind: The kind; its comparison rules say what is ignored, tolerated and redacted.
        left: The row on the left, a tombstone as it is, None where there never was one.
        right: The row on the right.

    Returns:
        `match`, or `lagging` or `diverged` with the reason. Two Nones match.
    """
    if left is None or right is None:
        return _missing(kind, left, right)
    outcome, reason = _judge(kind, left, right)
    differences: tuple[FieldDifference, ...] = ()
    if reason is not None and not (left.deleted or right.deleted):
        differences = tuple(_differences(kind, left.values, right.values))
    stamps = (left.version, right.version, left.digest, right.digest)
    return RowComparison(kind, left.key, outcome, reason, differences, *stamps)


def alike(left: Row | None, right: Row | None) -> bool:
    """Tell at once whether two rows are the same and whole, as nearly all are; more may match by `compare_rows`."""
    if left is None or right is None:
        return left is right
    return (
        left.digest == right.digest
        and left.version == right.version
        and left.deleted is right.deleted
        and left.intact
        and right.intact
    )


def _missing(kind: KindSpec, left: Row | None, right: Row | None) -> RowComparison:
    row = left or right
    if row is None:
        return RowComparison(kind, (), Outcome.MATCH)
    if not row.intact:
        damaged = Reason.DAMAGED_RIGHT if left is None else Reason.DAMAGED_LEFT
        return _found(row, Outcome.DIVERGED, damaged, on_left=left is not None)
    missing = Reason.MISSING_LEFT if left is None else Reason.MISSING_RIGHT
    return _found(row, Outcome.LAGGING, missing, on_left=left is not None)


def _found(row: Row, outcome: Outcome, reason: Reason, *, on_left: bool) -> RowComparison:
    """Return the comparison of a row that only one side has."""
    stamps = (row.version, None, row.digest, None) if on_left else (None, row.version, None, row.digest)
    return RowComparison(row.kind, row.key, outcome, reason, (), *stamps)


def _judge(kind: KindSpec, left: Row, right: Row) -> tuple[Outcome, Reason | None]:
    """Decide on two rows that are both there. The first test that fits gives the reason."""
    if alike(left, right):
        return Outcome.MATCH, None
    if left.stamp == right.stamp and left.deleted is right.deleted and _tolerated(kind, left, right):
        return Outcome.MATCH, None
    if not left.intact:
        return Outcome.DIVERGED, Reason.DAMAGED_LEFT
    if not right.intact:
        return Outcome.DIVERGED, Reason.DAMAGED_RIGHT
    if left.deleted is not right.deleted:
        outcome = Outcome.DIVERGED if left.version == right.version else Outcome.LAGGING
        return outcome, Reason.DELETED_LEFT if left.deleted else Reason.DELETED_RIGHT
    if left.version == right.version:
        same = not _differences(kind, left.values, right.values)
        return (Outcome.MATCH, None) if same else (Outcome.DIVERGED, Reason.CONTENT)
    return Outcome.LAGGING, Reason.OLDER_LEFT if left.version < right.version else Reason.OLDER_RIGHT


def _tolerated(kind: KindSpec, left: Row, right: Row) -> bool:
    """Tell whether rows of one stamp match, though a value may have changed on its way as the kind's rules allow.

    A store that rounds a float gives back a row that does not give its digest any more. Where the kind tolerates the
    difference, or ignores the field, that is no damage. Rows of equal values are: they are damaged alike, or not.
    """
    allowed = kind.comparison.ignore or kind.comparison.tolerance
    changed = left.values != right.values
    return bool(allowed) and changed and not _differences(kind, left.values, right.values)


def _differences(kind: KindSpec, left: Sequence[Value], right: Sequence[Value]) -> list[FieldDifference]:
    """Return the fields whose values differ under the kind's rules, with values fit to be shown."""
    rules = kind.comparison
    return [
        FieldDifference(spec.name, *_shown_pair(kind, spec.name, mine, theirs))
        for spec, mine, theirs in zip(kind.fields, left, right, strict=True)
        if spec.name not in rules.ignore and not _same(mine, theirs, rules.tolerance.get(spec.name))
    ]


def _same(left: Value, right: Value, tolerance: float | None) -> bool:
    """Tell whether two canonical values are equal; 1, 1.0 and True are three different values."""
    if type(left) is not type(right):
        return False
    if tolerance is not None and isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= tolerance
    return left == right


def caught_up(before: RowComparison, after: RowComparison) -> bool:
    """Tell whether two stores follow each other, though a key differed in two looks, one after the other.

    A key that is written all the time is always caught between two writes. If each side has, in the second
    look, at least the version that the other had in the first, then nothing was lost between them.
    """
    if after.outcome is Outcome.MATCH:
        return True
    if (
        before.reason in _STANDING
        or after.reason in _STANDING
        or before.reason is after.reason is Reason.CONTENT
    ):
        return False
    # By stamps, not versions: two processes may draw one version for one key, and then the greater digest wins. A store
    # that has only the other row so far holds other content under the same version, until it catches up.
    left = after.left_stamp >= before.right_stamp
    return left and after.right_stamp >= before.left_stamp


def _stamp(version: int | None, digest: int | None) -> tuple[int, int]:
    return (-1, 0) if version is None else (version, digest or 0)


def compare_pages(
    kind: KindSpec,
    left: Sequence[Row],
    right: Sequence[Row],
    *,
    ordered: bool = True,
    limit: int | None = None,
    right_limit: int | None = None,
    descending: bool = False,
) -> PageComparison:
    """Compare two answers to one listing: as sets of rows, and in their order where that was asked for.

    Args:
        kind: The kind listed.
        left: The rows that the left store gave.
        right: The rows that the right store gave.
        ordered: Whether the order matters.
        limit: The page size. A full page ends where it is full, so rows of the other page beyond its end are
            not judged.
        right_limit: The page size of the right store, where it was asked for more.
        descending: Whether the last rows come first.
    """
    mine, theirs = ({row.key: row for row in page} for page in (left, right))
    end = _common_end(((left, limit), (right, right_limit or limit)), descending=descending)
    found = [
        compare_rows(kind, mine.get(key), theirs.get(key))
        for key in {**mine, **theirs}
        if (key in mine and key in theirs)
        or _within(mine.get(key) or theirs[key], end, descending=descending)
    ]
    found += _repeated(left, Reason.REPEATED_LEFT) + _repeated(right, Reason.REPEATED_RIGHT)
    differing = tuple(one for one in found if one.outcome is not Outcome.MATCH)
    misplaced = None
    if ordered and not kind.comparison.ignore.intersection(kind.order):
        # Rows that are about to catch up may stand elsewhere until then, so order is believed only of rows in step.
        misplaced = _misplaced(mine, theirs, {one.key for one in differing})
    worst = _worst(differing, misordered=misplaced is not None)
    return PageComparison(worst, differing, misplaced is not None, misplaced)


def _misplaced(left: Mapping[Key, Row], right: Mapping[Key, Row], moving: Set[Key]) -> Key | None:
    """Return the first key at which the orders of the rows that both have part; None if they are the same."""
    pairs = zip(
        (key for key in left if key in right and key not in moving),
        (key for key in right if key in left and key not in moving),
        strict=True,
    )
    return next((mine for mine, theirs in pairs if mine != theirs), None)


def _worst(rows: Sequence[RowComparison], *, misordered: bool) -> Outcome:
    if misordered or any(row.outcome is Outcome.DIVERGED for row in rows):
        return Outcome.DIVERGED
    return Outcome.LAGGING if rows else Outcome.MATCH


def _place(row: Row) -> tuple[tuple[bool, Any], ...]:
    """Return a row's place in listings as something that sorts, None (in damaged rows) before everything."""
    return tuple((value is not None, value) for value in row.position)


def _common_end(
    pages: Iterable[tuple[Sequence[Row], int | None]], *, descending: bool
) -> tuple[Any, ...] | None:
    """Return the last place that all pages reach, each given with its size; None where none is full."""
    full = [page for page, limit in pages if limit is not None and page and len(page) >= limit]
    ends = [_place(page[-1]) for page in full]
    return (max if descending else min)(ends) if ends else None


def _within(row: Row, end: tuple[Any, ...] | None, *, descending: bool) -> bool:
    return end is None or (_place(row) >= end if descending else _place(row) <= end)


def _repeated(rows: Sequence[Row], reason: Reason) -> list[RowComparison]:
    """Return a finding for each row whose key the same page gave before."""
    seen: set[Key] = set()
    found = []
    for row in rows:
        if row.key in seen:
            found.append(_found(row, Outcome.DIVERGED, reason, on_left=reason is Reason.REPEATED_LEFT))
        seen.add(row.key)
    return found
