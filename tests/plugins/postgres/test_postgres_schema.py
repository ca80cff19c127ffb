"""The schema in PostgreSQL: whole or not at all, never by two at once, never over a newer one, and what mends it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import asyncpg
import psycopg
import pytest
from sqlalchemy import Engine, event

from gateway.errors import SchemaError, SchemaTooNewError, StoreBusyError, StoreError
from gateway.records import TRADES, KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.migrations import HEAD
from gateway_postgres.presence import missing_from
from tests.plugins.postgres.schemas import (
    OTHER,
    TENANT,
    insert,
    schema_for,
    shipments,
)
from tests.samples import HeavierShipment
from tests.servers import Database, PgBouncer, PostgresServer

UPGRADE = """
import os, signal, sys
from sqlalchemy import event, Engine
from tests.plugins.postgres.schemas import schema_for

tables = 0
@event.listens_for(Engine, "after_cursor_execute")
def count(connection, cursor, statement, *rest):
    global tables
    tables += statement.lstrip().startswith("CREATE TABLE")
    if tables == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
print(schema_for(sys.argv[1]).upgrade())
"""
NEVER = 1_000_000
StartUpgrade = Callable[[Database, int], "subprocess.Popen[str]"]
FRESH = [f"upgraded from revision none to {HEAD}", "made 36 partitions ahead"]


@pytest.fixture
def start_upgrade() -> Iterator[StartUpgrade]:
    """Starts processes that upgrade a database once they are told, and kill themselves at a CREATE TABLE."""
    children: list[subprocess.Popen[str]] = []

    def start(database: Database, kill_at: int) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", UPGRADE, database.owner_url, str(kill_at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def _tables(database: Database) -> set[str]:
    look = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
    return {name for (name,) in database.execute(look)}


def _shape(database: Database) -> list[tuple[object, ...]]:
    """Return everything that makes a schema what it is, in words of the catalogs."""
    return database.execute(
        """
        SELECT 'column', c.oid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull::text
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information)' AND a.attnum > 0
        UNION ALL SELECT 'index', indrelid::regclass::text, pg_get_indexdef(indexrelid), '', '' FROM pg_index i
          JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information)'
        UNION ALL SELECT 'policy', polrelid::regclass::text, polname::text, pg_get_expr(polqual, polrelid),
               pg_get_expr(polwithcheck, polrelid) FROM pg_policy
        UNION ALL SELECT 'rights', oid::regclass::text, relacl::text, relrowsecurity::text, relforcerowsecurity::text
          FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information)' AND relkind IN ('r', 'p')
        UNION ALL SELECT 'function', proname::text, prosrc, proacl::text, prosecdef::text
          FROM pg_proc WHERE pronamespace = 'gateway'::regnamespace
        UNION ALL SELECT 'cut', table_schema, table_name, style, step FROM gateway.partitioned_tables
        UNION ALL SELECT 'kind', name, fingerprint, '', '' FROM gateway.gateway_kinds
        ORDER BY 1, 2, 3, 4, 5
        """
    )


def test_upgrade_leaves_nothing_to_do(postgres_database: Database) -> None:
    """A new database gets everything in one go; a second look finds nothing wrong, a second upgrade does nothing."""
    schema = schema_for(postgres_database.owner_url, shipments())
    assert schema.current() is None
    assert "gateway schema upgrade" in schema.check()[0]
    done = schema.upgrade()
    assert done == [
        FRESH[0],
        "created schema acme",
        "created table acme.shipments",
        "made 40 partitions ahead",
    ]
    assert schema.current() == HEAD
    assert schema.check() == []
    assert schema.upgrade() == []


def test_the_debian_server_agrees(postgres15: PostgresServer) -> None:
    """What is compared with the catalogs' texts holds in an older server too."""
    with postgres15.fresh() as database:
        schema = schema_for(database.owner_url)
        assert schema.upgrade() == FRESH
        assert schema.check() == []
        assert schema.upgrade() == []


def test_through_a_pooler(postgres_database: Database, pgbouncer: PgBouncer) -> None:
    """An upgrade needs nothing of the session: it works behind a pooler in transaction mode, again and again."""
    schema = schema_for(pgbouncer.url_of(postgres_database.owner_url), shipments())
    schema.upgrade()
    for _ in range(3):
        assert schema.check() == []
    assert schema_for(postgres_database.owner_url, shipments()).upgrade() == []


