"""What callers learn of rows that were written."""

from __future__ import annotations

from gateway.api import Ack
from gateway.errors import MirrorWriteError
from gateway.lanes.outcomes import Outcome
from gateway.records.kind import Shape
from gateway.records.row import Row
from gateway.routing import Route

__all__ = ["acknowledge", "acknowledged"]


def acknowledge(row: Row, primary: str = "", mirrors: tuple[str, ...] = ()) -> Ack:
    """Return what a caller learns of a row; without a primary, that it is buffered."""
    kind = row.kind
    key = row.values[: len(kind.key)]
    record_id = key[0] if kind.shape is Shape.LOG else None
    return Ack(kind.name, key, record_id, row.version, primary, mirrors)  # type: ignore[arg-type] # ids are text


def acknowledged(row: Row, route: Route, outcome: Outcome) -> Ack:
    """Return what a caller learns of a row that was written along a route.

    Raises:
        MirrorWriteError: A mirror that was waited for does not have it.
    """
    ack = acknowledge(row, route.primary, outcome.mirrored)
    if outcome.failures:
        raise MirrorWriteError(ack, outcome.failures)
    return ack
