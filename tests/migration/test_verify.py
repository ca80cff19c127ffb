"""Verification: equal stores are found equal, and every difference is found and named."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import gateway.migration.verify as verify_module
from gateway.compare import REDACTED, Reason
from gateway.errors import StoreError
from gateway.migration.copy import copy_kind
from gateway.migration.verify import VerifyProgress, verify_kind
from gateway.records import POSITIONS, TRADES, Comparison, KindSpec, Record, Shape, Text
from gateway.records.stamp import DEFAULT_TENANT, row_of

pytestmark = pytest.mark.anyio

PAIRS = [
    ("json", "sqlite"),
    ("sqlite", "memory"),
    ("memory", "json"),
    ("sqlite", "postgres"),
    ("postgres", "json"),
]


class Note(Record):
    name: Text
    text: Text | None = None
    seen: Text | None = None


NOTES = KindSpec(
    "notes",
    Note,
    key=("name",),
    shape=Shape.STATE,
    comparison=Comparison(ignore=frozenset({"seen"}), redact=frozenset({"name"})),
)


def _note(name: str, text: str, seen: str, *, version: int = 1) -> Any:
    return row_of(NOTES, DEFAULT_TENANT, version, (name, text, seen))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_equal_stores_are_found_equal_by_one_digest(
    opened: Any, history: Any, pair: tuple[str, str]
) -> None:
    """Two stores with the same rows agree after comparing the whole kind's digest once."""
    left, right = await opened(pair[0], "left"), await opened(pair[1], "right")
    rows = [history.trade(number) for number in range(40)]
    await history.put([*rows, history.gone(rows[3])], left, right)
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT)
    assert report.ok
    assert (report.rows_left, report.rows_right, report.ranges, report.digests_equal) == (40, 40, 1, True)


async def test_empty_stores_are_equal(opened: Any) -> None:
    """Nothing against nothing agrees, deep or not."""
    left, right = await opened("sqlite", "left"), await opened("json", "right")
    assert (await verify_kind(left, right, TRADES, DEFAULT_TENANT, deep=True)).ok


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_every_seeded_difference_is_named(
    opened: Any, history: Any, pair: tuple[str, str], seed: int
) -> None:
    """Each row made missing, older or deleted on either side is named with its reason, and no other is."""
    chance = random.Random(seed)
    left, right = await opened(pair[0], "left"), await opened(pair[1], "right")
    rows = [history.trade(number) for number in range(150)]
    chosen = chance.sample(range(150), 18)
    expected: dict[tuple[str], Reason] = {}
    plans = [Reason.MISSING_LEFT, Reason.MISSING_RIGHT, Reason.OLDER_LEFT, Reason.OLDER_RIGHT]
    plans += [Reason.DELETED_LEFT, Reason.DELETED_RIGHT]
    for place, number in enumerate(chosen):
        row, reason = rows[number], plans[place % len(plans)]
        expected[row.key] = reason
        lacking, having = (left, right) if reason.name.endswith("_LEFT") else (right, left)
        if reason in {Reason.DELETED_LEFT, Reason.DELETED_RIGHT}:
            await history.put([row], left, right)
            await history.put([history.gone(row)], lacking)
        else:
            if reason in {Reason.OLDER_LEFT, Reason.OLDER_RIGHT}:
                await history.put([row], lacking)
            await history.put([history.trade(number, price="0.75")], having)
    await history.put([row for number, row in enumerate(rows) if number not in chosen], left, right)
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, chunk=11, rechecks=1)
    assert {one.key: one.reason for one in report.differing} == expected
    assert not report.ok
    assert report.more == 0
    older = next(one for one in report.differing if one.reason is Reason.OLDER_RIGHT)
    assert older.fields == ("price",)
    assert (older.left_version or 0) > (older.right_version or 0)


async def test_extra_rows_at_both_ends_and_in_between_are_found(opened: Any, history: Any) -> None:
    """Rows that only the right store has are found before, between and after the left store's rows."""
    left, right = await opened("sqlite", "left"), await opened("memory", "right")
    common = [history.trade(number) for number in range(20, 40)]
    extra = [history.trade(number) for number in [*range(20), *range(40, 75)]]
    await history.put(common, left, right)
    await history.put(extra, right)
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, chunk=7, rechecks=1)
    assert {one.key for one in report.differing} == {row.key for row in extra}
    assert {one.reason for one in report.differing} == {Reason.MISSING_LEFT}


