"""Upkeep of a SQLite file, beside bots that are writing to it: nothing here holds them up for long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError
from gateway.records.codec import Value, to_micros
from gateway.records.kind import KindSpec
from gateway.retention import expiring
from gateway.sql.dialect import SQLITE, quoted
from gateway.sql.statements import statements_of
from gateway_sqlite.connection import connect
from gateway_sqlite.errors import translated
from gateway_sqlite.files import log_of
from gateway_sqlite.probe import connect_to_look
from gateway_sqlite.settings import SqliteSettings, store_path
from gateway_sqlite.writer import purge_some

__all__ = ["LONG_LOG", "maintain"]

LONG_LOG: Final = 128 * 1024 * 1024
"""Bytes of a write-ahead log that is cut off. A shorter one is left its length, which bots give it on purpose."""

_PURGE_ROWS: Final = 5_000
_SAMPLE: Final = 1_000
"""Rows of each index that SQLite looks at when it counts anew how its values are spread."""


def maintain(context: OpenContext, dry_run: bool) -> list[str]:
    """Remove what retention has outlived, refresh what the query planner knows, and copy the log into the file.

    Args:
        context: Names the file, its settings and the kinds.
        dry_run: Only say what would be done.

    Returns:
        What was done, a sentence each.

    Raises:
        StoreError: There is no such file, or it cannot be written.
    """
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend is opened with SqliteSettings")
    path = store_path(settings, context.data_dir)
    with translated(context.instance):
        with closing(connect_to_look(path, settings.busy_timeout)) as connection:
            due = list(_expired(connection, context.kinds))
        if dry_run:
            return [
                f"would remove {rows:,} rows of {kind.name} from before {at:%Y-%m-%d}"
                for kind, at, rows in due
            ]
        with closing(connect(path, "rw", settings.busy_timeout)) as connection:
            done = [_purge(connection, kind, at) for kind, at, _ in due]
            return [*done, _refresh(connection), _shorten(connection, path, settings.busy_timeout)]


def _expired(
    connection: sqlite3.Connection, kinds: Sequence[KindSpec]
) -> Iterator[tuple[KindSpec, datetime, int]]:
    """Yield the kinds that have rows past their retention: from before which moment, and how many."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for kind, moment in expiring(kinds, datetime.now(UTC)):
        if kind.name in tables:
            (rows,) = connection.execute(
                f"SELECT COUNT(*) FROM {statements_of(kind, SQLITE).table} "  # noqa: S608 - names of registered kinds
                f"WHERE {quoted(str(kind.time_field))} < ?",
                (to_micros(moment),),
            ).fetchone()
            if rows:
                yield kind, moment, rows


def _purge(connection: sqlite3.Connection, kind: KindSpec, before: datetime) -> str:
    """Remove rows of every tenant, a portion a transaction, so that bots get their turn in between."""
    moment: Value = to_micros(before)
    table = statements_of(kind, SQLITE).table
    tenants = [
        name
        for (name,) in connection.execute(
            f"SELECT DISTINCT tenant_id FROM {table} WHERE {quoted(str(kind.time_field))} < ?",  # noqa: S608 - as above
            (moment,),
        )
    ]
    total = 0
    for tenant in tenants:
        while removed := purge_some(connection, kind, tenant, moment, _PURGE_ROWS):
            total += removed
    return f"removed {total:,} rows of {kind.name} from before {before:%Y-%m-%d}"


def _refresh(connection: sqlite3.Connection) -> str:
    # `PRAGMA optimize` looks at the tables that its own connection has used, and this one has used none.
    connection.execute(f"PRAGMA analysis_limit={_SAMPLE}")
    connection.execute("ANALYZE")
    return "refreshed what the query planner knows of the tables"


def _shorten(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> str:
    """Copy the write-ahead log into the file; cut it off where it has grown far too long."""
    log = log_of(path)
    length = log.stat().st_size if log.exists() else 0
    if length <= LONG_LOG:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return "copied the write-ahead log into the file"
    # Waits for readers that still need the log; writers wait meanwhile, so not for long.
    connection.execute(f"PRAGMA busy_timeout={int(min(busy_timeout, 1.0) * 1000)}")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        return (
            f"the write-ahead log has {length // 2**20:,} MiB and could not be cut off, since somebody reads from it "
            "or writes to it; repeat it, and look for a process that keeps a transaction open"
        )
    return f"copied the write-ahead log into the file and cut off its {length // 2**20:,} MiB"
