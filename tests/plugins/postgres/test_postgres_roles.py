"""Roles and row security against SQL typed by hand: what no code of the gateway stands in front of."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import errors, sql

from gateway.errors import ConfigurationError
from gateway.records.builtin import BUILTIN_KINDS
from gateway_postgres.presence import missing_from
from gateway_postgres.roles import roles_sql
from tests.plugins.postgres.schemas import OTHER, TENANT, insert, schema_for
from tests.servers import Database, PostgresServer

ROOT = Path(__file__).resolve().parents[3]
MOMENT = "2026-01-01"
REFUSED = errors.InsufficientPrivilege


@pytest.fixture
def shared(prepared_database: Database) -> Database:
    """A database with a trade and a position of each of two tenants."""
    for tenant in (TENANT, OTHER):
        prepared_database.execute(
            insert("bots_core.trades", tenant, f"of {tenant[-1]}", MOMENT),
            "INSERT INTO bots_core.positions (tenant_id, version, digest, deleted, condition_id) "  # noqa: S608  # ours
            f"VALUES ('{tenant}', 1, 1, false, 'of {tenant[-1]}')",
        )
    return prepared_database


@pytest.fixture
def bot(shared: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the bots' login, which owns nothing."""
    with psycopg.connect(shared.app_url, autocommit=True) as connection:
        yield connection


def _as(connection: psycopg.Connection[tuple[object, ...]], tenant: str) -> None:
    """Name the tenant, for the session: autocommit makes each statement a transaction."""
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", (tenant,))


def _count(connection: psycopg.Connection[tuple[object, ...]], table: str) -> int:
    ((count,),) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()  # noqa: S608  # ours
    assert isinstance(count, int)
    return count


def test_the_file_for_administrators_is_what_the_command_prints() -> None:
    """contrib/sql/roles.sql is the text for the default prefix, and a prefix that is no name is refused."""
    assert (ROOT / "contrib" / "sql" / "roles.sql").read_text(encoding="utf-8") == roles_sql()
    for wrong in ("", 'a"; DROP TABLE x; --', "Gateway", "x" * 41, "pg-1"):
        with pytest.raises(ConfigurationError, match="prefix"):
            roles_sql(wrong)


