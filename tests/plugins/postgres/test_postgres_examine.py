"""What the doctor says of a PostgreSQL store: facts of real servers, and what they mean."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from gateway.backend import OpenContext
from gateway.findings import Finding, Level
from gateway_postgres import diagnosis
from gateway_postgres.diagnosis import judge_login, judge_upkeep
from gateway_postgres.examine import examine
from gateway_postgres.facts import (
    Activity,
    Follower,
    Login,
    PartitionFacts,
    Slot,
    TableFacts,
    Upkeep,
    gather_upkeep,
)
from gateway_postgres.operators import connected
from gateway_postgres.profiles import PoolSize
from tests.plugins.postgres.operating import context_of, fill, rows_of_two
from tests.servers import Database, PgBouncer

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SIZE = PoolSize(5, 10)
LOGIN = Login(
    seconds=0.01, version="18.1", version_num=180001, encoding="UTF8", role="bot", superuser=False, bypasses=False,
    owner=False, groups=frozenset({"app"}), pooled=False, tls=True, local=False, standby=False, skew=0.0,
    timescale=None, unsafe=(), autovacuum=True,
)  # fmt: skip
TABLE = TableFacts("trades", "bots_core.trades_p202611", 2**20, 100_000, 0, 0, NOW, NOW)
UPKEEP = Upkeep(
    connections=10, allowed=97, monitors=True, followers=(), slots=(), transactions=(), frozen=1000, tables=(TABLE,),
    partitions=(PartitionFacts("trades", NOW + timedelta(days=60), 0),),
)  # fmt: skip


def _worst(findings: list[Finding]) -> dict[str, Finding]:
    return {one.subject: one for one in findings if one.level is not Level.OK}


def test_a_login_as_it_should_be_has_nothing_to_say() -> None:
    """Every check is ok, in production too."""
    assert _worst(judge_login("s", LOGIN, SIZE, production=True)) == {}
    assert _worst(judge_upkeep("s", UPKEEP, SIZE, NOW)) == {}


@pytest.mark.parametrize(
    ("change", "subject", "level"),
    [
        ({"superuser": True}, "role", Level.FAIL),
        ({"bypasses": True}, "role", Level.FAIL),
        ({"groups": None}, "role", Level.WARN),
        ({"groups": frozenset({"app", "admin"})}, "role", Level.WARN),
        ({"owner": True}, "owner", Level.WARN),
        ({"seconds": 2.0}, "reachable", Level.WARN),
        ({"version_num": 130009}, "version", Level.FAIL),
        ({"encoding": "LATIN1"}, "encoding", Level.FAIL),
        ({"standby": True}, "standby", Level.FAIL),
        ({"tls": False}, "TLS", Level.WARN),
        ({"unsafe": ("fsync",)}, "durability", Level.FAIL),
        ({"autovacuum": False}, "autovacuum", Level.FAIL),
        ({"skew": -30.0}, "server's clock", Level.WARN),
        ({"limit": 15}, "pool", Level.WARN),
    ],
)
def test_each_fault_of_a_login_is_found(change: dict[str, object], subject: str, level: Level) -> None:
    """With advice, and no other check complains."""
    found = _worst(judge_login("s", replace(LOGIN, **change), SIZE, production=True))  # type: ignore[arg-type]  # fields by name
    assert {one: finding.level for one, finding in found.items()} == {f"s: {subject}": level}
    assert all(one.advice for one in found.values())


def test_a_superuser_is_a_warning_in_development() -> None:
    """And a failure in production only; a connection that stays on one machine needs no TLS."""
    found = _worst(judge_login("s", replace(LOGIN, superuser=True, owner=True), SIZE, production=False))
    assert {one: finding.level for one, finding in found.items()} == {"s: role": Level.WARN}
    assert _worst(judge_login("s", replace(LOGIN, tls=False, local=True), SIZE, production=True)) == {}


OLD = Activity(7, "bot", "app", idle=True, seconds=diagnosis.IDLE_SECONDS + 1)


@pytest.mark.parametrize(
    ("change", "subject", "level"),
    [
        ({"connections": 80}, "connections", Level.WARN),
        ({"frozen": diagnosis.OLD_IDS + 1}, "transaction ids", Level.WARN),
        ({"frozen": diagnosis.WORN_OUT + 1}, "transaction ids", Level.FAIL),
        ({"replay_seconds": diagnosis.LAG_SECONDS + 1}, "replication", Level.WARN),
        ({"followers": (Follower("b", diagnosis.LAG_BYTES + 1, 1.0),)}, "replication", Level.WARN),
        ({"followers": (Follower("b", 0, diagnosis.LAG_SECONDS + 1),)}, "replication", Level.WARN),
        ({"slots": (Slot("old", False, diagnosis.SLOT_BYTES + 1),)}, "replication", Level.WARN),
        ({"transactions": (OLD,)}, "transactions", Level.WARN),
        (
            {"transactions": (replace(OLD, idle=False, seconds=diagnosis.LONG_SECONDS + 1),)},
            "transactions",
            Level.WARN,
        ),
        ({"tables": (replace(TABLE, dead=50_000),)}, "vacuum", Level.WARN),
        ({"tables": (replace(TABLE, analysed=None),)}, "analyse", Level.WARN),
        (
            {"tables": (TABLE, replace(TABLE, name="x.trades", parent=True, analysed=None))},
            "analyse",
            Level.WARN,
        ),
        ({"partitions": (PartitionFacts("trades", NOW, 0),)}, "partitions", Level.FAIL),
        ({"partitions": (PartitionFacts("trades", None, 0),)}, "partitions", Level.FAIL),
        ({"partitions": (PartitionFacts("trades", NOW + timedelta(days=1), 0),)}, "partitions", Level.WARN),
        ({"partitions": (PartitionFacts("trades", NOW + timedelta(days=60), 9),)}, "partitions", Level.WARN),
    ],
)
def test_each_fault_of_a_server_is_found(change: dict[str, object], subject: str, level: Level) -> None:
    """With advice, and no other check complains."""
    found = _worst(judge_upkeep("s", replace(UPKEEP, **change), SIZE, NOW))  # type: ignore[arg-type]  # fields by name
    assert {one: finding.level for one, finding in found.items()} == {f"s: {subject}": level}
    assert all(one.advice for one in found.values())


@pytest.mark.parametrize(
    "change",
    [
        {"transactions": (replace(OLD, seconds=diagnosis.IDLE_SECONDS - 1),)},
        {"transactions": (replace(OLD, idle=False),)},
        {"slots": (Slot("used", True, diagnosis.SLOT_BYTES + 1), Slot("new", False, 0))},
        {"followers": (Follower("b", None, None), Follower("c", 0, None))},
        {"tables": (replace(TABLE, live=500, analysed=None),)},
        {"tables": (replace(TABLE, dead=9_000),)},
        {"tables": (), "partitions": ()},
    ],
)
def test_what_is_usual_is_no_fault(change: dict[str, object]) -> None:
    """A warning that comes every day is one that nobody reads."""
    assert _worst(judge_upkeep("s", replace(UPKEEP, **change), SIZE, NOW)) == {}  # type: ignore[arg-type]  # fields by name


def test_what_a_login_may_not_see_is_said_and_no_fault() -> None:
    """Nothing is claimed about it."""
    found = judge_upkeep("s", Upkeep(), SIZE, NOW)
    assert {one.level for one in found} == {Level.OK}
    assert sum("not to be seen" in one.sentence for one in found) >= 5


def _found(context: OpenContext) -> dict[str, Finding]:
    return {one.subject.removeprefix("store postgres: "): one for one in examine(context)}


def test_a_new_store_is_as_it_should_be(prepared_database: Database) -> None:
    """As the bot and as the operator, nothing needs to be done; that a server for tests is hasty is seen."""
    safe = ("fsync", "full_page_writes", "synchronous_commit")
    hasty = {name for name in safe if prepared_database.execute(f"SHOW {name}") == [("off",)]}
    for admin in (None, prepared_database.admin_url, prepared_database.superuser_url):
        found = _found(context_of(prepared_database.app_url, admin))
        unsafe = found.pop("durability", None)
        assert {name for name in safe if unsafe is not None and name in unsafe.sentence} == hasty
        assert [one for one in found.values() if one.level is not Level.OK] == []
        assert found["role"].sentence == "gw_app is bound by row security; member of: app"
        assert found["version"].sentence.startswith("PostgreSQL 1")
        assert "17 connections" in found["pool"].sentence


@pytest.mark.parametrize(
    ("login", "subject"), [("superuser_url", "role"), ("admin_url", "role"), ("owner_url", "owner")]
)
def test_a_login_that_may_too_much_is_found(prepared_database: Database, login: str, subject: str) -> None:
    """Superuser, member of the admin role, owner of the tables: none is the right login of a bot."""
    found = _found(context_of(getattr(prepared_database, login)))
    assert found[subject].level is Level.WARN
    in_production = replace(context_of(getattr(prepared_database, login)), production=True)
    assert _found(in_production)[subject].level is (Level.FAIL if login == "superuser_url" else Level.WARN)


def test_a_limit_of_connections_counts(prepared_database: Database) -> None:
    """Of the database, as of the login; behind a pooler it is the pooler's business."""
    name = prepared_database.name
    prepared_database.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 12')
    found = _found(context_of(prepared_database.app_url))["pool"]
    assert (found.level, "12" in found.sentence) == (Level.WARN, True)
    smaller = context_of(prepared_database.app_url, pool_size=2, max_overflow=1)
    assert _found(smaller)["pool"].level is Level.OK
    assert _worst(judge_login("s", replace(LOGIN, limit=3, pooled=True), SIZE, production=True)) == {}


