"""The calls for any record kind: put, get, delete, query, stream. `gateway.api.Records` documents each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.api import Ack, Order, Page
from gateway.backend import KeyRef
from gateway.buffer import Buffer
from gateway.changes import DeleteChange
from gateway.engine.acks import acknowledge
from gateway.engine.engine import Engine
from gateway.errors import GatewayClosedError, InvalidRecordError, UnknownKindError
from gateway.filters import conditions, cursor_of, key_of, position_from, time_bounds
from gateway.query import Query
from gateway.records.codec import make_record
from gateway.records.kind import Durability, KindSpec, Record, Shape
from gateway.records.registry import KindRegistry
from gateway.records.row import Row

__all__ = ["RecordCalls", "checked_limit", "writable"]

MAX_LIMIT: Final = 10_000


class RecordCalls:
    """Implements `gateway.api.Records` and the part of `Maintenance` that is about records, on an engine."""

    _engine: Engine | None = None
    _buffer: Buffer | None = None
    _kinds: KindRegistry

    @property
    def engine(self) -> Engine:
        """The engine; raises `GatewayClosedError` unless the gateway is open."""
        if self._engine is None:
            raise GatewayClosedError("the gateway is not open; use `async with Gateway() as gateway:`")
        return self._engine

    @property
    def buffer(self) -> Buffer:
        """The snapshot buffer; raises `GatewayClosedError` unless the gateway is open."""
        if self._buffer is None:
            raise GatewayClosedError("the gateway is not open; use `async with Gateway() as gateway:`")
        return self._buffer

    async def put(self, record: Record | str, /, **fields: Any) -> Ack:
        """Store one record; see `gateway.api.Records.put`."""
        if isinstance(record, str):
            writable(
                self._kinds.get(record)
            )  # before its fields are looked at: that would be the wrong complaint
        kind, made = self._record(record, fields)
        return await self._put(writable(kind), made)

    async def _put(self, kind: KindSpec, record: Record) -> Ack:
        """Store a record as durably as its kind asks for."""
        if kind.durability is not Durability.BUFFERED:
            return await self.engine.put(kind, record)
        row = self.engine.stamper.stamp(kind, record)
        await self.buffer.add(row)
        return acknowledge(row)

    async def put_many(self, records: Iterable[Record], /) -> int:
        """Store many records; see `gateway.api.Records.put_many`."""
        takes = {kind.model: _checked(kind) for kind in self._kinds}

        def kind_of(model: type[Any]) -> KindSpec:
            return takes.get(model) or writable(self._kinds.of(_record_class(model)))

        _refuse_no_records(records)
        if isinstance(records, Collection):
            for model in set(map(type, records)):
                kind_of(model)  # before anything is stored; of what can be read once only, each as it comes
        return await self.engine.put_many(records, kind_of)

    async def get(self, kind: str, *key: Any) -> Record | None:
        """Return one record by its key; see `gateway.api.Records.get`."""
        return await self._get(self._kind(kind), key)

    async def delete(self, kind: str, *key: Any) -> bool:
        """Delete one record by its key; see `gateway.api.Records.delete`."""
        spec = writable(self._kind(kind))
        ref = KeyRef(spec, key_of(spec, key))
        change = DeleteChange(self.engine.stamper, spec, ref.key)
        await self.engine.update(ref, (ref,), change)
        return change.existed

    async def query(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "asc",
        limit: int = 1000,
        after: str | None = None,
    ) -> Page[Record]:
        """Return a page of records; see `gateway.api.Records.query`."""
        query = self._query(self._kind(kind), where, since, until, order, limit, after)
        rows = await self.engine.query(query)
        return Page((row.record() for row in rows), cursor_of(rows[-1]) if len(rows) == query.limit else None)

    async def stream(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "asc",
    ) -> AsyncIterator[Record]:
        """Yield records one by one; see `gateway.api.Records.stream`."""
        query = self._query(self._kind(kind), where, since, until, order, 1000, None)
        async for rows in self.engine.pages(query):
            for row in rows:
                yield row.record()

    async def purge(self, kind: str, *, older_than: timedelta | None = None) -> int:
        """Remove old rows; see `gateway.api.Maintenance.purge`."""
        spec = self._kind(kind)
        age = older_than if older_than is not None else spec.retention
        if spec.shape is not Shape.LOG and spec.retention is None:
            raise InvalidRecordError(
                f"{kind} holds what is current, whatever its age, so it is not purged; delete records by key"
            )
        if age is None:
            raise InvalidRecordError(f"{kind} declares no retention; say older_than=timedelta(days=...)")
        return await self.engine.purge(spec, _before(age))

    def _kind(self, name: object) -> KindSpec:
        """Return the kind of this name."""
        if not isinstance(name, str):
            raise UnknownKindError(
                f"a record kind is given by its name, such as 'trades', not by {type(name).__name__}"
            )
        return self._kinds.get(name)

    def _record(
        self, record: Record | str | None, fields: dict[str, Any], kind: str | None = None
    ) -> tuple[KindSpec, Record]:
        """Return the record that a call was given, as an object or as fields, and its kind."""
        if isinstance(record, Record):
            if fields:
                raise InvalidRecordError("give a record object or keyword arguments, not both")
            spec = self._kinds.of(type(record))
            if kind is not None and spec.name != kind:
                raise InvalidRecordError(
                    f"this call takes {self._kinds.get(kind).model.__name__}, not {type(record).__name__}"
                )
            return spec, record
        name = kind if record is None else record if kind is None else None
        if not isinstance(name, str):
            raise InvalidRecordError(
                f"give a record object or keyword arguments, not {type(record).__name__}"
            )
        spec = self._kinds.get(name)
        if spec.shape is Shape.LOG and spec.time_field is not None and spec.time_field not in fields:
            fields = {spec.time_field: datetime.now(UTC), **fields}
        return spec, make_record(spec, fields)

    async def _get(self, kind: KindSpec, key: tuple[Any, ...]) -> Record | None:
        row = await self.engine.get(kind, key_of(kind, key))
        return None if row is None else row.record()

    def _query(
        self,
        kind: KindSpec,
        where: Mapping[str, Any] | None,
        since: datetime | None,
        until: datetime | None,
        order: Order,
        limit: int,
        after: str | None,
    ) -> Query:
        descending = _descending(order)
        if not 1 <= _whole(limit) <= MAX_LIMIT:
            raise InvalidRecordError(
                f"limit is between 1 and {MAX_LIMIT}, not {limit}; use stream() for more"
            )
        return Query(
            kind,
            self.engine.stamper.tenant,
            (*conditions(kind, where), *time_bounds(kind, since, until)),
            descending=descending,
            limit=limit,
            after=None if after is None else position_from(kind, after),
        )

    async def _list(
        self,
        kind: KindSpec,
        where: Mapping[str, Any],
        since: datetime | None,
        until: datetime | None,
        order: Order,
        limit: int | None,
    ) -> list[Row]:
        """Return the rows of a typed listing; a field whose value is None is not filtered by."""
        checked_limit(limit)
        wanted = {name: value for name, value in where.items() if value is not None}
        size = MAX_LIMIT if limit is None else min(limit, MAX_LIMIT)
        query = self._query(kind, wanted, since, until, order, size, None)
        if limit is not None and limit <= MAX_LIMIT:
            return list(await self.engine.query(query))
        rows: list[Row] = []
        async for page in self.engine.pages(query):
            rows.extend(page)
            if limit is not None and len(rows) >= limit:
                break
        return rows[:limit]


def _descending(order: object) -> bool:
    if not isinstance(order, str) or order not in {"asc", "desc"}:
        raise InvalidRecordError(f"order is 'asc' or 'desc', not {order!r}")
    return order == "desc"


def checked_limit(limit: object) -> None:
    """Refuse a limit that is neither a positive whole number nor None."""
    if limit is not None and _whole(limit) < 1:
        raise InvalidRecordError(f"limit is at least 1, or None for all, not {limit}")


def _whole(limit: object) -> int:
    """Return a limit that is a whole number; True, which Python takes for 1, is a mistake here."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidRecordError(f"limit is a whole number such as 100, not {type(limit).__name__}")
    return limit