@pytest.fixture
def prefix(postgres_server: PostgresServer) -> Iterator[str]:
    """A prefix under which there are no roles; those made are dropped, once their databases are."""
    made = f"desk_{secrets.token_hex(4)}"
    yield made
    roles = postgres_server.execute(f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{made}%'")  # noqa: S608  # ours
    for (role,) in roles:
        postgres_server.execute(f'DROP ROLE "{role}"')


@pytest.mark.anyio
async def test_roles_may_come_after_the_tables(postgres_server: PostgresServer, prefix: str) -> None:
    """Without the groups the schema is made all the same; once there are some, `check` names what they lack."""
    with postgres_server.fresh() as database:
        schema = schema_for(database.owner_url, role_prefix=prefix)
        schema.upgrade()
        assert schema.check() == []
        forced = "SELECT bool_and(relrowsecurity AND relforcerowsecurity) FROM pg_class WHERE oid::regclass::text ~ '^bots_core.*s$' AND relkind IN ('r', 'p')"
        assert database.execute(forced) == [(True,)], "rows are protected before anybody may see them"
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            for _ in range(2):  # again changes nothing
                superuser.execute(roles_sql(prefix).encode())
            superuser.execute(f"CREATE ROLE {prefix}_bot LOGIN IN ROLE {prefix}_app PASSWORD 'abc'".encode())
        url = postgres_server.url(database.name, "postgres").rpartition("@")[2]
        bot_url = f"postgresql://{prefix}_bot:abc@{url}"
        connection = await asyncpg.connect(bot_url)
        try:
            assert "app role" in str(await missing_from(connection, BUILTIN_KINDS))
            problems = schema.check()
            assert all(problem.endswith("run `gateway schema upgrade`") for problem in problems)
            text = "\n".join(problems)
            for lacking in (
                f"{prefix}_admin, {prefix}_app, {prefix}_readonly may not look into schema bots_core",
                f"{prefix}_admin, {prefix}_app, {prefix}_readonly lacks rights on bots_core.trades",
                "policy admin_rows of bots_core.trades is missing",
                "policy admin_rows of gateway.moved_rows is missing",
                "who may call function gateway.make_partitions",
            ):
                assert lacking in text
            assert schema.upgrade() != []
            assert schema.check() == []
            assert schema.upgrade() == []
            assert await missing_from(connection, BUILTIN_KINDS) is None
            await connection.execute(f"SET app.tenant_id = '{TENANT}'")
            await connection.execute(insert("bots_core.trades", TENANT, "r", MOMENT))
            assert await connection.fetchval("SELECT count(*) FROM bots_core.trades") == 1
        finally:
            await connection.close()


def test_default_privileges_open_no_door(postgres_database: Database) -> None:
    """What a database gives away by default is taken back: partitions, TRUNCATE, writing for those who look."""
    postgres_database.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE gw_owner GRANT ALL ON TABLES TO gateway_app, gateway_readonly"
    )
    schema = schema_for(postgres_database.owner_url)
    schema.upgrade()
    assert schema.check() == []
    assert schema.upgrade() == []
    bot_rights = postgres_database.execute(
        "SELECT DISTINCT has_table_privilege('gw_app', c.oid, 'SELECT'), has_table_privilege('gw_app', c.oid, 'TRUNCATE')"
        " FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'"
    )
    assert bot_rights == [(False, False)]
    with psycopg.connect(postgres_database.readonly_url, autocommit=True) as reader:
        _as(reader, TENANT)
        with pytest.raises(REFUSED):
            reader.execute(insert("bots_core.trades", TENANT, "r", MOMENT).encode())
    with psycopg.connect(postgres_database.app_url, autocommit=True) as bot:
        for table in ("bots_core.trades", "bots_core.positions", "gateway.moved_rows"):
            with pytest.raises(REFUSED):
                bot.execute(f"TRUNCATE {table}".encode())
        with pytest.raises(REFUSED):
            bot.execute("DELETE FROM gateway.partitioned_tables")


def test_every_table_that_a_bot_may_touch_is_bound(shared: Database) -> None:
    """Each has `tenant_id`, NOT NULL, under forced row security; the rest may be looked at and hold no rows of bots."""
    rows = shared.execute(
        """
        SELECT c.oid::regclass::text, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
                 SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND a.attnotnull
                    AND a.atttypid = 'uuid'::regtype),
               has_table_privilege('gw_app', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|information_schema)'
           AND has_table_privilege('gw_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
        """
    )
    bound = {name for name, is_bound, _ in rows if is_bound}
    own = {"gateway.moved_rows", "gateway.intents"}
    assert bound == {f"{kind.schema}.{kind.name}" for kind in BUILTIN_KINDS} | own
    assert {(name, writes) for name, is_bound, writes in rows if not is_bound} == {
        ("gateway.alembic_version", False),
        ("gateway.gateway_kinds", False),
        ("gateway.partitioned_tables", False),
    }


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_tenant_there_are_no_rows(
    bot: psycopg.Connection[tuple[object, ...]], shared: Database, setting: str | None
) -> None:
    """Where no tenant is named, or the setting is empty as after a transaction, nothing is seen, changed or added."""
    if setting is not None:
        _as(bot, setting)
    for table in ("bots_core.trades", "bots_core.positions", "gateway.moved_rows", "gateway.intents"):
        assert _count(bot, table) == 0
    assert bot.execute("UPDATE bots_core.trades SET deleted = true").rowcount == 0
    assert bot.execute("DELETE FROM bots_core.positions").rowcount == 0
    with pytest.raises(REFUSED, match="row-level security"):
        bot.execute(insert("bots_core.trades", TENANT, "new", MOMENT).encode())
    assert shared.execute("SELECT count(*) FROM bots_core.trades WHERE NOT deleted") == [(2,)]


