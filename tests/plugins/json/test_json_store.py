from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import Group, KeyRef, OpenContext, Summarize, Update, WriteBatch
from gateway.errors import StoreCorruptError, StoreReadOnlyError, StoreUnavailableError, WriteRejectedError
from gateway.query import Condition, Op, Query, ReadRange, select
from gateway.records import DAILY_STATS, POSITIONS, TRADES, DailyStats, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import to_micros
from gateway.records.stamp import Stamper, row_of
from gateway_json.backend import open_json
from gateway_json.settings import JsonSettings, directory_of
from gateway_json.store import JsonStore

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
Open = Callable[..., JsonStore]
Make = Callable[..., Row]
TOTAL = DAILY_STATS.index("total_trades")
TIME = TRADES.index("timestamp")


def _moved(row: Row, by: timedelta, version: int) -> Row:
    """Return a later version of a log row with another time."""
    values = list(row.values)
    values[TIME] = to_micros(NOON + by)
    return row_of(row.kind, row.tenant, version, values)


def _trades(store: JsonStore, tenant: str) -> list[Row]:
    return store.query(Query(TRADES, tenant, limit=10_000, include_deleted=True))


def test_the_directory_is_for_people(root: Path, open_store: Open, trade: Make, position: Make) -> None:
    """Files lie where a person looks for them: by kind, by key, by day, other tenants apart."""
    store = open_store()
    other = Stamper("Ünï/7").tombstone(POSITIONS, ("0xabc",))
    store.write(WriteBatch([trade(), trade(NOON + timedelta(days=1)), position(), other]))
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.json*"))
    assert files == [
        "positions/0xabc.json",
        "tenant=%c3%9cn%c3%af%2f7/positions/0xabc.json",
        "trades/2026-03-12.jsonl",
        "trades/2026-03-13.jsonl",
    ]
    assert store.get(POSITIONS, "Ünï/7", [("0xabc",)]) == [other]