def test_kinds_lie_in_their_schemas(postgres_database: Database) -> None:
    """Each kind's table is in the schema that the kind names; the gateway's own are apart."""
    schema_for(postgres_database.owner_url).upgrade()
    tables = _tables(postgres_database)
    assert {f"{kind.schema}.{kind.name}" for kind in BUILTIN_KINDS} <= tables
    assert {kind.schema for kind in BUILTIN_KINDS} == {"bots_core", "ai_core", "supporting"}
    assert "gateway.alembic_version" in tables
    assert not any(name.startswith("public.") for name in tables)


def test_sql_for_review_does_what_upgrade_does(postgres_server: PostgresServer) -> None:
    """The printed script, run as the owner, makes the very same database; nothing is left to an upgrade."""
    with postgres_server.fresh() as by_hand, postgres_server.fresh() as by_upgrade:
        script = schema_for(by_hand.owner_url, shipments()).sql()
        assert _tables(by_hand) == set(), "printing changes nothing"
        with psycopg.connect(by_hand.owner_url, autocommit=True) as connection:
            connection.execute(script.encode())
        schema_for(by_upgrade.owner_url, shipments()).upgrade()
        assert _shape(by_hand) == _shape(by_upgrade)
        assert schema_for(by_hand.owner_url, shipments()).upgrade() == []
        for part in (
            "ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY",
            "PARTITION BY RANGE",
            "GRANT SELECT, INSERT",
            "SET LOCAL lock_timeout",
        ):
            assert part in script


@pytest.mark.parametrize("at", [1, 12, 24])
def test_an_upgrade_killed_half_way_leaves_nothing(
    postgres_database: Database, start_upgrade: StartUpgrade, at: int
) -> None:
    """After `kill -9` in the middle the database is as it was, and the next upgrade is a normal one."""
    child = start_upgrade(postgres_database, at)
    child.communicate("go\n", timeout=60)
    assert child.returncode == -9
    schema = schema_for(postgres_database.owner_url)
    assert schema.upgrade() == FRESH
    assert schema.check() == []


def test_a_killed_upgrade_is_seen_by_nobody(postgres_database: Database, start_upgrade: StartUpgrade) -> None:
    """Not one table of a killed upgrade appears."""
    child = start_upgrade(postgres_database, 20)
    child.communicate("go\n", timeout=60)
    assert child.returncode == -9
    assert _tables(postgres_database) == set()


