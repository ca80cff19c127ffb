"""Frames, indicator series, candles and latest prices on real stores, as a bot uses them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped] # it brings no types
import pytest

from gateway import Gateway, InvalidRecordError, SyncGateway
from gateway.errors import UnknownKindError
from gateway.records import CANDLES, INDICATORS, Candle, Indicator, TickPrice
from gateway.series import IndicatorValue
from tests.bots.conftest import SERIES_STORES, opened

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, 11, 6, tzinfo=UTC)
RSI: dict[str, Any] = {"session_id": "s1", "symbol": "BTC", "indicator_id": "RSI_14"}
KEY = ("s1", "BTC", "RSI_14")


@pytest.fixture(params=SERIES_STORES)
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Open a gateway on every store that keeps series."""
    async with opened(request.param, request, tmp_path) as gateway:
        yield gateway


def at(seconds: float) -> datetime:
    """Return a time."""
    return NOW + timedelta(seconds=seconds)


def values(count: int, first: float = 0.0) -> list[IndicatorValue]:
    """Return values a second apart."""
    return [IndicatorValue(at(number), first + number) for number in range(count)]


def numbers(found: list[Indicator]) -> list[float]:
    """Return what indicators are worth."""
    return [one.value for one in found]


async def test_what_is_saved_is_loaded(gateway: Gateway) -> None:
    """A hundred values saved are a hundred values loaded, at once, in their order, with all they had."""
    for number in range(10):
        key = {**RSI, "indicator_id": f"RSI_{number}"}
        assert await gateway.save_indicators(values(100, number), **key) == 100
        found = await gateway.load_indicators("s1", "BTC", f"RSI_{number}")
        assert [(one.timestamp, one.value) for one in found] == [one[:2] for one in values(100, number)]


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_what_is_saved_is_loaded_a_thousand_times(gateway: Gateway) -> None:
    """The same a thousand times over, with no sleep anywhere."""
    for number in range(1000):
        key = {**RSI, "indicator_id": f"RSI_{number % 50}", "session_id": f"session {number // 50}"}
        assert await gateway.save_indicators(values(100, number), **key) == 100
        found = await gateway.load_indicators(key["session_id"], "BTC", key["indicator_id"])
        assert numbers(found) == [number + one for one in range(100)]


async def test_appending_is_idempotent(gateway: Gateway) -> None:
    """A repetition changes nothing, a correction replaces, and new values are added."""
    await gateway.save_indicators(values(5), **RSI)
    await gateway.save_indicators(values(5), **RSI)
    await gateway.save_indicators([IndicatorValue(at(2), 99.0, 0.0, {"why": "late trade"})], **RSI)
    assert await gateway.save_indicators(values(7)[5:], **RSI) == 2
    found = await gateway.load_indicators(*KEY)
    assert numbers(found) == [0.0, 1.0, 99.0, 3.0, 4.0, 5.0, 6.0]
    assert (found[2].confidence, found[2].metadata, found[1].confidence) == (0.0, {"why": "late trade"}, None)
    assert await gateway.save_indicators([], **RSI) == 0


async def test_series_are_told_apart_by_equality(gateway: Gateway) -> None:
    """`RSI_14` is neither `RSI_140` nor `FAST_RSI_14`, and neither `_` nor `%` stands for anything."""
    names = ["RSI_14", "RSI_140", "FAST_RSI_14", "RSIx14", "RSI%", "%", "_", "'; DROP TABLE indicators; --"]
    for number, name in enumerate(names):
        await gateway.save_indicators(values(1, number), session_id="s1", symbol="BTC", indicator_id=name)
    await gateway.save_indicators([], session_id="s1", symbol="BTC", indicator_id="%", mode="overwrite")
    for number, name in enumerate(names):
        found = await gateway.load_indicators("s1", "BTC", name)
        assert numbers(found) == ([] if name == "%" else [float(number)])
    await gateway.save_indicators(
        values(1, 5), session_id="s1", symbol="BTC", variant_type="RSI", variant_id="14"
    )
    assert numbers(await gateway.load_indicators(*KEY)) == [5.0]


