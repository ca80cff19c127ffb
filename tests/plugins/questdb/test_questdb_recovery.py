"""Groups that a crash left behind: each is finished by itself, whole, and what cannot be is told and kept."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.findings import Level
from gateway.query import Query
from gateway.records import CANDLES, TICK_PRICES, KindSpec, Row
from gateway.records.codec import from_micros
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.examine import examine
from gateway_questdb.groups import PAGE, Groups, packed
from gateway_questdb.opening import open_backend
from gateway_questdb.statements import Statement
from tests.plugins.questdb.conftest import MakeContext, context_on
from tests.servers import QuestDbServer

pytestmark = pytest.mark.anyio
KINDS = (TICK_PRICES, CANDLES)
NOON = 1_788_000_000_000_000
HOUR = 3_600_000_000


def now() -> int:
    """Return the time, in microseconds since 1970."""
    return time.time_ns() // 1000


def tick(stamper: Stamper, at: int = 0) -> Row:
    """Return a tick."""
    values = {"timestamp": from_micros(NOON + at), "symbol": "BTC", "price": 1.0}
    return stamper.stamp(TICK_PRICES, TICK_PRICES.model.model_validate(values))


def candle(stamper: Stamper, at: int = 0) -> Row:
    """Return a bar."""
    values: dict[str, Any] = {
        "symbol": "BTC",
        "interval": "1m",
        "timestamp": from_micros(NOON + at * 60_000_000),
    }
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    return stamper.stamp(CANDLES, CANDLES.model.model_validate({**values, **prices}))


@pytest.fixture
def prefix() -> str:
    """What the names of this test's own tables begin with."""
    return f"r{uuid.uuid4().hex[:8]}_"


@pytest.fixture
def context(make_context: MakeContext, prefix: str) -> Callable[..., OpenContext]:
    """Makes contexts on tables of this test's own."""
    return lambda kinds=KINDS: make_context(kinds=kinds, table_prefix=prefix)


async def stored(store: QuestDbBackend, kind: KindSpec, stamper: Stamper) -> list[Row]:
    """Return the rows of a kind."""
    return list(await store.gateway_query(Query(kind, stamper.tenant, limit=10_000)))


def groups_of(store: QuestDbBackend) -> Groups:
    """Return where a store writes groups down."""
    assert store._writer is not None
    return store._writer._groups


async def states(store: QuestDbBackend) -> list[str]:
    """Return what was noted of groups."""
    groups = groups_of(store)
    await store._waiting.applied([groups.table])
    rows = await store._readers.fetch(Statement(f'SELECT "state" FROM "{groups.table}"', []))  # noqa: S608 - a test's
    return sorted(state for (state,) in rows)


