"""Partitions: made ahead by whoever may, moved out of the default one, dropped when retention is over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from gateway.records import ORDER_BOOK_SNAPSHOTS
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.intervals import Interval, Span, missing, partition_name
from gateway_postgres.examine import examine
from gateway_postgres.partitions import Chore, Connection, Task, apply, plan
from tests.plugins.postgres.operating import context_of
from tests.plugins.postgres.schemas import OTHER, TENANT, insert, schema_for
from tests.servers import Database, PgBouncer, TimescaleServer

NOW = datetime.now(UTC)


@pytest.fixture
def superuser(prepared_database: Database) -> Iterator[Connection]:
    """A connection that sees all rows and owns everything."""
    with psycopg.connect(prepared_database.superuser_url, autocommit=True) as connection:
        yield connection


def _bounds(database: Database, table: str = "bots_core.trades") -> dict[str, Span]:
    rows = database.execute(f"SELECT name, lower_bound, upper_bound FROM gateway.partition_bounds('{table}')")  # noqa: S608  # ours
    return {name: Span(lower, upper) for name, lower, upper in rows}


def _partition_of(database: Database, record_id: str, table: str = "bots_core.trades") -> str:
    ((name,),) = database.execute(
        f"SELECT tableoid::regclass::text FROM {table} WHERE record_id = '{record_id}'"  # noqa: S608  # ours
    )
    return str(name).rpartition(".")[2]


def _back(database: Database, *, days: int) -> None:
    """Take away all partitions of trades that end later than some days from now."""
    edge = NOW + timedelta(days=days)
    for name, span in _bounds(database).items():
        if span.upper > edge:
            database.execute(f"DROP TABLE bots_core.{name}")


def test_partitions_are_made_ahead(prepared_database: Database) -> None:
    """After an upgrade there is the current month and three more, as the pure half says, and no gap."""
    wanted = Interval.MONTH.spans(NOW, 3)
    found = _bounds(prepared_database)
    assert found == {partition_name("trades", span.lower, Interval.MONTH): span for span in wanted}


@pytest.mark.parametrize(
    ("before", "after"), [("month", "week"), ("week", "month"), ("day", "month"), ("month", "day")]
)
def test_the_function_agrees_with_the_pure_half(postgres_database: Database, before: str, after: str) -> None:
    """Where the interval changes, the database cuts and names partitions as `missing` does."""
    first, second = Interval(before), Interval(after)
    schema_for(postgres_database.owner_url, partition_interval=before, partitions_ahead=2).upgrade()
    there = _bounds(postgres_database)
    assert set(there.values()) == set(first.spans(NOW, 2))
    schema = schema_for(postgres_database.owner_url, partition_interval=after, partitions_ahead=8)
    done = schema.upgrade()
    assert f"set partitions of bots_core.trades to one a {after}, 8 ahead" in done
    made = {name: span for name, span in _bounds(postgres_database).items() if name not in there}
    expected = missing(there.values(), second.spans(NOW, 8))
    assert made == {partition_name("trades", span.lower, second): span for span in expected}
    assert schema.check() == []


def test_a_bot_makes_partitions(prepared_database: Database, pgbouncer: PgBouncer) -> None:
    """The app's login, which may not change the schema, makes what is due, also behind a pooler; then nothing is."""
    _back(prepared_database, days=0)
    with psycopg.connect(pgbouncer.url_of(prepared_database.app_url), prepare_threshold=None) as bot:
        rows = bot.execute("SELECT name, outcome FROM gateway.make_partitions()").fetchall()
    assert [outcome for _, outcome in rows] == ["made"] * 4
    with psycopg.connect(prepared_database.app_url) as bot:
        assert bot.execute("SELECT name FROM gateway.make_partitions()").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bot.execute("SELECT gateway.make_partition('bots_core.trades', 'x', now(), now(), NULL)")
    assert schema_for(prepared_database.owner_url).check() == []


def test_the_function_cannot_be_bent(prepared_database: Database) -> None:
    """Its names are looked up in the database's own schemas alone."""
    prepared_database.execute("CREATE SCHEMA evil AUTHORIZATION gw_app")
    _back(prepared_database, days=0)
    with psycopg.connect(prepared_database.app_url, autocommit=True) as bot:
        bot.execute(
            "CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT ''DROP TABLE bots_core.trades'''"
        )
        bot.execute("SET search_path = evil, pg_catalog")
        assert len(bot.execute("SELECT * FROM gateway.make_partitions()").fetchall()) == 4
    assert len(_bounds(prepared_database)) == 4


