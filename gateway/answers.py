"""What the calls of `gateway.api` answer with, beside records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from gateway.backend import Health
from gateway.records.codec import Value
from gateway.records.kind import Record
from gateway.records.market import Candle

__all__ = ["Ack", "Candles", "GatewayHealth", "Page", "SeriesDescription", "Session"]

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


class Candles(list[Candle]):
    """Candles, the earliest first, and where they come from.

    Attributes:
        source: `stored` for candles that were written as such, `ticks` for candles sampled from tick prices. The two
            may differ: whoever wrote the stored ones may have seen other ticks.
    """

    def __init__(self, candles: Iterable[Candle], source: Literal["stored", "ticks"]) -> None:
        super().__init__(candles)
        self.source: Literal["stored", "ticks"] = source


@dataclass(frozen=True, slots=True)
class SeriesDescription:
    """What there is of an indicator series.

    Attributes:
        exists: Whether it has a value.
        rows: How many.
        first: Time of its first value; None without one.
        last: Time of its last value; None without one.
        store: Instance name of the store that answered.
        generation: Which writing of it is the current one; None until it is overwritten for the first time.
    """

    exists: bool
    rows: int
    first: datetime | None
    last: datetime | None
    store: str
    generation: str | None
