"""Intents in PostgreSQL: in the statement or the transaction of their batch, found by the key, and in nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from gateway.backend import OpenContext, Step, WriteBatch, WriteReceipt
from gateway.conformance.kinds import ALL_KINDS, PROBE_LOG
from gateway.conformance.rows import Scribe, group, minutes
from gateway.errors import SchemaError
from gateway.intents import Intent, Journaling, Stretch
from gateway.records.row import Row
from gateway.records.stamp import Stamper
from gateway_postgres import intents, noting
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.backup import backup_of
from gateway_postgres.connections import Connection
from gateway_postgres.intents import read_intents, read_journal, remove_intents
from gateway_postgres.schema import schema_of
from gateway_postgres.writing import write
from tests.plugins.postgres.laboratory import SERVERS, Laboratory, laboratory, reading
from tests.plugins.postgres.operating import context_of, fill, rows_of_two
from tests.servers import Database

FOR = ("mirror",)
KINDS = {kind.name: kind for kind in ALL_KINDS}


@pytest.fixture(scope="module", params=SERVERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The kit's tables on each version of the server."""
    yield from laboratory(request)


def _fresh(scribe: Scribe, count: int) -> list[Row]:
    """Return log rows with ids as the gateway makes them."""
    models = [PROBE_LOG.model.model_validate({"moment": minutes(at)}) for at in range(count)]
    return Stamper(scribe.tenant).stamp_many(PROBE_LOG, models)


def _write(
    lab: Laboratory, steps: Sequence[Step], first: int = 0, targets: Sequence[tuple[str, ...]] | None = None
) -> WriteReceipt:
    journaling = Journaling("me", first, targets or [FOR] * len(steps))
    return lab.run(write(lab.main, steps, journaling))


def _pending(
    lab: Laboratory, tenant: str, target: str = "mirror", limit: int = 10_000, before: int | None = None
) -> list[Intent]:
    async def read() -> list[Intent]:
        async with reading(lab.main, tenant) as connection:
            return await read_intents(connection, KINDS, target, tenant, limit, before, None)

    return lab.run(read())


def _places(found: Sequence[Intent]) -> list[tuple[int, int, tuple[object, ...], int]]:
    return [(one.number, one.part, one.key, one.version) for one in found]


@pytest.mark.parametrize("count", [1, 2, 700])
def test_rows_and_intents_are_one_statement(lab: Laboratory, count: int) -> None:
    """A batch of one kind takes a single round trip, intents for two mirrors included."""
    scribe = lab.scribe()
    both = [("mirror", "other")] * count
    _write(lab, _fresh(scribe, count), 0, both)  # lets the driver learn about the types first
    _write(lab, [scribe.state("t", slot) for slot in range(count)], 1_000, both)
    states = [scribe.state("s", count - slot) for slot in range(count)]
    expected = []
    for first, rows in ((2_000, _fresh(scribe, count)), (3_000, states)):
        seen: list[str] = []
        with lab.main.query_logger(lambda query, seen=seen: seen.append(query.query)):
            assert _write(lab, rows, first, both).superseded == {}
        assert len(seen) == 1, seen
        assert not lab.main.is_in_transaction()
        expected += [(first + at, 0, row.key, row.version) for at, row in enumerate(rows)]
    for target in both[0]:
        found = _places(_pending(lab, scribe.tenant, target))
        assert [one for one in found if one[0] >= 2_000] == expected


def test_a_batch_is_not_planned_anew(lab: Laboratory) -> None:
    """After a few times the server keeps one plan for rows with their intents, as it does for rows alone."""
    scribe = lab.scribe()
    for turn in range(12):
        _write(lab, _fresh(scribe, 20), 20 * turn)
    query = (
        "SELECT generic_plans FROM pg_prepared_statements "
        "WHERE statement LIKE '%noted AS%unnest%' AND statement LIKE '%probe_log%' AND statement LIKE '%register%'"
    )
    assert max(record[0] for record in lab.run(lab.main.fetch(query))) >= 5


def test_a_fresh_row_that_is_there_already_leaves_its_intents(lab: Laboratory) -> None:
    """Where the single statement finds that a part of the rows is stored, the careful way keeps all intents once."""
    scribe = lab.scribe()
    rows = _fresh(scribe, 6)
    lab.write(*rows[:3])
    assert _write(lab, rows).superseded == {}
    assert _write(lab, rows).superseded == {}
    assert _write(lab, rows[:1]).superseded == {}
    assert _places(_pending(lab, scribe.tenant)) == [
        (at, 0, row.key, row.version) for at, row in enumerate(rows)
    ]
    assert len(lab.stored(PROBE_LOG, scribe.tenant)) == 6