def test_two_bots_make_partitions_at_once(prepared_database: Database) -> None:
    """The second leaves it to the first, who has not committed yet; neither waits, neither fails."""
    _back(prepared_database, days=0)
    with psycopg.connect(prepared_database.app_url) as one, psycopg.connect(prepared_database.app_url) as two:
        assert len(one.execute("SELECT * FROM gateway.make_partitions()").fetchall()) == 4
        assert two.execute("SELECT * FROM gateway.make_partitions()").fetchall() == []
        one.commit()
        two.commit()
        assert two.execute("SELECT * FROM gateway.make_partitions()").fetchall() == []
    assert len(_bounds(prepared_database)) == 4


def test_many_bots_make_partitions_while_others_write(prepared_database: Database) -> None:
    """Bots that write and bots that make partitions do not stop each other, and no row is lost."""
    _back(prepared_database, days=0)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with psycopg.connect(prepared_database.app_url) as bot:
                for count in range(20):
                    moment = (NOW + timedelta(days=count * 5)).isoformat()
                    bot.execute("SELECT set_config('app.tenant_id', %s, true)", (TENANT,))
                    bot.execute(insert("bots_core.trades", TENANT, f"{number}-{count}", moment).encode())
                    bot.commit()
                    if count % 5 == number:
                        bot.execute("SELECT gateway.make_partitions()")
                        bot.commit()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert prepared_database.execute("SELECT count(*) FROM bots_core.trades") == [(80,)]


def test_a_busy_table_is_left_for_the_next_time(prepared_database: Database) -> None:
    """Making partitions gives way: who holds the default partition finishes, and the outcome says so."""
    _back(prepared_database, days=0)
    with (
        psycopg.connect(prepared_database.app_url) as reader,
        psycopg.connect(prepared_database.app_url) as bot,
    ):
        reader.execute("SELECT count(*) FROM bots_core.trades")
        rows = bot.execute("SELECT name, outcome FROM gateway.make_partitions()").fetchall()
    assert len(rows) == 1, "one that is busy is not asked for again and again, while others are kept waiting"
    assert "busy" in rows[0][1]


def test_rows_of_other_times_are_taken(prepared_database: Database, superuser: Connection) -> None:
    """A row for which there is no partition is not refused; upkeep moves it into one of its own, for every tenant."""
    for tenant, name, moment in (
        (TENANT, "a", "2024-02-03"),
        (OTHER, "b", "2024-02-29 23:59:59.999999+00"),
        (OTHER, "c", "2031-01-01"),
    ):
        prepared_database.execute(insert("bots_core.trades", tenant, name, moment))
    assert _partition_of(prepared_database, "a") == "trades_default"
    chores = plan(superuser, BUILTIN_KINDS)
    assert [str(chore) for chore in chores] == [
        "move 2 rows of bots_core.trades out of the default partition into trades_p202402",
        "move 1 rows of bots_core.trades out of the default partition into trades_p203101",
    ]
    assert _partition_of(prepared_database, "a") == "trades_default", "planning changes nothing"
    done = [line for chore in chores for line in apply(superuser, chore)]
    assert done[0] == "moved 2 rows of bots_core.trades out of the default partition into trades_p202402"
    assert [_partition_of(prepared_database, name) for name in "abc"] == ["trades_p202402"] * 2 + [
        "trades_p203101"
    ]
    assert plan(superuser, BUILTIN_KINDS) == []
    assert schema_for(prepared_database.owner_url).check() == [], (
        "the new partitions are protected, the default one again"
    )