async def test_limits_count_from_the_end_asked_for(gateway: Gateway) -> None:
    """The latest values unless the earliest are asked for, always in ascending order, within the span."""
    await gateway.save_indicators(values(10), **RSI)
    assert numbers(await gateway.load_indicators(*KEY, limit=3)) == [7.0, 8.0, 9.0]
    assert numbers(await gateway.load_indicators(*KEY, limit=3, latest=False)) == [0.0, 1.0, 2.0]
    assert numbers(await gateway.load_indicators(*KEY, since=at(2), until=at(5))) == [2.0, 3.0, 4.0]
    assert numbers(await gateway.load_indicators(*KEY, since=at(2), until=at(5), limit=1)) == [4.0]
    assert await gateway.load_indicators("s1", "BTC", "nothing") == []
    for wrong in (0, -1, True, "3"):
        with pytest.raises(InvalidRecordError, match="limit"):
            await gateway.load_indicators(*KEY, limit=wrong)  # type: ignore[arg-type] # a wrong one is the point


async def test_a_series_is_loaded_as_columns(gateway: Gateway) -> None:
    """The same values as a table, for computing."""
    await gateway.save_indicators(values(10), **RSI)
    table = await gateway.load_indicator_columns(*KEY)
    assert table.schema == pa.schema(
        [("timestamp", pa.timestamp("us", tz="UTC")), ("value", pa.float64()), ("confidence", pa.float64())]
    )
    assert table.column("value").to_pylist() == [float(one) for one in range(10)]
    last = await gateway.load_indicator_columns(*KEY, limit=2, columns=["value"])
    assert last.to_pydict() == {"value": [8.0, 9.0]}
    with pytest.raises(InvalidRecordError, match="no column 'colour'"):
        await gateway.load_indicator_columns(*KEY, columns=["colour"])


async def test_overwriting_replaces_everything(gateway: Gateway) -> None:
    """After an overwrite only the new values count; others can be added to them; nothing empties the series."""
    await gateway.save_indicators(values(10), **RSI)
    assert await gateway.save_indicators(values(3, 50), mode="overwrite", **RSI) == 3
    assert numbers(await gateway.load_indicators(*KEY)) == [50.0, 51.0, 52.0]
    await gateway.save_indicators([IndicatorValue(at(1), 0.5), IndicatorValue(at(9), 59.0)], **RSI)
    assert numbers(await gateway.load_indicators(*KEY)) == [50.0, 0.5, 52.0, 59.0]
    await gateway.save_indicators(
        pd.DataFrame({"timestamp": [at(0)], "value": [7.0]}), mode="overwrite", **RSI
    )
    assert numbers(await gateway.load_indicators(*KEY)) == [7.0]
    assert await gateway.save_indicators([], mode="overwrite", **RSI) == 0
    assert await gateway.load_indicators(*KEY) == []


async def test_readers_see_one_writing_or_another(gateway: Gateway) -> None:
    """While a series is overwritten again and again, every reader gets one set whole, and never an older one later."""
    await gateway.save_indicators(values(30, 0), mode="overwrite", **RSI)
    seen: list[float] = []
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            found = numbers(await gateway.load_indicators(*KEY))
            assert found == [found[0] + one for one in range(30)]
            seen.append(found[0])
            await asyncio.sleep(0)  # a store in memory never waits, and nobody else would get a turn

    reader = asyncio.create_task(read())
    for number in range(1, 8):
        await gateway.save_indicators(values(30, number * 1000), mode="overwrite", **RSI)
        held = numbers(await gateway.load_indicators(*KEY))
        assert held[0] == number * 1000
    done.set()
    await reader
    assert seen == sorted(seen)


async def test_of_two_overwrites_at_once_one_stays(gateway: Gateway) -> None:
    """The values of exactly one of them are the series afterwards."""
    for _ in range(3):
        await asyncio.gather(
            *(
                gateway.save_indicators(values(20, number * 100), mode="overwrite", **RSI)
                for number in range(3)
            )
        )
        found = numbers(await gateway.load_indicators(*KEY))
        assert found in [[number * 100 + one for one in range(20)] for number in range(3)]


