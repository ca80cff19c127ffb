"""Two stores in memory, and the mirrors of a gateway between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import WriteBatch
from gateway.intents import Journaling
from gateway.mirror.bounds import Bounds
from gateway.mirror.facade import MirrorOptions, Mirrors
from gateway.records.activity import EVENTS, Event
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.records.version import HybridClock

__all__ = ["NOW", "Two", "two", "until"]

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Two:
    """Two stores in memory and the mirrors between them."""

    def __init__(self, path: Path, a: tuple[Any, Any], b: tuple[Any, Any]) -> None:
        self.path = path
        self.a, self.b = a[0], b[0]
        self.gates = {"a": a[1], "b": b[1]}
        self.stamper = Stamper(DEFAULT_TENANT, HybridClock())
        self.refused: list[tuple[str, str, Row, Any]] = []
        self.made: list[Mirrors] = []

    @property
    def gate(self) -> Any:
        """The gate of the mirror."""
        return self.gates["b"]

    def mirrors(
        self, bounds: Bounds | None = None, *, clock: HybridClock | None = None, **options: Any
    ) -> Mirrors:
        """Make the mirrors; they are closed by the fixture."""
        stores = {"a": self.a, "b": self.b}
        made = Mirrors(
            stores,
            stores,
            BUILTIN_KINDS,
            DEFAULT_TENANT,
            clock or self.stamper.clock,
            self.path / "journal.db",
            lambda *refused: self.refused.append(refused),
            MirrorOptions(bounds or Bounds(), **{"wait": 0.2, "look": 0.02, "closing": 0.2, **options}),
        )
        self.made.append(made)
        return made

    def event(self, at: datetime = NOW) -> Row:
        """Return the row of an event."""
        return self.stamper.stamp(EVENTS, Event(timestamp=at, session_id="s", event_type="t"))

    async def write(
        self, mirrors: Mirrors, count: int = 1, at: datetime = NOW, *, hand_on: bool = True
    ) -> list[Row]:
        """Write events to a, as its lane would."""
        rows = [self.event(at) for _ in range(count)]
        first = mirrors.numbers.take(count)
        targets = (mirrors.noted(("b",)),) * count
        sink = mirrors.journaled(self.a)
        await sink.write(WriteBatch(rows, Journaling(mirrors.numbers.owner, first, targets)))
        if hand_on and targets[0]:
            mirrors.feed("a", "b").offer(rows, first)
        return rows

    async def has(self, row: Row) -> bool:
        """Tell whether b has a row."""
        (found,) = await self.b.get(row.kind, row.tenant, (row.key,))
        return found is not None


@pytest.fixture
async def two(open_gated: Any, tmp_path: Path) -> AsyncIterator[Two]:
    """Give two stores, and close the mirrors between them."""
    found = Two(tmp_path, await open_gated("a"), await open_gated("b"))
    yield found
    found.gate.gate.set()
    for mirrors in found.made:
        await mirrors.close()


async def until(condition: Callable[[], Any]) -> None:
    """Return once something holds."""
    async with asyncio.timeout(20):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)
