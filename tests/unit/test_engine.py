"""The engine: two stores, changing routes, read-modify-write across a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.backend import KeyRef, WriteBatch, WriteReceipt
from gateway.changes import DeleteChange, StatsChange
from gateway.engine import Engine
from gateway.errors import MirrorWriteError, StoreError, StoreFullError
from gateway.migration.phases import ORDER, Phase
from gateway.query import Query
from gateway.records import DAILY_STATS, OPERATIONS, POSITIONS, TRADES, DailyStats, Position, Trade
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.routing import KindPlan, RoutingPlan

pytestmark = pytest.mark.anyio
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
NOW = datetime(2026, 3, 12, tzinfo=UTC)


def plan(phase: Phase, share: float = 0) -> RoutingPlan:
    """Return the routes of a phase between the stores `old` and `new`."""
    return RoutingPlan(("old", "new"), KindPlan(phase, share))


async def engine_on(open_gated: Open, phase: Phase, share: float = 0) -> tuple[Engine, Any, Any]:
    """Return an engine on two memory stores, and their backends."""
    old, old_backend = await open_gated("old")
    new, new_backend = await open_gated("new")
    return Engine({"old": old, "new": new}, plan(phase, share), Stamper()), old_backend, new_backend


def position(key: str, price: int = 1) -> Position:
    """Return a position."""
    return Position(condition_id=key, side="YES", entry_price=Decimal(price), opened_at=NOW)


async def held(engine: Engine, store: str, key: str) -> Any:
    """Return a position's price in one store, or None."""
    (row,) = await engine.stores[store].get(POSITIONS, DEFAULT_TENANT, ((key,),))
    return None if row is None else dict(row.record())["entry_price"]


@pytest.mark.parametrize(
    ("phase", "written"),
    [
        (Phase.LEGACY, {"old"}),
        (Phase.DUAL_WRITE, {"old", "new"}),
        (Phase.SHADOW_READ, {"old", "new"}),
        (Phase.CUTOVER, {"old", "new"}),
        (Phase.COMPLETE, {"new"}),
    ],
)
async def test_each_phase_writes_where_it_should(open_gated: Open, phase: Phase, written: set[str]) -> None:
    """The acknowledgement names the stores that have the row, and they do."""
    engine, _, _ = await engine_on(open_gated, phase)
    ack = await engine.put(POSITIONS, position("c"))
    assert {ack.primary, *ack.mirrors} == written
    assert {name for name in ("old", "new") if await held(engine, name, "c") is not None} == written
    row = await engine.get(POSITIONS, ("c",))
    assert row is not None
    await engine.close()


async def test_a_mirror_failure_is_reported_with_what_the_primary_has(open_gated: Open) -> None:
    """The error carries the acknowledgement, so that the bot can repeat the write under the same id."""
    engine, _, new = await engine_on(open_gated, Phase.DUAL_WRITE)
    new.faults.append(StoreFullError("no space left"))
    trade = Trade(
        timestamp=NOW, market_name="M", action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
    )
    with pytest.raises(
        MirrorWriteError, match=r"old has the write, but a mirror failed: new: no space left"
    ) as caught:
        await engine.put(TRADES, trade)
    repeated = trade.model_copy(update={"record_id": caught.value.ack.record_id})
    ack = await engine.put(TRADES, repeated)
    assert ack.mirrors == ("new",)
    for store in engine.stores.values():
        assert len(await store.query(Query(TRADES, DEFAULT_TENANT))) == 1
    await engine.close()


async def test_a_share_of_the_keys_is_led_by_the_new_store(open_gated: Open) -> None:
    """At 50 % about half of the keys have the new store as primary; listings come from the old one."""
    engine, _, _ = await engine_on(open_gated, Phase.SHADOW_READ, share=50)
    acks = [await engine.put(POSITIONS, position(f"c{at}")) for at in range(200)]
    led = sum(ack.primary == "new" for ack in acks)
    assert 70 < led < 130
    assert engine.listing(POSITIONS).route.reader == "old"
    assert all(set(ack.mirrors) | {ack.primary} == {"old", "new"} for ack in acks)
    await engine.close()