async def test_no_append_is_lost_beside_overwrites(gateway: Gateway) -> None:
    """What was added and acknowledged after the last overwrite began to count is in the series."""
    for number in range(5):
        late = IndicatorValue(at(1000 + number), -1.0)
        overwrite = asyncio.create_task(gateway.save_indicators(values(20, number), mode="overwrite", **RSI))
        append = asyncio.create_task(gateway.save_indicators([late], **RSI))
        await asyncio.gather(overwrite, append)
        await gateway.save_indicators([late], **RSI)
        assert numbers(await gateway.load_indicators(*KEY)) == [
            *(float(number + one) for one in range(20)),
            -1.0,
        ]


async def test_an_overtaken_append_is_written_again(gateway: Gateway) -> None:
    """An append whose guess of the current generation is wrong notices, and its values are in the right one."""
    await gateway.save_indicators(values(2), **RSI)
    await gateway.save_indicators(values(3, 10), mode="overwrite", **RSI)
    for series in gateway._guesses:
        gateway._guesses[series] = (
            None  # as another process, which knows nothing of the overwrite, would guess
        )
    await gateway.save_indicators([IndicatorValue(at(5), 15.0)], **RSI)
    assert numbers(await gateway.load_indicators(*KEY)) == [10.0, 11.0, 12.0, 15.0]


async def test_a_series_is_described_without_inventions(gateway: Gateway) -> None:
    """Whether it exists, how many values, from when to when, and which store says so."""
    empty = await gateway.describe_indicators(*KEY)
    assert (empty.exists, empty.rows, empty.first, empty.last, empty.generation) == (
        False,
        0,
        None,
        None,
        None,
    )
    await gateway.save_indicators(values(10), **RSI)
    found = await gateway.describe_indicators(*KEY)
    assert (found.exists, found.rows, found.first, found.last) == (True, 10, at(0), at(9))
    assert found.store == gateway.plan.listing(INDICATORS).reader
    await gateway.save_indicators(values(2), mode="overwrite", **RSI)
    again = await gateway.describe_indicators(*KEY)
    assert again.rows == 2
    assert again.generation is not None


async def test_former_values_are_pruned(gateway: Gateway) -> None:
    """Pruning deletes what an overwrite replaced, once that was long enough ago, and nothing that counts."""
    assert await gateway.prune_indicators(*KEY) == 0
    await gateway.save_indicators(values(10), **RSI)
    await gateway.save_indicators(values(4), session_id="s2", symbol="BTC", indicator_id="RSI_14")
    await gateway.save_indicators(values(5), mode="overwrite", **RSI)
    await gateway.save_indicators(values(3, 70), mode="overwrite", **RSI)
    assert await gateway.prune_indicators(*KEY) == 0
    assert await gateway.prune_indicators(*KEY, older_than=timedelta(0)) == 15
    assert await gateway.prune_indicators(*KEY, older_than=timedelta(0)) == 0
    assert numbers(await gateway.load_indicators(*KEY)) == [70.0, 71.0, 72.0]
    assert len(await gateway.load_indicators("s2", "BTC", "RSI_14")) == 4
    assert len(await gateway.query("indicators")) == 7
    with pytest.raises(InvalidRecordError, match="older_than"):
        await gateway.prune_indicators(*KEY, older_than=timedelta(-1))


async def test_the_switch_is_not_written_by_hand(gateway: Gateway) -> None:
    """Which generation is current is the gateway's to say."""
    with pytest.raises(InvalidRecordError, match="written by the gateway"):
        await gateway.put("indicator_series", session_id="s", symbol="x", indicator_id="i", generation="g")
    with pytest.raises(InvalidRecordError, match="written by the gateway"):
        await gateway.put_frame("indicator_series", {"session_id": ["s"]})