def test_a_pooler_is_noticed(prepared_database: Database, pgbouncer: PgBouncer) -> None:
    """And everything else is found through it as well."""
    found = _found(context_of(pgbouncer.url_of(prepared_database.app_url)))
    assert "behind a pooler" in found["pool"].sentence
    assert found["role"].level is Level.OK


def test_a_server_that_cannot_be_reached_is_a_finding() -> None:
    """One, without the password, and no error."""
    found = examine(context_of("postgresql://bot:s3cret@127.0.0.1:1/none"))
    assert [one.level for one in found] == [Level.FAIL]
    assert "s3cret" not in found[0].sentence
    both = examine(context_of("postgresql://bot@127.0.0.1:1/none", "postgresql://op@127.0.0.1:1/none"))
    assert len(both) == 2


def test_a_server_that_hangs_is_asked_once() -> None:
    """Without another login to try there is one finding, and nobody waits for a second timeout."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        found = examine(context_of(f"postgresql://bot@127.0.0.1:{port}/none", connect_timeout=1))
        assert [(one.subject, one.level) for one in found] == [("store postgres: reachable", Level.FAIL)]
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_database_without_a_schema_is_examined_all_the_same(postgres_database: Database) -> None:
    """What is not there is not looked at."""
    found = _found(context_of(postgres_database.app_url))
    assert found["reachable"].level is Level.OK
    assert "not to be seen" in found["partitions"].sentence


@contextmanager
def _idle(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Hold a transaction open and do nothing."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        yield connection
        connection.rollback()


def test_an_idle_transaction_is_seen(prepared_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an operator who may see what others do; a bot's login says that it may not."""
    monkeypatch.setattr(diagnosis, "IDLE_SECONDS", 0.0)
    with _idle(prepared_database.app_url) as held:
        found = _found(context_of(prepared_database.app_url, prepared_database.superuser_url))["transactions"]
        assert found.level is Level.WARN
        assert f"process {held.info.backend_pid} of gw_app" in found.sentence
        assert "idle" in found.sentence
        unseen = _found(context_of(prepared_database.app_url, prepared_database.admin_url))["transactions"]
        assert "pg_monitor" in unseen.sentence