async def test_no_write_is_lost_and_no_delta_counted_twice_while_phases_change(open_gated: Open) -> None:
    """Writers, readers and counters run through every phase, forth and back; both stores end alike and complete."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE)
    stop = asyncio.Event()
    saved: dict[str, int] = {}
    counted = 0

    async def write(name: str) -> None:
        price = 0
        while not stop.is_set():
            price += 1
            await engine.put(POSITIONS, position(name, price))
            saved[name] = price
            row = await engine.get(POSITIONS, (name,))
            assert row is not None
            assert dict(row.record())["entry_price"] == price, (
                "a read did not see the acknowledged write before it"
            )

    async def count(name: str) -> None:
        nonlocal counted
        while not stop.is_set():
            operation = f"{name}-{counted}-{engine.stamper.new_id()}"
            reads = (KeyRef(DAILY_STATS, ("2026-03-12",)), KeyRef(OPERATIONS, (operation,)))
            change = StatsChange(engine.stamper, "2026-03-12", {"total_trades": 1}, None, operation, NOW)
            await engine.update(reads[0], reads, change)
            counted += 1

    workers = [asyncio.create_task(write(f"c{at}")) for at in range(8)] + [
        asyncio.create_task(count(str(at))) for at in range(4)
    ]
    between = [Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.CUTOVER, Phase.SHADOW_READ]
    for turn in range(40):
        engine.switch(plan(between[turn % 4]))
        for _ in range(20):
            await asyncio.sleep(0)
    stop.set()
    await asyncio.gather(*workers)
    for store in engine.stores.values():
        rows = await store.get(POSITIONS, DEFAULT_TENANT, [(name,) for name in saved])
        assert {row.key[0]: dict(row.record())["entry_price"] for row in rows if row is not None} == saved
        (totals,) = await store.get(DAILY_STATS, DEFAULT_TENANT, (("2026-03-12",),))
        assert totals is not None
        record = totals.record()
        assert isinstance(record, DailyStats)
        assert record.total_trades == counted
    assert counted > 40
    await engine.close()


async def test_an_update_waits_for_what_follows_the_old_routes(open_gated: Open) -> None:
    """After a flip a delta is not computed before the last write along the old routes has arrived."""
    engine, old, _ = await engine_on(open_gated, Phase.SHADOW_READ)
    old.gate.clear()
    slow = asyncio.create_task(engine.put(POSITIONS, position("c", 5)))
    await old.entered.wait()
    engine.switch(plan(Phase.CUTOVER))
    seen: list[Any] = []

    def look(current: Any) -> tuple[()]:
        seen.append(dict(current[0].record())["entry_price"])
        return ()

    ref = KeyRef(POSITIONS, ("c",))
    update = asyncio.create_task(engine.update(ref, (ref,), look))
    for _ in range(10):
        await asyncio.sleep(0)
    assert seen == []
    old.gate.set()
    await slow
    await update
    assert seen == [5]
    await engine.close()


async def test_the_last_write_wins_even_against_a_clock_that_is_ahead(open_gated: Open) -> None:
    """A save that meets a row from a machine ahead is stamped again, so the caller's row is what is read."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE)
    ahead = Stamper()
    ahead.clock.observe((int(datetime.now(UTC).timestamp() * 1000) + 30_000) << 16)
    await engine.put_rows([ahead.stamp(POSITIONS, position("c", 1))])
    await engine.put(POSITIONS, position("c", 2))
    assert [await held(engine, name, "c") for name in ("old", "new")] == [2, 2]
    await engine.close()


