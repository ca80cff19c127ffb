"""Tables from kinds on a real server: made once, extended, never bent; and what is removed by age."""

# ruff: noqa: S608 - the statements are this test's own

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gateway.backend import WriteBatch
from gateway.errors import GatewayError, SchemaError, SchemaTooNewError, StoreReadOnlyError
from gateway.query import Query
from gateway.records import TICK_PRICES
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec, LogRecord
from gateway.records.stamp import Stamper
from gateway.records.types import Levels, Money, Number, Text, Time
from gateway.records.version import RecordIds
from gateway_questdb.examine import examine, judge_partitions, judge_states, judge_version
from gateway_questdb.layout import Form, layout_of
from gateway_questdb.maintain import Partition, expired, maintain
from gateway_questdb.opening import open_backend
from gateway_questdb.schema import schema_of
from gateway_questdb.waiting import TableState
from tests.plugins.questdb.conftest import MakeContext
from tests.servers import QuestDbServer


class Note(LogRecord):
    """A log with one text."""

    moment: Time
    text: Text = ""


class LongerNote(Note):
    """The same with more."""

    amount: Money | None = None
    book: Levels | None = None


class OtherNote(LogRecord):
    """The same name with another type."""

    moment: Time
    text: Number = 0.0


NOTES = KindSpec("notes", Note, time_field="moment", retention=timedelta(days=7))
LONGER = replace(NOTES, model=LongerNote)
OTHER = replace(NOTES, model=OtherNote)


@pytest.fixture
def prefix() -> str:
    """What the tables of one test begin with."""
    return f"t{uuid.uuid4().hex[:10]}_"


def test_an_upgrade_makes_all_tables_and_another_does_nothing(make_context: MakeContext, prefix: str) -> None:
    """The first upgrade makes a table a kind, the second has nothing to do, and check finds nothing wrong."""
    schema = schema_of(make_context(table_prefix=prefix))
    assert schema.current() is None
    assert schema.check() == ["there is no schema; run `gateway schema upgrade`"]
    assert len(schema.upgrade()) == len(BUILTIN_KINDS)
    assert schema.current() == schema.head()
    assert schema.upgrade() == []
    assert schema.check() == []


def test_upgrades_at_once_end_in_one_schema(make_context: MakeContext, prefix: str) -> None:
    """Two processes that upgrade at the same time both succeed, and the schema is whole."""
    errors: list[GatewayError] = []

    def upgrade() -> None:
        try:
            schema_of(make_context(table_prefix=prefix)).upgrade()
        except GatewayError as error:
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert schema_of(make_context(table_prefix=prefix)).check() == []


@pytest.mark.anyio
async def test_a_kind_with_more_fields_gets_more_columns(make_context: MakeContext, prefix: str) -> None:
    """New fields become columns, the array of order book levels among them, and what was stored stays intact."""
    stamper = Stamper(str(uuid.uuid4()))
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    old = await open_backend(make_context(table_prefix=prefix, kinds=(NOTES,)))
    row = stamper.stamp(NOTES, Note(moment=moment, text="before"))
    await old.gateway_write(WriteBatch([row]))
    context = make_context(table_prefix=prefix, kinds=(LONGER,))
    assert schema_of(context).check() != []
    done = schema_of(context).upgrade()
    assert done == [
        f'added "amount" DECIMAL(60,30) to {prefix}notes',
        f'added "book" VARCHAR to {prefix}notes',
        f'added "book__levels" DOUBLE[][] to {prefix}notes',
    ]
    new = await open_backend(context)
    later = stamper.stamp(
        LONGER, LongerNote(moment=moment, amount=Decimal("1.10"), book=((1.5, 2.0), (1.0, 3.0)))
    )
    await new.gateway_write(WriteBatch([later]))
    found = list(await new.gateway_query(Query(LONGER, stamper.tenant)))
    assert [one.values[:3] for one in found] == [row.values[:3], later.values[:3]]
    assert found[1] == later
    assert all(one.intact for one in found)
    again = stamper.stamp(NOTES, Note(moment=moment, text="the older process goes on"))
    await old.gateway_write(WriteBatch([again]))
    assert len(await old.gateway_query(Query(NOTES, stamper.tenant))) == 3
    await old.gateway_close()
    await new.gateway_close()