def test_a_tenant_that_is_none_is_an_error(bot: psycopg.Connection[tuple[object, ...]]) -> None:
    """A setting that is no UUID fails, rather than meaning everybody."""
    _as(bot, "' OR true --")
    with pytest.raises(errors.InvalidTextRepresentation):
        _count(bot, "bots_core.trades")


def test_rows_of_others_cannot_be_written(
    bot: psycopg.Connection[tuple[object, ...]], shared: Database
) -> None:
    """Inserting for another tenant, giving a row away, and taking one over are all refused."""
    _as(bot, TENANT)
    for statement in (
        insert("bots_core.trades", OTHER, "new", MOMENT),
        insert("bots_core.trades", OTHER, "of b", MOMENT) + " ON CONFLICT DO NOTHING",
        insert("bots_core.trades", OTHER, "of b", MOMENT)
        + " ON CONFLICT (tenant_id, timestamp, record_id) DO UPDATE SET deleted = true",
        f"UPDATE bots_core.trades SET tenant_id = '{OTHER}'",  # noqa: S608  # ours, as those below
        f"UPDATE bots_core.positions SET tenant_id = '{OTHER}', condition_id = 'given'",  # noqa: S608
        f"INSERT INTO gateway.moved_rows VALUES ('trades', '{OTHER}', 'r')",  # noqa: S608
        f"INSERT INTO gateway.intents (tenant_id, target, owner, number, part, kind, key, version) VALUES ('{OTHER}', 'm', 'o', 1, 0, 'trades', '[]', 1)",  # noqa: S608
    ):
        with pytest.raises(REFUSED, match="row-level security"):
            bot.execute(statement.encode())
    assert bot.execute(f"DELETE FROM bots_core.trades WHERE tenant_id = '{OTHER}'".encode()).rowcount == 0  # noqa: S608  # ours
    seen = shared.execute("SELECT tenant_id::text, record_id, deleted FROM bots_core.trades ORDER BY 1")
    assert seen == [(TENANT, "of a", False), (OTHER, "of b", False)]


