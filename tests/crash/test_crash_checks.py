"""What the crash tests look at: each sort of loss, doubling and difference is found by it."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.records.row import Row
from tests.crash.conftest import MakeWorld
from tests.crash.crash_checks import problems
from tests.crash.crash_lab import World, differences, left, stored_in
from tests.crash.crash_ledger import Ledger
from tests.servers import PostgresServer

pytestmark = pytest.mark.anyio

KINDS: Final = (
    "trades",
    "events",
    "alerts",
    "trade_decisions",
    "tick_prices",
    "order_book_snapshots",
    "positions",
    "closed_positions",
    "candles",
    "bot_state",
    "indicators",
    "indicator_series",
    "operations",
    "daily_stats",
    "work_orders",
)


def with_value(row: Row, name: str, value: Any) -> Row:
    """Return a row with another value of one field."""
    values = list(row.values)
    values[row.kind.index(name)] = value
    return row._replace(values=tuple(values))


CHANGES: Final[dict[str, tuple[str, Callable[[Sequence[Row]], list[Row]]]]] = {
    **{f"{kind} loses its rows": (kind, lambda rows: []) for kind in KINDS},  # noqa: ARG005 - all of them
    **{
        f"{kind} has a row twice": (kind, lambda rows: [*rows, rows[0]])
        for kind in KINDS
        if kind not in {"operations", "daily_stats", "indicator_series", "indicators"}
    },
    "trades lose one": ("trades", lambda rows: list(rows[1:])),
    "a trade of another amount": ("trades", lambda rows: [with_value(rows[0], "amount", "1.5"), *rows[1:]]),
    "ticks lose one": ("tick_prices", lambda rows: list(rows[:-1])),
    "a row that nobody wrote": ("tick_prices", lambda rows: [with_value(rows[0], "session_id", "x"), *rows]),
    "an older version": (
        "positions",
        lambda rows: [row._replace(version=1) if row.key == ("shared",) else row for row in rows],
    ),
    "a state that nobody wrote": (
        "positions",
        lambda rows: [with_value(row, "market_name", "x") if row.key == ("shared",) else row for row in rows],
    ),
    "a total that lacks a delta": (
        "daily_stats",
        lambda rows: [with_value(row, "total_trades", row.values[row.kind.index("total_trades")] - 1) for row in rows],  # type: ignore[operator] # a count
    ),
    "a series of half an overwrite": ("indicators", lambda rows: list(rows[1:])),
}  # fmt: skip


@pytest.fixture(scope="module")
def lived() -> dict[str, tuple[Ledger, dict[str, Sequence[Row]]]]:
    """What the one bot of these tests did, once it has."""
    return {}


async def looked_at(world: World) -> tuple[Ledger, dict[str, Sequence[Row]]]:
    """Let a bot write for a while, and return its notes and what is stored."""
    assert world.live(calls=700).wait() == 0, world.log
    async with world.opened() as gateway:
        return world.ledger, await stored_in(gateway)


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_lost_or_doubled_is_found(
    change: str, make_world: MakeWorld, lived: dict[str, tuple[Ledger, dict[str, Sequence[Row]]]]
) -> None:
    """Of a bot that nothing happened to nothing is wrong; with a row less, more or changed, something is."""
    if not lived:
        lived["bot"] = await looked_at(make_world("json,sqlite", "checks"))
    ledger, stored = lived["bot"]
    assert problems(ledger, stored) == []
    kind, changed = CHANGES[change]
    assert problems(ledger, {**stored, kind: changed(stored[kind])})


async def test_stores_that_differ_are_found(make_world: MakeWorld, tmp_path: Path) -> None:
    """A row that one store has not, a queue that the mirror has, and intents that are left, are each told."""
    world = make_world("json,sqlite", "differences")
    assert world.live(calls=200).wait() == 0, world.log
    async with world.opened() as gateway:
        assert await differences(gateway, deep=True) == []
    with sqlite3.connect(tmp_path / "gateway.db") as mirror:
        mirror.execute("DELETE FROM trades WHERE rowid IN (SELECT rowid FROM trades LIMIT 1)")
        mirror.execute("UPDATE alerts SET level = 'x' WHERE rowid IN (SELECT rowid FROM alerts LIMIT 1)")
    async with world.opened() as gateway:
        (plain,) = await differences(gateway)
        assert plain.startswith("trades differs")
        assert [line.split()[0] for line in await differences(gateway, deep=True)] == ["trades", "alerts"]


async def test_intents_that_are_left_are_found(
    make_world: MakeWorld, mortal_postgres: PostgresServer
) -> None:
    """A bot that dies with rows that the mirror has yet to get leaves them in the journal."""
    world = make_world("sqlite,postgres", "left")
    assert world.live(point=("before the mirror write", 1)).wait() == -signal.SIGKILL
    mortal_postgres.kill()
    async with world.opened() as gateway:
        (found,) = await left(gateway, ["sqlite"])
        assert found.startswith("the journal of sqlite has")
