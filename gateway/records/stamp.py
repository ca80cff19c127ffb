"""Stamping: what the gateway decides once about a write, before any store sees it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.errors import InvalidRecordError
from gateway.records.codec import Value, codec_of
from gateway.records.digest import digest_of
from gateway.records.kind import KindSpec, Record, Shape
from gateway.records.row import Key, Row
from gateway.records.version import HybridClock, RecordIds, version_at

__all__ = ["DEFAULT_TENANT", "Stamper", "row_of"]

DEFAULT_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""The tenant of a bot that has none."""


def row_of(
    kind: KindSpec, tenant: str, version: int, values: Sequence[Value], *, deleted: bool = False
) -> Row:
    """Return the row that these values make, with its digest."""
    fixed = tuple(values)
    return Row(kind, tenant, version, digest_of(kind.name, tenant, version, deleted, fixed), deleted, fixed)


class Stamper:
    """Turns records into rows: gives them an id, a version, a digest and the tenant.

    Args:
        tenant: Whose rows this gateway writes.
        clock: Where versions come from.
    """

    __slots__ = ("_ids", "clock", "tenant")

    def __init__(self, tenant: str = DEFAULT_TENANT, clock: HybridClock | None = None) -> None:
        self.tenant = tenant
        self.clock = clock or HybridClock()
        self._ids = RecordIds()

    def new_id(self) -> str:
        """Return a new id, ordered by time, as records get them."""
        return self._ids.next(self.clock.next())

    def id_of(self, version: int) -> str:
        """Return the id of a row that is written for the first time, with this version of the stamper's clock."""
        return self._ids.next(version)

    def stamp(self, kind: KindSpec, record: Record, *, at: datetime | None = None) -> Row:
        """Return the row of a record.

        Args:
            kind: The record's kind.
            record: Is not changed.
            at: When an older system wrote it: the version is made from this, so that every live write wins.

        Raises:
            InvalidRecordError: A value that stores could not keep exactly, or a key that is empty.
            ClockError: The clock is too far ahead of the wall clock.
        """
        values = codec_of(kind).encode(record)
        version = self.clock.next() if at is None else version_at(at)
        if kind.shape is Shape.LOG and values[0] is None:
            values[0] = self._ids.next(version if at is None else self.clock.next())
        if "" in values[: len(kind.key)]:
            raise _empty_key(kind, values)
        return row_of(kind, self.tenant, version, values)

    def stamp_many(self, kind: KindSpec, records: Sequence[Record]) -> list[Row]:
        """Return the rows of several records of one kind, with versions in their order; see `stamp`."""
        encode, width = codec_of(kind).encode, len(kind.key)
        log, new_id, tenant = kind.shape is Shape.LOG, self._ids.next, self.tenant
        rows = []
        for version, record in enumerate(records, self.clock.take(len(records))):
            values = encode(record)
            if log and values[0] is None:
                values[0] = new_id(version)
            if "" in values[:width]:
                raise _empty_key(kind, values)
            rows.append(row_of(kind, tenant, version, values))
        return rows

    def restamp(self, row: Row) -> Row:
        """Return the same content as a row written now."""
        return row_of(row.kind, self.tenant, self.clock.next(), row.values, deleted=row.deleted)

    def tombstone(self, kind: KindSpec, key: Key, moment: Value = None) -> Row:
        """Return the row that deletes a key.

        Args:
            kind: The kind.
            key: Canonical key values.
            moment: The deleted row's time field, for kinds listed by time.
        """
        values: list[Value] = [None] * len(kind.fields)
        values[: len(key)] = key
        if kind.time_field is not None and kind.time_field not in kind.key:
            values[kind.index(kind.time_field)] = moment
        return row_of(kind, self.tenant, self.clock.next(), values, deleted=True)


def _empty_key(kind: KindSpec, values: Sequence[Value]) -> InvalidRecordError:
    name = kind.key[list(values).index("")]
    return InvalidRecordError(f"{kind.name}: key field {name!r} is empty; every record needs its key")
