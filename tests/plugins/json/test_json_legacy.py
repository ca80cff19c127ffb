from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidRecordError
from gateway.legacy import LegacyItem
from gateway.records import POSITIONS, Position
from gateway.records.stamp import Stamper
from gateway_json.legacy import POSITION_FILES, read_positions
from tests.legacy import legacy_positions

BASE = {
    "condition_id": "0xabc",
    "timestamp": 1773313601.532199,
    "timestamp_iso": "2026-03-12T11:06:41Z",
    "entry_price": 0.28,
    "position_side": "YES",
    "position_open": True,
    "trailing_stop_price": 5.330000000000001e-05,
}
WRITTEN = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)


def _read(tmp_path: Path, **change: Any) -> LegacyItem:
    """Write one position file, without the keys that are changed to `...`, and read it."""
    content = {key: value for key, value in (BASE | change).items() if value is not ...}
    (tmp_path / "position_0xabc.json").write_text(json.dumps(content))
    (item,) = read_positions(tmp_path)
    return item


def _position(item: LegacyItem) -> Position:
    assert item.problem is None
    assert isinstance(item.record, Position)
    return item.record


def test_a_position_is_read_exactly(tmp_path: Path) -> None:
    """Floats become the decimals that they are written as, and Unix seconds a time to the microsecond."""
    item = _read(tmp_path)
    position = _position(item)
    assert item.origin == "position_0xabc.json"
    assert item.at == position.opened_at == WRITTEN
    assert position.entry_price == Decimal("0.28")
    assert position.trailing_stop_price == Decimal("0.00005330000000000001")
    assert (position.side, position.is_open, position.extra) == ("YES", True, None)


def test_other_bots_names_are_understood(tmp_path: Path) -> None:
    """`side`, `is_open`, `size` and `entry_time` mean what they say; the file's time is kept, too."""
    item = _read(
        tmp_path,
        position_side=...,
        side="NO",
        position_open=...,
        is_open=False,
        size=12,
        entry_time=1773313600,
        market_name="BTC",
    )
    position = _position(item)
    assert (position.side, position.is_open, position.amount, position.market_name) == (
        "NO",
        False,
        Decimal(12),
        "BTC",
    )
    assert position.opened_at == datetime(2026, 3, 12, 11, 6, 40, tzinfo=UTC)
    assert item.at == WRITTEN
    assert position.extra == {"timestamp": 1773313601.532199}


def test_nothing_is_dropped(tmp_path: Path) -> None:
    """Unknown keys, contradicting names and contradicting times all end up in `extra`."""
    position = _position(
        _read(tmp_path, leverage=3, nested={"a": [1]}, side="NO", timestamp_iso="2020-01-01T00:00:00Z")
    )
    assert position.side == "YES"
    assert position.extra == {
        "leverage": 3,
        "nested": {"a": [1]},
        "side": "NO",
        "timestamp_iso": "2020-01-01T00:00:00Z",
    }


def test_the_iso_time_stands_in(tmp_path: Path) -> None:
    """A file without Unix seconds is dated by its ISO time."""
    item = _read(tmp_path, timestamp=...)
    assert item.at == _position(item).opened_at == datetime(2026, 3, 12, 11, 6, 41, tzinfo=UTC)
    assert _position(item).extra is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"timestamp": ..., "timestamp_iso": ...}, "has no timestamp"),
        ({"timestamp": 1773313601532199}, "beyond the calendar"),
        ({"timestamp": 4_000_000_000}, "in the future"),
        ({"timestamp": True}, "neither Unix seconds nor ISO"),
        ({"timestamp": ..., "timestamp_iso": "2026-03-12T11:06:41"}, "no time zone"),
        ({"entry_price": ...}, "entry_price: is required"),
        ({"entry_price": "cheap"}, "entry_price"),
        ({"entry_price": float("nan")}, "NaN is no number"),
        ({"position_open": 1}, "is_open"),
        ({"condition_id": ...}, "condition_id: is required"),
        ({"entry_price": "0." + "1" * 40}, "entry_price"),
    ],
)
def test_what_is_no_position_is_explained(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """Each thing that is wrong with a file gives a sentence that names it."""
    item = _read(tmp_path, **change)
    assert item.record is None
    assert item.problem is not None
    assert sentence in item.problem


def test_damaged_and_foreign_files_are_reported(tmp_path: Path) -> None:
    """Empty, torn, unfinished and foreign files are reported in the order of names and left alone."""
    files = {
        "notes.txt": b"hello",
        "position_0xa.json": json.dumps(BASE).encode(),
        "position_0xb.json": b"",
        "position_0xc.json": json.dumps(BASE).encode()[:60],
        "position_0xd.json": b"[1, 2]",
        "position_0xe.json.tmp": b"",
        "position_0xf.json": b"\xff\xfe",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "position_dir.json").mkdir()
    items = list(POSITION_FILES.read(tmp_path))
    assert [item.origin for item in items] == [*files, "position_dir.json"]
    problems = [item.problem or "" for item in items]
    words = [
        "not named",
        "",
        "empty",
        "not whole JSON",
        "no JSON object",
        "interrupted write",
        "not whole JSON",
        "directory",
    ]
    assert [word in problem for word, problem in zip(words, problems, strict=True)] == [True] * 8
    assert [item.record is None for item in items] == [bool(word) for word in words]
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    """A directory without position files, and a path that does not exist, are refused at once."""
    with pytest.raises(InvalidRecordError, match="holds no position"):
        read_positions(tmp_path)
    with pytest.raises(InvalidRecordError, match="does not exist"):
        read_positions(tmp_path / "nowhere")


@pytest.mark.shared_data
def test_the_real_files_are_read_completely() -> None:
    """Every position file of a real bot becomes a position whose row comes back as the same position."""
    real = legacy_positions()
    items = list(read_positions(real))
    assert len(items) == len(list(real.iterdir())) > 0
    for item in items:
        position = _position(item)
        source = json.loads((real / item.origin).read_text())
        assert position.condition_id == source["condition_id"]
        assert str(source["entry_price"]) in {
            str(position.entry_price),
            format(position.entry_price, "f"),
            f"{position.entry_price}.0",
        }
        assert position.is_open is source["position_open"]
        assert position.extra is None
        assert abs(position.opened_at.timestamp() - source["timestamp"]) < 1e-6
        row = Stamper().stamp(POSITIONS, position, at=item.at)
        assert row.record() == position