async def test_an_empty_left_store_hides_nothing(opened: Any, history: Any) -> None:
    """If the left store has lost everything, every row of the right one is named."""
    left, right = await opened("memory", "left"), await opened("json", "right")
    await history.put([history.position(number) for number in range(30)], right)
    report = await verify_kind(left, right, POSITIONS, DEFAULT_TENANT, chunk=8, rechecks=0)
    assert len(report.differing) == 30


async def test_only_stretches_that_differ_are_listed(
    opened: Any, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one row missing, the right store lists one stretch and gives digests for the others."""
    left, right = await opened("sqlite", "left"), await opened("sqlite", "right")
    rows = [history.trade(number) for number in range(100)]
    await history.put(rows, left)
    await history.put([row for row in rows if row.key != ("trade-000055",)], right)
    listed: list[int] = []
    query = right.query

    async def counting(request: Any) -> Any:
        found = await query(request)
        listed.append(len(found))
        return found

    monkeypatch.setattr(right, "query", counting)
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, chunk=10, rechecks=0)
    assert [one.key for one in report.differing] == [("trade-000055",)]
    assert report.ranges == 12
    assert sum(listed) <= 20


@pytest.mark.parametrize("pair", [("json", "sqlite"), ("sqlite", "memory")], ids="-".join)
async def test_live_writes_are_no_differences(opened: Any, history: Any, pair: tuple[str, str]) -> None:
    """While both stores are written all the time, one after the other, only the one lost row is reported."""
    left, right = await opened(pair[0], "left"), await opened(pair[1], "right")
    rows = [history.position(number) for number in range(120)]
    await history.put(rows, left)
    await copy_kind(left, right, POSITIONS, DEFAULT_TENANT)
    lost = history.position(999)
    await history.put([lost], left)
    done = asyncio.Event()
    written = 0

    async def write(first: int) -> None:
        nonlocal written
        chance = random.Random(first)
        while not done.is_set():
            # Each writer has its own keys: as in a lane, writes of one key follow each other.
            row = history.position(first + 3 * chance.randrange(50), price=str(chance.randrange(1, 100)))
            await history.put([row], left)
            await history.put([row], right)
            written += 1

    writers = [asyncio.create_task(write(first)) for first in range(3)]
    while written < 20:
        report = await verify_kind(left, right, POSITIONS, DEFAULT_TENANT, chunk=20)
        assert {one.key: one.reason for one in report.differing} == {lost.key: Reason.MISSING_RIGHT}
    done.set()
    await asyncio.gather(*writers)
    again = await verify_kind(left, right, POSITIONS, DEFAULT_TENANT, rechecks=0)
    assert {one.key for one in again.differing} == {lost.key}


async def test_a_key_never_caught_equal_is_in_step(
    opened: Any, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key between two writes at every look is no difference as long as each store follows the other."""
    left, right = await opened("memory", "left"), await opened("memory", "right")
    held = [history.position(1), history.position(1)]
    await history.put(held[:1], right)
    await history.put(held[1:], left)
    get = right.get

    async def between_writes(*request: Any) -> Any:
        held.append(history.position(1))
        await history.put(held[-2:-1], right)
        await history.put(held[-1:], left)
        return await get(*request)

    monkeypatch.setattr(right, "get", between_writes)
    report = await verify_kind(left, right, POSITIONS, DEFAULT_TENANT)
    assert len(held) == 3
    assert report.ok
    assert not report.digests_equal


@pytest.mark.parametrize("side", ["left", "right"])
async def test_deep_finds_what_the_digests_hide(tmp_path: Path, opened: Any, history: Any, side: str) -> None:
    """A value changed beside its digest passes by digests, and is found by the deep check."""
    left, right = await opened("sqlite", "left"), await opened("sqlite", "right")
    await history.put([history.trade(number) for number in range(50)], left, right)
    _tamper(tmp_path / side, "UPDATE trades SET amount = '1000000' WHERE record_id = 'trade-000031'")
    assert (await verify_kind(left, right, TRADES, DEFAULT_TENANT)).ok
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, deep=True, chunk=9)
    (found,) = report.differing
    assert found.key == ("trade-000031",)
    assert found.reason is (Reason.DAMAGED_LEFT if side == "left" else Reason.DAMAGED_RIGHT)
    assert report.deep