def test_dead_rows_are_seen(prepared_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were removed and not cleaned up, because somebody holds an old transaction open."""
    monkeypatch.setattr("gateway_postgres.vacuum._WORN_ROWS", 100)
    context = context_of(prepared_database.app_url, prepared_database.superuser_url)
    asyncio.run(fill(context, rows_of_two(300)))
    prepared_database.execute("DELETE FROM bots_core.trades", "SELECT pg_stat_force_next_flush()")
    found = _found(context)["vacuum"]
    assert found.level is Level.WARN
    assert "dead rows" in found.sentence


def test_partitions_that_end_and_rows_without_one_are_seen(prepared_database: Database) -> None:
    """A table whose partitions were not made, and what fell into the default one."""
    context = context_of(prepared_database.app_url, prepared_database.superuser_url)
    with connected(context) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM gateway.partition_bounds('bots_core.trades'::regclass)"
            )
        ]
    asyncio.run(fill(context, rows_of_two(3, datetime.now(UTC) - timedelta(days=400))))
    prepared_database.execute(
        *(f"DROP TABLE bots_core.{name}" for name in names), "SELECT pg_stat_force_next_flush()"
    )
    found = [one for one in examine(context) if one.subject.endswith("partitions")]
    assert {one.level for one in found} == {Level.FAIL, Level.WARN}
    assert any("none for the present of trades" in one.sentence for one in found)
    assert any("default partition: trades (about" in one.sentence for one in found)


def test_connections_are_counted_without_any_rights(prepared_database: Database) -> None:
    """A plain login sees how many there are, though not whose."""
    context = context_of(prepared_database.app_url)
    with (
        _idle(prepared_database.superuser_url),
        _idle(prepared_database.superuser_url),
        connected(context) as connection,
    ):
        facts = gather_upkeep(connection, context.kinds)
        assert facts.connections is not None
        assert facts.connections >= 3
        assert facts.allowed is not None
        assert facts.monitors is False
