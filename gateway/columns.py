"""Rows by the column: the contract for stores that take and give many rows at once (`Capability.COLUMNS`).

A `ColumnBatch` is a sequence of rows whose values are held by column. It stands wherever steps of a batch do, and
makes a `Row` only for who asks for one: a store without the capability gets the same rows, with the same stamps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, overload

from gateway.query import Query
from gateway.records.codec import Value
from gateway.records.digest import digests_of
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Row
from gateway.records.stamp import Stamper
from gateway.records.version import made_with

if TYPE_CHECKING:
    from gateway.backend import WriteReceipt

__all__ = ["ArrowTable", "ColumnBatch", "ColumnStore", "by_column", "stamped"]

WORTHWHILE: Final = 64
"""From so many rows on, they are handed over by column."""

ArrowTable: TypeAlias = Any
"""A `pyarrow.Table`. pyarrow is the extra `frames`, and brings no types."""


class ColumnBatch(Sequence[Row]):
    """Rows of one kind and tenant, none of them a tombstone, by column.

    No key comes twice in a batch, unless with ascending versions. Nobody changes it, its lists included.

    Args:
        kind: Their kind.
        tenant: Whose rows.
        versions: The version of each, ascending.
        digests: The digest of each.
        columns: For each of `kind.fields`, in their order, the canonical values of all rows.
        fresh: Whether the rows are known to be `fresh`; None to find out when somebody asks.
        rows: The rows themselves, where they exist already.
    """

    __slots__ = ("_fresh", "_rows", "columns", "digests", "kind", "tenant", "versions")

    def __init__(
        self,
        kind: KindSpec,
        tenant: str,
        versions: Sequence[int],
        digests: Sequence[int],
        columns: Sequence[Sequence[Value]],
        *,
        fresh: bool | None = None,
        rows: list[Row] | None = None,
    ) -> None:
        self.kind = kind
        self.tenant = tenant
        self.versions = versions
        self.digests = digests
        self.columns = tuple(columns)
        self._fresh = fresh
        self._rows = rows

    def __repr__(self) -> str:
        return f"<ColumnBatch {self.kind.name} rows={len(self)}>"

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> ColumnBatch: ...
    def __getitem__(self, at: int | slice) -> Row | ColumnBatch:
        if isinstance(at, slice):
            return self._part(at)
        values = tuple(column[at] for column in self.columns)
        return Row(self.kind, self.tenant, self.versions[at], self.digests[at], False, values)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows())

    def _part(self, at: slice) -> ColumnBatch:
        columns = [column[at] for column in self.columns]
        return ColumnBatch(
            self.kind, self.tenant, self.versions[at], self.digests[at], columns, fresh=self._fresh or None
        )

    @property
    def fresh(self) -> bool:
        """Whether every `record_id` was made by the gateway with the row's own version: see `made_with`.

        Then nothing older can be stored under any of them; the rows themselves can be, when a write is repeated.
        """
        if self._fresh is None:
            self._fresh = self.kind.shape is Shape.LOG and all(
                map(made_with, cast("Sequence[str]", self.columns[0]), self.versions)
            )
        return self._fresh

    def column(self, name: str) -> Sequence[Value]:
        """Return the canonical values of one field; raises KeyError."""
        return self.columns[self.kind.index(name)]

    def rows(self) -> list[Row]:
        """Return the rows, made once."""
        if self._rows is None:
            kind, tenant = self.kind, self.tenant
            self._rows = [
                Row(kind, tenant, version, digest, False, values)
                for version, digest, values in zip(
                    self.versions, self.digests, zip(*self.columns, strict=True), strict=True
                )
            ]
        return self._rows


def by_column(rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows as a batch by column, if they are many and of one log and one tenant; else as they are."""
    if len(rows) < WORTHWHILE or isinstance(rows, ColumnBatch):
        return rows
    kind, tenant = rows[0].kind, rows[0].tenant
    if kind.shape is not Shape.LOG or any(
        row.deleted or row.kind is not kind or row.tenant != tenant for row in rows
    ):
        return rows
    return ColumnBatch(
        kind,
        tenant,
        [row.version for row in rows],
        [row.digest for row in rows],
        tuple(zip(*(row.values for row in rows), strict=True)),
        rows=list(rows),
    )


def stamped(stamper: Stamper, kind: KindSpec, columns: Sequence[Sequence[Value]]) -> ColumnBatch:
    """Return columns of canonical values as rows written now, with ids, versions and digests as `stamp_many` gives.

    Args:
        stamper: Makes them.
        kind: The kind.
        columns: For each of its fields the values of all rows, at least one. Is not changed.

    Raises:
        ClockError: The clock is too far ahead of the wall clock.
    """
    count = len(columns[0])
    first = stamper.clock.take(count)
    versions = range(first, first + count)
    whole = list(columns)
    made = kind.shape is Shape.LOG and None in columns[0]
    fresh = made and columns[0].count(None) == count
    if made:
        whole[0] = [
            stamper.id_of(version) if given is None else given
            for given, version in zip(columns[0], versions, strict=True)
        ]
    digests = digests_of(kind.name, stamper.tenant, versions, whole)
    return ColumnBatch(kind, stamper.tenant, versions, digests, whole, fresh=fresh or None)


class ColumnStore(Protocol):
    """What a backend that declares `Capability.COLUMNS` has beside `Backend`; mark each method with `@hookimpl`."""

    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store rows given by column: in every respect what `gateway_write` does with the same rows as steps.

        The index of a row in the batch is its step index in the receipt. Idempotent, guarded by version, and atomic
        if `ATOMIC_BATCH` is declared.

        Raises:
            StoreError: Nothing of the batch counts as acknowledged.
        """
        ...

    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Return some columns of the rows that `gateway_query` would return, in the same order.

        Sees every write acknowledged before the call. `query.limit` may be of any size; `query.include_deleted` is
        never set.

        Args:
            query: Which rows.
            fields: Which fields of the kind, each once, in the order of the answer's columns.

        Returns:
            A `pyarrow.Table` of the schema `gateway.frames.arrow_schema(query.kind, fields)`: canonical values.

        Raises:
            StoreError: The store could not answer. That is never reported as an empty table.
        """
        ...
