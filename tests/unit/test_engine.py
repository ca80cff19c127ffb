"""The engine: two stores, changing routes, read-modify-write across a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.backend import KeyRef, WriteBatch, WriteReceipt
from gateway.changes import CloseChange, DeleteChange, StatsChange
from gateway.dispatch import Store
from gateway.engine.engine import Engine
from gateway.errors import JournalFullError, MirrorBehindError, MirrorWriteError, StoreError, StoreFullError
from gateway.migration.phases import ORDER, Phase
from gateway.modes import MirrorMode
from gateway.query import Query
from gateway.records import DAILY_STATS, OPERATIONS, POSITIONS, TRADES, DailyStats, Position, Trade
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.routing import KindPlan, RoutingPlan
from tests.mirrors import Rig

pytestmark = pytest.mark.anyio
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
NOW = datetime(2026, 3, 12, tzinfo=UTC)


def plan(phase: Phase, share: float = 0, mirror: MirrorMode = MirrorMode.SYNC) -> RoutingPlan:
    """Return the routes of a phase between the stores `old` and `new`."""
    return RoutingPlan(("old", "new"), KindPlan(phase, share), mirror=mirror)


class Mirrored(Engine):
    """An engine that closes its mirrors, too."""

    def __init__(self, stores: dict[str, Store], plan: RoutingPlan) -> None:
        self.rig = Rig(stores)
        super().__init__(stores, plan, Stamper(), mirrors=self.rig)

    async def close(self) -> None:
        """Finish everything."""
        await super().close()
        await self.rig.close()


async def engine_on(
    open_gated: Open, phase: Phase, share: float = 0, mirror: MirrorMode = MirrorMode.SYNC
) -> tuple[Mirrored, Any, Any]:
    """Return an engine on two memory stores, and their backends."""
    old, old_backend = await open_gated("old")
    new, new_backend = await open_gated("new")
    return Mirrored({"old": old, "new": new}, plan(phase, share, mirror)), old_backend, new_backend


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


async def test_a_mirror_failure_of_a_computed_row_tells_its_version(open_gated: Open) -> None:
    """The acknowledgement of an update has the version of its own row, not of whatever was stamped meanwhile."""
    engine, _, new = await engine_on(open_gated, Phase.DUAL_WRITE)
    await engine.put(POSITIONS, position("c"))
    new.faults.append(StoreFullError("no space left"))
    lead = KeyRef(POSITIONS, ("c",))
    change = CloseChange(engine.stamper, {"closed_at": NOW, "close_reason": "stop-loss"})

    def closed_while_others_write(current: Sequence[Row | None]) -> Sequence[Row]:
        rows = change(current)
        engine.stamper.stamp(POSITIONS, position("other"))
        return rows

    with pytest.raises(MirrorWriteError) as caught:
        await engine.update(lead, (lead,), closed_while_others_write)
    (row,) = await engine.stores["old"].get(POSITIONS, DEFAULT_TENANT, (("c",),))
    assert row is not None
    assert caught.value.ack.version == row.version
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


@pytest.mark.parametrize("mirror", [MirrorMode.SYNC, MirrorMode.JOURNALED])
async def test_no_write_is_lost_and_no_delta_counted_twice_while_phases_change(
    open_gated: Open, mirror: MirrorMode
) -> None:
    """Writers, readers and counters run through every phase, forth and back; both stores end alike and complete."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE, mirror=mirror)
    stop = asyncio.Event()
    saved: dict[str, int] = {}
    counted = 0

    async def write(name: str) -> None:
        price = 0
        while not stop.is_set():
            await asyncio.sleep(0)  # a store in memory never waits for anything
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
            await asyncio.sleep(0)
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
        await engine.follow(plan(between[turn % 4], mirror=mirror))
        for _ in range(20):
            await asyncio.sleep(0)
    stop.set()
    await asyncio.gather(*workers)
    await engine.rig.drain()
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


async def test_a_dead_mirror_is_nobodys_business(open_gated: Open) -> None:
    """With a mirror that hangs and then fails, every call is answered by the primary alone, as if there were none."""
    engine, _, new = await engine_on(open_gated, Phase.SHADOW_READ, mirror=MirrorMode.JOURNALED)
    new.gate.clear()
    ref = KeyRef(DAILY_STATS, ("2026-03-12",))
    async with asyncio.timeout(5):
        for at in range(50):
            ack = await engine.put(POSITIONS, position(f"c{at}"))
            assert (ack.primary, ack.mirrors) == ("old", ())
        await engine.put_many((position(f"d{at}") for at in range(3_000)), lambda _: POSITIONS)
        change = StatsChange(engine.stamper, "2026-03-12", {"total_trades": 1}, None, "a", NOW)
        await engine.update(ref, (ref, KeyRef(OPERATIONS, ("a",))), change)
        assert await engine.get(POSITIONS, ("c7",)) is not None
    new.faults = [StoreFullError("no space left")] * 3
    new.gate.set()
    await engine.rig.drain()
    for store in engine.stores.values():
        assert len(await store.query(Query(POSITIONS, DEFAULT_TENANT, limit=10_000))) == 3_050
        assert (await store.get(DAILY_STATS, DEFAULT_TENANT, (ref.key,)))[0] is not None
    await engine.close()


