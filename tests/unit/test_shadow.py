"""Shadow reads: compared behind the bot's back, and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext, Summarize, WriteBatch
from gateway.dispatch import Store, StoreSet
from gateway.divergences.log import Divergence, DivergenceLog
from gateway.hookspecs import BackendCall, hookimpl, new_manager
from gateway.migration.control_file import ControlFile
from gateway.query import Query
from gateway.records import POSITIONS, TRADES, Position, Trade
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.shadow.awaited import Awaited
from gateway.shadow.reader import ShadowReader
from gateway.shadow.sampling import SampleRates
from gateway.telemetry import Counters
from gateway_memory.plugin import MEMORY, MemorySettings

pytestmark = pytest.mark.anyio

LISTING = Query(POSITIONS, DEFAULT_TENANT, limit=100)
COUNT = Summarize(POSITIONS, DEFAULT_TENANT, "side")


class Told:
    """Says that a mirror has caught up, or has not, and notes what it was asked."""

    def __init__(self, *, arrived: bool) -> None:
        self.arrived = arrived
        self.asked: list[tuple[str, str, Awaited]] = []
        self.reached = asyncio.Event()

    async def __call__(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Answer the same for every row."""
        self.asked += [(source, mirror, row) for row in rows]
        self.reached.set()
        return [self.arrived] * len(rows)


class Gate:
    """A plugin that holds up, or acts before, every call to the store called `new`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.before: Callable[[], object] | None = None
        self.calls = 0
        self.reached = asyncio.Event()

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> object:
        """Wrap the reads of one store."""
        return (
            self._pass() if call.backend == "new" and call.hook in {"gateway_get", "gateway_query"} else None
        )

    @asynccontextmanager
    async def _pass(self) -> AsyncIterator[None]:
        self.calls += 1
        self.reached.set()
        await self.open.wait()
        if self.before is not None:
            self.before()
        yield


class Bench:
    """Two stores in memory, a gate before the second, and a shadow reader over both."""

    def __init__(self, stores: StoreSet, gate: Gate, log: DivergenceLog) -> None:
        self.old, self.new = stores["old"], stores["new"]
        self.gate = gate
        self.log = log
        self.counters = Counters()
        self.stamper = Stamper()

    def reader(self, rate: float = 1.0, **options: Any) -> ShadowReader:
        """Return a shadow reader that looks again quickly."""
        settings: dict[str, Any] = {"timeout": 5.0, "delays": (0.0, 0.0, 0.01), "seed": 1, **options}
        return ShadowReader(rate, self.log, self.counters, **settings)

    def row(self, market: str = "m", price: int = 1) -> Row:
        """Return a new version of a market's position."""
        position = Position(
            condition_id=market,
            side="YES",
            entry_price=Decimal(price),
            opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return self.stamper.stamp(POSITIONS, position)

    async def put(self, row: Row, *stores: Store) -> None:
        """Write a row into both stores, or into those given."""
        for store in stores or (self.old, self.new):
            await store.write(WriteBatch((row,)))

    async def offer(self, shadow: ShadowReader, *markets: str) -> None:
        """Read by key as a bot does, and offer the read for comparison."""
        keys = [(market,) for market in markets or ("m",)]
        rows = await self.old.get(POSITIONS, DEFAULT_TENANT, keys)
        shadow.offer_keys(self.old, self.new, POSITIONS, DEFAULT_TENANT, keys, rows)

    async def listed(self) -> tuple[Divergence, ...]:
        """Return the divergences found so far."""
        await self.log.flush()
        return self.log.listed()

    def outcomes(self) -> dict[str, int]:
        """Return how comparisons ended, as far as any ended so."""
        return {
            name: count
            for name, count in self.counters.snapshot().items()
            if name.startswith("shadow_") and count
        }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Two stores in memory behind the product's own dispatch."""
    manager = new_manager()
    gate = Gate()
    manager.register(gate)
    stores = StoreSet(manager)
    for name in ("old", "new"):
        await stores.open(MEMORY, OpenContext(name, MemorySettings(), (POSITIONS, TRADES), tmp_path))
    log = DivergenceLog(ControlFile(tmp_path / "control.db"))
    yield Bench(stores, gate, log)
    gate.open.set()
    await log.aclose()
    await stores.close()


async def test_equal_stores_match(bench: Bench) -> None:
    """Reads by key, of what is there and what is not, and listings match where both stores hold the same."""
    shadow = bench.reader()
    await bench.put(bench.row())
    await bench.offer(shadow, "m", "nowhere")
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 2}
    assert await bench.listed() == ()


