"""What each connection is told when it is opened: the writer, the readers, and the one for checkpoints."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailableError
from gateway_sqlite.checkpoints import WRITER_FACTOR
from gateway_sqlite.connection import connect
from gateway_sqlite.files import log_of
from gateway_sqlite.probe import connect_to_look
from gateway_sqlite.settings import SqliteSettings

__all__ = [
    "LONGEST_GROWTH",
    "busy_timeout_of",
    "checkpoint_connector",
    "reader_connector",
    "writer_connector",
]

_READER_CACHE_KIB: Final = 16_384
_RETRY_SECONDS: Final = 0.02
LONGEST_GROWTH: Final = 64 * 1024 * 1024
"""Bytes the log is given at once, at most: more would be felt when opening."""

Connector = Callable[[], sqlite3.Connection]


def busy_timeout_of(settings: SqliteSettings, patience: float | None) -> float:
    """Return for how many seconds the writing connection waits for other processes: no longer than anybody for it."""
    return settings.busy_timeout if patience is None else min(settings.busy_timeout, patience)


def writer_connector(path: Path, settings: SqliteSettings, patience: float | None = None) -> Connector:
    """Return what opens the writing connection; call it on the connection's thread.

    Args:
        path: The file.
        settings: What it is opened with.
        patience: Seconds after which a call is given up.
    """

    def prepare(connection: sqlite3.Connection) -> None:
        _use_log(connection, settings.busy_timeout)
        connection.execute(f"PRAGMA synchronous={settings.synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={settings.wal_autocheckpoint * WRITER_FACTOR}")
        _grow_log(connection, path, settings)
        connection.execute(f"PRAGMA cache_size={-settings.cache_kib}")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA busy_timeout={int(busy_timeout_of(settings, patience) * 1000)}")

    return lambda: _prepared(connect(path, "rw", settings.busy_timeout), prepare)


def reader_connector(path: Path, settings: SqliteSettings, *, read_only: bool) -> Connector:
    """Return what opens a reading connection; call it on the connection's thread."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA cache_size={-_READER_CACHE_KIB}")
        connection.execute("PRAGMA temp_store=MEMORY")

    if read_only:
        return lambda: _prepared(connect_to_look(path, settings.busy_timeout), prepare)
    return lambda: _prepared(connect(path, "rw", settings.busy_timeout), prepare)


def checkpoint_connector(path: Path, settings: SqliteSettings) -> Connector:
    """Return what opens the connection for checkpoints; call it on the connection's thread."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous={settings.synchronous}")

    return lambda: _prepared(connect(path, "rw", settings.busy_timeout), prepare)


def _prepared(
    connection: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch the file to a write-ahead log.

    SQLite does not always wait for others in the moment of the switch, so a second process that opens a new
    file at the same time has to ask again.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if mode != "wal":
            raise StoreUnavailableError(
                f"the file system cannot keep a write-ahead log (SQLite stayed in mode {mode!r}), as network "
                "file systems cannot; put the store on a local disk"
            )
        return


def _grow_log(connection: sqlite3.Connection, path: Path, settings: SqliteSettings) -> None:
    """Give the write-ahead log its length at once, so that commits do not wait for the file to grow.

    A transaction of that size that is rolled back leaves the length and nothing else. It is a convenience:
    when another process is writing, or there is no space, it is left out, and the first write says what is
    wrong.
    """
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    wanted = min(settings.wal_autocheckpoint * page, LONGEST_GROWTH)
    log = log_of(path)
    if log.exists() and log.stat().st_size >= wanted:
        return
    connection.execute("PRAGMA busy_timeout=0")
    # With a small cache SQLite moves the transaction's pages to the log before it ends.
    connection.execute("PRAGMA cache_size=16")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE gateway_filler (filler BLOB)")
        # A little more than wanted, since the last pages stay in the cache.
        connection.execute("INSERT INTO gateway_filler VALUES (zeroblob(?))", (wanted + 32 * page,))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL}:
            raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA busy_timeout={int(settings.busy_timeout * 1000)}")