def test_two_processes_upgrade_at_once(postgres_database: Database, start_upgrade: StartUpgrade) -> None:
    """Both succeed: one does the work, the other waits and finds it done."""
    children = [start_upgrade(postgres_database, NEVER) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = []
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        answers.append(out.strip())
    assert sorted(answers) == sorted([str(FRESH), "[]"])
    assert schema_for(postgres_database.owner_url).check() == []


def test_a_newer_schema_is_refused(postgres_database: Database) -> None:
    """An older gateway touches nothing that a newer one made, in whichever way it is asked."""
    schema = schema_for(postgres_database.owner_url)
    schema.upgrade()
    postgres_database.execute("UPDATE gateway.alembic_version SET version_num = '9999'")
    before = _shape(postgres_database)
    for attempt in (schema.upgrade, lambda: schema.downgrade("base", force=True)):
        with pytest.raises(SchemaTooNewError, match=r"9999.*upgrade storage-gateway"):
            attempt()
    assert "9999" in schema.check()[0]
    assert _shape(postgres_database) == before


@pytest.mark.anyio
async def test_a_bot_notices_a_newer_schema(postgres_database: Database) -> None:
    """The quick look when a store is opened refuses a newer schema, and says what else is missing."""
    connection = await asyncpg.connect(postgres_database.app_url)
    try:
        assert "revision none" in str(await missing_from(connection, BUILTIN_KINDS))
        schema_for(postgres_database.owner_url).upgrade()
        assert await missing_from(connection, BUILTIN_KINDS) is None
        changed = replace(TRADES, indexes=(*TRADES.indexes, ("order_id",)))
        assert "trades" in str(await missing_from(connection, (changed,)))
        postgres_database.execute("UPDATE gateway.alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaTooNewError, match="9999"):
            await missing_from(connection, BUILTIN_KINDS)
        postgres_database.execute("REVOKE USAGE ON SCHEMA gateway FROM gateway_app")
        assert "app role" in str(await missing_from(connection, BUILTIN_KINDS))
    finally:
        await connection.close()


def test_a_database_of_somebody_else_is_refused(postgres_database: Database) -> None:
    """Tables of our names that the gateway did not make are not taken over."""
    postgres_database.execute("CREATE SCHEMA bots_core", "CREATE TABLE bots_core.trades (id int)")
    with pytest.raises(SchemaError, match=r"did not make \(bots_core.trades\).*gateway import"):
        schema_for(postgres_database.owner_url).upgrade()
    assert _tables(postgres_database) == {"bots_core.trades"}


def test_a_table_of_a_trading_bot_in_public_is_no_stranger(postgres_database: Database) -> None:
    """A bot's own `public.trades` is left alone beside ours."""
    postgres_database.execute("CREATE TABLE public.trades (id int)")
    assert schema_for(postgres_database.owner_url).upgrade() == FRESH
    assert "public.trades" in _tables(postgres_database)


def test_a_new_field_becomes_a_column(postgres_database: Database) -> None:
    """A field and an index that a kind gained are added to every partition; what was stored stays."""
    schema_for(postgres_database.owner_url, shipments()).upgrade()
    postgres_database.execute(insert("acme.shipments", TENANT, "r", "2020-01-01", "at"))
    heavier = schema_for(postgres_database.owner_url, shipments(HeavierShipment, ("parcel", "at")))
    assert len(heavier.check()) == 2
    assert heavier.upgrade() == [
        "added column acme.shipments.weight",
        "created index ix_shipments__parcel__at",
    ]
    assert heavier.check() == []
    assert postgres_database.execute("SELECT record_id, weight FROM acme.shipments_default") == [("r", None)]


def test_a_conflict_undoes_the_whole_upgrade(postgres_database: Database) -> None:
    """When the last table cannot be mended, the tables before it are not there either."""
    postgres_database.execute(
        "CREATE SCHEMA acme AUTHORIZATION gw_owner",
        "CREATE TABLE acme.shipments (record_id text PRIMARY KEY)",
    )
    with pytest.raises(SchemaError, match="keyed by"):
        schema_for(postgres_database.owner_url, shipments()).upgrade()
    assert _tables(postgres_database) == {"acme.shipments"}


def test_a_column_of_another_type_is_left_to_a_person(postgres_database: Database) -> None:
    """NUMERIC(18, 8) would round; it is said, and nothing is changed."""
    schema = schema_for(postgres_database.owner_url)
    schema.upgrade()
    postgres_database.execute("ALTER TABLE bots_core.trades ALTER price TYPE numeric(18, 8)")
    assert any("price is numeric(18,8) and the kind wants numeric" in problem for problem in schema.check())
    with pytest.raises(SchemaError, match="price is numeric"):
        schema.upgrade()


def test_looking_costs_a_dozen_queries(postgres_database: Database) -> None:
    """`check` asks the catalogs for all tables together: ten kinds more cost not one query more."""

    def queries(*more: KindSpec) -> int:
        schema = schema_for(postgres_database.owner_url, *more)
        schema.upgrade()
        asked: list[str] = []

        def count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            asked.append(statement)

        event.listen(Engine, "before_cursor_execute", count)
        try:
            assert schema.check() == []
        finally:
            event.remove(Engine, "before_cursor_execute", count)
        return len(asked)

    few = queries()
    assert few <= 14
    assert queries(*(replace(shipments(), name=f"shipments_{number}") for number in range(10))) == few


@pytest.mark.anyio
async def test_opening_looks_twice(prepared_database: Database) -> None:
    """The quick look asks two queries, however many kinds and tables there are."""
    connection = await asyncpg.connect(prepared_database.app_url)
    asked: list[str] = []
    connection.add_query_logger(lambda record: asked.append(record.query))
    try:
        assert await missing_from(connection, BUILTIN_KINDS) is None
    finally:
        await connection.close()
    assert len(asked) == 2


DAMAGE = {
    "ALTER TABLE bots_core.trades DISABLE ROW LEVEL SECURITY": "row security of bots_core.trades is off",
    "ALTER TABLE ai_core.candles NO FORCE ROW LEVEL SECURITY": "does not bind its owner",
    "DROP POLICY tenant_rows ON bots_core.events": "policy tenant_rows of bots_core.events is missing",
    "ALTER POLICY tenant_rows ON bots_core.events USING (true)": "policy tenant_rows of bots_core.events was altered",
    "ALTER POLICY tenant_rows ON bots_core.events TO gateway_app": "policy tenant_rows of bots_core.events was altered",
    "DROP POLICY admin_rows ON bots_core.events": "policy admin_rows of bots_core.events is missing",
    "REVOKE INSERT ON bots_core.positions FROM gateway_app": "gateway_app lacks rights on bots_core.positions",
    "GRANT TRUNCATE ON bots_core.positions TO gateway_app": "gateway_app may truncate bots_core.positions",
    "GRANT SELECT ON bots_core.trades_default TO gateway_app": "gateway_app has rights on partition bots_core.trades_default",
    "ALTER TABLE bots_core.trades_default NO FORCE ROW LEVEL SECURITY": "row security of partition",
    "DROP TABLE bots_core.alerts_default": "the default partition of bots_core.alerts is missing",
    "DROP INDEX bots_core.ix_trades__record_id": "index ix_trades__record_id is missing",
    "ALTER TABLE bots_core.alerts DROP details": "column bots_core.alerts.details is missing",
    "ALTER TABLE bots_core.alerts DROP updated_at": "column bots_core.alerts.updated_at is missing",
    "DROP TABLE bots_core.daily_stats": "table bots_core.daily_stats is missing",
    "DROP FUNCTION gateway.make_partitions()": "function gateway.make_partitions is missing",
    "CREATE OR REPLACE FUNCTION gateway.partition_bounds(parent regclass) RETURNS TABLE (name text, lower_bound "
    "timestamptz, upper_bound timestamptz) LANGUAGE sql AS 'SELECT NULL, NULL::timestamptz, NULL::timestamptz'": "another release's",
    "GRANT EXECUTE ON FUNCTION gateway.make_partitions() TO PUBLIC": "who may call function gateway.make_partitions",
    "REVOKE USAGE ON SCHEMA ai_core FROM gateway_app": "gateway_app may not look into schema ai_core",
    "REVOKE SELECT ON gateway.gateway_kinds FROM gateway_app": "gateway_app lacks rights on gateway.gateway_kinds",
    "ALTER TABLE gateway.moved_rows NO FORCE ROW LEVEL SECURITY": "row security of gateway.moved_rows",
    "DELETE FROM gateway.partitioned_tables": "partitions of bots_core.trades are to be by month",
    "DROP TABLE gateway.moved_rows": "table gateway.moved_rows is missing",
    "DROP TABLE gateway.intents": "table gateway.intents is missing",
    "GRANT UPDATE ON gateway.intents TO gateway_app": "gateway_app has more rights on gateway.intents",
    "DROP POLICY tenant_rows ON gateway.intents": "policy tenant_rows of gateway.intents is missing",
    "DROP TABLE gateway.partitioned_tables": "table gateway.partitioned_tables is missing",
    "DROP TABLE gateway.gateway_kinds": "table gateway.gateway_kinds is missing",
    "DROP FUNCTION gateway.partition_bounds(regclass)": "function gateway.partition_bounds is missing",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bots_core.ix_positions__is_open'::regclass": (
        "index ix_positions__is_open is missing"
    ),
    "DROP INDEX bots_core.ix_positions__is_open; CREATE INDEX ix_positions__is_open ON bots_core.positions (is_open)": (
        "index ix_positions__is_open was altered"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_mended(prepared_database: Database, damage: str) -> None:
    """Whatever somebody took away by hand is named by `check` and put back by `upgrade`."""
    schema = schema_for(prepared_database.owner_url)
    assert schema.check() == []
    prepared_database.execute(damage)
    problems = schema.check()
    assert any(DAMAGE[damage] in problem and "gateway schema upgrade" in problem for problem in problems), (
        problems
    )
    assert schema.upgrade() != []
    assert schema.check() == []


def test_a_foreign_policy_is_pointed_out(prepared_database: Database) -> None:
    """A policy that opens rows is a problem that a person decides; one that only closes some is not."""
    schema = schema_for(prepared_database.owner_url)
    prepared_database.execute("CREATE POLICY mine ON bots_core.trades AS RESTRICTIVE USING (true)")
    assert schema.check() == []
    prepared_database.execute("CREATE POLICY open_all ON bots_core.trades USING (true)")
    assert "policy open_all of bots_core.trades" in schema.check()[0]
    assert schema.upgrade() == []


def test_missing_partitions_are_found(prepared_database: Database) -> None:
    """When nobody made partitions for a while, `check` says so and `upgrade` makes them."""
    schema = schema_for(prepared_database.owner_url)
    names = prepared_database.execute(
        "SELECT name FROM gateway.partition_bounds('bots_core.trades') ORDER BY lower_bound DESC"
    )
    for (name,) in names[:3]:
        prepared_database.execute(f"DROP TABLE bots_core.{name}")
    assert any("bots_core.trades has no partition from" in problem for problem in schema.check())
    assert schema.upgrade() == ["made 3 partitions ahead"]
    assert schema.check() == []


def test_downgrade_removes_what_the_revision_made(postgres_database: Database) -> None:
    """An empty schema goes back to nothing, apart from tables that no revision made."""
    schema = schema_for(postgres_database.owner_url, shipments())
    schema.upgrade()
    assert "dropped bots_core.trades.record_id" in schema.downgrade("base")
    kept = {name for name in _tables(postgres_database) if not name.startswith("acme.shipments")}
    assert kept == {"gateway.alembic_version"}
    assert schema.current() is None
    schema.upgrade()
    assert schema.check() == []


def test_downgrade_sees_rows_of_every_tenant(prepared_database: Database) -> None:
    """Row security hides rows from the owner; a downgrade finds them all the same and refuses to lose them."""
    schema = schema_for(prepared_database.owner_url)
    prepared_database.execute(insert("bots_core.trades", OTHER, "r", "2020-01-01"))
    with psycopg.connect(prepared_database.owner_url) as owner:
        assert owner.execute("SELECT count(*) FROM bots_core.trades").fetchone() == (0,)
    before = _shape(prepared_database)
    with pytest.raises(SchemaError, match=r"lose rows of bots_core.trades; nothing was changed.*--force"):
        schema.downgrade("base")
    assert _shape(prepared_database) == before
    schema.downgrade("base", force=True)
    assert "bots_core.trades" not in _tables(prepared_database)


def test_who_may_not_change_the_schema_is_told(prepared_database: Database) -> None:
    """A bot's own login can look at the schema, and can neither upgrade nor downgrade it."""
    schema = schema_for(prepared_database.app_url)
    assert schema.current() == HEAD
    assert schema.check() == []
    prepared_database.execute("DROP INDEX bots_core.ix_trades__record_id")
    for attempt in (schema.upgrade, lambda: schema.downgrade("base", force=True)):
        with pytest.raises(StoreError, match=r"owner|right"):
            attempt()


def test_a_table_in_use_makes_an_upgrade_give_way(
    prepared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade that waits for a table has everybody queue behind it, so it gives up soon, and says that it is busy."""
    monkeypatch.setattr("gateway.sql.postgres._DDL_WAIT", "SET LOCAL lock_timeout = '100ms'")
    prepared_database.execute("ALTER TABLE bots_core.trades NO FORCE ROW LEVEL SECURITY")
    schema = schema_for(prepared_database.owner_url)
    with psycopg.connect(prepared_database.app_url) as bot:
        bot.execute("SELECT count(*) FROM bots_core.trades")
        with pytest.raises(StoreBusyError):
            schema.upgrade()
    assert schema.upgrade() == ["forced row security of bots_core.trades"]


def test_an_upgrade_does_not_wait_for_another_for_ever(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the lock of the schema and never ends is waited for up to a limit; then the upgrade says that it is busy."""
    monkeypatch.setattr("gateway.sql.postgres._LOCK_WAIT", "SET LOCAL lock_timeout = '100ms'")
    schema = schema_for(postgres_database.owner_url)
    with psycopg.connect(postgres_database.owner_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('gateway.schema', 0))")
        with pytest.raises(StoreBusyError):
            schema.upgrade()
    assert _tables(postgres_database) == set()
    assert schema.upgrade() == FRESH


def test_a_limit_for_queries_does_not_stop_an_upgrade(postgres_database: Database) -> None:
    """A database may end every query after a moment; an upgrade that has to wait longer is let finish."""
    postgres_database.execute(
        f'ALTER DATABASE "{postgres_database.name}" SET statement_timeout = 300',
        f'ALTER DATABASE "{postgres_database.name}" SET lock_timeout = 300',
    )
    with psycopg.connect(postgres_database.owner_url) as limited, pytest.raises(psycopg.errors.QueryCanceled):
        limited.execute("SELECT pg_sleep(1)")
    with psycopg.connect(postgres_database.owner_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('gateway.schema', 0))")
        release = threading.Timer(0.8, other.rollback)
        release.start()
        assert schema_for(postgres_database.owner_url).upgrade() == FRESH
        release.join()


def test_settings_choose_how_tables_are_cut(postgres_database: Database) -> None:
    """Whole tables stay whole when the setting changes, and only a setting that insists makes it worth a word."""
    whole = schema_for(postgres_database.owner_url, partitioning="none")
    assert whole.upgrade() == [FRESH[0]]
    assert whole.check() == []
    assert schema_for(postgres_database.owner_url).check() == []
    (first, *_) = schema_for(postgres_database.owner_url, partitioning="native").check()
    assert "is cut as none and the setting says native" in first


def test_a_server_without_the_extension_says_so(postgres_database: Database) -> None:
    """Insisting on TimescaleDB where there is none is refused with a sentence; nothing was made."""
    with pytest.raises(SchemaError, match="does not have TimescaleDB"):
        schema_for(postgres_database.owner_url, partitioning="timescale").upgrade()
    assert _tables(postgres_database) == set()
