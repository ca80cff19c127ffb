"""Batches on a real server, as the role of a bot: one statement or one transaction, guarded and whole."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence

import asyncpg
import pytest

from gateway.backend import KeyRef, Update
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE, UNREGISTERED
from gateway.conformance.rows import FIRST_VERSION, Scribe, group, increment, minutes, total_of
from gateway.errors import CapabilityError, InvalidRecordError, WriteRejectedError
from gateway.records import CANDLES, Row
from gateway.records.codec import to_micros
from gateway.records.stamp import Stamper, row_of
from gateway_postgres.reads import get_rows
from gateway_postgres.work import changed_rows
from gateway_postgres.writing import purge_some, write
from tests.plugins.postgres.laboratory import SERVERS, Laboratory, laboratory, reading


@pytest.fixture(scope="module", params=SERVERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The kit's tables on each version of the server."""
    yield from laboratory(request)


def _fresh(scribe: Scribe, count: int) -> list[Row]:
    """Return log rows with ids as the gateway makes them."""
    stamper = Stamper(scribe.tenant)
    models = [
        PROBE_LOG.model.model_validate({"moment": minutes(at), "label": str(at)}) for at in range(count)
    ]
    return stamper.stamp_many(PROBE_LOG, models)


@pytest.mark.parametrize("count", [1, 2, 700])
def test_rows_of_one_kind_are_one_statement(lab: Laboratory, count: int) -> None:
    """New rows of one kind and tenant take a single round trip, and no transaction stays open behind them."""
    scribe = lab.scribe()
    lab.write(*_fresh(scribe, count), scribe.state("s"))  # lets the driver learn about the types first
    lab.write(*_fresh(scribe, count))
    lab.write(*(scribe.state("t", slot) for slot in range(count)))
    for rows in (_fresh(scribe, count), [scribe.state("s", slot) for slot in range(count)]):
        seen: list[str] = []
        with lab.main.query_logger(lambda query, seen=seen: seen.append(query.query)):
            assert lab.write(*rows).superseded == {}
        assert [text[:11] for text in seen] == ["WITH tenant"]
        assert not lab.main.is_in_transaction()
        assert lab.get(rows[0].kind, scribe.tenant, [row.key for row in rows]) == rows


def test_the_tenant_is_forgotten_after_a_write(lab: Laboratory) -> None:
    """What a write sets ends with it: the next user of the connection sees nothing of the tenant."""
    scribe = lab.scribe()
    row = scribe.state()
    lab.write(row)
    assert not lab.run(lab.main.fetchval("SELECT current_setting('app.tenant_id', true)"))
    assert lab.run(lab.main.fetch("SELECT 1 FROM bots_core.probe_state")) == []


def test_the_same_again_is_no_loss(lab: Laboratory) -> None:
    """A repeated batch changes nothing and nothing counts as superseded, rows of all shapes and one alone."""
    scribe = lab.scribe()
    rows = [*_fresh(scribe, 3), scribe.log("given"), scribe.state(), scribe.counter(total=1)]
    for batch in (rows, rows, rows[:3], rows[3:4], rows[4:5]):
        assert lab.write(*batch).superseded == {}
    assert [lab.digest(kind, scribe.tenant).rows for kind in (PROBE_LOG, PROBE_STATE, PROBE_COUNTER)] == [
        4,
        1,
        1,
    ]


def test_losses_are_reported_exactly(lab: Laboratory) -> None:
    """Each step that lost is named with the version it lost against, also against a row of the same batch."""
    scribe = lab.scribe()
    held = scribe.state("a", version=FIRST_VERSION + 10)
    lab.write(held)
    b_new, b_old = scribe.state("b", version=FIRST_VERSION + 3), scribe.state("b", version=FIRST_VERSION + 2)
    receipt = lab.write(
        b_new,
        scribe.state("a", version=FIRST_VERSION + 5),
        held,
        b_old,
        group(scribe.state("c"), scribe.state("a", version=FIRST_VERSION + 6)),
    )
    assert receipt.superseded == {1: held.version, 3: b_new.version, 4: held.version}
    assert lab.write(scribe.state("a", version=FIRST_VERSION)).superseded == {0: held.version}