KILLED_AT_THE_SWITCH = """
import asyncio, os, signal, sys
from contextlib import asynccontextmanager
from pathlib import Path
from gateway import Gateway, IndicatorValue
from gateway.hookspecs import hookimpl
from gateway.records.row import Row
from datetime import UTC, datetime, timedelta

class Killer:
    @hookimpl
    def gateway_wrap(self, call):
        steps = getattr(call.payload, "steps", ())
        if any(isinstance(step, Row) and step.kind.name == "indicator_series" for step in steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return None

async def main():
    async with Gateway("sqlite", data_dir=Path(sys.argv[1]), environ={}, env_file=None, plugins=[Killer()]) as gateway:
        moments = [datetime(2026, 3, 12, tzinfo=UTC) + timedelta(seconds=one) for one in range(50)]
        values = [IndicatorValue(moment, -1.0) for moment in moments]
        await gateway.save_indicators(values, session_id="s1", symbol="BTC", indicator_id="RSI_14", mode="overwrite")

asyncio.run(main())
"""


async def test_a_crash_before_the_switch_leaves_the_old_values(tmp_path: Path) -> None:
    """A process killed between its values and its switch has changed nothing that is read."""
    async with Gateway("sqlite", data_dir=tmp_path, environ={}, env_file=None) as gateway:
        await gateway.save_indicators(values(5), mode="overwrite", **RSI)
    command = [sys.executable, "-c", KILLED_AT_THE_SWITCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    async with Gateway("sqlite", data_dir=tmp_path, environ={}, env_file=None) as gateway:
        assert len(await gateway.query("indicators")) == 55
        assert numbers(await gateway.load_indicators(*KEY)) == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_tenants_have_series_of_their_own(tmp_path: Path) -> None:
    """Two tenants of one store save, overwrite and read series of one name, and never see each other's."""
    tenants = [str(uuid.uuid4()) for _ in range(2)]
    for number, tenant in enumerate(tenants):
        environ = {"STORAGE_TENANT": tenant}
        async with Gateway("sqlite", data_dir=tmp_path, environ=environ, env_file=None) as gateway:
            assert await gateway.load_indicators(*KEY) == []
            await gateway.save_indicators(values(3, number * 10), **RSI)
            if number:
                await gateway.save_indicators(values(2, 90), mode="overwrite", **RSI)
            await gateway.put_frame("tick_prices", {"timestamp": [at(0)], "symbol": ["A"], "price": [number]})
    for tenant, expected, price in zip(tenants, ([0.0, 1.0, 2.0], [90.0, 91.0]), (0.0, 1.0), strict=True):
        environ = {"STORAGE_TENANT": tenant}
        async with Gateway("sqlite", data_dir=tmp_path, environ=environ, env_file=None) as gateway:
            assert numbers(await gateway.load_indicators(*KEY)) == expected
            assert (await gateway.query_frame("tick_prices")).column("price").to_pylist() == [price]
            assert (await gateway.latest_prices())["A"].price == price


def ticks(count: int, *, symbol: str = "BTC", seed: int = 1) -> list[TickPrice]:
    """Return ticks at random moments of some minutes, several of which share one."""
    draw = random.Random(seed)
    moments = sorted(draw.randrange(0, 600) for _ in range(count))
    return [
        TickPrice(
            timestamp=at(moment),
            symbol=symbol,
            session_id=draw.choice(["s1", "s2", None]),
            price=draw.uniform(1, 100),
            volume=draw.choice([None, draw.uniform(0, 5)]),
        )
        for moment in moments
    ]


async def test_a_frame_is_stored_like_records(gateway: Gateway) -> None:
    """Rows of a frame come back as records with the same values, however the frame came."""
    made = ticks(200)
    rows = [one.model_dump(exclude={"record_id"}) for one in made]
    frame = {name: [row[name] for row in rows] for name in rows[0]}
    halves = (
        {name: column[:100] for name, column in frame.items()},
        pa.table({name: column[100:] for name, column in frame.items()}),
    )
    assert [await gateway.put_frame("tick_prices", half) for half in halves] == [100, 100]
    found = [one async for one in gateway.stream("tick_prices")]
    # Ids that the gateway made in turn keep the order of rows that share a moment.
    assert [one.model_dump(exclude={"record_id"}) for one in found] == rows
    assert await gateway.put_frame("tick_prices", {name: [] for name in frame}) == 0


async def test_a_frame_of_states_replaces(gateway: Gateway) -> None:
    """Of a key the last row stays, within a frame and between frames."""
    bar = {"open": [1.0, 1.0], "high": [2.0, 2.0], "low": [0.5, 0.5]}
    for closes in ([1.0, 2.0], [3.0, 4.0]):
        frame = {
            "symbol": ["BTC"] * 2,
            "interval": ["1m"] * 2,
            "timestamp": [NOW] * 2,
            **bar,
            "close": closes,
        }
        assert await gateway.put_frame("candles", pd.DataFrame(frame)) == 2
    (held,) = await gateway.query("candles")
    assert isinstance(held, Candle)
    assert held.close == 4.0


async def test_repeating_a_frame_with_ids_changes_nothing(gateway: Gateway) -> None:
    """A frame that brings its record ids can be stored again."""
    frame = {"record_id": ["a", "b"], "timestamp": [at(0), at(1)], "symbol": ["X", "X"], "price": [1.0, 2.0]}
    for _ in range(3):
        await gateway.put_frame("tick_prices", frame)
    assert len(await gateway.query("tick_prices")) == 2


async def test_nothing_of_a_refused_frame_is_stored(gateway: Gateway) -> None:
    """One wrong value in the last row, and no row was stored."""
    frame = {"timestamp": [at(0)] * 3, "symbol": ["X"] * 3, "price": [1.0, 2.0, float("nan")]}
    with pytest.raises(InvalidRecordError, match="field 'price' in row 2"):
        await gateway.put_frame("tick_prices", frame)
    assert await gateway.query("tick_prices") == []
    with pytest.raises(InvalidRecordError, match="update_daily_stats"):
        await gateway.put_frame("daily_stats", {"date": ["2026-03-12"]})
    with pytest.raises(UnknownKindError):
        await gateway.put_frame("nothing", frame)


async def test_queries_answer_with_frames(gateway: Gateway) -> None:
    """The rows, columns and order asked for; money as decimals; and what came out can be put in."""
    for number in range(6):
        await gateway.insert_trade(
            timestamp=at(number),
            market_name="AB"[number % 2],
            action="buy",
            side="YES",
            price=f"0.{number}00000000000000000001",
            amount=number,
        )
    found = await gateway.query_frame(
        "trades", where={"market_name": "B"}, columns=["price", "timestamp"], limit=2
    )
    assert found.column_names == ["price", "timestamp"]
    assert found.column("price").to_pylist() == [
        Decimal("0.100000000000000000001"),
        Decimal("0.300000000000000000001"),
    ]
    assert found.column("timestamp").to_pylist() == [at(1), at(3)]
    whole = await gateway.query_frame("trades", since=at(1), until=at(4))
    assert len(whole) == 3
    assert len(await gateway.query_frame("trades", where={"market_name": "Z"})) == 0
    renamed = whole.set_column(whole.column_names.index("record_id"), "record_id", pa.array(["x", "y", "z"]))
    assert await gateway.put_frame("trades", renamed) == 3
    again = await gateway.query_frame("trades", where={"record_id__in": ["x", "y", "z"]})
    assert again.drop_columns(["record_id"]).equals(whole.drop_columns(["record_id"]))
    with pytest.raises(InvalidRecordError, match="no column 'colour'"):
        await gateway.query_frame("trades", columns=["colour"])
    with pytest.raises(InvalidRecordError, match="list of names"):
        await gateway.query_frame("trades", columns="price")


async def test_candles_come_from_ticks_and_say_so(gateway: Gateway) -> None:
    """Without stored candles, ticks are sampled; each candle is whole, and sessions can be told apart."""
    made = ticks(300)
    await gateway.put_many(made)
    await gateway.put_many(ticks(50, symbol="ETH", seed=2))
    found = await gateway.get_candles("BTC", "2m", limit=None)
    assert found.source == "ticks"
    for candle in found:
        own = [
            one for one in made if candle.timestamp <= one.timestamp < candle.timestamp + timedelta(minutes=2)
        ]
        assert (candle.open, candle.close) == (own[0].price, own[-1].price)
        assert (candle.high, candle.low) == (max(one.price for one in own), min(one.price for one in own))
        assert candle.volume == pytest.approx(sum(one.volume or 0 for one in own), rel=1e-9)
        assert candle.timestamp.minute % 2 == 0
    assert await gateway.get_candles("BTC", "2m", limit=2) == found[-2:]
    assert await gateway.get_candles("BTC", "2m", limit=2, latest=False) == found[:2]
    # Both bounds lie inside a candle: those that begin in between are there, whole.
    span = await gateway.get_candles("BTC", "2m", since=at(61), until=at(301))
    assert span == [one for one in found if at(61) <= one.timestamp < at(301)]
    mine = await gateway.get_candles("BTC", "1d", session_id="s1")
    assert mine[0].open == next(one.price for one in made if one.session_id == "s1")
    nothing = await gateway.get_candles("XRP", "1m")
    assert (nothing, nothing.source) == ([], "ticks")


async def test_stored_candles_come_first(gateway: Gateway) -> None:
    """Where a span has stored candles they are the answer, and elsewhere ticks are."""
    await gateway.put_many(ticks(50))
    day = NOW - timedelta(days=1)
    bars = [
        Candle(
            symbol="BTC",
            interval="1m",
            timestamp=day + timedelta(minutes=one),
            open=one,
            high=one,
            low=one,
            close=one,
        )
        for one in range(5)
    ]
    await gateway.put_many(bars)
    assert (await gateway.get_candles("BTC", "1m", until=NOW)).source == "stored"
    assert await gateway.get_candles("BTC", "1m", until=NOW, limit=2) == bars[-2:]
    assert await gateway.get_candles("BTC", "1m", until=NOW, limit=2, latest=False) == bars[:2]
    assert (await gateway.get_candles("BTC", "5m")).source == "ticks"
    assert (await gateway.get_candles("BTC", "1m", since=NOW)).source == "ticks"
    assert (await gateway.get_candles("BTC", "1m", session_id="s1")).source == "ticks"
    wrongs: list[dict[str, Any]] = [
        {"interval": "1y"},
        {"interval": "1m", "limit": 0},
        {"interval": "1m", "since": datetime(2026, 1, 1)},
    ]
    for wrong in wrongs:
        with pytest.raises(InvalidRecordError):
            await gateway.get_candles("BTC", **wrong)


async def test_the_latest_prices_are_the_newest(gateway: Gateway) -> None:
    """The latest tick of each symbol; of those that share its time, the one written last."""
    await gateway.put_many(ticks(40, symbol="ETH") + ticks(40, symbol="XRP", seed=3))
    for number in range(20):
        await gateway.put(
            TickPrice(record_id=f"{99 - number}", timestamp=at(9000), symbol="BTC", price=number)
        )
    found = await gateway.latest_prices()
    assert sorted(found) == ["BTC", "ETH", "XRP"]
    assert found["BTC"].price == 19.0
    assert found["ETH"].timestamp == max(one.timestamp for one in ticks(40))
    assert await gateway.latest_prices(["ETH", "nothing", "ETH"]) == {"ETH": found["ETH"]}
    assert await gateway.latest_prices([]) == {}
    with pytest.raises(InvalidRecordError, match="list of names"):
        await gateway.latest_prices("BTC")


def test_the_synchronous_calls(tmp_path: Path) -> None:
    """Everything is there for bots without an event loop."""
    with SyncGateway("sqlite", data_dir=tmp_path, env_file=None) as gateway:
        assert gateway.save_indicators(values(3), **RSI) == 3
        assert numbers(gateway.load_indicators(*KEY)) == [0.0, 1.0, 2.0]
        assert len(gateway.load_indicator_columns(*KEY)) == 3
        assert gateway.describe_indicators(*KEY).rows == 3
        assert gateway.prune_indicators(*KEY) == 0
        assert gateway.put_frame("tick_prices", {"timestamp": [NOW], "symbol": ["A"], "price": [1.0]}) == 1
        assert len(gateway.query_frame("tick_prices")) == 1
        assert gateway.get_candles("A", "1m").source == "ticks"
        assert gateway.latest_prices()["A"].price == 1.0
        assert CANDLES.name == "candles"
