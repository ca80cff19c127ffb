from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.backend import Group, WriteBatch
from gateway.errors import SchemaError, StoreCorruptError
from gateway.records import POSITIONS, TRADES, Row
from gateway_json.documents import Marker
from gateway_json.files import Disk
from gateway_json.pending import Moved, Pending
from gateway_json.store import JsonStore

KINDS = {"trades": TRADES, "positions": POSITIONS}


def test_a_step_comes_back(tmp_path: Path, trade: Callable[..., Row], position: Callable[..., Row]) -> None:
    """Rows and markers of an interrupted step are read back as they were."""
    pending = Pending(tmp_path / "_pending.json", Disk())
    assert pending.read(KINDS) == ([], [])
    rows = [trade(), position(extra={"x": 1e-9})]
    moves = [Moved(TRADES, rows[0].tenant, "2026-03-11", Marker("r", (1, 2), "2026-03-12"))]
    pending.write(rows, moves)
    assert pending.read(KINDS) == (rows, moves)
    pending.remove()
    pending.remove()
    assert pending.read(KINDS) == ([], [])


def test_a_damaged_or_foreign_step_is_refused(tmp_path: Path, trade: Callable[..., Row]) -> None:
    """A step that cannot be read stops the opening with a sentence, and stays where it is."""
    pending = Pending(tmp_path / "_pending.json", Disk())
    pending.write([trade()], [])
    with pytest.raises(SchemaError, match="trades"):
        pending.read({})
    pending.path.write_bytes(pending.path.read_bytes()[:50])
    with pytest.raises(StoreCorruptError, match=r"_pending\.json"):
        pending.read(KINDS)
    assert pending.path.exists()


def test_an_opening_completes_the_interrupted_step(
    root: Path,
    open_store: Callable[..., JsonStore],
    trade: Callable[..., Row],
    position: Callable[..., Row],
) -> None:
    """A group whose process died between its files is completed, whatever part was done."""
    store = open_store()
    newer, before = position("0xb"), position("0xa")
    done, open_, log = position("0xa"), position("0xc"), trade()
    store.write(WriteBatch([before, done]))
    stale = newer._replace(version=newer.version - 1)
    store.write(WriteBatch([newer]))
    store.close()
    Pending(root / "_pending.json", Disk()).write([done, open_, stale, log], [])
    store = open_store()
    keys = [("0xa",), ("0xb",), ("0xc",)]
    assert store.get(POSITIONS, done.tenant, keys) == [done, newer, open_]
    assert store.get(TRADES, log.tenant, [log.key]) == [log]
    assert not (root / "_pending.json").exists()
    assert "interrupted" in store.health().details["recovered"][0]


class _FailingDisk(Disk):
    """A disk on which one file cannot take its place, as when a directory's entry cannot be written."""

    blocked = ""

    def publish(self, tmp: Path, path: Path) -> None:
        if path.name == self.blocked:
            raise OSError(errno.EIO, "Input/output error", str(path))
        super().publish(tmp, path)


def test_a_step_that_failed_halfway_is_finished_by_the_next_write(
    root: Path,
    open_store: Callable[..., JsonStore],
    position: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a group's last moment fails, nothing later is written before the group is complete."""
    monkeypatch.setattr("gateway_json.store.Disk", _FailingDisk)
    store = open_store()
    a, b, c = position("0xa"), position("0xb"), position("0xc")
    monkeypatch.setattr(_FailingDisk, "blocked", "0xb.json")
    with pytest.raises(OSError, match="Input/output"):
        store.write(WriteBatch([Group((a, b))]))
    with pytest.raises(OSError, match="Input/output"):
        store.write(WriteBatch([c]))
    assert (root / "_pending.json").exists()
    assert store.get(POSITIONS, c.tenant, [c.key]) == [None]
    monkeypatch.setattr(_FailingDisk, "blocked", "")
    store.write(WriteBatch([c]))
    assert store.get(POSITIONS, a.tenant, [a.key, b.key, c.key]) == [a, b, c]
    assert not (root / "_pending.json").exists()
    assert not list(root.rglob("*.tmp"))
