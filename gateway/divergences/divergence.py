"""One divergence: a difference between two stores that nothing explains, fit to be shown to anybody. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import xxhash

from gateway.backend import GroupSummary
from gateway.compare import REDACTED, FieldDifference, Outcome, RowComparison, shown_key
from gateway.records.codec import Value
from gateway.records.digest import canonical_bytes
from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway.shadow.inquiry import CountFinding, Found

__all__ = ["Divergence", "Resolution", "divergence_of", "divergences_of", "joined", "refusal_of", "resolved"]

_ROW: Final = "row"
_LISTING: Final = "listing"
_ORDER: Final = "order"
_COUNT: Final = "count"
_REFUSAL: Final = "refusal"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Why a divergence needs no attention any more.

    Attributes:
        who: Who said so.
        why: Their reason.
        at: When, in UTC.
    """

    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Divergence:
    """A difference between two stores that time does not explain. Everything in it is fit to be shown.

    Attributes:
        identity: Equal for the same key, fields, stores and sort of finding; a hash, so that it tells nothing of a
            private key.
        kind: Name of the record kind.
        key: The key, private fields redacted. For counts, the value of the group.
        outcome: Always `diverged` for what is kept.
        reason: Why the rows are not in step.
        differences: The fields that differ, with both values.
        versions: Version in the primary and in the shadow; None where there is no row.
        primary: Instance name of the store that answered the bot.
        shadow: Instance name of the store it was compared with.
        first_seen: When it was found first, in UTC.
        last_seen: When it was found last, in UTC.
        count: How often.
        subject: What differs: `row`, `listing` (the rows are alike by key, but not listed alike), `order`, `count`, or
            `refusal` (the mirror does not take the row).
        resolution: Who resolved it; None while it is open.
        reopened: How often it was found again after it had been resolved.
    """

    identity: str
    kind: str
    key: Key
    outcome: Outcome
    reason: str
    differences: tuple[FieldDifference, ...]
    versions: tuple[int | None, int | None]
    primary: str
    shadow: str
    first_seen: datetime
    last_seen: datetime
    count: int = 1
    subject: str = _ROW
    resolution: Resolution | None = None
    reopened: int = 0

    @property
    def open(self) -> bool:
        """Whether it needs attention."""
        return self.resolution is None


def divergence_of(
    found: RowComparison, *, tenant: str, primary: str, shadow: str, subject: str = _ROW
) -> Divergence:
    """Return the divergence that a comparison found, the primary's row on its left, seen now."""
    reason = found.reason.value if found.reason else "listed in another order"
    # Whoever reads this knows stores by their names, and of no left and right.
    reason = reason.replace("on the left", f"in {primary}").replace("on the right", f"in {shadow}")
    if subject == _LISTING:
        reason = f"{reason}, in a listing; by its key, both have it"
    made = _made(found.kind, found.key, found.fields, tenant, (primary, shadow), subject)
    return replace(
        made,
        key=found.shown_key,
        reason=reason,
        differences=found.differences,
        versions=(found.left_version, found.right_version),
    )


def divergences_of(
    kind: KindSpec, found: Found, *, tenant: str, primary: str, shadow: str
) -> list[Divergence]:
    """Return everything that an inquiry found, seen now; nothing unless it ended as `diverged`."""
    if found.outcome is not Outcome.DIVERGED:
        return []
    stores = {"tenant": tenant, "primary": primary, "shadow": shadow}
    rows = [
        divergence_of(row, subject=_LISTING if row.key in found.listed else _ROW, **stores)
        for row in found.rows
    ]
    if found.misplaced is not None:
        rows.append(
            divergence_of(RowComparison(kind, found.misplaced, Outcome.DIVERGED), subject=_ORDER, **stores)
        )
    return rows + [_count(kind, one, tenant, (primary, shadow)) for one in found.counts]


def refusal_of(
    kind: KindSpec, key: Key, version: int, *, tenant: str, primary: str, mirror: str, reason: str
) -> Divergence:
    """Return the divergence of a row that the mirror does not take, seen now.

    Args:
        kind: The row's kind.
        key: Its canonical key; private fields are redacted.
        version: The version that the primary has.
        tenant: Whose row.
        primary: Instance name of the store that has it.
        mirror: Instance name of the one that refuses it.
        reason: What the mirror says, without values of the row.
    """
    made = _made(kind, key, (), tenant, (primary, mirror), _REFUSAL)
    return replace(made, reason=f"refused by the mirror: {reason}", versions=(version, None))


def _made(
    kind: KindSpec, key: Key, fields: Iterable[str], tenant: str, stores: tuple[str, str], subject: str
) -> Divergence:
    """Return a divergence that is not yet described."""
    now = datetime.now(UTC)
    marks = canonical_bytes(kind.name, tenant, 0, False, (*key, *sorted(fields), *stores, subject))
    shown = shown_key(kind, key) if len(key) == len(kind.key) else key
    identity = xxhash.xxh3_128_hexdigest(marks)
    return Divergence(
        identity, kind.name, shown, Outcome.DIVERGED, "", (), (None, None), *stores, now, now, subject=subject
    )


def _count(kind: KindSpec, found: CountFinding, tenant: str, stores: tuple[str, str]) -> Divergence:
    group = found.mine or found.theirs
    value: Value = group.value if group is not None else None
    pairs = zip(_figures(found.mine), _figures(found.theirs), strict=True)
    names = ("rows", "first", "last")
    differences = tuple(
        FieldDifference(name, *pair) for name, pair in zip(names, pairs, strict=True) if pair[0] != pair[1]
    )
    # Which field the groups are made of is not told, so any private field hides them all.
    shown = REDACTED if kind.comparison.redact and value is not None else value
    made = _made(kind, (value,), names, tenant, stores, _COUNT)
    return replace(made, key=(shown,), reason="counted differently", differences=differences)


def _figures(group: GroupSummary | None) -> Sequence[int | None]:
    return (0, None, None) if group is None else (group.rows, group.first, group.last)


def joined(known: Divergence, found: Divergence) -> Divergence:
    """Return one entry for both: the newer one's values, the older one's beginning, and both counts.

    One that was resolved is open again if it was seen after that.
    """
    first = min(known.first_seen, found.first_seen)
    latest = found if found.last_seen >= known.last_seen else known
    resolution, reopened = known.resolution, known.reopened
    if resolution is not None and found.last_seen > resolution.at:
        resolution, reopened = None, reopened + 1
    return replace(
        latest,
        first_seen=first,
        count=known.count + found.count,
        resolution=resolution,
        reopened=reopened,
    )


def resolved(known: Divergence, who: str, why: str) -> Divergence:
    """Return a divergence that somebody resolved now."""
    return replace(known, resolution=Resolution(who, why, datetime.now(UTC)))