def test_partitions_cannot_be_asked(bot: psycopg.Connection[tuple[object, ...]], shared: Database) -> None:
    """Going past the table to a partition, which has no policy, is refused for every group and shows an owner nothing."""
    _as(bot, TENANT)
    assert _count(bot, "bots_core.trades") == 1
    for statement in (
        "SELECT * FROM bots_core.trades_default",
        insert("bots_core.trades_default", TENANT, "new", MOMENT),
        "DELETE FROM bots_core.trades_default",
        "TRUNCATE bots_core.trades_default",
        "COPY bots_core.trades_default TO STDOUT",
        "CREATE TABLE bots_core.mine PARTITION OF bots_core.trades FOR VALUES FROM ('1990-01-01') TO ('1991-01-01')",
    ):
        with pytest.raises(REFUSED):
            bot.execute(statement.encode())
    for url in (shared.readonly_url, shared.admin_url):
        with psycopg.connect(url) as other, pytest.raises(REFUSED):
            other.execute("SELECT * FROM bots_core.trades_default")
    with psycopg.connect(shared.owner_url, autocommit=True) as owner:
        _as(owner, TENANT)
        assert _count(owner, "bots_core.trades_default") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE bots_core.trades",
        "TRUNCATE bots_core.positions",
        "DROP TABLE bots_core.positions",
        "ALTER TABLE bots_core.positions DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE bots_core.positions NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY open_all ON bots_core.positions USING (true)",
        "DROP POLICY tenant_rows ON bots_core.positions",
        "ALTER TABLE bots_core.positions OWNER TO gw_app",
        "CREATE TABLE bots_core.mine (a int)",
        "CREATE FUNCTION gateway.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE gateway.alembic_version SET version_num = '0'",
        "UPDATE gateway.partitioned_tables SET step = 'day'",
        "INSERT INTO gateway.gateway_kinds VALUES ('x', 'x', 1)",
        "SET ROLE gateway_admin",
        "SET ROLE gw_owner",
        "SET SESSION AUTHORIZATION gw_owner",
        "SELECT gateway.make_partition('bots_core.trades', 'p', '1990-01-01', '1991-01-01', 'timestamp')",
    ],
)
def test_a_bot_changes_nothing_but_rows(bot: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    """Whatever would lift or go round row security, or change the schema, is refused."""
    _as(bot, TENANT)
    with pytest.raises(REFUSED):
        bot.execute(statement.encode())


def test_copy_keeps_to_the_tenant(bot: psycopg.Connection[tuple[object, ...]]) -> None:
    """COPY out shows the tenant's rows alone, COPY in is refused, and leaving policies aside is an error."""
    _as(bot, TENANT)
    for source in ("bots_core.positions (condition_id)", "(SELECT record_id FROM bots_core.trades)"):
        with bot.cursor().copy(f"COPY {source} TO STDOUT".encode()) as copy:
            assert b"".join(bytes(block) for block in copy) == b"of a\n"
    with (
        pytest.raises(errors.FeatureNotSupported, match="row-level security"),
        bot.cursor().copy("COPY bots_core.positions FROM STDIN") as copy,
    ):
        copy.write_row((OTHER, 1, 1, False, "new"))
    bot.execute("SET row_security = off")
    with pytest.raises(REFUSED, match="row-level security"):
        _count(bot, "bots_core.trades")


def test_cheap_functions_and_statistics_tell_nothing(
    bot: psycopg.Connection[tuple[object, ...]], shared: Database
) -> None:
    """A function in a condition is not called for rows of others, and the planner's samples of values are hidden."""
    shared.execute("ANALYZE bots_core.trades", "ANALYZE bots_core.positions")
    _as(bot, TENANT)
    bot.execute(
        "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
        "'BEGIN RAISE NOTICE ''seen %'', $1; RETURN true; END'"
    )
    told: list[str] = []
    bot.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    bot.execute("SELECT * FROM bots_core.trades WHERE pg_temp.leak(record_id)")
    bot.execute("SELECT * FROM bots_core.positions WHERE pg_temp.leak(condition_id)")
    assert told == ["seen of a", "seen of a"]
    query = "SELECT tablename FROM pg_stats WHERE schemaname = 'bots_core'"
    assert bot.execute(query.encode()).fetchall() == []
    assert shared.execute(query) != [], "there are some to be hidden"


def test_groups_see_what_they_are_for(shared: Database) -> None:
    """Whoever looks sees one tenant and writes nothing; the admin group sees and writes all; nobody else gets in."""
    with psycopg.connect(shared.readonly_url, autocommit=True) as reader:
        _as(reader, OTHER)
        assert reader.execute("SELECT record_id FROM bots_core.trades").fetchall() == [("of b",)]
        for statement in (
            insert("bots_core.trades", OTHER, "new", MOMENT),
            "UPDATE bots_core.trades SET deleted = true",
            "DELETE FROM bots_core.trades",
        ):
            with pytest.raises(REFUSED):
                reader.execute(statement.encode())
    with psycopg.connect(shared.admin_url, autocommit=True) as admin:
        assert _count(admin, "bots_core.trades") == 2
        admin.execute(insert("bots_core.trades", OTHER, "new", MOMENT).encode())
        with pytest.raises(REFUSED):
            admin.execute("TRUNCATE bots_core.trades")
    stranger = f"stranger_{secrets.token_hex(4)}"
    with psycopg.connect(shared.superuser_url) as superuser:  # rolled back: the role never is
        superuser.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(stranger)))
        superuser.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(stranger)))
        with pytest.raises(REFUSED):
            superuser.execute("SELECT * FROM bots_core.trades")
        superuser.rollback()