async def test_a_difference_that_stays_is_kept(bench: Bench) -> None:
    """A row that only one store has is diverged after the last look, and listed with stores and versions."""
    shadow = bench.reader()
    row = bench.row()
    await bench.put(row, bench.old)
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    (kept,) = await bench.listed()
    assert (kept.key, kept.primary, kept.shadow) == (("m",), "old", "new")
    assert kept.versions == (row.version, None)
    assert kept.reason == "missing in new"


async def test_a_listing_that_differs_names_each_row(bench: Bench) -> None:
    """Each row that a listing lacks or holds in an older version is a divergence of its own."""
    shadow = bench.reader()
    for market in "abcd":
        await bench.put(bench.row(market))
    await bench.put(bench.row("b", price=2), bench.old)
    await bench.put(bench.row("e"), bench.old)
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert {one.key[0]: one.reason for one in await bench.listed()} == {
        "b": "older in new",
        "e": "missing in new",
    }


async def test_a_store_that_catches_up_was_lagging(bench: Bench) -> None:
    """When a further look finds both alike, the comparison ends as lagging and nothing is kept."""
    shadow = bench.reader(delays=(0.0,) * 50)
    row = bench.row()
    await bench.put(row, bench.old)
    tasks: list[asyncio.Future[None]] = []

    def catch_up() -> None:
        if bench.gate.calls == 3:
            tasks.append(asyncio.ensure_future(bench.put(row, bench.new)))

    bench.gate.before = catch_up
    await bench.offer(shadow)
    await shadow.aclose()
    await asyncio.gather(*tasks)
    assert len(tasks) == 1
    assert bench.outcomes() == {"shadow_lagging": 1}
    assert await bench.listed() == ()


async def test_a_key_written_all_the_time_does_not_diverge(bench: Bench) -> None:
    """Stores that follow each other under constant writes are not reported for never being equal."""
    shadow = bench.reader(delays=(0.0,) * 3)
    held = [bench.row()]
    await bench.put(held[0])
    memory = bench.old

    async def advance() -> None:
        held.append(bench.row(price=len(held) + 1))
        await bench.put(held[-2], bench.new)
        await bench.put(held[-1], memory)

    writes: list[asyncio.Future[None]] = []
    bench.gate.before = lambda: writes.append(asyncio.ensure_future(advance()))
    await advance()
    await bench.offer(shadow)
    await shadow.aclose()
    await asyncio.gather(*writes)
    assert len(held) > 3
    assert "shadow_diverged" not in bench.outcomes()
    assert await bench.listed() == ()


async def test_the_caller_never_waits(bench: Bench) -> None:
    """Offering returns at once though the shadow store hangs, drops what finds no room, and counts it."""
    shadow = bench.reader(capacity=3, workers=1)
    await bench.put(bench.row())
    bench.gate.open.clear()
    await bench.offer(shadow)
    await asyncio.wait_for(bench.gate.reached.wait(), 5)
    for _ in range(10):
        await bench.offer(shadow)
    assert bench.outcomes() == {"shadow_dropped": 7}
    bench.gate.open.set()
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_dropped": 7, "shadow_match": 4}


async def test_rows_that_wait_are_bounded_too(bench: Bench) -> None:
    """Large listings cannot take more memory than small reads, and room comes back once they are compared."""
    shadow = bench.reader(row_capacity=5)
    for market in "abcdefgh":
        await bench.put(bench.row(market))
    rows = await bench.old.query(LISTING)
    shadow.offer_query(bench.old, bench.new, LISTING, rows)
    assert bench.outcomes() == {"shadow_dropped": 1}
    for _ in range(3):
        await bench.offer(shadow, "a", "b", "c", "d", "e")
        await shadow.drain()
    assert bench.outcomes() == {"shadow_dropped": 1, "shadow_match": 3}
    await shadow.aclose()