@pytest.mark.parametrize("seed", range(6))
def test_moved_log_rows_converge(root: Path, open_store: Open, trade: Make, seed: int) -> None:
    """Versions of one row with times on different days end as the newest, in any order, for every read."""
    rng = random.Random(seed)
    first = trade()
    days = [0, 3, -2, 3, 0, 1]
    versions = [_moved(first, timedelta(days=day), first.version + n) for n, day in enumerate(days)]
    others = [trade(NOON + timedelta(days=day)) for day in (0, 1, 3)]
    writes = [*versions, *others, *versions]
    rng.shuffle(writes)
    store = open_store()
    for start in range(0, len(writes), 3):
        store.write(WriteBatch(writes[start : start + 3]))
    expected = select(Query(TRADES, first.tenant), [versions[-1], *others])
    for reopened in (False, True):
        if reopened:
            store.close()
            (root / ".index.sqlite").unlink()
            store = open_store()
        assert _trades(store, first.tenant) == expected
        assert open_store(read_only=True).get(TRADES, first.tenant, [first.key]) == [versions[-1]]
        assert store.get(TRADES, first.tenant, [first.key]) == [versions[-1]]
        assert (
            store.digest(ReadRange(TRADES, first.tenant)).total == sum(row.digest for row in expected) % 2**64
        )
        assert store.summarize(Summarize(TRADES, first.tenant))[0].rows == len(expected)
        assert store.write(WriteBatch([versions[0]])).superseded == {0: versions[-1].version}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pages_are_what_select_says(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any page of a log over several days, with ties in time, equals the reference semantics."""
    stamper, tick = Stamper(), timedelta(hours=9)
    times = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=12))
    ids = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=len(times), max_size=len(times)))
    base = {"market_name": "B", "action": "buy", "side": "Y", "price": "1", "amount": "1"}
    rows = [
        stamper.stamp(
            TRADES, TRADES.model.model_validate({"timestamp": NOON + tick * t, "record_id": i} | base)
        )
        for t, i in zip(times, ids, strict=True)
    ]
    newest = {row.key: row for row in rows}
    anchor = data.draw(st.sampled_from([None, *(row.position for row in rows)]))
    low, high = data.draw(st.integers(0, 8)), data.draw(st.integers(0, 8))
    where = (
        Condition("timestamp", Op.GE, to_micros(NOON + tick * low)),
        Condition("timestamp", Op.LT, to_micros(NOON + tick * high)),
    )
    query = Query(
        TRADES,
        stamper.tenant,
        where=data.draw(st.sampled_from([(), where, where[:1]])),
        descending=data.draw(st.booleans()),
        limit=data.draw(st.integers(1, 5)),
        after=anchor,
    )
    store = JsonStore(tmp_path_factory.mktemp("p") / "json", BUILTIN_KINDS, fsync=False)
    try:
        for row in rows:
            store.write(WriteBatch([row]))
        assert store.query(query) == select(query, newest.values())
        span = ReadRange(TRADES, stamper.tenant, after=anchor, upto=rows[0].position)
        inside = [
            r
            for r in newest.values()
            if (not anchor or r.position > anchor) and r.position <= rows[0].position
        ]
        found = store.digest(span)
        assert (found.rows, found.total) == (len(inside), sum(r.digest for r in inside) % 2**64)
    finally:
        store.close()


def test_an_edited_file_is_served_and_reported(root: Path, open_store: Open, position: Make) -> None:
    """A person's edit takes effect at once and is named by health; the next write makes it whole."""
    store = open_store()
    row = position(amount="5")
    store.write(WriteBatch([row]))
    path = root / "positions" / "0xabc.json"
    path.write_text(path.read_text().replace('"amount": "5"', '"amount": "6.50"'))
    (edited,) = store.get(POSITIONS, row.tenant, [row.key])
    assert edited is not None
    assert (edited.values[POSITIONS.index("amount")], edited.stamp, edited.intact) == (
        "6.5",
        row.stamp,
        False,
    )
    assert store.health().details["edited"] == [str(path)]
    assert "edited" in store.health().summary
    after = position(amount="7")
    store.write(WriteBatch([after]))
    assert store.get(POSITIONS, row.tenant, [row.key]) == [after]


def test_a_log_edited_while_it_is_open_is_read_again(root: Path, open_store: Open, trade: Make) -> None:
    """A line that a person removed is gone for reads, and writing the row again stores it again."""
    store = open_store()
    rows = [trade(), trade(), trade()]
    store.write(WriteBatch(rows))
    path = root / "trades" / "2026-03-12.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\n" + lines[2])
    assert store.get(TRADES, rows[0].tenant, [row.key for row in rows]) == [rows[0], None, rows[2]]
    assert _trades(store, rows[0].tenant) == [rows[0], rows[2]]
    store.write(WriteBatch([rows[1]]))
    assert _trades(store, rows[0].tenant) == rows


def test_a_misplaced_copy_is_named(root: Path, open_store: Open, position: Make) -> None:
    """A copy of a file under another name is not silently a second row."""
    store = open_store()
    row = position()
    store.write(WriteBatch([row]))
    shutil.copy(root / "positions" / "0xabc.json", root / "positions" / "copy.json")
    with pytest.raises(StoreCorruptError, match=r"copy\.json.*belongs in another file"):
        store.query(Query(POSITIONS, row.tenant))
    with pytest.raises(StoreCorruptError, match=r"copy\.json"):
        store.get(POSITIONS, row.tenant, [("copy",)])


def test_long_and_unsafe_keys_are_listed_in_order(open_store: Open, position: Make) -> None:
    """Keys that are no file names are stored, found and listed in the order of their text."""
    keys = [
        "../up",
        "a" * 900,
        "A" * 900,
        "a" * 899 + "b",
        "БТЦ",
        "con",
        "CON",
        "x y",
        "btc",
        "BTC",
        "a/b/c",
        "…",
    ]
    rows = [position(key) for key in keys]
    store = open_store()
    store.write(WriteBatch(rows))
    ordered = sorted(rows, key=lambda row: row.key)
    assert store.query(Query(POSITIONS, rows[0].tenant)) == ordered
    assert (
        store.query(Query(POSITIONS, rows[0].tenant, after=ordered[4].key, limit=3, descending=True))
        == ordered[3:0:-1]
    )
    assert store.get(POSITIONS, rows[0].tenant, [row.key for row in rows]) == rows


