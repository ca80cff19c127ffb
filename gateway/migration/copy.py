"""Copying history from one store to another, beside live writes.

Rows travel with the versions and digests they have, and the target takes a row only if it is newer than what
it holds. So a copy cannot overwrite a newer write, cannot revive what was deleted (tombstones are copied
too), and running it again changes nothing.

Two things it does not do. **Queues are not copied**: their rows are executed once, where they were put.
**Purged rows** leave no tombstone, so a copy brings back what was purged on the target alone; purge through
the gateway, which does it in both stores, and purge again after a copy that ran at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.backend import WriteBatch
from gateway.compare import shown_key
from gateway.migration.integrity import pages, patiently
from gateway.query import ReadRange
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["CopyProgress", "CopyReport", "copy_all", "copy_kind"]

_REPORTED: Final = 10_000
_QUEUE: Final = "a queue is executed once, where it was put; its rows are not copied"


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy has come.

    Attributes:
        kind: Name of the kind.
        rows: Rows read so far.
        total: Rows the source held when the copy began, tombstones included.
        seconds: Time since then.
    """

    kind: str
    rows: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What copying one kind came to; every row read is counted once.

    Attributes:
        kind: Name of the kind.
        rows: Rows read from the source, tombstones included.
        written: Rows the target holds now as the source has them, those it held before among them. In a dry
            run, rows that it lacks or holds in an older version.
        held: Rows that the target held already in this version; a dry run alone can tell.
        superseded: Rows that the target holds in a newer version.
        corrupt: Keys of rows that were not copied because they do not give their digest, 10,000 of them at
            most.
        corrupt_rows: How many such rows there are.
        seconds: How long it took.
        dry_run: Whether nothing was written.
        skipped: Why the kind was not copied at all; None if it was.
    """

    kind: str
    rows: int = 0
    written: int = 0
    held: int = 0
    superseded: int = 0
    corrupt: tuple[Key, ...] = ()
    corrupt_rows: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    skipped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was left behind."""
        return self.corrupt_rows == 0


@dataclass(slots=True)
class _Tally:
    """What a copy counts while it runs."""

    started: float = field(default_factory=time.monotonic)
    rows: int = 0
    written: int = 0
    held: int = 0
    superseded: int = 0
    corrupt: list[Key] = field(default_factory=list)
    corrupt_rows: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def set_aside(self, kind: KindSpec, damaged: Sequence[Row]) -> None:
        """Note rows that are not copied."""
        self.corrupt_rows += len(damaged)
        room = _REPORTED - len(self.corrupt)
        self.corrupt += [shown_key(kind, row.key) for row in damaged[:room]]

    def report(self, kind: KindSpec, *, dry_run: bool) -> CopyReport:
        return CopyReport(
            kind=kind.name,
            rows=self.rows,
            written=self.written,
            held=self.held,
            superseded=self.superseded,
            corrupt=tuple(self.corrupt),
            corrupt_rows=self.corrupt_rows,
            seconds=self.seconds,
            dry_run=dry_run,
        )


async def copy_kind(
    source: Store,
    target: Store,
    kind: KindSpec,
    tenant: str,
    *,
    page: int = 1_000,
    on_page: Callable[[CopyProgress], None] | None = None,
    dry_run: bool = False,
    throttle_rows_per_second: float | None = None,
) -> CopyReport:
    """Copy all rows of a kind, and return what became of them.

    Safe to interrupt at any point and to run again; pages already copied then count as held.

    Args:
        source: Where the rows are.
        target: Where they go.
        kind: The kind.
        tenant: Whose rows.
        page: Rows of one batch.
        on_page: Called after each page.
        dry_run: Read and compare only; write nothing.
        throttle_rows_per_second: Go no faster than this, for the sake of the bots that use the stores.

    Raises:
        StoreError: A store cannot answer, after some patience. What was copied stays.
    """
    if kind.shape is Shape.QUEUE:
        return CopyReport(kind.name, dry_run=dry_run, skipped=_QUEUE)
    total = (await patiently(partial(source.digest, ReadRange(kind, tenant)))).rows
    move, tally = _compare if dry_run else _write, _Tally()
    async for rows in pages(source, kind, tenant, size=page):
        good = [row for row in rows if row.intact]
        if len(good) < len(rows):
            tally.set_aside(kind, [row for row in rows if not row.intact])
        held, superseded = await move(target, good) if good else (0, 0)
        tally.rows += len(rows)
        tally.held += held
        tally.superseded += superseded
        tally.written += len(good) - held - superseded
        if on_page is not None:
            on_page(CopyProgress(kind.name, tally.rows, max(total, tally.rows), tally.seconds))
        await _hold_back(tally, throttle_rows_per_second)
    return tally.report(kind, dry_run=dry_run)


async def copy_all(
    source: Store,
    target: Store,
    kinds: Iterable[KindSpec],
    tenant: str,
    *,
    page: int = 1_000,
    on_page: Callable[[CopyProgress], None] | None = None,
    dry_run: bool = False,
    throttle_rows_per_second: float | None = None,
) -> tuple[CopyReport, ...]:
    """Copy several kinds, one after the other; see `copy_kind`.

    Raises:
        StoreError: A store cannot answer; the kinds before it are copied.
    """
    return tuple(
        [
            await copy_kind(
                source,
                target,
                kind,
                tenant,
                page=page,
                on_page=on_page,
                dry_run=dry_run,
                throttle_rows_per_second=throttle_rows_per_second,
            )
            for kind in kinds
        ]
    )


async def _write(target: Store, rows: Sequence[Row]) -> tuple[int, int]:
    """Write rows under the version guard; return 0 (rows held already are not told apart) and the losers."""
    receipt = await patiently(partial(target.write, WriteBatch(tuple(rows))))
    return 0, len(receipt.superseded)


async def _compare(target: Store, rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many rows the target holds as they are, and how many in a newer version."""
    first = rows[0]
    there = await patiently(partial(target.get, first.kind, first.tenant, [row.key for row in rows]))
    pairs = [(row.stamp, held.stamp) for row, held in zip(rows, there, strict=True) if held is not None]
    return sum(mine == theirs for mine, theirs in pairs), sum(mine < theirs for mine, theirs in pairs)


async def _hold_back(tally: _Tally, rows_per_second: float | None) -> None:
    """Wait until the rows read so far are no more than the rate allows."""
    if rows_per_second is not None:
        await asyncio.sleep(max(0.0, tally.rows / rows_per_second - tally.seconds))
