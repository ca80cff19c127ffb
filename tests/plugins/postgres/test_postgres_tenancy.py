"""Two tenants on one database: no call of one reads, changes, counts or digests a row of the other."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway import Gateway, IndicatorValue, InvalidRecordError
from gateway.api import StorageGateway
from gateway.backend import Summarize
from gateway.cli.app import make_app
from gateway.query import Query, ReadRange
from gateway.records import POSITIONS, TRADES, Candle, Event, Position
from gateway.records.builtin import BUILTIN_KINDS
from tests.prepared import PreparedDatabases, environ_of
from tests.servers import Database, PgBouncer, PostgresServer

pytestmark = pytest.mark.anyio
NOBODY: Final = "33333333-3333-3333-3333-333333333333"
WORD: Final = "theirs-alone"
PRICE: Final = Decimal("70077.0077")
"""What only their rows hold."""
NOW: Final = datetime(2026, 3, 12, 11, tzinfo=UTC)
DAY: Final = "2026-03-12"


@dataclass(frozen=True)
class House:
    """A database with two tenants.

    Attributes:
        database: Where.
        url: The bots' URL, perhaps through a pooler.
        directory: For the gateways' files.
        mine: The gateway whose calls are looked at.
        theirs: The gateway whose rows must stay its own.
    """

    database: Database
    url: str
    directory: Path
    mine: Gateway
    theirs: Gateway

    @property
    def mine_is(self) -> str:
        """The tenant of `mine`."""
        return self.mine.engine.stamper.tenant

    @property
    def theirs_is(self) -> str:
        """The tenant of `theirs`."""
        return self.theirs.engine.stamper.tenant

    def rows_of(self, tenant: str) -> list[tuple[Any, ...]]:
        """Return a fingerprint of all that is stored for a tenant, table by table, as the superuser sees it."""
        parts = [
            f"SELECT '{kind.name}', count(*), md5(string_agg(held::text, '|' ORDER BY held::text)) "  # noqa: S608 - names of registered kinds
            f'FROM "{kind.schema}"."{kind.name}" AS held WHERE tenant_id = \'{tenant}\''
            for kind in BUILTIN_KINDS
        ]
        return self.database.execute(" UNION ALL ".join(parts))


def _gateway(url: str, directory: Path, tenant: str) -> Gateway:
    chosen = environ_of(url, tenant=tenant)
    return Gateway("postgres", data_dir=directory / tenant, environ=chosen, env_file=None)


async def _fill(gateway: Gateway, word: str, price: Decimal, count: int) -> None:
    """Store something of every kind under keys that are the same for every tenant."""
    for at in range(4):
        moment = NOW + timedelta(minutes=at)
        await gateway.insert_trade(
            record_id=f"t{at}",
            timestamp=moment,
            market_name=word,
            action="buy",
            side="YES",
            price=price,
            amount=1,
        )
        await gateway.record_event(
            record_id=f"e{at}", timestamp=moment, session_id=f"s{word}", event_type="e", data={"word": word}
        )
        await gateway.insert_alert(
            record_id=f"a{at}", timestamp=moment, alert_type=word, details={"word": word}
        )
        await gateway.save_position(
            condition_id=f"p{at}", side="YES", entry_price=price, opened_at=NOW, extra={"word": word}
        )
        await gateway.buffer_snapshot(record_id=f"b{at}", timestamp=moment, condition_id=word)
        await gateway.put("bot_state", bot_id=f"b{at}", updated_at=NOW, status=word)
        await gateway.put(
            "candles",
            symbol=f"c{at}",
            interval="1m",
            timestamp=NOW,
            open=1,
            high=1,
            low=1,
            close=float(price),
        )
        await gateway.put(
            "tick_prices", record_id=f"k{at}", timestamp=moment, symbol="c0", price=float(price)
        )
    values = [
        IndicatorValue(NOW + timedelta(minutes=at), float(price), metadata={"word": word}) for at in range(4)
    ]
    await gateway.save_indicators(values, session_id="s", symbol="c0", indicator_id="i")
    await gateway.flush()
    await gateway.close_position("p3", word, pnl=price)
    await gateway.update_daily_stats(DAY, trade_count_delta=count, pnl_delta=price, operation_id="o")


@pytest.fixture(scope="module")
def single(postgres18: PostgresServer) -> Iterator[PgBouncer]:
    """A bouncer with one server connection, so that the two tenants always meet on it."""
    with PgBouncer(postgres18, pool_size=1) as bouncer:
        yield bouncer


@pytest.fixture(scope="module")
def shop(prepared_databases: PreparedDatabases) -> Iterator[Database]:
    """The database that all tenants of this file share."""
    with prepared_databases.fresh() as database:
        yield database


@pytest.fixture(params=["direct", "pooled"])
async def house(
    request: pytest.FixtureRequest, shop: Database, single: PgBouncer, tmp_path: Path
) -> AsyncIterator[House]:
    """Two tenants with the same keys, directly and on one shared server connection."""
    url = shop.app_url
    url = single.url_of(url) if request.param == "pooled" else url
    tenants = [str(uuid.uuid4()) for _ in range(2)]
    async with _gateway(url, tmp_path, tenants[0]) as mine, _gateway(url, tmp_path, tenants[1]) as theirs:
        await _fill(theirs, WORD, PRICE, 700)
        await _fill(mine, "mine", Decimal(1), 1)
        yield House(shop, url, tmp_path, mine, theirs)


async def _streamed(gateway: Gateway, kind: str, **how: Any) -> list[Any]:
    return [record async for record in gateway.stream(kind, **how)]


Call = Callable[[Gateway], Awaitable[Any]]


def _query_of(kind: str) -> Call:
    return lambda gateway: gateway.query(kind, limit=10_000)


NEAR: Final[dict[str, Any]] = {"since": NOW - timedelta(days=3650), "until": NOW + timedelta(days=3650)}

CALLS: Final[dict[str, list[Call]]] = {
    "load_position": [lambda g: g.load_position("p0")],
    "get_open_positions": [lambda g: g.get_open_positions()],
    "get_trades": [
        lambda g: g.get_trades(limit=None),
        lambda g: g.get_trades(market=WORD),
        lambda g: g.get_trades(date=DAY, order="asc"),
        lambda g: g.get_trades(**NEAR),
    ],
    "get_events": [lambda g: g.get_events(), lambda g: g.get_events(f"s{WORD}")],
    "list_sessions": [lambda g: g.list_sessions()],
    "get_snapshots": [lambda g: g.get_snapshots(limit=None), lambda g: g.get_snapshots(WORD)],
    "get_alerts": [lambda g: g.get_alerts(limit=None), lambda g: g.get_alerts(alert_type=WORD)],
    "get": [
        lambda g: g.get("trades", "t0"),
        lambda g: g.get("bot_state", "b0", "state"),
        lambda g: g.get("candles", "c0", "1m", NOW),
        lambda g: g.get("operations", "o"),
        lambda g: g.get("daily_stats", DAY),
    ],
    "query": [_query_of(kind.name) for kind in BUILTIN_KINDS]
    + [
        lambda g: g.query("trades", where={"market_name": WORD}),
        lambda g: g.query("trades", where={"market_name__ne": "mine"}),
        lambda g: g.query("trades", where={"market_name__in": [WORD, None, "' OR 1=1 --"]}),
        lambda g: g.query("trades", where={"price__ge": PRICE}),
        lambda g: g.query("trades", where={"record_id__ge": ""}, order="desc", limit=2),
        lambda g: g.query("positions", where={"extra": {"word": WORD}}),
        lambda g: g.query("positions", where={"condition_id": "x') OR tenant_id IS NOT NULL --"}),
    ],
    "stream": [partial(_streamed, kind=kind.name) for kind in BUILTIN_KINDS],
    "health": [lambda g: g.health()],
    "get_or_create_daily_stats": [lambda g: g.get_or_create_daily_stats(DAY)],
    "save_position": [
        lambda g: g.save_position(condition_id="p0", side="NO", entry_price=2, opened_at=NOW),
    ],
    "close_position": [lambda g: g.close_position("p1", "mine", pnl=3)],
    "insert_trade": [
        lambda g: g.insert_trade(
            record_id="t0", timestamp=NOW + timedelta(days=90), market_name="mine", action="sell", side="NO",
            price=9, amount=9,
        ),
    ],
    "record_event": [lambda g: g.record_event(record_id="e0", timestamp=NOW, session_id="smine", event_type="x")],
    "insert_alert": [lambda g: g.insert_alert(record_id="a0", timestamp=NOW, alert_type="mine")],
    "buffer_snapshot": [lambda g: g.buffer_snapshot(record_id="b0", timestamp=NOW, condition_id="mine")],
    "flush": [lambda g: g.flush()],
    "put": [
        lambda g: g.put("bot_state", bot_id="b0", updated_at=NOW, status="mine"),
        lambda g: g.put("candles", symbol="c0", interval="1m", timestamp=NOW, open=2, high=2, low=2, close=2),
    ],
    "put_many": [
        lambda g: g.put_many(
            [Position(condition_id=f"p{at}", side="NO", entry_price=Decimal(5), opened_at=NOW) for at in range(4)]
            + [Event(record_id=f"e{at}", session_id="smine", event_type="y", timestamp=NOW) for at in range(4)]
            + [
                Candle(symbol=f"c{at}", interval="1m", timestamp=NOW, open=5, high=5, low=5, close=5)
                for at in range(4)
            ]
        ),
    ],
    "update_daily_stats": [
        lambda g: g.update_daily_stats(DAY, trade_count_delta=1, operation_id="o"),
        lambda g: g.update_daily_stats(DAY, trade_count_delta=1, initial_balance=5),
    ],
    "delete": [
        lambda g: g.delete("positions", "p0"),
        lambda g: g.delete("trades", "t1"),
        lambda g: g.delete("candles", "c0", "1m", NOW),
    ],
    "get_candles": [
        lambda g: g.get_candles("c0", "1m"),
        lambda g: g.get_candles("c0", "5m", **NEAR),
    ],
    "latest_prices": [lambda g: g.latest_prices(), lambda g: g.latest_prices(["c0"])],
    "query_frame": [
        lambda g: g.query_frame("trades"),
        lambda g: g.query_frame("indicators", where={"indicator_id": "i"}),
    ],
    "load_indicators": [lambda g: g.load_indicators("s", "c0", "i")],
    "load_indicator_columns": [lambda g: g.load_indicator_columns("s", "c0", "i")],
    "describe_indicators": [lambda g: g.describe_indicators("s", "c0", "i")],
    "put_frame": [
        lambda g: g.put_frame(
            "tick_prices", {"record_id": ["k0"], "timestamp": [NOW], "symbol": ["c0"], "price": [5.0]}
        ),
    ],
    "save_indicators": [
        lambda g: g.save_indicators([IndicatorValue(NOW, 5.0)], session_id="s", symbol="c0", indicator_id="i"),
        lambda g: g.save_indicators(
            [IndicatorValue(NOW, 6.0)], session_id="s", symbol="c0", indicator_id="i", mode="overwrite"
        ),
    ],
    "prune_indicators": [
        lambda g: g.prune_indicators("s", "c0", "i", older_than=timedelta(microseconds=1)),
    ],
    "purge": [
        lambda g: g.purge("trades", older_than=timedelta(seconds=1)),
        lambda g: g.purge("events", older_than=timedelta(seconds=1)),
    ],
}  # fmt: skip
"""Every call of the API with keys and filters that the other tenant has too, those that change rows last."""


def test_every_call_of_the_api_is_among_those_looked_at() -> None:
    """A method that is added to the API without being added here fails this test."""
    methods = {name for name, _ in inspect.getmembers(StorageGateway, inspect.isfunction) if name[0] != "_"}
    assert methods == set(CALLS)


async def test_no_call_reaches_the_other_tenants_rows(house: House) -> None:
    """Each call answers without their values and leaves every one of their rows as it was, byte for byte."""
    before = house.rows_of(house.theirs_is)
    assert all(count for name, count, _ in before if name in {"trades", "positions", "events", "daily_stats"})
    for name, calls in CALLS.items():
        for number, call in enumerate(calls):
            answer = await call(house.mine)
            assert WORD not in repr(answer), (name, number)
            assert str(PRICE) not in repr(answer), (name, number)
            assert house.rows_of(house.theirs_is) == before, (name, number)
    assert (await house.mine.query("trades")) == []
    assert len(await house.theirs.query("trades")) == 4


async def test_equal_keys_stay_two_rows(house: House) -> None:
    """What one tenant stores under a key of the other is a row of its own; each reads back what it wrote."""
    for gateway, word, price, count in (
        (house.mine, "mine", Decimal(1), 1),
        (house.theirs, WORD, PRICE, 700),
    ):
        assert [trade.market_name for trade in await gateway.get_trades()] == [word] * 4
        held = await gateway.load_position("p0")
        assert held is not None
        assert held.extra == {"word": word}
        assert held.entry_price == price
        assert (await gateway.get_or_create_daily_stats(DAY)).total_trades == count
        assert [(one.session_id, one.events) for one in await gateway.list_sessions()] == [(f"s{word}", 4)]
        closed = await gateway.query("closed_positions")
        assert [getattr(one, "close_reason", None) for one in closed] == [word]
    counted = [(name, count) for name, count, _ in house.rows_of(house.mine_is)]
    assert counted == [(name, count) for name, count, _ in house.rows_of(house.theirs_is)]


async def test_a_forged_cursor_opens_no_door(house: House) -> None:
    """A cursor of the other tenant's listing is a place in one's own, whichever row it was made from."""
    for order in ("asc", "desc"):
        theirs = await house.theirs.query("trades", limit=2, order=order)
        assert theirs.cursor is not None
        page = await house.mine.query("trades", limit=10, order=order, after=theirs.cursor)
        assert [getattr(trade, "market_name", None) for trade in page] == ["mine"] * 2
    async with _gateway(house.url, house.directory, NOBODY) as nobody:
        theirs = await house.theirs.query("trades", limit=1)
        assert await nobody.query("trades", after=theirs.cursor) == []


FORGED: Final[tuple[dict[str, Any], ...]] = (
    {"tenant_id": NOBODY},
    {"tenant_id__ne": NOBODY},
    {"version__ge": 0},
    {"digest__ne": 0},
    {"deleted": True},
    {'record_id" = record_id OR "record_id': "x"},
    {"record_id__like": "%"},
    {"held.tenant_id": NOBODY},
)


async def test_filters_name_declared_fields_only(house: House) -> None:
    """The columns that keep tenants apart, and anything that is no field, cannot be filtered by."""
    for where in FORGED:
        with pytest.raises(InvalidRecordError):
            await house.mine.query("trades", where=where)


async def test_counts_and_digests_are_of_ones_own_rows(house: House) -> None:
    """What a store counts, sums and lists for a tenant is that tenant's, and nothing for one that has no rows."""
    (store,) = house.mine.engine.stores.values()
    own = await store.query(Query(TRADES, house.mine_is, limit=100, include_deleted=True))
    fingerprint = await store.digest(ReadRange(TRADES, house.mine_is))
    assert fingerprint.rows == len(own) == 4
    assert fingerprint.total == sum(row.digest for row in own) % 2**64
    other = await store.digest(ReadRange(TRADES, house.theirs_is))
    assert (other.rows, other.total != fingerprint.total) == (4, True)
    empty = await store.digest(ReadRange(TRADES, NOBODY))
    assert (empty.rows, empty.total) == (0, 0)
    assert sum(group.rows for group in await store.summarize(Summarize(TRADES, NOBODY))) == 0
    assert list(await store.get(POSITIONS, NOBODY, [("p0",)])) == [None]
    assert await store.purge(TRADES, NOBODY, datetime(9999, 1, 1, tzinfo=UTC)) == 0