def test_a_number_that_is_taken_fails_no_state(lab: Laboratory) -> None:
    """A newer row that comes with a number from before is stored, and the intent that was there serves both."""
    scribe = lab.scribe()
    older, newer = scribe.state("a", note="older"), scribe.state("a", note="newer")
    beside = [scribe.state("b", slot) for slot in range(3)]
    _write(lab, [older])
    _write(lab, [newer])
    _write(lab, [newer, *beside])
    assert lab.get(newer.kind, scribe.tenant, [newer.key]) == [newer]
    wanted = [(0, older.key), *((at, row.key) for at, row in enumerate(beside, 1))]
    assert [(one.number, one.key) for one in _pending(lab, scribe.tenant)] == wanted


def test_rows_with_different_mirrors_are_one_batch(lab: Laboratory) -> None:
    """Rows of one kind that go to different mirrors are stored together, each with its own intents."""
    scribe = lab.scribe()
    rows = _fresh(scribe, 4)
    _write(lab, rows, 5, [("mirror",), (), ("other", "mirror"), ("other",)])
    assert [one.number for one in _pending(lab, scribe.tenant)] == [5, 7]
    assert [one.number for one in _pending(lab, scribe.tenant, "other")] == [7, 8]


def test_intents_of_two_tenants_in_one_batch(lab: Laboratory) -> None:
    """Each tenant's intents are stored under its own name, in one transaction."""
    mine, other = lab.scribe(), lab.scribe()
    steps: list[Step] = [*_fresh(mine, 2), group(mine.state(), other.state()), *_fresh(other, 2)]
    _write(lab, steps)
    assert [(one.number, one.part) for one in _pending(lab, mine.tenant)] == [(0, 0), (1, 0), (2, 0)]
    assert [(one.number, one.part) for one in _pending(lab, other.tenant)] == [(2, 1), (3, 0), (4, 0)]


def test_a_batch_that_fails_leaves_nothing(lab: Laboratory) -> None:
    """Where the table of intents refuses, the rows are not stored either, whichever way they take."""
    scribe = lab.scribe()
    lab.database.execute("REVOKE INSERT ON gateway.intents FROM gateway_app")
    try:
        for steps in (_fresh(scribe, 1), _fresh(scribe, 3), [scribe.state()], [scribe.state(), scribe.log()]):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                _write(lab, steps)
    finally:
        lab.database.execute("GRANT INSERT ON gateway.intents TO gateway_app")
    assert lab.stored(PROBE_LOG, scribe.tenant) == []
    assert lab.digest(scribe.state().kind, scribe.tenant).rows == 0


def test_intents_are_found_by_their_key(lab: Laboratory) -> None:
    """Pages, counts and removal go through the key, though the planner has never seen the table as full as it is."""
    scribe = lab.scribe()
    tenant = scribe.tenant
    for first in range(0, 4_000, 500):
        _write(lab, _fresh(scribe, 500), first)
    asked: list[tuple[str, list[Any]]] = [
        (noting.page(before=True, after=True), [tenant, "mirror", ["probe_log"], 100, 2**62, "me", 1_000]),
        (noting.page(before=False, after=False), [tenant, "mirror", ["probe_log"], 100]),
        (noting.REMOVE, [tenant, "mirror", ["probe_log"], ["me", "you"], [5, 7], [6, 9]]),
        (noting.DEPTH, [tenant, "mirror", 100]),
        (noting.TARGETS, [tenant]),
    ]

    async def plans() -> list[str]:
        found = []
        async with lab.main.transaction():
            await lab.main.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
            await lab.main.execute(noting.BY_KEY)
            for text, values in asked:
                records = await lab.main.fetch(f"EXPLAIN {text}", *values)
                found.append("\n".join(record[0] for record in records))
        return found

    for plan in lab.run(plans()):
        assert "intents_pkey" in plan, plan
        assert "Seq Scan on intents" not in plan, plan
        assert "Sort" not in plan, plan


def test_many_narrow_stretches_cost_what_they_hold(lab: Laboratory) -> None:
    """Each stretch is looked up on its own: what is removed decides how much is read, and not what stays."""
    scribe = lab.scribe()
    tenant, count = scribe.tenant, 1_000
    for first in range(0, 4_000, 500):
        _write(lab, _fresh(scribe, 500), first)
    stretches = [("me", 3 * at, 3 * at) for at in range(count)]

    async def rows_read() -> int:
        async with lab.main.transaction():
            await lab.main.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
            await lab.main.execute(noting.BY_KEY)
            values = [tenant, "mirror", ["probe_log"], *map(list, zip(*stretches, strict=True))]
            text = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {noting.REMOVE}"
            (plan,) = json.loads(await lab.main.fetchval(text, *values))
        return _rows_of(plan["Plan"])

    assert lab.run(rows_read()) <= 10 * count


def _rows_of(plan: dict[str, Any]) -> int:
    """Return how many rows all parts of a plan went through, those that were dropped included."""
    dropped = sum(
        plan.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Join Filter", "Index Recheck")
    )
    return int((plan["Actual Rows"] + dropped) * plan["Actual Loops"]) + sum(
        map(_rows_of, plan.get("Plans", ()))
    )