async def test_a_group_of_unknown_kinds_is_left_to_who_knows_them(
    context: Callable[..., OpenContext], stamper: Stamper, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that registers fewer kinds opens, says so, and stores no half of a group; another one stores it all."""
    store = await open_backend(context())
    rows = tick(stamper), candle(stamper)
    await groups_of(store).begin(rows)
    await store.gateway_close()
    with caplog.at_level(logging.WARNING):
        lesser = await open_backend(context((TICK_PRICES,)))
    assert "rows of candles, which this process does not know" in caplog.text
    assert await stored(lesser, TICK_PRICES, stamper) == []
    assert await states(lesser) == ["begun"]
    health = await lesser.gateway_health()
    assert health.details["unfinished_groups"] == 1
    assert "1 groups could not be finished" in health.summary
    assert Level.WARN in {one.level for one in examine(context()) if one.subject.endswith("groups")}
    await lesser.gateway_close()
    store = await open_backend(context())
    assert (await stored(store, TICK_PRICES, stamper), await stored(store, CANDLES, stamper)) == (
        [rows[0]],
        [rows[1]],
    )
    assert await states(store) == ["begun", "done"]
    assert (await store.gateway_health()).details["unfinished_groups"] == 0
    await store.gateway_close()


async def test_one_group_that_cannot_be_finished_holds_up_no_other(
    context: Callable[..., OpenContext], stamper: Stamper
) -> None:
    """A store opens beside groups that nobody can finish, more than a look takes at once, and finishes those behind."""
    store = await open_backend(context())
    groups = groups_of(store)
    former = tick(stamper)._replace(values=tick(stamper).values[:-1])
    first = now() - HOUR
    bad = [packed([former, candle(stamper)]), *["nonsense"] * PAGE]
    lines: list[Any] = [
        ({"state": "begun"}, {"name": f"{at:04}", "payload": text}, first + at // 2)
        for at, text in enumerate(bad)
    ]
    await groups._senders.send(groups.table, lambda: lines)
    rows = tick(stamper, 1), candle(stamper, 1)
    await groups.begin(rows)
    await store.gateway_close()
    store = await open_backend(context())
    assert await stored(store, TICK_PRICES, stamper) == [rows[0]]
    assert await stored(store, CANDLES, stamper) == [rows[1]]
    assert store._writer is not None
    assert store._writer.recovery.left == PAGE + 1
    assert (await states(store)).count("done") == 1
    await store.gateway_close()


async def test_a_suspended_table_stops_no_opening(
    own_server: QuestDbServer, stamper: Stamper, prefix: str
) -> None:
    """A group for a table that is suspended is kept, the store opens and is used, and the group comes when it can."""
    context = context_on(own_server, kinds=KINDS, table_prefix=prefix)
    store = await open_backend(context)
    rows = tick(stamper), candle(stamper)
    await groups_of(store).begin(rows)
    await store.gateway_write(WriteBatch([candle(stamper, 1)]))
    await stored(store, CANDLES, stamper)
    await store.gateway_close()
    own_server.query(f"ALTER TABLE {prefix}candles SUSPEND WAL")
    store = await open_backend(context)
    assert await states(store) == ["begun"]
    await store.gateway_write(WriteBatch([tick(stamper, 1)]))
    own_server.query(f"ALTER TABLE {prefix}candles RESUME WAL")
    assert store._writer is not None
    assert await store._writer.recovery.look(0.0) == 1
    assert len(await stored(store, CANDLES, stamper)) == len(await stored(store, TICK_PRICES, stamper)) == 2
    await store.gateway_close()


async def test_a_look_is_as_long_as_what_is_left(
    context: Callable[..., OpenContext],
    stamper: Stamper,
    questdb: QuestDbServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Groups that are done do not come to the gateway, and those before the last clear look are not looked at again."""
    store = await open_backend(context())
    groups, first = groups_of(store), now() - HOUR
    numbers = f"SELECT cast({first} + x as timestamp), cast(x as varchar)"
    for state in ("begun", "done"):
        questdb.query(f"INSERT INTO {groups.table} {numbers}, '{state}', '' FROM long_sequence(3000)")
    assert store._writer is not None
    recovery = store._writer.recovery
    fetched = 0
    fetch = store._readers.fetch

    async def counted(statement: Statement) -> Sequence[Sequence[Any]]:
        nonlocal fetched
        rows = await fetch(statement)
        fetched += len(rows)
        return rows

    monkeypatch.setattr(store._readers, "fetch", counted)
    assert await recovery.look(1e-6) == 0
    assert fetched < 1000, "most of that are looks whether the table is applied"
    await store._waiting.applied([groups.table])
    assert first < await groups.cleared() <= now(), "that nothing is left was noted"
    # One of a few minutes ago may still have been on its way at the look; one of days ago cannot.
    rows = tick(stamper), candle(stamper)
    times = now() - 100 * HOUR, now() - HOUR // 10
    lines: list[Any] = [
        ({"state": "begun"}, {"name": f"late {at}", "payload": packed(rows)}, at) for at in times
    ]
    await groups._senders.send(groups.table, lambda: lines)
    other = await open_backend(context())
    assert (await states(other)).count("done") == 3001
    await other.gateway_close()
    await store.gateway_close()
