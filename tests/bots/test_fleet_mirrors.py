"""Several gateways on one file, with a mirror that comes and goes: all of them bring it everything, and none twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway.errors import StoreUnavailableError
from gateway.hookspecs import BackendCall, hookimpl
from gateway.migration.verify import verify_kind
from gateway.records import DAILY_STATS, OPERATIONS, POSITIONS, TRADES
from tests.mirrors import drained

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)


class Weather:
    """A plugin that makes the calls to one store hang, fail, or fail after they were done."""

    def __init__(self, store: str, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self.bad = True
        self.failed = 0

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None] | None:
        """Be in the way of some writes."""
        if not self.bad or call.backend != self._store or call.hook != "gateway_write":
            return None
        return self._storm(self._random.random())

    @asynccontextmanager
    async def _storm(self, luck: float) -> AsyncIterator[None]:
        if luck < 0.3:
            self.failed += 1
            raise StoreUnavailableError("unreachable")
        if luck < 0.4:
            await asyncio.sleep(0.05)
        yield
        if luck > 0.85:
            self.failed += 1
            raise StoreUnavailableError("the answer was lost")


def opened(path: Path, weather: Weather, primary: str) -> Gateway:
    """Return a gateway of two SQLite files, or of one store that keeps no intents and one file."""
    for name in ("old", "new"):
        (path / name).mkdir(exist_ok=True)
    environ = {
        "STORAGE_OLD_URL": f"sqlite:///{path}/old/s.db",
        "STORAGE_NEW_URL": f"sqlite:///{path}/new/s.db",
    }
    settings: dict[str, Any] = {"data_dir": path, "environ": environ, "env_file": None, "plugins": [weather]}
    return Gateway(f"old={primary},new=sqlite", **settings)


async def work(gateway: Gateway, name: str, rounds: int) -> None:
    """Do what a bot does."""
    for at in range(rounds):
        await gateway.insert_trade(market_name=name, action="buy", side="YES", price=1, amount=at + 1)
        await gateway.save_position(condition_id="shared", side="YES", entry_price=at + 1, opened_at=NOW)
        await gateway.update_daily_stats("2026-03-12", trade_count_delta=1)
        if at % 5 == 4:
            await gateway.save_position(condition_id=name, side="YES", entry_price=1, opened_at=NOW)
            await gateway.close_position(name, reason="done")


async def test_two_gateways_on_one_file_bring_everything_to_a_failing_mirror(tmp_path: Path) -> None:
    """Both write all shapes while the mirror fails a third of the time; afterwards both stores are alike."""
    weathers = [Weather("new", seed) for seed in (1, 2)]
    async with opened(tmp_path, weathers[0], "sqlite") as one, opened(tmp_path, weathers[1], "sqlite") as two:
        gateways = (one, two)
        await asyncio.gather(*(work(gateways[at % 2], f"bot-{at}", 30) for at in range(6)))
        for weather in weathers:
            assert weather.failed
            weather.bad = False
        await drained(one)
        await drained(two)
        tenant = one.engine.stamper.tenant
        for kind in (TRADES, POSITIONS, DAILY_STATS, OPERATIONS):
            report = await verify_kind(
                one.engine.stores["old"], one.engine.stores["new"], kind, tenant, deep=True
            )
            assert report.ok, report
        totals = await two.get_or_create_daily_stats("2026-03-12")
        assert totals.total_trades == 180