async def test_calls_of_two_tenants_in_turn(house: House) -> None:
    """Many calls of both at the same time, on one server connection or several, never get each other's answers."""
    before = house.rows_of(house.theirs_is)

    async def read(gateway: Gateway, word: str, profit: Decimal) -> None:
        for at in range(25):
            assert {trade.market_name for trade in await gateway.get_trades(limit=None)} == {word}
            held = await gateway.load_position(f"p{at % 3}")
            assert held is not None
            assert held.extra == {"word": word}
            assert [session.session_id for session in await gateway.list_sessions()] == [f"s{word}"]
            assert (await gateway.get_or_create_daily_stats(DAY)).current_pnl == profit

    async def write(gateway: Gateway) -> None:
        for at in range(25):
            await gateway.update_daily_stats(DAY, trade_count_delta=1)
            await gateway.insert_trade(market_name="mine", action="buy", side="YES", price=1, amount=at)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(read(house.mine, "mine", Decimal(1)))
            group.create_task(read(house.theirs, WORD, PRICE))
        group.create_task(write(house.mine))
    assert house.rows_of(house.theirs_is) == before
    assert (await house.mine.get_or_create_daily_stats(DAY)).total_trades == 26


async def test_commands_of_one_tenant_show_and_move_its_rows_only(house: House) -> None:
    """`export`, `query`, `stats`, `copy` and `verify` with STORAGE_TENANT set know of no other tenant's row."""
    before = house.rows_of(house.theirs_is)
    environment = environ_of(house.url, tenant=house.mine_is, data_dir=str(house.directory / "cli"))
    commands = make_app()

    async def run(*arguments: str) -> str:
        # In a thread, since commands run an event loop of their own.
        done = await asyncio.to_thread(CliRunner().invoke, commands, arguments, env=environment)
        assert done.exit_code == 0, done.output
        assert WORD not in done.output
        return done.stdout

    one = ("--backends", "postgres")
    assert len((await run(*one, "export", "trades")).splitlines()) == 4
    assert "mine" in await run(*one, "query", "positions", "--json")
    await run(*one, "stats", "--json")
    await run(*one, "verify", "--deep", "--json")
    both = ("--backends", "postgres,sqlite")
    await run(*both, "copy", "--json")
    await run(*both, "verify", "--deep", "--json")
    assert len((await run("--backends", "sqlite", "export", "trades")).splitlines()) == 4
    assert house.rows_of(house.theirs_is) == before


