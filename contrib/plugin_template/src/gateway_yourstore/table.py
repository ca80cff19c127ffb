"""The synchronous half: what happens to the table. Replace this module by your store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from gateway.backend import Group, Step, Update, WriteBatch, WriteReceipt
from gateway.records.codec import to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["all_rows", "connect", "purge", "rows_of_keys", "write"]

_CREATE = """
CREATE TABLE IF NOT EXISTS records (
  kind TEXT, tenant TEXT, key TEXT, moment INTEGER,
  version INTEGER NOT NULL, digest INTEGER NOT NULL, deleted INTEGER NOT NULL, data TEXT NOT NULL,
  PRIMARY KEY (kind, tenant, key)
) WITHOUT ROWID
"""
# The guard stands in the statement itself: reading first and writing then would let others in between.
_UPSERT = """
INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  moment = excluded.moment, version = excluded.version, digest = excluded.digest,
  deleted = excluded.deleted, data = excluded.data
WHERE (excluded.version, excluded.digest) > (version, digest)
"""
_SELECT = "SELECT version, digest, deleted, data FROM records WHERE kind = ? AND tenant = ?"
_SELECT_KEY = f"{_SELECT} AND key = ?"
_PURGE = "DELETE FROM records WHERE kind = ? AND tenant = ? AND moment < ?"


def connect(path: str, busy_timeout: float, *, read_only: bool) -> sqlite3.Connection:
    """Open the file; a read-only opening neither makes nor changes it."""
    name = f"file:{path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"
    address = f"{name}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(
        address, timeout=busy_timeout, isolation_level=None, uri=True, check_same_thread=False
    )
    if read_only:
        connection.execute("SELECT count(*) FROM records LIMIT 1")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_CREATE)
    return connection


def write(connection: sqlite3.Connection, batch: WriteBatch) -> WriteReceipt:
    """Apply a batch in one transaction, which begins by taking the write lock."""
    superseded: dict[int, int] = {}
    updated: dict[int, tuple[Row, ...]] = {}
    connection.execute("BEGIN IMMEDIATE")
    try:
        for index, step in enumerate(batch.steps):
            rows = tuple(_rows_of(connection, step))
            stored = tuple([row for row in rows if _wins(connection, row, index, superseded)])
            if isinstance(step, Update):
                updated[index] = stored
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return WriteReceipt(superseded, updated)


def rows_of_keys(
    connection: sqlite3.Connection, kind: KindSpec, tenant: str, keys: Iterable[Key]
) -> list[Row | None]:
    """Return the rows of keys, in their order."""
    return [_current(connection, kind, tenant, key) for key in keys]


def all_rows(connection: sqlite3.Connection, kind: KindSpec, tenant: str) -> list[Row]:
    """Return every row of a kind.

    A store with a query language answers queries itself, with `gateway.query` as the meaning to reproduce,
    and so does not hold all rows in memory as this does.
    """
    return [_row(kind, tenant, found) for found in connection.execute(_SELECT, (kind.name, tenant))]


def purge(connection: sqlite3.Connection, kind: KindSpec, tenant: str, before: datetime) -> int:
    """Remove the rows before a moment."""
    return connection.execute(_PURGE, (kind.name, tenant, to_micros(before))).rowcount


def _rows_of(connection: sqlite3.Connection, step: Step) -> Sequence[Row]:
    if isinstance(step, Update):
        return step.apply([_current(connection, ref.kind, step.tenant, ref.key) for ref in step.reads])
    return step.rows if isinstance(step, Group) else (step,)


def _wins(connection: sqlite3.Connection, row: Row, index: int, superseded: dict[int, int]) -> bool:
    """Store a row if it is newer than what is stored; note the version that it lost against."""
    time_field = row.kind.time_field
    moment = None if time_field is None else row.values[row.kind.index(time_field)]
    place = (row.kind.name, row.tenant, _text(row.key))
    parameters = (*place, moment, row.version, row.digest, row.deleted, _text(row.values))
    if connection.execute(_UPSERT, parameters).rowcount:
        return True
    held = _current(connection, row.kind, row.tenant, row.key)
    if held is not None and held.stamp > row.stamp:
        superseded[index] = max(held.version, superseded.get(index, 0))
    return False


def _current(connection: sqlite3.Connection, kind: KindSpec, tenant: str, key: Key) -> Row | None:
    found = connection.execute(_SELECT_KEY, (kind.name, tenant, _text(key))).fetchone()
    return None if found is None else _row(kind, tenant, found)


def _row(kind: KindSpec, tenant: str, found: tuple[int, int, int, str]) -> Row:
    version, digest, deleted, data = found
    return Row(kind, tenant, version, digest, bool(deleted), tuple(json.loads(data)))


def _text(values: Sequence[object]) -> str:
    """Return canonical values as JSON, which keeps whole numbers, floats, flags, text and None apart."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