def test_rows_in_the_way_of_a_partition_are_moved(prepared_database: Database, superuser: Connection) -> None:
    """A bot that wrote before partitions were made does not lock out the making for good: upkeep clears the way."""
    _back(prepared_database, days=0)
    prepared_database.execute(insert("bots_core.trades", TENANT, "a", NOW.isoformat()))
    rows = prepared_database.execute("SELECT name, outcome FROM gateway.make_partitions()")
    assert sorted("default partition" in outcome for _, outcome in rows) == [False, False, False, True]
    for chore in plan(superuser, BUILTIN_KINDS):
        apply(superuser, chore)
    assert _partition_of(prepared_database, "a") == partition_name(
        "trades", Interval.MONTH.floor(NOW), Interval.MONTH
    )
    assert len(_bounds(prepared_database)) == 4


def test_partitions_belong_to_the_owner_of_their_table(
    prepared_database: Database, superuser: Connection
) -> None:
    """What a superuser's upkeep makes, the owner can drop one day."""
    prepared_database.execute(insert("bots_core.trades", TENANT, "a", "2024-02-03"))
    (chore,) = plan(superuser, BUILTIN_KINDS)
    apply(superuser, chore)
    owners = prepared_database.execute(
        "SELECT DISTINCT tableowner::text FROM pg_tables WHERE tablename LIKE 'trades%'"
    )
    assert owners == [("gw_owner",)]
    with psycopg.connect(prepared_database.owner_url) as owner:
        owner.execute("DROP TABLE bots_core.trades_p202402")


