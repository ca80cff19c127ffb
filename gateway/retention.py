"""What has grown too old to be kept, by the retention that kinds declare. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.records.kind import KindSpec

__all__ = ["expired_before", "expiring"]


def expired_before(kind: KindSpec, now: datetime) -> datetime | None:
    """Return the moment before which rows of a kind are too old; None for a kind that keeps its rows.

    It is the beginning of a day in UTC, so that two stores that are looked after on one day lose the same rows.

    Args:
        kind: The kind.
        now: Aware time.
    """
    if kind.retention is None:
        return None
    return (now.astimezone(UTC) - kind.retention).replace(hour=0, minute=0, second=0, microsecond=0)


def expiring(kinds: Iterable[KindSpec], now: datetime) -> list[tuple[KindSpec, datetime]]:
    """Return the kinds that lose rows by age, each with the moment before which they do."""
    moments = ((kind, expired_before(kind, now)) for kind in kinds)
    return [(kind, moment) for kind, moment in moments if moment is not None]
