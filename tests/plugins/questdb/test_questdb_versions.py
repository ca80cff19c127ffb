"""Which version of a log row counts, and what a read may leave out because of what ids tell."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import RangeDigest, Summarize, WriteBatch
from gateway.candles import Sample, bars_of
from gateway.frames import table_of_rows
from gateway.query import Condition, Op, Query, ReadRange, in_range, select
from gateway.records import TICK_PRICES, Row
from gateway.records.codec import to_micros
from gateway.records.dated import dated_id
from gateway.records.stamp import row_of
from gateway.records.version import RecordIds, version_at
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.layout import layout_of
from gateway_questdb.listings import page
from gateway_questdb.opening import open_backend
from gateway_questdb.origins import Origin, origin_of
from tests.plugins.questdb.conftest import MakeContext

START = datetime(2026, 11, 1, tzinfo=UTC)
FIRST = version_at(START)
SECONDS = 8
EXAMPLES = {Origin.FRESH: 4, Origin.DATED: 8, Origin.LOOSE: 16}


def tick(
    tenant: str,
    record_id: str,
    version: int,
    second: int,
    price: float,
    symbol: str = "BTC",
    *,
    deleted: bool = False,
) -> Row:
    """Return one tick, or the tombstone of one."""
    moment = to_micros(START + timedelta(seconds=second))
    fields: dict[str, Any] = {"record_id": record_id, "timestamp": moment}
    if not deleted:
        fields |= {"symbol": symbol, "price": price, "volume": price / 2}
    return row_of(
        TICK_PRICES, tenant, version, [fields.get(name) for name in TICK_PRICES.field_names], deleted=deleted
    )


@st.composite
def histories(draw: st.DrawFn, most: Origin) -> list[tuple[Any, ...]]:
    """Return writes: which id, its form, version, second, price, symbol, whether it deletes."""
    writes = []
    for number in range(draw(st.integers(1, 14))):
        form = draw(st.sampled_from([one for one in Origin if one <= most]))
        slot = draw(st.integers(0, 3))
        second = draw(st.integers(0, SECONDS))
        symbol = draw(st.sampled_from(["BTC", "ETH"]))
        # What identifies a dated row says its symbol, too.
        symbol = "BTC" if form is Origin.DATED else symbol
        version = number if form is Origin.FRESH else draw(st.integers(0, 20))
        deleted = form is Origin.LOOSE and draw(st.booleans())
        writes.append((form, slot, version, second, draw(st.sampled_from([1.0, 2.0, 2.5])), symbol, deleted))
    return writes


def rows_of(tenant: str, writes: list[tuple[Any, ...]]) -> list[Row]:
    """Return the rows of a history. A loose write may hit an id that the gateway made, as a restamped row does."""
    ids = RecordIds()
    made: list[Row] = []
    for form, slot, version, second, price, symbol, deleted in writes:
        stamp = FIRST + version
        if form is Origin.FRESH:
            record_id = ids.next(stamp)
        elif form is Origin.DATED:
            record_id = dated_id(to_micros(START + timedelta(seconds=second)), "BTC")
        elif made and slot < 2:
            record_id = str(made[slot % len(made)].values[0])
            stamp += 100 if version % 3 else -100  # mostly newer; history may be older
        elif slot == 2:  # the id of a dated row of another second
            record_id = dated_id(to_micros(START + timedelta(seconds=second + 1)), "BTC")
        else:
            record_id = f"own-{slot}"
        made.append(tick(tenant, record_id, stamp, second, price, symbol, deleted=deleted))
    return made


def newest(rows: list[Row]) -> list[Row]:
    """Return the version of each row that counts."""
    found: dict[Any, Row] = {}
    for row in rows:
        found[row.key] = max(row, found.get(row.key, row), key=lambda one: one.stamp)
    return list(found.values())


def micros(second: int) -> int:
    """Return the microseconds of a second of the history."""
    return to_micros(START + timedelta(seconds=second))


async def check(store: QuestDbBackend, tenant: str, rows: list[Row]) -> None:
    """Compare everything that can be asked with the reference."""
    for row in rows:  # each in a batch of its own, so that the server sees them in this order
        await store.gateway_write(WriteBatch([row]))
    counting = newest(rows)
    conditions = [
        (),
        (Condition("timestamp", Op.GE, micros(2)), Condition("timestamp", Op.LT, micros(6))),
        (Condition("symbol", Op.EQ, "BTC"),),
        (Condition("price", Op.EQ, 2.0),),
        (
            Condition("symbol", Op.EQ, "BTC"),
            Condition("timestamp", Op.LT, micros(5)),
            Condition("price", Op.GT, 1.0),
        ),
    ]
    fields = ("timestamp", "symbol", "price", "record_id")
    for number, where in enumerate(conditions, len(rows)):
        query = Query(TICK_PRICES, tenant, where, descending=bool(number % 2), limit=3)
        expected = select(query, counting)
        assert list(await store.gateway_query(query)) == expected, f"rows under {where}"
        table = await store.gateway_read_columns(query, fields)
        assert table.equals(table_of_rows(TICK_PRICES, fields, expected)), f"columns under {where}"
        step = 3_000_000
        request = Sample(TICK_PRICES, tenant, () if where and where[0].field == "timestamp" else where, step)
        live = select(Query(TICK_PRICES, tenant, request.where, limit=1000), counting)
        assert list(await store.gateway_sample(request)) == list(bars_of(live, request))
    keys = [row.key for row in counting]
    assert list(await store.gateway_get(TICK_PRICES, tenant, keys)) == counting
    await _check_totals(store, tenant, counting)


async def _check_totals(store: QuestDbBackend, tenant: str, counting: list[Row]) -> None:
    bound = sorted(row.position for row in counting)[len(counting) // 2]
    for span in (ReadRange(TICK_PRICES, tenant), ReadRange(TICK_PRICES, tenant, after=bound)):
        inside = [row for row in counting if in_range(span, row)]
        total = sum(row.digest for row in inside) % 2**64
        assert await store.gateway_digest(span) == RangeDigest(len(inside), total)
    live = [row for row in counting if not row.deleted]
    summary = await store.gateway_summarize(Summarize(TICK_PRICES, tenant, "symbol"))
    assert sum(group.rows for group in summary) == len(live)


@pytest.mark.parametrize("most", list(Origin))
def test_reads_are_those_of_the_newest_versions(make_context: MakeContext, most: Origin) -> None:
    """Whatever mixture of ids and versions is written, every read gives what the reference gives."""
    with asyncio.Runner() as runner:
        store = runner.run(open_backend(make_context()))

        def run(work: Coroutine[Any, Any, None]) -> None:
            runner.run(work)

        @settings(
            max_examples=EXAMPLES[most],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        @given(histories(most))
        def example(writes: list[tuple[Any, ...]]) -> None:
            tenant = str(uuid.uuid4())
            run(check(store, tenant, rows_of(tenant, writes)))

        try:
            example()
        finally:
            runner.run(store.gateway_close())


@pytest.mark.anyio
async def test_a_moved_row_has_one_place(store: QuestDbBackend) -> None:
    """A row written again with another time is found at the new time and no longer at the old one."""
    tenant = str(uuid.uuid4())
    record_id = RecordIds().next(FIRST)
    before, after = tick(tenant, record_id, FIRST, 1, 1.0), tick(tenant, record_id, FIRST + 5, 5, 2.0)
    await store.gateway_write(WriteBatch([before]))
    early = Query(TICK_PRICES, tenant, (Condition("timestamp", Op.LT, micros(3)),))
    assert list(await store.gateway_query(early)) == [before]
    await store.gateway_write(WriteBatch([after]))
    assert list(await store.gateway_query(early)) == []
    assert list(await store.gateway_query(Query(TICK_PRICES, tenant))) == [after]


def test_rows_tell_by_their_ids_what_they_are() -> None:
    """Only an id made with the very version is fresh, and only one that tells the row's own time is dated."""
    at = TICK_PRICES.index("timestamp")
    made = RecordIds().next(FIRST)
    dated = dated_id(micros(3), "BTC")
    assert origin_of(tick("t", made, FIRST, 1, 1.0), at) is Origin.FRESH
    assert origin_of(tick("t", made, FIRST + 1, 1, 1.0), at) is Origin.LOOSE
    assert origin_of(tick("t", made, FIRST, 1, 1.0, deleted=True), at) is Origin.LOOSE
    assert origin_of(tick("t", dated, FIRST, 3, 1.0), at) is Origin.DATED
    assert origin_of(tick("t", dated, FIRST, 4, 1.0), at) is Origin.LOOSE
    assert origin_of(tick("t", dated, FIRST, 3, 1.0, deleted=True), at) is Origin.LOOSE
    assert origin_of(tick("t", "own", FIRST, 3, 1.0), at) is Origin.LOOSE


def test_only_fresh_rows_are_read_without_a_choice() -> None:
    """The statement for fresh rows has no window function; the others have one, over what it can be narrowed to."""
    layout = layout_of(TICK_PRICES)
    query = Query(TICK_PRICES, "t", (Condition("symbol", Op.EQ, "BTC"),))
    texts = {origin: page(layout, query, origin, None, 10).text for origin in Origin}
    assert "row_number" not in texts[Origin.FRESH]
    inner = {
        origin: text.partition("FROM (SELECT")[2].partition(") WHERE row__rank")[0]
        for origin, text in texts.items()
    }
    assert '"symbol" = ' in inner[Origin.DATED], "a dated row's symbol is the same in all its versions"
    assert '"symbol" = ' not in inner[Origin.LOOSE], "a loose row's older version may have another symbol"