Step = tuple[int, str, int, int]
_steps: Final = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["save", "close", "delete", "count", "trade", "untrade", "purge"]),
        st.integers(0, 2),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=14,
)


async def _take(gateway: Gateway, step: Step) -> None:
    _, what, key, value = step
    if what == "save":
        await gateway.save_position(condition_id=f"k{key}", side="YES", entry_price=value, opened_at=NOW)
    elif what == "close":
        await gateway.close_position(f"k{key}", "why", closed_at=NOW, pnl=value)
    elif what == "delete":
        await gateway.delete("positions", f"k{key}")
    elif what == "count":
        await gateway.update_daily_stats(
            DAY, trade_count_delta=value, pnl_delta=Decimal(value), operation_id=f"o{key}"
        )
    elif what == "trade":
        await gateway.insert_trade(
            record_id=f"k{key}", timestamp=NOW + timedelta(days=31 * value), market_name="M", action="buy",
            side="YES", price=value, amount=1,
        )  # fmt: skip
    elif what == "untrade":
        await gateway.delete("trades", f"k{key}")
    else:
        await gateway.purge("trades", older_than=timedelta(days=value))


async def _seen(gateway: Gateway) -> list[Any]:
    held = [await _streamed(gateway, kind) for kind in ("positions", "trades")]
    closed = [(one.condition_id, one.pnl) for one in await _streamed(gateway, "closed_positions")]
    return [*held, sorted(closed, key=str), await gateway.get_or_create_daily_stats(DAY)]


def test_two_tenants_are_as_two_databases(shop: Database, single: PgBouncer, tmp_path: Path) -> None:
    """Whatever two tenants do in whatever order, each sees what it would see had it a store to itself."""
    url = single.url_of(shop.app_url)

    async def play(steps: list[Step]) -> None:
        async with AsyncExitStack() as opened:
            tenants = [str(uuid.uuid4()) for _ in range(2)]
            shared = [await opened.enter_async_context(_gateway(url, tmp_path, tenant)) for tenant in tenants]
            alone = [
                await opened.enter_async_context(
                    Gateway("memory", data_dir=tmp_path / "memory", environ={}, env_file=None)
                )
                for _ in tenants
            ]
            for step in steps:
                await _take(shared[step[0]], step)
                await _take(alone[step[0]], step)
            for one, other in zip(shared, alone, strict=True):
                assert await _seen(one) == await _seen(other)

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(_steps)
    def check(steps: list[Step]) -> None:
        asyncio.run(play(steps))

    check()