def test_who_only_looks_makes_no_partitions(prepared_database: Database) -> None:
    """The group that reads may not have the database changed for it."""
    with (
        psycopg.connect(prepared_database.readonly_url) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("SELECT * FROM gateway.make_partitions()")


def test_an_owner_who_does_not_see_all_rows_is_told(prepared_database: Database) -> None:
    """Row security binds the owner: without the admin role it cannot count, and says so rather than nothing."""
    prepared_database.execute(insert("bots_core.trades", TENANT, "a", "2024-02-03"))
    with psycopg.connect(prepared_database.owner_url, autocommit=True) as owner:
        (chore,) = plan(owner, BUILTIN_KINDS)
        assert chore.task is Task.HIDDEN
        assert "admin role" in apply(owner, chore)[0]


def test_whole_partitions_are_dropped_after_retention(
    prepared_database: Database, superuser: Connection
) -> None:
    """What is older than the retention of its kind goes as whole partitions; what is not, and kinds without, stay."""
    retention = ORDER_BOOK_SNAPSHOTS.retention
    assert retention is not None
    old, kept = NOW - timedelta(days=70), NOW - timedelta(days=1)
    for table in ("bots_core.order_book_snapshots", "bots_core.trades"):
        for name, moment in (("old", old), ("kept", kept)):
            prepared_database.execute(insert(table, OTHER, name, moment.isoformat()))
    span = Interval.MONTH.span(old)
    name = partition_name("order_book_snapshots", span.lower, Interval.MONTH)
    prepared_database.execute(
        "ALTER TABLE bots_core.order_book_snapshots_default NO FORCE ROW LEVEL SECURITY",
        f"SELECT gateway.make_partition('bots_core.order_book_snapshots', '{name}', '{span.lower}', '{span.upper}', 'timestamp')",
        "ALTER TABLE bots_core.order_book_snapshots_default FORCE ROW LEVEL SECURITY",
    )
    drops = [chore for chore in plan(superuser, BUILTIN_KINDS) if chore.task is Task.DROP]
    assert drops == [Chore(Task.DROP, "bots_core.order_book_snapshots", name, span, 1)]
    assert f"drop {name} of bots_core.order_book_snapshots with 1 rows, all before" in str(drops[0])
    assert apply(superuser, drops[0]) == [f"dropped partition bots_core.{name}"]
    left = "SELECT record_id FROM bots_core.{} ORDER BY 1"
    assert prepared_database.execute(left.format("order_book_snapshots")) == [("kept",)]
    assert prepared_database.execute(left.format("trades")) == [("kept",), ("old",)]


def test_a_partition_in_use_is_not_waited_for_long(
    prepared_database: Database, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot get its lock fails, changes nothing, and is due again."""
    monkeypatch.setattr("gateway_postgres.partitions._LOCK_TIMEOUT", "SET LOCAL lock_timeout = '100ms'")
    prepared_database.execute(insert("bots_core.trades", TENANT, "a", "2024-02-03"))
    (chore,) = plan(superuser, BUILTIN_KINDS)
    with psycopg.connect(prepared_database.app_url) as reader:
        reader.execute("SELECT count(*) FROM bots_core.trades")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            apply(superuser, chore)
    assert schema_for(prepared_database.owner_url).check() == []
    assert plan(superuser, BUILTIN_KINDS) == [chore]


def test_hypertables(timescale: TimescaleServer) -> None:
    """With TimescaleDB installed the same tables are hypertables: same tenancy, also of chunks; old chunks drop."""
    database = timescale.database()
    try:
        schema = schema_for(database.owner_url)
        schema.upgrade()
        assert schema.check() == []
        assert schema.upgrade() == []
        assert database.execute("SELECT count(*) FROM timescaledb_information.hypertables") == [(9,)]
        with psycopg.connect(database.app_url) as bot:
            bot.execute("SELECT set_config('app.tenant_id', %s, false)", (TENANT,))
            for name, moment in (("old", NOW - timedelta(days=70)), ("new", NOW)):
                bot.execute(
                    insert("bots_core.order_book_snapshots", TENANT, name, moment.isoformat()).encode()
                )
            bot.commit()
            bot.execute("SELECT set_config('app.tenant_id', %s, false)", (OTHER,))
            assert bot.execute("SELECT count(*) FROM bots_core.order_book_snapshots").fetchone() == (0,)
            chunks = database.execute(
                "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
            )
            bot.commit()
            for (chunk,) in chunks:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    bot.execute(f"SELECT * FROM {chunk}".encode())  # noqa: S608  # the server named it
                bot.rollback()
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            (chore,) = plan(superuser, BUILTIN_KINDS)
            assert (chore.task, chore.table, chore.rows) == (Task.DROP, "bots_core.order_book_snapshots", 1)
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            owner.execute("SET search_path = bots_core")
            assert apply(owner, chore) == ["dropped 1 chunks of bots_core.order_book_snapshots"]
        assert database.execute("SELECT record_id FROM bots_core.order_book_snapshots") == [("new",)]
    finally:
        database.drop()


def test_chunks_stay_closed(timescale: TimescaleServer) -> None:
    """Whoever opens the schema of the chunks opens every tenant's rows; `check` says so, and `upgrade` closes it."""
    database = timescale.database()
    try:
        schema = schema_for(database.owner_url)
        schema.upgrade()
        database.execute("GRANT USAGE ON SCHEMA gateway_chunks TO gateway_app, PUBLIC")
        assert schema.check() == [
            "PUBLIC, gateway_app may look into schema gateway_chunks, past the policies of the tables: "
            "run `gateway schema upgrade`"
        ]
        assert schema.upgrade() == ["took the rights on schema gateway_chunks from PUBLIC, gateway_app"]
        assert schema.check() == []
    finally:
        database.drop()


def test_the_licence_of_the_extension_is_said(timescale: TimescaleServer) -> None:
    """`gateway doctor` names version and licence, and what the Apache edition leaves out."""
    database = timescale.database()
    try:
        schema_for(database.owner_url).upgrade()
        said = next(
            one.sentence
            for one in examine(context_of(database.app_url))
            if one.subject.endswith("extensions")
        )
        licence = database.execute("SHOW timescaledb.license")[0][0]
        assert f"licence {licence}" in said
        assert ("without compression" in said) == (licence == "apache")
    finally:
        database.drop()


def test_the_extension_is_created_only_on_demand(timescale: TimescaleServer) -> None:
    """Where the extension could be installed and is not, `auto` leaves it at that and `timescale` installs it."""
    for wanted, style in (("auto", "native"), ("timescale", "timescale")):
        database = timescale.database(extension=False)
        try:
            schema_for(database.owner_url, partitioning=wanted).upgrade()
            assert database.execute("SELECT DISTINCT style FROM gateway.partitioned_tables") == [(style,)]
        finally:
            database.drop()


def test_the_script_for_hypertables_is_complete(timescale: TimescaleServer) -> None:
    """The printed SQL makes hypertables too, where the setting asks for them."""
    database = timescale.database(extension=False)
    try:
        schema = schema_for(database.owner_url, partitioning="timescale")
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            owner.execute(schema.sql().encode())
        assert schema.check() == []
        assert schema.upgrade() == []
    finally:
        database.drop()
