"""A paper-trading bot. `gateway.demo.bot` runs it in a process of its own.

It trades, and keeps what it must not lose through the gateway's API. Which stores there are, and how a
migration between them goes on, is none of its business: nothing in this module knows of it.

Every write has an id made from the tick that caused it, and the last write of several is the one after which
the bot would not repeat the others. A bot that was killed in between starts again at the tick it had not
finished, and repeats what was done already without doing it twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from statistics import median
from typing import Final, TypeVar

from gateway.api import Ack, StorageGateway
from gateway.demo.acks import AckLog, Acknowledged
from gateway.demo.market import Market, Tick
from gateway.demo.strategy import WINDOWS, Decision, Move, TrendFollower
from gateway.records import BotState, Position
from gateway.records.codec import Value, to_micros

__all__ = ["BOT_ID", "PaperBot"]

T = TypeVar("T")

BOT_ID: Final = "paper-1"
_UNITS: Final = Decimal(100)
_LATENCIES: Final = 100


class PaperBot:
    """Follows the trends of one market with paper money.

    Args:
        gateway: Its storage.
        market: Where it trades.
        acks: Where it notes what the gateway acknowledged.
    """

    def __init__(self, gateway: StorageGateway, market: Market, acks: AckLog) -> None:
        self._gateway = gateway
        self._market = market
        self._acks = acks
        self._followers = [TrendFollower(market.symbol, window) for window in WINDOWS]
        self._held: dict[str, Position] = {}
        self._buffered: list[str] = []
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self.tick = -1
        self.trades = 0
        self.recovered: tuple[str, ...] = ()
        self.found_open = 0

    def __repr__(self) -> str:
        return f"<PaperBot tick={self.tick} open={len(self._held)}>"

    @property
    def open(self) -> tuple[str, ...]:
        """Markets it has a position in."""
        return tuple(sorted(self._held))

    @property
    def write_p50_ms(self) -> float:
        """Median time of its last writes, in milliseconds."""
        return median(self._latencies) if self._latencies else 0.0

    async def recover(self) -> int:
        """Find out what was held and done before this process; return the number of the next tick."""
        state = await self._gateway.get("bot_state", BOT_ID, "state")
        if isinstance(state, BotState) and state.cycle is not None:
            self.tick = state.cycle
        positions = await self._gateway.get_open_positions()
        mine = {follower.condition_id for follower in self._followers}
        self._held = {held.condition_id: held for held in positions if held.condition_id in mine}
        self.recovered, self.found_open = self.open, len(positions)
        self._look_back()
        await self._event(
            datetime.now(UTC), "session_start", {"tick": self.tick, "recovered": len(self._held)}
        )
        return self.tick + 1

    def _look_back(self) -> None:
        """Show the strategies the ticks before the next one, as if there had been no break."""
        begin = max(0, self.tick + 1 - max(WINDOWS))
        for tick in islice(self._market.ticks(begin), self.tick + 1 - begin):
            for follower in self._followers:
                follower.see(tick.price)

    async def on_tick(self, tick: Tick) -> None:
        """Trade on a tick, keep what it showed, and note that it is done."""
        number = self.tick + 1
        await asyncio.gather(*(self._follow(follower, tick) for follower in self._followers))
        await self._observe(number, tick)
        if number % 5 == 0:
            await self._review(number)
        await self._put(
            self._gateway.put(BotState(bot_id=BOT_ID, status="running", cycle=number, updated_at=tick.at))
        )
        self.tick = number

    async def on_close(self) -> None:
        """Write everything down; the market is closed."""
        await self._gateway.flush()
        written, self._buffered = self._buffered, []
        self._acks.note(*(Acknowledged("order_book_snapshots", (record_id,)) for record_id in written))

    async def finish(self) -> None:
        """End the session."""
        await self.on_close()
        await self._event(datetime.now(UTC), "session_end", {"tick": self.tick})

    # Trading

    async def _follow(self, follower: TrendFollower, tick: Tick) -> None:
        held = self._held.get(follower.condition_id)
        decision = follower.decide(tick.price, held)
        follower.see(tick.price)
        if decision.move is Move.OPEN:
            await self._enter(follower, tick, decision)
        elif held is not None and decision.move is Move.RAISE_STOP:
            await self._save(held.model_copy(update={"trailing_stop_price": decision.stop}))
        elif held is not None and decision.move is Move.CLOSE:
            await self._leave(follower, tick, held)

    async def _enter(self, follower: TrendFollower, tick: Tick, decision: Decision) -> None:
        await self._trade(follower, tick, action="buy", reason="trigger")
        position = Position(
            condition_id=follower.condition_id,
            market_name=self._market.symbol,
            side="long",
            entry_price=tick.price,
            amount=_UNITS,
            trailing_stop_price=decision.stop,
            opened_at=tick.at,
            extra={"strategy": follower.name},
        )
        await self._save(position)

    async def _save(self, position: Position) -> None:
        await self._put(self._gateway.save_position(position))
        self._held[position.condition_id] = position

    async def _leave(self, follower: TrendFollower, tick: Tick, held: Position) -> None:
        pnl = (tick.price - held.entry_price) * _UNITS
        reason = "take-profit" if pnl > 0 else "stop-loss"
        trade_id = await self._trade(follower, tick, action="sell", reason=reason, pnl=pnl)
        await self._count(trade_id, tick, pnl)
        closed = await self._timed(
            self._gateway.close_position(
                held.condition_id, reason, closed_at=tick.at, exit_price=tick.price, pnl=pnl
            )
        )
        if closed is not None and closed.closed_at is not None:
            found_by: dict[str, Value] = {
                "condition_id": held.condition_id,
                "closed_at": to_micros(closed.closed_at),
            }
            self._acks.note(Acknowledged("closed_positions", where=found_by))
        del self._held[held.condition_id]
        await self._alert(trade_id, tick, reason, pnl)

    async def _trade(
        self, follower: TrendFollower, tick: Tick, *, action: str, reason: str, pnl: Decimal | None = None
    ) -> str:
        trade_id = f"{BOT_ID}-{tick.id}-{follower.name}-{action}"
        call = self._gateway.insert_trade(
            record_id=trade_id,
            timestamp=tick.at,
            market_name=self._market.symbol,
            condition_id=follower.condition_id,
            action=action,
            side="long",
            price=tick.price,
            amount=_UNITS,
            pnl=pnl,
            reason=reason,
            strategy=follower.name,
            execution_mode="paper",
        )
        await self._put(call)
        self.trades += 1
        return trade_id

    async def _count(self, trade_id: str, tick: Tick, pnl: Decimal) -> None:
        """Add a finished trade to the day's totals; by the trade's id, a repetition counts nothing."""
        call = self._gateway.update_daily_stats(
            tick.at.date(),
            pnl_delta=pnl,
            trade_count_delta=1,
            winning_delta=int(pnl > 0),
            losing_delta=int(pnl <= 0),
            volume_delta=tick.price * _UNITS,
            initial_balance=1000,
            operation_id=trade_id,
        )
        totals = await self._timed(call)
        reached = {"total_trades": totals.total_trades}
        self._acks.note(
            Acknowledged("daily_stats", (totals.date,), at_least=reached),
            Acknowledged("operations", (trade_id,)),
        )

    async def _alert(self, trade_id: str, tick: Tick, reason: str, pnl: Decimal) -> None:
        call = self._gateway.insert_alert(
            record_id=f"{trade_id}-alert",
            timestamp=tick.at,
            alert_type=reason.replace("-", "_"),
            level="INFO" if pnl > 0 else "WARNING",
            market_name=self._market.symbol,
            details={"trade": trade_id, "pnl": str(pnl)},
        )
        await self._put(call)

    # Watching

    async def _observe(self, number: int, tick: Tick) -> None:
        price, size = float(tick.price), float(tick.amount)
        record_id = await self._gateway.buffer_snapshot(
            record_id=f"{BOT_ID}-{tick.id}-book",
            timestamp=tick.at,
            condition_id=self._market.symbol,
            best_ask_yes=price * 1.0005,
            best_bid_yes=price * 0.9995,
            best_ask_yes_size=size,
            best_bid_yes_size=size,
        )
        self._buffered.append(record_id)
        if number % 3 == 0:
            await self._event(tick.at, "price_change", {"price": str(tick.price), "side": tick.side}, tick.id)
        if number % 50 == 49:
            await self.on_close()

    async def _review(self, number: int) -> None:
        """Look at what is stored, as a bot does before it decides anything of weight."""
        follower = self._followers[number // 5 % len(self._followers)]
        await self._gateway.load_position(follower.condition_id)
        await self._gateway.get_trades(market=self._market.symbol, limit=10)
        await self._gateway.get_alerts(level="WARNING", limit=5)

    async def _event(
        self, at: datetime, event_type: str, data: dict[str, object], tick_id: str | None = None
    ) -> None:
        record_id = None if tick_id is None else f"{BOT_ID}-{tick_id}-{event_type}"
        call = self._gateway.record_event(
            record_id=record_id,
            timestamp=at,
            session_id=BOT_ID,
            event_type=event_type,
            market_name=self._market.symbol,
            data=data,
        )
        await self._put(call)

    # What it was told

    async def _put(self, call: Awaitable[Ack]) -> None:
        ack = await self._timed(call)
        self._acks.note(Acknowledged(ack.kind, ack.key, ack.version))

    async def _timed(self, call: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = await call
        self._latencies.append((time.perf_counter() - started) * 1000)
        return result