def test_an_earlier_row_of_a_key_is_replaced_not_lost(lab: Laboratory) -> None:
    """Several versions of one key in one batch leave the newest, and those before it count as stored."""
    scribe = lab.scribe()
    versions = [scribe.state(label=str(number)) for number in range(5)]
    assert lab.write(*versions).superseded == {}
    assert lab.stored(PROBE_STATE, scribe.tenant) == [versions[-1]]


def test_kinds_and_tenants_share_a_transaction(lab: Laboratory) -> None:
    """A batch over several kinds and tenants is stored whole; if the server refuses one row, nothing is."""
    one, two = lab.scribe(), lab.scribe()
    rows = [one.state(), two.log("x"), one.counter(total=1), *_fresh(two, 2)]
    lab.write(*rows)
    assert lab.stored(PROBE_STATE, one.tenant) == rows[:1]
    assert len(lab.stored(PROBE_LOG, two.tenant)) == 3
    with pytest.raises(asyncpg.UndefinedTableError):
        lab.write(one.state("new"), one.row(UNREGISTERED, name="x"))
    assert lab.stored(PROBE_STATE, one.tenant) == rows[:1]
    assert not lab.main.is_in_transaction()


def test_a_row_that_cannot_be_bound_stores_nothing(lab: Laboratory) -> None:
    """A value that no column takes is refused, and the rows beside it are not stored."""
    scribe = lab.scribe()
    good = scribe.state("good")
    bad = good._replace(values=("bad", 1, *good.values[2:3], 5, *good.values[4:]))
    with pytest.raises(WriteRejectedError, match="another type"):
        lab.write(good, bad)
    assert lab.stored(PROBE_STATE, scribe.tenant) == []


def test_fresh_rows_again_do_not_break_the_callers_transaction(lab: Laboratory) -> None:
    """Rows that are stored already fail no statement inside a transaction of the caller's: it can be committed."""
    scribe = lab.scribe()
    rows, more = _fresh(scribe, 3), scribe.state("more")
    lab.write(rows[0])

    async def all_in_one() -> None:
        async with lab.main.transaction():
            for part in (rows[:1], rows, [*rows, more]):
                assert (await write(lab.main, part)).superseded == {}

    lab.run(all_in_one())
    assert {row.key for row in lab.stored(PROBE_LOG, scribe.tenant)} == {row.key for row in rows}
    assert lab.stored(PROBE_STATE, scribe.tenant) == [more]


def test_a_batch_with_one_stored_row_stores_the_others(lab: Laboratory) -> None:
    """Fresh rows of which one is stored already, as after a lost answer, end stored, also beside rows of other kinds."""
    scribe = lab.scribe()
    rows, beside = _fresh(scribe, 6), scribe.state("beside")
    lab.write(rows[1])
    assert lab.write(*rows[:3]).superseded == {}
    lab.write(rows[4])
    assert lab.write(beside, *rows[3:]).superseded == {}
    assert {row.key for row in lab.stored(PROBE_LOG, scribe.tenant)} == {row.key for row in rows}
    assert lab.stored(PROBE_STATE, scribe.tenant) == [beside]


def test_a_transaction_of_the_caller_is_used(lab: Laboratory) -> None:
    """Behind a pooler the caller opens the transaction: the write is part of it, and goes with it."""
    scribe = lab.scribe()
    row = scribe.state()

    async def undone() -> None:
        transaction = lab.main.transaction()
        await transaction.start()
        await write(lab.main, [row, increment(scribe)])
        await write(lab.main, [scribe.log("x"), scribe.log("y")])
        await transaction.rollback()

    lab.run(undone())
    assert lab.stored(PROBE_STATE, scribe.tenant) == lab.stored(PROBE_LOG, scribe.tenant) == []


def test_updates_see_rows_and_what_the_batch_did(lab: Laboratory) -> None:
    """An update is shown what is stored under each key, and what earlier steps of its batch wrote there."""
    scribe = lab.scribe()
    log, state, grave = scribe.log("one"), scribe.state("s"), scribe.counter("gone")
    grave = scribe.tombstone(grave)
    lab.write(log, state, grave)
    seen: list[list[Row | None]] = []

    def look(rows: Sequence[Row | None]) -> Sequence[Row]:
        seen.append(list(rows))
        return ()

    refs = (
        KeyRef(PROBE_LOG, log.key), KeyRef(PROBE_LOG, ("never",)), KeyRef(PROBE_STATE, state.key),
        KeyRef(PROBE_COUNTER, grave.key), KeyRef(PROBE_COUNTER, ("new",)),
    )  # fmt: skip
    written = scribe.counter("new", total=3)
    receipt = lab.write(Update(scribe.tenant, refs, look), written, Update(scribe.tenant, refs, look))
    assert seen == [[log, None, state, grave, None], [log, None, state, grave, written]]
    assert receipt.updated == {0: (), 2: ()}


