"""Copying history: nothing is lost, nothing regresses, and running it again changes nothing."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext
from gateway.dispatch import open_store
from gateway.errors import StoreError
from gateway.migration.copy import CopyProgress, CopyReport, copy_all, copy_kind
from gateway.migration.verify import verify_kind
from gateway.records import EVENTS, POSITIONS, TRADES, KindSpec, Record, Shape, Text
from gateway.records.stamp import DEFAULT_TENANT

pytestmark = pytest.mark.anyio

PAIRS = [
    ("json", "sqlite"),
    ("sqlite", "json"),
    ("memory", "sqlite"),
    ("sqlite", "memory"),
    ("sqlite", "postgres"),
    ("postgres", "sqlite"),
]


class Command(Record):
    command_id: Text


QUEUE = KindSpec("commands", Command, key=("command_id",), shape=Shape.QUEUE)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_a_copy_holds_everything_as_it_was(
    opened: Any, history: Any, contents: Any, pair: tuple[str, str]
) -> None:
    """Rows and tombstones arrive with their own versions and digests, over many pages with ties in time."""
    old, new = await opened(pair[0], "old"), await opened(pair[1], "new")
    trades = [history.trade(number) for number in range(230)]
    await history.put(trades, old)
    await history.put([history.gone(trades[number]) for number in range(0, 230, 10)], old)
    report = await copy_kind(old, new, TRADES, DEFAULT_TENANT, page=17)
    assert (report.rows, report.written, report.superseded, report.corrupt_rows) == (230, 230, 0, 0)
    assert report.ok
    held = await contents(new, TRADES)
    assert held == await contents(old, TRADES)
    assert sum(deleted for _, _, deleted in held.values()) == 23
    assert (await verify_kind(old, new, TRADES, DEFAULT_TENANT, deep=True)).ok


async def test_running_it_again_changes_nothing(opened: Any, history: Any, contents: Any) -> None:
    """A second and a third copy leave the target exactly as it was."""
    old, new = await opened("json", "old"), await opened("sqlite", "new")
    await history.put([history.position(number) for number in range(60)], old)
    reports = []
    states = []
    for _ in range(3):
        reports.append(await copy_kind(old, new, POSITIONS, DEFAULT_TENANT, page=10))
        states.append(await contents(new, POSITIONS))
    assert states[0] == states[1] == states[2] == await contents(old, POSITIONS)
    assert [report.rows for report in reports] == [60, 60, 60]


async def test_a_newer_row_and_a_deletion_on_the_target_stay(
    opened: Any, history: Any, contents: Any
) -> None:
    """The copy of an older row neither overwrites a newer write nor revives what was deleted, and says so."""
    old, new = await opened("sqlite", "old"), await opened("memory", "new")
    rows = [history.position(number) for number in range(5)]
    await history.put(rows, old)
    newer, gone = history.position(1, price="0.9"), history.gone(rows[2])
    await history.put([newer, gone], new)
    report = await copy_kind(old, new, POSITIONS, DEFAULT_TENANT)
    assert (report.rows, report.written, report.superseded) == (5, 3, 2)
    held = await contents(new, POSITIONS)
    assert held[("m00001",)] == (*newer.stamp, False)
    assert held[("m00002",)] == (*gone.stamp, True)


@pytest.mark.parametrize(
    "pair", [("json", "sqlite"), ("sqlite", "memory"), ("sqlite", "postgres")], ids="-".join
)
async def test_beside_live_writes_nothing_regresses(
    opened: Any, history: Any, contents: Any, pair: tuple[str, str]
) -> None:
    """While bots write, change and delete in both stores, a copy and its repetition end with equal stores."""
    old, new = await opened(pair[0], "old"), await opened(pair[1], "new")
    before = [history.position(number) for number in range(200)]
    await history.put(before, old)
    done = asyncio.Event()
    newest: dict[object, tuple[int, int, bool]] = {}

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            row = history.position(chance.randrange(300), price=str(chance.randrange(1, 100)))
            row = history.gone(row) if chance.random() < 0.2 else row
            newest[row.key] = max(newest.get(row.key, (0, 0, False)), (*row.stamp, row.deleted))
            # As the gateway does it: the primary first, then the mirror.
            await history.put([row], old)
            await history.put([row], new)

    writers = [asyncio.create_task(write(seed)) for seed in range(3)]
    reports: list[CopyReport] = []
    while len(reports) < 2 or len(newest) < 20:
        reports.append(await copy_kind(old, new, POSITIONS, DEFAULT_TENANT, page=9))
    done.set()
    await asyncio.gather(*writers)
    assert all(report.ok and report.rows >= 200 for report in reports)
    held = await contents(new, POSITIONS)
    assert held == await contents(old, POSITIONS)
    assert {key: held[key] for key in newest} == newest
    assert {row.key for row in before} <= set(held)


async def test_a_dry_run_writes_nothing_and_tells_what_it_would(
    opened: Any, history: Any, contents: Any
) -> None:
    """A dry run counts what the target lacks, holds and holds newer, and leaves it untouched."""
    old, new = await opened("json", "old"), await opened("sqlite", "new")
    rows = [history.position(number) for number in range(6)]
    await history.put(rows, old)
    await history.put([rows[0], rows[1], history.position(2, price="0.9")], new)
    before = await contents(new, POSITIONS)
    report = await copy_kind(old, new, POSITIONS, DEFAULT_TENANT, page=2, dry_run=True)
    assert (report.rows, report.written, report.held, report.superseded) == (6, 3, 2, 1)
    assert report.dry_run
    assert await contents(new, POSITIONS) == before


async def test_progress_comes_page_by_page(opened: Any, history: Any) -> None:
    """Each page is reported with rows so far and the total, which ends where the copy does."""
    old, new = await opened("memory", "old"), await opened("memory", "new")
    await history.put([history.trade(number) for number in range(25)], old)
    seen: list[CopyProgress] = []
    await copy_kind(old, new, TRADES, DEFAULT_TENANT, page=10, on_page=seen.append)
    assert [(one.kind, one.rows, one.total) for one in seen] == [
        ("trades", 10, 25),
        ("trades", 20, 25),
        ("trades", 25, 25),
    ]


async def test_a_throttle_holds_back(opened: Any, history: Any) -> None:
    """At 1,000 rows a second 100 rows take a tenth of a second at least."""
    old, new = await opened("memory", "old"), await opened("memory", "new")
    await history.put([history.trade(number) for number in range(100)], old)
    report = await copy_kind(old, new, TRADES, DEFAULT_TENANT, page=10, throttle_rows_per_second=1_000)
    assert report.written == 100
    assert report.seconds >= 0.1


async def test_a_damaged_row_is_reported_and_not_copied(
    tmp_path: Path, opened: Any, history: Any, contents: Any
) -> None:
    """A row changed behind the gateway's back stays behind, named; everything else arrives."""
    old, new = await opened("sqlite", "old"), await opened("memory", "new")
    await history.put([history.trade(number) for number in range(30)], old)
    _tamper(tmp_path / "old", "UPDATE trades SET price = '666' WHERE record_id = 'trade-000007'")
    report = await copy_kind(old, new, TRADES, DEFAULT_TENANT, page=10)
    assert (report.rows, report.written, report.corrupt, report.corrupt_rows) == (
        30,
        29,
        (("trade-000007",),),
        1,
    )
    assert not report.ok
    assert ("trade-000007",) not in await contents(new, TRADES)


