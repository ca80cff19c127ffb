"""A crowd of writers that notes what it asked and what was acknowledged, and how to hold a store to that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from gateway import Gateway, GatewayError
from gateway.errors import StoreError
from gateway.query import Query
from gateway.records import CLOSED_POSITIONS, DAILY_STATS, EVENTS, OPERATIONS, POSITIONS, TRADES

__all__ = ["DAY", "PROFIT", "Crowd", "Ledger", "Story", "agrees", "are_clear"]

WRITERS: Final = 64
DAY: Final = "2026-03-12"
PROFIT: Final = Decimal("0.10000000000000000001")
NOW: Final = datetime(2026, 3, 12, 11, tzinfo=UTC)
LIMIT: Final = 45.0
"""Seconds after which a story counts as hanging."""

Story = Callable[["Crowd"], Awaitable[None]]


@dataclass
class Ledger:
    """What was asked of a gateway, what it acknowledged, and what it refused.

    Attributes:
        asked: Calls by what they do.
        trades: Order numbers of acknowledged trades.
        positions: By market, the last amount that was acknowledged.
        closed: Market and amount of each closing that was acknowledged.
        events: Ids of acknowledged events.
        operations: Ids of acknowledged changes of the totals; empty where the gateway made the id.
        errors: What the other calls raised.
        acknowledged: How many calls came back with an answer.
    """

    asked: Counter[str] = field(default_factory=Counter)
    trades: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    closed: list[tuple[str, Decimal]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    errors: list[GatewayError] = field(default_factory=list)
    acknowledged: int = 0


class Crowd:
    """Writers that go on until their story is over, each call of theirs noted.

    Args:
        gateway: Through which all of them write.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.ledger = Ledger()
        self._over = False
        self._news = asyncio.Event()

    async def live(self, story: Story, writers: int = WRITERS) -> Ledger:
        """Let writers write while a story goes on around them; a call that never returns fails the test."""
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for number in range(writers):
                group.create_task(self._write(f"w{number}"))
            await story(self)
            self._over = True
        return self.ledger

    async def more(self, count: int) -> None:
        """Wait until so many more calls were acknowledged."""
        wanted = self.ledger.acknowledged + count
        while self.ledger.acknowledged < wanted:
            self._news.clear()
            await self._news.wait()

    async def _write(self, name: str) -> None:
        number = 0
        while not self._over:
            number += 1
            for call in (self._trade, self._position, self._close, self._event, self._total):
                self.ledger.asked[call.__name__] += 1
                try:
                    await call(name, number)
                except GatewayError as error:
                    self.ledger.errors.append(error)
                else:
                    self.ledger.acknowledged += 1
                self._news.set()

    async def _trade(self, name: str, number: int) -> None:
        order = f"{name}-{number}"
        await self.gateway.insert_trade(
            market_name="M", action="buy", side="YES", price=1, amount=1, order_id=order
        )
        self.ledger.trades.append(order)

    async def _position(self, name: str, number: int) -> None:
        await self.gateway.save_position(
            condition_id=name, side="YES", entry_price=1, opened_at=NOW, amount=number
        )
        self.ledger.positions[name] = number

    async def _close(self, name: str, number: int) -> None:
        closed = await self.gateway.close_position(name, str(number), pnl=1)
        if closed is not None and closed.amount is not None:
            self.ledger.closed.append((name, closed.amount))

    async def _event(self, name: str, number: int) -> None:
        # With an id of its own an event takes the careful way into a log.
        own = f"{name}-{number}"
        await self.gateway.record_event(record_id=own, session_id=name, event_type="tick", timestamp=NOW)
        self.ledger.events.append(own)

    async def _total(self, name: str, number: int) -> None:
        own = f"{name}-{number}" if number % 2 else None
        await self.gateway.update_daily_stats(DAY, pnl_delta=PROFIT, trade_count_delta=1, operation_id=own)
        self.ledger.operations.append(own or "")


async def agrees(gateway: Gateway, ledger: Ledger) -> None:
    """Check what is stored against what was acknowledged and what was asked."""
    (store,) = gateway.engine.stores.values()
    tenant = gateway.engine.stamper.tenant
    for kind in (TRADES, POSITIONS, CLOSED_POSITIONS, DAILY_STATS, OPERATIONS, EVENTS):
        rows = await store.query(Query(kind, tenant, limit=1_000_000, include_deleted=True))
        assert all(row.intact for row in rows), kind.name
        assert len({row.key for row in rows}) == len(rows), kind.name
    trades = Counter(await _all(gateway, "trades", "order_id"))
    assert set(ledger.trades) <= set(trades)
    assert max(trades.values()) == 1
    assert set(ledger.events) <= set(await _all(gateway, "events", "record_id"))
    for market, amount in ledger.positions.items():
        position = await gateway.load_position(market)
        assert position is not None
        assert position.amount is not None
        assert position.amount >= amount
    # Each closing keeps a copy; trying again what was stored already keeps no second one.
    closed = Counter(
        zip(
            await _all(gateway, "closed_positions", "condition_id"),
            await _all(gateway, "closed_positions", "amount"),
            strict=True,
        )
    )
    assert set(ledger.closed) <= set(closed)
    assert max(closed.values()) == 1
    await _totals_agree(gateway, ledger)


async def _all(gateway: Gateway, kind: str, field: str) -> list[Any]:
    return [getattr(record, field) async for record in gateway.stream(kind)]


async def _totals_agree(gateway: Gateway, ledger: Ledger) -> None:
    """Check that each change of the totals counted once if it was noted, and not at all if it was not."""
    totals = await gateway.get_or_create_daily_stats(DAY)
    noted = await _all(gateway, "operations", "operation_id")
    assert totals.total_trades == len(noted)
    assert totals.current_pnl == PROFIT * len(noted)
    assert {name for name in ledger.operations if name} <= set(noted)
    assert len(ledger.operations) <= len(noted) <= ledger.asked["_total"]


def are_clear(errors: Sequence[GatewayError], url: str) -> None:
    """Check that each error is a store's own, names it, can be tried again, and does not show the password of a URL."""
    secret = urlsplit(url).password
    assert secret
    for error in errors:
        assert isinstance(error, StoreError), repr(error)
        assert error.backend == "postgres"
        assert error.transient, repr(error)
        assert len(str(error)) > 20
        assert secret not in str(error)
