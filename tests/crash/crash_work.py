"""What a task of a bot does all day: every kind of call, each noted before and after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gateway import Ack, Gateway, IndicatorValue, MirrorWriteError, StoreError
from gateway.errors import JournalFullError, QueueFullError
from gateway.records import BotState, Candle, Position, TickPrice, Trade
from tests.crash.crash_kinds import WorkOrder
from tests.crash.crash_ledger import Notes, number_of

__all__ = ["CLOSED", "DAY", "PLAIN_DAY", "Worker"]

DAY: Final = "2026-03-12"
PLAIN_DAY: Final = "2026-03-13"
NOON: Final = datetime(2026, 3, 12, 12, tzinfo=UTC)
EXPECTED: Final = (StoreError, JournalFullError, QueueFullError, MirrorWriteError)
OWN_KEYS: Final = 3
CLOSED: Final = "closed by "
"""What the value of a call that closes a position begins with."""


class Worker:
    """One task of a bot.

    Args:
        gateway: Open.
        notes: Of the process.
        name: Of the task in this life; no other task in any life has it.
        place: Of the task in every life: what it alone writes is called after it.
        seed: What it does follows from this and the name.
        computes: Whether the store that leads can read and write in one step.
    """

    def __init__(
        self, gateway: Gateway, notes: Notes, name: str, place: str, seed: str, *, computes: bool = True
    ) -> None:
        self._gateway = gateway
        self._notes = notes
        self._name = name
        self._place = place
        self._random = random.Random(f"{seed} {name}")
        self._at = 0
        self._buffered: list[str] = []
        self._trades: list[tuple[str, str]] = []
        self._operations: list[str] = []
        self._works = [
            *(self._trade, self._trade, self._event, self._alert, self._decision, self._ticks, self._ticks),
            *(self._snapshots, self._save, self._candle, self._remember, self._many, self._order, self._series),
            *((self._close, self._stats, self._stats, self._plain, self._delete, self._forget) if computes else ()),
        ]  # fmt: skip

    async def work(self, more: Callable[[], bool]) -> None:
        """Do one thing after the other while there is to be more."""
        while more():
            await self._random.choice(self._works)()

    def _next(self) -> str:
        self._at += 1
        return f"{self._name}.{self._at}"

    async def _call(
        self,
        what: str,
        key: Iterable[str],
        value: Any,
        call: Callable[..., Awaitable[Any]],
        name: str | None = None,
    ) -> Any:
        """Make a call, with notes; what may fail may do so, and is repeated now and then as the error says."""
        name = name or self._next()
        self._notes.begun(name, what, key, value)
        try:
            answer = await self._patiently(call)
        except MirrorWriteError as error:
            answer = error.ack  # the store that leads has it
        except EXPECTED as error:
            self._notes.failed(name, error)
            await asyncio.sleep(0.02)
            return None
        self._notes.acked(name, answer.version if isinstance(answer, Ack) else None)
        return answer

    async def _patiently(self, call: Callable[..., Awaitable[Any]]) -> Any:
        try:
            return await call()
        except StoreError as error:
            if not error.retry_with or self._random.random() < 0.5:
                raise
            return await call(**error.retry_with)

    def _when(self) -> datetime:
        return NOON + timedelta(milliseconds=self._random.randrange(3_600_000))

    async def _trade(self) -> None:
        name, when = self._next(), self._when()
        number = number_of(name)
        given = {"record_id": f"id-{name}"} if self._random.random() < 0.4 else {}

        async def call(**more: Any) -> Ack:
            fields: dict[str, Any] = {"order_id": name, "timestamp": when, **given, **more}
            return await self._gateway.insert_trade(
                market_name="M", action="buy", side="YES", price=number, amount=number, **fields
            )

        ack = await self._call("log", ("trades", name), 1, call, name)
        if ack is not None:
            self._trades.append((name, ack.record_id))

    async def _event(self) -> None:
        name = self._next()
        data = {"name": name, "deep": [1, None, {"a": 1.5}]}

        async def call(**more: Any) -> Ack:
            return await self._gateway.record_event(
                session_id=self._place, event_type="trade", data=data, **more
            )

        await self._call("log", ("events", name), 1, call, name)

    async def _alert(self) -> None:
        name = self._next()

        async def call(**more: Any) -> Ack:
            return await self._gateway.insert_alert(alert_type="trade", details={"name": name}, **more)

        await self._call("log", ("alerts", name), 1, call, name)

    async def _decision(self) -> None:
        name = self._next()

        async def call(**more: Any) -> Ack:
            return await self._gateway.put(
                "trade_decisions", market_name="M", action="skip", reason=name, **more
            )

        await self._call("log", ("trade_decisions", name), 1, call, name)

    async def _ticks(self) -> None:
        name, count = self._next(), self._random.randrange(1, 40)
        ticks = [self._tick(name, at) for at in range(count)]
        await self._call(
            "log", ("tick_prices", name), count, lambda: self._gateway.put_many(iter(ticks)), name
        )

    def _tick(self, name: str, at: int) -> TickPrice:
        when = NOON + timedelta(milliseconds=at // 3)
        return TickPrice(timestamp=when, symbol="BTC", session_id=name, price=at, volume=number_of(name))

    async def _many(self) -> None:
        """Write records of several kinds by one call. What of it is stored if it fails is not said."""
        names = [self._next() for _ in range(4)]
        key = ("bot_state", self._place, "many")
        records = [
            self._tick(names[0], 0),
            Trade(timestamp=NOON, market_name="M", action="buy", side="YES", price=Decimal(number_of(names[1])),
                  amount=Decimal(number_of(names[1])), order_id=names[1]),
            self._tick(names[2], 0),
            BotState(bot_id=key[1], name=key[2], data={"name": names[3]}, updated_at=NOON),
        ]  # fmt: skip
        for name, kind in zip(names[:3], ("tick_prices", "trades", "tick_prices"), strict=True):
            self._notes.begun(name, "log", (kind, name), 1)
        done = await self._call("own", key, names[3], lambda: self._gateway.put_many(records), names[3])
        for name in names[:3] if done else ():
            self._notes.acked(name)

    async def _snapshots(self) -> None:
        for _ in range(self._random.randrange(1, 5)):
            name = self._next()
            self._notes.begun(name, "log", ("order_book_snapshots", name), 1)
            try:
                await self._gateway.buffer_snapshot(
                    condition_id=name, bids=[(0.5, number_of(name))], asks=[], time_remaining=1.5
                )
            except EXPECTED as error:
                self._notes.failed(name, error)
            else:
                self._buffered.append(name)
        if self._random.random() < 0.5:
            held, self._buffered = self._buffered, []
            try:
                await self._gateway.flush()
            except MirrorWriteError:
                pass
            except EXPECTED:
                self._buffered = held + self._buffered
                return
            for name in held:
                self._notes.acked(name)

    def _own(self, kind: str) -> str:
        return f"{kind}-{self._place}-{self._random.randrange(OWN_KEYS)}"

    async def _save(self, market: str | None = None) -> bool:
        """Save a position of this task's own, or one that every task of every bot saves."""
        name, shared = self._next(), market is None and self._random.random() < 0.4
        chosen = market or ("shared" if shared else self._own("p"))

        async def call() -> Ack:
            return await self._gateway.save_position(
                condition_id=chosen, market_name=name, side="YES", entry_price=number_of(name), opened_at=self._when(),
                extra={"name": name},
            )  # fmt: skip

        ack = await self._call("shared" if shared else "own", ("positions", chosen), name, call, name)
        if ack is not None and not shared and self._random.random() < 0.3:
            await self._read_back(chosen, name)
        return ack is not None

    async def _read_back(self, market: str, name: str) -> None:
        try:
            held = await self._gateway.load_position(market)
        except EXPECTED:
            return
        if held is None or held.market_name != name:
            self._notes.wrong(f"{market} was saved by {name}, and read back as {held!r}")

    async def _close(self) -> None:
        market, name = self._own("p"), self._next()
        if not await self._save(market):
            return
        closed = await self._call(
            "own",
            ("positions", market),
            f"{CLOSED}{name}",
            lambda: self._gateway.close_position(market, name, closed_at=self._when(), pnl=number_of(name)),
            name,
        )
        if isinstance(closed, Position) and closed.close_reason != name:
            self._notes.wrong(f"{market} was closed by {name}, and the answer says {closed!r}")

    async def _delete(self) -> None:
        market = self._own("p")
        if await self._save(market):
            await self._call(
                "own", ("positions", market), None, lambda: self._gateway.delete("positions", market)
            )

    async def _forget(self) -> None:
        """Delete a trade of this task's own."""
        if self._trades:
            name, record_id = self._trades.pop(self._random.randrange(len(self._trades)))
            await self._call(
                "gone", ("trades", name), None, lambda: self._gateway.delete("trades", record_id)
            )

    async def _candle(self) -> None:
        name, shared = self._next(), self._random.random() < 0.4
        symbol, number = "shared" if shared else self._own("c"), number_of(name)
        bar = Candle(
            symbol=symbol, interval="1m", timestamp=NOON, open=1, high=2, low=0.5, close=1, volume=number
        )
        what = "shared" if shared else "own"
        await self._call(what, ("candles", symbol), str(number), lambda: self._gateway.put(bar), name)

    async def _remember(self) -> None:
        name, shared = self._next(), self._random.random() < 0.4
        owner = "shared" if shared else self._own("b")
        state = BotState(bot_id=owner, data={"name": name}, cycle=number_of(name), updated_at=NOON)
        what = "shared" if shared else "own"
        await self._call(what, ("bot_state", owner, "state"), name, lambda: self._gateway.put(state), name)

    async def _order(self) -> None:
        name, own = self._next(), self._own("w")
        order = WorkOrder(order_id=own, task=name, created_at=NOON)
        await self._call("own", ("work_orders", own), name, lambda: self._gateway.put(order), name)

    async def _series(self) -> None:
        """Overwrite a series of this task's own: all of the new values count from one moment on, or none."""
        name, own = self._next(), self._own("s")
        values = [
            IndicatorValue(NOON + timedelta(minutes=at), float(number_of(name)), metadata={"name": name})
            for at in range(4)
        ]

        async def call() -> int:
            return await self._gateway.save_indicators(
                values, session_id=own, symbol="BTC", indicator_id="rsi", mode="overwrite"
            )

        await self._call("own", ("indicator_series", own), name, call, name)

    async def _stats(self) -> None:
        """Add to a day; now and then a second time under the same operation, which then counts once."""
        again = bool(self._operations) and self._random.random() < 0.2
        name = self._random.choice(self._operations) if again else self._next()
        number = number_of(name)

        async def call(**_: str) -> Any:
            return await self._gateway.update_daily_stats(
                DAY, trade_count_delta=number, pnl_delta=f"{number}.01", operation_id=name
            )

        if again:
            await self._call("again", ("daily_stats", DAY), name, call)
        elif await self._call("delta", ("daily_stats", DAY), number, call, name):
            self._operations.append(name)

    async def _plain(self) -> None:
        async def call(**more: Any) -> Any:
            return await self._gateway.update_daily_stats(PLAIN_DAY, trade_count_delta=1, **more)

        await self._call("plain", ("daily_stats", PLAIN_DAY), 1, call)