async def test_a_shadow_that_is_slow_times_out(bench: Bench) -> None:
    """No answer in time is its own outcome, and no divergence."""
    shadow = bench.reader(timeout=0.02)
    bench.gate.open.clear()
    await bench.put(bench.row(), bench.old)
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_timed_out": 1}
    assert await bench.listed() == ()


async def test_a_shadow_that_is_down_fails(bench: Bench) -> None:
    """A store that cannot answer is its own outcome, no divergence, and later comparisons go on."""
    shadow = bench.reader()
    await bench.put(bench.row())

    def fall() -> None:
        raise RuntimeError("the store fell over")

    bench.gate.before = fall
    await bench.offer(shadow)
    await shadow.drain()
    assert bench.outcomes() == {"shadow_failed": 1}
    bench.gate.before = None
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_failed": 1, "shadow_match": 1}


async def test_what_the_caller_does_with_its_list_does_not_matter(bench: Bench) -> None:
    """The comparison keeps what the bot was given, even if the bot empties the list at once."""
    shadow = bench.reader()
    await bench.put(bench.row())
    rows = list(await bench.old.query(LISTING))
    shadow.offer_query(bench.old, bench.new, LISTING, rows)
    rows.clear()
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 1}


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.2, 150, 250), (1.0, 1000, 1000)])
async def test_the_rate_is_the_share_that_is_compared(bench: Bench, rate: float, low: int, high: int) -> None:
    """Of 1,000 reads the given share is compared: none, about a fifth, or all."""
    shadow = bench.reader(rate)
    await bench.put(bench.row())
    for _ in range(1000):
        await bench.offer(shadow)
    await shadow.aclose()
    compared = bench.outcomes().get("shadow_match", 0)
    assert low <= compared <= high
    assert set(bench.outcomes()) <= {"shadow_match"}


async def test_closing_has_a_deadline(bench: Bench) -> None:
    """A shadow that hangs does not hold up the end; what was not compared is counted."""
    shadow = bench.reader(workers=1)
    bench.gate.open.clear()
    for _ in range(4):
        await bench.offer(shadow)
    await asyncio.wait_for(bench.gate.reached.wait(), 5)
    await shadow.aclose(deadline=0.01)
    assert bench.outcomes() == {"shadow_dropped": 4}
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_dropped": 4}


async def test_what_the_caller_got_may_be_older_than_both(bench: Bench) -> None:
    """A descending page matches row for row; one that only the caller saw otherwise was lagging."""
    shadow = bench.reader()
    for market in "abcdef":
        await bench.put(bench.row(market))
    query = Query(POSITIONS, DEFAULT_TENANT, limit=4, descending=True)
    rows = await bench.old.query(query)
    assert [row.key[0] for row in rows] == ["f", "e", "d", "c"]
    shadow.offer_query(bench.old, bench.new, query, rows)
    shadow.offer_query(bench.old, bench.new, query, list(reversed(rows)))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 1, "shadow_lagging": 1}


