"""Which cached rows a batch may change, and what it came to for each of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.backend import Group, Step, Update, WriteBatch, WriteReceipt
from gateway.cache.entries import mark_of, mark_of_version
from gateway.cache.lookups import Place
from gateway.columns import ColumnBatch
from gateway.errors import CapabilityError
from gateway.records.kind import KindSpec
from gateway.records.row import Row

__all__ = ["Result", "affected", "guarded", "may_touch", "results"]

Apply = Callable[[Sequence[Row | None]], Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a batch came to for one row.

    Attributes:
        mark: Place of the newest row known to be stored; empty if nothing was.
        row: That row, if it is what the store has; None if that is not certain.
    """

    mark: str
    row: Row | None


_UNTOUCHED: Final = Result("", None)


def affected(steps: Sequence[Step], cached: Collection[KindSpec]) -> dict[Place, None]:
    """Return the rows of cached kinds that the steps may change, in their order, each once."""
    places: dict[Place, None] = {}
    if isinstance(steps, ColumnBatch) and steps.kind not in cached:
        return places
    for step in steps:
        if isinstance(step, Row):
            if step.kind in cached:
                places[_place(step)] = None
        elif isinstance(step, Update):
            places.update((Place(kind, step.tenant, key), None) for kind, key in step.reads if kind in cached)
        elif isinstance(step, Group):
            places.update((_place(row), None) for row in step.rows if row.kind in cached)
    return places


def may_touch(steps: Sequence[Step]) -> bool:
    """Tell whether steps may change a row that somebody caches, whatever this process itself caches.

    An update may write rows that it does not read, so any of them may, but for the gateway's own of its own rows.
    """
    if isinstance(steps, ColumnBatch):
        return steps.kind.cacheable
    for step in steps:
        if isinstance(step, Row):
            if step.kind.cacheable:
                return True
        elif isinstance(step, Update):
            if not step.reads or not all(kind.local for kind, _ in step.reads):
                return True
        elif any(row.kind.cacheable for row in step.rows):
            return True
    return False


def guarded(batch: WriteBatch, cached: Collection[KindSpec]) -> WriteBatch:
    """Return the batch with updates that cannot write a cached row that they do not read, and so did not announce."""
    steps = batch.steps
    if isinstance(steps, ColumnBatch) or not any(isinstance(step, Update) for step in steps):
        return batch
    return WriteBatch(
        [
            Update(step.tenant, step.reads, _Guarded(step, cached)) if isinstance(step, Update) else step
            for step in steps
        ],
        batch.journaling,
    )


class _Guarded:
    """The `apply` of an update, refusing what it must not write."""

    __slots__ = ("_cached", "_step")

    def __init__(self, step: Update, cached: Collection[KindSpec]) -> None:
        self._step = step
        self._cached = cached

    def __call__(self, current: Sequence[Row | None]) -> Sequence[Row]:
        rows = self._step.apply(current)
        for row in rows:
            if row.kind in self._cached and (row.kind, row.key) not in self._step.reads:
                raise CapabilityError(
                    f"an update writes a row of {row.kind.name} that it does not read, and that kind is cached; "
                    "name the row among its reads, or declare the kind without cacheable=True"
                )
        return rows


def results(steps: Sequence[Step], receipt: WriteReceipt, places: Collection[Place]) -> dict[Place, Result]:
    """Return what a committed batch came to for each row that it might have changed."""
    found: dict[Place, Result] = dict.fromkeys(places, _UNTOUCHED)
    for at, step in enumerate(steps):
        newer = receipt.superseded.get(at)
        if isinstance(step, Row):
            _note(found, step, newer)
        else:
            rows = receipt.updated.get(at, ()) if isinstance(step, Update) else step.rows
            for row in rows:
                # A newer version than one of a group's rows: which of them it was, nobody says.
                _note(found, row, None if newer is None else row.version)
    return found


def _note(found: dict[Place, Result], row: Row, newer: int | None) -> None:
    place = _place(row)
    held = found.get(place)
    if held is None:
        return
    mine = Result(mark_of(row), row) if newer is None else Result(mark_of_version(newer), None)
    if mine.mark >= held.mark:
        found[place] = mine


def _place(row: Row) -> Place:
    return Place(row.kind, row.tenant, row.key)
