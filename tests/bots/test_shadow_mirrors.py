"""Shadow reads of a whole gateway whose mirror is journaled: being behind is no difference, having lost a row is one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.backend import WriteBatch
from gateway.mirror.state import paused, resumed
from gateway.records import POSITIONS, Position
from gateway.shadow.reader import RECHECK_DELAYS
from tests.mirrors import drained

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize("backends", ["sqlite,json", "json,sqlite", "memory,sqlite"])
async def test_a_mirror_that_is_held_back_is_behind_and_not_diverged(backends: str, tmp_path: Path) -> None:
    """While intents wait, no difference is believed, however long it lasts; afterwards what is lost is found."""
    async with Gateway(
        backends, environ={}, env_file=None, data_dir=tmp_path, phase="shadow_read", shadow_sample=1.0
    ) as gateway:
        primary, mirror = backends.split(",")
        mirrors, shadow, counters = gateway._mirrors, gateway._shadow, gateway.counters
        assert mirrors is not None
        assert shadow is not None
        await gateway.save_position(condition_id="before", side="YES", entry_price=1, opened_at=NOW)
        await drained(gateway)
        states = mirrors.homes[primary].states
        await states.change(mirror, partial(paused, by="ann", why="moving", now=NOW))
        await mirrors.look()
        await gateway.save_position(condition_id="late", side="YES", entry_price=1, opened_at=NOW)
        assert await gateway.get("positions", "late") is not None
        await asyncio.sleep(
            1.5 * sum(RECHECK_DELAYS)
        )  # longer than a difference has to last where nobody is asked
        assert (counters.shadow_diverged, counters.shadow_lagging) == (0, 0)
        await states.change(mirror, resumed)
        await mirrors.look()
        await drained(gateway)
        async with asyncio.timeout(30):
            await shadow.drain()
        assert (counters.shadow_diverged, counters.shadow_lagging) == (0, 1)
        lost = Position(condition_id="lost", side="YES", entry_price=Decimal(1), opened_at=NOW)
        row = gateway.engine.stamper.stamp(POSITIONS, lost)
        await gateway.engine.stores[primary].write(WriteBatch((row,)))  # that no intent was left of
        assert await gateway.get("positions", "lost") is not None
        async with asyncio.timeout(30):
            await shadow.drain()
        assert (counters.shadow_diverged, counters.shadow_lagging) == (1, 1)
