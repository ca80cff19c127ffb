"""What a batch comes to: which row each key ends with, and which steps lost. Pure.

The store decides in the end: its version guard sees rows that nobody here has read. What is decided here is what the
steps of one batch mean to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.backend import Group, Step, Update, WriteReceipt
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row

__all__ = ["Merged", "Place", "Stamp", "holds_of", "merge", "newest", "place_of", "runs_of"]

Place = tuple[KindSpec, str, Key]
"""Where a row belongs: kind, tenant and key."""

Stamp = tuple[int, int]
"""Version and digest."""


def place_of(row: Row) -> Place:
    """Return where a row belongs."""
    return (row.kind, row.tenant, row.key)


class Merged:
    """The steps of a batch, applied one after the other.

    Attributes:
        rows: What to write, by place: the newest row that the steps had for it.
        updated: As in `WriteReceipt`.
    """

    __slots__ = ("_current", "_sent", "_superseded", "rows", "updated")

    def __init__(self, current: Mapping[Place, Row | None]) -> None:
        self._current = current
        self._sent: list[tuple[int, Row]] = []
        self._superseded: dict[int, int] = {}
        self.rows: dict[Place, Row] = {}
        self.updated: dict[int, tuple[Row, ...]] = {}

    def take(self, index: int, step: Step) -> None:
        """Apply one step; what an update's `apply` raises goes through as it is."""
        if isinstance(step, Update):
            given = step.apply([self._held((kind, step.tenant, key)) for kind, key in step.reads])
            self.updated[index] = tuple(given)
            self._store(index, self.updated[index])
        elif isinstance(step, Group):
            self._store(index, step.rows)
        else:
            self._store(index, (step,))

    def _held(self, place: Place) -> Row | None:
        written = self.rows.get(place)
        return written if written is not None else self._current.get(place)

    def _store(self, index: int, rows: Iterable[Row]) -> None:
        for row in rows:
            place = place_of(row)
            held = self._held(place)
            self._sent.append((index, row))
            if held is None or row.stamp > held.stamp:
                self.rows[place] = row
            else:
                self._lost(index, row, held.stamp)

    def _lost(self, index: int, row: Row, stored: Stamp) -> None:
        """Note that a step lost, unless its row is what is stored: that is a repetition."""
        if stored > row.stamp:
            self._superseded[index] = max(stored[0], self._superseded.get(index, 0))

    def receipt(self, kept: Mapping[Place, Stamp]) -> WriteReceipt:
        """Return what became of the batch.

        Args:
            kept: The stamps that the store kept, of places where it did not take the row that it was sent.
        """
        for index, row in self._sent if kept else ():
            stored = kept.get(place_of(row))
            if stored is not None:
                self._lost(index, row, stored)
        return WriteReceipt(self._superseded, self.updated)


def merge(steps: Sequence[Step], current: Mapping[Place, Row | None]) -> Merged:
    """Apply the steps of a batch in their order.

    Args:
        steps: The steps.
        current: What is stored at the places that updates read. Of any other place nothing is known, and the store's
            guard decides.
    """
    merged = Merged(current)
    for index, step in enumerate(steps):
        merged.take(index, step)
    return merged


def newest(rows: Sequence[Row]) -> list[Row]:
    """Return, of rows of one kind and tenant, the newest of each key, in the order in which the keys came first."""
    kept: dict[Key, Row] = {}
    for row in rows:
        key = row.key
        held = kept.get(key)
        if held is None or row.stamp > held.stamp:
            kept[key] = row
    return list(kept.values())


def holds_of(
    steps: Iterable[Step], with_care: Callable[[Row], bool]
) -> dict[tuple[KindSpec, str], list[Key]]:
    """Return what a batch with updates takes hold of before anything is computed.

    That is what updates read, and whatever else the batch writes that others may have to wait for: a transaction that
    held the one and then waited for the other could wait for one that holds the other and waits for the one.

    Args:
        steps: The batch.
        with_care: Tells whether a row of a log is one that writers take turns for.

    Returns:
        Keys in order, by kind and tenant in the order in which all writers take them: logs before states. A log
        without keys is one whose turn is taken.
    """
    places: dict[tuple[KindSpec, str], set[Any]] = {}
    for step in steps:
        if isinstance(step, Update):
            for kind, key in step.reads:
                places.setdefault((kind, step.tenant), set()).add(key)
            continue
        for row in step.rows if isinstance(step, Group) else (step,):
            if row.kind.shape is not Shape.LOG:
                places.setdefault((row.kind, row.tenant), set()).add(row.key)
            elif with_care(row):
                places.setdefault((row.kind, row.tenant), set())
    return {run: sorted(places[run]) for run in sorted(places, key=_turn)}


def runs_of(rows: Iterable[Row]) -> dict[tuple[KindSpec, str], list[Row]]:
    """Return rows by kind and tenant, in the order in which all writers take them."""
    runs: dict[tuple[KindSpec, str], list[Row]] = {}
    for row in rows:
        runs.setdefault((row.kind, row.tenant), []).append(row)
    return {run: runs[run] for run in sorted(runs, key=_turn)}


def _turn(run: tuple[KindSpec, str]) -> tuple[bool, str, str, str]:
    kind, tenant = run
    return (kind.shape is not Shape.LOG, kind.schema, kind.name, tenant)