@pytest.mark.anyio
async def test_order_books_can_be_asked_for_in_the_database(
    make_context: MakeContext, questdb: QuestDbServer, prefix: str
) -> None:
    """The levels of a book are an array of the database, so that its depth can be summed there."""
    stamper = Stamper(str(uuid.uuid4()))
    store = await open_backend(make_context(table_prefix=prefix, kinds=(LONGER,)))
    book = LongerNote(moment=datetime(2026, 11, 1, tzinfo=UTC), book=((1.5, 2.0), (1.0, 3.0)))
    await store.gateway_write(WriteBatch([stamper.stamp(LONGER, book)]))
    await store.gateway_query(Query(LONGER, stamper.tenant))
    assert questdb.query(f"SELECT book__levels[1][1], book__levels[2][2] FROM {prefix}notes") == [[1.5, 3.0]]
    await store.gateway_close()


def test_what_cannot_be_changed_is_refused(make_context: MakeContext, prefix: str) -> None:
    """A field of another type is no upgrade: the error names the column and nothing is changed."""
    schema_of(make_context(table_prefix=prefix, kinds=(NOTES,))).upgrade()
    schema = schema_of(make_context(table_prefix=prefix, kinds=(OTHER,)))
    with pytest.raises(SchemaError, match=r"text of .* is VARCHAR and should be DOUBLE"):
        schema.upgrade()
    assert schema_of(make_context(table_prefix=prefix, kinds=(NOTES,))).check() == []


@pytest.mark.anyio
async def test_a_newer_schema_is_refused(
    make_context: MakeContext, questdb: QuestDbServer, prefix: str
) -> None:
    """A schema that a newer gateway wrote down is neither opened nor upgraded."""
    context = make_context(table_prefix=prefix, kinds=(NOTES,))
    schema_of(context).upgrade()
    questdb.query(f"INSERT INTO {prefix}gateway_kinds VALUES (now(), 'notes', 'x', '0002')")
    with pytest.raises(SchemaTooNewError, match="0002"):
        schema_of(context).upgrade()
    with pytest.raises(SchemaTooNewError, match="0002"):
        await open_backend(context)


@pytest.mark.anyio
async def test_a_schema_is_not_made_where_that_is_not_wanted(make_context: MakeContext, prefix: str) -> None:
    """Without `auto_schema`, and when looking only, a missing schema is refused and nothing is made."""
    for chosen in ({"auto_schema": False}, {"read_only": True}):
        context = make_context(table_prefix=prefix, kinds=(NOTES,), **chosen)
        with pytest.raises(SchemaError, match="gateway schema upgrade"):
            await open_backend(context)
        assert schema_of(context).current() is None


def test_rows_keep_a_schema_from_being_dropped(
    make_context: MakeContext, questdb: QuestDbServer, prefix: str
) -> None:
    """Going back to nothing is refused while there are rows, unless it is forced."""
    schema = schema_of(make_context(table_prefix=prefix, kinds=(NOTES,)))
    schema.upgrade()
    with pytest.raises(SchemaError, match="only revision below"):
        schema.downgrade("0000")
    questdb.query(f"INSERT INTO {prefix}notes(moment, record_id) VALUES (now(), 'x')")
    questdb.query(f"SELECT wait_wal_table('{prefix}notes')")
    with pytest.raises(SchemaError, match="hold rows"):
        schema.downgrade("base")
    assert schema.downgrade("base", force=True) == [f"dropped the table {prefix}notes"]
    assert schema.current() is None


def test_the_statements_can_be_reviewed(
    make_context: MakeContext, questdb: QuestDbServer, prefix: str
) -> None:
    """What `sql` shows makes, run by hand, the very tables; from the head on there is nothing to do."""
    schema = schema_of(make_context(table_prefix=prefix, kinds=(NOTES,)))
    for statement in schema.sql().split(";\n"):
        if statement:
            questdb.query(statement)
    schema.upgrade()
    assert schema.check() == []
    assert schema.sql(schema.head()) == ""


