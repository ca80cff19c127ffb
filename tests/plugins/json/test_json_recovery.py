from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreCorruptError
from gateway.query import Query
from gateway.records import TRADES, Row
from gateway_json.documents import row_line
from gateway_json.store import JsonStore

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)
DAY = "2026-03-12.jsonl"
Open = Callable[..., JsonStore]


def _listed(store: JsonStore, row: Row) -> list[Row]:
    return store.query(Query(TRADES, row.tenant))


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_torn_last_line_is_moved_aside(
    root: Path, open_store: Open, trade: Callable[..., Row], caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    """The torn bytes are kept in a file of their own and reported; whole rows are served, writing goes on."""
    kept, torn, later = trade(), trade(), trade()
    store = open_store()
    store.write(WriteBatch([kept]))
    store.close()
    path = root / "trades" / DAY
    tail = row_line(torn)[: -1 - cut]
    assert tail
    path.write_bytes(path.read_bytes() + tail)
    with caplog.at_level(logging.WARNING, "gateway_json"):
        store = open_store()
    assert _listed(store, kept) == [kept]
    assert (root / "trades" / f"{DAY}.torn-1").read_bytes() == tail
    assert "torn" in store.health().details["recovered"][0]
    assert "torn" in caplog.text
    store.write(WriteBatch([later]))
    assert _listed(store, kept) == [kept, later]


def test_a_line_that_lacks_only_its_newline_is_kept(
    root: Path, open_store: Open, trade: Callable[..., Row]
) -> None:
    """A last line that is complete but for the newline is a row."""
    first, last, later = trade(), trade(), trade()
    open_store().close()
    (root / "trades").mkdir()
    (root / "trades" / DAY).write_bytes(row_line(first) + row_line(last)[:-1])
    store = open_store()
    assert _listed(store, first) == [first, last]
    assert "newline" in store.health().details["recovered"][0]
    store.write(WriteBatch([later]))
    assert _listed(store, first) == [first, last, later]


def test_nothing_torn_is_ever_overwritten(root: Path, open_store: Open, trade: Callable[..., Row]) -> None:
    """A second torn line gets a second file."""
    open_store().close()
    (root / "trades").mkdir()
    for number in (1, 2):
        with (root / "trades" / DAY).open("ab") as file:
            file.write(row_line(trade())[:100])
        open_store().close()
        assert (root / "trades" / f"{DAY}.torn-{number}").stat().st_size == 100


def test_stale_files_are_renamed_and_reported(
    root: Path, open_store: Open, position: Callable[..., Row]
) -> None:
    """A .tmp file of an interrupted write neither blocks nor disappears."""
    store = open_store()
    store.write(WriteBatch([position("a")]))
    store.close()
    for name in ("a.json.tmp", "b.json.tmp"):
        (root / "positions" / name).write_bytes(b"half")
    (root / "_pending.json.tmp").write_bytes(b"half")
    store = open_store()
    assert (root / "positions" / "a.json.tmp.stale").read_bytes() == b"half"
    assert store.health().details["recovered_count"] == 3
    assert store.health().details["set_aside_count"] == 2
    store.write(WriteBatch([position("a"), position("b")]))
    assert sorted(path.name for path in (root / "positions").iterdir()) == [
        "a.json",
        "a.json.tmp.stale",
        "b.json",
        "b.json.tmp.stale",
    ]


def test_a_corrupt_line_in_the_middle_is_named(
    root: Path, open_store: Open, trade: Callable[..., Row]
) -> None:
    """Damage between whole lines is not skipped: file and line are named, and other days are served."""
    store = open_store()
    rows = [trade(), trade(), trade()]
    other = trade(NOON + timedelta(days=1))
    store.write(WriteBatch([*rows, other]))
    path = root / "trades" / DAY
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(StoreCorruptError, match=r"2026-03-12\.jsonl line 2"):
        _listed(store, rows[0])
    assert store.query(Query(TRADES, other.tenant, limit=1, descending=True)) == [other]


def test_a_row_in_the_wrong_days_file_is_named(
    root: Path, open_store: Open, trade: Callable[..., Row]
) -> None:
    """A line whose time a person changed to another day would be missed by queries, so it is refused."""
    row = trade()
    open_store().close()
    (root / "trades").mkdir()
    (root / "trades" / "2026-03-13.jsonl").write_bytes(row_line(row))
    with pytest.raises(StoreCorruptError, match=r"line 1.*2026-03-12\.jsonl"):
        open_store()


def test_a_reader_beside_the_writer_mends_nothing(
    root: Path, open_store: Open, trade: Callable[..., Row]
) -> None:
    """A read-only opening sees whole lines, takes no lock, and leaves torn lines and stale files alone."""
    row, torn = trade(), trade()
    writer = open_store()
    writer.write(WriteBatch([row]))
    with (root / "trades" / DAY).open("ab") as file:
        file.write(row_line(torn)[:80])
    (root / "trades" / "x.tmp").touch()
    before = sorted(path.name for path in (root / "trades").iterdir())
    reader = open_store(read_only=True)
    assert _listed(reader, row) == [row]
    assert reader.get(TRADES, row.tenant, [row.key, torn.key]) == [row, None]
    assert sorted(path.name for path in (root / "trades").iterdir()) == before