async def test_a_row_damaged_and_in_a_stretch_that_differs_is_named_once(
    tmp_path: Path, opened: Any, history: Any
) -> None:
    """Damage found while listing a stretch is not reported again by the deep check."""
    left, right = await opened("sqlite", "left"), await opened("memory", "right")
    rows = [history.trade(number) for number in range(10)]
    await history.put(rows, left)
    await history.put(rows[:9], right)
    _tamper(tmp_path / "left", "UPDATE trades SET price = '9' WHERE record_id = 'trade-000004'")
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, deep=True, rechecks=0)
    assert {one.key: one.reason for one in report.differing} == {
        ("trade-000004",): Reason.DAMAGED_LEFT,
        ("trade-000009",): Reason.MISSING_RIGHT,
    }
    damaged = next(one for one in report.differing if one.reason is Reason.DAMAGED_LEFT)
    assert damaged.left_version == damaged.right_version == rows[4].version


async def test_same_version_other_content_is_found(opened: Any, history: Any) -> None:
    """Two rows with one version and different values can only be a fault, and are named as such."""
    left, right = await opened("memory", "left"), await opened("sqlite", "right")
    row = history.position(1)
    changed = list(row.values)
    changed[row.kind.index("side")] = "NO"
    await history.put([row], left)
    await history.put([row_of(row.kind, row.tenant, row.version, changed)], right)
    report = await verify_kind(left, right, POSITIONS, DEFAULT_TENANT, rechecks=1)
    assert [(one.reason, one.fields) for one in report.differing] == [(Reason.CONTENT, ("side",))]


async def test_the_kinds_rules_apply(opened: Any, history: Any) -> None:
    """An ignored field makes no difference though it changes the digests; a private key is not shown."""
    left, right = await opened("memory", "left"), await opened("memory", "right")
    await history.put([_note("a", "x", "monday")], left)
    await history.put([_note("a", "x", "tuesday")], right)
    report = await verify_kind(left, right, NOTES, DEFAULT_TENANT, rechecks=0)
    assert report.ok
    assert not report.digests_equal
    await history.put([_note("b", "x", "monday"), _note("c", "x", "monday")], left)
    report = await verify_kind(left, right, NOTES, DEFAULT_TENANT, rechecks=0)
    assert [one.key for one in report.differing] == [(REDACTED,), (REDACTED,)]


async def test_differences_are_bounded_and_counted(
    opened: Any, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound differing keys are counted, so that a lost store does not fill the memory."""
    monkeypatch.setattr(verify_module, "MAX_DIFFERENCES", 10)
    left, right = await opened("memory", "left"), await opened("memory", "right")
    await history.put([history.trade(number) for number in range(35)], left)
    report = await verify_kind(left, right, TRADES, DEFAULT_TENANT, chunk=4, rechecks=0)
    assert (len(report.differing), report.more) == (10, 25)
    assert not report.ok


async def test_progress_reaches_the_total(opened: Any, history: Any) -> None:
    """Rows covered grow to the total, over the comparison and both deep passes."""
    left, right = await opened("memory", "left"), await opened("sqlite", "right")
    rows = [history.trade(number) for number in range(30)]
    await history.put(rows, left)
    await history.put(rows[1:], right)
    seen: list[VerifyProgress] = []
    await verify_kind(
        left, right, TRADES, DEFAULT_TENANT, deep=True, chunk=10, rechecks=0, on_progress=seen.append
    )
    assert [one.rows for one in seen] == sorted(one.rows for one in seen)
    assert (seen[-1].rows, seen[-1].total, seen[-1].differing) == (89, 89, 1)


async def test_a_store_that_is_down_is_an_error(opened: Any, history: Any) -> None:
    """A store that cannot answer is never reported as one that differs."""
    left, right = await opened("memory", "left"), await opened("memory", "right")
    await history.put([history.trade(1)], left, right)
    await right._calls["gateway_close"]()
    with pytest.raises(StoreError):
        await verify_kind(left, right, TRADES, DEFAULT_TENANT)


async def test_a_queue_is_not_compared(opened: Any) -> None:
    """A queue lives in one store, so there is nothing to verify, and the report says so."""
    queue = KindSpec("notes_queue", type("QueuedNote", (Note,), {}), key=("name",), shape=Shape.QUEUE)
    left, right = await opened("memory", "left"), await opened("memory", "right")
    report = await verify_kind(left, right, queue, DEFAULT_TENANT)
    assert report.skipped is not None
    assert report.ok


def _tamper(directory: Path, statement: str) -> None:
    """Change a SQLite store behind the gateway's back."""
    (path,) = directory.glob("*.db")
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount == 1
    connection.commit()
    connection.close()