def test_listing_in_chunks_skips_nothing(
    open_store: Open, position: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind with more keys than fit a chunk is listed completely, in both directions."""
    monkeypatch.setattr("gateway_json.states._CHUNK", 3)
    rows = [position(f"k{number}") for number in range(9)]
    store = open_store()
    store.write(WriteBatch(rows))
    assert store.query(Query(POSITIONS, rows[0].tenant)) == rows
    assert store.query(Query(POSITIONS, rows[0].tenant, descending=True)) == rows[::-1]


def test_updates_of_one_batch_see_each_other(open_store: Open, stamper: Stamper) -> None:
    """Two updates of one key in one batch compute on each other's result, and only the last file remains."""
    store = open_store()
    reads = (KeyRef(DAILY_STATS, ("2026-03-12",)),)

    def add(rows: Sequence[Row | None]) -> list[Row]:
        held = rows[0].values[TOTAL] if rows[0] is not None else 0
        assert isinstance(held, int)
        return [stamper.stamp(DAILY_STATS, DailyStats(date="2026-03-12", total_trades=held + 1))]

    receipt = store.write(WriteBatch([Update(stamper.tenant, reads, add)] * 3))
    assert [rows[0].values[TOTAL] for rows in receipt.updated.values()] == [
        1,
        2,
        3,
    ]
    assert store.query(Query(DAILY_STATS, stamper.tenant)) == [receipt.updated[2][0]]


def test_purge_of_a_day_keeps_the_rest_of_it(root: Path, open_store: Open, trade: Make) -> None:
    """Whole days disappear, the day in between keeps its later rows, and purged ids may be stored again."""
    store = open_store()
    rows = [trade(NOON + timedelta(hours=hours)) for hours in (-48, -24, -1, 0, 1, 24)]
    store.write(WriteBatch(rows))
    assert store.purge(TRADES, rows[0].tenant, to_micros(NOON)) == 3
    assert _trades(store, rows[0].tenant) == rows[3:]
    assert sorted(path.name for path in (root / "trades").iterdir()) == [
        "2026-03-12.jsonl",
        "2026-03-13.jsonl",
    ]
    assert store.get(TRADES, rows[0].tenant, [row.key for row in rows]) == [None, None, None, *rows[3:]]
    store.write(WriteBatch([rows[2]]))
    assert _trades(store, rows[0].tenant) == rows[2:]
    assert store.purge(TRADES, rows[0].tenant, to_micros(NOON + timedelta(days=9))) == 4
    assert [path.name for path in (root / "trades").iterdir()] == []


@pytest.mark.parametrize("damage", [b"no database at all" * 99, b"", None])
def test_the_index_is_only_derived(root: Path, open_store: Open, trade: Make, damage: bytes | None) -> None:
    """A damaged, empty or missing index is made anew from the logs, and nothing is lost."""
    store = open_store()
    rows = [trade(), trade(NOON + timedelta(days=1))]
    store.write(WriteBatch(rows))
    store.close()
    (root / ".index.sqlite").unlink()
    if damage is not None:
        (root / ".index.sqlite").write_bytes(damage)
    store = open_store()
    assert store.get(TRADES, rows[0].tenant, [row.key for row in rows]) == rows
    assert store.health().details["recovered_count"] == bool(damage)


def test_an_index_of_another_format_is_made_anew(root: Path, open_store: Open, trade: Make) -> None:
    """An index that another release made does not matter."""
    row = trade()
    store = open_store()
    store.write(WriteBatch([row]))
    store.close()
    connection = sqlite3.connect(root / ".index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert open_store().get(TRADES, row.tenant, [row.key]) == [row]


def test_a_log_row_without_time_is_refused(open_store: Open, trade: Make) -> None:
    """A row that cannot be filed by day is refused before anything of its batch is written."""
    store, good = open_store(), trade()
    values = list(good.values)
    values[TIME] = None
    bad = row_of(TRADES, good.tenant, good.version, values)
    with pytest.raises(WriteRejectedError, match="timestamp"):
        store.write(WriteBatch([good, Group((bad,))]))
    assert _trades(store, good.tenant) == []


def test_a_vanished_directory_is_down_not_empty(root: Path, open_store: Open, trade: Make) -> None:
    """When the directory is removed under the store, reads and writes fail and nothing is made anew."""
    store, row = open_store(), trade()
    store.write(WriteBatch([row]))
    shutil.rmtree(root)
    for work in (
        lambda: store.write(WriteBatch([trade()])),
        lambda: store.get(TRADES, row.tenant, [row.key]),
        lambda: store.query(Query(TRADES, row.tenant)),
        store.health,
    ):
        with pytest.raises(FileNotFoundError):
            work()
    assert not root.exists()


def _context(tmp_path: Path, *, read_only: bool = False, url: str | None = None) -> OpenContext:
    return OpenContext("old", JsonSettings(url=url), BUILTIN_KINDS, tmp_path, read_only)


@pytest.mark.parametrize("url", ["{}", "json:{}", "json://{}", None])
def test_the_directory_comes_from_the_url(tmp_path: Path, url: str | None) -> None:
    """A plain path and the two URL forms mean the same; none means `json` in the data directory."""
    wanted = tmp_path / "json"
    given = None if url is None else url.format(wanted)
    assert directory_of(_context(tmp_path, url=given)) == wanted


@pytest.mark.anyio
async def test_a_missing_directory_is_not_made_to_be_read(tmp_path: Path) -> None:
    """Reading a store that is not there says so instead of showing an empty one."""
    with pytest.raises(StoreUnavailableError, match=r"old: there is no store at .*never created"):
        await open_json(_context(tmp_path, read_only=True))
    assert not (tmp_path / "json").exists()


@pytest.mark.anyio
async def test_a_read_only_opening_refuses_writes(tmp_path: Path, trade: Make) -> None:
    """What was opened to be looked at is not written, by no call."""
    await (await open_json(_context(tmp_path))).gateway_close()
    reader = await open_json(_context(tmp_path, read_only=True))
    with pytest.raises(StoreReadOnlyError, match=r"^old: "):
        await reader.gateway_write(WriteBatch([trade()]))
    with pytest.raises(StoreReadOnlyError):
        await reader.gateway_purge(TRADES, trade().tenant, NOON)
    assert (await reader.gateway_health()).ok
    await reader.gateway_close()


@pytest.mark.anyio
async def test_cancelled_writes_are_whole(tmp_path: Path, position: Make) -> None:
    """Cancelling the caller of a group loses neither the group's wholeness nor the calls behind it."""
    backend = await open_json(_context(tmp_path))
    groups = [(position(f"a{n}"), position(f"b{n}")) for n in range(20)]
    tasks = [asyncio.create_task(backend.gateway_write(WriteBatch([Group(rows)]))) for rows in groups]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 10
    await backend.gateway_close()
    reader = await open_json(_context(tmp_path, read_only=True))
    for number, rows in enumerate(groups):
        found = await reader.gateway_get(POSITIONS, rows[0].tenant, [row.key for row in rows])
        assert list(found) in ([list(rows)] if number % 2 else [list(rows), [None, None]])
    await reader.gateway_close()


@pytest.mark.anyio
async def test_what_an_update_raises_reaches_the_caller_as_it_is(tmp_path: Path, stamper: Stamper) -> None:
    """An OSError of the update's own function is not mistaken for one of the disk."""
    backend = await open_json(_context(tmp_path))
    mine = PermissionError("mine")

    def fail(_: object) -> list[Row]:
        raise mine

    with pytest.raises(PermissionError) as caught:
        await backend.gateway_write(WriteBatch([Update(stamper.tenant, (), fail)]))
    assert caught.value is mine
    await backend.gateway_close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await backend.gateway_query(Query(TRADES, stamper.tenant))
    assert not (await backend.gateway_health()).ok
    await backend.gateway_close()


def test_health_is_json_ready(open_store: Open, trade: Make, position: Make) -> None:
    """Health names the directory and counts the files of each kind."""
    store = open_store()
    store.write(WriteBatch([trade(), position("a"), position("b")]))
    details = json.loads(json.dumps(store.health().details))
    assert details["files"] == {"trades": 1, "positions": 2}
    assert details["directory"] == str(store.root)
    assert details["recovered"] == []
