"""What the calls of `gateway.api` answer with, beside records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.backend import Health
from gateway.records.codec import Value
from gateway.records.kind import Record

__all__ = ["Ack", "GatewayHealth", "Page", "Session"]

R = TypeVar("R", bound=Record)


class Ack(NamedTuple):
    """What a write came to.

    Attributes:
        kind: Name of the record kind.
        key: Canonical key values.
        record_id: Id of a log row; None for kinds identified by a key. Writing again with it is idempotent.
        version: The row's version.
        primary: Instance name of the store that committed it; empty for a kind that is buffered, until it is written.
        mirrors: Instance names of the stores that committed it too.
    """

    kind: str
    key: tuple[Value, ...]
    record_id: str | None
    version: int
    primary: str
    mirrors: tuple[str, ...] = ()


class Page(list[R], Generic[R]):
    """A list of records, and where the next page begins.

    Attributes:
        cursor: Pass it as `after` to get the next page; None on the last one.
    """

    def __init__(self, records: Iterable[R] = (), cursor: str | None = None) -> None:
        super().__init__(records)
        self.cursor = cursor


@dataclass(frozen=True, slots=True)
class Session:
    """One recorded session.

    Attributes:
        session_id: As given to `record_event`.
        events: How many events it has.
        started_at: Time of its first event.
        ended_at: Time of its last event.
    """

    session_id: str
    events: int
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """Whether the gateway can serve, store by store.

    Attributes:
        ok: Whether every store answers.
        backends: Each store's own answer, by instance name.
        details: Queue depths and counters, JSON-ready.
    """

    ok: bool
    backends: Mapping[str, Health]
    details: Mapping[str, Any]