@pytest.mark.parametrize("many", [False, True], ids=["put", "put_many"])
async def test_who_is_overtaken_again_and_again_was_written_over(
    open_gated: Open, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """A rival who writes the key right before each attempt wins, and that is no error: his write came later."""
    engine, old, _ = await engine_on(open_gated, Phase.LEGACY)
    ahead, store = Stamper(), engine.stores["old"]
    ahead.clock.observe((int(datetime.now(UTC).timestamp() * 1000) + 30_000) << 16)
    write = store.write

    async def overtaken(batch: WriteBatch) -> WriteReceipt:
        ahead.clock.observe(engine.stamper.clock.last + (1 << 20))
        await write(WriteBatch((ahead.stamp(POSITIONS, position("c", 1)),)))
        return await write(batch)

    monkeypatch.setattr(store, "write", overtaken)
    if many:
        await engine.put_many([position("c", 2)], lambda _: POSITIONS)
    else:
        await engine.put(POSITIONS, position("c", 2))
    assert await held(engine, "old", "c") == 1
    assert len(old.batches) == 4, "two attempts, each behind one of the rival's"
    await engine.close()


async def test_history_loses_against_what_is_there(open_gated: Open) -> None:
    """A row stamped with an old time never replaces a live one."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE)
    await engine.put(POSITIONS, position("c", 2))
    await engine.put_rows([engine.stamper.stamp(POSITIONS, position("c", 1), at=NOW)], latest=False)
    assert await held(engine, "old", "c") == 2
    await engine.close()


async def test_put_many_writes_everything_in_few_batches(open_gated: Open) -> None:
    """Thousands of records go in commits of a thousand rows, each along its own way."""
    engine, old, _ = await engine_on(open_gated, Phase.SHADOW_READ, share=50)
    count = await engine.put_many((position(f"c{at}") for at in range(3_500)), lambda _: POSITIONS)
    assert count == 3_500
    for store in engine.stores.values():
        assert (await store.query(Query(POSITIONS, DEFAULT_TENANT, limit=10_000)))[-1].key == ("c999",)
    assert len(old.batches) < 20
    await engine.close()


async def test_put_many_reports_a_failure(open_gated: Open) -> None:
    """When the store gives up, so does the call; what was written stays."""
    engine, old, _ = await engine_on(open_gated, Phase.LEGACY)
    old.faults += [None, StoreFullError("no space left")]
    with pytest.raises(StoreError, match="no space left"):
        await engine.put_many((position(f"c{at}") for at in range(5_000)), lambda _: POSITIONS)
    assert (
        1_000 <= len(await engine.stores["old"].query(Query(POSITIONS, DEFAULT_TENANT, limit=10_000))) < 5_000
    )
    await engine.close()


def test_every_phase_has_a_route() -> None:
    """The plan answers for all phases; a missing one would be found by a bot at three in the morning."""
    for phase in ORDER:
        assert plan(phase).listing(TRADES).primary in {"old", "new"}


async def test_a_change_on_a_new_store_that_lacks_the_row_starts_from_the_old_one(open_gated: Open) -> None:
    """Cut over without copying, a delta still adds to the real totals, and the way back keeps them."""
    engine, _, _ = await engine_on(open_gated, Phase.LEGACY)
    day, note = KeyRef(DAILY_STATS, ("2026-03-12",)), KeyRef(OPERATIONS, ("a",))
    await engine.update(
        day, (day, note), StatsChange(engine.stamper, "2026-03-12", {"total_trades": 30}, None, "a", NOW)
    )
    engine.switch(plan(Phase.CUTOVER))
    again = KeyRef(OPERATIONS, ("b",))
    change = StatsChange(engine.stamper, "2026-03-12", {"total_trades": 1}, None, "b", NOW)
    await engine.update(day, (day, again), change)
    assert change.result is not None
    assert change.result.total_trades == 31
    for store in engine.stores.values():
        (row,) = await store.get(DAILY_STATS, DEFAULT_TENANT, (day.key,))
        assert row is not None
        assert dict(row.record())["total_trades"] == 31
    await engine.close()


async def test_a_save_after_a_flip_is_not_undone_by_a_delete_before_it(open_gated: Open) -> None:
    """A delete still on its way along the old route cannot win against what was saved, and acknowledged, later."""
    engine, old, _ = await engine_on(open_gated, Phase.SHADOW_READ)
    await engine.put(POSITIONS, position("c", 1))
    old.gate.clear()
    old.entered.clear()
    ref = KeyRef(POSITIONS, ("c",))
    delete = asyncio.create_task(engine.update(ref, (ref,), DeleteChange(engine.stamper, POSITIONS, ("c",))))
    await old.entered.wait()
    engine.switch(plan(Phase.CUTOVER))
    save = asyncio.create_task(engine.put(POSITIONS, position("c", 9)))
    for _ in range(10):
        await asyncio.sleep(0)
    old.gate.set()
    await asyncio.gather(delete, save)
    assert [await held(engine, name, "c") for name in ("old", "new")] == [9, 9]
    await engine.close()


async def test_put_many_wins_against_a_clock_that_is_ahead(open_gated: Open) -> None:
    """States written in bulk are what is true now, like single ones; the last of a key given twice wins."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE)
    ahead = Stamper()
    ahead.clock.observe((int(datetime.now(UTC).timestamp() * 1000) + 30_000) << 16)
    await engine.put_rows([ahead.stamp(POSITIONS, position("c", 1))])
    await engine.put_many([position("c", 2), position("d", 2), position("c", 3)], lambda _: POSITIONS)
    assert [await held(engine, name, "c") for name in ("old", "new")] == [3, 3]
    assert await held(engine, "new", "d") == 2
    await engine.close()


async def test_a_failed_insert_says_how_to_repeat_it(open_gated: Open) -> None:
    """The error carries the record id, so that the repetition is the same trade."""
    engine, old, _ = await engine_on(open_gated, Phase.LEGACY)
    old.faults.append(StoreFullError("no space left"))
    trade = Trade(
        timestamp=NOW, market_name="M", action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
    )
    with pytest.raises(StoreFullError, match="repeat the call with record_id='") as caught:
        await engine.put(TRADES, trade)
    assert set(caught.value.retry_with) == {"record_id"}
    await engine.close()
