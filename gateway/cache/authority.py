"""The epoch row of one store: looking at it, and changing it by compare and set."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from gateway.backend import KeyRef, Update, WriteBatch, WriteReceipt
from gateway.cache.permit import Epoch, Known, State, learn
from gateway.errors import SchemaError
from gateway.records.caching import CACHE_EPOCHS, CacheEpoch
from gateway.records.codec import codec_of
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper, row_of
from gateway.records.version import HybridClock

__all__ = ["Authority", "RowStore", "who"]

_KEY: Final[Key] = ("main",)
"""A store has one cache in front of it, whatever each process calls it."""


class RowStore(Protocol):
    """What is needed of a store here; `gateway.dispatch.Store` has it."""

    @property
    def name(self) -> str:
        """Instance name."""
        ...

    async def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys."""
        ...

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch."""
        ...


def who() -> str:
    """Return how this process signs the rows it changes."""
    return f"process {os.getpid()} on {socket.gethostname()}"


class Authority:
    """What this process knows of one store's epoch row, and its way of changing it.

    The row belongs to the store and to all tenants, so it always has the tenant of bots that have none.

    Args:
        store: The store itself, not what caches it.
        permit: Seconds for which a look at a row that does not exist may be acted on.
        clock: Where versions come from.
        now: The monotonic clock, in seconds.

    Attributes:
        known: The latest knowledge; None before the first look and after a change whose outcome is unknown.
    """

    def __init__(self, store: RowStore, permit: float, clock: HybridClock, now: Callable[[], float]) -> None:
        self.store = store
        self.known: Known | None = None
        self._absent = Epoch(State.CLOSED, "", "", permit, 0.0)
        self._clock = clock
        self._now = now
        self._turn = asyncio.Lock()
        self._record: CacheEpoch | None = None

    def __repr__(self) -> str:
        state = "unknown" if self.known is None else self.known.epoch.state.value
        return f"<Authority {self.store.name} {state}>"

    async def look(self, older_than: float | None = None) -> None:
        """Look at the row now; if another look that began after a given time ends meanwhile, that one will do.

        Raises:
            StoreError: The store could not answer; what was known stays.
        """
        async with self._turn:
            if older_than is not None and self.known is not None and self.known.began >= older_than:
                return
            began = self._now()
            try:
                (row,) = await self.store.get(CACHE_EPOCHS, DEFAULT_TENANT, (_KEY,))
            except SchemaError:
                self.known = None
                raise
            self._learn(row, began)

    async def change(self, known: Known, epoch: Epoch, reason: str) -> bool:
        """Change the row if it still is what is known of it; tell whether it was.

        Raises:
            StoreError: Whether it was changed is unknown; the next look tells.
        """
        async with self._turn:
            step = _CompareAndSet(known.stamp, self._clock, epoch, reason)
            began, before = self._now(), self.known
            self.known = None
            await self.store.write(WriteBatch((Update(DEFAULT_TENANT, (KeyRef(CACHE_EPOCHS, _KEY),), step),)))
            self.known = before
            self._learn(step.row, began)
            return step.changed

    async def forget(self) -> None:
        """Delete the row, as when the store is to have no cache any more.

        Raises:
            StoreError: The store could not do it.
        """

        def delete(current: Sequence[Row | None]) -> Sequence[Row]:
            (row,) = current
            if row is None or row.deleted:
                return ()
            self._clock.observe(row.version)
            return (Stamper(DEFAULT_TENANT, self._clock).tombstone(CACHE_EPOCHS, _KEY),)

        async with self._turn:
            await self.store.write(
                WriteBatch((Update(DEFAULT_TENANT, (KeyRef(CACHE_EPOCHS, _KEY),), delete),))
            )
            self.known = self._record = None

    def describe(self) -> dict[str, Any] | None:
        """Return the row as it was last seen, JSON-ready; None if there is none, or none was seen."""
        return None if self._record is None else self._record.model_dump(mode="json")

    def age(self, now: datetime) -> float | None:
        """Return for how many seconds the row has said what it says, by the clocks of two machines; None without it."""
        return None if self._record is None else (now - self._record.changed_at).total_seconds()

    def _learn(self, row: Row | None, began: float) -> None:
        self._record = None if row is None or row.deleted else cast("CacheEpoch", row.record())
        epoch = self._absent if self._record is None else _epoch_of(self._record, self._absent.permit)
        self.known = learn(self.known, epoch, None if row is None else row.stamp, began, self._now())


class _CompareAndSet:
    """Replaces the row if its stamp is the expected one. May be run again by the store."""

    def __init__(
        self, expected: tuple[int, int] | None, clock: HybridClock, epoch: Epoch, reason: str
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._epoch = epoch
        self._reason = reason
        self.row: Row | None = None
        self.changed = False

    def __call__(self, current: Sequence[Row | None]) -> Sequence[Row]:
        (self.row,) = current
        self.changed = (None if self.row is None else self.row.stamp) == self._expected
        if not self.changed:
            return ()
        if self.row is not None:
            self._clock.observe(self.row.version)
        values: list[Any] = codec_of(CACHE_EPOCHS).encode(_record_of(self._epoch, self._reason))
        self.row = row_of(CACHE_EPOCHS, DEFAULT_TENANT, self._clock.next(), values)
        return (self.row,)


def _record_of(epoch: Epoch, reason: str) -> CacheEpoch:
    return CacheEpoch(
        cache=str(_KEY[0]),
        state=epoch.state.value,
        epoch=epoch.name,
        incarnation=epoch.incarnation,
        permit_ms=round(epoch.permit * 1000),
        fence_ms=round(epoch.fence * 1000),
        changed_by=who(),
        reason=reason,
        changed_at=datetime.now(UTC),
    )


def _epoch_of(record: CacheEpoch, permit: float) -> Epoch:
    """Return what a row says; a state of a newer release counts as closed, as does everything that cannot be meant."""
    state = State(record.state) if record.state in set(State) else State.CLOSED
    if record.permit_ms <= 0:
        return Epoch(State.CLOSED, record.epoch, record.incarnation, permit, 0.0)
    return Epoch(state, record.epoch, record.incarnation, record.permit_ms / 1000, record.fence_ms / 1000)
