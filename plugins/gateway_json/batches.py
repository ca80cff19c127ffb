"""What a batch does to the rows: the version guard, and the steps in their order. Decides; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from gateway.backend import Group, Step, Update
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_json.failures import ApplyError

__all__ = ["Ref", "Stored", "Transaction"]

Ref = tuple[KindSpec, str, Key]
"""A kind, a tenant and a key."""


class Stored(Protocol):
    """What a batch has to know of the store."""

    def stamp(self, ref: Ref) -> tuple[int, int] | None:
        """Return version and digest stored under a key."""
        ...

    def row(self, ref: Ref) -> Row | None:
        """Return the row stored under a key."""
        ...


class Transaction:
    """The rows that a batch will store; later steps see those of earlier ones.

    Attributes:
        rows: What to store, one row a key.
        together: Whether a step has several of them, so that they must appear together.
        superseded: As in `WriteReceipt`.
        updated: As in `WriteReceipt`.
    """

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.rows: dict[Ref, Row] = {}
        self.together = False
        self.superseded: dict[int, int] = {}
        self.updated: dict[int, tuple[Row, ...]] = {}

    def take(self, index: int, step: Step) -> None:
        """Apply one step.

        Raises:
            ApplyError: The function of an `Update` raised.
        """
        if isinstance(step, Update):
            self.updated[index] = self._store(index, self._computed(step))
        elif isinstance(step, Group):
            self._store(index, step.rows)
        else:
            self._store(index, (step,))

    def _computed(self, step: Update) -> Sequence[Row]:
        current = [self._current((kind, step.tenant, key)) for kind, key in step.reads]
        try:
            return step.apply(current)
        except Exception as error:
            raise ApplyError(error) from error

    def _current(self, ref: Ref) -> Row | None:
        return self.rows.get(ref) or self._stored.row(ref)

    def _store(self, index: int, rows: Iterable[Row]) -> tuple[Row, ...]:
        winners = tuple([row for row in rows if self._wins(index, row)])
        self.together = self.together or len(winners) > 1
        return winners

    def _wins(self, index: int, row: Row) -> bool:
        """Stage a row if it is newer than what is stored; note the version that it lost against."""
        ref = (row.kind, row.tenant, row.key)
        staged = self.rows.get(ref)
        held = staged.stamp if staged is not None else self._stored.stamp(ref)
        if held is None or row.stamp > held:
            self.rows[ref] = row
            return True
        if held > row.stamp:
            self.superseded[index] = max(held[0], self.superseded.get(index, 0))
        return False
