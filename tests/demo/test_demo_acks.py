from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo.acks import AckLog, Acknowledged, read_acks
from gateway.errors import InvalidRecordError

ACKS = [
    Acknowledged("trades", ("t-1",), 7),
    Acknowledged("positions", ("Größe",), 2**62),
    Acknowledged("closed_positions", where={"condition_id": "m", "closed_at": 5}),
    Acknowledged("daily_stats", ("2024-01-01",), at_least={"total_trades": 3}),
]


def test_what_was_noted_is_read_back_in_order(tmp_path: Path) -> None:
    """Every kind of acknowledgement survives, also over two processes' worth of logs, in parts of any size."""
    path = tmp_path / "acks"
    with AckLog(path) as log:
        log.note(*ACKS[:3])
        assert log.count == 3
    with AckLog(path) as log:
        log.note(ACKS[3])
    parts = list(read_acks(path, size=3))
    assert [len(part) for part in parts] == [3, 1]
    assert [ack for part in parts for ack in part] == ACKS


@pytest.mark.parametrize("damage", [b'{"kind":"trades","ke', b"[]\n", b"\xff\n", b'{"version":1}\n'])
def test_a_damaged_log_proves_nothing(tmp_path: Path, damage: bytes) -> None:
    """A line that cannot be read is an error, not an acknowledgement less."""
    path = tmp_path / "acks"
    with AckLog(path) as log:
        log.note(*ACKS)
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(InvalidRecordError, match="nothing can be proved"):
        list(read_acks(path))


def test_a_missing_log_proves_nothing(tmp_path: Path) -> None:
    """No log is not the same as a log without entries."""
    with pytest.raises(InvalidRecordError, match="nothing can be proved"):
        list(read_acks(tmp_path / "acks"))


def test_an_acknowledgement_has_a_name_for_people() -> None:
    """The kind and what the row is found by."""
    assert [ack.label for ack in ACKS] == [
        "trades t-1",
        "positions Größe",
        "closed_positions m 5",
        "daily_stats 2024-01-01",
    ]
