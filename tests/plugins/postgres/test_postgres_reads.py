"""Reads by key that set their tenant themselves: they find what is there however the server plans them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.records import BOT_STATE, CANDLES, DAILY_STATS, POSITIONS, TRADES, Row
from gateway.records.kind import KindSpec
from gateway_postgres.reads import get_rows_alone, reads_alone
from gateway_postgres.statements import postgres_statements
from gateway_postgres.writing import write
from tests.plugins.postgres.laboratory import SERVERS, Laboratory, laboratory

PLANS = {
    "as the server likes": (),
    "without nested loops": ("enable_nestloop",),
    "without joins by hash or order": ("enable_hashjoin", "enable_mergejoin"),
    "without indexes": ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"),
    "with indexes only": ("enable_seqscan",),
    "without keeping what a part returned": ("enable_material", "enable_memoize"),
}


@pytest.fixture(scope="module", params=SERVERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The kit's tables on each version of the server."""
    yield from laboratory(request)


async def _read(lab: Laboratory, rows: list[Row], settings: dict[str, str]) -> list[list[Row | None]]:
    """Return what a connection of its own reads with these settings: all rows at once, and each one alone."""
    connection = await lab.connect()
    for name, value in settings.items():
        await connection.execute(f"SET {name} = {value}")
    kind, tenant, keys = rows[0].kind, rows[0].tenant, [row.key for row in rows]
    found = [await get_rows_alone(connection, kind, tenant, keys)]
    one_by_one = []
    for key in keys:
        one_by_one += await get_rows_alone(connection, kind, tenant, [key])
    await connection.close()
    return [*found, one_by_one]


@pytest.mark.parametrize("caching", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("plan", PLANS)
def test_no_plan_reads_before_the_tenant_is_set(lab: Laboratory, plan: str, caching: str) -> None:
    """Whatever the planner is kept from or made to do, every row that is there is found."""
    scribe, other = lab.scribe(), lab.scribe()
    states = [scribe.state(f"s{at}", at) for at in range(40)]
    counters = [scribe.counter(f"c{at}", total=at) for at in range(40)]
    lab.write(*states, *counters, *(other.state(f"s{at}", at) for at in range(40)))
    # A plan against the planner's wish costs so much on paper that the server would compile it, for seconds.
    settings = {**dict.fromkeys(PLANS[plan], "off"), "plan_cache_mode": caching, "jit": "off"}
    for rows in (states, counters):
        assert lab.run(_read(lab, rows, settings)) == [rows, rows]


def test_a_large_table_is_read_the_same_way(lab: Laboratory) -> None:
    """With many rows, before and after the server has counted them, and past the plans it makes for each call."""
    scribe = lab.scribe()
    rows = [scribe.state(f"s{at}", at % 7) for at in range(5_000)]
    lab.write(*rows)
    wanted = rows[::700]
    for _ in range(2):
        for _ in range(8):
            assert (
                lab.run(get_rows_alone(lab.main, PROBE_STATE, scribe.tenant, [row.key for row in wanted]))
                == wanted
            )
            assert lab.run(get_rows_alone(lab.main, PROBE_STATE, scribe.tenant, [rows[77].key])) == [rows[77]]
        lab.database.execute("ANALYZE bots_core.probe_state")


def test_missing_and_repeated_keys_have_their_places(lab: Laboratory) -> None:
    """The answer is in the order of the keys, None where there never was a row, and a tombstone is a row."""
    scribe = lab.scribe()
    row, gone = scribe.state("here"), scribe.state("gone")
    grave = scribe.tombstone(gone)
    lab.write(row, gone)
    lab.write(grave)
    keys = [row.key, ("never", 1), gone.key, row.key]
    assert lab.run(get_rows_alone(lab.main, PROBE_STATE, scribe.tenant, keys)) == [row, None, grave, row]
    assert lab.run(get_rows_alone(lab.main, PROBE_STATE, scribe.tenant, [("never", 1)])) == [None]
    assert lab.run(get_rows_alone(lab.main, PROBE_STATE, scribe.tenant, [])) == []


@pytest.mark.parametrize("many", [False, True])
def test_row_security_holds_in_a_read_that_sets_the_tenant(lab: Laboratory, many: bool) -> None:
    """Without the comparison of the tenant, the policy alone lets through no other row than the tenant's own."""
    mine, other = lab.scribe(), lab.scribe()
    row = mine.counter("same", total=1)
    lab.write(row, other.counter("same", total=2))
    text = postgres_statements(PROBE_COUNTER).alone(many=many)
    loose = text.replace("held.tenant_id = $1::text::uuid", "held.tenant_id IS NOT NULL")
    theirs = text.replace("held.tenant_id = $1::text::uuid", f"held.tenant_id = '{other.tenant}'::uuid")
    assert len({text, loose, theirs}) == 3
    key = ["same"] if many else "same"
    for _ in range(8):  # past the plans that the server makes for each call
        assert [record[0] for record in lab.run(lab.main.fetch(loose, mine.tenant, key))] == [row.version]
        assert lab.run(lab.main.fetch(theirs, mine.tenant, key)) == []


def test_a_read_leaves_no_tenant_behind(lab: Laboratory) -> None:
    """The setting ends with the statement, also with one that fails, and no transaction stays open."""
    scribe = lab.scribe()
    lab.write(scribe.counter("c", total=1))
    seen: list[str] = []
    with lab.main.query_logger(lambda query: seen.append(query.query)):
        lab.run(get_rows_alone(lab.main, PROBE_COUNTER, scribe.tenant, [("c",)]))
    assert len(seen) == 1
    assert not lab.run(lab.main.fetchval("SELECT current_setting('app.tenant_id', true)"))
    assert not lab.main.is_in_transaction()
    assert lab.run(lab.main.fetch("SELECT 1 FROM bots_core.probe_counter")) == []


def test_reads_while_others_write_see_one_of_the_versions(lab: Laboratory) -> None:
    """A row that is being rewritten is always found, in a version that somebody wrote."""
    scribe = lab.scribe()
    versions = [scribe.counter("busy", total=at) for at in range(60)]
    lab.write(versions[0])

    async def watch() -> list[Row | None]:
        connection = await lab.connect()
        return [
            (await get_rows_alone(connection, PROBE_COUNTER, scribe.tenant, [("busy",)]))[0]
            for _ in range(120)
        ]

    async def both() -> list[Row | None]:
        watching = asyncio.create_task(watch())
        for version in versions[1:]:
            await write(lab.main, [version])
        return await watching

    seen = lab.run(both())
    assert None not in seen
    assert set(seen) <= set(versions)


@pytest.mark.parametrize("kind", [TRADES, CANDLES, PROBE_LOG], ids=lambda kind: kind.name)
def test_tables_that_are_cut_by_time_are_read_in_a_transaction(kind: KindSpec) -> None:
    """What is read of them may be chosen by the policy before anything runs, so the tenant is set before."""
    assert not reads_alone(kind)
    with pytest.raises(AssertionError, match="cut by time"):
        postgres_statements(kind).alone(many=False)


@pytest.mark.parametrize("kind", [POSITIONS, DAILY_STATS, BOT_STATE, PROBE_STATE], ids=lambda kind: kind.name)
def test_whole_tables_are_read_in_one_statement(kind: KindSpec) -> None:
    """Positions and their like take one round trip."""
    assert reads_alone(kind)
