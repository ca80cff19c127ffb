"""Opening the file: the checks before anything is touched, then the writer and its readers."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.errors import StoreReadOnlyError, StoreUnavailableError
from gateway_sqlite.connection import connect
from gateway_sqlite.settings import SqliteSettings

__all__ = ["create_file", "reader_connector", "writer_connector"]

_READER_CACHE_KIB: Final = 16_384
_RETRY_SECONDS: Final = 0.02


def create_file(path: Path) -> None:
    """Make an empty file that only its owner can read, and its directory, unless they exist.

    SQLite gives the two files beside it the same permissions.

    Raises:
        StoreReadOnlyError: This process may not write there.
        StoreUnavailableError: The directory cannot be made or reached.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.parent.is_dir():
            return
        raise StoreUnavailableError(f"{path.parent} is a file, not a directory; choose another path") from None
    except PermissionError as error:
        raise StoreReadOnlyError(
            f"no permission to create {path}; check the owner and the permissions of {path.parent}"
        ) from error
    except OSError as error:
        read_only = error.errno == 30  # EROFS
        kind = StoreReadOnlyError if read_only else StoreUnavailableError
        raise kind(f"cannot create {path}: {error.strerror}; choose another path or mend the disk") from error


def writer_connector(path: Path, settings: SqliteSettings) -> Callable[[], sqlite3.Connection]:
    """Return what opens the writing connection, on its thread."""

    def open_writer() -> sqlite3.Connection:
        connection = connect(path, "rw", settings.busy_timeout)
        try:
            _use_log(connection, settings.busy_timeout)
            connection.execute(f"PRAGMA synchronous={settings.synchronous}")
            connection.execute(f"PRAGMA cache_size={-settings.cache_kib}")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(f"PRAGMA wal_autocheckpoint={settings.wal_autocheckpoint}")
            _grow_log(connection, path, settings)
        except BaseException:
            connection.close()
            raise
        return connection

    return open_writer


def reader_connector(path: Path, settings: SqliteSettings, *, read_only: bool) -> Callable[[], sqlite3.Connection]:
    """Return what opens a reading connection, on its thread."""

    def open_reader() -> sqlite3.Connection:
        connection = connect(path, "ro" if read_only else "rw", settings.busy_timeout)
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute(f"PRAGMA cache_size={-_READER_CACHE_KIB}")
            connection.execute("PRAGMA temp_store=MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    return open_reader


def _use_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch the file to a write-ahead log.

    SQLite does not wait for others in the moment of the switch, so a second process that opens a new file at the
    same time has to ask again.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if mode != "wal":
            raise StoreUnavailableError(
                f"the file system cannot keep a write-ahead log (SQLite stayed in mode {mode!r}); network file "
                "systems cannot. Put the store on a local disk"
            )
        return


def _grow_log(connection: sqlite3.Connection, path: Path, settings: SqliteSettings) -> None:
    """Give the write-ahead log its full length at once, so that commits do not wait for the file to grow.

    A transaction of that size that is rolled back leaves the length and nothing else. It is a convenience: with
    another process writing, or no space left, it is left out, and the first write will say what is wrong.
    """
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    wanted = min(settings.wal_autocheckpoint, 16000) * page
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size >= wanted:
        return
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("PRAGMA cache_size=16")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE gateway_filler (filler BLOB)")
        connection.execute("INSERT INTO gateway_filler VALUES (zeroblob(?))", (wanted,))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL}:
            raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA busy_timeout={int(settings.busy_timeout * 1000)}")
        connection.execute(f"PRAGMA cache_size={-settings.cache_kib}")
