from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from itertools import islice

import pytest

import gateway.demo.paper_bot
from gateway.demo.acks import read_acks
from gateway.demo.market import Tick, generated_market
from gateway.demo.paper_bot import BOT_ID, PaperBot
from gateway.demo.status import Files
from gateway.demo.strategy import TrendFollower
from gateway.records import Position

RunBot = Callable[[], AbstractAsyncContextManager[PaperBot]]

TICKS = list(islice(generated_market(7).ticks(0), 400))


def test_the_bot_knows_nothing_of_phases_and_stores() -> None:
    """Not one name in the bot is about what the operator does to its storage."""
    names = {
        getattr(node, field)
        for node in ast.walk(ast.parse(inspect.getsource(gateway.demo.paper_bot)))
        for field in ("id", "attr", "module", "name")
        if isinstance(getattr(node, field, None), str)
    }
    forbidden = (
        "phase",
        "mirror",
        "shadow",
        "migration",
        "backend",
        "json",
        "sqlite",
        "cutover",
        "route",
        "plan",
    )
    assert {name for name in names if any(word in name.lower() for word in forbidden)} == set()
    assert "insert_trade" in names


@pytest.mark.anyio
async def test_a_new_process_goes_on_where_the_last_one_stood(run_bot: RunBot) -> None:
    """The number of the tick and the open positions come from the store."""
    async with run_bot() as bot:
        for tick in TICKS[:150]:
            await bot.on_tick(tick)
        left = bot.open
    assert left
    async with run_bot() as again:
        assert again.tick == 149
        assert again.recovered == again.open == left
        assert again.found_open == len(left)


@pytest.mark.anyio
async def test_a_break_changes_no_decision(run_bot: RunBot, files: Files) -> None:
    """A bot that is started anew at every tick trades as one that never stopped."""
    for number in range(60, 80):
        if number == 60:
            async with run_bot() as bot:
                for tick in TICKS[:60]:
                    await bot.on_tick(tick)
        async with run_bot() as bot:
            await bot.on_tick(TICKS[number])
    broken = {ack.key for part in read_acks(files.acks) for ack in part if ack.kind == "trades"}
    files.acks.unlink()
    assert {str(key[0]).removeprefix(f"{BOT_ID}-") for key in broken} == unbroken_trades(80)


def unbroken_trades(count: int) -> set[str]:
    """Return the trades of so many ticks, decided without any storage."""
    symbol = generated_market(7).symbol
    trades: set[str] = set()
    for follower in [TrendFollower(symbol, window) for window in (5, 8, 13, 21, 34, 55)]:
        held: Position | None = None
        for tick in TICKS[:count]:
            decision = follower.decide(tick.price, held)
            follower.see(tick.price)
            if decision.move.value in {"open", "close"}:
                trades.add(f"{tick.id}-{follower.name}-{'buy' if decision.move.value == 'open' else 'sell'}")
            if decision.stop is not None:
                held = Position(
                    condition_id="x",
                    side="long",
                    entry_price=tick.price,
                    trailing_stop_price=decision.stop,
                    opened_at=tick.at,
                )
            elif decision.move.value == "close":
                held = None
    return trades


@pytest.mark.anyio
async def test_a_trade_cut_short_is_repeated_and_counted_once(run_bot: RunBot) -> None:
    """Killed after the day's totals and before the position is closed, the bot repeats both and adds nothing."""
    async with run_bot() as bot:
        for tick in TICKS[:150]:
            await bot.on_tick(tick)
        number, follower, held = await until_a_stop_is_hit(bot)
        tick = TICKS[number]
        pnl = (tick.price - held.entry_price) * 100
        trade_id = await bot._trade(follower, tick, action="sell", reason="stop-loss", pnl=pnl)
        await bot._count(trade_id, tick, pnl)
        before = await totals(bot, tick)
    async with run_bot() as again:
        assert again.tick == number - 1
        assert follower.condition_id in again.recovered
        await again.on_tick(tick)
        assert follower.condition_id not in again.open
        assert again.trades == 1
        after = await totals(again, tick)
    assert after == before
    assert before[0] > 0


async def until_a_stop_is_hit(bot: PaperBot) -> tuple[int, TrendFollower, Position]:
    """Trade until the next tick is one at which exactly one position is closed, and nothing else traded."""
    for number in range(150, len(TICKS)):
        tick = TICKS[number]
        moves = [(one, one.decide(tick.price, bot._held.get(one.condition_id))) for one in bot._followers]
        trading = [(one, move) for one, move in moves if move.move.value in {"open", "close"}]
        if len(trading) == 1 and trading[0][1].move.value == "close":
            return number, trading[0][0], bot._held[trading[0][0].condition_id]
        await bot.on_tick(tick)
    raise AssertionError("the market never fell to a stop")


async def totals(bot: PaperBot, tick: Tick) -> tuple[int, Decimal]:
    """Return the trades and the profit of a day."""
    day = await bot._gateway.get_or_create_daily_stats(tick.at.date())
    return day.total_trades, day.current_pnl


@pytest.mark.anyio
async def test_the_bot_uses_every_kind_of_call(traded: Files) -> None:
    """Positions, trades, events, snapshots, alerts, totals, state: whatever is migrated is written."""
    kinds = {ack.kind for part in read_acks(traded.acks) for ack in part}
    assert kinds == {
        "alerts",
        "bot_state",
        "closed_positions",
        "daily_stats",
        "events",
        "operations",
        "order_book_snapshots",
        "positions",
        "trades",
    }