def test_placeholders_are_gone_afterwards(lab: Laboratory) -> None:
    """A key that an update read and nobody wrote has no row afterwards, however the update ended."""
    scribe = lab.scribe()
    refs = (KeyRef(PROBE_STATE, ("a", 1)), KeyRef(PROBE_STATE, ("b", 2)), KeyRef(PROBE_LOG, ("x",)))
    written = scribe.state("b", 2)

    def refuse(_: Sequence[Row | None]) -> Sequence[Row]:
        raise InvalidRecordError("no")

    lab.write(Update(scribe.tenant, refs, lambda _: [written]))
    with pytest.raises(InvalidRecordError):
        lab.write(scribe.state("c"), Update(scribe.tenant, refs, refuse))
    assert lab.stored(PROBE_STATE, scribe.tenant) == [written]
    assert lab.stored(PROBE_LOG, scribe.tenant) == []


def test_a_row_of_the_oldest_version_replaces_a_placeholder(lab: Laboratory) -> None:
    """Version 0 with a negative digest is the smallest stamp there is, and an update can write it."""
    scribe = lab.scribe()
    drawn = (row_of(PROBE_COUNTER, scribe.tenant, 0, (f"n{number}", 1, "0")) for number in range(100))
    row = next(row for row in drawn if row.digest < 0)
    lab.write(Update(scribe.tenant, (KeyRef(PROBE_COUNTER, row.key),), lambda _: [row]))
    assert lab.stored(PROBE_COUNTER, scribe.tenant) == [row]


def test_updates_of_several_connections_lose_nothing(lab: Laboratory) -> None:
    """Connections that count one counter up, from no row on, arrive at the sum; so do they on keys in any order."""
    scribe = lab.scribe()
    names = ["a", "b", "c"]

    async def count(start: int) -> None:
        connection = await lab.connect()
        mine = Scribe(scribe.tenant)
        for turn in range(8):
            order = names[start % 3 :] + names[: start % 3] if turn % 2 else names[::-1]
            await write(connection, [increment(mine, name) for name in order])

    async def all_of_them() -> None:
        await asyncio.gather(*map(count, range(5)))

    lab.run(all_of_them())
    assert [total_of(row) for row in lab.stored(PROBE_COUNTER, scribe.tenant)] == [40, 40, 40]


def test_blind_writes_beside_updates_are_not_lost(lab: Laboratory) -> None:
    """A row written while an update computes waits for it, so that the update never overwrites what it has not seen."""
    scribe = lab.scribe()
    ref = KeyRef(PROBE_COUNTER, ("count",))
    newer = scribe.counter(total=100, version=FIRST_VERSION + 50)
    seen: list[Row | None] = []

    async def race() -> None:
        second = await lab.connect()
        blind: list[asyncio.Task[object]] = []

        def apply(current: Sequence[Row | None]) -> Sequence[Row]:
            seen.append(current[0])
            blind.append(asyncio.ensure_future(write(second, [newer])))
            return [scribe.counter(total=1, version=FIRST_VERSION + 20)]

        await write(lab.main, [Update(scribe.tenant, (ref,), apply)])
        await blind[0]

    lab.run(race())
    assert seen == [None]
    assert lab.stored(PROBE_COUNTER, scribe.tenant) == [newer]


def test_an_older_stamp_never_wins_between_connections(lab: Laboratory) -> None:
    """Connections that write versions of the same keys at once, in any order, leave the newest of each."""
    scribe = lab.scribe()
    rows = [scribe.state(f"k{number % 5}", label=str(number)) for number in range(60)]

    async def send(part: list[Row]) -> None:
        connection = await lab.connect()
        for at in range(0, len(part), 5):
            await write(connection, part[at : at + 5])

    async def all_of_them() -> None:
        await asyncio.gather(send(rows), send(rows[::-1]), send(rows[::2] + rows[1::2]))

    lab.run(all_of_them())
    assert lab.stored(PROBE_STATE, scribe.tenant) == rows[-5:]