async def test_a_listing_in_another_order_diverges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gives the right rows in the wrong order is found out, once for the listing."""
    shadow = bench.reader()
    for market in "abc":
        await bench.put(bench.row(market))
    right = bench.new.query

    async def backwards(query: Query) -> list[Row]:
        return list(reversed(await right(query)))

    monkeypatch.setattr(bench.new, "query", backwards)
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert [one.reason for one in await bench.listed()] == ["listed in another order"]


async def test_a_new_difference_keeps_the_comparison_going(bench: Bench) -> None:
    """When one row catches up while another goes missing, the look after that finds the other: diverged."""
    shadow = bench.reader(delays=(0.0,) * 3)
    first, second = bench.row("first"), bench.row("second")
    await bench.put(first, bench.old)
    writes: list[asyncio.Future[None]] = []

    async def swap() -> None:
        await bench.put(first, bench.new)
        await bench.put(second, bench.old)

    def once() -> None:
        if bench.gate.calls == 2:
            writes.append(asyncio.ensure_future(swap()))

    bench.gate.before = once
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    await asyncio.gather(*writes)
    assert len(writes) == 1
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert [one.key for one in await bench.listed()] == [("second",)]


async def test_a_mirror_that_is_behind_is_left_alone_until_it_has_caught_up(bench: Bench) -> None:
    """While the journal holds the row, nothing is read and nothing believed; once it arrived, it was lagging."""
    told = Told(arrived=False)
    shadow = bench.reader(caught_up=told, patience=60)
    row = bench.row()
    await bench.put(row, bench.old)
    await bench.offer(shadow)
    await asyncio.wait_for(told.reached.wait(), 10)
    calls = bench.gate.calls
    for _ in range(3):
        told.reached.clear()
        await asyncio.wait_for(told.reached.wait(), 10)
    assert bench.gate.calls == calls, "the mirror was read though it has not caught up"
    assert told.asked[0] == ("old", "new", Awaited(POSITIONS, DEFAULT_TENANT, ("m",), row.version))
    await bench.put(row, bench.new)
    told.arrived = True
    await shadow.drain()
    assert bench.outcomes() == {"shadow_lagging": 1}
    assert await bench.listed() == ()
    await shadow.aclose()


async def test_what_a_mirror_says_it_has_and_has_not_is_believed_at_once(bench: Bench) -> None:
    """No waiting for the delays: the journal holds nothing of the row, and the mirror lacks it all the same."""
    shadow = bench.reader(caught_up=Told(arrived=True), delays=(0.0,))
    row = bench.row()
    await bench.put(row, bench.old)
    await bench.offer(shadow)
    await shadow.drain()
    assert bench.outcomes() == {"shadow_diverged": 1}
    await shadow.aclose()


async def test_a_row_that_only_the_mirror_has_is_asked_for_the_other_way(bench: Bench) -> None:
    """For a share of the keys the mirror of a listing leads; then it is the reader that has to catch up."""
    told = Told(arrived=True)
    shadow = bench.reader(caught_up=told, purge_patience=0.0)
    row = bench.row()
    await bench.put(row, bench.new)
    await bench.offer(shadow)
    await shadow.drain()
    assert told.asked[0] == ("new", "old", Awaited(POSITIONS, DEFAULT_TENANT, ("m",), row.version))
    assert bench.outcomes() == {"shadow_diverged": 1}
    await shadow.aclose()


async def test_closing_does_not_wait_for_a_mirror(bench: Bench) -> None:
    """What waits for a mirror that is minutes behind ends as lagging at once, and proves nothing."""
    told = Told(arrived=False)
    shadow = bench.reader(caught_up=told, delays=(0.0, 30.0))
    await bench.put(bench.row(), bench.old)
    await bench.offer(shadow)
    await asyncio.wait_for(bench.gate.reached.wait(), 10)
    async with asyncio.timeout(20):
        await shadow.aclose(deadline=15)
    assert bench.outcomes() == {"shadow_lagging": 1}


async def test_patience_has_an_end(bench: Bench) -> None:
    """A mirror that never catches up leaves a comparison lagging, not waiting for ever."""
    shadow = bench.reader(caught_up=Told(arrived=False), patience=0.05)
    await bench.put(bench.row(), bench.old)
    await bench.offer(shadow)
    async with asyncio.timeout(30):
        await shadow.drain()
    assert bench.outcomes() == {"shadow_lagging": 1}
    await shadow.aclose()


async def test_inquiries_are_bounded(bench: Bench) -> None:
    """Differences beyond the bound are dropped and counted, and those before it go on."""
    told = Told(arrived=False)
    shadow = bench.reader(caught_up=told, inquiries=3)
    await bench.put(bench.row(), bench.old)
    for _ in range(5):
        await bench.offer(shadow)
    await asyncio.wait_for(told.reached.wait(), 10)
    assert bench.outcomes() == {"shadow_dropped": 2}
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_dropped": 2, "shadow_lagging": 3}


async def test_a_row_that_may_be_on_its_way_out_gets_its_time(bench: Bench) -> None:
    """Retention removes a row from the leader first; the follower that still has it is no divergence."""
    shadow = bench.reader(caught_up=Told(arrived=True), purge_patience=60.0)
    trade = Trade(
        timestamp=datetime(2026, 1, 1, tzinfo=UTC), market_name="m", action="buy", side="YES", price=Decimal(1),
        amount=Decimal(1),
    )  # fmt: skip
    row = bench.stamper.stamp(TRADES, trade)
    await bench.put(row, bench.new)
    shadow.offer_keys(bench.old, bench.new, TRADES, DEFAULT_TENANT, [row.key], [None])
    bench.gate.reached.clear()
    await asyncio.wait_for(bench.gate.reached.wait(), 10)
    await bench.new.purge(TRADES, DEFAULT_TENANT, datetime(2026, 2, 1, tzinfo=UTC))
    await shadow.drain()
    assert bench.outcomes() == {"shadow_lagging": 1}
    await shadow.aclose()


async def test_a_leader_that_gives_two_answers_is_unstable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that the leader itself answers in two ways is counted apart, and is no divergence."""
    shadow = bench.reader(caught_up=Told(arrived=True))
    for market in "abcd":
        await bench.put(bench.row(market))
    right, turns = bench.old.query, [0]

    async def wavering(query: Query) -> list[Row]:
        turns[0] += 1
        rows = list(await right(query))
        return rows[::-1] if turns[0] % 2 else [row for row in rows if row.key != ("b",)]

    monkeypatch.setattr(bench.old, "query", wavering)
    shadow.offer_query(bench.old, bench.new, LISTING, [])
    await shadow.drain()
    assert bench.outcomes() == {"shadow_unstable": 1}
    assert await bench.listed() == ()
    await shadow.aclose()