@pytest.mark.anyio
async def test_old_partitions_go_and_what_stays_is_said(make_context: MakeContext, prefix: str) -> None:
    """Maintenance drops the days past retention, keeps the others, and only says it when asked to only say it."""
    context = make_context(table_prefix=prefix, kinds=(NOTES,))
    stamper = Stamper(str(uuid.uuid4()))
    store = await open_backend(context)
    today = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    rows = [stamper.stamp(NOTES, Note(moment=today - timedelta(days=age))) for age in (30, 20, 3, 0)]
    await store.gateway_write(WriteBatch(rows))
    said = maintain(context, dry_run=True)
    assert [text[:24] for text in said] == ["would drop 2 partitions "]
    listing = Query(NOTES, stamper.tenant)
    assert list(await store.gateway_query(listing)) == rows
    with pytest.raises(StoreReadOnlyError):
        maintain(replace(context, read_only=True), dry_run=False)
    assert "dropped 2 partitions" in maintain(context, dry_run=False)[0]
    assert list(await store.gateway_query(listing)) == rows[2:]
    assert maintain(context, dry_run=False) == []
    await store.gateway_close()


@pytest.mark.anyio
async def test_a_partition_with_half_of_a_moved_row_stays(make_context: MakeContext, prefix: str) -> None:
    """Where dropping old days would bring back a row's older version, nothing is dropped, and that is said."""
    context = make_context(table_prefix=prefix, kinds=(NOTES,))
    stamper = Stamper(str(uuid.uuid4()))
    store = await open_backend(context)
    now = datetime.now(UTC)
    record_id = RecordIds().next(stamper.clock.next())
    for age in (0, 30):
        row = stamper.stamp(NOTES, Note(record_id=record_id, moment=now - timedelta(days=age)))
        await store.gateway_write(WriteBatch([row]))
    await store.gateway_query(Query(NOTES, stamper.tenant))
    (said,) = maintain(context, dry_run=False)
    assert "bring back the older" in said
    assert list(await store.gateway_query(Query(NOTES, stamper.tenant))) == [row]
    await store.gateway_close()


def test_only_whole_partitions_expire() -> None:
    """A partition goes once its last row is too old; one that reaches across the moment is named."""
    days = [Partition(f"2026-11-0{at + 1}", at * 10, at * 10 + 9, 1) for at in range(3)]
    assert expired(days, 10) == (days[:1], [])
    assert expired(days, 15) == (days[:1], [days[1]])
    assert expired(days, 0) == ([], [])


def test_doctor_finds_a_sound_store_sound(make_context: MakeContext, prefix: str) -> None:
    """Of a fresh schema nothing is wrong; of a missing one that is what is said."""
    context = make_context(table_prefix=prefix, kinds=(NOTES, TICK_PRICES))
    assert [one.level.value for one in examine(context)] == ["ok", "fail"]
    schema_of(context).upgrade()
    assert {one.level.value for one in examine(context)} == {"ok"}


def test_doctor_judges() -> None:
    """Old servers, suspended tables, tables that are far behind and too many partitions are each said with a way out."""
    assert [one.level.value for one in judge_version("s", "9.3.4")] == ["ok"]
    assert [one.level.value for one in judge_version("s", "8.2.0")] == ["fail"]
    assert [one.level.value for one in judge_version("s", "")] == ["warn"]
    states = {
        "a": TableState(True, 5, 9, "DISK FULL"),
        "b": TableState(False, 5, 5000),
        "c": TableState(False, 5, 5),
    }
    red, late = judge_states("s", states)
    assert "DISK FULL" in red.sentence
    assert 'ALTER TABLE "a" RESUME WAL' in red.advice
    assert "4995" in late.sentence
    assert [one.level.value for one in judge_states("s", {"c": states["c"]})] == ["ok"]
    many, total = judge_partitions("s", {"t": (6000, 2**30)})
    assert (many.level.value, total.sentence) == ("warn", "1,024 MiB in 6000 partitions")


def test_the_layout_of_kinds() -> None:
    """Logs lie by their time and states by when they were written; what is looked for by few values is a symbol."""
    layouts = {kind.name: layout_of(kind) for kind in BUILTIN_KINDS}
    ticks, candles, positions = (layouts[name] for name in ("tick_prices", "candles", "positions"))
    assert (ticks.designated, candles.designated, positions.designated) == (
        "timestamp",
        "timestamp",
        "row__at",
    )
    assert ticks.form("symbol") is Form.SYMBOL
    assert candles.form("interval") is Form.SYMBOL
    assert positions.form("condition_id") is Form.VARCHAR, (
        "a key of its own is no symbol: there is one for each row"
    )
    assert ticks.upsert_keys == ("timestamp", "tenant_id", "record_id", "version", "digest")
    assert layouts["order_book_snapshots"].levels == {"bids", "asks"}
    assert not ticks.levels