async def test_a_store_leads_only_once_it_has_everything(open_gated: Open) -> None:
    """While the mirror hangs, the flip fails and the old store leads on; once the mirror is back, it succeeds."""
    engine, _, new = await engine_on(open_gated, Phase.SHADOW_READ, mirror=MirrorMode.JOURNALED)
    new.gate.clear()
    await engine.put(POSITIONS, position("c", 7))
    with pytest.raises(MirrorBehindError, match="new lacks writes of old"):
        await engine.follow(plan(Phase.CUTOVER, mirror=MirrorMode.JOURNALED), backlog=0.05, waiting=0.05)
    assert engine.plan.default.phase is Phase.SHADOW_READ
    assert (await engine.put(POSITIONS, position("d"))).primary == "old"
    new.gate.set()
    await engine.follow(plan(Phase.CUTOVER, mirror=MirrorMode.JOURNALED))
    assert (await engine.put(POSITIONS, position("e"))).primary == "new"
    assert await held(engine, "new", "c") == 7
    assert await held(engine, "new", "d") == 1
    await engine.close()


async def test_a_flip_that_fails_late_lets_the_callers_go(
    open_gated: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that hangs once the callers wait for it holds them up no longer than the flip, and is no error of theirs."""
    engine, _, new = await engine_on(open_gated, Phase.SHADOW_READ, mirror=MirrorMode.JOURNALED)
    writes: list[asyncio.Task[Any]] = []
    answers = [True]

    async def drained(*_: object) -> bool:
        if answers:
            return answers.pop()
        new.gate.clear()
        new.entered.clear()
        writes.append(asyncio.create_task(engine.put(POSITIONS, position("d"))))
        await new.entered.wait()
        assert not writes[0].done(), "by now callers wait for the mirror"
        return False

    monkeypatch.setattr(engine.rig, "drained", drained)
    with pytest.raises(MirrorBehindError):
        await engine.follow(plan(Phase.CUTOVER, mirror=MirrorMode.JOURNALED))
    async with asyncio.timeout(5):
        ack = await writes[0]
        assert (ack.primary, ack.mirrors) == ("old", ())
        assert (await engine.put(POSITIONS, position("e"))).primary == "old"
    new.gate.set()
    await engine.close()


async def test_a_full_journal_refuses_before_anything_is_written(open_gated: Open) -> None:
    """Where the policy is to block, a write that has waited enough fails, and the primary does not have the row."""
    engine, old, _ = await engine_on(open_gated, Phase.DUAL_WRITE, mirror=MirrorMode.JOURNALED)
    engine.rig.full = JournalFullError("new does not keep up", target="new")
    ref = KeyRef(POSITIONS, ("c",))
    with pytest.raises(JournalFullError):
        await engine.put(POSITIONS, position("c"))
    with pytest.raises(JournalFullError):
        await engine.put_many([position("c")], lambda _: POSITIONS)
    with pytest.raises(JournalFullError):
        await engine.update(ref, (ref,), DeleteChange(engine.stamper, POSITIONS, ("c",)))
    assert old.batches == []
    await engine.close()


async def test_kinds_have_modes_of_their_own(open_gated: Open) -> None:
    """One kind waits for its mirror, one does not, one has none."""
    engine, _, _ = await engine_on(open_gated, Phase.DUAL_WRITE)
    modes = {"positions": MirrorMode.JOURNALED, "trades": MirrorMode.OFF}
    engine.switch(RoutingPlan(("old", "new"), KindPlan(Phase.DUAL_WRITE), {}, MirrorMode.SYNC, modes))
    trade = Trade(
        timestamp=NOW, market_name="M", action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
    )
    stats = DailyStats(date="2026-03-12")
    assert (await engine.put(POSITIONS, position("c"))).mirrors == ()
    assert (await engine.put(TRADES, trade)).mirrors == ()
    assert (await engine.put(DAILY_STATS, stats)).mirrors == ("new",)
    await engine.rig.drain()
    assert await held(engine, "new", "c") == 1
    assert await engine.stores["new"].query(Query(TRADES, DEFAULT_TENANT)) == []
    await engine.close()


async def test_a_change_on_a_new_store_goes_on_without_the_old_one(open_gated: Open) -> None:
    """After a cutover an old store that is down or hangs neither fails nor holds up a change."""
    engine, _, _ = await engine_on(open_gated, Phase.CUTOVER, mirror=MirrorMode.JOURNALED)
    old = engine.stores["old"]

    async def hang(*_: object) -> Any:
        await asyncio.Event().wait()

    async def fail(*_: object) -> Any:
        raise StoreError("down")

    for at, broken in enumerate((hang, fail)):
        old.get = broken  # type: ignore[assignment, method-assign]
        day = KeyRef(DAILY_STATS, ("2026-03-12",))
        change = StatsChange(engine.stamper, "2026-03-12", {"total_trades": 1}, None, str(at), NOW)
        async with asyncio.timeout(5):
            await engine.update(day, (day, KeyRef(OPERATIONS, (str(at),))), change)
        assert change.result is not None
        assert change.result.total_trades == at + 1
    await engine.close()