def _before(age: object) -> datetime:
    """Return the moment before which rows are older than this."""
    if not isinstance(age, timedelta):
        raise InvalidRecordError(
            f"older_than takes a length of time such as timedelta(days=30), not {type(age).__name__}"
        )
    if age <= timedelta(0):
        raise InvalidRecordError("older_than must be positive")
    try:
        return datetime.now(UTC) - age
    except OverflowError:
        raise InvalidRecordError(
            f"older_than={age.days} days reaches back before the year 1, where no row can be; give a shorter time"
        ) from None


def _refuse_no_records(records: object) -> None:
    """Refuse what is no collection of records, single records among it: they would be taken for their fields."""
    if isinstance(records, str | bytes | Mapping | Record) or not isinstance(records, Iterable):
        raise InvalidRecordError(
            f"put_many takes a list or another iterable of record objects, not {type(records).__name__}; "
            "store a single record with put"
        )


def _record_class(model: type[Any]) -> type[Record]:
    if not issubclass(model, Record):
        raise InvalidRecordError(
            f"put_many takes record objects such as Trade(...), and one of these is {model.__name__}"
        )
    return model


def _checked(kind: KindSpec) -> KindSpec | None:
    return None if kind.shape is Shape.COUNTER or kind.companion_of is not None or kind.local else kind


def writable(kind: KindSpec) -> KindSpec:
    """Refuse plain writes to kinds that only change in step with something else."""
    if kind.shape is Shape.COUNTER:
        raise InvalidRecordError(
            f"{kind.name} changes by deltas, so that two writers never overwrite each other's count; "
            f"use update_{kind.name}"
        )
    if kind.companion_of is not None:
        raise InvalidRecordError(
            f"{kind.name} is written by the gateway, together with {kind.companion_of}; write that instead"
        )
    if kind.local:
        raise InvalidRecordError(
            f"{kind.name} is how processes agree about a store; the gateway alone writes it"
        )
    return kind
