"""What a batch does to the rows: the version guard, and the steps in their order."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.backend import Group, Step, Update
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["Table", "Tables", "Transaction"]

Table = dict[Key, Row]
Tables = dict[tuple[KindSpec, str], Table]
"""The rows of each kind and tenant."""


class Transaction:
    """The rows that a batch will store, seen by the batch's later steps before anybody else sees them.

    Attributes:
        rows: What to store.
        added: How many of these rows take the place of none.
        superseded: As in `WriteReceipt`.
        updated: As in `WriteReceipt`.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.rows: dict[tuple[KindSpec, str, Key], Row] = {}
        self.added = 0
        self.superseded: dict[int, int] = {}
        self.updated: dict[int, tuple[Row, ...]] = {}

    def take(self, index: int, step: Step) -> None:
        """Apply one step."""
        if isinstance(step, Update):
            current = [self._current(ref.kind, step.tenant, ref.key) for ref in step.reads]
            self.updated[index] = self._store(index, step.apply(current))
        elif isinstance(step, Group):
            self._store(index, step.rows)
        else:
            self._store(index, (step,))

    def _current(self, kind: KindSpec, tenant: str, key: Key) -> Row | None:
        staged = self.rows.get((kind, tenant, key))
        return staged if staged is not None else self._tables.get((kind, tenant), {}).get(key)

    def _store(self, index: int, rows: Iterable[Row]) -> tuple[Row, ...]:
        return tuple([row for row in rows if self._wins(index, row)])

    def _wins(self, index: int, row: Row) -> bool:
        """Store a row if it is newer than what is stored; note the version that it lost against."""
        held = self._current(row.kind, row.tenant, row.key)
        if held is None or row.stamp > held.stamp:
            self.added += held is None
            self.rows[row.kind, row.tenant, row.key] = row
            return True
        if held.stamp > row.stamp:
            self.superseded[index] = max(held.version, self.superseded.get(index, 0))
        return False
