"""A server that is killed, requests that are cut off, tables that stop: nothing lost, nothing doubled, nothing hidden."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.backend import Group, WriteBatch
from gateway.errors import (
    SchemaError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway.findings import Level
from gateway.query import Query, ReadRange
from gateway.records import CANDLES, INDICATOR_SERIES, TICK_PRICES, Row
from gateway.records.codec import from_micros
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.examine import examine
from gateway_questdb.groups import Groups
from gateway_questdb.layout import layout_of
from gateway_questdb.opening import open_backend
from gateway_questdb.senders import Senders
from gateway_questdb.values import encoder
from tests.plugins.questdb.conftest import MakeContext, context_on, url_of
from tests.plugins.questdb.cutter import Cutter
from tests.servers import QuestDbServer

NOON = 1_788_000_000_000_000


def ticks(stamper: Stamper, count: int, first: int = 0) -> list[Row]:
    """Return ticks a second apart."""
    model = TICK_PRICES.model
    records = [
        model.model_validate(
            {"timestamp": from_micros(NOON + (first + at) * 1_000_000), "symbol": "BTC", "price": float(at)}
        )
        for at in range(count)
    ]
    return stamper.stamp_many(TICK_PRICES, records)


async def stored(store: QuestDbBackend, stamper: Stamper) -> list[Row]:
    """Return all ticks of a tenant."""
    return list(await store.gateway_query(Query(TICK_PRICES, stamper.tenant, limit=100_000)))


@pytest.fixture
def cutter(questdb: QuestDbServer) -> Iterator[Cutter]:
    """A proxy before the common server."""
    made = Cutter(questdb)
    yield made
    made.close()


@pytest.mark.anyio
@pytest.mark.parametrize("count", [3, 400])
async def test_a_request_that_is_cut_off_stores_nothing(
    questdb: QuestDbServer, cutter: Cutter, stamper: Stamper, count: int
) -> None:
    """Half a request is an error that trying again can help, leaves no row, and the same batch again is stored once."""
    store = await open_backend(context_on(questdb, url=url_of(questdb, cutter.port), retry_seconds=0))
    rows = ticks(stamper, count)
    cutter.limit = 300
    with pytest.raises(StoreUnavailableError) as caught:
        await store.gateway_write(WriteBatch(rows))
    assert caught.value.transient
    assert cutter.cuts
    assert await stored(store, stamper) == []
    cutter.limit = None
    for _ in range(2):
        await store.gateway_write(WriteBatch(rows))
    assert await stored(store, stamper) == rows
    await store.gateway_close()


@pytest.mark.anyio
@pytest.mark.parametrize("count", [3, 400])
async def test_an_answer_that_is_cut_off_doubles_nothing(
    questdb: QuestDbServer, cutter: Cutter, stamper: Stamper, count: int
) -> None:
    """Where the server stored a request and its answer was lost, trying again leaves each row once."""
    store = await open_backend(context_on(questdb, url=url_of(questdb, cutter.port), retry_seconds=0))
    rows = ticks(stamper, count)
    cutter.swallow = True
    with pytest.raises(StoreUnavailableError):
        await store.gateway_write(WriteBatch(rows))
    assert await stored(store, stamper) == rows, "the server had it all"
    cutter.swallow = False
    await store.gateway_write(WriteBatch(rows))
    assert await stored(store, stamper) == rows
    await store.gateway_close()


@pytest.mark.anyio
async def test_the_killed_server_comes_back_with_everything(
    own_server: QuestDbServer, stamper: Stamper
) -> None:
    """While the server is killed and started again, a writer that repeats loses nothing and doubles nothing."""
    store = await open_backend(context_on(own_server, retry_seconds=0))
    acknowledged: list[Row] = []
    failures: list[StoreError] = []
    progress = asyncio.Event()

    async def write() -> None:
        for number in range(40):
            batch = ticks(stamper, 20, first=number * 20)
            while True:
                try:
                    await store.gateway_write(WriteBatch(batch))
                except StoreError as error:
                    if not error.transient:
                        raise  # a server that went away is no permanent error
                    failures.append(error)
                    await asyncio.sleep(0.05)  # not a wait for a state: a client's pause between two tries
                else:
                    break
            acknowledged.extend(batch)
            progress.set()

    writing = asyncio.create_task(write())
    for _ in range(2):
        for _ in range(8):
            progress.clear()
            await progress.wait()
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
    await writing
    assert failures, "the server was never away"
    assert await stored(store, stamper) == acknowledged
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_server_that_is_down_is_no_empty_answer(own_server: QuestDbServer, stamper: Stamper) -> None:
    """Reads and writes of a server that is gone raise, its health says so, and the store works once it is back."""
    store = await open_backend(context_on(own_server, retry_seconds=0))
    rows = ticks(stamper, 2)
    await store.gateway_write(WriteBatch(rows))
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(StoreUnavailableError):
        await store.gateway_query(Query(TICK_PRICES, stamper.tenant))
    with pytest.raises(StoreUnavailableError):
        await store.gateway_read_columns(Query(TICK_PRICES, stamper.tenant), ("price",))
    with pytest.raises(StoreUnavailableError):
        await store.gateway_write(WriteBatch(rows))
    assert not (await store.gateway_health()).ok
    assert [one.level for one in examine(context_on(own_server))] == [Level.FAIL]
    await asyncio.to_thread(own_server.start)
    assert await stored(store, stamper) == rows
    assert (await store.gateway_health()).ok
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_suspended_table_is_no_secret(own_server: QuestDbServer, stamper: Stamper) -> None:
    """Reading and writing a suspended table raise with the way out; doctor shows it red; resuming it mends all."""
    context = context_on(own_server)
    store = await open_backend(context)
    rows = ticks(stamper, 2)
    await store.gateway_write(WriteBatch(rows[:1]))
    assert await stored(store, stamper) == rows[:1]
    own_server.query("ALTER TABLE tick_prices SUSPEND WAL")
    store._writer._looked.clear()  # type: ignore[union-attr] # as if a second had passed since the last look
    with pytest.raises(StoreError, match="RESUME WAL"):
        await store.gateway_write(WriteBatch(rows[1:]))
    with pytest.raises(StoreError, match="RESUME WAL"):
        await stored(store, stamper)
    assert not (await store.gateway_health()).ok
    red = [one for one in examine(context) if one.level is Level.FAIL]
    assert [one.subject for one in red] == ["store questdb: tick_prices"]
    assert "RESUME WAL" in red[0].advice
    other = stamper.stamp(CANDLES, _candle())
    await store.gateway_write(WriteBatch([other]))
    assert list(await store.gateway_get(CANDLES, stamper.tenant, [other.key])) == [other], (
        "other tables go on"
    )
    own_server.query("ALTER TABLE tick_prices RESUME WAL")
    await store.gateway_write(WriteBatch(rows))
    assert await stored(store, stamper) == rows
    assert not [one for one in examine(context) if one.level is Level.FAIL]
    await store.gateway_close()


def _candle() -> Any:
    values = {"symbol": "BTC", "interval": "1m", "timestamp": from_micros(NOON)}
    return CANDLES.model.model_validate({**values, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5})


@pytest.mark.anyio
async def test_a_read_that_cannot_see_in_time_raises(make_context: MakeContext, stamper: Stamper) -> None:
    """Where what was acknowledged is not applied in time, a read raises; it never answers with less."""
    writer = await open_backend(make_context())
    reader = await open_backend(make_context(wait_seconds=1e-6))
    late = None
    for attempt in range(50):
        # So many rows in one transaction take the server some time to apply.
        await writer.gateway_write(WriteBatch(ticks(stamper, 20_000, first=attempt * 20_000)))
        try:
            found = await reader.gateway_digest(ReadRange(TICK_PRICES, stamper.tenant))
        except StoreTimeoutError as error:
            late = error
            break
        assert found.rows == (attempt + 1) * 20_000, (
            "the answer lacks rows that were acknowledged before the call"
        )
    assert "STORAGE_QUESTDB_WAIT_SECONDS" in str(late), "the server was always faster than a microsecond"
    await reader.gateway_close()
    await writer.gateway_close()


@pytest.mark.anyio
async def test_a_reader_may_say_that_it_does_not_wait(make_context: MakeContext, stamper: Stamper) -> None:
    """With `read_your_writes` off a read answers at once with what there is, and sees everything in the end."""
    store = await open_backend(make_context(read_your_writes=False, wait_seconds=1e-6))
    rows = ticks(stamper, 50)
    await store.gateway_write(WriteBatch(rows))
    while (found := await stored(store, stamper)) != rows:
        assert found == []
        await asyncio.sleep(0.005)
    await store.gateway_close()


@pytest.mark.anyio
async def test_what_the_server_refuses_is_permanent(store: QuestDbBackend, stamper: Stamper) -> None:
    """A row before 1970 and a table that is not there are errors that trying again cannot help."""
    (row,) = ticks(stamper, 1)
    values = list(row.values)
    values[TICK_PRICES.index("timestamp")] = -1
    early = row._replace(values=tuple(values))
    with pytest.raises(WriteRejectedError, match="before 1970") as caught:
        await store.gateway_write(WriteBatch([early]))
    assert not caught.value.transient
    with pytest.raises(WriteRejectedError, match="before 1970"):
        await store.gateway_write(WriteBatch([early] * 1 + ticks(stamper, 20)))
    assert await stored(store, stamper) == [], "nothing of a refused request is stored"


@pytest.mark.anyio
async def test_a_table_that_was_dropped_is_a_schema_error(
    make_context: MakeContext, stamper: Stamper, questdb: QuestDbServer
) -> None:
    """Where somebody dropped a table, both ways of writing and reading say what to run."""
    prefix = f"t{uuid.uuid4().hex[:8]}_"
    store = await open_backend(make_context(table_prefix=prefix, kinds=(TICK_PRICES,)))
    questdb.query(f"DROP TABLE {prefix}tick_prices")
    for count in (1, 50):
        with pytest.raises(SchemaError, match="gateway schema upgrade"):
            await store.gateway_write(WriteBatch(ticks(stamper, count)))
    with pytest.raises(SchemaError, match="gateway schema upgrade"):
        await stored(store, stamper)
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_group_that_was_only_written_down_is_stored_by_whoever_opens_next(
    make_context: MakeContext, stamper: Stamper
) -> None:
    """A crash between writing a group down and storing its rows leaves, after the next opening, the whole group."""
    store = await open_backend(make_context())
    model = INDICATOR_SERIES.model
    series = stamper.stamp(
        INDICATOR_SERIES,
        model.model_validate(
            {
                "session_id": "s",
                "symbol": "B",
                "indicator_id": "i",
                "generation": "g",
                "switched_at": from_micros(NOON),
            }
        ),
    )
    (tick,) = ticks(stamper, 1)
    context = make_context()
    settings: Any = context.settings
    senders = Senders(settings.address().sender_configuration(5, 0), 1, "questdb")
    groups = Groups("gateway_groups", senders, store._readers)
    await groups.begin([series, tick])
    # One row of it made it to its table before the crash.
    line = encoder(layout_of(TICK_PRICES))(tick)
    await senders.send("tick_prices", lambda: [line])
    assert list(await store.gateway_get(INDICATOR_SERIES, stamper.tenant, [series.key])) == [None]
    other = await open_backend(context)
    assert list(await store.gateway_get(INDICATOR_SERIES, stamper.tenant, [series.key])) == [series]
    assert await stored(store, stamper) == [tick]
    senders.close()
    await other.gateway_close()
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_group_with_a_refused_row_is_not_even_begun(store: QuestDbBackend, stamper: Stamper) -> None:
    """A group over two tables of which one row cannot be stored leaves nothing, now and after the next opening."""
    candle = stamper.stamp(CANDLES, _candle())
    (row,) = ticks(stamper, 1)
    values = list(row.values)
    values[TICK_PRICES.index("timestamp")] = -1
    with pytest.raises(WriteRejectedError):
        await store.gateway_write(WriteBatch([Group((candle, row._replace(values=tuple(values))))]))
    assert store._writer is not None
    await store._writer.recovery.look(0.0)
    assert list(await store.gateway_get(CANDLES, stamper.tenant, [candle.key])) == [None]


@pytest.mark.anyio
async def test_a_kept_connection_that_was_ended_is_replaced(
    questdb: QuestDbServer, cutter: Cutter, stamper: Stamper
) -> None:
    """The first request after an idle connection was ended goes through a fresh one, without an error."""
    store = await open_backend(context_on(questdb, url=url_of(questdb, cutter.port), retry_seconds=0))
    rows = ticks(stamper, 30)
    for at, row in enumerate(rows):
        await store.gateway_write(WriteBatch([row]))
        if at % 3 == 0:
            cutter.end_all()
        if at % 2 == 0:
            await asyncio.sleep(0)  # sometimes the end is noticed before the next request, sometimes by it
    assert await stored(store, stamper) == rows
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_request_is_repeated_for_a_while(
    questdb: QuestDbServer, cutter: Cutter, stamper: Stamper
) -> None:
    """While a request cannot be sent whole it is sent again, for `retry_seconds`; then it is an error."""
    store = await open_backend(context_on(questdb, url=url_of(questdb, cutter.port), retry_seconds=30))
    rows = ticks(stamper, 3)
    cutter.limit = 300
    writing = asyncio.create_task(store.gateway_write(WriteBatch(rows)))
    while cutter.cuts < 3:
        assert not writing.done()
        await asyncio.sleep(0.001)  # the state is another thread's
    cutter.limit = None
    await writing
    assert await stored(store, stamper) == rows
    await store.gateway_close()