async def test_several_kinds_and_a_queue(opened: Any, history: Any, contents: Any) -> None:
    """All kinds asked for are copied in turn; a queue is left where it is, and says why."""
    old, new = await opened("memory", "old"), await opened("memory", "new")
    await history.put([history.trade(1), history.position(1)], old)
    reports = await copy_all(old, new, (TRADES, QUEUE, POSITIONS, EVENTS), DEFAULT_TENANT)
    assert [(report.kind, report.written) for report in reports] == [
        ("trades", 1),
        ("commands", 0),
        ("positions", 1),
        ("events", 0),
    ]
    assert [report.skipped is not None for report in reports] == [False, True, False, False]
    assert "executed once" in str(reports[1].skipped)
    assert await contents(new, POSITIONS) == await contents(old, POSITIONS)


async def test_other_tenants_stay_where_they_are(opened: Any, history: Any, contents: Any) -> None:
    """A copy takes one tenant's rows and no others."""
    old, new = await opened("sqlite", "old"), await opened("memory", "new")
    await history.put([history.trade(number) for number in range(5)], old)
    report = await copy_kind(old, new, TRADES, "11111111-1111-1111-1111-111111111111")
    assert report.rows == 0
    assert await contents(new, TRADES) == {}


async def test_a_source_that_goes_down_is_an_error(opened: Any, history: Any) -> None:
    """A store that cannot answer is never taken for one without rows."""
    old, new = await opened("memory", "old"), await opened("memory", "new")
    await history.put([history.trade(1)], old)
    await old._calls["gateway_close"]()
    with pytest.raises(StoreError):
        await copy_kind(old, new, TRADES, DEFAULT_TENANT)


async def test_an_interrupted_copy_goes_on_where_it_is_needed(
    tmp_path: Path, opened: Any, history: Any, contents: Any
) -> None:
    """A copy cancelled in the middle leaves whole rows only, and the next one completes it."""
    old, new = await opened("json", "old"), await opened("sqlite", "new")
    await history.put([history.trade(number) for number in range(100)], old)

    def stop(progress: CopyProgress) -> None:
        if progress.rows >= 30:
            task.cancel()

    task = asyncio.create_task(copy_kind(old, new, TRADES, DEFAULT_TENANT, page=10, on_page=stop))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await contents(new, TRADES)) == 30
    assert (tmp_path / "new").is_dir()
    await copy_kind(old, new, TRADES, DEFAULT_TENANT, page=10)
    assert await contents(new, TRADES) == await contents(old, TRADES)


async def test_a_copy_from_a_store_opened_to_read_only(
    tmp_path: Path, opened: Any, history: Any, contents: Any
) -> None:
    """The source need not be writable: a copy only reads it."""
    old, new = await opened("sqlite", "old"), await opened("memory", "new")
    await history.put([history.trade(number) for number in range(10)], old)
    settings = old.spec.settings()
    context = OpenContext("reader", settings, (TRADES,), tmp_path / "old", read_only=True)
    reader = await open_store(old.spec, context)
    report = await copy_kind(reader, new, TRADES, DEFAULT_TENANT)
    await reader.close()
    assert report.written == 10
    assert await contents(new, TRADES) == await contents(old, TRADES)


def _tamper(directory: Path, statement: str) -> None:
    """Change a SQLite store behind the gateway's back."""
    (path,) = directory.glob("*.db")
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount == 1
    connection.commit()
    connection.close()