def test_keys_with_times_conflict_on_them(lab: Laboratory) -> None:
    """A kind whose key holds its time, in a table partitioned by it, is guarded like any other."""
    scribe = lab.scribe()

    def candle(close: float, version: int) -> Row:
        prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": close}
        fields = {"symbol": "BTC", "interval": "1m", "timestamp": minutes(0), **prices}
        return scribe.row(CANDLES, version=version, **fields)

    newer = candle(1.5, FIRST_VERSION + 2)
    lab.write(newer)
    assert lab.write(candle(1.7, FIRST_VERSION + 1)).superseded == {0: newer.version}
    assert lab.stored(CANDLES, scribe.tenant) == [newer]


def test_another_tenants_rows_are_out_of_reach(lab: Laboratory) -> None:
    """Row security stops a statement that names another tenant than the one it set."""
    mine, other = lab.scribe(), lab.scribe()
    row = other.state("theirs")
    lab.write(row)

    async def reach() -> list[Row | None]:
        async with reading(lab.main, mine.tenant) as connection:
            return await get_rows(connection, PROBE_STATE, other.tenant, [row.key, ("x", 1)])

    assert lab.run(reach()) == [None, None]


def test_a_tenant_that_is_no_uuid_is_refused(lab: Laboratory) -> None:
    """Tenants are UUIDs here; anything else is refused by the server and stored nowhere."""
    with pytest.raises(asyncpg.PostgresError):
        lab.write(Scribe("somebody").state())


def test_purges_go_by_portions(lab: Laboratory) -> None:
    """At most the limit goes at a time, only what is older, of one tenant; states go by their time too."""
    scribe, other = lab.scribe(), lab.scribe()
    rows = [scribe.log(moment=minutes(number)) for number in range(6)]
    states = [scribe.state(slot=number, moment=minutes(number)) for number in range(3)]
    lab.write(*rows, *states, other.log(moment=minutes(0)))
    before = to_micros(minutes(5))
    removed = [lab.run(purge_some(lab.main, PROBE_LOG, scribe.tenant, before, 2)) for _ in range(4)]
    assert removed == [2, 2, 1, 0]
    assert lab.stored(PROBE_LOG, scribe.tenant) == rows[5:]
    assert lab.digest(PROBE_LOG, other.tenant).rows == 1
    assert lab.run(purge_some(lab.main, PROBE_STATE, scribe.tenant, to_micros(minutes(2)), 10)) == 2
    with pytest.raises(CapabilityError):
        lab.run(purge_some(lab.main, PROBE_COUNTER, scribe.tenant, before, 10))


def test_two_purges_share_the_work(lab: Laboratory) -> None:
    """Purges at the same time remove each row once and do not wait for each other."""
    scribe = lab.scribe()
    lab.write(*(scribe.log(moment=minutes(0)) for _ in range(200)))

    async def purge() -> int:
        connection, removed = await lab.connect(), 0
        while count := await purge_some(connection, PROBE_LOG, scribe.tenant, to_micros(minutes(1)), 10):
            removed += count
        return removed

    async def together() -> int:
        return sum(await asyncio.gather(purge(), purge(), purge()))

    assert lab.run(together()) == 200
    assert lab.stored(PROBE_LOG, scribe.tenant) == []


def test_a_cancelled_write_is_whole(lab: Laboratory) -> None:
    """A write that is cancelled at any moment leaves all of its rows or none."""

    async def cancel(turns: int) -> str:
        scribe = Scribe(str(uuid.uuid4()))
        connection = await lab.connect()
        task = asyncio.ensure_future(write(connection, [scribe.log("a"), scribe.state(), increment(scribe)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await (
            connection.close()
        )  # as the owner of a connection does with one that is cut off in a transaction
        return scribe.tenant

    for turns in (0, 1, 2, 3, 5, 8, 12, 18, 25, 35):
        tenant = lab.run(cancel(turns))
        counts = {lab.digest(kind, tenant).rows for kind in (PROBE_LOG, PROBE_STATE, PROBE_COUNTER)}
        assert counts in ({0}, {1}), f"cancelled after {turns} turns of the loop, a part was stored"


def test_changed_rows_are_read_off_the_status() -> None:
    """The server's answer ends with the number of rows."""
    assert [changed_rows(status) for status in ("INSERT 0 12", "DELETE 3", "UPDATE 0")] == [12, 3, 0]