def test_wide_stretches_are_removed_by_portions(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a stretch holds, no transaction removes more than a portion of about the bound."""
    monkeypatch.setattr(intents, "_REMOVED", 10)
    scribe = lab.scribe()
    _write(lab, _fresh(scribe, 95))
    seen: list[int] = []

    def watch(query: asyncpg.connection.LoggedQuery) -> None:
        if query.query == noting.REMOVE:
            seen.append(1)

    narrow = [Stretch("me", number, number) for number in range(0, 30, 2)]

    async def remove(done: Sequence[Stretch]) -> int:
        return await remove_intents(lab.main, list(KINDS), "mirror", scribe.tenant, done)

    assert lab.run(remove(narrow)) == 15
    with lab.main.query_logger(watch):
        assert lab.run(remove([Stretch("me", 20, 2**62)])) == 70
    assert len(seen) >= 7
    assert [one.number for one in _pending(lab, scribe.tenant)] == list(range(1, 20, 2))


def test_the_oldest_is_known_beyond_what_is_counted(lab: Laboratory) -> None:
    """Where only a part is counted, the first intent of each owner still tells how far the mirror is behind."""
    scribe = lab.scribe()
    late, early = _fresh(scribe, 5), _fresh(scribe, 5)
    for owner, rows in (("b", late), ("a", early)):
        journaling = Journaling(owner, 0, [FOR] * 5)
        lab.run(write(lab.main, rows, journaling))

    async def read(limit: int) -> tuple[int, int | None]:
        async with reading(lab.main, scribe.tenant) as connection:
            (found,) = await read_journal(connection, scribe.tenant, limit)
            return found.depth, found.oldest

    oldest = min(row.version for row in late)
    assert lab.run(read(3)) == (3, oldest)
    assert lab.run(read(100)) == (10, oldest)


@pytest.mark.anyio
async def test_acknowledging_waits_for_no_write(
    context: Callable[..., OpenContext],
    opened: Callable[[OpenContext], Awaitable[PostgresBackend]],
    trades: Callable[[int], list[Row]],
) -> None:
    """Intents are removed while a write is under way, and the other way round."""
    store = await opened(context())
    rows = trades(3)
    await store.gateway_write(WriteBatch(rows, Journaling("me", 0, [FOR] * 3)))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(_: Connection) -> None:
        begun.set()
        await ended.wait()

    assert store._writer is not None
    writing = asyncio.create_task(store._writer.run(slow))
    await begun.wait()
    assert await store.gateway_acknowledge("mirror", rows[0].tenant, [Stretch("me", 0, 1)]) == 2
    ended.set()
    await writing
    found = await store.gateway_intents("mirror", rows[0].tenant, 10, None, None)
    assert [one.number for one in found] == [2]


def test_a_restored_store_has_no_intents(prepared_database: Database, tmp_path: Path) -> None:
    """Intents are no part of a backup, and those of a store that one is brought into are gone afterwards."""
    context = context_of(prepared_database.app_url, prepared_database.superuser_url)
    rows = rows_of_two(2)
    asyncio.run(fill(context, rows))
    source = tmp_path / "x.jsonl.gz"
    backup_of(context).write(source)
    statement = "INSERT INTO gateway.intents (tenant_id, target, owner, number, part, kind, key, version) VALUES (%s, 'mirror', 'me', 1, 0, 'trades', '[]', 1)"
    with psycopg.connect(prepared_database.superuser_url, autocommit=True) as connection:
        connection.execute(statement, (rows[0].tenant,))
        connection.execute("DELETE FROM bots_core.trades")
        connection.execute("DELETE FROM bots_core.positions")
        connection.execute("DELETE FROM gateway.moved_rows")
    assert backup_of(context).restore(source).ok
    assert prepared_database.execute("SELECT count(*) FROM gateway.intents") == [(0,)]


def test_a_database_from_before_gets_the_table(prepared_database: Database) -> None:
    """The first revision is upgraded, and left again only when nothing is lost, or by force."""
    context = context_of(prepared_database.app_url, prepared_database.owner_url)
    schema = schema_of(context)
    assert "dropped gateway.intents.key" in schema.downgrade("0001")
    assert schema.current() == "0001"
    assert schema.upgrade()
    assert schema.check() == []
    prepared_database.execute(
        "INSERT INTO gateway.intents (tenant_id, target, owner, number, part, kind, key, version) VALUES (gen_random_uuid(), 'mirror', 'me', 1, 0, 'trades', '[]', 1)"
    )
    with pytest.raises(SchemaError, match="yet to reach a mirror"):
        schema.downgrade("0001")
    assert schema.downgrade("0001", force=True)
    assert schema.upgrade()
    assert schema.check() == []
