"""Makes the rows that clauses write, with versions that the clause decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.backend import Group, KeyRef, Step, Update, WriteBatch
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.query import Condition, Op, Query, ReadRange
from gateway.records.codec import Value, codec_of
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.stamp import row_of
from gateway.records.version import version_at

__all__ = [
    "FIRST_VERSION",
    "NOON",
    "Scribe",
    "batch",
    "digest_sum",
    "group",
    "increment",
    "minutes",
    "span",
    "total_of",
    "where",
]

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""The time of rows that are not about time."""
FIRST_VERSION: Final = version_at(NOON)


class Scribe:
    """Writes rows for one tenant; each gets a greater version than the one before, unless told otherwise.

    Args:
        tenant: Whose rows.
    """

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self._version = FIRST_VERSION
        self._logs = 0

    def row(self, kind: KindSpec, *, version: int | None = None, **fields: object) -> Row:
        """Return the row of a record of any kind."""
        return row_of(
            kind, self.tenant, self._next(version), codec_of(kind).encode(kind.model.model_validate(fields))
        )

    def log(self, record_id: str | None = None, *, version: int | None = None, **fields: object) -> Row:
        """Return a row of the probe log; ids count up unless one is given."""
        self._logs += 1
        fields = {"record_id": record_id or f"log-{self._logs:05}", "moment": NOON, **fields}
        return self.row(PROBE_LOG, version=version, **fields)

    def state(
        self, owner: str = "owner", slot: int = 1, *, version: int | None = None, **fields: object
    ) -> Row:
        """Return a row of the probe state."""
        return self.row(
            PROBE_STATE, version=version, **{"owner": owner, "slot": slot, "moment": NOON, **fields}
        )

    def counter(self, name: str = "count", *, version: int | None = None, **fields: object) -> Row:
        """Return a row of the probe counter."""
        return self.row(PROBE_COUNTER, version=version, name=name, **fields)

    def tombstone(self, row: Row, *, version: int | None = None) -> Row:
        """Return the row that deletes another: it keeps the key and the time field, and nothing else."""
        kept = {*row.kind.key, row.kind.time_field}
        values = [
            value if spec.name in kept else None
            for value, spec in zip(row.values, row.kind.fields, strict=True)
        ]
        return row_of(row.kind, self.tenant, self._next(version), values, deleted=True)

    def from_values(self, kind: KindSpec, values: Sequence[Value], *, deleted: bool = False) -> Row:
        """Return the row of canonical values as they stand."""
        return row_of(kind, self.tenant, self._next(None), values, deleted=deleted)

    def query(
        self,
        kind: KindSpec,
        *where: Condition,
        descending: bool = False,
        limit: int = 1000,
        after: Key | None = None,
        include_deleted: bool = False,
    ) -> Query:
        """Return a query for this tenant's rows."""
        return Query(kind, self.tenant, where, descending, limit, after, include_deleted)

    def _next(self, version: int | None) -> int:
        self._version += 1
        return self._version if version is None else version


def batch(*steps: Step) -> WriteBatch:
    """Return a batch of these steps."""
    return WriteBatch(tuple(steps))


def group(*rows: Row) -> Group:
    """Return rows that belong together."""
    return Group(tuple(rows))


def where(kind: KindSpec, field: str, op: Op, value: object) -> Condition:
    """Return a condition, the value given as a record would hold it; several values for `Op.IN`."""
    encode = codec_of(kind).encode_field
    if op is Op.IN:
        assert isinstance(value, Iterable), "`in` takes several values"
        return Condition(field, op, tuple(encode(field, item) for item in value))
    return Condition(field, op, encode(field, value))


def increment(scribe: Scribe, name: str = "count", by: int = 1) -> Update:
    """Return an update that counts up, made from whatever is stored when it is applied."""

    def apply(current: Sequence[Row | None]) -> Sequence[Row]:
        held = current[0]
        total = 0 if held is None or held.deleted else _whole(held.values[PROBE_COUNTER.index("total")])
        version = FIRST_VERSION if held is None else held.version
        return [scribe.counter(name, total=total + by, version=version + 1)]

    return Update(scribe.tenant, (KeyRef(PROBE_COUNTER, (name,)),), apply)


def total_of(row: Row | None) -> int:
    """Return what a counter stands at."""
    assert row is not None, "the counter is missing"
    return _whole(row.values[PROBE_COUNTER.index("total")])


def digest_sum(rows: Iterable[Row]) -> int:
    """Return what `RangeDigest.total` must be for these rows."""
    return sum(row.digest for row in rows) % 2**64


def span(scribe: Scribe, kind: KindSpec, after: Key | None = None, upto: Key | None = None) -> ReadRange:
    """Return a stretch of a tenant's rows."""
    return ReadRange(kind, scribe.tenant, after, upto)


def minutes(count: float) -> datetime:
    """Return a moment so many minutes after noon."""
    return NOON + timedelta(minutes=count)


def _whole(value: Value) -> int:
    assert isinstance(value, int), f"a counter holds {value!r}, which is no whole number"
    return value