async def test_a_row_that_is_there_and_not_listed_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that holds a row but leaves it out of a listing diverges in that listing."""
    shadow = bench.reader(caught_up=Told(arrived=False))
    for market in "abcd":
        await bench.put(bench.row(market))
    right = bench.new.query

    async def forgetful(query: Query) -> list[Row]:
        return [row for row in await right(query) if row.key != ("b",)]

    monkeypatch.setattr(bench.new, "query", forgetful)
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.drain()
    (found,) = await bench.listed()
    assert (found.key, found.subject) == (("b",), "listing")
    assert "in a listing" in found.reason
    await shadow.aclose()


async def test_counts_are_compared_and_believed_only_at_rest(bench: Bench) -> None:
    """Groups that stores count differently diverge once nothing changes any more and everything has arrived."""
    told = Told(arrived=False)
    shadow = bench.reader(caught_up=told)
    for market in "abc":
        await bench.put(bench.row(market))
    shadow.offer_summary(bench.old, bench.new, COUNT, await bench.old.summarize(COUNT))
    await shadow.drain()
    assert bench.outcomes() == {"shadow_match": 1}
    await bench.put(bench.row("d"), bench.old)
    shadow.offer_summary(bench.old, bench.new, COUNT, await bench.old.summarize(COUNT))
    await asyncio.wait_for(told.reached.wait(), 10)
    assert told.asked[0][2].key is None
    told.arrived = True
    await shadow.drain()
    assert bench.outcomes() == {"shadow_match": 1, "shadow_diverged": 1}
    (found,) = await bench.listed()
    assert (found.key, found.subject, found.reason) == (("YES",), "count", "counted differently")
    assert [(one.field, one.left, one.right) for one in found.differences] == [("rows", 4, 3)]
    await shadow.aclose()


async def test_counts_that_come_together_were_lagging(bench: Bench) -> None:
    """A row that is on its way makes counts differ for a while."""
    told = Told(arrived=False)
    shadow = bench.reader(caught_up=told)
    row = bench.row()
    await bench.put(row, bench.old)
    shadow.offer_summary(bench.old, bench.new, COUNT, await bench.old.summarize(COUNT))
    await asyncio.wait_for(told.reached.wait(), 10)
    await bench.put(row, bench.new)
    told.arrived = True
    await shadow.drain()
    assert bench.outcomes() == {"shadow_lagging": 1}
    await shadow.aclose()


async def test_each_kind_has_its_own_rate(bench: Bench) -> None:
    """A kind with a share of its own is compared by it, the others by the share for all."""
    shadow = bench.reader()
    shadow.rates = SampleRates(0.0, {"positions": 1.0})
    await bench.put(bench.row())
    await bench.offer(shadow)
    shadow.offer_keys(bench.old, bench.new, TRADES, DEFAULT_TENANT, [("x",)], [None])
    await shadow.drain()
    assert bench.outcomes() == {"shadow_match": 1}
    assert (shadow.samples(POSITIONS), shadow.samples(TRADES)) == (True, False)
    await shadow.aclose()
